//! Letting batches go: what, when, and as what.
//!
//! Guarantees: nothing leaves that `Pace` does not permit; an attempt always comes back, with a
//! timeout or a panic read as a fault.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::future::FutureExt;
use tokio::time::Instant;

use super::super::batch::{BatchLimits, Ready};
use super::super::guard::Guard;
use super::super::pace::Permit;
use super::{CONDEMNED_FOR, Landed, Way, Worker};
use crate::core::finding::Severity;
use crate::core::sink::{Cause, Fault, Outcome, Piece};

impl Worker {
    /// Send what may be sent, and say when to look again.
    pub(super) fn dispatch(&mut self, now: Instant) -> Option<Instant> {
        if self.hands_over() {
            return None;
        }
        self.tell_held(now);
        loop {
            match self.pace.permit(now, self.flights.len()) {
                Permit::Send => {
                    if self.send_suspects(now) {
                        continue;
                    }
                    match self.queue.ready(&self.batch, now, self.is_leaving()) {
                        Ready::Batch(seqs) => self.launch(&seqs, Way::Normal, now),
                        Ready::At(at) => return self.wake(Some(at)),
                        Ready::Nothing => return self.wake(None),
                    }
                }
                Permit::Trial if self.is_leaving() => return None,
                Permit::Trial => {
                    if !self.launch_trial(self.batch, now) {
                        return self.wake(None);
                    }
                }
                Permit::Probe if self.is_leaving() => return None,
                Permit::Probe => self.launch_probe(),
                Permit::Until(at) => return self.wake(Some(at)),
                Permit::Landing => return self.wake(None),
            }
        }
    }

    /// The earliest of `at` and what time alone will change.
    pub(super) fn wake(&self, at: Option<Instant>) -> Option<Instant> {
        let suspects = self.suspects.wake().filter(|_| self.pace.is_up() && !self.suspect_flying);
        let condemned = self.condemned().map(|(since, _)| since + CONDEMNED_FOR).min();
        let ages = self.max_age.is_some() || self.guard.is_some();
        let aging = (ages && self.queue.len() > 0).then(|| Instant::now() + Duration::from_secs(1));
        let held = self.guard.as_ref().and_then(Guard::due).filter(|_| self.pace.is_up());
        let looking = self.books.seconds.watches().then(|| Instant::now() + Duration::from_secs(1));
        // Never at once: what could be done now has been done.
        let soonest = Instant::now() + Duration::from_millis(5);
        [
            at,
            suspects,
            condemned,
            aging,
            held,
            self.read_from,
            self.scout.again,
            self.seconds_from,
            looking,
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|at| at.max(soonest))
    }

    pub(super) fn send_suspects(&mut self, now: Instant) -> bool {
        if self.suspect_flying {
            return false;
        }
        let Some(group) = self.suspects.next(self.others.accepted, now) else { return false };
        let going = self.queue.of_group(&group, &self.batch);
        let staying = group.into_iter().filter(|seq| !going.contains(seq)).collect();
        self.suspects.postpone(staying, self.others.accepted, now);
        if !going.is_empty() {
            self.suspect_flying = true;
            self.launch(&going, Way::Suspect, now);
        }
        true
    }

    /// One batch to a destination that may be back; false when there is nothing to try with.
    pub(super) fn launch_trial(&mut self, limits: BatchLimits, now: Instant) -> bool {
        let seqs =
            self.queue.trial(&limits, |item| item.event.finding().severity == Severity::Critical);
        if seqs.is_empty() {
            // Only held items are left: with nothing else to try, they are tried.
            self.release_held();
            let seqs = self.queue.trial(&limits, |_| false);
            if seqs.is_empty() {
                return false;
            }
            self.launch(&seqs, Way::Trial, now);
            return true;
        }
        self.launch(&seqs, Way::Trial, now);
        true
    }

    pub(super) fn launch(&mut self, seqs: &[u64], way: Way, now: Instant) {
        let mut items = self.queue.take(seqs);
        items.iter_mut().for_each(|item| item.attempts += 1);
        self.queue.depart(&items);
        self.flying.change(&items, true);
        self.pace.leave(now, items.len());
        let (sink, timeout) = (self.sink.clone(), self.timeout);
        let clock = self.books.engine.clock;
        self.flights.push(
            async move {
                let pieces: Vec<Piece> = items.iter().map(|item| item.piece.clone()).collect();
                let sent = AssertUnwindSafe(sink.send(&pieces, clock())).catch_unwind();
                let outcome = match tokio::time::timeout(timeout, sent).await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) => Outcome::Failed(Fault::new(
                        Cause::Down,
                        "the sink failed on this batch (a bug: please report it)",
                    )),
                    Err(_) => Outcome::Failed(Fault::new(
                        Cause::Down,
                        format!("no answer within {} s", timeout.as_secs_f32()),
                    )),
                };
                Landed::Attempt { items, way, outcome, took: now.elapsed() }
            }
            .boxed(),
        );
    }

    pub(super) fn launch_probe(&mut self) {
        let (sink, timeout) = (self.sink.clone(), self.timeout);
        let clock = self.books.engine.clock;
        self.flights.push(
            async move {
                let probe = tokio::time::timeout(timeout, sink.probe(clock())).await;
                let late = || Fault::new(Cause::Down, "no answer to the probe in time");
                Landed::Probe(probe.unwrap_or_else(|_| Err(late())))
            }
            .boxed(),
        );
    }
}
