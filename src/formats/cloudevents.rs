//! CloudEvents 1.0 in structured mode: a few attributes around the event.
//!
//! Guarantees: source and id together name the event, the same however often it is sent; `data` is
//! the event's own JSON, without whitespace outside strings. What is not UTF-8 stands in
//! `data_base64` and so keeps every byte. Too long, `data` is shortened as `raw` is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::document::unbroken;
use super::facts::{Facts, rfc3339};
use super::{lines, shorten, text};
use crate::core::route::{Format, Shaped};

/// CloudEvents in the table of formats.
pub static FORMAT: Format = Format {
    name: "cloudevents",
    about: "CloudEvents 1.0, a JSON object with the event as `data`",
    write,
};

/// Longest subject, in bytes.
const SUBJECT: usize = 255;

fn write(event: &Shaped, room: usize) -> Option<Bytes> {
    let line = lines::line(&event.body);
    let body = line.strip_suffix(b"\n").unwrap_or(&line);
    let is_json = lines::is_json(body);
    let head = head(&Facts::of(event), if is_json { "application/json" } else { "text/plain" });
    let whole = with(&head, member(body, is_json));
    if whole.len() <= room {
        return Some(whole.into());
    }
    let around = with(&head, String::new()).len() + "\"data\":".len();
    let shorter = shorten::json(body, room.checked_sub(around)?)?;
    Some(with(&head, format!("\"data\":{shorter}")).into())
}

/// The attributes, as a JSON object.
fn head(facts: &Facts<'_>, content_type: &str) -> String {
    let mut head = Map::new();
    let mut put = |name: &str, value: Value| drop(head.insert(name.to_owned(), value));
    put("specversion", json!("1.0"));
    put("id", json!(facts.id.to_string()));
    // Names of sources are plain words.
    put("source", json!(format!("urn:siemgate:{}", facts.source)));
    put("type", json!(format!("siemgate.{}", facts.class())));
    put("time", json!(rfc3339(facts.time())));
    put("datacontenttype", json!(content_type));
    if let Some(subject) = facts.finding.clusters.first().and_then(|cluster| subject(cluster)) {
        put("subject", json!(subject));
    }
    unbroken(&head.into())
}

/// Attributes hold neither control characters nor what Unicode calls no characters.
fn subject(cluster: &str) -> Option<String> {
    let is_none = |c: char| {
        let plane = u32::from(c) & 0xFFFF;
        plane >= 0xFFFE || ('\u{FDD0}'..='\u{FDEF}').contains(&c)
    };
    let shown = |c: char| if is_none(c) { ' ' } else { text::shown(c) };
    let words: String = cluster.chars().map(shown).collect();
    let words = text::cut(words.trim(), SUBJECT).trim_end();
    (!words.is_empty()).then(|| words.to_owned())
}

/// The member that holds the event.
fn member(body: &[u8], is_json: bool) -> String {
    match std::str::from_utf8(body) {
        Ok(json) if is_json => format!("\"data\":{json}"),
        Ok(text) => format!("\"data\":{}", Value::from(text)),
        Err(_) => format!("\"data_base64\":\"{}\"", STANDARD.encode(body)),
    }
}

/// The attributes with one more member.
fn with(head: &str, member: String) -> String {
    let open = head.strip_suffix('}').unwrap_or(head);
    format!("{open},{member}}}")
}
