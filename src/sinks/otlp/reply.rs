//! What a receiver's reply says, in either encoding: `ExportLogsServiceResponse`.
//!
//! Guarantees: pure and total; a reply that is none of OTLP's is told apart from one without rejects.

use serde_json::Value;

use super::wire::{self, Value as Field};

/// Of the records that were sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Partial {
    /// How many were rejected.
    pub rejected: u64,
    /// Why, or a warning where none were.
    pub message: String,
}

/// What a reply with a success status says; `None` where it is no reply of OTLP. A receiver should answer
/// as it was asked, but some answer JSON to everything.
pub fn partial(body: &[u8]) -> Option<Partial> {
    if body.trim_ascii().is_empty() {
        return Some(Partial::default());
    }
    match body.trim_ascii_start().first() {
        Some(b'{') => json(body),
        _ => protobuf(body),
    }
}

fn json(body: &[u8]) -> Option<Partial> {
    // Lossy, because a proxy's page may be in any encoding and JSON's syntax is ASCII.
    let body: Value = serde_json::from_str(&String::from_utf8_lossy(body)).ok()?;
    let partial = &body["partialSuccess"];
    // 64-bit numbers are texts in OTLP's JSON, and not everybody's.
    let count = |value: &Value| match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    };
    let rejected = count(&partial["rejectedLogRecords"]).unwrap_or_default();
    let message = partial["errorMessage"].as_str().unwrap_or_default().to_owned();
    Some(Partial { rejected, message })
}

fn protobuf(body: &[u8]) -> Option<Partial> {
    let mut partial = Partial::default();
    for (field, value) in wire::read(body)? {
        let (1, Field::Bytes(inner)) = (field, value) else { continue };
        for (field, value) in wire::read(inner)? {
            match (field, value) {
                // Below 0 is nobody's count.
                (1, Field::Number(count)) => {
                    partial.rejected = u64::try_from(count as i64).unwrap_or(0)
                }
                (2, Field::Bytes(text)) => partial.message = String::from_utf8_lossy(text).into(),
                _ => {}
            }
        }
    }
    Some(partial)
}

#[cfg(test)]
mod tests {
    use super::super::wire::Writer;
    use super::*;

    #[test]
    fn both_encodings_say_how_many() {
        let said = |rejected, message: &str| Some(Partial { rejected, message: message.into() });
        let inner = Writer::default().number(1, 3).text(2, "too old");
        let bytes = Writer::default().message(1, inner).done();
        assert_eq!(partial(&bytes), said(3, "too old"));
        let warned = Writer::default().message(1, Writer::default().text(2, "hm")).done();
        assert_eq!(partial(&warned), said(0, "hm"));
        for (json, expected) in [
            (r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"x"}}"#, said(3, "x")),
            (r#"{"partialSuccess":{"rejectedLogRecords":3}}"#, said(3, "")),
            (r#"{"partialSuccess":null}"#, said(0, "")),
            ("{}", said(0, "")),
            ("", said(0, "")),
            ("OK", None),
            ("{oops", None),
            ("<html>", None),
        ] {
            assert_eq!(partial(json.as_bytes()), expected, "{json}");
        }
    }
}
