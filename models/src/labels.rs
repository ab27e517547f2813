//! Files of class names.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;
use tubelet_engine::{Error, Result};

/// A name, its index, and where in the file they stand.
struct Indexed {
    index: usize,
    name: String,
    place: String,
}

/// Class names in the order of their indices, from a file in one of these forms. `what` names the file in errors.
///
/// - One name per line; empty lines are skipped.
/// - A line for each index, `index name` or `name index`, separated by spaces, a tab or a comma. Lines are read so if all
///   have such an index and at least half of these are numbers of classes; otherwise digits are part of the names.
/// - A JSON list of names.
/// - A JSON map from indices to names, `{"0": "archery"}`, or from names to indices, `{"archery": 0}`.
///
/// The text is UTF-8, or UTF-16 with a byte order mark. A mark is part of no name.
///
/// # Errors
/// [`Error::Format`] where there are no names, the bytes are no text, JSON is damaged or of another form, and where
/// indices do not count each class from 0 once; with the line or the entry.
///
/// # Example
/// ```
/// use tubelet_models::classify::parse_labels;
///
/// assert_eq!(parse_labels("labels.txt", b"bowling 1\narchery 0\n")?, ["archery", "bowling"]);
/// assert_eq!(parse_labels("labels.json", br#"{"bowling": 1, "archery": 0}"#)?, ["archery", "bowling"]);
/// # Ok::<(), tubelet_models::Error>(())
/// ```
pub fn parse(what: &str, bytes: &[u8]) -> Result<Vec<String>> {
    let fail = |message: String| Error::format(what, message);
    let text = decode(bytes).map_err(fail)?;
    let labels = if text.trim_start().starts_with(['[', '{']) { from_json(&text) } else { from_lines(&text) };
    let labels = labels.map_err(fail)?;
    if labels.is_empty() {
        return Err(fail("no labels: expected one class name per line, or JSON".into()));
    }
    Ok(labels)
}

/// The text of a file from which [`parse`] reads these names: a name per line, or a JSON list where a
/// name would be taken for something else there, such as `0 archery` for an index.
///
/// ```
/// use tubelet_models::classify::write_labels;
///
/// assert_eq!(write_labels(&["archery".into(), "bowling".into()]), "archery\nbowling\n");
/// ```
pub fn write(names: &[String]) -> String {
    let lines = names.join("\n") + "\n";
    match parse("labels", lines.as_bytes()) {
        Ok(read) if read == names => lines,
        _ => format!("{}\n", Value::from(names.to_vec())),
    }
}

/// The text without its byte order mark.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    let text = match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Err("labels in UTF-32 are not read; save them as UTF-8".into()),
        [0xff, 0xfe, rest @ ..] => Cow::Owned(from_utf16(rest, u16::from_le_bytes)?),
        [0xfe, 0xff, rest @ ..] => Cow::Owned(from_utf16(rest, u16::from_be_bytes)?),
        [0xef, 0xbb, 0xbf, rest @ ..] => Cow::Borrowed(from_utf8(rest)?),
        _ => Cow::Borrowed(from_utf8(bytes)?),
    };
    if text.contains('\0') {
        return Err("labels with NUL characters: the file is binary, or UTF-16 without a byte order mark".into());
    }
    Ok(text)
}

fn from_utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| format!("labels are not UTF-8 text: {error}"))
}

fn from_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let (units, rest) = bytes.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|pair| unit(*pair)).collect();
    let text = String::from_utf16(&units).ok().filter(|_| rest.is_empty());
    text.ok_or_else(|| "labels are not UTF-16 text, as their byte order mark says".into())
}

fn from_lines(text: &str) -> Result<Vec<String>, String> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    let lines: Vec<(usize, &str)> = lines.filter(|(_, line)| !line.is_empty()).collect();
    let mut unordered = None;
    for split in [index_first, index_last] {
        let Some(indexed) = indexed(&lines, split) else { continue };
        match in_order(indexed) {
            Ok(names) => return Ok(names),
            Err(message) => unordered = unordered.or(Some(message)),
        }
    }
    match unordered {
        Some(message) => Err(message),
        None => Ok(lines.into_iter().map(|(_, line)| line.to_owned()).collect()),
    }
}

/// The lines as indices and names, if all are so and the numbers can be indices: names such as "area 51" have numbers of their own.
fn indexed(lines: &[(usize, &str)], split: fn(&str) -> Option<(usize, &str)>) -> Option<Vec<Indexed>> {
    let one = |&(line, text): &(usize, &str)| {
        let (index, name) = split(text)?;
        Some(Indexed { index, name: name.to_owned(), place: format!("line {line}") })
    };
    let all = lines.iter().map(one).collect::<Option<Vec<Indexed>>>()?;
    let possible = all.iter().filter(|entry| entry.index <= all.len()).count();
    let one_name = all.len() > 1 && all.iter().all(|entry| entry.name == all[0].name);
    (2 * possible >= all.len() && !one_name).then_some(all)
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || c == ','
}

fn index_first(line: &str) -> Option<(usize, &str)> {
    let (index, name) = line.split_once(is_separator)?;
    named(index, name)
}

fn index_last(line: &str) -> Option<(usize, &str)> {
    let (name, index) = line.rsplit_once(is_separator)?;
    named(index, name)
}

fn named<'a>(index: &str, name: &'a str) -> Option<(usize, &'a str)> {
    let is_number = !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
    let name = name.trim_matches(is_separator);
    let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
    // A number that is too large for an index is one all the same, and not that of a class.
    (is_number && !name.is_empty()).then(|| (index.parse().unwrap_or(usize::MAX), name))
}

/// A map that keeps its order, and keys that come twice.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names and indices")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

fn from_json(text: &str) -> Result<Vec<String>, String> {
    let fail = |error: serde_json::Error| format!("labels in JSON: {error}");
    if text.trim_start().starts_with('[') {
        let list: Vec<Value> = serde_json::from_str(text).map_err(fail)?;
        return list.iter().enumerate().map(|(i, item)| json_name(item, &format!("entry {i}"))).collect();
    }
    let Pairs(pairs) = serde_json::from_str(text).map_err(fail)?;
    let to_names = pairs.iter().all(|(_, value)| value.is_string());
    let one = |(key, value): &(String, Value)| {
        let place = format!("entry {key:?}");
        let index = if to_names { key.parse().ok() } else { value.as_u64().and_then(|index| usize::try_from(index).ok()) };
        let index = index.ok_or_else(|| {
            format!("labels in JSON: {place}: expected a map from indices to names or from names to indices, counted from 0")
        })?;
        let name = if to_names { json_name(value, &place)? } else { json_name(&Value::from(key.as_str()), &place)? };
        Ok(Indexed { index, name, place })
    };
    in_order(pairs.iter().map(one).collect::<Result<_, String>>()?)
}

fn json_name(value: &Value, place: &str) -> Result<String, String> {
    let name = value.as_str().map(str::trim).filter(|name| !name.is_empty());
    name.map(str::to_owned).ok_or_else(|| format!("labels in JSON: {place} is no name"))
}

/// The names by their indices, each from 0 on once.
fn in_order(entries: Vec<Indexed>) -> Result<Vec<String>, String> {
    let count = entries.len();
    let mut names: BTreeMap<usize, Indexed> = BTreeMap::new();
    for entry in entries {
        if let Some(earlier) = names.get(&entry.index) {
            let (place, index, name) = (&entry.place, entry.index, &earlier.name);
            return Err(format!("{place}: the index {index} is that of {name:?} ({}) already", earlier.place));
        }
        names.insert(entry.index, entry);
    }
    if let Some(missing) = (0..count).find(|index| !names.contains_key(index)) {
        let beyond = names.range(count..).next().map(|(index, entry)| format!("; {}: index {index}", entry.place));
        return Err(format!(
            "no name has the index {missing}: {count} names have the indices from 0 on{}",
            beyond.unwrap_or_default()
        ));
    }
    Ok(names.into_values().map(|entry| entry.name).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NAMES: [&str; 3] = ["archery", "ice skating", "polka"];

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn every_form_gives_the_names_in_the_order_of_their_indices() {
        let forms = [
            "archery\nice skating\npolka\n",
            "\u{feff}archery\r\n\r\n  ice skating\r\npolka",
            "polka 2\narchery 0\nice skating 1\n",
            "2 polka\n0 archery\n1 ice skating\n",
            "2\tpolka\n0\tarchery\n1\tice skating\n",
            "2,polka\n0, archery\n1,\"ice skating\"\n",
            "[\"archery\",\n \"ice skating\", \"polka\"]",
            "\u{feff}{\"2\": \"polka\",\n\"0\": \"archery\", \"1\": \"ice skating\"}",
            "{\"ice skating\": 1, \"polka\": 2, \"archery\": 0}\n",
        ];
        for form in forms {
            assert_eq!(parse("f", form.as_bytes()).unwrap(), NAMES, "{form:?}");
        }
        assert_eq!(parse("f", &utf16("\u{feff}archery\nice skating\npolka", u16::to_le_bytes)).unwrap(), NAMES);
        assert_eq!(parse("f", &utf16("\u{feff}archery\nice skating\npolka", u16::to_be_bytes)).unwrap(), NAMES);
    }

    #[test]
    fn names_keep_digits_that_are_no_indices() {
        let files: [&[&str]; 6] = [
            &["area 51", "catch 22"],
            &["level 1", "level 2", "level 3"],
            &["archery 0", "bowling"],
            &["0", "1"],
            &["100 metres", "200 metres"],
            &["f1", "f 2 racing"],
        ];
        for names in files {
            assert_eq!(parse("f", names.join("\n").as_bytes()).unwrap(), names);
        }
    }

    #[test]
    fn what_is_no_list_of_names_is_refused_with_its_place() {
        let files: [(&[u8], &[&str]); 15] = [
            (b"", &["no labels"]),
            (b"\n \n", &["no labels"]),
            (b"[]", &["no labels"]),
            (b"\xff\xfe\x00\x00a\x00\x00\x00", &["UTF-32"]),
            (b"a\x00b\x00", &["NUL"]),
            (b"\xfe\xff\xd8\x00", &["UTF-16"]),
            (b"caf\xe9\n", &["UTF-8"]),
            (b"archery 0\nbowling 1\ndiving 1\n", &["line 3", "index 1", "\"bowling\"", "line 2"]),
            (b"archery 0\nbowling 1\ndiving 5\n", &["index 2", "line 3", "index 5"]),
            (b"1 archery\n2 bowling\n", &["index 0", "line 2", "index 2"]),
            (b"[\"archery\",", &["JSON", "line 1"]),
            (b"[\"archery\", 3]", &["JSON", "entry 1"]),
            (b"{\"archery\": 0, \"bowling\": \"1\"}", &["JSON", "\"bowling\""]),
            (b"{\"0\": \"archery\", \"0\": \"bowling\"}", &["\"0\"", "archery", "already"]),
            (b"{\"archery\": 0, \"bowling\": 2}", &["index 1", "\"bowling\""]),
        ];
        for (file, parts) in files {
            let message = parse("labels.txt", file).unwrap_err().to_string();
            for part in ["labels.txt"].iter().chain(parts) {
                assert!(message.contains(part), "`{part}` is not in: {message}");
            }
        }
    }

    #[test]
    fn names_that_look_like_something_else_are_written_as_json() {
        for (names, text) in [
            (&["archery", "ice skating"][..], "archery\nice skating\n"),
            (&["0 archery", "1 bowling"], "[\"0 archery\",\"1 bowling\"]\n"),
            (&["[", "b"], "[\"[\",\"b\"]\n"),
        ] {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(write(&names), text);
            assert_eq!(parse("labels", text.as_bytes()).unwrap(), names);
        }
    }
}
