//! From a body to events: one JSON object, an array of objects, or NDJSON.
//!
//! Guarantees: what is stored of an event are the sender's own bytes; a request is taken whole or
//! not at all; a malformed body is refused with line and column. Pure. It does not look into the
//! objects, and it does not insist on UTF-8 inside strings: a file name in another encoding is no
//! reason to lose an alert.

use std::ops::Range;

use bytes::Bytes;
use serde::de::IgnoredAny;

/// Why a body is not a set of events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Nothing but white space.
    #[error("the body is empty; post a JSON object, an array of objects or NDJSON")]
    Empty,
    /// Not JSON.
    #[error("the body is not valid JSON: {what} at line {line}, column {column}")]
    Syntax {
        /// What the parser expected.
        what: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// JSON, but not an object.
    #[error("event {index} is a {found}, not a JSON object")]
    NotObject {
        /// From 1.
        index: usize,
        /// What it is instead.
        found: &'static str,
    },
    /// An array without elements.
    #[error("the array is empty; there is no event in it")]
    NoEvents,
    /// More events than one request may carry.
    #[error(
        "more than {limit} events in one request; send fewer at once or raise server.events_limit"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

/// The events of `body`, at most `limit`. A single object keeps the whole body, white space and all.
pub fn split(body: &Bytes, limit: usize) -> Result<Vec<Bytes>, Malformed> {
    let values = values(body)?;
    let pieces = match values.as_slice() {
        [] => return Err(Malformed::Empty),
        [one] if body[one.start] == b'{' => return Ok(vec![body.clone()]),
        [one] if body[one.start] == b'[' => elements(body, one.clone()),
        _ => values,
    };
    if pieces.is_empty() {
        return Err(Malformed::NoEvents);
    }
    if pieces.len() > limit {
        return Err(Malformed::TooMany { limit });
    }
    for (index, piece) in pieces.iter().enumerate() {
        if body[piece.start] != b'{' {
            return Err(Malformed::NotObject { index: index + 1, found: name(body[piece.start]) });
        }
    }
    Ok(pieces.into_iter().map(|piece| body.slice(piece)).collect())
}

fn name(first: u8) -> &'static str {
    match first {
        b'[' => "list",
        b'"' => "string",
        b't' | b'f' => "boolean",
        b'n' => "null",
        _ => "number",
    }
}

/// Where the top-level values of the body stand, without the white space between them.
fn values(body: &[u8]) -> Result<Vec<Range<usize>>, Malformed> {
    let mut stream = serde_json::Deserializer::from_slice(body).into_iter::<IgnoredAny>();
    let (mut found, mut end) = (Vec::new(), 0);
    while let Some(value) = stream.next() {
        value.map_err(|error| syntax(&error))?;
        let start = end + white(&body[end..]);
        end = stream.byte_offset();
        found.push(start..end);
    }
    Ok(found)
}

fn white(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

fn syntax(error: &serde_json::Error) -> Malformed {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
    Malformed::Syntax { what, line: error.line(), column: error.column() }
}

/// Where the elements of the (valid) array at `array` stand.
fn elements(body: &[u8], array: Range<usize>) -> Vec<Range<usize>> {
    let (mut found, mut depth, mut quoted, mut escaped) = (Vec::new(), 0u32, false, false);
    let inner = array.start + 1..array.end - 1;
    let mut start = inner.start;
    let mut close = |start: usize, end: usize| {
        let from = start + white(&body[start..end]);
        let trailing = body[from..end].iter().rev().take_while(|b| b.is_ascii_whitespace()).count();
        if from < end - trailing {
            found.push(from..end - trailing);
        }
    };
    for at in inner.clone() {
        match body[at] {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => {
                close(start, at);
                start = at + 1;
            }
            _ => {}
        }
    }
    close(start, inner.end);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn texts(body: &str) -> Result<Vec<String>, Malformed> {
        let pieces = split(&Bytes::from(body.to_owned()), 10)?;
        Ok(pieces.iter().map(|piece| String::from_utf8_lossy(piece).into_owned()).collect())
    }

    #[test]
    fn one_object_keeps_every_byte() {
        assert_eq!(texts(" {\"a\" : 1}\r\n").unwrap(), [" {\"a\" : 1}\r\n"]);
        let latin1 = Bytes::from_static(b"{\"f\":\"caf\xe9\"}");
        assert_eq!(split(&latin1, 1).unwrap(), std::slice::from_ref(&latin1));
    }

    #[test]
    fn arrays_and_lines_are_several() {
        let expected = ["{\"a\":\"],[\\\"\"}", "{ }"];
        assert_eq!(texts("[ {\"a\":\"],[\\\"\"} ,\n{ } ]").unwrap(), expected);
        assert_eq!(texts("{\"a\":\"],[\\\"\"}\n{ }\n").unwrap(), expected);
    }

    #[test]
    fn what_is_not_an_event_is_named() {
        assert_eq!(texts(" \n"), Err(Malformed::Empty));
        assert_eq!(texts("[]"), Err(Malformed::NoEvents));
        assert_eq!(texts("3"), Err(Malformed::NotObject { index: 1, found: "number" }));
        assert_eq!(texts("[{},\"x\"]"), Err(Malformed::NotObject { index: 2, found: "string" }));
        assert_eq!(texts(&"{}\n".repeat(11)), Err(Malformed::TooMany { limit: 10 }));
        let Err(Malformed::Syntax { line, column, .. }) = texts("{\n \"a\": tru }") else {
            panic!()
        };
        assert_eq!((line, column), (2, 10));
    }

    #[test]
    fn depth_costs_neither_stack_nor_patience() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(texts(&deep), Err(Malformed::NotObject { .. })));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC*".prop_map(Value::from),
            "[\\[\\]{}\",\\\\ ]*".prop_map(Value::from),
        ];
        let nested = leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("\\PC{0,4}", inner, 0..4).prop_map(|map| json!(map)),
            ]
        });
        prop::collection::hash_map("[a-z]{1,3}", nested, 0..4).prop_map(|map| json!(map))
    }

    proptest! {
        #[test]
        fn splitting_finds_exactly_the_elements(events in prop::collection::vec(value(), 1..8), pretty: bool) {
            let array = json!(events);
            let array = if pretty { serde_json::to_string_pretty(&array) } else { serde_json::to_string(&array) };
            let pieces = texts(&array.unwrap()).unwrap();
            let read: Vec<Value> = pieces.iter().map(|piece| serde_json::from_str(piece).unwrap()).collect();
            prop_assert_eq!(&read, &events);
            let lines: Vec<String> = events.iter().map(Value::to_string).collect();
            prop_assert_eq!(texts(&lines.join("\n")).unwrap(), lines);
        }

        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = split(&Bytes::from(body), 5);
        }
    }
}
