//! From a preset's `[ack]` to the way in which its product confirms what it took.

use std::sync::Mutex;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName};
use serde_json::Value;

use super::super::http::Acks;
use super::api::Lookup;
use super::file;

/// Longest wait for a confirmation that may be configured.
const MOST: u64 = 3_600;

/// What `ack` says with these fields; `None` where its field is not true.
pub(super) fn acks(
    ack: &file::Ack,
    fields: Lookup<'_>,
    url: impl Fn(&str) -> Result<Url, String>,
    headers: &HeaderMap,
) -> Result<Option<Acks>, String> {
    let field = |what: &str, name: &str| {
        fields(name).map_err(|()| format!("ack.{what}: there is no field `{name}`"))
    };
    if matches!(field("when", &ack.when)?, None | Some(Value::Bool(false))) {
        return Ok(None);
    }
    let seconds = match field("wait", &ack.wait)? {
        Some(Value::Number(number)) => {
            number.as_u64().filter(|seconds| (1..=MOST).contains(seconds))
        }
        // A stand-in, while the preset is checked.
        _ => Some(1),
    };
    let seconds = seconds.ok_or_else(|| format!("{} must be 1 to {MOST} seconds", ack.wait))?;
    let channel = HeaderName::from_bytes(ack.channel.as_bytes())
        .map_err(|_| "ack.channel cannot be a header".to_owned())?;
    Ok(Some(Acks {
        channel,
        id: ack.id.clone(),
        url: url(&ack.post)?,
        headers: headers.clone(),
        question: ack.body.clone(),
        yes: ack.yes.clone(),
        patience: Duration::from_secs(seconds),
        idle: Mutex::default(),
    }))
}
