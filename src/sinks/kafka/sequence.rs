//! What is in doubt: batches that were sent and of which nobody knows whether they are stored.
//!
//! A broker stores a batch of one producer and sequence once, however often it comes. So a batch whose
//! answer was lost is sent again as it was, before anything else goes to its partition; then it is
//! stored, once, and its events are known when the worker brings them again.
//!
//! Guarantees: pure; a sequence is never used for other records than the first time; what is kept is
//! bounded by one batch a partition, and [`MOST`] events that are stored but not asked for yet. It
//! dies with the sink.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::codec::{ANYBODY, Sender};
use crate::core::event::EventId;

/// Most events that are remembered as stored. Forgetting one makes a double at worst.
const MOST: usize = 10_000;

/// A batch that may be stored or not.
#[derive(Clone, Debug)]
pub struct Doubt {
    /// Its events.
    pub ids: Vec<EventId>,
    /// Its bytes, sequence and all.
    pub bytes: Vec<u8>,
}

/// The sequences of one producer.
#[derive(Default)]
pub struct Sequences {
    /// Number and epoch, where there is a producer.
    producer: Option<(i64, i16)>,
    next: BTreeMap<i32, i32>,
    doubts: BTreeMap<i32, Doubt>,
    stored: HashSet<EventId>,
    order: VecDeque<EventId>,
}

impl Sequences {
    /// Whether a producer's number is needed first.
    pub fn need_producer(&self) -> bool {
        self.producer.is_none()
    }

    /// Begin anew with this producer.
    pub fn begin(&mut self, id: i64, epoch: i16) {
        self.producer = Some((id, epoch));
        self.next.clear();
    }

    /// Nothing that was in doubt can be settled any more: it may come twice.
    pub fn give_up(&mut self) {
        self.producer = None;
        self.doubts.clear();
    }

    /// Who sends the next batch to `partition`.
    pub fn sender(&self, partition: i32) -> Sender {
        let sequence = self.next.get(&partition).copied().unwrap_or(0);
        self.producer.map_or(ANYBODY, |(id, epoch)| Sender { id, epoch, sequence })
    }

    /// What must be settled before anything else goes to `partition`.
    pub fn doubt(&self, partition: i32) -> Option<&Doubt> {
        self.doubts.get(&partition)
    }

    /// Partitions with something in doubt.
    pub fn in_doubt(&self) -> Vec<i32> {
        self.doubts.keys().copied().collect()
    }

    /// From now on nobody knows whether this batch is stored. Without a producer nothing would tell.
    pub fn sent(&mut self, partition: i32, doubt: Doubt) {
        if self.producer.is_some() {
            self.doubts.insert(partition, doubt);
        }
    }

    /// The batch that was in doubt is stored. What the worker does not know yet is remembered.
    pub fn is_stored(&mut self, partition: i32, is_known: bool) {
        let Some(doubt) = self.doubts.remove(&partition) else { return };
        let next = self.next.entry(partition).or_default();
        let count = i32::try_from(doubt.ids.len()).unwrap_or(i32::MAX);
        *next = next.wrapping_add(count) & i32::MAX;
        if !is_known {
            for id in doubt.ids.into_iter().filter(|id| self.stored.insert(*id)) {
                self.order.push_back(id);
            }
            while self.order.len() > MOST {
                self.order.pop_front().map(|id| self.stored.remove(&id));
            }
        }
    }

    /// It certainly is not.
    pub fn is_not_stored(&mut self, partition: i32) {
        self.doubts.remove(&partition);
    }

    /// Whether the event was stored when nobody heard of it. Asked once.
    pub fn knows(&mut self, id: EventId) -> bool {
        let known = self.stored.remove(&id);
        if known {
            self.order.retain(|other| *other != id);
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A broker that stores a batch of one sequence once, and whose answers may be lost.
    #[derive(Default)]
    struct Broker {
        next: i32,
        last: Option<(i32, Vec<u8>)>,
        log: Vec<u8>,
    }

    impl Broker {
        fn take(&mut self, sequence: i32, bytes: &[u8]) {
            if let Some((last, stored)) = &self.last
                && *last == sequence
            {
                assert_eq!(stored, bytes, "one sequence, one batch");
                return;
            }
            assert_eq!(sequence, self.next, "in order");
            self.next += i32::try_from(bytes.len()).unwrap();
            self.last = Some((sequence, bytes.to_vec()));
            self.log.extend_from_slice(bytes);
        }
    }

    proptest! {
        /// Batches of any composition, requests and answers lost at will: everything is there once,
        /// and in order.
        #[test]
        fn what_is_in_doubt_is_stored_once(
            fates in prop::collection::vec((1usize..5, 0u8..3), 1..60)
        ) {
            let (mut sequences, mut broker) = (Sequences::default(), Broker::default());
            sequences.begin(7, 0);
            let ids: Vec<EventId> = (0..40).map(|_| EventId::fresh()).collect();
            let mut waiting: VecDeque<u8> = (0..40).collect();
            // In the end everything gets through.
            for (count, fate) in fates.into_iter().chain(std::iter::repeat_n((4, 0), 100)) {
                if let Some(doubt) = sequences.doubt(0).cloned() {
                    let sender = sequences.sender(0);
                    if fate != 1 {
                        broker.take(sender.sequence, &doubt.bytes);
                    }
                    if fate == 0 {
                        sequences.is_stored(0, false);
                    }
                    continue;
                }
                let taken: Vec<u8> = waiting.iter().take(count).copied().collect();
                let new: Vec<u8> =
                    taken.iter().copied().filter(|n| !sequences.knows(ids[usize::from(*n)])).collect();
                let known = taken.len() - new.len();
                waiting.drain(..known);
                if new.is_empty() {
                    continue;
                }
                let sender = sequences.sender(0);
                let kept = new.iter().map(|n| ids[usize::from(*n)]).collect();
                sequences.sent(0, Doubt { ids: kept, bytes: new.clone() });
                if fate != 1 {
                    broker.take(sender.sequence, &new);
                }
                if fate == 0 {
                    sequences.is_stored(0, true);
                    waiting.drain(..new.len());
                }
            }
            prop_assert_eq!(broker.log, (0..40).collect::<Vec<u8>>());
        }
    }
}
