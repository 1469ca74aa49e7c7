//! What came in, what was refused, and what was not understood.
//!
//! Guarantees: the children of a configured source and route exist at zero before the first event,
//! so that the first increase is visible as one. Reasons and fields are closed lists.

use std::time::Duration;

use prometheus::{GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec, Result};

use super::families::{Families, SECONDS};
use super::{Counts, Metrics, replace, seconds};
use crate::core::config::Handshake;
use crate::core::heard::Silence;
use crate::core::route::Trouble;

/// Fields whose missing or unknown values count, as label values.
const FIELDS: [&str; 3] = ["severity", "state", "body"];

/// Reasons for refusing at the door, as label values.
pub const REFUSALS: [&str; 13] = [
    "sender",
    "token",
    "signature",
    "certificate",
    "timestamp",
    "slowed",
    "malformed",
    "too_large",
    "too_many",
    "unknown_source",
    "busy",
    "log",
    "timeout",
];

/// The families of the doors and of the routing table.
pub(super) struct Ingress {
    events: IntCounterVec,
    bytes: IntCounterVec,
    refused: IntCounterVec,
    duplicates: IntCounterVec,
    handshakes: IntCounterVec,
    seconds: HistogramVec,
    unrouted: IntCounterVec,
    unknown: IntCounterVec,
    route_errors: IntCounterVec,
    quarantine: IntGaugeVec,
    last_event: GaugeVec,
    silent: GaugeVec,
    expected: GaugeVec,
}

impl Ingress {
    pub fn new(f: &Families) -> Result<Self> {
        let source = &["source"];
        Ok(Self {
            events: f.counters(
                "ingress_events_total",
                "Events stored and acknowledged.",
                source,
            )?,
            bytes: f.counters(
                "ingress_bytes_total",
                "Bytes of the bodies of stored events.",
                source,
            )?,
            refused: f.counters(
                "ingress_refused_total",
                "Requests refused at the door.",
                &["source", "reason"],
            )?,
            duplicates: f.counters(
                "ingress_duplicates_total",
                "Events answered as duplicates of a stored one.",
                source,
            )?,
            handshakes: f.counters(
                "ingress_handshakes_total",
                "Greetings answered instead of being stored as events.",
                &["source", "kind"],
            )?,
            seconds: f.histograms(
                "ingress_seconds",
                "From the first byte of a request to its durable answer.",
                source,
                &SECONDS,
            )?,
            unrouted: f.counters(
                "events_unrouted_total",
                "Accepted events that no route took.",
                source,
            )?,
            unknown: f.counters(
                "unknown_values_total",
                "Fields whose value was missing or not understood.",
                &["source", "field"],
            )?,
            route_errors: f.counters(
                "route_errors_total",
                "Rules that failed on an event.",
                &["route"],
            )?,
            quarantine: f.gauges(
                "quarantine_letters",
                "Refused bodies that nobody has replayed or dropped.",
                source,
            )?,
            last_event: f.floats(
                "source_last_event_timestamp_seconds",
                "When the source last sent an event; 0 if the newest events do not show it.",
                source,
            )?,
            silent: f.floats(
                "source_silent_seconds",
                "How long ago that was; since the start if it is not known.",
                source,
            )?,
            expected: f.floats(
                "source_expected_every_seconds",
                "The longest silence that is expected; only for sources with `expect_every`.",
                source,
            )?,
        })
    }

    pub fn refresh(&self, silences: &[Silence], quarantine: &Counts) {
        replace(&self.quarantine, silences.iter().map(|silence| &silence.source), quarantine);
        for family in [&self.last_event, &self.silent, &self.expected] {
            family.reset();
        }
        for Silence { source, last, silent, expected } in silences {
            let source = [source];
            self.last_event.with_label_values(&source).set(last.map_or(0.0, seconds));
            self.silent.with_label_values(&source).set(silent.as_secs_f64());
            if let Some(expected) = expected {
                self.expected.with_label_values(&source).set(expected.as_secs_f64());
            }
        }
    }
}

/// What was counted at the door of one source since the start.
#[derive(Clone, Debug)]
pub struct SourceCounts {
    /// Events that no route took.
    pub unrouted: u64,
    /// Refusals by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Values that were missing or not understood, by field.
    pub unknown: Vec<(&'static str, u64)>,
}

impl Metrics {
    /// What was counted at the door of `source`.
    pub fn of_source(&self, source: &str) -> SourceCounts {
        let of = |family: &IntCounterVec, labels: &[&str]| family.with_label_values(labels).get();
        let ingress = &self.ingress;
        let refused = |reason| (reason, of(&ingress.refused, &[source, reason]));
        let unknown = |field| (field, of(&ingress.unknown, &[source, field]));
        SourceCounts {
            unrouted: of(&ingress.unrouted, &[source]),
            refused: REFUSALS.map(refused).into(),
            unknown: FIELDS.map(unknown).into(),
        }
    }

    /// How often rules of `route` failed.
    pub fn rule_errors(&self, route: &str) -> u64 {
        self.ingress.route_errors.with_label_values(&[route]).get()
    }

    /// Create the children of `source` at zero, so that the first increase is visible as one.
    pub fn add_source(&self, source: &str) {
        let (one, ingress) = ([source], &self.ingress);
        for family in [&ingress.events, &ingress.bytes, &ingress.duplicates, &ingress.unrouted] {
            family.with_label_values(&one);
        }
        ingress.seconds.with_label_values(&one);
        for field in FIELDS {
            ingress.unknown.with_label_values(&[source, field]);
        }
        for kind in Handshake::ALL {
            ingress.handshakes.with_label_values(&[source, kind.as_str()]);
        }
        for reason in REFUSALS {
            ingress.refused.with_label_values(&[source, reason]);
        }
    }

    /// Create the child of `route` at zero.
    pub fn add_route(&self, route: &str) {
        self.ingress.route_errors.with_label_values(&[route]);
    }

    /// A rule of `route` was in trouble over an event. A slow one is for the journal only.
    pub fn route_trouble(&self, route: &str, trouble: Trouble) {
        if trouble == Trouble::Failed {
            self.ingress.route_errors.with_label_values(&[route]).inc();
        }
    }

    /// An event of `bytes` was stored.
    pub fn accepted(&self, source: &str, bytes: usize) {
        self.ingress.events.with_label_values(&[source]).inc();
        self.ingress.bytes.with_label_values(&[source]).inc_by(bytes as u64);
    }

    /// A request was refused for one of [`REFUSALS`].
    pub fn refused(&self, source: &str, reason: &'static str) {
        self.ingress.refused.with_label_values(&[source, reason]).inc();
    }

    /// A greeting was answered.
    pub fn handshake(&self, source: &str, kind: Handshake) {
        self.ingress.handshakes.with_label_values(&[source, kind.as_str()]).inc();
    }

    /// An event was answered as a duplicate.
    pub fn duplicate(&self, source: &str) {
        self.ingress.duplicates.with_label_values(&[source]).inc();
    }

    /// A request was answered after `took`.
    pub fn answered(&self, source: &str, took: Duration) {
        self.ingress.seconds.with_label_values(&[source]).observe(took.as_secs_f64());
    }

    /// No route took an accepted event.
    pub fn unrouted(&self, source: &str) {
        self.ingress.unrouted.with_label_values(&[source]).inc();
    }

    /// A field of an accepted event was missing or not understood.
    pub fn unknown_value(&self, source: &str, field: &'static str) {
        self.ingress.unknown.with_label_values(&[source, field]).inc();
    }
}
