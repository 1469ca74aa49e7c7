//! The few facts every security product understands, read from an event by its source.
//!
//! Guarantees: every field is optional or has an "unknown" value, so decoding cannot fail; what a
//! product spelt in its own way is normalised (`Locked Out`, `LOCKED-OUT` -> `locked_out`).
//! It is not the event: the original bytes stay untouched in `Event::body`.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::texts::Texts;

/// The project's one severity scale (warning = medium, major = high).
///
/// `Unknown` covers missing and unrecognised values; filters let it pass.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names say it
pub enum Severity {
    #[default]
    Unknown,
    Info,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// The known steps of the scale, lowest first.
    pub const SCALE: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// Read any usual spelling; `None` when the word is not one of the scale.
    pub fn read(text: &str) -> Option<Self> {
        Some(match normalise(text).as_str() {
            "info" | "informational" | "information" | "notice" | "debug" | "none" => Self::Info,
            "low" | "minor" => Self::Low,
            "medium" | "moderate" | "warning" | "warn" => Self::Medium,
            "high" | "major" | "error" | "err" => Self::High,
            "critical" | "crit" | "fatal" | "emergency" | "alert" | "severe" => Self::Critical,
            _ => return None,
        })
    }

    /// The word used in configuration, journal and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the product did or plans to do, normalised (`locked_out`, `delayed_lockout`, …).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum State {
    /// The event names no state.
    #[default]
    Missing,
    /// A state this source is known to send.
    Known(Cow<'static, str>),
    /// A word the decoder has never seen: filters let it pass and it is counted.
    Unknown(String),
}

impl State {
    /// The normalised word, or "unknown" when there is none.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Missing => "unknown",
            Self::Known(word) => word,
            Self::Unknown(word) => word,
        }
    }
}

/// What a source could read from an event. Absent facts are `None`, empty or unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Finding {
    /// Who makes the product, and what it is called, where the source knows: `Superna`.
    pub vendor: Option<Cow<'static, str>>,
    /// The product: `Data Security Edition`.
    pub product: Option<Cow<'static, str>>,
    /// State-aware: a restored access is an update (`info`), whatever the product repeats.
    pub severity: Severity,
    /// What the product itself said, before the state was taken into account.
    pub reported_severity: Severity,
    /// Action taken, pending or undone.
    pub state: State,
    /// The state ends the incident: an update that closes what was opened.
    pub ended: bool,
    /// `ransomware`, `auditor`, `activity_report`, `test`, … in the source's words.
    pub category: Option<Cow<'static, str>>,
    /// A drill or a test, not an attack.
    pub simulated: bool,
    /// One line for people.
    pub title: Option<String>,
    /// When it happened, by the product's clock.
    pub time: Option<Timestamp>,
    /// Ties updates to what opened the incident.
    pub incident: Option<String>,
    /// Account, as the product spells it (`DOMAIN\user`, UPN, uid, IAM name).
    pub user: Option<String>,
    /// Addresses of the client machines, as text.
    pub client_ips: Vec<String>,
    /// Storage clusters concerned.
    pub clusters: Vec<String>,
    /// Shares, exports or buckets concerned.
    pub shares: Vec<String>,
    /// File names; may be long.
    pub files: Texts,
    /// How many files, where the product counts them itself.
    pub file_count: Option<u64>,
    /// `SMB2`, `NFS3`, `S3`, ….
    pub protocol: Option<String>,
    /// A page in the product that shows the incident.
    pub link: Option<String>,
    /// Names of normalised fields whose value was missing or not understood ("severity",
    /// "state", "time", "body"): counted in `siemgate_unknown_values_total`.
    pub unknown: Vec<&'static str>,
}

/// Lower case, with runs of space, `-` and `_` as one `_`: how every enum value is compared.
pub fn normalise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim().chars() {
        let separator = c.is_whitespace() || matches!(c, '-' | '_');
        if !separator && c.is_ascii() {
            out.push(c.to_ascii_lowercase());
        } else if !separator {
            out.extend(c.to_lowercase());
        } else if !out.ends_with('_') {
            out.push('_');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_one() {
        for text in ["Locked Out", "LOCKED_OUT", "locked-out", " locked _ out "] {
            assert_eq!(normalise(text), "locked_out");
        }
        assert_eq!(Severity::read("Major"), Some(Severity::High));
        assert_eq!(Severity::read("purple"), None);
        assert!(Severity::Critical > Severity::High);
    }
}
