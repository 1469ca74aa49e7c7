//! Metrics: the only file that names the Prometheus library.
//!
//! Guarantees: the families below and no others, all labels bounded by the configuration; gauges
//! about lag and age are computed when they are scraped, from what the workers last published, so
//! a stuck worker shows as growing lag instead of as a frozen number. Sinks cannot reach this.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};

use super::Timestamp;
use super::config::Handshake;
use super::event::Position;
use super::log::{End, Stats};
use super::route::Trouble;
use super::sink::Cause;

/// States of a delivery, as label values.
pub const STATES: [&str; 4] = ["up", "busy", "down", "parked"];

/// Reasons for refusing at the door, as label values.
pub const REFUSALS: [&str; 9] = [
    "sender",
    "token",
    "malformed",
    "too_large",
    "too_many",
    "unknown_source",
    "busy",
    "log",
    "timeout",
];

/// Buckets from 100 us to a minute: a durable accept takes milliseconds, a slow SIEM seconds.
const SECONDS: [f64; 16] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0,
    60.0,
];
/// Buckets up to a day, for "accepted to delivered".
const AGES: [f64; 13] =
    [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3_600.0, 21_600.0, 86_400.0];
const COUNTS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 500.0, 1_000.0];

/// All families of one gateway.
pub struct Metrics {
    registry: Registry,
    ingress_events: IntCounterVec,
    ingress_bytes: IntCounterVec,
    ingress_refused: IntCounterVec,
    ingress_duplicates: IntCounterVec,
    ingress_handshakes: IntCounterVec,
    ingress_seconds: HistogramVec,
    log_head: IntGauge,
    log_bytes: IntGauge,
    log_commit_seconds: Histogram,
    log_commit_events: Histogram,
    log_poisoned: IntGauge,
    log_damaged: IntCounter,
    unrouted: IntCounterVec,
    unknown: IntCounterVec,
    route_errors: IntCounterVec,
    delivery_events: IntCounterVec,
    delivery_attempts: IntCounterVec,
    delivery_seconds: HistogramVec,
    delivery_batch: HistogramVec,
    delivery_lag: IntGaugeVec,
    delivery_oldest: GaugeVec,
    delivery_success: GaugeVec,
    delivery_in_flight: IntGaugeVec,
    delivery_state: IntGaugeVec,
    delivery_unaccounted: IntGaugeVec,
    event_seconds: HistogramVec,
    dead_letters: IntGaugeVec,
    config_info: IntGaugeVec,
    reload_successful: IntGauge,
    reload_timestamp: Gauge,
    sinks: Mutex<BTreeMap<Arc<str>, Arc<SinkMetrics>>>,
}

/// Builds families and remembers the first mistake; there is none in this file's constants.
struct Families {
    registry: Registry,
}

impl Families {
    fn add<C: Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<C>,
    ) -> prometheus::Result<C> {
        let collector = made?;
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
    fn counter(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help).namespace("siemgate"), labels))
    }
    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help).namespace("siemgate"), labels))
    }
    fn float(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.add(GaugeVec::new(Opts::new(name, help).namespace("siemgate"), labels))
    }
    fn histogram(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let options =
            HistogramOpts::new(name, help).namespace("siemgate").buckets(buckets.to_vec());
        self.add(HistogramVec::new(options, labels))
    }
}

impl Metrics {
    /// All families, at zero. Fails only if two families had one name.
    pub fn new() -> Result<Arc<Self>, prometheus::Error> {
        let f = Families { registry: Registry::new() };
        let build = f.gauge("build_info", "Version of this siemgate; always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let simple = |name: &str, help: &str| Opts::new(name, help).namespace("siemgate");
        let commit = |name: &str, help: &str, buckets: &[f64]| {
            HistogramOpts::new(name, help).namespace("siemgate").buckets(buckets.to_vec())
        };
        Ok(Arc::new(Self {
            ingress_events: f.counter(
                "ingress_events_total",
                "Events stored and acknowledged.",
                &["source"],
            )?,
            ingress_bytes: f.counter(
                "ingress_bytes_total",
                "Bytes of the bodies of stored events.",
                &["source"],
            )?,
            ingress_refused: f.counter(
                "ingress_refused_total",
                "Requests refused at the door.",
                &["source", "reason"],
            )?,
            ingress_duplicates: f.counter(
                "ingress_duplicates_total",
                "Events answered as duplicates of a stored one.",
                &["source"],
            )?,
            ingress_handshakes: f.counter(
                "ingress_handshakes_total",
                "Greetings answered instead of being stored as events.",
                &["source", "kind"],
            )?,
            ingress_seconds: f.histogram(
                "ingress_seconds",
                "From the first byte of a request to its durable answer.",
                &["source"],
                &SECONDS,
            )?,
            log_head: f.add(IntGauge::with_opts(simple(
                "log_head_position",
                "Position that the next event will get.",
            )))?,
            log_bytes: f
                .add(IntGauge::with_opts(simple("log_bytes", "Bytes of the log on disk.")))?,
            log_commit_seconds: f.add(Histogram::with_opts(commit(
                "log_commit_seconds",
                "Write and sync of one group.",
                &SECONDS,
            )))?,
            log_commit_events: f.add(Histogram::with_opts(commit(
                "log_commit_events",
                "Events in one group.",
                &COUNTS,
            )))?,
            log_poisoned: f.add(IntGauge::with_opts(simple(
                "log_poisoned",
                "1 after a failed sync: nothing is accepted until a restart.",
            )))?,
            log_damaged: f.add(IntCounter::with_opts(simple(
                "log_damaged_bytes_total",
                "Bytes of the log found unreadable and set aside.",
            )))?,
            unrouted: f.counter(
                "events_unrouted_total",
                "Accepted events that no route took.",
                &["source"],
            )?,
            unknown: f.counter(
                "unknown_values_total",
                "Fields whose value was missing or not understood.",
                &["source", "field"],
            )?,
            route_errors: f.counter(
                "route_errors_total",
                "Rules that failed on an event.",
                &["route"],
            )?,
            delivery_events: f.counter(
                "delivery_events_total",
                "Events settled, by how they ended.",
                &["sink", "outcome"],
            )?,
            delivery_attempts: f.counter(
                "delivery_attempts_total",
                "Requests to the destination, by what became of them.",
                &["sink", "cause"],
            )?,
            delivery_seconds: f.histogram(
                "delivery_seconds",
                "Time of one request to the destination.",
                &["sink"],
                &SECONDS,
            )?,
            delivery_batch: f.histogram(
                "delivery_batch_events",
                "Events in one request.",
                &["sink"],
                &COUNTS,
            )?,
            delivery_lag: f.gauge(
                "delivery_lag_events",
                "Events not yet settled for this sink.",
                &["sink"],
            )?,
            delivery_oldest: f.float(
                "delivery_oldest_seconds",
                "Age of the oldest event waiting for this sink; 0 when none waits.",
                &["sink"],
            )?,
            delivery_success: f.float(
                "delivery_last_success_timestamp_seconds",
                "When the destination last took an event; 0 if not since the start.",
                &["sink"],
            )?,
            delivery_in_flight: f.gauge("delivery_in_flight", "Requests under way.", &["sink"])?,
            delivery_state: f.gauge(
                "delivery_state",
                "1 for the state the delivery is in.",
                &["sink", "state"],
            )?,
            delivery_unaccounted: f.gauge(
                "delivery_unaccounted_events",
                "Difference in the ledger; anything but 0 is a bug.",
                &["sink"],
            )?,
            event_seconds: f.histogram(
                "event_seconds",
                "From acceptance to delivery of an event.",
                &["sink"],
                &AGES,
            )?,
            dead_letters: f.gauge(
                "dead_letters",
                "Dead letters that nobody has replayed or dropped.",
                &["sink"],
            )?,
            config_info: f.gauge(
                "config_info",
                "Fingerprint of the configuration in force; always 1.",
                &["hash"],
            )?,
            reload_successful: f.add(IntGauge::with_opts(simple(
                "config_last_reload_successful",
                "1 if the configuration in the folder is the one in force.",
            )))?,
            reload_timestamp: f.add(Gauge::with_opts(simple(
                "config_last_reload_timestamp_seconds",
                "When the configuration in force was read.",
            )))?,
            registry: f.registry,
            sinks: Mutex::default(),
        }))
    }

    /// Create the children of `source` at zero, so that the first increase is visible as one.
    pub fn add_source(&self, source: &str) {
        let one = [source];
        self.ingress_events.with_label_values(&one);
        self.ingress_bytes.with_label_values(&one);
        self.ingress_duplicates.with_label_values(&one);
        self.ingress_seconds.with_label_values(&one);
        self.unrouted.with_label_values(&one);
        for field in ["severity", "state"] {
            self.unknown.with_label_values(&[source, field]);
        }
        for kind in Handshake::ALL {
            self.ingress_handshakes.with_label_values(&[source, kind.as_str()]);
        }
        for reason in REFUSALS {
            self.ingress_refused.with_label_values(&[source, reason]);
        }
    }

    /// Create the child of `route` at zero.
    pub fn add_route(&self, route: &str) {
        self.route_errors.with_label_values(&[route]);
    }

    /// A rule of `route` was in trouble over an event. A slow one is for the journal only.
    pub fn route_trouble(&self, route: &str, trouble: Trouble) {
        if trouble == Trouble::Failed {
            self.route_errors.with_label_values(&[route]).inc();
        }
    }

    /// The metrics of `sink`, created at zero the first time.
    pub fn sink(&self, sink: &Arc<str>) -> Arc<SinkMetrics> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.entry(sink.clone()).or_insert_with(|| Arc::new(SinkMetrics::new(self, sink))).clone()
    }

    /// An event of `bytes` was stored.
    pub fn accepted(&self, source: &str, bytes: usize) {
        self.ingress_events.with_label_values(&[source]).inc();
        self.ingress_bytes.with_label_values(&[source]).inc_by(bytes as u64);
    }

    /// A request was refused for one of [`REFUSALS`].
    pub fn refused(&self, source: &str, reason: &'static str) {
        self.ingress_refused.with_label_values(&[source, reason]).inc();
    }

    /// A greeting was answered.
    pub fn handshake(&self, source: &str, kind: Handshake) {
        self.ingress_handshakes.with_label_values(&[source, kind.as_str()]).inc();
    }

    /// An event was answered as a duplicate.
    pub fn duplicate(&self, source: &str) {
        self.ingress_duplicates.with_label_values(&[source]).inc();
    }

    /// A request was answered after `took`.
    pub fn answered(&self, source: &str, took: Duration) {
        self.ingress_seconds.with_label_values(&[source]).observe(took.as_secs_f64());
    }

    /// No route took an accepted event.
    pub fn unrouted(&self, source: &str) {
        self.unrouted.with_label_values(&[source]).inc();
    }

    /// A field of an accepted event was missing or not understood.
    pub fn unknown_value(&self, source: &str, field: &'static str) {
        self.unknown.with_label_values(&[source, field]).inc();
    }

    /// A group of `events` was committed in `took`.
    pub fn committed(&self, events: usize, took: Duration) {
        self.log_commit_seconds.observe(took.as_secs_f64());
        self.log_commit_events.observe(events as f64);
    }

    /// The configuration with this fingerprint is in force.
    pub fn configured(&self, hash: &str, now: Timestamp) {
        self.config_info.reset();
        self.config_info.with_label_values(&[hash]).set(1);
        self.reload_successful.set(1);
        self.reload_timestamp.set(now.as_microsecond() as f64 / 1e6);
    }

    /// What is in the folder cannot be used; the configuration before stays in force.
    pub fn not_configured(&self) {
        self.reload_successful.set(0);
    }

    /// The sink is gone: its series end.
    pub fn forget_sink(&self, sink: &str) {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner).remove(sink);
        for end in End::ALL {
            let _ = self.delivery_events.remove_label_values(&[sink, end.as_str()]);
        }
        for cause in Cause::ALL.map(Cause::as_str).into_iter().chain(["ok"]) {
            let _ = self.delivery_attempts.remove_label_values(&[sink, cause]);
        }
        for state in STATES {
            let _ = self.delivery_state.remove_label_values(&[sink, state]);
        }
        for family in [&self.delivery_seconds, &self.delivery_batch, &self.event_seconds] {
            let _ = family.remove_label_values(&[sink]);
        }
        for family in [&self.delivery_oldest, &self.delivery_success] {
            let _ = family.remove_label_values(&[sink]);
        }
        for family in [
            &self.delivery_lag,
            &self.delivery_in_flight,
            &self.delivery_unaccounted,
            &self.dead_letters,
        ] {
            let _ = family.remove_label_values(&[sink]);
        }
    }

    /// Everything, in Prometheus' text form.
    pub fn render(&self, log: &Stats, dead: &BTreeMap<Arc<str>, u64>, now: Timestamp) -> Vec<u8> {
        self.log_head.set(to_gauge(log.head.next.0));
        self.log_bytes.set(to_gauge(log.bytes));
        self.log_poisoned.set(i64::from(log.poisoned));
        self.log_damaged.inc_by(log.damaged_bytes.saturating_sub(self.log_damaged.get()));
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, sink) in sinks.iter() {
            sink.refresh(log.head.next, now);
            self.dead_letters.with_label_values(&[name]).set(0);
        }
        for (sink, count) in dead {
            self.dead_letters.with_label_values(&[sink]).set(to_gauge(*count));
        }
        drop(sinks);
        let mut text = Vec::new();
        // Writing into memory cannot fail; a family that could not be encoded is left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

fn to_gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The metrics of one sink, resolved once so that counting costs no lookup.
pub struct SinkMetrics {
    events: [IntCounter; 5],
    attempts: [IntCounter; 5],
    attempts_ok: IntCounter,
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
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    /// Where the delivery began.
    pub start: Position,
    /// The next position it will read.
    pub next: Position,
    /// Positions settled since the start.
    pub settled: u64,
    /// Log events in its own hands: waiting or in flight.
    pub in_hand: u64,
    /// When the oldest of these was received.
    pub oldest: Option<Timestamp>,
    /// Index into [`STATES`].
    pub state: usize,
}

impl SinkMetrics {
    fn new(all: &Metrics, sink: &str) -> Self {
        let event = |end: End| all.delivery_events.with_label_values(&[sink, end.as_str()]);
        let attempt =
            |cause: Cause| all.delivery_attempts.with_label_values(&[sink, cause.as_str()]);
        Self {
            events: End::ALL.map(event),
            attempts: Cause::ALL.map(attempt),
            attempts_ok: all.delivery_attempts.with_label_values(&[sink, "ok"]),
            seconds: all.delivery_seconds.with_label_values(&[sink]),
            batch: all.delivery_batch.with_label_values(&[sink]),
            event_seconds: all.event_seconds.with_label_values(&[sink]),
            in_flight: all.delivery_in_flight.with_label_values(&[sink]),
            last_success: all.delivery_success.with_label_values(&[sink]),
            lag: all.delivery_lag.with_label_values(&[sink]),
            oldest: all.delivery_oldest.with_label_values(&[sink]),
            unaccounted: all.delivery_unaccounted.with_label_values(&[sink]),
            states: STATES.map(|state| all.delivery_state.with_label_values(&[sink, state])),
            vitals: Mutex::default(),
        }
    }

    /// `count` events ended so.
    pub fn settled(&self, end: End, count: u64) {
        self.events[end as usize].inc_by(count);
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
        *self.vitals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The difference in the ledger. `head - start = settled + queued`, and `queued` is what the
    /// worker holds plus what it has not read, so the head cancels out.
    pub fn unaccounted(vitals: &Vitals) -> i64 {
        to_gauge(vitals.next.since(vitals.start))
            - to_gauge(vitals.settled)
            - to_gauge(vitals.in_hand)
    }

    fn refresh(&self, head: Position, now: Timestamp) {
        let vitals = self.vitals();
        self.lag.set(to_gauge(vitals.in_hand + head.since(vitals.next)));
        let age = vitals.oldest.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0));
        self.oldest.set(age);
        self.unaccounted.set(Self::unaccounted(&vitals));
        for (index, state) in self.states.iter().enumerate() {
            state.set(i64::from(index == vitals.state));
        }
    }
}
