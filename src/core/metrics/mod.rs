//! Metrics: the only folder that names the Prometheus library.
//!
//! Guarantees: the families of docs/metrics.md and no others, all labels bounded by the
//! configuration or a closed list; gauges about lag and age are computed when they are scraped, so
//! a stuck worker shows as growing lag instead of as a frozen number. Sinks cannot reach this.

mod families;
mod ingress;
mod process;
mod program;
mod receipts;
mod sinks;
mod store;
mod tls;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{Encoder, Registry, TextEncoder};

use self::families::Families;
pub use self::families::Family;
use self::ingress::Ingress;
pub use self::ingress::{REFUSALS, SourceCounts};
use self::process::Process;
use self::program::Program;
use self::receipts::Receipts;
use self::sinks::Sinks;
pub use self::sinks::{STATES, SinkMetrics, Vitals};
use self::store::Store;
pub use self::tls::TLS_FAILURES;
use self::tls::Tls;
use super::Timestamp;
use super::heard::Silence;
use super::log::Stats;

/// Letters by their label.
pub type Counts = BTreeMap<Arc<str>, u64>;

/// What is read off the engine when the metrics are scraped.
pub struct Facts<'a> {
    /// The log.
    pub log: &'a Stats,
    /// Open dead letters by sink.
    pub dead: &'a Counts,
    /// Open bodies of the quarantine by source.
    pub quarantine: &'a Counts,
    /// How every configured source stands.
    pub silences: &'a [Silence],
    /// The time.
    pub now: Timestamp,
}

/// All families of one gateway.
pub struct Metrics {
    registry: Registry,
    families: Vec<Family>,
    ingress: Ingress,
    tls: Tls,
    store: Store,
    sinks: Sinks,
    receipts: Receipts,
    program: Program,
    process: Process,
    /// Held while the families that are set anew at each scrape are incomplete.
    scrape: Mutex<()>,
}

impl Metrics {
    /// All families, at zero, of a process that began `now`. Fails only if two families had one
    /// name.
    pub fn new(now: Timestamp) -> Result<Arc<Self>, prometheus::Error> {
        let f = Families::default();
        let ingress = Ingress::new(&f)?;
        let tls = Tls::new(&f)?;
        let store = Store::new(&f)?;
        let sinks = Sinks::new(&f)?;
        let receipts = Receipts::new(&f)?;
        let program = Program::new(&f)?;
        let process = Process::new(&f, now)?;
        let (registry, families) = f.told();
        let scrape = Mutex::default();
        Ok(Arc::new(Self {
            registry,
            families,
            ingress,
            tls,
            store,
            sinks,
            receipts,
            program,
            process,
            scrape,
        }))
    }

    /// What each family means.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Everything, in Prometheus' text form.
    pub fn render(&self, facts: &Facts<'_>) -> Vec<u8> {
        let _one_at_a_time = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.ingress.refresh(facts.silences, facts.quarantine);
        self.store.refresh(facts.log);
        self.sinks.refresh(facts.log.head.next, facts.dead, facts.now);
        self.process.refresh();
        let mut text = Vec::new();
        // Writing into memory cannot fail; a family that could not be encoded is left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

/// Set `family` to `counts` and to nothing else, but for a 0 for each of `always`.
fn replace<'n>(
    family: &prometheus::IntGaugeVec,
    always: impl Iterator<Item = &'n Arc<str>>,
    counts: &Counts,
) {
    family.reset();
    always.for_each(|name| family.with_label_values(&[name]).set(0));
    for (name, count) in counts {
        family.with_label_values(&[name]).set(to_gauge(*count));
    }
}

fn to_gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds(at: Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1e6
}
