//! Where a line of a string stands in the file that holds the string.
//!
//! Guarantees: exact for literal and for basic strings of several lines, with their escapes; a
//! string on one line has all its lines there. Not for other values.

/// How many lines of the file lie between `key` and line `row` (from 0) of its value.
pub(super) fn lines_down(text: &str, key: &str, row: usize) -> usize {
    let Ok(document) = toml_edit::ImDocument::parse(text) else { return 0 };
    let mut item = document.as_item();
    for name in key.split('.') {
        let Some(inner) = item.get(name) else { return 0 };
        item = inner;
    }
    let written = item.as_str().and(item.span()).and_then(|span| text.get(span));
    written.map_or(0, |written| breaks_before(written, row))
}

/// How many line breaks the string as `written` has before line `row` of what it means.
fn breaks_before(written: &str, row: usize) -> usize {
    let basic = written.starts_with('"');
    let body = written.strip_prefix("\"\"\"").or_else(|| written.strip_prefix("'''"));
    let Some(mut rest) = body else { return 0 };
    let (mut breaks, mut rows) = (0, 0);
    // The break right after the opening quotes is no part of the value.
    if let Some(after) = rest.strip_prefix('\n').or_else(|| rest.strip_prefix("\r\n")) {
        (rest, breaks) = (after, 1);
    }
    while rows < row {
        let Some(at) = rest.find(['\n', '\\']) else { break };
        let (found, after) = rest[at..].split_at(1);
        rest = after;
        if found == "\n" {
            (breaks, rows) = (breaks + 1, rows + 1);
        } else if basic {
            rest = escaped(after, &mut breaks, &mut rows);
        }
    }
    breaks
}

/// What follows a backslash and what it escapes.
fn escaped<'t>(after: &'t str, breaks: &mut usize, rows: &mut usize) -> &'t str {
    let mut chars = after.chars();
    match chars.next() {
        // A backslash at a line's end swallows all white space up to the next word.
        Some(c) if c.is_whitespace() => {
            let kept = after.trim_start();
            *breaks += after[..after.len() - kept.len()].matches('\n').count();
            return kept;
        }
        Some('n') => *rows += 1,
        _ => {}
    }
    chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_literal_strings_are_lines_of_the_file() {
        let text = "[a]\nx = '''\none\n\\two\n'''\ny = '''one\ntwo'''\nz = 1\n";
        assert_eq!((lines_down(text, "a.x", 0), lines_down(text, "a.x", 1)), (1, 2));
        assert_eq!((lines_down(text, "a.y", 1), lines_down(text, "a.z", 1)), (1, 0));
        assert_eq!(lines_down(text, "a.none", 1), 0);
    }

    #[test]
    fn escapes_of_basic_strings_are_minded() {
        // one still | (empty) | two | three
        let text = "x = \"\"\"\none \\\n   still\n\\ntwo\nthree\"\"\"\nshort = \"a\\nb\"\n";
        let down: Vec<usize> = (1..=3).map(|row| lines_down(text, "x", row)).collect();
        assert_eq!(down, [3, 3, 4]);
        assert_eq!(lines_down(text, "short", 1), 0);
    }
}
