//! The settings of alarms and heartbeats. The doc comments are the user's manual.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::{Problem, Problems};
use super::units::{OneOrMany, Span};

/// Shortest interval: the gateway looks at itself once a second.
const SHORTEST: Duration = Duration::from_secs(1);

/// `[alarms]`: what is the matter with the gateway, told to some of its own sinks.
///
/// An alarm is an event of the source `siemgate`, stored and delivered like any other. It does not go
/// through `[routes]` or `[unmatched]`, but to the sinks named here and to no other. Without this
/// section there are no alarms; journal and metrics tell the same.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlarmSettings {
    /// Sinks that get alarms: one name or a list. A sink never gets an alarm about itself, so name
    /// two.
    pub sinks: OneOrMany<String>,
    /// An alarm that happens again is told again at most so often, with how often it happened
    /// meanwhile. What happens at moments (a refusal) is over when it has not happened for so long.
    pub every: Span,
    /// An alarm that merely lasts is told again after this time.
    pub remind: Span,
    /// An event that has waited for a sink for so long is an alarm.
    pub late: Span,
}

impl Default for AlarmSettings {
    fn default() -> Self {
        Self {
            sinks: OneOrMany::Many(Vec::new()),
            every: Span(Duration::from_secs(15 * 60)),
            remind: Span(Duration::from_secs(24 * 3_600)),
            late: Span(Duration::from_secs(15 * 60)),
        }
    }
}

impl AlarmSettings {
    /// Intervals that cannot be kept.
    pub fn problems(&self) -> Problems {
        let spans = [("every", self.every), ("remind", self.remind), ("late", self.late)];
        spans
            .into_iter()
            .filter_map(|(key, span)| too_short(&format!("alarms.{key}"), span))
            .collect()
    }
}

/// `[heartbeat]`: a sign of life at an interval, so that a SIEM can raise an alarm when it stays away.
///
/// A heartbeat is an event of the source `siemgate`, of severity info, with how the sinks and the log
/// stand. It goes to the sinks named here and to no other. Without this section there are none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeartbeatSettings {
    /// Sinks that get heartbeats: one name or a list.
    pub sinks: OneOrMany<String>,
    /// Time between two of them. Each takes 4 KiB of the log: with `"5m"` 1.2 MB a day.
    pub every: Span,
}

impl Default for HeartbeatSettings {
    fn default() -> Self {
        Self { sinks: OneOrMany::Many(Vec::new()), every: Span(Duration::from_secs(300)) }
    }
}

impl HeartbeatSettings {
    /// Intervals that cannot be kept.
    pub fn problems(&self) -> Problems {
        too_short("heartbeat.every", self.every).into_iter().collect()
    }
}

fn too_short(key: &str, span: Span) -> Option<Problem> {
    let help = "the gateway looks at itself once a second; minutes are usual";
    (span.0 < SHORTEST).then(|| Problem::new(key, "must be at least 1s").help(help))
}
