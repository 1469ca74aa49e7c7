//! One event on one line, for every framing that ends an event with a line feed.
//!
//! Guarantees: the result ends with one line feed and has no other line break; of a JSON text only
//! the whitespace outside strings is missing, so numbers, escapes, key order and even invalid
//! UTF-8 inside strings stay byte for byte; a text that is not JSON (a route may have shaped the
//! event into CEF or CSV) keeps everything but its line breaks. It never parses into a tree: numbers that no
//! `f64` can hold and repeated keys survive.

use bytes::Bytes;
use serde::de::IgnoredAny;

/// `body` as one line, with its line feed.
pub fn line(body: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(body.len() + 1);
    if is_json(body) {
        compact(body, &mut line);
    } else {
        unbroken(body, &mut line);
    }
    line.push(b'\n');
    line.into()
}

/// Whether `body` is one JSON text. Neither depth nor UTF-8 inside strings is judged.
pub fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

/// Copy a JSON text without the whitespace outside its strings.
fn compact(json: &[u8], out: &mut Vec<u8>) {
    let (mut quoted, mut escaped) = (false, false);
    for &byte in json {
        if quoted {
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        } else {
            quoted = byte == b'"';
        }
        out.push(byte);
    }
}

/// Copy any other text with each run of line breaks as one space, none at the end.
fn unbroken(text: &[u8], out: &mut Vec<u8>) {
    let pieces = text.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|piece| !piece.is_empty());
    for (index, piece) in pieces.enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn only_whitespace_outside_strings_goes() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"{ \"a\" : [ 1 , 2 ] }\r\n", b"{\"a\":[1,2]}\n"),
            (b"{\"a\": \"x  \\\" y \\\\\" , \"b\":1}", b"{\"a\":\"x  \\\" y \\\\\",\"b\":1}\n"),
            (
                b"{\"n\": 1.000e+400, \"n\": 12345678901234567890}",
                b"{\"n\":1.000e+400,\"n\":12345678901234567890}\n",
            ),
            (b"[\"\\u00e4\\/\", \"\xff\xfe \"]", b"[\"\\u00e4\\/\",\"\xff\xfe \"]\n"),
            (b" \"\" ", b"\"\"\n"),
            (b"CEF:0|a b|c\r\nd  e\n", b"CEF:0|a b|c d  e\n"),
            (b"[2026] not json", b"[2026] not json\n"),
            (b"", b"\n"),
        ];
        for (body, expected) in cases {
            assert_eq!(line(body), expected, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn depth_is_no_limit() {
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        assert_eq!(line(&deep).len(), deep.len() + 1);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_layout_of_a_value_gives_the_compact_one(value in json()) {
            let compact = serde_json::to_string(&value).unwrap();
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(line(pretty.as_bytes()), format!("{compact}\n"));
            prop_assert_eq!(line(compact.as_bytes()), format!("{compact}\n"));
        }

        #[test]
        fn whatever_comes_it_is_one_line(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let line = line(&body);
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            prop_assert!(line.ends_with(b"\n") && line.len() <= body.len() + 1);
        }
    }
}
