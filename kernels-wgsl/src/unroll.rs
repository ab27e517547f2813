//! Loops of a shader that are written out before it is compiled.
//!
//! Registers have no addresses: an array that a loop indexes lies in memory wherever the driver does not unroll the loop, and Mesa's software
//! device does not (its products are three times as fast written out). In a `.wgsl` file
//!
//! ```wgsl
//! #for i ROWS
//! var sum{i} = 0.0;
//! #end
//! ```
//!
//! stands for as many copies as the constant `ROWS`, or a number in its place, says, with 0, 1, … for `{i}`. Loops nest.

/// `source` without its `#for`; `constant` gives the constants of a shader by name.
pub(crate) fn unrolled(source: &str, constant: &dyn Fn(&str) -> Option<u32>) -> String {
    let mut text = String::with_capacity(2 * source.len());
    let lines: Vec<&str> = source.lines().collect();
    copy(&lines, constant, &mut text);
    text
}

fn copy(mut lines: &[&str], constant: &dyn Fn(&str) -> Option<u32>, text: &mut String) {
    while let [line, rest @ ..] = lines {
        lines = rest;
        let Some(head) = line.trim_start().strip_prefix("#for ") else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        let (variable, count) = head.trim_end().split_once(' ').unwrap_or((head, ""));
        let end = end(rest);
        let mut body = String::new();
        copy(&rest[..end], constant, &mut body);
        let name = format!("{{{variable}}}");
        // A loop whose count is unknown stays, for the compiler to name its line.
        let Some(count) = count.parse().ok().or_else(|| constant(count)) else {
            text.push_str(line);
            continue;
        };
        (0..count).for_each(|i| text.push_str(&body.replace(&name, &i.to_string())));
        lines = rest.get(end + 1..).unwrap_or_default();
    }
}

/// Where the `#end` of a loop is whose body `lines` start with.
fn end(lines: &[&str]) -> usize {
    let mut open = 1;
    for (i, line) in lines.iter().map(|line| line.trim()).enumerate() {
        open += usize::from(line.starts_with("#for "));
        open -= usize::from(line == "#end");
        if open == 0 {
            return i;
        }
    }
    lines.len()
}

#[cfg(test)]
mod tests {
    use super::unrolled;

    fn check(source: &str, expected: &str) {
        let text = unrolled(source, &|name| (name == "ROWS").then_some(2));
        assert_eq!(text.split_whitespace().collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn loops_are_written_out() {
        check("a\n#for i ROWS\nvar s{i};\n#end\nb", "a var s0; var s1; b");
        check("#for i ROWS\n#for j 3\ns{i}_{j}\n#end\nt{i}\n#end", "s0_0 s0_1 s0_2 t0 s1_0 s1_1 s1_2 t1");
        check("#for i 0\nx\n#end\n{ i }", "{ i }");
    }

    #[test]
    fn what_is_not_a_loop_stays() {
        check("#for i WHAT\nx\n#end", "#for i WHATx #end");
    }
}
