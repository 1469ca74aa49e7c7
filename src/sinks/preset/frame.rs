//! Several encoded events as one body.
//!
//! Guarantees: framing adds a fixed beginning and end and at most one byte an event, which is what
//! the limits reckon with; the pieces' own bytes are never changed.

use bytes::{Bytes, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::core::sink::Piece;

/// How events stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// One event a request.
    Single,
    /// A JSON array.
    Array,
    /// A line each.
    Ndjson,
    /// One after the other.
    Concatenated,
    /// In a structure around them (`wrap`), at `{{@events}}`.
    Wrapped,
    /// For every event a line that says what to do with it (`action`), and its own.
    Bulk,
    /// One event a request, as a form: `name=value&…`. The event is a table of plain values.
    #[serde(rename = "form")]
    Pairs,
    /// A line of text each: the event is not JSON for the destination.
    Lines,
}

impl Form {
    /// Whether a piece ends with its own line feed.
    pub fn ends_lines(self) -> bool {
        matches!(self, Self::Ndjson | Self::Bulk | Self::Lines)
    }
}

/// What a form keeps as it is.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');

/// A table as JSON, as a form. Values that are no texts are written as JSON.
pub(super) fn form(json: &[u8]) -> Vec<u8> {
    let table: Map<String, Value> = serde_json::from_slice(json).unwrap_or_default();
    let encoded = |text: &str| utf8_percent_encode(text, KEPT).to_string();
    let pairs = table.iter().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{}={}", encoded(name), encoded(&value))
    });
    pairs.collect::<Vec<_>>().join("&").into_bytes()
}

/// A framing, ready.
pub(super) struct Frame {
    open: Bytes,
    separator: &'static [u8],
    close: Bytes,
}

impl Frame {
    /// `around` is what a wrapped body has before and after its events.
    pub fn new(form: Form, around: (Bytes, Bytes)) -> Self {
        let none = Bytes::new();
        let (open, separator, close): (Bytes, &'static [u8], Bytes) = match form {
            Form::Array => (Bytes::from_static(b"["), b",", Bytes::from_static(b"]")),
            Form::Wrapped => (around.0, b",", around.1),
            _ => (none.clone(), b"", none),
        };
        Self { open, separator, close }
    }

    /// Bytes that a body has beside its pieces and what separates them.
    pub fn overhead(&self) -> usize {
        self.open.len() + self.close.len()
    }

    /// Bytes that every piece may add.
    pub fn between(&self) -> usize {
        self.separator.len()
    }

    /// The body of these pieces.
    pub fn body(&self, pieces: &[Piece]) -> Bytes {
        if let ([piece], 0) = (pieces, self.overhead()) {
            return piece.bytes.clone();
        }
        let bytes: usize = pieces.iter().map(|piece| piece.bytes.len() + 1).sum();
        let mut body = BytesMut::with_capacity(bytes + self.overhead());
        body.extend_from_slice(&self.open);
        for (index, piece) in pieces.iter().enumerate() {
            if index > 0 {
                body.extend_from_slice(self.separator);
            }
            body.extend_from_slice(&piece.bytes);
        }
        body.extend_from_slice(&self.close);
        body.freeze()
    }
}
