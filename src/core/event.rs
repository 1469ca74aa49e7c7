//! An event: the bytes a product sent, and what the gateway knows of their arrival.
//!
//! Guarantees: `body` is what was received, byte for byte (after content decoding); a `Position`
//! is a dense sequence number, given once and never reused; an `EventId` is unique and sorts by
//! arrival. Not here: what the bytes mean (`finding.rs`) and where they go (`route.rs`).

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
/// A body as the rules' programs see it.
pub use vrl::value::Value;

use super::Timestamp;
use super::finding::Finding;
use super::route::{Choice, RouteId};
use super::sink::Fault;

/// The gateway's own name for an event: a UUIDv7, so that it sorts by time of arrival.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// A fresh id for an event received now.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id with exactly these bytes, as the log stores them.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The sixteen bytes of the id, big endian, time first.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The milliseconds since 1970 that a UUIDv7 begins with.
    pub fn unix_ms(&self) -> u64 {
        self.as_bytes()[..6].iter().fold(0, |ms, byte| (ms << 8) | u64::from(*byte))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EventId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// The place of an event in a log: a dense sequence number from 0, never an offset.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// The position `count` places further on.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }

    /// How many positions lie between `earlier` (inclusive) and `self` (exclusive); 0 if none.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What makes two requests "the same event": 16 bytes of a SHA-256 over the source's name and
/// the sender's idempotency key, or over the source's name and the body.
pub type DuplicateKey = [u8; 16];

/// A body that was read for programs, or why it could not be. The reason quotes nothing of it.
pub type Parsed = Result<Arc<Value>, Arc<str>>;

/// What a route made of a body, with the generation of the table that has the route.
type Made = (u64, RouteId, Result<Bytes, Fault>);

/// An event on its way into the log: everything but its position.
pub struct Draft {
    /// The gateway's id, given at the door.
    pub id: EventId,
    /// When the whole body had arrived.
    pub received: Timestamp,
    /// The configured source's name (`[sources.NAME]`).
    pub source: Arc<str>,
    /// Set where the source suppresses duplicates.
    pub key: Option<DuplicateKey>,
    /// What a dead letter or a quarantined body carries beside the body, as JSON; else empty.
    pub note: Bytes,
    /// The body, byte for byte.
    pub body: Bytes,
    finding: OnceLock<Finding>,
    /// The routing answer, with the generation of the table that gave it.
    choice: Mutex<Option<(u64, Choice)>>,
    /// The parsed body, and how many uses are to come: it takes several times the body's memory,
    /// so the last use takes it out.
    parsed: Mutex<(Option<Parsed>, usize)>,
    /// What routes made of the body for several sinks.
    made: Mutex<Vec<Made>>,
}

impl Draft {
    /// A draft of `body`, as received from `source`.
    pub fn new(id: EventId, received: Timestamp, source: Arc<str>, body: Bytes) -> Self {
        Self {
            id,
            received,
            source,
            key: None,
            note: Bytes::new(),
            body,
            finding: OnceLock::new(),
            choice: Mutex::new(None),
            parsed: Mutex::new((None, 0)),
            made: Mutex::new(Vec::new()),
        }
    }

    /// What the source's decoder found; an empty finding (all unknown) before `decoded_by`.
    pub fn finding(&self) -> &Finding {
        static UNDECODED: OnceLock<Finding> = OnceLock::new();
        self.finding.get().unwrap_or_else(|| UNDECODED.get_or_init(Finding::default))
    }

    /// Decode once; later calls return the first answer for as long as the event is in memory.
    pub fn decoded_by(&self, decode: impl FnOnce() -> Finding) -> &Finding {
        self.finding.get_or_init(decode)
    }

    /// The routing answer of table `generation`: computed once for all sinks, then remembered.
    pub fn chosen_by(&self, generation: u64, choose: impl FnOnce() -> Choice) -> Choice {
        let mut known = lock(&self.choice);
        match &*known {
            Some((of, choice)) if *of == generation => choice.clone(),
            _ => {
                let choice = choose();
                *known = Some((generation, choice.clone()));
                choice
            }
        }
    }

    /// The body for programs: read by `parse` unless that has been done.
    pub fn parsed_by(&self, parse: impl FnOnce() -> Parsed) -> Parsed {
        let mut kept = lock(&self.parsed);
        kept.0.get_or_insert_with(parse).clone()
    }

    /// The parsed body will be used so many times more; without any, it is let go.
    pub fn keep_parsed(&self, uses: usize) {
        let mut kept = lock(&self.parsed);
        kept.1 = uses;
        if uses == 0 {
            kept.0 = None;
        }
    }

    /// One of these uses. The last one gets the value to itself.
    pub fn use_parsed(&self, parse: impl FnOnce() -> Parsed) -> Parsed {
        let mut kept = lock(&self.parsed);
        kept.1 = kept.1.saturating_sub(1);
        let parsed = kept.0.take().unwrap_or_else(parse);
        if kept.1 > 0 {
            kept.0 = Some(parsed.clone());
        }
        parsed
    }

    /// What `route` of table `generation` makes of the body, made once and remembered.
    pub fn made_by(
        &self,
        generation: u64,
        route: &RouteId,
        make: impl FnOnce() -> Result<Bytes, Fault>,
    ) -> Result<Bytes, Fault> {
        let mut made = lock(&self.made);
        made.retain(|(of, ..)| *of == generation);
        if let Some((.., known)) = made.iter().find(|(_, of, _)| of == route) {
            return known.clone();
        }
        let result = make();
        made.push((generation, route.clone(), result.clone()));
        result
    }
}

/// Nothing is left half done when a holder panics.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Draft {
    // Bodies carry user and file names: never in a Debug.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("id", &self.id)
            .field("source", &self.source)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// An event in the log. Shared by all readers as `Arc<Event>`; reads like its `Draft`.
#[derive(Debug)]
pub struct Event {
    /// Its place in the log.
    pub position: Position,
    /// Everything else.
    pub draft: Draft,
}

impl Deref for Event {
    type Target = Draft;
    fn deref(&self) -> &Draft {
        &self.draft
    }
}
