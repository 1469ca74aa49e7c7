//! Replaying dead letters: one, or those that are meant, as they are or changed by a program.
//!
//! Guarantees: what people read is replayed only on purpose; a program is compiled before anything is
//! sent, and a letter that it fails on stays as it is; the letter keeps its body, and what changed it
//! is written down with its end, or into the letter that takes its place.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::{self, Query};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::letters::one;
use super::{Admin, Answer, Guarded, Mend, Told, guard, told, unreadable};
use crate::core::Timestamp;
use crate::core::delivery::Extra;
use crate::core::event::{Draft, Event, Position};
use crate::core::letters::{DeadNote, Letter};
use crate::core::sink::Cause;

/// Longest program.
const PROGRAM: usize = 16 << 10;
/// Letters at most in one answer, and fixed bodies shown in it.
const MOST: usize = 1_000;
const SHOWN: usize = 20;

/// The routes of this file.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/v1/dead/replay", web::post().to(replay_all))
        .route("/api/v1/dead/{number}/replay", web::post().to(replay));
}

/// Which letters.
#[derive(Debug, Deserialize)]
struct Wanted {
    sink: Option<String>,
    source: Option<String>,
    cause: Option<Cause>,
    /// Given up at or after.
    since: Option<Timestamp>,
    /// Given up before.
    until: Option<Timestamp>,
    /// From this number on.
    #[serde(default)]
    from: Position,
    /// At most so many, 1,000 at the most.
    limit: Option<usize>,
    #[serde(flatten)]
    how: How,
}

impl Wanted {
    fn takes(&self, letter: &Letter<DeadNote>) -> bool {
        let Letter { event, note, .. } = letter;
        self.sink.as_ref().is_none_or(|sink| **sink == *note.sink)
            && self.source.as_ref().is_none_or(|source| **source == *event.source)
            && self.cause.is_none_or(|cause| cause == note.cause)
            && self.since.is_none_or(|since| note.died >= since)
            && self.until.is_none_or(|until| note.died < until)
    }
}

/// How to replay them.
#[derive(Debug, Deserialize)]
struct How {
    /// Although people read what a sink delivers.
    #[serde(default, deserialize_with = "truth")]
    notify: bool,
    /// Only say what would be done.
    #[serde(default, deserialize_with = "truth")]
    dry: bool,
}

/// `true` and `false`, also where a flattened query has made text of them.
fn truth<'de, D: serde::Deserializer<'de>>(text: D) -> Result<bool, D::Error> {
    let text = String::deserialize(text)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// A program, compiled, and as it was written.
struct Fix {
    mend: Mend,
    program: Arc<str>,
}

impl Fix {
    /// That of a request's body; none if there is none.
    fn of(admin: &Admin, body: &[u8]) -> Result<Option<Self>, Told> {
        if body.len() > PROGRAM {
            return Err(told(413, format!("a program of more than {PROGRAM} bytes")));
        }
        let program =
            std::str::from_utf8(body).map_err(|_| told(422, "the program is no UTF-8"))?;
        if program.trim().is_empty() {
            return Ok(None);
        }
        let mend = (admin.fix)(program).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            told(422, format!("the program is not used: {}", problems.join("; ")))
        })?;
        Ok(Some(Self { mend, program: program.into() }))
    }

    /// The event with its new body: the same event otherwise.
    fn apply(&self, event: &Event) -> Result<Arc<Event>, String> {
        let body: Bytes = (self.mend)(event)?;
        let draft = Draft::new(event.id, event.received, event.source.clone(), body);
        Ok(Arc::new(Event { position: event.position, draft }))
    }
}

/// What is sent of a letter.
fn extra(letter: &Letter<DeadNote>, fix: Option<&Fix>) -> Result<Extra, String> {
    let event = match fix {
        None => letter.event.clone(),
        Some(fix) => fix.apply(&letter.event)?,
    };
    let fix = fix.map(|fix| fix.program.clone());
    Ok(Extra::Replay { letter: letter.number, event, fix })
}

async fn replay(
    (request, admin): Guarded,
    number: web::Path<u64>,
    how: Query<How>,
    program: Bytes,
) -> Answer {
    guard(&request, &admin).await?;
    let fix = Fix::of(&admin, &program)?;
    let letter = one(&admin.engine().dead, *number).await?;
    let sink = letter.note.sink.clone();
    if (admin.guarded)(&sink) && !how.notify {
        let error = format!(
            "sink {sink} writes to people or opens tickets; to replay to them all the same, add --notify (notify=true)"
        );
        return Err(told(409, error));
    }
    let extra = extra(&letter, fix.as_ref());
    let extra = extra.map_err(|why| told(409, format!("the program failed on it: {why}")))?;
    if how.dry {
        return Ok(
            HttpResponse::Ok().json(json!({ "dry": true, "letters": [shown(&letter, &extra)] }))
        );
    }
    match (admin.offer)(&sink, extra) {
        Some(true) => Ok(HttpResponse::Accepted().json(json!({ "replaying": 1 }))),
        Some(false) => Err(told(503, format!("sink {sink} has enough to replay; try again later"))),
        None => Err(told(409, format!("sink {sink} is not configured any more"))),
    }
}

/// A letter in a dry run; with its new body where there is one.
fn shown(letter: &Letter<DeadNote>, extra: &Extra) -> Value {
    let Letter { number, event, note } = letter;
    let mut shown =
        json!({ "number": number, "id": event.id, "sink": note.sink, "cause": note.cause });
    if let Extra::Replay { event, fix: Some(_), .. } = extra {
        shown["fixed"] = String::from_utf8_lossy(&event.body).into();
    }
    shown
}

async fn replay_all((request, admin): Guarded, wanted: Query<Wanted>, program: Bytes) -> Answer {
    guard(&request, &admin).await?;
    let fix = Fix::of(&admin, &program)?;
    let limit = wanted.limit.unwrap_or(100).min(MOST);
    let letters = admin.engine().dead.find(wanted.from, limit, |letter| wanted.takes(letter)).await;
    let letters = letters.map_err(unreadable)?;
    let (mut replaying, mut left, mut withheld) = (0, 0, 0);
    let (mut meant, mut failed) = (Vec::new(), Vec::new());
    for letter in letters {
        let sink = letter.note.sink.clone();
        if (admin.guarded)(&sink) && !wanted.how.notify {
            withheld += 1;
            continue;
        }
        let extra = match extra(&letter, fix.as_ref()) {
            Ok(extra) => extra,
            Err(why) => {
                failed.push(json!({ "number": letter.number, "why": why }));
                continue;
            }
        };
        if wanted.how.dry {
            let shown = shown(&letter, &extra);
            meant.push(shown);
            continue;
        }
        match (admin.offer)(&sink, extra) {
            Some(true) => replaying += 1,
            _ => left += 1,
        }
    }
    let mut answer = match wanted.how.dry {
        false => json!({ "replaying": replaying, "left": left }),
        true => {
            let count = meant.len();
            meant.truncate(if fix.is_some() { SHOWN } else { MOST });
            json!({ "dry": true, "would_replay": count, "letters": meant })
        }
    };
    if !failed.is_empty() {
        answer["failed"] = failed.into();
    }
    if withheld > 0 {
        answer["withheld"] = withheld.into();
        answer["note"] =
            "people read what these sinks deliver: --notify (notify=true) replays to them, too"
                .into();
    }
    Ok(HttpResponse::Accepted().json(answer))
}
