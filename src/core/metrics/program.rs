//! The program itself: its version and the configuration in force.

use prometheus::{Gauge, IntGauge, IntGaugeVec, Result};

use super::families::Families;
use super::{Metrics, seconds};
use crate::core::Timestamp;

/// The families of the program.
pub(super) struct Program {
    config_info: IntGaugeVec,
    reload_successful: IntGauge,
    reload_timestamp: Gauge,
}

impl Program {
    pub fn new(f: &Families) -> Result<Self> {
        let build = f.gauges("build_info", "Version of this siemgate; always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            config_info: f.gauges(
                "config_info",
                "Fingerprint of the configuration in force; always 1.",
                &["hash"],
            )?,
            reload_successful: f.gauge(
                "config_last_reload_successful",
                "1 if the configuration in the folder is the one in force.",
            )?,
            reload_timestamp: f.float(
                "config_last_reload_timestamp_seconds",
                "When the configuration in force was read.",
            )?,
        })
    }
}

impl Metrics {
    /// The configuration with this fingerprint is in force.
    pub fn configured(&self, hash: &str, now: Timestamp) {
        self.program.config_info.reset();
        self.program.config_info.with_label_values(&[hash]).set(1);
        self.program.reload_successful.set(1);
        self.program.reload_timestamp.set(seconds(now));
    }

    /// What is in the folder cannot be used; the configuration before stays in force.
    pub fn not_configured(&self) {
        self.program.reload_successful.set(0);
    }
}
