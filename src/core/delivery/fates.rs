//! What became of the latest events at each sink, and who waits to hear it.
//!
//! Guarantees: bounded (10,000 events, 1,000 waiters); a waiter that registers before the append
//! misses nothing. It lives in memory; what is on disk of every attempt is in `core/receipts`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::Notify;

use crate::core::event::EventId;
use crate::core::log::End;
use crate::core::sink::{Cause, Reply};

/// Events remembered.
const EVENTS: usize = 10_000;
/// Requests that may wait at once.
const WAITERS: usize = 1_000;

/// How one event stands at one sink.
#[derive(Clone, Debug, Serialize)]
pub struct Fate {
    /// How it ended; `None` while it is pending.
    #[serde(skip)]
    pub end: Option<End>,
    /// Attempts so far.
    pub attempts: u32,
    /// Cause of the last failure, if the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What to know about the last failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// What the destination said last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
}

/// Fates of the latest events.
#[derive(Default)]
pub struct Fates(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    entries: HashMap<EventId, Entry>,
    order: VecDeque<EventId>,
    waiters: usize,
}

#[derive(Default)]
struct Entry {
    sinks: Vec<(Arc<str>, Fate)>,
    bells: Vec<Arc<Notify>>,
}

impl Fates {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Note how `id` now stands at `sink`.
    pub fn note(&self, id: EventId, sink: &Arc<str>, fate: Fate) {
        let mut inner = self.lock();
        let entry = inner.entry(id);
        match entry.sinks.iter_mut().find(|(name, _)| name == sink) {
            Some((_, known)) => *known = fate,
            None => entry.sinks.push((sink.clone(), fate)),
        }
        entry.bells.iter().for_each(|bell| bell.notify_waiters());
    }

    /// How `id` stands at the sinks that have said anything about it.
    pub fn of(&self, id: EventId) -> Vec<(Arc<str>, Fate)> {
        self.lock().entries.get(&id).map(|entry| entry.sinks.clone()).unwrap_or_default()
    }

    /// Register for `ids` before they are appended; `None` when too many wait already.
    pub fn watch(self: &Arc<Self>, ids: &[EventId]) -> Option<Watch> {
        let mut inner = self.lock();
        if inner.waiters >= WAITERS {
            return None;
        }
        inner.waiters += 1;
        let changed = Arc::new(Notify::new());
        for id in ids {
            inner.entry(*id).bells.push(changed.clone());
        }
        Some(Watch { fates: self.clone(), ids: ids.to_vec(), changed })
    }
}

impl Inner {
    fn entry(&mut self, id: EventId) -> &mut Entry {
        if !self.entries.contains_key(&id) {
            if self.order.len() >= EVENTS
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.order.push_back(id);
        }
        self.entries.entry(id).or_default()
    }
}

/// A place in the waiting room; given up when dropped.
pub struct Watch {
    fates: Arc<Fates>,
    ids: Vec<EventId>,
    changed: Arc<Notify>,
}

impl Watch {
    /// Wait until `settled` says so, looking after every change.
    pub async fn until(&self, settled: impl Fn(&Fates) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking: a change in between is not missed.
            changed.as_mut().enable();
            if settled(&self.fates) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut inner = self.fates.lock();
        inner.waiters -= 1;
        for id in &self.ids {
            if let Some(entry) = inner.entries.get_mut(id) {
                entry.bells.retain(|bell| !Arc::ptr_eq(bell, &self.changed));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(end: Option<End>) -> Fate {
        Fate { end, attempts: 1, cause: None, note: String::new(), reply: None }
    }

    #[test]
    fn memory_is_bounded() {
        let fates = Fates::default();
        let first = EventId::fresh();
        fates.note(first, &"a".into(), fate(None));
        (0..EVENTS).for_each(|_| fates.note(EventId::fresh(), &"a".into(), fate(None)));
        assert!(fates.of(first).is_empty());
        assert_eq!(fates.lock().entries.len(), EVENTS);
    }

    #[tokio::test]
    async fn a_waiter_hears_what_happens_after_it_registered() {
        let (fates, id) = (Arc::new(Fates::default()), EventId::fresh());
        let watch = fates.watch(&[id]).unwrap();
        fates.note(id, &"a".into(), fate(Some(End::Delivered)));
        watch.until(|fates| fates.of(id).iter().all(|(_, r)| r.end.is_some())).await;
    }

    #[test]
    fn the_waiting_room_has_a_limit_and_frees_places() {
        let fates = Arc::new(Fates::default());
        let all: Vec<_> = (0..WAITERS).map(|_| fates.watch(&[EventId::fresh()])).collect();
        assert!(all.iter().all(Option::is_some) && fates.watch(&[]).is_none());
        drop(all);
        assert!(fates.watch(&[]).is_some());
    }
}
