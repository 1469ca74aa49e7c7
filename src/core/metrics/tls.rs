//! TLS of the listeners: what is shown, and who does not get through.
//!
//! Guarantees: the children of a listener with TLS exist at zero from its start on; without TLS there
//! are none. Reasons are a closed list.

use prometheus::{GaugeVec, IntCounterVec, Result};

use super::families::Families;
use super::{Metrics, seconds};
use crate::core::Timestamp;

/// Reasons for a failed handshake, as label values.
pub const TLS_FAILURES: [&str; 7] =
    ["plain", "protocol", "no_certificate", "certificate", "validity", "distrust", "other"];

/// The families of the listeners' TLS.
pub(super) struct Tls {
    expiry: GaugeVec,
    failed: IntCounterVec,
}

impl Tls {
    pub fn new(f: &Families) -> Result<Self> {
        Ok(Self {
            expiry: f.floats(
                "tls_certificate_expiry_timestamp_seconds",
                "When the certificate that a listener shows expires; only for listeners with TLS.",
                &["listener"],
            )?,
            failed: f.counters(
                "tls_handshakes_failed_total",
                "Connections that ended before a request because of TLS; only for listeners with it.",
                &["listener", "reason"],
            )?,
        })
    }
}

impl Metrics {
    /// A listener shows a certificate that expires then.
    pub fn certificate(&self, listener: &'static str, until: Timestamp) {
        self.tls.expiry.with_label_values(&[listener]).set(seconds(until));
        for reason in TLS_FAILURES {
            self.tls.failed.with_label_values(&[listener, reason]);
        }
    }

    /// A TLS handshake failed for one of [`TLS_FAILURES`].
    pub fn handshake_failed(&self, listener: &'static str, reason: &'static str) {
        self.tls.failed.with_label_values(&[listener, reason]).inc();
    }
}
