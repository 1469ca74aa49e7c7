//! A body as programs see it, and back.
//!
//! Guarantees: a body that is not JSON, is larger than [`BODY`] or nests deeper than 127 levels is
//! refused before a program sees it. What is written after a transform is JSON without spaces, keys
//! sorted by their bytes; of keys that the body had twice the last is kept; integers beyond 64 bits
//! signed and fractions are doubles. A body that no transform touches never comes here on its way out.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::event::{Parsed, Value};

/// Largest body that programs see, in bytes: a function may take time in proportion to it.
pub(super) const BODY: usize = 1 << 20;
/// Largest result of a transform, in bytes.
pub(super) const RESULT: usize = 4 << 20;

/// Read `body` for programs. The reason of a refusal quotes nothing of it.
pub(super) fn parse(body: &[u8]) -> Parsed {
    if body.len() > BODY {
        let bytes = body.len();
        return Err(format!("{bytes} bytes are more than the {BODY} that programs see").into());
    }
    // serde_json's own limit is the one on depth.
    match serde_json::from_slice(body) {
        Ok(value) => Ok(Arc::new(value)),
        Err(error) => Err(format!("not JSON: {error}").into()),
    }
}

/// Write what a transform left, or say why that is no event.
pub(super) fn write(value: &Value) -> Result<Bytes, String> {
    match value {
        Value::Object(fields) if !fields.is_empty() => {}
        Value::Object(_) => return Err("it left nothing of the event".to_owned()),
        other => return Err(format!("it left {} instead of an object", other.kind())),
    }
    let bytes = serde_json::to_vec(value).map_err(|error| format!("no JSON: {error}"))?;
    if bytes.len() > RESULT {
        return Err(format!("its result of {} bytes is over the {RESULT} allowed", bytes.len()));
    }
    Ok(bytes.into())
}
