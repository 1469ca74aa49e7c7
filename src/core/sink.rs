//! The contract of a sink.
//!
//! A sink turns events into a destination's bytes (`encode`, pure) and tries once to hand over a
//! batch (`send`). It says what happened; the delivery worker decides what follows. A sink never
//! retries, batches, counts, or touches the log, the metrics or the configuration; time comes in
//! the call; building one never touches the network.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Timestamp;
use super::event::{Event, EventId};
use super::route::Shaped;

/// One destination, as configured in `[sinks.NAME]`.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Pure. One event in the destination's form, at most `room` bytes, shortened in the sink's
    /// documented order; `Cause::TooLarge` when it cannot be made to fit. `explain` calls this.
    fn encode(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault>;

    /// Frame the pieces and try once. Called in parallel up to the in-flight limit; may be
    /// cancelled and called again (a shared connection then counts as broken).
    async fn send(&self, pieces: &[Piece], now: Timestamp) -> Outcome;

    /// Pure. What `send` would make of these pieces, without credentials; `None` where that is the
    /// pieces' bytes, one after the other. For `explain`.
    fn preview(&self, pieces: &[Piece]) -> Option<Preview> {
        let _ = pieces;
        None
    }

    /// Hosts and ports that it talks HTTP to, so that nobody makes a gateway post to itself.
    fn reaches(&self) -> Vec<(String, u16)> {
        Vec::new()
    }

    /// Reach the destination with these credentials, delivering nothing.
    async fn probe(&self, now: Timestamp) -> Result<Probe, Fault>;

    /// Finish what is buffered and let go, by `deadline` at the latest.
    async fn close(&self, deadline: Instant);
}

/// A request as it would be sent, with every credential masked.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The method.
    pub method: String,
    /// The address; its path and query may be secret and are left out.
    pub url: String,
    /// The kind's own headers, in order.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
    /// The body held a secret, which is masked: these are not the bytes of the wire.
    pub body_masked: bool,
}

/// One encoded event of a batch. Retries send the same `bytes`.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The event's id, stable over retries: the idempotency key where the product has one.
    pub id: EventId,
    /// The incident it belongs to.
    pub incident: Option<String>,
    /// It ends the incident: a destination that closes what it opened may need another request.
    pub ended: bool,
    /// What `encode` returned.
    pub bytes: Bytes,
}

impl Piece {
    /// `event` as `encode` has written it.
    pub fn of(event: &Event, bytes: Bytes) -> Self {
        let finding = event.finding();
        let (incident, ended) = (finding.incident.clone(), finding.ended);
        Self { id: event.id, incident, ended, bytes }
    }

    /// See [`incident_key`].
    pub fn key(&self) -> String {
        incident_key(self.incident.as_deref(), self.id)
    }
}

/// Longest incident that is its own key.
const KEY: usize = 64;

/// What ties updates to what opened the incident, as destinations are told: the incident where it
/// is a short plain word, else a digest of it. So it fits everywhere, means nothing in a query or an
/// address, and does not show a user's name that the incident may be made of. Without an incident
/// the event stands for itself.
pub fn incident_key(incident: Option<&str>, id: EventId) -> String {
    let Some(incident) = incident else { return id.to_string() };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let leads = incident.starts_with(|c: char| c.is_ascii_alphanumeric());
    if leads && incident.len() <= KEY && incident.chars().all(plain) {
        return incident.to_owned();
    }
    let digest = Sha256::digest(incident);
    digest[..16].iter().fold("incident-".to_owned(), |key, byte| format!("{key}{byte:02x}"))
}

/// What became of one `send`.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The destination has every piece.
    Delivered(Reply),
    /// It has all but these (index into the pieces).
    Partly {
        /// What it said about the whole.
        reply: Reply,
        /// Why it refused which.
        faults: Vec<(usize, Fault)>,
    },
    /// It has none, or nobody can tell.
    Failed(Fault),
}

/// What a destination said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// HTTP status, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The destination's own id for what it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How many pieces it says it took (`successCount` and the like), where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<u64>,
    /// How many earlier events were sent again with it, because a connection had ended that may
    /// have lost them: the destination may have those twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resent: Option<NonZeroU32>,
    /// The beginning of the reply, at most `Reply::EXCERPT` bytes, without secrets.
    pub excerpt: String,
}

impl Reply {
    /// Longest excerpt kept, in bytes.
    pub const EXCERPT: usize = 512;
}

/// Why a piece was not delivered, and what the worker should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Chooses the worker's action.
    pub cause: Cause,
    /// How long the destination asked us to wait.
    pub retry_after: Option<Duration>,
    /// For people: what happened and what to do. Never contains a secret.
    pub note: String,
    /// What the destination said, if it answered.
    pub reply: Option<Reply>,
}

impl Fault {
    /// A fault without reply or wait.
    pub fn new(cause: Cause, note: impl Into<String>) -> Self {
        Self { cause, retry_after: None, note: note.into(), reply: None }
    }

    /// The same with the destination's reply.
    #[must_use]
    pub fn with_reply(mut self, reply: Reply) -> Self {
        self.reply = Some(reply);
        self
    }

    /// The same with the wait the destination asked for.
    #[must_use]
    pub fn with_wait(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }
}

/// The closed set of reasons for not being delivered: chooses the action, and is the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The destination wants us to slow down: 425, 429, 503 with Retry-After.
    Busy,
    /// It cannot be reached or is broken: no connection, timeout, DNS trouble, 408, 5xx.
    Down,
    /// Something is configured wrongly, here or there: 3xx, 401, 403, 404, TLS name, a proxy's page.
    Setup,
    /// The batch or the event is too big: 413.
    TooLarge,
    /// The destination will not have these bytes: 400, 422, other 4xx.
    Refused,
}

impl Cause {
    /// All of them, for loops over the label.
    pub const ALL: [Self; 5] = [Self::Busy, Self::Down, Self::Setup, Self::TooLarge, Self::Refused];

    /// The word in metrics, dead letters and the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Down => "down",
            Self::Setup => "setup",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
        }
    }
}

/// What a probe proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The destination would accept events with these credentials.
    Accepted,
    /// Something answers there; whether it would accept an event is not known.
    ReachableOnly,
    /// The product offers no way to find out.
    Unknown,
}

/// What a destination can take in one request. Configuration may only lower these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest single event, in encoded bytes.
    pub event_bytes: usize,
    /// Most events in one `send`.
    pub batch_events: usize,
    /// Most encoded bytes in one `send`.
    pub batch_bytes: usize,
    /// Most `send`s at once.
    pub in_flight: usize,
    /// A batch is taken whole and in order (a file, a pipe), so that one batch may hold several
    /// events of one incident.
    pub ordered: bool,
}

/// What a kind of sink is for; later guards depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Wants every event.
    Siem,
    /// Opens and closes tickets.
    Incident,
    /// Talks to people.
    People,
    /// Keeps copies.
    Archive,
}

impl Class {
    /// The word in metrics and lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Siem => "siem",
            Self::Incident => "incident",
            Self::People => "people",
            Self::Archive => "archive",
        }
    }
}

/// Whether the destination recognises an event that it is sent twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Idempotency {
    /// The product deduplicates by a key that the sink sends.
    Native,
    /// A repeated delivery may show twice.
    #[default]
    None,
}
