//! What receipts say of one event, step by step, and of a page of events, in a word.
//!
//! Guarantees: steps are in the order in which they happened; of a very long history the beginning
//! and the end are kept, and what is left out is counted. It knows receipts only: what is not on
//! disk yet, or not any more, is for whoever asks to tell.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use super::{Attempt, Ended, LETTERS, Reading, Receipt, Receipts, What};
use crate::core::Timestamp;
use crate::core::event::Position;
use crate::core::log::{End, LogError};
use crate::core::sink::{Cause, Reply};

/// Steps of one event at one sink that are told: so many of the first, and of the last.
const FIRST: usize = 50;
const LAST: usize = 150;
/// Dead letters of one event that are followed.
const LETTERS_FOLLOWED: usize = 20;

/// What became of one event, by sink.
#[derive(Debug, Default)]
pub struct Timeline {
    /// By sink.
    pub sinks: BTreeMap<Arc<str>, AtSink>,
    /// How much was read for it.
    pub reading: Reading,
}

/// One event at one sink.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AtSink {
    /// The route that gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Arc<str>>,
    /// How it ended last, as far as receipts tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// The dead letter that it became last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub letter: Option<Position>,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// Steps between the first and the last that are not told.
    pub left_out: u64,
    #[serde(skip)]
    attempts: u64,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// When it had happened.
    pub at: Timestamp,
    /// Fingerprint of the configuration that was in force.
    pub config: Arc<str>,
    /// The number of the attempt, from 1; none where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// The dead letter that was tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<Position>,
    /// Events that went with it, itself included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// Milliseconds until the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// How the event ended by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What to know about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// What the destination said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// The dead letter that the event became.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub letter: Option<Position>,
}

/// Under which number an attempt or an end names the event.
#[derive(Clone, Copy)]
enum Name {
    Position(u64),
    Letter(u64),
}

impl Timeline {
    /// Everything that receipts tell of the event at `position`.
    pub async fn of(receipts: &Receipts, position: Position) -> Result<Self, LogError> {
        let mut all = Self::default();
        let (number, mut followed) = (position.0, BTreeSet::new());
        let numbers = number..number.saturating_add(1);
        all.reading = receipts
            .about(None, numbers, |receipt| all.take(receipt, Name::Position(number)))
            .await?;
        loop {
            let next = all.letters().find(|letter| !followed.contains(letter));
            let Some(letter) = next else { break };
            if followed.len() == LETTERS_FOLLOWED {
                break;
            }
            followed.insert(letter);
            let numbers = letter.0..letter.0.saturating_add(1);
            let of_letter = |receipt| all.take(receipt, Name::Letter(letter.0));
            receipts.about(Some(LETTERS), numbers, of_letter).await?;
        }
        Ok(all)
    }

    fn letters(&self) -> impl Iterator<Item = Position> + '_ {
        let steps = self.sinks.values().flat_map(|at| &at.steps);
        steps.filter_map(|step| step.letter)
    }

    fn take(&mut self, receipt: Receipt, name: Name) {
        let Receipt { sink, at, entry } = receipt;
        match entry.what {
            What::Attempt(attempt) if name.is_tried(&attempt) => {
                self.sinks.entry(sink).or_default().tried(at, entry.config, attempt, name);
            }
            What::Ended(ended) if name.has_ended(&ended) => {
                self.sinks.entry(sink).or_default().ended(at, entry.config, ended);
            }
            _ => {}
        }
    }
}

impl Name {
    fn is_tried(self, attempt: &Attempt) -> bool {
        match self {
            Self::Position(number) => attempt.route_of(number).is_some(),
            Self::Letter(number) => attempt.letters.has(number),
        }
    }

    fn has_ended(self, ended: &Ended) -> bool {
        match self {
            Self::Position(number) => ended.positions.has(number),
            Self::Letter(number) => ended.letters.has(number),
        }
    }

    fn is_refused(self, fault: &super::Refused) -> bool {
        match self {
            Self::Position(number) => fault.positions.has(number),
            Self::Letter(number) => fault.letters.has(number),
        }
    }
}

impl AtSink {
    fn tried(&mut self, at: Timestamp, config: Arc<str>, attempt: Attempt, name: Name) {
        let batch = Some(attempt.size());
        let ms = Some(attempt.us as f64 / 1_000.0);
        if let Name::Position(number) = name {
            self.route = attempt.route_of(number).cloned().or(self.route.take());
        }
        let Attempt { cause, note, reply, faults, .. } = attempt;
        let fault = faults.into_iter().find(|fault| name.is_refused(fault));
        let (cause, note, reply) = match fault {
            Some(fault) => (Some(fault.cause), fault.note, fault.reply.or(reply)),
            None => (cause, note, reply),
        };
        self.attempts += 1;
        let replay = match name {
            Name::Position(_) => None,
            Name::Letter(number) => Some(Position(number)),
        };
        let end = cause.is_none().then_some(End::Delivered);
        self.end = end.or(self.end);
        let attempt = Some(self.attempts);
        let letter = None;
        self.add(Step { at, config, attempt, replay, batch, ms, end, cause, note, reply, letter });
    }

    fn ended(&mut self, at: Timestamp, config: Arc<str>, ended: Ended) {
        let Ended { end, note, letter, .. } = ended;
        (self.end, self.letter) = (Some(end), letter.or(self.letter));
        let (attempt, replay, batch, ms, cause, reply) = (None, None, None, None, None, None);
        let end = Some(end);
        self.add(Step { at, config, attempt, replay, batch, ms, end, cause, note, reply, letter });
    }

    fn add(&mut self, step: Step) {
        self.steps.push(step);
        if self.steps.len() > FIRST + LAST {
            self.steps.remove(FIRST);
            self.left_out += 1;
        }
    }
}

/// How the events of a page stand, as far as receipts tell.
#[derive(Debug, Default)]
pub struct Ends(HashMap<Arc<str>, BTreeMap<u64, Option<End>>>);

impl Ends {
    /// Of the events at `positions`.
    pub async fn of(receipts: &Receipts, positions: Range<Position>) -> Result<Self, LogError> {
        let (mut ends, range) = (Self::default(), positions.start.0..positions.end.0);
        receipts.about(None, range.clone(), |receipt| ends.take(&receipt, &range)).await?;
        Ok(ends)
    }

    fn take(&mut self, receipt: &Receipt, range: &Range<u64>) {
        let of = self.0.entry(receipt.sink.clone()).or_default();
        match &receipt.entry.what {
            What::Attempt(attempt) => {
                let tried = attempt.events.iter().flat_map(|routed| routed.positions.numbers());
                tried.filter(|at| range.contains(at)).for_each(|at| {
                    of.entry(at).or_default();
                });
                for at in attempt.taken().filter(|at| range.contains(at)) {
                    of.insert(at, Some(End::Delivered));
                }
            }
            What::Ended(ended) => {
                for stretch in ended.positions.iter() {
                    for at in stretch.start.max(range.start)..stretch.end.min(range.end) {
                        of.insert(at, Some(ended.end));
                    }
                }
            }
        }
    }

    /// How the event ended at `sink`; `Some(None)` when it was tried only.
    pub fn end(&self, sink: &str, position: Position) -> Option<Option<End>> {
        self.0.get(sink)?.get(&position.0).copied()
    }

    /// The sinks that have a receipt of the event.
    pub fn sinks(&self, position: Position) -> impl Iterator<Item = &Arc<str>> {
        let named = self.0.iter().filter(move |(_, of)| of.contains_key(&position.0));
        named.map(|(sink, _)| sink)
    }
}
