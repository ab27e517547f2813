//! Lists of clips: a line for each, `path label`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
#[cfg(unix)]
use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use tubelet_engine::{Error, Result};

use super::{Entry, Finding, Listing, first_few};

/// The clips of a list file, whose paths are relative to its folder.
pub(super) fn read(path: &Path) -> Result<Listing> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let beside = path.parent().unwrap_or(Path::new(""));
    let what = path.display().to_string();
    let mut entries = parse_list(&what, &bytes, &|file| beside.join(file).exists())?;
    let findings = repeated(&what, &entries).into_iter().collect();
    entries.iter_mut().for_each(|entry| entry.path = beside.join(&entry.path));
    Ok(Listing { entries, names: None, findings })
}

/// The lines `path label` of a list.
///
/// The label comes last, after a space, a comma or a tab; several labels are separated by
/// semicolons: `3;17`. Everything before that is the path, in which spaces, commas and tabs may
/// occur. A line with quotes around the path or the label is read as CSV. A line that begins with
/// `# ` is a comment unless it names a file that exists; empty lines are passed over. The text is
/// UTF-8 with or without a byte order mark; on Unix, paths may have other bytes.
///
/// `what` names the file in errors, and `exists` says whether a path of the list is there.
///
/// # Errors
/// [`Error::Format`] with the number of the first line that is something else, and for text in
/// UTF-16 or UTF-32.
///
/// # Examples
/// ```
/// use tubelet_models::train::data::parse_list;
///
/// let entries = parse_list("list", b"# a comment\na clip.mp4 3\n\"b, c.mp4\",1;4\n", &|_| false)?;
/// assert_eq!((entries[0].path.to_str(), &entries[0].labels), (Some("a clip.mp4"), &vec![3]));
/// assert_eq!((entries[1].path.to_str(), &entries[1].labels), (Some("b, c.mp4"), &vec![1, 4]));
/// # Ok::<(), tubelet_models::Error>(())
/// ```
pub fn parse_list(what: &str, bytes: &[u8], exists: &dyn Fn(&Path) -> bool) -> Result<Vec<Entry>> {
    let text = text(what, bytes)?;
    let mut entries = Vec::new();
    for (i, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let is_comment = line == b"#" || line.starts_with(b"# ");
        match entry(line, i + 1, exists) {
            Ok(entry) if !is_comment || exists(&entry.path) => entries.push(entry),
            Err(problem) if !is_comment => return Err(Error::format(format!("{what}, line {}", i + 1), problem)),
            _ => {}
        }
    }
    Ok(entries)
}

/// The text without a byte order mark.
fn text<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let marks: [(&[u8], &str); 4] =
        [(&[0xff, 0xfe, 0, 0], "UTF-32"), (&[0, 0, 0xfe, 0xff], "UTF-32"), (&[0xff, 0xfe], "UTF-16"), (&[0xfe, 0xff], "UTF-16")];
    let marked = marks.iter().find(|(mark, _)| bytes.starts_with(mark)).map(|(_, name)| *name);
    match marked.or(bytes.contains(&0).then_some("binary or UTF-16")) {
        Some(encoding) => Err(Error::format(what, format!("the list is {encoding} data; it must be UTF-8 text"))),
        None => Ok(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)),
    }
}

/// The clip of a line, or what is wrong with the line.
fn entry(line: &[u8], number: usize, exists: &dyn Fn(&Path) -> bool) -> Result<Entry, String> {
    let plain = split(line).map(|(file, labels)| Ok::<_, String>(Entry { path: path(file)?, labels, line: Some(number) }));
    let is_quoted = line.starts_with(b"\"") || line.ends_with(b"\"");
    // A name that begins with a quote is taken as it is where there is such a file.
    match plain {
        Some(Ok(entry)) if !is_quoted || exists(&entry.path) => return Ok(entry),
        Some(Err(problem)) => return Err(problem),
        _ => {}
    }
    if is_quoted {
        let (file, labels) = quoted(line)?;
        return Ok(Entry { path: path(&file)?, labels, line: Some(number) });
    }
    Err(misfit(line, number))
}

fn misfit(line: &[u8], number: usize) -> String {
    let shown = String::from_utf8_lossy(line);
    let has_digits = line.rsplit(|byte| SEPARATORS.contains(byte)).next().is_some_and(|last| last.iter().any(u8::is_ascii_digit));
    let hint = match (number, has_digits) {
        (1, false) => "; a header has to be removed, or to begin with `# `",
        _ if line.starts_with(b"#") => "; a comment begins with `# `",
        _ => "",
    };
    format!("expected `path label`, got {shown:?}{hint}")
}

/// What separates the label from the path.
const SEPARATORS: &[u8] = b" ,\t";

/// A line without quotes as path and labels.
fn split(line: &[u8]) -> Option<(&[u8], Vec<usize>)> {
    let at = line.iter().rposition(|byte| SEPARATORS.contains(byte))?;
    let labels = labels(&line[at + 1..])?;
    let end = line[..at].iter().rposition(|byte| !SEPARATORS.contains(byte))?;
    Some((&line[..=end], labels))
}

fn labels(text: &[u8]) -> Option<Vec<usize>> {
    std::str::from_utf8(text).ok()?.split(';').map(|label| label.trim().parse().ok()).collect()
}

/// A line with quotes, as CSV has them, as path and labels.
fn quoted(line: &[u8]) -> Result<(Vec<u8>, Vec<usize>), String> {
    let problem = |reason: &str| format!("{reason}: {:?}", String::from_utf8_lossy(line));
    if line.iter().filter(|&&byte| byte == b'"').count() % 2 == 1 {
        return Err(problem("a quote has no end on its line"));
    }
    for &separator in b",\t " {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(line);
        let mut record = csv::ByteRecord::new();
        let found = reader.read_byte_record(&mut record).map_err(|error| problem(&error.to_string()))?;
        let mut fields: Vec<&[u8]> = record.iter().filter(|field| !field.is_empty()).collect();
        let Some(labels) = fields.pop().filter(|_| found).and_then(|last| labels(last.trim_ascii())) else { continue };
        match fields.as_slice() {
            [] => {}
            [file] => return Ok((file.to_vec(), labels)),
            _ => return Err(problem("expected a path and a label, got more than two columns")),
        }
    }
    Err(problem("expected `\"path\",label`, got"))
}

#[cfg(unix)]
fn path(bytes: &[u8]) -> Result<PathBuf, String> {
    Ok(PathBuf::from(OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
fn path(bytes: &[u8]) -> Result<PathBuf, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| format!("the path {:?} is not UTF-8", String::from_utf8_lossy(bytes)))?;
    Ok(PathBuf::from(text))
}

/// Tells of files that a list has more than once.
fn repeated(what: &str, entries: &[Entry]) -> Option<Finding> {
    let mut first: BTreeMap<&Path, &Entry> = BTreeMap::new();
    let mut found = Vec::new();
    for entry in entries {
        if let Some(other) = first.get(entry.path.as_path()) {
            let lines = format!("{} and {}", other.line.unwrap_or(0), entry.line.unwrap_or(0));
            let differ = if other.labels == entry.labels { "" } else { ", with other labels" };
            found.push(format!("{} (lines {lines}{differ})", entry.path.display()));
        } else {
            first.insert(&entry.path, entry);
        }
    }
    let text = format!("{what}: files that are listed more than once: {}", first_few(&found));
    (!found.is_empty()).then_some(Finding::Note(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(text: &[u8], there: &[&str]) -> Result<Vec<(String, Vec<usize>)>> {
        let entries = parse_list("list", text, &|path| there.iter().any(|name| Path::new(name) == path))?;
        Ok(entries.into_iter().map(|entry| (entry.path.to_string_lossy().into_owned(), entry.labels)).collect())
    }

    fn refused(text: &[u8]) -> String {
        parsed(text, &[]).unwrap_err().to_string()
    }

    #[test]
    fn the_label_is_last_and_the_rest_is_the_path() {
        let text = b"a b.mp4 3\n\nc.mp4,1;4\r\n d\t0\ne,f\tg.mp4 , 2\n#1 h.mp4 5";
        let expected =
            [("a b.mp4", vec![3]), ("c.mp4", vec![1, 4]), ("d", vec![0]), ("e,f\tg.mp4", vec![2]), ("#1 h.mp4", vec![5])];
        assert_eq!(parsed(text, &[]).unwrap(), expected.map(|(path, labels)| (path.to_owned(), labels)));
        for (line, text) in
            [(1, "no-label"), (2, "a 1\nb x"), (1, " 3"), (1, "a -1"), (3, "a 1\n\nb 1;"), (1, "#x"), (2, "a 1\n\"b 2")]
        {
            let error = refused(text.as_bytes());
            assert!(error.contains(&format!("line {line}")), "{error}");
        }
        assert!(refused(b"path,label\na.mp4,1").contains("header"));
    }

    #[test]
    fn quotes_are_those_of_csv() {
        let text = b"\"a.mp4\",0\n\"b, \"\"c\"\".mp4\",1;2\n\"d e.mp4\" 3\n\"f.mp4\"\t\"4\"\ng.mp4,\"5\"\n\"h\" i.mp4 6";
        let expected =
            [("a.mp4", vec![0]), ("b, \"c\".mp4", vec![1, 2]), ("d e.mp4", vec![3]), ("f.mp4", vec![4]), ("g.mp4", vec![5])];
        let mut expected = expected.map(|(path, labels)| (path.to_owned(), labels)).to_vec();
        expected.push(("\"h\" i.mp4".to_owned(), vec![6]));
        assert_eq!(parsed(text, &["\"h\" i.mp4"]).unwrap(), expected);
        assert!(refused(b"\"a.mp4\",b.mp4,3").contains("two columns"));
    }

    #[test]
    fn a_comment_names_no_file() {
        let text = b"# a comment 1\n# b.mp4 1\n#\n# c.mp4 2\n#d.mp4 3\n";
        let names = |there: &[&str]| parsed(text, there).unwrap().into_iter().map(|(path, _)| path).collect::<Vec<_>>();
        assert_eq!(names(&[]), ["#d.mp4"]);
        assert_eq!(names(&["# c.mp4"]), ["# c.mp4", "#d.mp4"]);
    }

    #[test]
    fn text_is_utf_8_and_paths_may_be_other_bytes() {
        assert_eq!(parsed(b"\xef\xbb\xbfa.mp4 1", &[]).unwrap(), [("a.mp4".to_owned(), vec![1])]);
        assert!(refused(b"\xff\xfea\0 \x001\0").contains("UTF-16"));
        assert!(refused(b"\xff\xfe\0\0a\0\0\0").contains("UTF-32"));
        assert!(refused(b"a\0 \x001\0").contains("UTF-16"));
        #[cfg(unix)]
        assert_eq!(
            parse_list("list", b"caf\xe9.mp4 1", &|_| false).unwrap()[0].path.as_os_str().as_bytes(),
            b"caf\xe9.mp4",
            "the bytes of a path are kept"
        );
    }

    #[test]
    fn repeated_files_are_told() {
        let entries = parse_list("list", b"a 0\nb 1\na 0\nb 2", &|_| false).unwrap();
        let Some(Finding::Note(text)) = repeated("list", &entries) else { panic!("nothing is told") };
        assert_eq!(text, "list: files that are listed more than once: a (lines 1 and 3), b (lines 2 and 4, with other labels)");
        assert_eq!(repeated("list", &entries[..2]), None);
    }
}
