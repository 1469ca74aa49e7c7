//! What every sink was given, what became of it, and how far behind it is.
//!
//! Guarantees: a sink's children are resolved once, so that counting costs no lookup, and end when
//! it is removed. Lag, age and ledger are worked out when they are scraped, from what the worker
//! last published: a stuck worker shows as growing lag, not as a frozen number.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Result,
};
use tokio::time::Instant;

use super::families::{AGES, COUNTS, Families, SECONDS};
use super::{Counts, Metrics, replace, to_gauge};
use crate::core::Timestamp;
use crate::core::event::Position;
use crate::core::log::{End, Terms};
use crate::core::sink::{Cause, Class};

/// States of a delivery, as label values.
pub const STATES: [&str; 4] = ["up", "busy", "down", "parked"];

/// Reasons of a guard, as label values.
pub const HELD: [&str; 3] = ["storm", "stale", "simulated"];

/// Why an event is delivered beside the ledger, as label values.
const ADDITIONAL: [&str; 2] = ["replayed", "fallback"];

/// The families of the sinks, and the sinks that have children in them.
pub(super) struct Sinks {
    events: IntCounterVec,
    attempts: IntCounterVec,
    held: IntCounterVec,
    urgent: IntCounterVec,
    additional: IntCounterVec,
    seconds: HistogramVec,
    batch: HistogramVec,
    lag: IntGaugeVec,
    oldest: GaugeVec,
    success: GaugeVec,
    in_flight: IntGaugeVec,
    state: IntGaugeVec,
    unaccounted: IntGaugeVec,
    event_seconds: HistogramVec,
    dead_letters: IntGaugeVec,
    info: IntGaugeVec,
    known: Mutex<BTreeMap<Arc<str>, Arc<SinkMetrics>>>,
}

impl Sinks {
    pub fn new(f: &Families) -> Result<Self> {
        let sink = &["sink"];
        Ok(Self {
            events: f.counters(
                "delivery_events_total",
                "Events settled, by how they ended.",
                &["sink", "outcome"],
            )?,
            attempts: f.counters(
                "delivery_attempts_total",
                "Requests to the destination, by what became of them.",
                &["sink", "cause"],
            )?,
            held: f.counters(
                "delivery_held_total",
                "Events that a guard kept from people one by one, by its reason.",
                &["sink", "reason"],
            )?,
            additional: f.counters(
                "delivery_additional_total",
                "Events delivered beside the ledger: replayed, or in the stead of another sink.",
                &["sink", "reason"],
            )?,
            urgent: f.counters(
                "delivery_urgent_total",
                "Events that were taken before their turn: critical ones in a backlog, and what their incidents lacked before them.",
                sink,
            )?,
            seconds: f.histograms(
                "delivery_seconds",
                "Time of one request to the destination.",
                sink,
                &SECONDS,
            )?,
            batch: f.histograms(
                "delivery_batch_events",
                "Events in one request.",
                sink,
                &COUNTS,
            )?,
            lag: f.gauges("delivery_lag_events", "Events not yet settled for this sink.", sink)?,
            oldest: f.floats(
                "delivery_oldest_seconds",
                "Age of the oldest event waiting for this sink; 0 when none waits.",
                sink,
            )?,
            success: f.floats(
                "delivery_last_success_timestamp_seconds",
                "When the destination last took an event; 0 if not since the start.",
                sink,
            )?,
            in_flight: f.gauges("delivery_in_flight", "Requests under way.", sink)?,
            state: f.gauges(
                "delivery_state",
                "1 for the state the delivery is in.",
                &["sink", "state"],
            )?,
            unaccounted: f.gauges(
                "delivery_unaccounted_events",
                "Difference in the ledger; anything but 0 is a bug.",
                sink,
            )?,
            event_seconds: f.histograms(
                "event_seconds",
                "From acceptance to delivery of an event.",
                sink,
                &AGES,
            )?,
            dead_letters: f.gauges(
                "dead_letters",
                "Dead letters that nobody has replayed or dropped.",
                sink,
            )?,
            info: f.gauges(
                "sink_info",
                "The kind and class of every sink; always 1.",
                &["sink", "kind", "class"],
            )?,
            known: Mutex::default(),
        })
    }

    fn forget(&self, sink: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(sink);
        for end in End::ALL {
            let _ = self.events.remove_label_values(&[sink, end.as_str()]);
        }
        for cause in Cause::ALL.map(Cause::as_str).into_iter().chain(["ok"]) {
            let _ = self.attempts.remove_label_values(&[sink, cause]);
        }
        for reason in HELD {
            let _ = self.held.remove_label_values(&[sink, reason]);
        }
        for state in STATES {
            let _ = self.state.remove_label_values(&[sink, state]);
        }
        let _ = self.urgent.remove_label_values(&[sink]);
        for reason in ADDITIONAL {
            let _ = self.additional.remove_label_values(&[sink, reason]);
        }
        for family in [&self.seconds, &self.batch, &self.event_seconds] {
            let _ = family.remove_label_values(&[sink]);
        }
        for family in [&self.oldest, &self.success] {
            let _ = family.remove_label_values(&[sink]);
        }
        for family in [&self.lag, &self.in_flight, &self.unaccounted] {
            let _ = family.remove_label_values(&[sink]);
        }
    }

    pub fn refresh(&self, head: Position, dead: &Counts, now: Timestamp) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().for_each(|sink| sink.refresh(head, now));
        replace(&self.dead_letters, known.keys(), dead);
    }
}

impl Metrics {
    /// The metrics of `sink`, created at zero the first time.
    pub fn sink(&self, sink: &Arc<str>) -> Arc<SinkMetrics> {
        let mut known = self.sinks.known.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Arc::new(SinkMetrics::new(&self.sinks, sink));
        known.entry(sink.clone()).or_insert_with(fresh).clone()
    }

    /// The configured sinks, each with its kind and class.
    pub fn sinks_are<'n>(&self, sinks: impl Iterator<Item = (&'n str, &'n str, Class)>) {
        let _between_scrapes = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.sinks.info.reset();
        for (sink, kind, class) in sinks {
            self.sinks.info.with_label_values(&[sink, kind, class.as_str()]).set(1);
        }
    }

    /// All sinks that have metrics.
    pub fn sinks(&self) -> Vec<(Arc<str>, Arc<SinkMetrics>)> {
        let known = self.sinks.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(name, sink)| (name.clone(), sink.clone())).collect()
    }

    /// The sink is gone: its series end.
    pub fn forget_sink(&self, sink: &str) {
        self.sinks.forget(sink);
    }
}

/// The metrics of one sink.
pub struct SinkMetrics {
    events: [IntCounter; 5],
    attempts: [IntCounter; 5],
    attempts_ok: IntCounter,
    held: [IntCounter; 3],
    urgent: IntCounter,
    additional: [IntCounter; 2],
    seconds: Histogram,
    batch: Histogram,
    event_seconds: Histogram,
    in_flight: IntGauge,
    last_success: Gauge,
    lag: IntGauge,
    oldest: Gauge,
    unaccounted: IntGauge,
    states: [IntGauge; 4],
    vitals: Mutex<Vitals>,
}

/// What a worker last said of itself.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    /// Where the delivery began.
    pub start: Position,
    /// The next position it will read.
    pub next: Position,
    /// Positions from there on that it took before their turn, settled or not.
    pub ahead: u64,
    /// Positions settled since the start.
    pub settled: u64,
    /// The same by how they ended.
    pub terms: Terms,
    /// Log events in its own hands: waiting or in flight.
    pub in_hand: u64,
    /// When the oldest of these was received.
    pub oldest: Option<Timestamp>,
    /// Index into [`STATES`].
    pub state: usize,
    /// Since when it has been down or parked.
    pub down_since: Option<Instant>,
    /// What was wrong with its last attempt, if anything was.
    pub trouble: Option<Arc<str>>,
}

impl Vitals {
    /// Whether something is set up wrongly.
    pub fn is_parked(&self) -> bool {
        STATES.get(self.state) == Some(&"parked")
    }

    /// Events not yet settled, when the log ends at `head`.
    pub fn lag(&self, head: Position) -> u64 {
        self.in_hand + head.since(self.next).saturating_sub(self.ahead)
    }
}

impl SinkMetrics {
    fn new(all: &Sinks, sink: &str) -> Self {
        let event = |end: End| all.events.with_label_values(&[sink, end.as_str()]);
        let attempt = |cause: Cause| all.attempts.with_label_values(&[sink, cause.as_str()]);
        Self {
            events: End::ALL.map(event),
            attempts: Cause::ALL.map(attempt),
            attempts_ok: all.attempts.with_label_values(&[sink, "ok"]),
            held: HELD.map(|reason| all.held.with_label_values(&[sink, reason])),
            additional: ADDITIONAL.map(|reason| all.additional.with_label_values(&[sink, reason])),
            urgent: all.urgent.with_label_values(&[sink]),
            seconds: all.seconds.with_label_values(&[sink]),
            batch: all.batch.with_label_values(&[sink]),
            event_seconds: all.event_seconds.with_label_values(&[sink]),
            in_flight: all.in_flight.with_label_values(&[sink]),
            last_success: all.success.with_label_values(&[sink]),
            lag: all.lag.with_label_values(&[sink]),
            oldest: all.oldest.with_label_values(&[sink]),
            unaccounted: all.unaccounted.with_label_values(&[sink]),
            states: STATES.map(|state| all.state.with_label_values(&[sink, state])),
            vitals: Mutex::default(),
        }
    }

    /// `count` events ended so.
    pub fn settled(&self, end: End, count: u64) {
        self.events[end as usize].inc_by(count);
    }

    /// A guard kept an event back.
    pub fn held(&self, reason: &str) {
        if let Some(index) = HELD.iter().position(|known| *known == reason) {
            self.held[index].inc();
        }
    }

    /// An event was delivered beside the ledger.
    pub fn additional(&self, reason: &str) {
        if let Some(index) = ADDITIONAL.iter().position(|known| *known == reason) {
            self.additional[index].inc();
        }
    }

    /// An event was taken before its turn.
    pub fn went_first(&self) {
        self.urgent.inc();
    }

    /// One request of `events` events came back.
    pub fn attempted(&self, cause: Option<Cause>, events: usize, took: Duration) {
        match cause {
            Some(cause) => self.attempts[cause as usize].inc(),
            None => self.attempts_ok.inc(),
        }
        self.seconds.observe(took.as_secs_f64());
        self.batch.observe(events as f64);
    }

    /// An event received at `received` was delivered at `now`.
    pub fn delivered(&self, received: Timestamp, now: Timestamp) {
        let age = now.duration_since(received).as_secs_f64();
        self.event_seconds.observe(age.max(0.0));
        self.last_success.set(now.as_microsecond() as f64 / 1e6);
    }

    /// What the worker now holds.
    pub fn publish(&self, vitals: Vitals, in_flight: usize) {
        self.in_flight.set(to_gauge(in_flight as u64));
        *self.vitals.lock().unwrap_or_else(PoisonError::into_inner) = vitals;
    }

    /// What the worker last published.
    pub fn vitals(&self) -> Vitals {
        self.vitals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many events ended so since the start.
    pub fn ended(&self, end: End) -> u64 {
        self.events[end as usize].get()
    }

    /// When the destination last took an event, in this run.
    pub fn last_success(&self) -> Option<Timestamp> {
        let seconds = Some(self.last_success.get()).filter(|seconds| *seconds > 0.0)?;
        Timestamp::from_microsecond((seconds * 1e6) as i64).ok()
    }

    /// The difference in the ledger. `head - start = settled + queued`, and `queued` is what the
    /// worker holds plus what it has not read, so the head cancels out.
    pub fn unaccounted(vitals: &Vitals) -> i64 {
        to_gauge(vitals.next.since(vitals.start) + vitals.ahead)
            - to_gauge(vitals.settled)
            - to_gauge(vitals.in_hand)
    }

    fn refresh(&self, head: Position, now: Timestamp) {
        let vitals = self.vitals();
        self.lag.set(to_gauge(vitals.lag(head)));
        let age = vitals.oldest.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0));
        self.oldest.set(age);
        self.unaccounted.set(Self::unaccounted(&vitals));
        for (index, state) in self.states.iter().enumerate() {
            state.set(i64::from(index == vitals.state));
        }
    }
}
