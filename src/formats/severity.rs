//! The severity scale in every destination's numbers: the one place that translates.
//!
//! Guarantees: an unknown severity counts as high, so that nobody overlooks it. A format that needs
//! another scale adds a column.

use crate::core::finding::Severity;

/// One step of the scale, as others write it.
pub struct Levels {
    /// Syslog: 0 is the worst, 7 the least.
    pub syslog: u8,
    /// CEF: 0 to 10; from 7 on high, from 9 on very high.
    pub cef: u8,
    /// LEEF: 1 to 10.
    pub leef: u8,
}

/// `severity` in other scales.
pub fn levels(severity: Severity) -> Levels {
    let (syslog, cef, leef) = match severity {
        Severity::Info => (6, 1, 1),
        Severity::Low => (5, 3, 3),
        Severity::Medium => (4, 6, 5),
        Severity::High | Severity::Unknown => (3, 8, 8),
        Severity::Critical => (2, 10, 10),
    };
    Levels { syslog, cef, leef }
}
