//! The destinations: one file a kind, and the table of all kinds.
//!
//! Guarantees: the table is the only list. Parsing, `siemgate sinks`, the JSON Schema, the samples
//! and the conformance suite all read it, so a kind that is in it has all of them. Building a sink
//! never touches the network. A sink retries, counts and logs nothing: see `core/sink.rs`.

mod auth;
mod aws;
mod carried;
mod catalogue;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gelf;
mod http;
mod kafka;
mod nats;
mod otlp;
mod plain;
pub mod preset;
mod proofs;
mod show;
mod smtp;
mod socket;
mod stdout;
mod syslog;
mod taegis;
mod ticket;
mod tls;
mod words;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::config::{Problems, Rate, Section, Span};
use crate::core::route::Shaped;
use crate::core::sink::{Cause, Class, Fault, Idempotency, Limits, Outcome, Piece, Reply, Sink};
use crate::formats::{RAW, lines};

pub use catalogue::{Catalogue, Entry, FOLDER};

/// One kind of sink: everything the rest of the program knows of it.
pub struct Kind {
    /// The `type` in `[sinks.NAME]`.
    pub name: &'static str,
    /// One line for lists.
    pub about: &'static str,
    /// A complete section, as TOML, that `check` accepts; `{{peer}}` stands for a base URL,
    /// `{{host}}` for a host with its port and `{{dir}}` for a writable folder, so that the
    /// conformance suite can run it. What follows `# documents: ` on a line takes its place for people.
    pub sample: &'static str,
    /// What it is for.
    pub class: Class,
    /// Whether a repeated delivery is recognised by the destination.
    pub idempotency: Idempotency,
    /// Whether it writes what a `format` says; else its destination knows one form only.
    pub formats: bool,
    /// What the wire facts it was built from rest on.
    pub proof: Proof,
    /// What a delivery proves, what it does not, and where the product then shows the event: for
    /// whoever has just sent a test event.
    pub proves: &'static str,
    /// What the destination answers to a good request, status and body: for tests of all kinds.
    pub success: (u16, &'static str),
    /// Its settings, without the keys that all sinks share.
    pub schema: fn() -> Schema,
    /// Build from its settings. Pure but for reading files that the settings name.
    pub build: fn(&Section) -> Result<Built, Problems>,
}

/// A sink ready for its worker.
pub struct Built {
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// What the destination takes at most with these settings.
    pub limits: Limits,
    /// Most events in a time, unless the user sets another.
    pub rate: Option<Rate>,
    /// How long one attempt may take, unless the user sets another.
    pub timeout: Option<Span>,
}

impl Built {
    /// A sink with what its destination takes.
    pub fn new(sink: Arc<dyn Sink>, limits: Limits) -> Self {
        Self { sink, limits, rate: None, timeout: None }
    }

    /// The same with the vendor's rate.
    #[must_use]
    pub fn with_rate(mut self, rate: Option<Rate>) -> Self {
        self.rate = rate;
        self
    }

    /// The same with a time that an attempt needs.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout.map(Span);
        self
    }
}

/// What the wire facts of a kind rest on. Which real servers it was tried against is another
/// question, which tests answer: `proofs.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Built from the vendor's documents.
    Documented,
    /// Some facts could not be verified; they are settings with safe defaults.
    UnverifiedFacts,
}

/// All kinds, in the order of `siemgate sinks`.
pub const KINDS: &[&Kind] = &[
    &taegis::KIND,
    &otlp::KIND,
    &ticket::servicenow::INCIDENT,
    &ticket::servicenow::SIR,
    &ticket::jira::KIND,
    &smtp::KIND,
    &aws::sqs::KIND,
    &aws::sns::KIND,
    &aws::cloudwatch_logs::KIND,
    &aws::security_hub::KIND,
    &aws::s3::KIND,
    &preset::KIND,
    &syslog::KIND,
    &plain::TCP,
    &plain::UDP,
    &gelf::KIND,
    &nats::KIND,
    &kafka::KIND,
    &file::KIND,
    &stdout::KIND,
];

/// Read settings that include flattened `parts`, the inner ones first.
///
/// Serde loses the key of a bad value inside a flattened struct, so the parts are read by themselves.
fn read<T: DeserializeOwned + JsonSchema>(
    section: &Section,
    parts: &[fn(&Section) -> Problems],
) -> Result<T, Problems> {
    let mut problems = Problems::new();
    let whole = section.read::<T>();
    let rest = whole.as_ref().err().cloned().unwrap_or_default();
    for mut found in parts.iter().map(|part| part(section)).chain([rest]) {
        // What an inner part has told comes again from those around it, without its key.
        found.retain(|again| problems.iter().all(|known| known.message != again.message));
        problems.append(&mut found);
    }
    whole.map_err(|_| problems)
}

/// What is wrong with the keys of `section` that `P` knows.
fn part<P: DeserializeOwned + JsonSchema>(section: &Section) -> Problems {
    section.clone().split::<P>().0.read::<P>().err().unwrap_or_default()
}

/// The pieces of a batch one after the other, for framings where each brings its own line feed.
fn joined(pieces: &[Piece]) -> Bytes {
    pieces.iter().map(|piece| &piece.bytes[..]).collect::<Vec<_>>().concat().into()
}

/// What became of pieces that were judged one by one. What nobody is to blame for but the
/// destination as a whole is told once.
fn tally(reply: Reply, faults: Vec<Option<Fault>>) -> Outcome {
    let count = faults.len();
    let faults: Vec<(usize, Fault)> =
        faults.into_iter().enumerate().filter_map(|(index, fault)| Some((index, fault?))).collect();
    let whole = |cause| matches!(cause, Cause::Busy | Cause::Down | Cause::Setup);
    match faults.first() {
        None => Outcome::Delivered(reply),
        Some((_, first))
            if faults.len() == count
                && whole(first.cause)
                && faults.iter().all(|(_, fault)| fault.cause == first.cause) =>
        {
            Outcome::Failed(first.clone())
        }
        Some(_) => Outcome::Partly { reply, faults },
    }
}

/// An event as one line, if it fits: a copy of an event is whole or it is none, unless its route
/// asks for a format that shortens.
fn line_within(event: &Shaped, room: usize) -> Result<Bytes, Fault> {
    let Some(format) = event.format.filter(|format| format.name != RAW.name) else {
        let line = lines::line(&event.body);
        let long = || format!("the event's line has {} bytes of {room}", line.len());
        return if line.len() <= room {
            Ok(line)
        } else {
            Err(Fault::new(Cause::TooLarge, long()))
        };
    };
    let line = (format.write)(event, room.saturating_sub(1)).filter(|_| room > 0);
    let long = || format!("the event does not fit into {room} bytes of {}", format.name);
    let line = line.ok_or_else(|| Fault::new(Cause::TooLarge, long()))?;
    Ok([&line[..], b"\n"].concat().into())
}

/// Run blocking input or output on a thread of its own. It is finished even when its caller is
/// cancelled, so it must leave things sound by itself.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
