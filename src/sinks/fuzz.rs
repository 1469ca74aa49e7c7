//! Fuzzing what destinations answer. No part of the program.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is what targets are for")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::catalogue::SHIPPED;
use super::http::{Advice, Answer, verdict};
use super::preset::{self, Preset};
use super::{aws, otlp, smtp};
use crate::core::Timestamp;
use crate::core::sink::{Outcome, Reply};

/// A shipped preset that speaks HTTP: as the program reads it, and its rules as they are written.
struct Rules {
    preset: Preset,
    written: Value,
}

fn all() -> &'static BTreeMap<&'static str, Rules> {
    static ALL: OnceLock<BTreeMap<&str, Rules>> = OnceLock::new();
    ALL.get_or_init(|| {
        let rules = |(name, text): &(&'static str, &str)| {
            let preset = Preset::read(Path::new(name), text).ok()?;
            let file: Value = toml_edit::de::from_str(text).expect("a shipped preset");
            Some((*name, Rules { preset, written: file["reply"].clone() }))
        };
        SHIPPED.iter().filter_map(rules).collect()
    })
}

/// A preset's file; see `preset/fuzz.rs`.
pub(crate) fn preset(data: &[u8]) {
    preset::fuzz::preset(data);
}

/// Every answer has one meaning. It is a delivery only where the preset, read naively, says so; who
/// is at fault was sent. The input is `PRESET SENT STATUS`, lines of headers, an empty line, a body.
pub(crate) fn replies(data: &[u8]) {
    let (head, body) = match data.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &[][..]),
    };
    others(head, body);
    let head = String::from_utf8_lossy(head);
    let (first, headers) = head.split_once('\n').unwrap_or((&head, ""));
    let mut words = first.split(' ');
    let name = words.next().unwrap_or_default();
    let sent = words.next().and_then(|sent| sent.parse::<u8>().ok()).unwrap_or(2).max(1).into();
    let status = words.next().and_then(|status| status.parse().ok()).unwrap_or(200);
    let other = data.len() % all().len();
    let rules = all().get(name).or_else(|| all().values().nth(other)).expect("a preset");
    let answer = answer(status, headers, body);
    let outcome = judged(rules, &answer, sent);
    match &outcome {
        Outcome::Delivered(reply) => {
            assert!(is_yes(&rules.written, &answer, sent), "{name} takes a no for a yes");
            sound(reply);
        }
        Outcome::Partly { reply, faults } => {
            let places: Vec<usize> = faults.iter().map(|(place, _)| *place).collect();
            assert!(
                places.is_sorted_by(|a, b| a < b) && places.last().is_some_and(|it| *it < sent)
            );
            assert!(faults.iter().all(|(_, fault)| !fault.note.is_empty()));
            sound(reply);
        }
        Outcome::Failed(fault) => {
            assert!(!fault.note.is_empty());
            assert!(fault.retry_after.is_none_or(|wait| wait <= Duration::from_secs(3_600)));
        }
    }
}

fn judged(rules: &Rules, answer: &Answer, sent: usize) -> Outcome {
    let advice = Advice { section: "sinks.fuzz".into(), credential: "token".into() };
    let now = Timestamp::from_second(1_767_578_584).unwrap();
    preset::fuzz::judge(&rules.preset, answer, verdict(answer, &advice, now), sent)
}

fn sound(reply: &Reply) {
    assert!(reply.id.as_ref().is_none_or(|id| id.chars().count() <= 200));
}

fn answer(status: u16, lines: &str, body: &[u8]) -> Answer {
    let mut headers = HeaderMap::new();
    for (name, value) in lines.lines().filter_map(|line| line.split_once(':')) {
        let pair = (HeaderName::try_from(name), HeaderValue::try_from(value.trim()));
        if let (Ok(name), Ok(value)) = pair {
            headers.insert(name, value);
        }
    }
    Answer { status, headers, body: Bytes::copy_from_slice(body), excerpt: String::new() }
}

/// Whether the preset as it is written lets `answer` be a delivery of all: no rule of a failure holds,
/// and either one of a delivery does, or status, `ok` and every result say so.
fn is_yes(rules: &Value, answer: &Answer, sent: usize) -> bool {
    let text = String::from_utf8_lossy(&answer.body);
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    let list = |name: &str| rules[name].as_array().cloned().unwrap_or_default();
    let any = |name: &str| list(name).iter().any(|rule| holds(rule, answer.status, &text, &json));
    let no = ["busy", "down", "setup", "too_large", "refused"].into_iter().any(any);
    let ok = rules.get("ok").is_none_or(|ok| holds(ok, answer.status, &text, &json));
    let items = rules.get("items").is_none_or(|items| {
        let place = items["list"].as_str().unwrap_or_default();
        let place = if place.starts_with('/') { place.to_owned() } else { format!("/{place}") };
        let results = json.pointer(&place).and_then(Value::as_array);
        results.is_some_and(|results| results.len() >= sent)
    });
    let success = (200..300).contains(&answer.status);
    !no && (any("delivered") || (success && ok && items))
}

fn holds(rule: &Value, status: u16, text: &str, json: &Value) -> bool {
    let one_of = |wanted: &Value, value: &Value| match wanted {
        Value::Array(any) => any.contains(value),
        one => one == value,
    };
    let at = |place: &str| {
        let mut value = json;
        for step in place.trim_start_matches('/').split('/') {
            value = match value {
                Value::Object(table) if step == "*" => table.values().next()?,
                Value::Object(table) => table.get(step)?,
                Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    };
    let json_holds = rule["json"].as_object().is_none_or(|pairs| {
        pairs.iter().all(|(place, wanted)| at(place).is_some_and(|value| one_of(wanted, value)))
    });
    let status_holds = rule.get("status").is_none_or(|wanted| one_of(wanted, &status.into()));
    let lower = text.to_ascii_lowercase();
    let text_holds =
        rule["text"].as_str().is_none_or(|wanted| lower.contains(&wanted.to_ascii_lowercase()));
    json_holds && status_holds && text_holds
}

/// Replies of kinds written in Rust: total, and bounded in what they tell.
fn others(head: &[u8], body: &[u8]) {
    if let Some(partial) = otlp::partial_of(body) {
        assert!(partial.rejected == 0 || !body.trim_ascii().is_empty());
    }
    let answer = answer(400, &String::from_utf8_lossy(head), body);
    if let Some(code) = aws::codes::code(&answer) {
        assert!(!code.is_empty() && code.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    }
    let stream = tokio::io::join(body, tokio::io::sink());
    let heard = smtp::Line::new(stream).hear().now_or_never().expect("nothing to wait for");
    if let Ok(said) = heard {
        assert!((200..600).contains(&said.code) && !said.lines.is_empty());
        assert!(said.reply().excerpt.len() <= Reply::EXCERPT);
    }
}
