//! Fuzzing presets: any text is a destination or has problems, and what a destination writes keeps to
//! its limits. No part of the program.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is what targets are for")]

use std::path::Path;

use serde_json::Value;

use super::super::auth::Auth;
use super::super::carried::Carried;
use super::super::http::{Answer, HttpApi};
use super::super::show::{Reading, Shown};
use super::api::Compiled;
use super::frame::Form;
use super::{Preset, fields};
use crate::core::config::{Problems, Section};
use crate::core::fuzz::{event, folder};
use crate::core::sink::{Fault, Outcome, Piece, Reply};

/// Bytes of an event's body and texts, between a preset and what it is to write.
const EVENT: &[u8] = b"\n#event\n";

/// The input is a preset's file, and after a line `#event` what an event is made of.
pub(in crate::sinks) fn preset(data: &[u8]) {
    let cut = data.windows(EVENT.len()).position(|window| window == EVENT);
    let (text, facts) = cut.map_or((data, &[][..]), |at| (&data[..at], &data[at + EVENT.len()..]));
    let text = String::from_utf8_lossy(text);
    let place = Path::new("fuzz.toml");
    if Carried::is_meant(&text) {
        return match Carried::read(place, &text) {
            Ok(carried) => assert!(!carried.sample().is_empty()),
            Err(problems) => told(&problems),
        };
    }
    let preset = match Preset::read(place, &text) {
        Ok(preset) => preset,
        Err(problems) => return told(&problems),
    };
    assert_eq!(super::no_name(preset.name()), None);
    let (_, _, _) = (preset.schema(), preset.example(), preset.success());
    let sample = preset.sample().replace("{{peer}}", "https://peer.example");
    let sample = sample.replace("{{dir}}", &folder().to_string_lossy());
    let table: Value = toml_edit::de::from_str(&sample).expect("a sample is TOML");
    let Value::Object(table) = table["sinks"][preset.name()].clone() else { panic!("a section") };
    let section = Section::new("sinks.fuzz", table);
    let Ok(values) = fields::read(&preset.file.fields, &section) else { return };
    let shown = Shown::of(preset.class(), Reading::default());
    let compiled = Compiled::new(&preset.file, &values, Auth::None, false, shown, None);
    match compiled {
        Ok(compiled) => write(&preset, &compiled, facts),
        Err(wrong) => assert!(!wrong.is_empty()),
    }
}

fn told(problems: &Problems) {
    assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.message.is_empty()));
}

/// An event is within its room, and a body of JSON is JSON, with every piece in it.
fn write(preset: &Preset, compiled: &Compiled, facts: &[u8]) {
    let (event, room) = event(facts);
    let limits = preset.limits(compiled);
    let most = limits.event_bytes;
    for room in [room.min(most), most] {
        let Ok(bytes) = compiled.encode(&event, room) else { continue };
        assert!(bytes.len() <= room, "{} of {room}", bytes.len());
        let pieces = vec![Piece::of(&event.event, bytes); limits.batch_events.clamp(1, 3)];
        let request = compiled.request(&pieces);
        assert!(room > most / 3 || request.body.len() <= limits.batch_bytes.saturating_add(most));
        // An event that is no JSON is sent as it is where the event itself is sent.
        if serde_json::from_slice::<Value>(&event.body).is_ok() {
            framed(preset.file.body.frame, &request.body, pieces.len());
        }
    }
}

fn framed(form: Form, body: &[u8], pieces: usize) {
    let values = serde_json::Deserializer::from_slice(body).into_iter::<serde::de::IgnoredAny>();
    let read = values.collect::<Result<Vec<_>, _>>();
    match form {
        Form::Lines | Form::Pairs => {}
        Form::Array => {
            let items = serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(body);
            assert_eq!(items.expect("an array").len(), pieces);
        }
        Form::Single | Form::Wrapped => assert_eq!(read.expect("JSON").len(), 1),
        Form::Ndjson | Form::Concatenated => assert_eq!(read.expect("JSON").len(), pieces),
        Form::Bulk => assert_eq!(read.expect("JSON").len(), 2 * pieces),
    }
}

/// What `preset` makes of an answer to `sent` events.
pub(in crate::sinks) fn judge(
    preset: &Preset,
    answer: &Answer,
    default: Result<Reply, Fault>,
    sent: usize,
) -> Outcome {
    preset.file.reply.judge(answer, default, sent)
}
