//! Makes metric families, and notes what each means.
//!
//! Guarantees: a family is registered once, with the prefix of the program, and is in the list
//! that the reference of metrics is written from: there is no other way to make one.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, Result,
};

/// The prefix of all families but those of the process, whose names are a convention.
const PREFIX: &str = "siemgate";
const PROCESS: &str = "process";

/// Buckets from 100 us to a minute: a durable accept takes milliseconds, a slow SIEM seconds.
pub(super) const SECONDS: [f64; 16] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0,
    60.0,
];
/// Buckets up to a day, for "accepted to delivered".
pub(super) const AGES: [f64; 13] =
    [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3_600.0, 21_600.0, 86_400.0];
/// Buckets of events in a group or a batch.
pub(super) const COUNTS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 500.0, 1_000.0];

/// What the reference says of a family.
#[derive(Clone, Debug)]
pub struct Family {
    /// With its prefix.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// What it counts, and what a rise means.
    pub help: &'static str,
}

/// See the module.
#[derive(Default)]
pub(super) struct Families {
    registry: Registry,
    told: RefCell<Vec<Family>>,
}

impl Families {
    /// All that were made, in order.
    pub fn told(self) -> (Registry, Vec<Family>) {
        (self.registry, self.told.into_inner())
    }

    fn add<C: Collector + Clone + 'static>(
        &self,
        kind: &'static str,
        help: &'static str,
        made: Result<C>,
    ) -> Result<C> {
        let collector = made?;
        self.registry.register(Box::new(collector.clone()))?;
        for desc in collector.desc() {
            let (name, labels) = (desc.fq_name.clone(), desc.variable_labels.clone());
            self.told.borrow_mut().push(Family { name, kind, labels, help });
        }
        Ok(collector)
    }

    pub fn counters(
        &self,
        name: &str,
        help: &'static str,
        labels: &[&str],
    ) -> Result<IntCounterVec> {
        self.add("counter", help, IntCounterVec::new(named(name, help), labels))
    }

    pub fn counter(&self, name: &str, help: &'static str) -> Result<IntCounter> {
        self.counters(name, help, &[])?.get_metric_with_label_values::<&str>(&[])
    }

    pub fn gauges(&self, name: &str, help: &'static str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.add("gauge", help, IntGaugeVec::new(named(name, help), labels))
    }

    pub fn gauge(&self, name: &str, help: &'static str) -> Result<IntGauge> {
        self.gauges(name, help, &[])?.get_metric_with_label_values::<&str>(&[])
    }

    /// Gauges with fractions: times and ages.
    pub fn floats(&self, name: &str, help: &'static str, labels: &[&str]) -> Result<GaugeVec> {
        self.add("gauge", help, GaugeVec::new(named(name, help), labels))
    }

    pub fn float(&self, name: &str, help: &'static str) -> Result<Gauge> {
        self.floats(name, help, &[])?.get_metric_with_label_values::<&str>(&[])
    }

    /// Of the process: named as everywhere, not for this program.
    pub fn process_gauge(&self, name: &str, help: &'static str) -> Result<IntGauge> {
        self.add("gauge", help, IntGauge::with_opts(Opts::new(name, help).namespace(PROCESS)))
    }

    pub fn process_float(&self, name: &str, help: &'static str) -> Result<Gauge> {
        self.add("gauge", help, Gauge::with_opts(Opts::new(name, help).namespace(PROCESS)))
    }

    pub fn process_counter(&self, name: &str, help: &'static str) -> Result<Counter> {
        self.add("counter", help, Counter::with_opts(Opts::new(name, help).namespace(PROCESS)))
    }

    pub fn histograms(
        &self,
        name: &str,
        help: &'static str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).namespace(PREFIX).buckets(buckets.to_vec());
        self.add("histogram", help, HistogramVec::new(options, labels))
    }

    pub fn histogram(&self, name: &str, help: &'static str, buckets: &[f64]) -> Result<Histogram> {
        self.histograms(name, help, &[], buckets)?.get_metric_with_label_values::<&str>(&[])
    }
}

fn named(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}
