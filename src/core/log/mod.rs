//! The log: where an event is safe before its sender hears "200".
//!
//! Guarantees: `append` returns after stable storage, and a group is stored whole or not at all;
//! positions are dense and never reused; each delivery reads at its own cursor, whose ledger
//! terms are stored with it in one write. Nothing above may notice which engine serves.
//! It is not a queue between ingress and workers: it does not know who reads it, or why.

mod answers;
mod commit;
mod cursor;
pub mod disk;
pub mod files;
mod free;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod index;
pub mod inspect;
mod marks;
pub mod memory;
pub mod portable;
mod reader;
mod record;
mod recover;
pub mod repair;
mod retain;
mod rewrite;
mod segment;
mod shadow;
mod shared;
pub mod sim;
mod start;
mod survey;
mod tail;
pub mod verify;
mod walk;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use self::disk::{Disk, RealDisk};
pub use self::files::{CommitFacts, FilesLog, Options};
pub use self::index::{Indexer, Mark};
pub use self::marks::CursorsFound;
pub use self::memory::MemoryLog;
pub use self::retain::WhenFull;
pub use self::start::RecoveryReport;
pub use self::survey::{Damage, Fault};
use super::Timestamp;
use super::event::{Draft, Event, EventId, Position};

/// A durable sequence of events with named readers.
#[async_trait]
pub trait Log: Send + Sync {
    /// Store `group`, whole or not at all, and return its positions once it is on stable storage.
    async fn append(&self, group: Vec<Draft>) -> Result<Range<Position>, Refusal>;

    /// The reader of `delivery`, at its stored cursor or, when it has none, at `from`; a new
    /// cursor is durable before this returns. One reader a name at a time; from now on the
    /// cursor pins the log against retention, until `detach` or `forget`.
    async fn open(&self, delivery: &str, from: Start) -> Result<Box<dyn Reader>, LogError>;

    /// Keep the cursor of `delivery` but let retention pass it.
    async fn detach(&self, delivery: &str) -> Result<(), LogError>;

    /// Delete the cursor of `delivery`.
    async fn forget(&self, delivery: &str) -> Result<(), LogError>;

    /// Events from `from` on, without a cursor and without waiting; an empty page at the end.
    async fn read(&self, from: Position, max: Limit) -> Result<Page, LogError>;

    /// The position of the first event received at or after `time`; the head if there is none.
    async fn since(&self, time: Timestamp) -> Result<Position, LogError>;

    /// The event with this id, if the log still holds it.
    async fn find(&self, id: EventId) -> Result<Option<Arc<Event>>, LogError>;

    /// The stretches of this log whose records may be about `numbers` under `label` (under any
    /// without one), as `Options::index` says; all of it where no index is kept.
    fn holding(&self, label: Option<&str>, numbers: &Range<u64>) -> Vec<Range<Position>> {
        let (_, _) = (label, numbers);
        let stats = self.stats();
        vec![stats.oldest..stats.head.next]
    }

    /// Follows the end of the log: changes after every commit.
    fn head(&self) -> watch::Receiver<Head>;

    /// Sizes, damage and the standing of every delivery, now.
    fn stats(&self) -> Stats;

    /// Answers as soon as whatever commits would take a request: with an error if it never will
    /// again, not at all while it hangs.
    async fn alive(&self) -> Result<(), Refusal>;

    /// Store all cursors, stop the engine's threads and release the folder; appends are refused
    /// from now on.
    async fn close(&self) -> Result<(), LogError>;
}

/// A delivery's place in the log.
#[async_trait]
pub trait Reader: Send {
    /// The next events in order; waits until there is at least one. Cancel-safe: nothing is
    /// skipped when the future is dropped. Gaps are already accounted for when they are returned.
    async fn next(&mut self, max: Limit) -> Result<Page, LogError>;

    /// `position` is settled. Any order; the engine derives the low-water mark. Repeats and
    /// positions below the mark are ignored.
    fn done(&mut self, position: Position, end: End);

    /// Take the event at `position`, beyond all that `next` has handed out, before its turn: `next`
    /// leaves it out, and `done` settles it like any other. So that a crash forgets none of them,
    /// only so many stretches of the log may be out of turn at a time.
    fn claim(&mut self, position: Position) -> Claim;

    /// Whether `position` was handed out, claimed or settled.
    fn is_taken(&self, position: Position) -> bool;

    /// The cursor's terms as of now.
    fn standing(&self) -> Standing;

    /// Store the cursor now.
    async fn flush(&mut self) -> Result<(), LogError>;
}

/// Whether an event may be taken before its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the claimer's to settle.
    Yes,
    /// It was handed out or settled before.
    Had,
    /// Too much is out of turn already: it waits for its turn, or until `next` has come further.
    Full,
}

/// Where a delivery without a cursor starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the head: only what comes from now on.
    Now,
    /// At the oldest event received within this time.
    Back(Duration),
    /// At the oldest event the log holds.
    Oldest,
    /// At this position, or the head if that is before it.
    At(Position),
}

/// The end of the log, as its followers see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The position that the next event will get.
    pub next: Position,
    /// One past the newest event whose finding is critical.
    pub urgent: Position,
}

/// How much of the log to return at once; at least one event is returned whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Most events.
    pub events: usize,
    /// Most bytes of bodies.
    pub bytes: usize,
}

/// A stretch of the log, in order.
#[derive(Debug, Default)]
pub struct Page {
    /// Events, and the gaps between them.
    pub items: Vec<Item>,
    /// Where to read on.
    pub next: Position,
}

/// One step of a page.
#[derive(Debug, Clone)]
pub enum Item {
    /// An event.
    Event(Arc<Event>),
    /// Positions that no longer have an event.
    Gap {
        /// Which.
        positions: Range<Position>,
        /// Why.
        loss: Loss,
    },
}

/// Why a position has no event any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Freed by `when_full` or retention before this delivery had it.
    Expired,
    /// Unreadable on disk; set aside.
    Damaged,
}

/// How an event ended for one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The destination has it.
    Delivered,
    /// It is in the dead letters.
    Dead,
    /// No route gives it to this sink.
    Filtered,
    /// Too old by a written rule.
    Expired,
    /// Unreadable on disk.
    Damaged,
}

impl End {
    /// All ends, for loops over the metric label.
    pub const ALL: [Self; 5] =
        [Self::Delivered, Self::Dead, Self::Filtered, Self::Expired, Self::Damaged];

    /// The word in metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Filtered => "filtered",
            Self::Expired => "expired",
            Self::Damaged => "damaged",
        }
    }
}

/// Counts per end since the delivery's start: the ledger's right-hand side without `queued`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // one field per `End`
pub struct Terms {
    pub delivered: u64,
    pub dead: u64,
    pub filtered: u64,
    pub expired: u64,
    pub damaged: u64,
}

impl Terms {
    /// The counter of `end`.
    pub fn of(&mut self, end: End) -> &mut u64 {
        match end {
            End::Delivered => &mut self.delivered,
            End::Dead => &mut self.dead,
            End::Filtered => &mut self.filtered,
            End::Expired => &mut self.expired,
            End::Damaged => &mut self.damaged,
        }
    }

    /// All settled positions.
    pub fn total(&self) -> u64 {
        self.delivered + self.dead + self.filtered + self.expired + self.damaged
    }
}

/// Where a delivery stands. The ledger: `head - start = terms.total() + queued`, where `queued`
/// is the worker's own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it began.
    pub start: Position,
    /// Everything below is settled and durable as such after the next flush.
    pub mark: Position,
    /// The next position the reader will hand out.
    pub next: Position,
    /// Positions from there on that were claimed, or are settled.
    pub ahead: u64,
    /// Ends of all settled positions since `start`, also of those above the mark.
    pub terms: Terms,
    /// Whether the cursor pins the log.
    pub pinning: bool,
}

/// What the log can tell about itself.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// The end.
    pub head: Head,
    /// The oldest position still held.
    pub oldest: Position,
    /// Bytes on disk, all segments.
    pub bytes: u64,
    /// Those of them that a pinning delivery has not passed: what cannot be freed without loss.
    pub held_bytes: u64,
    /// The limit that `bytes` may reach.
    pub max_bytes: u64,
    /// Bytes free on the disk when it was last looked at; 0 without a disk.
    pub free_bytes: u64,
    /// Bytes of the disk that the log leaves free; 0 without a disk.
    pub min_free: u64,
    /// What `held_bytes` can be at most: whole segments.
    pub capacity: u64,
    /// A sync failed: nothing is accepted until the process has been restarted.
    pub poisoned: bool,
    /// When it did so in the run before, if that could be stored.
    pub failed_before: Option<Timestamp>,
    /// Bytes set aside as unreadable since the log was made, as far as its files still show.
    pub damaged_bytes: u64,
    /// Standing of every delivery that has a cursor.
    pub deliveries: Vec<(String, Standing)>,
}

impl Stats {
    /// The lowest mark of the deliveries that pin the log, if there is any.
    fn pinned_at(deliveries: &[(String, Standing)]) -> Option<Position> {
        let pinning = deliveries.iter().filter(|(_, standing)| standing.pinning);
        pinning.map(|(_, standing)| standing.mark).min()
    }

    /// How full of undelivered events the log is, in per cent.
    pub fn fill(&self) -> u64 {
        self.held_bytes.saturating_mul(100) / self.capacity.max(1)
    }
}

/// Why an append was refused. Nothing of the group was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `max_bytes` or `min_free` is reached and nothing may be freed.
    #[error("the log is full ({0}): deliver or drop what is queued, or raise log.max_bytes")]
    Full(String),
    /// Too many bodies are waiting for the disk.
    #[error("too many events are waiting for the disk; try again")]
    Busy,
    /// A write or a sync failed.
    #[error("the log's disk failed ({0}); the gateway stops accepting and must be restarted")]
    Poisoned(String),
    /// The group cannot fit into a segment.
    #[error("{bytes} bytes are more than one segment of the log can hold ({limit} bytes)")]
    TooLarge {
        /// Size of the group on disk.
        bytes: usize,
        /// Largest group.
        limit: usize,
    },
    /// The log is closing.
    #[error("the gateway is shutting down")]
    Closed,
}

/// Why the log could not be opened, read or flushed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system said no.
    #[error("{what}: {source}")]
    Io {
        /// Operation and path.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Another process has the folder.
    #[error("{0} is in use by another siemgate: stop that one first, or set another log.dir")]
    Locked(String),
    /// Written by a later version of siemgate.
    #[error("{file} has format {found}; this siemgate reads up to {known}: use a newer siemgate")]
    Newer {
        /// Which file.
        file: String,
        /// Its format.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// A second reader for a name.
    #[error("delivery {0} already has a reader")]
    Taken(String),
    /// The log has been closed.
    #[error("the log is closed")]
    Closed,
}
