//! What waits for a sink, and which of it goes together.
//!
//! Guarantees: two events of one incident are never in flight together, and leave in the order of
//! the log, whatever is held back or retried (an `ordered` sink may take them in one batch, in
//! order); critical events, with what their incidents still lack before them, leave before all others
//! (but for an `ordered` sink, which writes down what happened in order); a batch keeps its limits in events and encoded bytes. Pure: it neither sends nor counts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::core::event::{Event, Position};
use crate::core::finding::Severity;
use crate::core::route::{RouteId, Shaped};
use crate::core::sink::{Cause, Fault, Piece};

/// Equal verdicts on one batch before a different event is tried.
pub(super) const ODD_AFTER: u32 = 3;

/// One event on its way to the sink.
#[derive(Debug)]
pub(super) struct Item {
    /// Order of arrival at this worker.
    pub seq: u64,
    pub event: Arc<Event>,
    pub shaped: Shaped,
    pub route: RouteId,
    pub piece: Piece,
    pub origin: Origin,
    pub read_at: Instant,
    /// How old it was then, by the clock.
    pub age_read: Duration,
    pub attempts: u32,
    pub streak: Streak,
    pub hold: Hold,
}

impl Item {
    /// A replay: it goes after all that is new.
    pub fn is_again(&self) -> bool {
        matches!(self.origin, Origin::Again(_))
    }

    /// It is late for this sink when it waits: neither a replay nor another sink's.
    pub fn is_own(&self) -> bool {
        matches!(self.origin, Origin::Log | Origin::Spill | Origin::Digest(_))
    }

    /// Critical, and not wanted again by somebody who can wait.
    pub fn is_critical(&self) -> bool {
        !self.is_again() && self.event.finding().severity == Severity::Critical
    }
}

/// Where an item came from, and so whom to tell of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The log, at the event's own position.
    Log,
    /// A dead letter that is being replayed; outside the ledger.
    Replay(Position),
    /// An event that the log could not take; outside the ledger.
    Spill,
    /// A replay of the log, by the number of the second delivery; outside the ledger.
    Again(u64),
    /// In the stead of another sink, by the number of the second delivery; outside the ledger.
    Instead(u64),
    /// A digest of events that are held back, by its number: they end with it.
    Digest(u64),
}

/// Equal Setup or Down verdicts in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streak {
    verdict: Option<(Cause, Option<u16>)>,
    pub count: u32,
}

impl Streak {
    /// One more verdict; a different one starts over.
    pub fn add(&mut self, fault: &Fault) {
        let verdict = (fault.cause, fault.reply.as_ref().and_then(|reply| reply.status));
        self.count = if self.verdict == Some(verdict) { self.count + 1 } else { 1 };
        self.verdict = Some(verdict);
    }
}

/// Why an item does not go with the others.
#[derive(Clone, Debug)]
pub(super) enum Hold {
    Free,
    /// It, or one it travelled with, was not taken while others were: goes only with its group.
    Suspect(Suspicion),
    /// Refused alone; waits for proof that the destination takes anything at all.
    Condemned {
        since: Instant,
        fault: Fault,
    },
}

/// What speaks against a suspect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Suspicion {
    /// Times it failed alone while others were accepted and none failed.
    pub strikes: u32,
    /// What others had met when it last failed.
    pub then: Others,
}

/// How the other events of this sink fare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Others {
    /// Events the destination has taken.
    pub accepted: u64,
    /// Requests that failed for a reason of the destination's.
    pub failed: u64,
}

impl Suspicion {
    /// It failed alone, again. Only a time in which others were accepted and none failed counts
    /// against it: a flapping destination looks like an odd event otherwise.
    pub fn failed_alone(&mut self, now: Others) {
        if now.failed > self.then.failed {
            self.strikes = 0;
        } else if now.accepted > self.then.accepted {
            self.strikes += 1;
        }
        self.then = now;
    }
}

impl Hold {
    pub fn is_free(&self) -> bool {
        matches!(self, Self::Free)
    }
}

/// The limits of one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchLimits {
    pub events: usize,
    pub bytes: usize,
    pub wait: Duration,
    pub ordered: bool,
}

/// What can leave now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// These, in this order.
    Batch(Vec<u64>),
    /// Nothing before this time (a batch is still filling).
    At(Instant),
    /// Nothing until something changes.
    Nothing,
}

/// The items of one sink that are not in flight, in order, and the incidents that are.
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: BTreeMap<u64, Item>,
    /// The critical ones.
    critical: BTreeSet<u64>,
    flying: HashMap<String, u32>,
    bytes: usize,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn iter(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    pub fn get_mut(&mut self, seq: u64) -> Option<&mut Item> {
        self.items.get_mut(&seq)
    }

    /// Add an item, or put one back that has landed.
    pub fn put(&mut self, item: Item) {
        self.bytes += item.piece.bytes.len();
        if item.is_critical() {
            self.critical.insert(item.seq);
        }
        self.items.insert(item.seq, item);
    }

    /// Take items out for good or for flight.
    pub fn take(&mut self, seqs: &[u64]) -> Vec<Item> {
        let taken: Vec<Item> = seqs.iter().filter_map(|seq| self.items.remove(seq)).collect();
        seqs.iter().for_each(|seq| {
            self.critical.remove(seq);
        });
        self.bytes -= taken.iter().map(|item| item.piece.bytes.len()).sum::<usize>();
        taken
    }

    /// These items are now in flight.
    pub fn depart(&mut self, items: &[Item]) {
        for incident in items.iter().filter_map(|item| item.piece.incident.as_ref()) {
            *self.flying.entry(incident.clone()).or_default() += 1;
        }
    }

    /// These items are back, whatever became of them.
    pub fn arrive(&mut self, items: &[Item]) {
        for incident in items.iter().filter_map(|item| item.piece.incident.as_ref()) {
            if let Some(count) = self.flying.get_mut(incident) {
                *count -= 1;
                if *count == 0 {
                    self.flying.remove(incident);
                }
            }
        }
    }

    /// The next ordinary batch.
    pub fn ready(&self, limits: &BatchLimits, now: Instant, hurry: bool) -> Ready {
        let (picked, full) = self.select(limits, |item| item.hold.is_free());
        let Some(oldest) =
            picked.iter().filter_map(|seq| self.items.get(seq)).map(|i| i.read_at).min()
        else {
            return Ready::Nothing;
        };
        let leaves = oldest + limits.wait;
        if full || hurry || leaves <= now { Ready::Batch(picked) } else { Ready::At(leaves) }
    }

    /// What to send to a destination that may be back: the same batch, until it has met the same
    /// verdict [`ODD_AFTER`] times; then a single different event, the least tried, critical first.
    pub fn trial(&self, limits: &BatchLimits, is_critical: impl Fn(&Item) -> bool) -> Vec<u64> {
        let one = BatchLimits { events: usize::MAX, bytes: usize::MAX, ..*limits };
        // Without `ordered`, at most one event of an incident is a candidate: its first.
        let one = BatchLimits { ordered: false, ..one };
        let (candidates, _) = self.select(&one, |item| item.hold.is_free());
        let of = |seq: &u64| self.items.get(seq);
        if candidates.iter().filter_map(of).all(|item| item.streak.count < ODD_AFTER) {
            return self.select(limits, |item| item.hold.is_free()).0;
        }
        let least = candidates
            .iter()
            .filter_map(of)
            .min_by_key(|item| (item.streak.count, !is_critical(item), item.seq));
        least.map(|item| vec![item.seq]).unwrap_or_default()
    }

    /// Those of a group of suspects that may leave now, in order.
    pub fn of_group(&self, group: &[u64], limits: &BatchLimits) -> Vec<u64> {
        self.select(limits, |item| group.binary_search(&item.seq).is_ok()).0
    }

    /// All items: the critical ones first, each after those of its incident that came before it;
    /// replays last.
    fn in_order(&self, limits: &BatchLimits) -> impl Iterator<Item = &Item> {
        let first = if limits.ordered { BTreeSet::new() } else { self.urgent() };
        let urgent: Vec<&Item> = first.iter().filter_map(|seq| self.items.get(seq)).collect();
        let new =
            self.items.values().filter(move |item| !item.is_again() && !first.contains(&item.seq));
        urgent.into_iter().chain(new).chain(self.items.values().filter(|item| item.is_again()))
    }

    /// Critical items, and those of their incidents before them.
    fn urgent(&self) -> BTreeSet<u64> {
        if self.critical.is_empty() {
            return BTreeSet::new();
        }
        let critical = self.critical.iter().filter_map(|seq| self.items.get(seq));
        let incidents: HashMap<&str, u64> =
            critical.filter_map(|item| Some((item.piece.incident.as_deref()?, item.seq))).collect();
        let before = |item: &&Item| {
            let incident = item.piece.incident.as_deref().filter(|_| !item.is_again());
            incident.is_some_and(|i| incidents.get(i).is_some_and(|last| item.seq < *last))
        };
        let before = self.items.values().filter(before).map(|item| item.seq);
        before.chain(self.critical.iter().copied()).collect()
    }

    /// Eligible items in order, within the limits, and whether a limit was reached.
    fn select(&self, limits: &BatchLimits, eligible: impl Fn(&Item) -> bool) -> (Vec<u64>, bool) {
        let mut blocked: HashSet<&str> = self.flying.keys().map(String::as_str).collect();
        let (mut picked, mut bytes) = (Vec::new(), 0);
        for item in self.in_order(limits) {
            let incident = item.piece.incident.as_deref();
            let goes = incident.is_none_or(|i| !blocked.contains(i)) && eligible(item);
            if goes {
                let size = item.piece.bytes.len();
                if picked.len() >= limits.events
                    || (!picked.is_empty() && bytes + size > limits.bytes)
                {
                    return (picked, true);
                }
                bytes += size;
                picked.push(item.seq);
            }
            if let Some(incident) = incident.filter(|_| !(goes && limits.ordered)) {
                blocked.insert(incident);
            }
        }
        let full = picked.len() >= limits.events || bytes >= limits.bytes;
        (picked, full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Timestamp;
    use crate::core::event::{Draft, EventId};
    use crate::core::finding::Finding;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn critical(seq: u64, incident: Option<u8>) -> Item {
        let item = item(seq, incident, 10);
        item.event.decoded_by(|| Finding { severity: Severity::Critical, ..Finding::default() });
        item
    }

    fn item(seq: u64, incident: Option<u8>, bytes: usize) -> Item {
        let draft = Draft::new(EventId::fresh(), Timestamp::UNIX_EPOCH, "s".into(), Bytes::new());
        let event = Arc::new(Event { position: Position(seq), draft });
        let body = Bytes::from(vec![b'x'; bytes]);
        Item {
            seq,
            shaped: Shaped::unshaped(event.clone()),
            route: "r".into(),
            piece: Piece { incident: incident.map(|i| i.to_string()), ..Piece::of(&event, body) },
            event,
            origin: Origin::Log,
            read_at: Instant::now(),
            age_read: Duration::ZERO,
            attempts: 0,
            streak: Streak::default(),
            hold: Hold::Free,
        }
    }

    fn limits(ordered: bool) -> BatchLimits {
        BatchLimits { events: 4, bytes: 100, wait: Duration::ZERO, ordered }
    }

    #[test]
    fn a_lone_event_leaves_at_once_and_a_batch_may_wait() {
        let mut queue = Queue::default();
        queue.put(item(1, None, 10));
        assert_eq!(queue.ready(&limits(false), Instant::now(), false), Ready::Batch(vec![1]));
        let patient = BatchLimits { wait: Duration::from_secs(5), ..limits(false) };
        assert!(matches!(queue.ready(&patient, Instant::now(), false), Ready::At(_)));
        (2..=4).for_each(|seq| queue.put(item(seq, None, 10)));
        assert_eq!(queue.ready(&patient, Instant::now(), false), Ready::Batch(vec![1, 2, 3, 4]));
    }

    #[test]
    fn critical_events_leave_first_with_what_their_incidents_lack() {
        let mut queue = Queue::default();
        (1..=9).for_each(|seq| queue.put(item(seq, (seq == 7).then_some(1), 10)));
        queue.put(critical(10, Some(1)));
        queue.put(item(11, Some(1), 10));
        queue.put(critical(12, None));
        let ready = |queue: &Queue, ordered| queue.ready(&limits(ordered), Instant::now(), false);
        assert_eq!(ready(&queue, false), Ready::Batch(vec![7, 12, 1, 2]));
        assert_eq!(ready(&queue, true), Ready::Batch(vec![1, 2, 3, 4]));
        queue.take(&[7]);
        assert_eq!(ready(&queue, false), Ready::Batch(vec![10, 12, 1, 2]));
    }

    #[test]
    fn after_three_equal_verdicts_a_different_event_is_tried() {
        let mut queue = Queue::default();
        (1..=2).for_each(|seq| queue.put(item(seq, None, 60)));
        assert_eq!(queue.trial(&limits(false), |_| false), [1]);
        let fault = Fault::new(Cause::Setup, "403");
        (0..ODD_AFTER).for_each(|_| queue.get_mut(1).unwrap().streak.add(&fault));
        assert_eq!(queue.trial(&limits(false), |_| false), [2]);
    }

    #[test]
    fn only_quiet_times_count_against_a_suspect() {
        let mut suspicion = Suspicion::default();
        suspicion.failed_alone(Others { accepted: 1, failed: 0 });
        suspicion.failed_alone(Others { accepted: 1, failed: 0 });
        suspicion.failed_alone(Others { accepted: 5, failed: 0 });
        assert_eq!(suspicion.strikes, 2);
        suspicion.failed_alone(Others { accepted: 9, failed: 1 });
        assert_eq!(suspicion.strikes, 0);
    }

    proptest! {
        /// Whatever departs and lands, incidents go one at a time and in order.
        #[test]
        fn incidents_stay_in_order(
            incidents in prop::collection::vec((prop::option::of(0u8..4), any::<bool>()), 1..40),
            landings in prop::collection::vec((0usize..8, any::<bool>()), 1..200),
            ordered: bool,
        ) {
            let mut queue = Queue::default();
            for (seq, (incident, urgent)) in incidents.iter().enumerate() {
                let seq = seq as u64;
                queue.put(if *urgent { critical(seq, *incident) } else { item(seq, *incident, 10) });
            }
            let mut flying: Vec<Vec<Item>> = Vec::new();
            let mut settled: HashMap<String, u64> = HashMap::new();
            for (which, success) in landings {
                if let Ready::Batch(seqs) = queue.ready(&limits(ordered), Instant::now(), false) {
                    let batch = queue.take(&seqs);
                    queue.depart(&batch);
                    prop_assert!(batch.len() <= 4);
                    flying.push(batch);
                }
                let mut seen = HashSet::new();
                for (index, batch) in flying.iter().enumerate() {
                    for incident in batch.iter().filter_map(|i| i.piece.incident.clone()) {
                        let fresh = seen.insert((incident.clone(), index * usize::from(ordered)));
                        prop_assert!(fresh || ordered, "two of one incident in flight");
                    }
                }
                if flying.is_empty() { continue; }
                let batch = flying.remove(which % flying.len());
                queue.arrive(&batch);
                for item in batch {
                    if !success { queue.put(item); continue; }
                    if let Some(incident) = item.piece.incident.clone() {
                        let last = settled.insert(incident, item.seq);
                        prop_assert!(last.is_none_or(|last| last < item.seq), "out of order");
                    }
                }
            }
        }
    }
}
