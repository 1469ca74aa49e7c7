//! The built-in routes: where the gateway's own alarms and heartbeats go.
//!
//! Guarantees: they go to the sinks that `[alarms]` and `[heartbeat]` name and to no other, whatever
//! `[routes]` and `[unmatched]` say; an alarm about a sink never goes to that sink. A notice that
//! this version cannot read counts as an alarm. They have no keys and no programs.

use std::sync::Arc;

use super::Table;
use super::coverage::Gap;
use super::explain::{Answer, Verdict};
use crate::core::alarms::{INTERNAL, Notice, Sort};
use crate::core::event::Draft;
use crate::core::route::{Choice, RouteId};

/// Name of the route of alarms, and of the section that fills it.
pub const ALARMS: &str = "alarms";
/// Name of the route of heartbeats, and of the section that fills it.
pub const HEARTBEAT: &str = "heartbeat";

/// The sinks of both.
#[derive(Clone, Debug, Default)]
pub struct Internal {
    /// Those that get alarms.
    pub alarms: Vec<Arc<str>>,
    /// Those that get heartbeats.
    pub heartbeat: Vec<Arc<str>>,
}

/// Where one notice goes.
struct Way {
    route: RouteId,
    sinks: Vec<Arc<str>>,
    /// The sink that it is about.
    about: Option<String>,
}

impl Internal {
    fn way(&self, event: &Draft) -> Way {
        let notice = Notice::read(&event.body);
        if notice.as_ref().is_some_and(|notice| notice.sort == Sort::Heartbeat) {
            return Way { route: HEARTBEAT.into(), sinks: self.heartbeat.clone(), about: None };
        }
        let about = notice.and_then(|notice| notice.alarm?.sink);
        let others = self.alarms.iter().filter(|sink| about.as_deref() != Some(&***sink));
        Way { route: ALARMS.into(), sinks: others.cloned().collect(), about }
    }

    pub(super) fn choose(&self, event: &Draft) -> Choice {
        let Way { route, sinks, .. } = self.way(event);
        Choice::new(sinks.into_iter().map(|sink| (sink, route.clone())).collect())
    }

    pub(super) fn explain(&self, event: &Draft) -> Answer {
        let Way { route, sinks, about } = self.way(event);
        let verdict = |about: &String| Verdict {
            key: "sinks",
            wanted: "any but the one that the alarm is about".into(),
            seen: about.clone(),
            holds: true,
        };
        Answer {
            takes: !sinks.is_empty(),
            keys: about.iter().map(verdict).collect(),
            except: Vec::new(),
            when: None,
            route,
            sinks,
        }
    }

    pub(super) fn uses(&self, sink: &Arc<str>) -> bool {
        self.alarms.contains(sink) || self.heartbeat.contains(sink)
    }

    /// A sink that is alone in `[alarms]`: what is the matter with it is told to nobody.
    pub(super) fn gaps(&self) -> Option<Gap> {
        match self.alarms.as_slice() {
            [only] => Some(Gap::of_alarms(only)),
            _ => None,
        }
    }
}

impl Table {
    /// The same table with the built-in routes to these sinks.
    #[must_use]
    pub fn with_internal(self, internal: Internal) -> Self {
        Self { internal, ..self }
    }

    /// The built-in routes that lead anywhere, with their sinks.
    pub fn internal(&self) -> impl Iterator<Item = (&'static str, &[Arc<str>])> {
        let Internal { alarms, heartbeat } = &self.internal;
        let both = [(ALARMS, alarms.as_slice()), (HEARTBEAT, heartbeat.as_slice())];
        both.into_iter().filter(|(_, sinks)| !sinks.is_empty())
    }
}

/// Whether the event is the gateway's own.
pub(super) fn is_internal(event: &Draft) -> bool {
    *event.source == *INTERNAL
}
