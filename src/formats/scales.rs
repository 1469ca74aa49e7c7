//! The severity scale in every destination's words and numbers: the one place that translates.
//!
//! Guarantees: an unknown severity counts as high wherever the destination has no word for
//! "unknown", so that nobody overlooks it.

use crate::core::finding::Severity;

/// One step as a destination writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A word.
    Word(&'static str),
    /// A number.
    Number(u8),
}

/// A destination's scale.
#[derive(Debug, PartialEq, Eq)]
pub struct Scale {
    /// Its name in presets: `{{finding.severity.NAME}}`.
    pub name: &'static str,
    /// Unknown, info, low, medium, high, critical.
    steps: [Step; 6],
}

const fn words(name: &'static str, words: [&'static str; 6]) -> Scale {
    let [a, b, c, d, e, f] = words;
    use Step::Word as W;
    Scale { name, steps: [W(a), W(b), W(c), W(d), W(e), W(f)] }
}

const fn numbers(name: &'static str, numbers: [u8; 6]) -> Scale {
    let [a, b, c, d, e, f] = numbers;
    use Step::Number as N;
    Scale { name, steps: [N(a), N(b), N(c), N(d), N(e), N(f)] }
}

/// All scales.
#[rustfmt::skip]
pub static SCALES: [Scale; 19] = [
    numbers("syslog", [3, 6, 5, 4, 3, 2]),
    numbers("cef", [8, 1, 3, 6, 8, 10]),
    numbers("leef", [8, 1, 3, 5, 8, 10]),
    numbers("otlp", [17, 9, 11, 13, 17, 21]),
    numbers("ocsf", [0, 1, 2, 3, 4, 5]),
    numbers("ecs_risk", [73, 10, 21, 47, 73, 99]),
    numbers("sentinelone", [4, 2, 2, 3, 4, 5]),
    // Numbers, which ServiceNow reads and writes as texts.
    words("servicenow", ["2", "5", "4", "3", "2", "1"]),
    // Impact and urgency: 1 high, 2 medium, 3 low.
    words("servicenow_urgency", ["1", "3", "3", "2", "1", "1"]),
    numbers("xsoar", [3, 1, 1, 2, 3, 4]),
    words("udm", ["UNKNOWN_SEVERITY", "INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"]),
    words("asff", ["HIGH", "INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"]),
    words("pagerduty", ["error", "info", "info", "warning", "error", "critical"]),
    words("opsgenie", ["P2", "P5", "P4", "P3", "P2", "P1"]),
    words("datadog", ["error", "info", "notice", "warning", "error", "critical"]),
    words("cortex", ["High", "Informational", "Low", "Medium", "High", "High"]),
    words("alertmanager", ["critical", "info", "info", "warning", "critical", "critical"]),
    // What there is before somebody adds a severity of their own.
    words("splunk_soar", ["high", "low", "low", "medium", "high", "high"]),
    words("colour", ["#d9534f", "#5bc0de", "#5bc0de", "#f0ad4e", "#d9534f", "#a30000"]),
];

/// The scale called `name`.
pub fn scale(name: &str) -> Option<&'static Scale> {
    SCALES.iter().find(|scale| scale.name == name)
}

/// Syslog's severity: 0 is the worst, 7 the least.
pub fn syslog(severity: Severity) -> u8 {
    number("syslog", severity)
}

/// CEF's severity: 0 to 10; from 7 on high, from 9 on very high.
pub fn cef(severity: Severity) -> u8 {
    number("cef", severity)
}

/// LEEF's severity: 1 to 10.
pub fn leef(severity: Severity) -> u8 {
    number("leef", severity)
}

/// OpenTelemetry's severity number: 9 to 12 is info, 13 to 16 warning, 17 to 20 error, from 21 on fatal.
pub fn otlp(severity: Severity) -> u8 {
    number("otlp", severity)
}

/// OCSF's `severity_id`: 1 to 5, 0 where it is unknown.
pub fn ocsf(severity: Severity) -> u8 {
    number("ocsf", severity)
}

/// Elastic's risk score: 0 to 100.
pub fn ecs_risk(severity: Severity) -> u8 {
    number("ecs_risk", severity)
}

/// UDM's word.
pub fn udm(severity: Severity) -> &'static str {
    match scale("udm").map(|scale| scale.of(severity)) {
        Some(Step::Word(word)) => word,
        _ => "UNKNOWN_SEVERITY",
    }
}

fn number(name: &str, severity: Severity) -> u8 {
    match scale(name).map(|scale| scale.of(severity)) {
        Some(Step::Number(number)) => number,
        _ => 0,
    }
}

impl Scale {
    /// `severity` on this scale.
    pub fn of(&self, severity: Severity) -> Step {
        let [unknown, info, low, medium, high, critical] = self.steps;
        match severity {
            Severity::Unknown => unknown,
            Severity::Info => info,
            Severity::Low => low,
            Severity::Medium => medium,
            Severity::High => high,
            Severity::Critical => critical,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_unknown_is_never_below_high() {
        for (index, scale) in SCALES.iter().enumerate() {
            assert!(SCALES[..index].iter().all(|other| other.name != scale.name), "{}", scale.name);
            let own_word = matches!(scale.name, "ocsf" | "udm");
            assert!(
                own_word || scale.of(Severity::Unknown) == scale.of(Severity::High),
                "{}",
                scale.name
            );
        }
        assert_eq!(
            scale("pagerduty").map(|scale| scale.of(Severity::Medium)),
            Some(Step::Word("warning"))
        );
    }
}
