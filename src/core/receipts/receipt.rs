//! One receipt: what was tried for which events, and what the destination said; or how events ended
//! without an attempt.
//!
//! Guarantees: names events by position and never quotes a body; what a destination said is what
//! its sink made of it, without secrets, and shortened once more; its size is bounded by the size
//! of a batch.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Stretches;
use crate::core::Timestamp;
use crate::core::event::{Draft, Position};
use crate::core::log::{End, Mark};
use crate::core::sink::{Cause, Reply};

/// Most bytes of a note.
const NOTE: usize = 300;
/// Different reasons that one partial reply is told to have had.
const REASONS: usize = 20;
/// The label under which dead letters that were tried again are found. No sink can have this name.
pub const LETTERS: &str = ":letters";

/// A receipt as it is read.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The sink.
    pub sink: Arc<str>,
    /// When the attempt had come back, or the event had ended.
    pub at: Timestamp,
    /// The rest.
    pub entry: Entry,
}

/// What is in a receipt's body, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Fingerprint of the configuration that was in force.
    pub config: Arc<str>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// One request, or whatever the sink makes of a batch.
    Attempt(Attempt),
    /// Events ended without one, or after it.
    Ended(Ended),
}

/// One batch that was sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its events of the log, by the route that gave them to the sink.
    pub events: Vec<Routed>,
    /// Dead letters that it tried again.
    #[serde(default, skip_serializing_if = "Stretches::is_empty")]
    pub letters: Stretches,
    /// How many of its events are in no log: messages in sum, and what a failed log could not take.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub others: u64,
    /// Which of its events are drills or tests.
    #[serde(default, skip_serializing_if = "Stretches::is_empty")]
    pub drills: Stretches,
    /// Why it failed, if it did as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What to know about the failure.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Microseconds until the answer.
    pub us: u64,
    /// What the destination said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// Those that were not taken while the others were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Refused>,
}

/// The events that one route gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Routed {
    /// Its name.
    pub route: Arc<str>,
    /// Positions.
    pub positions: Stretches,
}

/// The part of a batch that was not taken for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// Positions.
    #[serde(default, skip_serializing_if = "Stretches::is_empty")]
    pub positions: Stretches,
    /// Numbers of dead letters.
    #[serde(default, skip_serializing_if = "Stretches::is_empty")]
    pub letters: Stretches,
    /// Why.
    pub cause: Cause,
    /// What to know about it.
    pub note: String,
    /// What the destination said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
}

/// Events that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Positions.
    #[serde(default, skip_serializing_if = "Stretches::is_empty")]
    pub positions: Stretches,
    /// The dead letters that were tried again and ended so.
    #[serde(default, skip_serializing_if = "Stretches::is_empty")]
    pub letters: Stretches,
    /// How.
    pub end: End,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The dead letter that the event became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<Position>,
}

impl Attempt {
    /// A position of the batch.
    pub fn add(&mut self, route: &Arc<str>, position: Position) {
        match self.events.iter_mut().find(|routed| routed.route == *route) {
            Some(routed) => routed.positions.add(position.0),
            None => {
                let positions = [position.0].into_iter().collect();
                self.events.push(Routed { route: route.clone(), positions });
            }
        }
    }

    /// The batch as a whole failed, or said this.
    pub fn said(&mut self, cause: Option<Cause>, note: &str, reply: Option<&Reply>) {
        (self.cause, self.note) = (cause, short(note, NOTE));
        self.reply = reply.map(bounded);
    }

    /// The one that was not taken for this reason; the last is for all others beyond a limit.
    pub fn refused(&mut self, cause: Cause, note: &str, reply: Option<&Reply>) -> &mut Refused {
        let note = short(note, NOTE);
        let known = self.faults.iter().position(|fault| fault.cause == cause && fault.note == note);
        let at = match known {
            Some(at) => at,
            None if self.faults.len() >= REASONS => {
                let others = "not taken either, for other reasons".to_owned();
                match self.faults.iter().position(|f| f.cause == cause && f.note == others) {
                    Some(at) => at,
                    None => self.because(cause, others, None),
                }
            }
            None => self.because(cause, note, reply),
        };
        &mut self.faults[at]
    }

    fn because(&mut self, cause: Cause, note: String, reply: Option<&Reply>) -> usize {
        self.faults.push(Refused {
            positions: Stretches::default(),
            letters: Stretches::default(),
            cause,
            note,
            reply: reply.map(bounded),
        });
        self.faults.len() - 1
    }

    /// The route that gave the event at `position`, if it was in the batch.
    pub fn route_of(&self, position: u64) -> Option<&Arc<str>> {
        let routed = self.events.iter().find(|routed| routed.positions.has(position));
        routed.map(|routed| &routed.route)
    }

    /// How many events went with it.
    pub fn size(&self) -> u64 {
        let logged: u64 = self.events.iter().map(|routed| routed.positions.count()).sum();
        logged + self.letters.count() + self.others
    }

    /// Positions that the destination took.
    pub fn taken(&self) -> impl Iterator<Item = u64> + '_ {
        let all = self.events.iter().filter(|_| self.cause.is_none());
        let refused = |at: &u64| !self.faults.iter().any(|fault| fault.positions.has(*at));
        all.flat_map(|routed| routed.positions.numbers()).filter(refused)
    }
}

impl What {
    /// What the index of the log is told.
    fn marks(&self, sink: &Arc<str>) -> Vec<Mark> {
        let (mut positions, letters) = match self {
            Self::Attempt(attempt) => {
                let hulls = attempt.events.iter().map(|routed| routed.positions.hull());
                (hulls.collect::<Vec<_>>(), attempt.letters.hull())
            }
            Self::Ended(ended) => (vec![ended.positions.hull()], ended.letters.hull()),
        };
        positions.retain(|hull| !hull.is_empty());
        let of_sink = positions.into_iter().map(|numbers| Mark { label: sink.clone(), numbers });
        let letters = Some(letters).filter(|hull| !hull.is_empty());
        let of_letters = letters.map(|numbers| Mark { label: LETTERS.into(), numbers });
        of_sink.chain(of_letters).collect()
    }
}

impl Receipt {
    /// The receipt in a record; `None` if this version cannot read it.
    pub fn of(record: &Draft) -> Option<Self> {
        let entry = serde_json::from_slice(&record.body).ok()?;
        Some(Self { sink: record.source.clone(), at: record.received, entry })
    }

    /// What the index of the log is told of a record.
    pub fn marks(record: &Draft) -> Vec<Mark> {
        Self::of(record).map_or_else(Vec::new, |receipt| receipt.entry.what.marks(&receipt.sink))
    }
}

/// A reply within its bounds, whatever sink it is from.
fn bounded(reply: &Reply) -> Reply {
    Reply {
        id: reply.id.as_ref().map(|id| short(id, 200)),
        excerpt: short(&reply.excerpt, Reply::EXCERPT),
        ..reply.clone()
    }
}

/// The beginning of `text`, at most so many bytes.
pub(super) fn short(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
