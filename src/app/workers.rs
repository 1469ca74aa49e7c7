//! The running workers, by the names of their sinks.
//!
//! Guarantees: never two workers for one name: one is taken out and finished before another is put
//! in. It decides nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::plan::SinkPlan;
use crate::core::delivery::{Delivery, Extra, Spec};

/// Encoded bytes in memory on their way out, over all sinks.
const BYTES_OUT: usize = 64 << 20;
/// A sink's share of these, at least and at most.
const SHARE: (usize, usize) = (1 << 20, 8 << 20);

/// See the module.
#[derive(Default)]
pub(super) struct Workers(RwLock<BTreeMap<Arc<str>, Delivery>>);

impl Workers {
    /// Hand an event to a sink's worker: `None` without such a sink, false when it is full.
    pub fn offer(&self, sink: &str, extra: Extra) -> Option<bool> {
        let workers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        workers.get(sink).map(|worker| worker.offer(extra))
    }

    pub fn add(&self, sink: Arc<str>, worker: Delivery) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(sink, worker);
    }

    pub fn take(&self, sink: &str) -> Option<Delivery> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(sink)
    }

    /// Do something with the worker of `sink`, if it runs.
    pub fn with(&self, sink: &str, act: impl FnOnce(&Delivery)) {
        let workers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = workers.get(sink) {
            act(worker);
        }
    }

    /// Whether people read what `sink` delivers.
    pub fn is_guarded(&self, sink: &str) -> bool {
        let workers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        workers.get(sink).is_some_and(Delivery::is_guarded)
    }

    pub fn each(&self, act: impl Fn(&Delivery)) {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().for_each(act);
    }

    pub fn all_finished(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().all(Delivery::is_finished)
    }

    pub fn take_all(&self) -> Vec<Delivery> {
        let mut workers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *workers).into_values().collect()
    }
}

/// What the worker of `sink` is made from, when there are `sinks` in all.
pub(super) fn spec(sink: SinkPlan, sinks: usize) -> Spec {
    Spec {
        name: sink.name,
        sink: sink.built.sink,
        limits: sink.built.limits,
        settings: sink.delivery,
        guard: sink.guard,
        backing: sink.backing,
        start: sink.start,
        window_bytes: (BYTES_OUT / sinks.max(1)).clamp(SHARE.0, SHARE.1),
    }
}
