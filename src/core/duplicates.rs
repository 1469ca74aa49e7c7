//! Duplicate suppression at the door: the same key within the window is the same event.
//!
//! Guarantees: ten minutes and 100,000 keys, whichever is less; a key counts only once its event
//! is stored, and a second request that arrives in between waits for the first one's fate instead
//! of guessing. It lives in memory and is rebuilt from the newest events of the log.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Timestamp;
use super::event::{DuplicateKey, EventId, Position};
use super::log::{Item, Limit, Log, LogError};

/// How long a key is remembered.
pub const WINDOW: Duration = Duration::from_secs(600);
/// How many keys are remembered.
pub const KEYS: u64 = 100_000;

/// The keys of the latest events.
#[derive(Default)]
pub struct Duplicates(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    slots: HashMap<DuplicateKey, Slot>,
    order: VecDeque<(Timestamp, DuplicateKey, EventId)>,
}

struct Slot {
    id: EventId,
    stage: Stage,
}

enum Stage {
    Stored,
    /// On its way to the disk, with the bell of those who wait for it: there is one once somebody
    /// does, and it goes with the slot, which wakes them.
    Pending(Option<watch::Sender<()>>),
}

impl Slot {
    fn pending(id: EventId) -> Self {
        Self { id, stage: Stage::Pending(None) }
    }

    /// What to wait for, if the event is on its way.
    fn awaited(&mut self) -> Option<watch::Receiver<()>> {
        match &mut self.stage {
            Stage::Stored => None,
            Stage::Pending(bell) => {
                Some(bell.get_or_insert_with(|| watch::Sender::new(())).subscribe())
            }
        }
    }
}

/// The answer to a claim.
pub enum Claim {
    /// For each key the id of the event it repeats, or `None` where it is new. The new ones are
    /// ours until the ticket is stored or dropped.
    Ours(Vec<Option<EventId>>, Ticket),
    /// Another request is storing one of them: ask again when this changes.
    Wait(watch::Receiver<()>),
}

/// The new keys of one request; forgotten again unless stored.
pub struct Ticket {
    duplicates: Arc<Duplicates>,
    keys: Vec<(DuplicateKey, EventId)>,
}

impl Duplicates {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claim the keys of one request, all or none.
    pub fn claim(self: &Arc<Self>, wanted: &[(DuplicateKey, EventId)], now: Timestamp) -> Claim {
        let mut inner = self.lock();
        inner.forget_old(now);
        for (key, _) in wanted {
            if let Some(pending) = inner.slots.get_mut(key).and_then(Slot::awaited) {
                return Claim::Wait(pending);
            }
        }
        let mut keys = Vec::with_capacity(wanted.len());
        let answers = wanted.iter().map(|(key, id)| match inner.slots.get(key) {
            Some(known) => Some(known.id),
            None => {
                inner.slots.insert(*key, Slot::pending(*id));
                keys.push((*key, *id));
                None
            }
        });
        let answers = answers.collect();
        Claim::Ours(answers, Ticket { duplicates: self.clone(), keys })
    }

    /// Fill the window from the newest events of `log`.
    pub async fn rebuild(&self, log: &dyn Log, now: Timestamp) -> Result<(), LogError> {
        let head = log.head().borrow().next;
        let oldest = Position(head.0.saturating_sub(KEYS)).max(log.stats().oldest);
        let mut next = first_within(log, oldest, head, now).await?;
        loop {
            let page = log.read(next, Limit { events: 1_000, bytes: 4 << 20 }).await?;
            if page.items.is_empty() {
                return Ok(());
            }
            let mut inner = self.lock();
            for item in &page.items {
                if let Item::Event(event) = item
                    && let Some(key) = event.key
                {
                    inner.stored(key, event.id, event.received);
                }
            }
            next = page.next;
        }
    }
}

/// The first position in `low..high` whose event is younger than the window, by bisection.
async fn first_within(
    log: &dyn Log,
    mut low: Position,
    mut high: Position,
    now: Timestamp,
) -> Result<Position, LogError> {
    while low < high {
        let middle = Position(low.0 + (high.0 - low.0) / 2);
        let page = log.read(middle, Limit { events: 1, bytes: 1 }).await?;
        let young = page.items.iter().any(|item| match item {
            Item::Event(event) => now.duration_since(event.received).unsigned_abs() < WINDOW,
            Item::Gap { .. } => false,
        });
        if young {
            high = middle;
        } else {
            low = page.next.max(middle.plus(1)).min(high);
        }
    }
    Ok(low)
}

impl Inner {
    fn stored(&mut self, key: DuplicateKey, id: EventId, at: Timestamp) {
        self.slots.insert(key, Slot { id, stage: Stage::Stored });
        self.order.push_back((at, key, id));
        if self.order.len() as u64 > KEYS {
            self.forget_oldest();
        }
    }

    fn forget_old(&mut self, now: Timestamp) {
        while self
            .order
            .front()
            .is_some_and(|(at, ..)| now.duration_since(*at).unsigned_abs() >= WINDOW)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key, id)) = self.order.pop_front()
            && self.slots.get(&key).is_some_and(|slot| slot.id == id)
        {
            self.slots.remove(&key);
        }
    }
}

impl Ticket {
    /// The events are on stable storage: from now on their keys are known.
    pub fn stored(mut self, now: Timestamp) {
        let mut inner = self.duplicates.lock();
        for (key, id) in std::mem::take(&mut self.keys) {
            inner.stored(key, id, now);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        let mut inner = self.duplicates.lock();
        for (key, _) in &self.keys {
            inner.slots.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn claim(duplicates: &Arc<Duplicates>, keys: &[u8], now: Timestamp) -> Claim {
        let wanted: Vec<_> = keys.iter().map(|key| ([*key; 16], EventId::fresh())).collect();
        duplicates.claim(&wanted, now)
    }

    fn answers(claim: Claim) -> (Vec<Option<EventId>>, Ticket) {
        match claim {
            Claim::Ours(answers, ticket) => (answers, ticket),
            Claim::Wait(_) => panic!("should not wait"),
        }
    }

    #[test]
    fn a_key_is_known_once_stored_and_for_ten_minutes() {
        let duplicates = Arc::new(Duplicates::default());
        let (first, ticket) = answers(claim(&duplicates, &[1, 1, 2], NOW));
        assert!(first[0].is_none() && first[1].is_some() && first[2].is_none());
        ticket.stored(NOW);
        assert!(answers(claim(&duplicates, &[2], NOW)).0[0].is_some());
        let later = NOW + WINDOW;
        assert!(answers(claim(&duplicates, &[2], later)).0[0].is_none());
    }

    #[tokio::test]
    async fn a_second_request_waits_and_takes_over_when_the_first_fails() {
        let duplicates = Arc::new(Duplicates::default());
        let (_, ticket) = answers(claim(&duplicates, &[1], NOW));
        let Claim::Wait(mut pending) = claim(&duplicates, &[1], NOW) else { panic!("must wait") };
        drop(ticket);
        assert!(pending.changed().await.is_err());
        assert!(answers(claim(&duplicates, &[1], NOW)).0[0].is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let duplicates = Arc::new(Duplicates::default());
        for index in 0..=KEYS {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&index.to_le_bytes());
            answers(duplicates.claim(&[(key, EventId::fresh())], NOW)).1.stored(NOW);
        }
        assert_eq!(duplicates.lock().slots.len() as u64, KEYS);
    }
}
