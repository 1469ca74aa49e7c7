//! How an alarm and a heartbeat are written: JSON, form 1.
//!
//! Guarantees: what is written is read back equal, by this version and later ones; keys are only
//! ever added to a form, and a change of meaning is another form. A body that cannot be read is not
//! an error to anybody: its finding is unknown, so it passes every filter, like any other event.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::policy::{Alarm, Turn};
use crate::core::Timestamp;
use crate::core::finding::{Finding, Severity, State};

/// The form that this version writes.
const FORM: u32 = 1;

/// What sort of notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// Something is the matter, or over.
    Alarm,
    /// The gateway runs.
    Heartbeat,
}

/// An event of the internal source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Always `siemgate`, for whoever sorts events by their bodies.
    product: String,
    /// The form of this body.
    form: u32,
    /// `alarm` or `heartbeat`.
    #[serde(rename = "type")]
    pub sort: Sort,
    /// When it was written.
    pub time: Timestamp,
    /// The machine's name.
    pub host: String,
    /// The gateway's version.
    pub version: String,
    /// `info` for what is over and for heartbeats.
    pub severity: Severity,
    /// `open`, `cleared`; `running` for heartbeats.
    pub state: String,
    /// One line for people.
    pub title: String,
    /// The alarm.
    #[serde(flatten)]
    pub alarm: Option<Told>,
    /// The heartbeat.
    #[serde(flatten)]
    pub beat: Option<Beat>,
    /// All alarms that are open once this is told, with their beginnings.
    pub open: BTreeMap<String, Timestamp>,
}

/// What an alarm says beside its title.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The same for an alarm and its end.
    pub incident: String,
    /// Why: one of a closed list.
    pub cause: String,
    /// What it is about.
    pub subject: String,
    /// The sink that it is about, which is not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// How bad it was or is, also in what says that it is over.
    pub alarm_severity: Severity,
    /// When it began.
    pub since: Timestamp,
    /// How often it happened since it was last told.
    pub count: u64,
    /// What more there is to know.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub note: String,
}

/// How the gateway stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// When the gateway was started.
    pub started: Timestamp,
    /// Fingerprint of the configuration in force.
    pub config: String,
    /// Seconds until the next one.
    pub every_seconds: u64,
    /// The ledgers' differences added up: anything but 0 is a bug.
    pub unaccounted: i64,
    /// The log.
    pub log: LogBeat,
    /// The sinks.
    pub sinks: BTreeMap<Arc<str>, SinkBeat>,
}

/// How the log stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogBeat {
    /// Position of the next event.
    pub head: u64,
    /// Bytes on disk, delivered events included.
    pub bytes: u64,
    /// `log.max_bytes`.
    pub max_bytes: u64,
    /// How much of it events take that some sink has not had, in per cent.
    pub undelivered_percent: u64,
}

/// How a sink stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkBeat {
    /// `up`, `busy`, `down` or `parked`.
    pub state: String,
    /// Events not yet settled.
    pub lag: u64,
    /// Age of the oldest of them in its hands.
    pub oldest_seconds: u64,
    /// When the destination last took an event, in this run.
    pub last_success: Option<Timestamp>,
}

/// Where a notice comes from and what it has in common with every other.
pub struct Origin<'o> {
    /// The machine.
    pub host: &'o str,
    /// Now.
    pub time: Timestamp,
    /// The open alarms, before this is told.
    pub open: BTreeMap<String, Timestamp>,
}

impl Notice {
    fn new(sort: Sort, origin: Origin<'_>) -> Self {
        Self {
            product: super::INTERNAL.into(),
            form: FORM,
            sort,
            time: origin.time,
            host: origin.host.to_owned(),
            version: env!("CARGO_PKG_VERSION").into(),
            severity: Severity::Info,
            state: "running".into(),
            title: String::new(),
            alarm: None,
            beat: None,
            open: origin.open,
        }
    }

    /// An alarm.
    pub fn alarm(alarm: &Alarm, origin: Origin<'_>) -> Self {
        let mut notice = Self::new(Sort::Alarm, origin);
        let (name, severity) = (alarm.key.to_string(), alarm.key.severity());
        notice.state = alarm.turn.as_str().into();
        match alarm.turn {
            Turn::Open => {
                notice.severity = severity;
                notice.title.clone_from(&alarm.title);
                notice.open.insert(name.clone(), alarm.since);
            }
            Turn::Cleared => {
                notice.title = format!("over: {}", alarm.title);
                notice.open.remove(&name);
            }
        }
        notice.alarm = Some(Told {
            incident: format!("{}:{}:{name}", super::INTERNAL, notice.host),
            cause: alarm.key.cause.as_str().into(),
            subject: alarm.key.subject.to_string(),
            sink: alarm.key.sink().map(ToString::to_string),
            alarm_severity: severity,
            since: alarm.since,
            count: alarm.count,
            note: alarm.note.clone(),
        });
        notice
    }

    /// A heartbeat.
    pub fn heartbeat(beat: Beat, origin: Origin<'_>) -> Self {
        let mut notice = Self::new(Sort::Heartbeat, origin);
        let stuck = beat.sinks.values().filter(|sink| sink.state != "up").count();
        notice.title = format!(
            "siemgate {} on {} is running: {} of {} sinks are up, {} alarms are open",
            notice.version,
            notice.host,
            beat.sinks.len() - stuck,
            beat.sinks.len(),
            notice.open.len()
        );
        notice.beat = Some(beat);
        notice
    }

    /// The body.
    pub fn written(&self) -> Bytes {
        // Plain structs with text keys: writing them to memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// What `body` says, if it is a notice.
    pub fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// Its facts in the words that all sources share.
    pub fn finding(self) -> Finding {
        let alarm = self.alarm;
        let reported = alarm.as_ref().map_or(self.severity, |alarm| alarm.alarm_severity);
        let category = alarm.as_ref().map_or("heartbeat", |alarm| word(&alarm.cause)).into();
        Finding {
            severity: self.severity,
            reported_severity: reported,
            state: State::Known(self.state.into()),
            category: Some(category),
            title: Some(self.title),
            time: Some(self.time),
            incident: alarm.map(|alarm| alarm.incident),
            clusters: vec![self.host],
            ..Finding::default()
        }
    }
}

/// The cause's own word; a later version may have others.
fn word(cause: &str) -> &'static str {
    super::Cause::read(cause).map_or("alarm", super::Cause::as_str)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::core::alarms::{Cause, Key};

    fn origin(open: &[&str]) -> Origin<'static> {
        let time: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let open = open.iter().map(|name| ((*name).to_owned(), time)).collect();
        Origin { host: "appliance", time, open }
    }

    fn alarm(turn: Turn) -> Alarm {
        Alarm {
            key: Key::new(Cause::Parked, "sophos"),
            turn,
            count: 2,
            since: "2026-11-25T09:00:00Z".parse().unwrap(),
            title: "sink `sophos` is parked".into(),
            note: "401: the key is refused".into(),
        }
    }

    /// The documented form: whoever changes this breaks somebody's query.
    #[test]
    fn an_alarm_is_written_as_documented() {
        let notice = Notice::alarm(&alarm(Turn::Open), origin(&["late:soc"]));
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            r#"{{"product":"siemgate","form":1,"type":"alarm","time":"2026-11-25T10:00:00Z","host":"appliance","version":"{version}","severity":"critical","state":"open","title":"sink `sophos` is parked","incident":"siemgate:appliance:parked:sophos","cause":"parked","subject":"sophos","sink":"sophos","alarm_severity":"critical","since":"2026-11-25T09:00:00Z","count":2,"note":"401: the key is refused","open":{{"late:soc":"2026-11-25T10:00:00Z","parked:sophos":"2026-11-25T09:00:00Z"}}}}"#
        );
        assert_eq!(notice.written(), expected);
        assert_eq!(Notice::read(&notice.written()), Some(notice));
    }

    #[test]
    fn its_end_is_information_about_the_same_incident() {
        let open = Notice::alarm(&alarm(Turn::Open), origin(&[]));
        let cleared = Notice::alarm(&alarm(Turn::Cleared), origin(&["parked:sophos"]));
        assert!(cleared.open.is_empty());
        let (open, cleared) = (open.finding(), cleared.finding());
        assert_eq!(open.incident, cleared.incident);
        assert_eq!((open.severity, cleared.severity), (Severity::Critical, Severity::Info));
        assert_eq!(cleared.reported_severity, Severity::Critical);
        assert_eq!((open.state.as_str(), cleared.state.as_str()), ("open", "cleared"));
        assert_eq!(cleared.category.as_deref(), Some("parked"));
    }

    #[test]
    fn a_heartbeat_is_read_back_and_is_information() {
        let sink = SinkBeat {
            state: "parked".into(),
            lag: 3,
            oldest_seconds: 60,
            last_success: Some("2026-11-25T09:00:00Z".parse().unwrap()),
        };
        let beat = Beat {
            started: "2026-11-25T08:00:00Z".parse().unwrap(),
            config: "abc".into(),
            every_seconds: 300,
            unaccounted: 0,
            log: LogBeat { head: 7, bytes: 4_096, max_bytes: 1 << 31, undelivered_percent: 0 },
            sinks: [("soc".into(), sink)].into(),
        };
        let notice = Notice::heartbeat(beat, origin(&["parked:soc"]));
        assert_eq!(Notice::read(&notice.written()), Some(notice.clone()));
        let finding = notice.finding();
        assert_eq!((finding.severity, finding.incident), (Severity::Info, None));
        assert_eq!(finding.category.as_deref(), Some("heartbeat"));
        assert!(finding.title.unwrap().ends_with("0 of 1 sinks are up, 1 alarms are open"));
    }

    #[test]
    fn what_is_no_notice_is_none() {
        for body in ["", "{}", "[]", "{\"type\":\"alarm\"}"] {
            assert_eq!(Notice::read(body.as_bytes()), None, "{body}");
        }
    }
}
