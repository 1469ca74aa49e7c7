//! The log: how much it holds, how fast it commits, whether its disk is sound.
//!
//! Guarantees: all but the commits is read off the log when it is scraped.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge, Result};

use super::families::{COUNTS, Families, SECONDS};
use super::{Metrics, to_gauge};
use crate::core::log::Stats;

/// The families of the log.
pub(super) struct Store {
    head: IntGauge,
    bytes: IntGauge,
    held: IntGauge,
    limit: IntGauge,
    free: IntGauge,
    reserve: IntGauge,
    commit_seconds: Histogram,
    commit_events: Histogram,
    poisoned: IntGauge,
    damaged: IntCounter,
}

impl Store {
    pub fn new(f: &Families) -> Result<Self> {
        Ok(Self {
            head: f.gauge("log_head_position", "Position that the next event will get.")?,
            bytes: f.gauge("log_bytes", "Bytes of the log on disk.")?,
            held: f.gauge(
                "log_held_bytes",
                "Bytes of the log that some sink still needs: at the limit, events expire or are refused.",
            )?,
            limit: f.gauge("log_limit_bytes", "Most bytes the log may take: log.max_bytes.")?,
            free: f.gauge("log_disk_free_bytes", "Bytes free on the log's disk.")?,
            reserve: f.gauge(
                "log_disk_reserve_bytes",
                "Bytes of its disk that the log leaves free: log.min_free.",
            )?,
            commit_seconds: f.histogram(
                "log_commit_seconds",
                "Write and sync of one group.",
                &SECONDS,
            )?,
            commit_events: f.histogram("log_commit_events", "Events in one group.", &COUNTS)?,
            poisoned: f.gauge(
                "log_poisoned",
                "1 after a failed sync: nothing is accepted until a restart.",
            )?,
            damaged: f.counter(
                "log_damaged_bytes_total",
                "Bytes of the log found unreadable and set aside.",
            )?,
        })
    }

    pub fn refresh(&self, log: &Stats) {
        self.head.set(to_gauge(log.head.next.0));
        self.bytes.set(to_gauge(log.bytes));
        self.held.set(to_gauge(log.held_bytes));
        self.limit.set(to_gauge(log.max_bytes));
        self.free.set(to_gauge(log.free_bytes));
        self.reserve.set(to_gauge(log.min_free));
        self.poisoned.set(i64::from(log.poisoned));
        self.damaged.inc_by(log.damaged_bytes.saturating_sub(self.damaged.get()));
    }
}

impl Metrics {
    /// A group of `events` was committed in `took`.
    pub fn committed(&self, events: usize, took: Duration) {
        self.store.commit_seconds.observe(took.as_secs_f64());
        self.store.commit_events.observe(events as f64);
    }
}
