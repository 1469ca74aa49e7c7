//! The log in memory: the same promises but durability, in the simplest way.
//!
//! Guarantees: independent of the files engine, so that a conformance suite can hold the two
//! against each other; bounded by bytes. For tests, trials and dead letters that need not survive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use super::cursor::AHEAD_RANGES;
use super::{
    Claim, End, Head, Item, Limit, Log, LogError, Loss, Page, Reader, Refusal, Standing, Start,
    Stats, Terms,
};
use crate::core::Timestamp;
use crate::core::event::{Draft, Event, EventId, Position};
use crate::core::finding::Severity;

/// See the module.
pub struct MemoryLog {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    head: watch::Sender<Head>,
    max_bytes: u64,
}

#[derive(Default)]
struct State {
    events: VecDeque<Arc<Event>>,
    oldest: Position,
    bytes: u64,
    cursors: BTreeMap<String, Place>,
    closed: bool,
}

struct Place {
    start: Position,
    mark: Position,
    next: Position,
    terms: Terms,
    settled: BTreeMap<Position, End>,
    claimed: BTreeSet<Position>,
    pinning: bool,
    taken: bool,
    gap: Option<Range<Position>>,
}

impl Place {
    fn at(start: Position) -> Self {
        Self {
            start,
            mark: start,
            next: start,
            terms: Terms::default(),
            settled: BTreeMap::new(),
            claimed: BTreeSet::new(),
            pinning: true,
            taken: false,
            gap: None,
        }
    }

    fn settle(&mut self, position: Position, end: End) {
        if position < self.mark || self.settled.contains_key(&position) {
            return;
        }
        self.settled.insert(position, end);
        *self.terms.of(end) += 1;
        while self.settled.remove(&self.mark).is_some() {
            self.mark = self.mark.plus(1);
        }
    }

    fn standing(&self) -> Standing {
        let Self { start, mark, next, terms, pinning, .. } = *self;
        let next = next.max(mark);
        let ahead = self.settled.range(next..).count() + self.claimed.range(next..).count();
        Standing { start, mark, next, ahead: ahead as u64, terms, pinning }
    }

    fn has(&self, position: Position) -> bool {
        position < self.next.max(self.mark)
            || self.settled.contains_key(&position)
            || self.claimed.contains(&position)
    }

    fn claim(&mut self, position: Position) -> Claim {
        if self.has(position) {
            return Claim::Had;
        }
        let next = self.next.max(self.mark);
        // One stretch each, at the most.
        if self.settled.range(next..).count() + self.claimed.len() >= AHEAD_RANGES {
            return Claim::Full;
        }
        self.claimed.insert(position);
        Claim::Yes
    }
}

impl MemoryLog {
    /// An empty log that holds at most `max_bytes` of bodies.
    pub fn new(max_bytes: u64) -> Self {
        let head = watch::Sender::new(Head::default());
        Self { inner: Arc::new(Inner { state: Mutex::default(), head, max_bytes }) }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Free what all pinning cursors have passed, then what some have, until `need` fits.
    fn make_room(&mut self, need: u64, max: u64) -> bool {
        while self.bytes + need > max {
            let Some(event) = self.events.front().cloned() else { return false };
            let mut marks = self.cursors.values().filter(|c| c.pinning).map(|c| c.mark).peekable();
            if marks.peek().is_some() && !marks.any(|mark| mark > event.position) {
                return false;
            }
            self.events.pop_front();
            self.bytes -= event.body.len() as u64;
            self.oldest = event.position.plus(1);
            for place in self.cursors.values_mut().filter(|c| c.next <= event.position) {
                if !place.claimed.contains(&event.position) {
                    place.settle(event.position, End::Expired);
                }
                let start = place.gap.take().map_or(event.position, |gap| gap.start);
                place.gap = Some(start..self.oldest);
                place.next = self.oldest;
            }
        }
        true
    }

    fn page(&self, from: Position, max: Limit) -> Page {
        if from < self.oldest {
            let positions = from..self.oldest;
            let items = vec![Item::Gap { positions, loss: Loss::Expired }];
            return Page { items, next: self.oldest };
        }
        let mut page = Page { items: Vec::new(), next: from };
        let mut bytes = 0;
        let start = usize::try_from(from.since(self.oldest)).unwrap_or(usize::MAX);
        for event in self.events.iter().skip(start) {
            bytes += event.body.len();
            if !page.items.is_empty() && (page.items.len() >= max.events || bytes > max.bytes) {
                break;
            }
            page.items.push(Item::Event(event.clone()));
            page.next = event.position.plus(1);
        }
        page
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn append(&self, group: Vec<Draft>) -> Result<Range<Position>, Refusal> {
        let mut state = self.inner.state();
        if state.closed {
            return Err(Refusal::Closed);
        }
        let need: u64 = group.iter().map(|draft| draft.body.len() as u64).sum();
        let limit = self.inner.max_bytes;
        if need > limit {
            return Err(Refusal::TooLarge { bytes: need as usize, limit: limit as usize });
        }
        if !state.make_room(need, limit) {
            return Err(Refusal::Full(format!("{} of {limit} bytes are used", state.bytes)));
        }
        state.bytes += need;
        let mut head = *self.inner.head.borrow();
        let first = head.next;
        for draft in group {
            let event = Event { position: head.next, draft };
            head.next = head.next.plus(1);
            if event.finding().severity == Severity::Critical {
                head.urgent = head.next;
            }
            state.events.push_back(Arc::new(event));
        }
        self.inner.head.send_replace(head);
        Ok(first..head.next)
    }

    async fn open(&self, delivery: &str, from: Start) -> Result<Box<dyn Reader>, LogError> {
        let mut state = self.inner.state();
        if state.closed {
            return Err(LogError::Closed);
        }
        let head = self.inner.head.borrow().next;
        let start = match from {
            Start::Now => head,
            Start::Oldest => state.oldest,
            Start::At(position) => position.min(head),
            Start::Back(time) => {
                let back = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
                let since = Timestamp::now().as_microsecond().saturating_sub(back);
                let mut events = state.events.iter();
                let first = events.find(|event| event.received.as_microsecond() >= since);
                first.map_or(head, |event| event.position)
            }
        };
        let place = state.cursors.entry(delivery.to_owned()).or_insert_with(|| Place::at(start));
        if place.taken {
            return Err(LogError::Taken(delivery.to_owned()));
        }
        (place.taken, place.pinning, place.next) = (true, true, place.mark);
        drop(state);
        let head = self.inner.head.subscribe();
        Ok(Box::new(MemoryReader { inner: self.inner.clone(), name: delivery.to_owned(), head }))
    }

    async fn detach(&self, delivery: &str) -> Result<(), LogError> {
        if let Some(place) = self.inner.state().cursors.get_mut(delivery) {
            place.pinning = false;
        }
        Ok(())
    }

    async fn forget(&self, delivery: &str) -> Result<(), LogError> {
        let mut state = self.inner.state();
        if state.cursors.get(delivery).is_some_and(|place| place.taken) {
            return Err(LogError::Taken(delivery.to_owned()));
        }
        state.cursors.remove(delivery);
        Ok(())
    }

    async fn read(&self, from: Position, max: Limit) -> Result<Page, LogError> {
        Ok(self.inner.state().page(from, max))
    }

    async fn since(&self, time: Timestamp) -> Result<Position, LogError> {
        let state = self.inner.state();
        let first = state.events.iter().find(|event| event.received >= time);
        Ok(first.map_or(self.inner.head.borrow().next, |event| event.position))
    }

    async fn find(&self, id: EventId) -> Result<Option<Arc<Event>>, LogError> {
        Ok(self.inner.state().events.iter().find(|event| event.id == id).cloned())
    }

    fn head(&self) -> watch::Receiver<Head> {
        self.inner.head.subscribe()
    }

    fn stats(&self) -> Stats {
        let state = self.inner.state();
        let deliveries = state.cursors.iter();
        let deliveries: Vec<_> =
            deliveries.map(|(name, place)| (name.clone(), place.standing())).collect();
        let pinned = Stats::pinned_at(&deliveries);
        let held =
            state.events.iter().filter(|event| pinned.is_some_and(|mark| event.position >= mark));
        Stats {
            head: *self.inner.head.borrow(),
            oldest: state.oldest,
            bytes: state.bytes,
            held_bytes: held.map(|event| event.body.len() as u64).sum(),
            free_bytes: 0,
            min_free: 0,
            max_bytes: self.inner.max_bytes,
            capacity: self.inner.max_bytes,
            poisoned: false,
            failed_before: None,
            damaged_bytes: 0,
            deliveries,
        }
    }

    async fn alive(&self) -> Result<(), Refusal> {
        if self.inner.state().closed { Err(Refusal::Closed) } else { Ok(()) }
    }

    async fn close(&self) -> Result<(), LogError> {
        self.inner.state().closed = true;
        self.inner.head.send_modify(|_| {});
        Ok(())
    }
}

struct MemoryReader {
    inner: Arc<Inner>,
    name: String,
    head: watch::Receiver<Head>,
}

impl MemoryReader {
    fn try_next(&self, max: Limit) -> Result<Option<Page>, LogError> {
        let mut state = self.inner.state();
        if state.closed {
            return Err(LogError::Closed);
        }
        let head = self.inner.head.borrow().next;
        loop {
            let place = state.cursors.get_mut(&self.name).ok_or(LogError::Closed)?;
            if let Some(positions) = place.gap.take() {
                let items = vec![Item::Gap { positions, loss: Loss::Expired }];
                return Ok(Some(Page { items, next: place.next }));
            }
            let from = place.next.max(place.mark);
            if from >= head {
                return Ok(None);
            }
            let mut page = state.page(from, max);
            let place = state.cursors.get_mut(&self.name).ok_or(LogError::Closed)?;
            page.items.retain(|item| match item {
                Item::Event(event) => {
                    let at = event.position;
                    !place.settled.contains_key(&at) && !place.claimed.contains(&at)
                }
                Item::Gap { positions, .. } => {
                    let range = positions.start.0..positions.end.0;
                    let range = range.map(Position).filter(|at| !place.claimed.contains(at));
                    range
                        .collect::<Vec<_>>()
                        .into_iter()
                        .for_each(|at| place.settle(at, End::Expired));
                    true
                }
            });
            place.next = page.next.max(place.mark);
            if !page.items.is_empty() {
                return Ok(Some(page));
            }
        }
    }
}

#[async_trait]
impl Reader for MemoryReader {
    async fn next(&mut self, max: Limit) -> Result<Page, LogError> {
        loop {
            self.head.borrow_and_update();
            if let Some(page) = self.try_next(max)? {
                return Ok(page);
            }
            self.head.changed().await.map_err(|_| LogError::Closed)?;
        }
    }

    fn done(&mut self, position: Position, end: End) {
        if let Some(place) = self.inner.state().cursors.get_mut(&self.name)
            && (place.claimed.remove(&position) || position < place.next)
        {
            place.settle(position, end);
        }
    }

    fn claim(&mut self, position: Position) -> Claim {
        let mut state = self.inner.state();
        state.cursors.get_mut(&self.name).map_or(Claim::Had, |place| place.claim(position))
    }

    fn is_taken(&self, position: Position) -> bool {
        let state = self.inner.state();
        state.cursors.get(&self.name).is_none_or(|place| place.has(position))
    }

    fn standing(&self) -> Standing {
        let state = self.inner.state();
        let gone = Place::at(Position(0));
        state.cursors.get(&self.name).unwrap_or(&gone).standing()
    }

    async fn flush(&mut self) -> Result<(), LogError> {
        Ok(())
    }
}

impl Drop for MemoryReader {
    fn drop(&mut self) {
        if let Some(place) = self.inner.state().cursors.get_mut(&self.name) {
            (place.taken, place.next, place.gap) = (false, place.mark, None);
            place.claimed.clear();
        }
    }
}
