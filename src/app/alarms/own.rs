//! `[alarms]` and `[heartbeat]`, read and held against the configured sinks.
//!
//! Guarantees: a section that is there names at least one sink that exists; all problems of both are
//! told together.

use std::sync::Arc;
use std::time::Duration;

use crate::core::config::{
    AlarmSettings, HeartbeatSettings, LogSettings, OneOrMany, Problem, Problems, Section,
};
use crate::routes::{Internal, named_sinks};

/// What a heartbeat takes on disk: a group of the log is padded to this.
const ON_DISK: u128 = 4_096;

/// What the gateway tells of itself, and to whom.
pub struct Own {
    /// `[alarms]`
    pub alarms: AlarmSettings,
    /// `[heartbeat]`
    pub heartbeat: HeartbeatSettings,
    /// The sinks of both.
    pub internal: Internal,
}

/// Read both sections, which are empty where they are absent.
pub(in crate::app) fn own(
    alarms: &Section,
    heartbeat: &Section,
    sinks: &[Arc<str>],
) -> Result<Own, Problems> {
    let alarms = alarms.read::<AlarmSettings>().and_then(|read| {
        let named = named(alarms, &read.sinks, sinks);
        checked(read.problems(), named).map(|sinks| (read, sinks))
    });
    let heartbeat = heartbeat.read::<HeartbeatSettings>().and_then(|read| {
        let named = named(heartbeat, &read.sinks, sinks);
        checked(read.problems(), named).map(|sinks| (read, sinks))
    });
    match (alarms, heartbeat) {
        (Ok((alarms, told)), Ok((heartbeat, beaten))) => {
            let internal = Internal { alarms: told, heartbeat: beaten };
            Ok(Own { alarms, heartbeat, internal })
        }
        (alarms, heartbeat) => {
            Err([alarms.err(), heartbeat.err()].into_iter().flatten().flatten().collect())
        }
    }
}

fn named(
    section: &Section,
    names: &OneOrMany<String>,
    sinks: &[Arc<str>],
) -> Result<Vec<Arc<str>>, Problems> {
    if section.table.is_empty() {
        return Ok(Vec::new());
    }
    named_sinks(&section.key, names.as_slice(), sinks)
}

fn checked<T>(mut problems: Problems, read: Result<T, Problems>) -> Result<T, Problems> {
    match read {
        Ok(value) if problems.is_empty() => Ok(value),
        read => {
            problems.extend(read.err().into_iter().flatten());
            Err(problems)
        }
    }
}

impl Own {
    /// Heartbeats that take the room of events which are kept for a replay.
    pub(in crate::app) fn warnings(&self, log: &LogSettings) -> Option<Problem> {
        let every = self.heartbeat.every.0.max(Duration::from_secs(1));
        let kept = log.keep.0.as_secs_f64() / every.as_secs_f64();
        let bytes = kept * ON_DISK as f64;
        let much = !self.internal.heartbeat.is_empty() && bytes > log.max_bytes.0 as f64 / 4.0;
        much.then(|| {
            let percent = (100.0 * bytes / log.max_bytes.0 as f64).round();
            let message = format!(
                "heartbeats alone take {percent} % of log.max_bytes in the time of log.keep"
            );
            Problem::new("heartbeat.every", message).help("minutes are usual, such as \"5m\"")
        })
    }
}
