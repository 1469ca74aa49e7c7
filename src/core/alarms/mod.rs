//! What the gateway says of itself: alarms and heartbeats, as events of an internal source.
//!
//! Guarantees: a closed list of causes; a cause and what it is about name an alarm, whose end is
//! told under the same name. Everything here is pure: when to tell is `policy.rs`, how it is written
//! `notice.rs`, who has gone quiet `silence.rs`, what was told before a restart `past.rs`. It neither
//! looks at the gateway nor appends anything: that is the watcher's part, in `app`.

mod notice;
mod past;
mod policy;
mod silence;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use notice::{Beat, LogBeat, Notice, Origin, SinkBeat, Sort};
pub use past::past;
pub use policy::{Alarm, Limits, MOST, Now, Policy, Turn};
pub use silence::Silence;

use super::finding::Severity;

/// The name of the internal source. No configured source may have it.
pub const INTERNAL: &str = "siemgate";

/// How long a state must be gone before an alarm about it is over, and how long the ledger may be
/// unbalanced before it is one. A shorter `alarms.every` shortens it.
const CALM: Duration = Duration::from_secs(60);

/// Why an alarm is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A sink is parked.
    Parked,
    /// The oldest event of a sink has waited too long.
    Late,
    /// A sink has open dead letters.
    DeadLetters,
    /// Events expired before a sink had them.
    Expired,
    /// Events were damaged before a sink had them.
    Damaged,
    /// A sink's ledger does not balance.
    Ledger,
    /// An allowed sender was refused.
    Refused,
    /// Refused bodies wait in the quarantine.
    Quarantine,
    /// A source has sent nothing for longer than it should.
    Silent,
    /// Events reached no sink, because no route took them.
    Unrouted,
    /// A severity or state was missing or not understood.
    Unknown,
    /// A rule of a route failed.
    Rule,
    /// The log fills with undelivered events.
    LogFilling,
    /// The disk has less free space than `log.min_free`.
    DiskFull,
    /// The log's disk failed.
    LogFailed,
    /// The configuration in the folder cannot be used.
    Reload,
}

impl Cause {
    /// All of them, for loops over the metric's label.
    pub const ALL: [Self; 16] = [
        Self::Parked,
        Self::Late,
        Self::DeadLetters,
        Self::Expired,
        Self::Damaged,
        Self::Ledger,
        Self::Refused,
        Self::Quarantine,
        Self::Silent,
        Self::Unrouted,
        Self::Unknown,
        Self::Rule,
        Self::LogFilling,
        Self::DiskFull,
        Self::LogFailed,
        Self::Reload,
    ];

    /// The word in notices and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Late => "late",
            Self::DeadLetters => "dead_letters",
            Self::Expired => "expired",
            Self::Damaged => "damaged",
            Self::Ledger => "ledger",
            Self::Refused => "refused",
            Self::Quarantine => "quarantine",
            Self::Silent => "silent",
            Self::Unrouted => "unrouted",
            Self::Unknown => "unknown",
            Self::Rule => "rule",
            Self::LogFilling => "log_filling",
            Self::DiskFull => "disk_full",
            Self::LogFailed => "log_failed",
            Self::Reload => "reload",
        }
    }

    /// The cause called so.
    pub fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == word)
    }

    /// How bad it is.
    fn severity(self, subject: &str) -> Severity {
        match self {
            Self::Parked | Self::Expired | Self::Damaged | Self::DiskFull | Self::LogFailed => {
                Severity::Critical
            }
            Self::Late | Self::DeadLetters | Self::Ledger | Self::Refused => Severity::High,
            Self::Silent | Self::Unrouted | Self::Reload => Severity::High,
            Self::Quarantine | Self::Unknown | Self::Rule => Severity::Medium,
            Self::LogFilling => match subject {
                "90" => Severity::Critical,
                "75" => Severity::High,
                _ => Severity::Medium,
            },
        }
    }

    /// It happens at moments and has no state to look at: it is over once it has not happened for
    /// a whole interval.
    fn is_momentary(self) -> bool {
        match self {
            Self::Expired | Self::Damaged => true,
            Self::Refused | Self::Unrouted | Self::Unknown | Self::Rule => true,
            Self::Parked | Self::Late | Self::DeadLetters | Self::Ledger => false,
            Self::Quarantine | Self::Silent | Self::Reload => false,
            Self::LogFilling | Self::DiskFull | Self::LogFailed => false,
        }
    }

    /// How long it must last before it is an alarm.
    fn patience(self, every: Duration) -> Duration {
        if self == Self::Ledger { CALM.min(every) } else { Duration::ZERO }
    }

    /// How long it must be gone before that is told.
    fn calm(self, every: Duration) -> Duration {
        if self.is_momentary() { every } else { CALM.min(every) }
    }
}

/// Which alarm: its cause, and what it is about. Written `parked:sophos`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Why.
    pub cause: Cause,
    /// The sink, the source, the route or the step that it is about; may be empty.
    pub subject: Arc<str>,
}

impl Key {
    /// The alarm of `cause` about `subject`.
    pub fn new(cause: Cause, subject: impl Into<Arc<str>>) -> Self {
        Self { cause, subject: subject.into() }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.cause.severity(&self.subject)
    }

    /// The alarm written so.
    pub fn read(text: &str) -> Option<Self> {
        let (cause, subject) = text.split_once(':').unwrap_or((text, ""));
        Some(Self::new(Cause::read(cause)?, subject))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause.as_str())?;
        if self.subject.is_empty() { Ok(()) } else { write!(f, ":{}", self.subject) }
    }
}

/// What was seen of one possible cause at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Which.
    pub key: Key,
    /// It is there now. Never so for what happens at moments.
    pub holds: bool,
    /// How often it has happened in all; only a rise counts.
    pub total: u64,
    /// One line for people.
    pub title: String,
    /// What more there is to know; may be empty.
    pub note: String,
}

impl Sighting {
    /// The sink that must not be told, because the alarm is about it.
    pub fn sink(&self) -> Option<&Arc<str>> {
        self.key.sink()
    }
}

impl Key {
    /// The sink that it is about, if it is about one.
    pub fn sink(&self) -> Option<&Arc<str>> {
        match self.cause {
            Cause::Parked | Cause::Late | Cause::DeadLetters => Some(&self.subject),
            Cause::Expired | Cause::Damaged | Cause::Ledger => Some(&self.subject),
            _ => None,
        }
    }
}
