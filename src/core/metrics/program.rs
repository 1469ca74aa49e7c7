//! The program itself: its version, the configuration in force, and the alarms it raised.

use prometheus::{Gauge, IntCounterVec, IntGauge, IntGaugeVec, Result};

use super::families::Families;
use super::{Metrics, seconds};
use crate::core::Timestamp;
use crate::core::alarms::Cause;

/// The families of the program.
pub(super) struct Program {
    config_info: IntGaugeVec,
    reload_successful: IntGauge,
    reload_timestamp: Gauge,
    alarms: IntCounterVec,
}

impl Program {
    pub fn new(f: &Families) -> Result<Self> {
        let build = f.gauges("build_info", "Version of this siemgate; always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let alarms = f.counters(
            "alarms_total",
            "Alarms told to the sinks of `[alarms]`, again or for the first time.",
            &["cause"],
        )?;
        for cause in Cause::ALL {
            alarms.with_label_values(&[cause.as_str()]);
        }
        Ok(Self {
            alarms,
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

    /// An alarm was raised, or told again.
    pub fn alarm_raised(&self, cause: Cause) {
        self.program.alarms.with_label_values(&[cause.as_str()]).inc();
    }

    /// What is in the folder cannot be used; the configuration before stays in force.
    pub fn not_configured(&self) {
        self.program.reload_successful.set(0);
    }
}
