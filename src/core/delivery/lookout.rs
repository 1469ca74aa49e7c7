//! What lies ahead in the log: of each of the newest events whether it is critical, and which incident
//! it belongs to. The workers that are behind share it, so that each event is looked at once.
//!
//! Guarantees: what it covers is one stretch without holes, at most [`MOST`] events; four bytes each.
//! It is filled by whoever asks, first at the end of the log, where a fresh alarm is, then backwards,
//! if there is a critical event at all; while every worker keeps up it costs nothing. Two incidents may share a sign, which only brings an
//! event along that could have waited.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::core::event::{Event, Position};
use crate::core::finding::Severity;
use crate::core::log::{Item, Limit, Log, LogError};
use crate::core::route::Select;

/// Events that are covered at most: 16 MiB for all workers together.
const MOST: usize = 4 << 20;
/// Events that are looked at in one step.
const STEP: u64 = 1_000;
const PAGE: Limit = Limit { events: STEP as usize, bytes: 4 << 20 };
/// The bit of a sign that says "critical"; the others are the incident's.
const CRITICAL: u32 = 1;

/// See the module.
#[derive(Default)]
pub struct Lookout {
    signs: Mutex<Signs>,
    filling: tokio::sync::Mutex<()>,
}

/// What is known of a stretch of the log.
#[derive(Default)]
pub(super) struct Signs {
    from: Position,
    signs: VecDeque<u32>,
}

/// How far a look went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// All there is to see.
    All,
    /// A step of it: look again.
    Part,
    /// Somebody else is looking.
    Busy,
}

impl Lookout {
    /// One step towards covering `unread`: the past of it only where there is something `urgent`.
    pub(super) async fn look(
        &self,
        log: &dyn Log,
        select: &dyn Select,
        unread: Range<Position>,
        urgent: bool,
    ) -> Result<Seen, LogError> {
        let Ok(_filling) = self.filling.try_lock() else { return Ok(Seen::Busy) };
        let Some(step) = self.signs().step(&unread, urgent) else { return Ok(Seen::All) };
        let found = read(log, select, step.clone()).await?;
        self.signs().add(step.start, &found);
        Ok(Seen::Part)
    }

    /// What is known.
    pub(super) fn signs(&self) -> MutexGuard<'_, Signs> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signs of the events of `stretch`; nothing is known of what is lost.
async fn read(
    log: &dyn Log,
    select: &dyn Select,
    stretch: Range<Position>,
) -> Result<Vec<u32>, LogError> {
    let mut found = Vec::new();
    let mut next = stretch.start;
    while next < stretch.end {
        let page = log.read(next, PAGE).await?;
        for step in &page.items {
            if let Item::Event(event) = step
                && event.position < stretch.end
            {
                // Choosing decodes what was read from disk.
                select.choose(event);
                found.resize(at(stretch.start, event.position), 0);
                found.push(sign(event));
            }
        }
        next = page.next.max(next.plus(1));
    }
    found.resize(at(stretch.start, stretch.end), 0);
    Ok(found)
}

/// The sign of an event; 0 of one that is neither critical nor part of an incident.
pub(super) fn sign(event: &Event) -> u32 {
    let finding = event.finding();
    let critical = if finding.severity == Severity::Critical { CRITICAL } else { 0 };
    let incident = finding.incident.as_ref().map_or(0, |incident| {
        let mut hasher = DefaultHasher::new();
        incident.hash(&mut hasher);
        (hasher.finish() as u32 & !CRITICAL).max(CRITICAL << 1)
    });
    incident | critical
}

fn at(from: Position, position: Position) -> usize {
    usize::try_from(position.since(from)).unwrap_or(usize::MAX)
}

impl Signs {
    fn to(&self) -> Position {
        self.from.plus(self.signs.len() as u64)
    }

    /// What to look at next so that `unread` will be covered: what is new first, then the `past`.
    fn step(&mut self, unread: &Range<Position>, past: bool) -> Option<Range<Position>> {
        if self.signs.is_empty() || self.to() < unread.start || self.from > unread.end {
            let from = Position(unread.end.0.saturating_sub(STEP)).max(unread.start);
            *self = Self { from, signs: VecDeque::new() };
        }
        let to = self.to();
        if to < unread.end {
            return Some(to..to.plus(STEP).min(unread.end));
        }
        let start = Position(self.from.0.saturating_sub(STEP)).max(unread.start);
        let more = past && start < self.from && self.signs.len() + STEP as usize <= MOST;
        more.then_some(start..self.from)
    }

    /// `found` begins at `start`, and joins what is known at one of its ends.
    fn add(&mut self, start: Position, found: &[u32]) {
        if start < self.from {
            found.iter().rev().for_each(|sign| self.signs.push_front(*sign));
            self.from = start;
        } else {
            self.signs.extend(found);
        }
        while self.signs.len() > MOST {
            self.signs.pop_front();
            self.from = self.from.plus(1);
        }
    }

    /// What is covered of `of`.
    pub fn known(&self, of: &Range<Position>) -> Range<Position> {
        let end = of.end.min(self.to()).max(of.start);
        of.start.max(self.from).min(end)..end
    }

    /// The critical events in `of`, in order.
    pub fn critical(&self, of: Range<Position>) -> impl Iterator<Item = Position> + '_ {
        self.range(of).filter(|(_, sign)| sign & CRITICAL != 0).map(|(position, _)| position)
    }

    /// The events from `start` on that come before the one at `position` and are of its incident;
    /// `None` while not all of these are known.
    pub fn before(
        &self,
        position: Position,
        start: Position,
    ) -> Option<impl Iterator<Item = Position> + '_> {
        let incident = self.signs.get(at(self.from, position))? & !CRITICAL;
        let none = incident == 0;
        if !none && start < self.from {
            return None;
        }
        let of = if none { position..position } else { start..position };
        let same = self.range(of).filter(move |(_, sign)| sign & !CRITICAL == incident);
        Some(same.map(|(position, _)| position))
    }

    /// Whether it covers as much as it ever will.
    pub fn is_full(&self) -> bool {
        self.signs.len() + STEP as usize > MOST
    }

    fn range(&self, of: Range<Position>) -> impl Iterator<Item = (Position, u32)> + '_ {
        let known = self.known(&of);
        let signs = self.signs.range(at(self.from, known.start)..at(self.from, known.end));
        signs.enumerate().map(move |(nth, sign)| (known.start.plus(nth as u64), *sign))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a list of all signs: what is known is right, whatever is asked for in whatever
        /// order, and in the end all that was asked for is known.
        #[test]
        fn knows_what_is_there(
            all in prop::collection::vec(0u32..8, 1..5_000),
            asked in prop::collection::vec((0usize..5_000, 0usize..5_000), 1..6),
        ) {
            let mut signs = Signs::default();
            for (a, b) in asked {
                let (a, b) = (a.min(b).min(all.len()), a.max(b).min(all.len()));
                let unread = Position(a as u64)..Position(b as u64);
                while let Some(step) = signs.step(&unread, true) {
                    prop_assert!(step.end.since(step.start) <= STEP && step.start < step.end);
                    let found = &all[step.start.0 as usize..step.end.0 as usize];
                    signs.add(step.start, found);
                }
                prop_assert_eq!(signs.known(&unread), unread.clone());
                let naive = (a..b).filter(|at| all[*at] & CRITICAL != 0).map(|at| Position(at as u64));
                prop_assert_eq!(
                    signs.critical(unread.clone()).collect::<Vec<_>>(), naive.collect::<Vec<_>>()
                );
                if a < b {
                    let last = all[b - 1] & !CRITICAL;
                    let same = (a..b - 1).filter(|at| last != 0 && all[*at] & !CRITICAL == last);
                    let before = signs.before(Position(b as u64 - 1), unread.start).unwrap();
                    prop_assert_eq!(
                        before.collect::<Vec<_>>(),
                        same.map(|at| Position(at as u64)).collect::<Vec<_>>()
                    );
                }
            }
        }
    }

    #[test]
    fn the_end_is_known_first_and_the_past_is_not_guessed() {
        let mut signs = Signs::default();
        let unread = Position(0)..Position(10_000);
        let step = signs.step(&unread, false).unwrap();
        assert_eq!(step, Position(9_000)..Position(10_000));
        signs.add(step.start, &vec![3; 1_000]);
        assert_eq!(signs.step(&unread, false), None);
        assert_eq!(signs.step(&unread, true), Some(Position(8_000)..Position(9_000)));
        assert!(signs.before(Position(9_999), unread.start).is_none());
        assert_eq!(signs.before(Position(9_999), Position(9_998)).unwrap().count(), 1);
        assert_eq!(signs.critical(unread).count(), 1_000);
    }
}
