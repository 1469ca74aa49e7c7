//! Metrics: the only folder that names the Prometheus library.
//!
//! Guarantees: the families of docs/metrics.md and no others, all labels bounded by the
//! configuration or a closed list; gauges about lag and age are computed when they are scraped, so
//! a stuck worker shows as growing lag instead of as a frozen number. Sinks cannot reach this.

mod families;
mod ingress;
mod program;
mod sinks;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::{Encoder, Registry, TextEncoder};

use self::families::Families;
pub use self::families::Family;
use self::ingress::Ingress;
pub use self::ingress::REFUSALS;
use self::program::Program;
use self::sinks::Sinks;
pub use self::sinks::{STATES, SinkMetrics, Vitals};
use self::store::Store;
use super::Timestamp;
use super::log::Stats;

/// All families of one gateway.
pub struct Metrics {
    registry: Registry,
    families: Vec<Family>,
    ingress: Ingress,
    store: Store,
    sinks: Sinks,
    program: Program,
}

impl Metrics {
    /// All families, at zero. Fails only if two families had one name.
    pub fn new() -> Result<Arc<Self>, prometheus::Error> {
        let f = Families::default();
        let ingress = Ingress::new(&f)?;
        let store = Store::new(&f)?;
        let sinks = Sinks::new(&f)?;
        let program = Program::new(&f)?;
        let (registry, families) = f.told();
        Ok(Arc::new(Self { registry, families, ingress, store, sinks, program }))
    }

    /// What each family means.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Everything, in Prometheus' text form.
    pub fn render(&self, log: &Stats, dead: &BTreeMap<Arc<str>, u64>, now: Timestamp) -> Vec<u8> {
        self.store.refresh(log);
        self.sinks.refresh(log.head.next, dead, now);
        let mut text = Vec::new();
        // Writing into memory cannot fail; a family that could not be encoded is left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

fn to_gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds(at: Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1e6
}
