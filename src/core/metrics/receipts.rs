//! Receipts: how many were written, and how many were not.

use prometheus::{IntCounter, Result};

use super::Metrics;
use super::families::Families;

/// The families of the receipts.
pub(super) struct Receipts {
    written: IntCounter,
    dropped: IntCounter,
}

impl Receipts {
    pub fn new(f: &Families) -> Result<Self> {
        Ok(Self {
            written: f.counter("receipts_written_total", "Receipts of attempts written to disk.")?,
            dropped: f.counter(
                "receipts_dropped_total",
                "Receipts lost because their queue or their disk was full or broken; deliveries are not affected.",
            )?,
        })
    }
}

impl Metrics {
    /// So many are on disk.
    pub fn receipts_written(&self, count: u64) {
        self.receipts.written.inc_by(count);
    }

    /// So many could not be kept.
    pub fn receipts_dropped(&self, count: u64) {
        self.receipts.dropped.inc_by(count);
    }
}
