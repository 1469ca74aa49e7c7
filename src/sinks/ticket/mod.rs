//! Tickets: looked up by incident, then opened, noted in, or resolved.
//!
//! Guarantees: at most one open ticket an incident, because it is searched for before every write and
//! events of one incident go one at a time; an event that is sent again becomes a note, not a second
//! ticket; an end without an open ticket opens none. What a product's requests look like is in its file.

pub mod jira;
pub mod servicenow;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::auth::Auth;
use super::http::{Answer, ApiSink, Http, HttpApi, Next, Request};
use super::preset::Markup;
use super::show::Shown;
use super::{Built, words};
use crate::core::finding::Severity;
use crate::core::route::Shaped;
use crate::core::sink::{Cause, Fault, Limits, Outcome, Piece, Probe, Reply};
use crate::formats::headline::headline;

/// Largest entry: what is left of the tightest description, and a margin.
const BYTES: usize = 16 << 10;

/// What is written about one event.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    headline: String,
    text: String,
    severity: Severity,
}

/// One product's way of keeping tickets.
trait Desk: Send + Sync + 'static {
    /// How it is told who asks.
    fn auth(&self) -> &Auth;
    /// The open ticket of an incident.
    fn search(&self, key: &str) -> Request;
    /// Its name in the answer, or what is wrong with the answer.
    fn found(&self, body: &Value) -> Result<Option<String>, &'static str>;
    fn open(&self, key: &str, entry: &Entry) -> Request;
    fn note(&self, ticket: &str, entry: &Entry) -> Request;
    fn resolve(&self, ticket: &str, entry: &Entry) -> Request;
    /// The product's name for what it has written, where it says one.
    fn receipt(&self, body: &Value) -> Option<String>;
    /// A 400 that is about the settings and not about the event.
    fn is_setup(&self, body: &Value) -> bool;
    fn probe(&self) -> Request;
}

/// A desk at work.
struct Tickets<D> {
    desk: D,
    shown: Shown,
    section: String,
}

fn built<D: Desk>(client: Http, desk: D, shown: Shown, section: &str) -> Built {
    let api = Tickets { desk, shown, section: section.to_owned() };
    let limits = Limits {
        event_bytes: BYTES,
        batch_events: 1,
        batch_bytes: BYTES,
        in_flight: 2,
        ordered: false,
    };
    Built::new(Arc::new(ApiSink::new(client, api)), limits)
}

/// What `encode` has written.
fn entry(piece: &Piece) -> Entry {
    serde_json::from_slice(&piece.bytes).unwrap_or_else(|_| Entry {
        headline: "an event".into(),
        text: String::new(),
        severity: Severity::Unknown,
    })
}

impl<D: Desk> Tickets<D> {
    fn strange(&self, answer: &Answer, what: &str) -> Fault {
        let section = &self.section;
        let note = format!(
            "{}: {what}, so something else than the product answered (a proxy, a portal); check {section}.url",
            answer.status
        );
        Fault::new(Cause::Setup, note).with_reply(answer.reply())
    }
}

fn json(answer: &Answer) -> Option<Value> {
    // Lossy, because a proxy's page may be in any encoding and JSON's syntax is ASCII.
    serde_json::from_str(&String::from_utf8_lossy(&answer.body)).ok()
}

impl<D: Desk> HttpApi for Tickets<D> {
    fn encode(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault> {
        let mut entry = Entry {
            headline: headline(event),
            text: words::lines(event, &self.shown, Markup::None),
            severity: event.finding().severity,
        };
        loop {
            let bytes = serde_json::to_vec(&entry)
                .map_err(|error| Fault::new(Cause::Refused, error.to_string()))?;
            if bytes.len() <= room || entry.text.is_empty() {
                // Too large still: whoever asked sees to it.
                return Ok(bytes.into());
            }
            // The last lines give way; the ones that matter come first.
            let kept = entry.text.trim_end().rfind('\n').map_or(0, |at| at + 1);
            entry.text.truncate(kept);
        }
    }

    fn request(&self, pieces: &[Piece]) -> Request {
        match pieces.first() {
            Some(piece) => self.desk.open(&piece.key(), &entry(piece)),
            None => self.desk.probe(),
        }
    }

    fn lookup(&self, pieces: &[Piece]) -> Option<Request> {
        pieces.first().map(|piece| self.desk.search(&piece.key()))
    }

    fn after(&self, pieces: &[Piece], answer: &Answer) -> Next {
        let failed = |fault| Next::Done(Outcome::Failed(fault));
        let Some(piece) = pieces.first() else { return Next::Send(self.request(pieces)) };
        let Some(body) = json(answer) else {
            return failed(self.strange(answer, "the reply is not JSON"));
        };
        match (self.desk.found(&body), piece.ended) {
            (Err(wrong), _) => failed(self.strange(answer, wrong)),
            (Ok(Some(ticket)), false) => Next::Send(self.desk.note(&ticket, &entry(piece))),
            (Ok(Some(ticket)), true) => Next::Send(self.desk.resolve(&ticket, &entry(piece))),
            (Ok(None), false) => Next::Send(self.request(pieces)),
            (Ok(None), true) => {
                let excerpt = "no open ticket of this incident: nothing to resolve".into();
                Next::Done(Outcome::Delivered(Reply { excerpt, ..answer.reply() }))
            }
        }
    }

    fn accepted(&self, answer: &Answer, reply: Reply, _: usize) -> Outcome {
        match json(answer) {
            Some(body) => {
                let id = self.desk.receipt(&body);
                Outcome::Delivered(Reply { id, ..reply })
            }
            None if answer.body.trim_ascii().is_empty() => Outcome::Delivered(reply),
            None => Outcome::Failed(self.strange(answer, "the reply is not JSON")),
        }
    }

    fn refused(&self, answer: &Answer, fault: Fault, _: usize) -> Outcome {
        let setup = answer.status == 400 && json(answer).is_some_and(|b| self.desk.is_setup(&b));
        Outcome::Failed(match setup {
            true => Fault {
                cause: Cause::Setup,
                note: format!(
                    "400: a setting does not fit the product; its reply says which of {}",
                    self.section
                ),
                ..fault
            },
            false => fault,
        })
    }

    fn auth(&self) -> &Auth {
        self.desk.auth()
    }

    fn probe(&self) -> Request {
        self.desk.probe()
    }

    fn probed(&self, _: &Answer, verdict: Result<Reply, Fault>) -> Result<Probe, Fault> {
        verdict.map(|_| Probe::ReachableOnly)
    }
}
