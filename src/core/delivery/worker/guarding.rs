//! The guard at work: what it follows, holds back, leaves out, and tells in sum.
//!
//! Guarantees: a held event stays in the ledger as queued until the digest that counts it has ended;
//! its own end is then "filtered". It decides nothing that `guard.rs` has not decided.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::super::Rules;
use super::super::batch::{Hold, Item, Origin, Streak};
use super::super::guard::{Digest, News, OWN, Ruling, Why};
use super::Worker;
use crate::core::event::{Draft, Event, EventId, Position};
use crate::core::log::{Item as Step, Limit};
use crate::core::route::{Choice, RouteId, Shaped};
use crate::core::sink::{Cause, Fault, Piece};

/// Events before the cursor that are looked at when a worker begins.
const RECALLED: u64 = 10_000;
/// How many of them at once.
const STEP: Limit = Limit { events: 1_000, bytes: 4 << 20 };

impl Worker {
    /// Remember what this sink was told before: the newest events below its place in the log.
    pub(super) async fn recall(&mut self) {
        let Some(mut guard) = self.guard.take() else { return };
        let (rules, log) = (self.rules(), self.books.engine.log.clone());
        let standing = self.books.reader.standing();
        let end = standing.next;
        // What came before it began was told to others only.
        let first = log.stats().oldest.max(standing.start);
        let mut next = Position(end.0.saturating_sub(RECALLED)).max(first);
        let now = (self.books.engine.clock)();
        while next < end {
            let page = match log.read(next, STEP).await {
                Ok(page) if page.next > next => page,
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(sink = %self.books.sink, %error, "cannot tell which incidents this sink knows; it counts from now");
                    break;
                }
            };
            for step in &page.items {
                if let Step::Event(event) = step
                    && event.position < end
                    && let Some(route) = rules.select.choose(event).route_for(&self.books.sink)
                {
                    guard.recall(News::of(event), route, now);
                }
            }
            next = page.next;
        }
        self.guard = Some(guard);
    }

    /// The route that gives `event` to this sink: by its own right, or because the incident is known.
    pub(super) fn route(&self, event: &Event, choice: &Choice) -> Option<RouteId> {
        let follows = || self.guard.as_ref()?.follows(event.finding(), event.id);
        choice.route_for(&self.books.sink).cloned().or_else(follows)
    }

    /// Take in an event of the log, unless the guard has it otherwise.
    pub(super) async fn admit(&mut self, event: Arc<Event>, route: RouteId, rules: &Rules) {
        let now = (self.books.engine.clock)();
        let ruling = match &mut self.guard {
            Some(guard) => guard.judge(News::of(&event), &route, now),
            None => Ruling::Tell,
        };
        match ruling {
            Ruling::Tell => self.take_in(event, route, Origin::Log, rules).await,
            Ruling::Hold(why) => self.hold_back(&event, why, Some(event.position)),
            Ruling::Leave => self.books.left_out(&event),
        }
    }

    /// The same for an event that the log could not take: its sender posts it again and again.
    pub(super) async fn admit_spilled(&mut self, event: Arc<Event>, route: RouteId, rules: &Rules) {
        let now = (self.books.engine.clock)();
        let ruling = match &mut self.guard {
            Some(guard) => guard.judge(News::of(&event), &route, now),
            None => Ruling::Tell,
        };
        match ruling {
            Ruling::Tell => self.take_in(event, route, Origin::Spill, rules).await,
            Ruling::Hold(why) => self.hold_back(&event, why, None),
            Ruling::Leave => {}
        }
    }

    fn hold_back(&mut self, event: &Event, why: Why, position: Option<Position>) {
        let Some(guard) = &mut self.guard else { return };
        guard.hold(why, position, News::of(event), Instant::now());
        self.books.held_back(event, why.as_str());
    }

    /// What has waited so long that it is no news any more.
    pub(super) fn hold_late(&mut self) {
        let Some(guard) = &self.guard else { return };
        let now = (self.books.engine.clock)();
        let is_late = |item: &&Item| {
            item.origin == Origin::Log
                && item.hold.is_free()
                && guard.is_late(item.event.received, item.event.finding(), now)
        };
        let late: Vec<u64> = self.queue.iter().filter(is_late).map(|item| item.seq).collect();
        for item in self.queue.take(&late) {
            self.hold_back(&item.event, Why::Stale, Some(item.event.position));
        }
    }

    /// Queue the digests that are due: while the destination is up, or when there is nothing else to
    /// try it with.
    pub(super) fn tell_held(&mut self, now: Instant) {
        let (leaving, clock) = (self.is_leaving(), (self.books.engine.clock)());
        loop {
            let idle = self.queue.len() == 0 && self.flights.is_empty();
            if !self.pace.is_up() && !idle {
                return;
            }
            let Some(guard) = &mut self.guard else { return };
            let Some(digest) = guard.digest(now, clock, leaving) else { return };
            self.queue_digest(digest, clock);
        }
    }

    fn queue_digest(&mut self, digest: Digest, now: crate::core::Timestamp) {
        let Digest { why, finding, body, positions, ids } = digest;
        let draft = Draft::new(EventId::fresh(), now, OWN.into(), Bytes::from(body));
        draft.decoded_by(|| finding);
        let event = Arc::new(Event { position: Position(0), draft });
        let shaped = Shaped::unshaped(event.clone());
        let origin = self.books.digest(positions, ids, event.id, why.as_str());
        let encoded = self.sink.encode(&shaped, self.limits.event_bytes);
        let (bytes, fault) = match encoded {
            Ok(bytes) => (bytes, None),
            Err(fault) => (event.body.clone(), Some(fault)),
        };
        self.seq += 1;
        let hold = match fault {
            None => Hold::Free,
            // Tried again as it is; a sink that cannot write a headline is a bug.
            Some(fault) => {
                let fault = Fault::new(Cause::Refused, fault.note);
                Hold::Condemned { since: Instant::now(), fault }
            }
        };
        self.queue.put(Item {
            seq: self.seq,
            piece: Piece::of(&event, bytes),
            event,
            shaped,
            route: why.as_str().into(),
            origin,
            read_at: Instant::now(),
            age_read: Duration::ZERO,
            attempts: 0,
            streak: Streak::default(),
            hold,
        });
    }
}
