//! Settling: the one place where an event ends for a sink.
//!
//! Guarantees: cursor, counters, receipts and journal are told together, once; a dead letter is
//! durable before the mark may pass its event. It decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::batch::{Item, Origin};
use super::journal::Journal;
use super::seconds::Seconds;
use super::{Engine, Receipt};
use crate::core::Timestamp;
use crate::core::event::{Event, EventId, Position};
use crate::core::letters::{DeadNote, Fixed};
use crate::core::log::{End, Reader};
use crate::core::metrics::{SinkMetrics, Vitals};
use crate::core::sink::{Fault, Reply};

/// What a digest tells of.
pub(super) struct Told {
    positions: Vec<Position>,
    /// Those whose receipts are kept.
    ids: Vec<EventId>,
    why: &'static str,
    /// The digest's own id.
    by: EventId,
}

/// The books of one delivery.
pub(super) struct Books {
    pub engine: Arc<Engine>,
    pub sink: Arc<str>,
    pub reader: Box<dyn Reader>,
    pub metrics: Arc<SinkMetrics>,
    pub journal: Journal,
    /// Replays and fallbacks.
    pub seconds: Seconds,
    /// Expired events that the counters know of.
    pub lapsed: u64,
    /// The events that each digest under way tells of.
    pub digests: BTreeMap<u64, Told>,
    /// Digests so far.
    pub digested: u64,
    /// The programs that changed letters which are being replayed.
    pub fixes: BTreeMap<Position, Arc<str>>,
}

impl Books {
    pub async fn delivered(&mut self, item: &Item, reply: &Reply) {
        let now = (self.engine.clock)();
        self.journal.delivered(item, reply, now);
        self.receipt(item, Some(End::Delivered), None, Some(reply));
        match item.origin {
            Origin::Log => {
                self.metrics.delivered(item.event.received, now);
                self.end(item.event.position, End::Delivered);
            }
            Origin::Spill => {}
            Origin::Digest(number) => self.told(number),
            Origin::Again(id) | Origin::Instead(id) => {
                self.seconds.ended(id, item.event.position, End::Delivered);
            }
            Origin::Replay(letter) => self.close_letter(letter, now).await,
        }
        match item.origin {
            Origin::Again(_) | Origin::Replay(_) => self.metrics.additional("replayed"),
            Origin::Instead(_) => self.metrics.additional("fallback"),
            Origin::Log | Origin::Spill | Origin::Digest(_) => {}
        }
    }

    /// Settled without the destination: filtered or expired.
    pub fn end(&mut self, position: Position, end: End) {
        self.lapsed += u64::from(end == End::Expired);
        self.reader.done(position, end);
        self.metrics.settled(end, 1);
    }

    pub fn expired(&mut self, item: &Item) {
        self.receipt(item, Some(End::Expired), None, None);
        match item.origin {
            Origin::Log => self.end(item.event.position, End::Expired),
            Origin::Digest(number) => self.told(number),
            Origin::Again(id) | Origin::Instead(id) => {
                self.seconds.ended(id, item.event.position, End::Expired);
            }
            Origin::Spill | Origin::Replay(_) => {}
        }
    }

    /// Nobody is told of it: a drill.
    pub fn left_out(&mut self, event: &Event) {
        let note = format!(
            "simulated events do not reach people unless asked for: [sinks.{}.guard] simulated = true sends them",
            self.sink
        );
        self.metrics.held("simulated");
        self.journal.held(event, "simulated");
        self.engine.receipts.note(event.id, &self.sink, guarded(Some(End::Filtered), note));
        self.end(event.position, End::Filtered);
    }

    /// It waits to be told in sum.
    pub fn held_back(&mut self, event: &Event, why: &'static str) {
        self.metrics.held(why);
        self.journal.held(event, why);
        let note = format!("held back ({why}), to be told in one message with others");
        self.engine.receipts.note(event.id, &self.sink, guarded(None, note));
    }

    /// A digest called `by` is on its way.
    pub fn digest(
        &mut self,
        positions: Vec<Position>,
        ids: Vec<EventId>,
        by: EventId,
        why: &'static str,
    ) -> Origin {
        self.digested += 1;
        self.digests.insert(self.digested, Told { positions, ids, why, by });
        Origin::Digest(self.digested)
    }

    /// Events that digests under way tell of.
    pub fn in_digests(&self) -> u64 {
        self.digests.values().map(|told| told.positions.len() as u64).sum()
    }

    /// A digest has ended, and what it tells of with it.
    fn told(&mut self, number: u64) {
        let Some(told) = self.digests.remove(&number) else { return };
        for id in told.ids {
            let note = format!("held back ({}), and told in the message {}", told.why, told.by);
            self.engine.receipts.note(id, &self.sink, guarded(Some(End::Filtered), note));
        }
        for position in told.positions {
            self.end(position, End::Filtered);
        }
    }

    /// Bury the item; false when the letter could not be stored, and so the event must stay.
    pub async fn bury(&mut self, item: &Item, fault: &Fault) -> bool {
        let now = (self.engine.clock)();
        let note = DeadNote {
            sink: self.sink.clone(),
            route: item.route.clone(),
            cause: fault.cause,
            note: fault.note.clone(),
            reply: fault.reply.clone(),
            attempts: item.attempts,
            position: item.event.position,
            died: now,
            fixed: self.fixed(item),
        };
        if let Err(error) = self.engine.dead.keep(&item.event, &note).await {
            self.journal.letter_failed(&error);
            return false;
        }
        self.journal.dead(item, fault);
        self.receipt(item, Some(End::Dead), Some(fault), fault.reply.as_ref());
        match item.origin {
            Origin::Log => self.end(item.event.position, End::Dead),
            Origin::Spill => {}
            Origin::Digest(number) => self.told(number),
            Origin::Again(id) | Origin::Instead(id) => {
                self.seconds.ended(id, item.event.position, End::Dead);
            }
            // The new letter has taken the old one's place.
            Origin::Replay(letter) => self.close_letter(letter, now).await,
        }
        true
    }

    /// An attempt failed; the event stays.
    pub fn pending(&self, item: &Item, fault: &Fault) {
        self.receipt(item, None, Some(fault), fault.reply.as_ref());
    }

    fn receipt(&self, item: &Item, end: Option<End>, fault: Option<&Fault>, reply: Option<&Reply>) {
        let receipt = Receipt {
            end,
            attempts: item.attempts,
            cause: fault.map(|fault| fault.cause),
            note: match (fault, self.fixed(item)) {
                (Some(fault), _) => fault.note.clone(),
                (None, Some(fixed)) => format!("changed for this replay by {:?}", fixed.program),
                (None, None) => String::new(),
            },
            reply: reply.cloned(),
        };
        self.engine.receipts.note(item.event.id, &self.sink, receipt);
    }

    /// Publish what the worker holds, for the gauges.
    pub fn publish(&mut self, mut vitals: Vitals, in_flight: usize) {
        let standing = self.reader.standing();
        self.lapse(standing.terms.expired);
        vitals.start = standing.start;
        (vitals.next, vitals.ahead) = (standing.next, standing.ahead);
        vitals.settled = standing.terms.total();
        self.metrics.publish(vitals, in_flight);
    }
}

impl Books {
    /// Count what the log has freed. From the ledger and not from the pages, because a worker whose
    /// hands are full reads none, and that is exactly when events expire.
    fn lapse(&mut self, expired: u64) {
        let count = expired.saturating_sub(self.lapsed);
        if count > 0 {
            self.lapsed = expired;
            self.metrics.settled(End::Expired, count);
            tracing::error!(sink = %self.sink, count, "events expired undelivered: the log had no room for them any more");
        }
    }
}

impl Books {
    /// The letter was replayed. If that cannot be written down the letter stays open and may be
    /// replayed again, which loses nothing.
    async fn close_letter(&mut self, letter: Position, now: Timestamp) {
        let fix = self.fixes.remove(&letter);
        if let Err(error) = self.engine.dead.settle(letter, "replayed", fix, now).await {
            tracing::warn!(letter = letter.0, %error, "a replayed dead letter stays listed");
        }
    }

    /// How the letter that `item` replays was changed.
    fn fixed(&self, item: &Item) -> Option<Fixed> {
        let Origin::Replay(of) = item.origin else { return None };
        self.fixes.get(&of).map(|program| Fixed { of, program: program.clone() })
    }
}

fn guarded(end: Option<End>, note: String) -> Receipt {
    Receipt { end, attempts: 0, cause: None, note, reply: None }
}
