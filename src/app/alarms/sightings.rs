//! Everything that could be the matter with the gateway, looked at once.
//!
//! Guarantees: every cause of `core/alarms` is looked at for everything it can be about, so that what
//! is no longer the matter shows; the gateway's own events are the matter with nobody; titles name
//! sinks, sources and routes, and nothing of an event. Only reads what others have published.

use std::time::Duration;

use super::Watched;
use crate::app::reload::Live;
use crate::core::Timestamp;
use crate::core::alarms::{Cause, Key, Now, Sighting, Silence};
use crate::core::config::Span;
use crate::core::log::{End, Stats};
use crate::core::metrics::{STATES, SinkMetrics, Vitals};

/// Steps of the log's fill that are told, in per cent.
const STEPS: [u64; 3] = [50, 75, 90];

/// Refusals that are no alarm: whoever may not post here, and whoever lost the way.
const STRANGERS: [&str; 3] = ["sender", "unknown_source", "method"];

/// Collects sightings.
#[derive(Default)]
struct Seen(Vec<Sighting>);

impl Seen {
    /// A state.
    fn state(&mut self, cause: Cause, subject: &str, holds: bool, title: String) -> &mut Sighting {
        self.add(cause, subject, holds, 0, title)
    }

    /// A count of what happens at moments.
    fn count(&mut self, cause: Cause, subject: &str, total: u64, title: String) {
        self.add(cause, subject, false, total, title);
    }

    /// A state that can get worse.
    fn amount(&mut self, cause: Cause, subject: &str, amount: u64, title: String) {
        self.add(cause, subject, amount > 0, amount, title);
    }

    fn add(
        &mut self,
        cause: Cause,
        subject: &str,
        holds: bool,
        total: u64,
        title: String,
    ) -> &mut Sighting {
        let key = Key::new(cause, subject);
        self.0.push(Sighting { key, holds, total, title, note: String::new() });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }
}

/// Look.
pub(super) fn of(live: &Live, watched: &Watched, silence: &mut Silence, now: Now) -> Vec<Sighting> {
    let mut seen = Seen::default();
    sinks(live, watched, now, &mut seen);
    sources(live, watched, silence, now, &mut seen);
    for route in &watched.routes {
        let title = format!("a rule of route `{route}` fails; see the journal");
        seen.count(Cause::Rule, route, live.engine.metrics.rule_errors(route), title);
    }
    log(&live.engine.log.stats(), &mut seen);
    reload(live, &mut seen);
    seen.0
}

fn sinks(live: &Live, watched: &Watched, now: Now, seen: &mut Seen) {
    let dead = live.engine.dead.counts_of_senders();
    for (sink, metrics) in live.engine.metrics.sinks() {
        let vitals = metrics.vitals();
        let parked = STATES[vitals.state] == "parked";
        let title = format!(
            "sink `{sink}` is parked: nothing is lost, delivery goes on by itself when this is mended"
        );
        let sighting = seen.state(Cause::Parked, &sink, parked, title);
        sighting.note = vitals.trouble.as_deref().unwrap_or_default().to_owned();
        late(&sink, &vitals, parked, watched.alarms.late.0, now.wall, seen);
        let open = dead.get(&sink).copied().unwrap_or(0);
        let title = format!("sink `{sink}` has dead letters: siemgate dead list --sink {sink}");
        seen.amount(Cause::DeadLetters, &sink, open, title);
        ends(&sink, &metrics, seen);
        let odd = SinkMetrics::unaccounted(&vitals) != 0;
        let title =
            format!("the ledger of sink `{sink}` does not balance: a bug, please report it");
        seen.state(Cause::Ledger, &sink, odd, title);
    }
}

/// Why a parked sink is late is told already.
fn late(
    sink: &str,
    vitals: &Vitals,
    parked: bool,
    limit: Duration,
    now: Timestamp,
    seen: &mut Seen,
) {
    let age = vitals.oldest.and_then(|at| Duration::try_from(now.duration_since(at)).ok());
    let is_late = age.is_some_and(|age| age > limit) && !parked;
    let title = format!("events wait for sink `{sink}` for longer than {}", Span(limit));
    let sighting = seen.state(Cause::Late, sink, is_late, title);
    sighting.note = vitals.trouble.as_deref().unwrap_or_default().to_owned();
}

fn ends(sink: &str, metrics: &SinkMetrics, seen: &mut Seen) {
    let title = format!("events expired before sink `{sink}` had them");
    seen.count(Cause::Expired, sink, metrics.ended(End::Expired), title);
    let title = format!("events are damaged on disk and lost for sink `{sink}`");
    seen.count(Cause::Damaged, sink, metrics.ended(End::Damaged), title);
}

fn sources(live: &Live, watched: &Watched, silence: &mut Silence, now: Now, seen: &mut Seen) {
    silences(live, silence, now, seen);
    let quarantined = live.ingress.quarantine.counts();
    for source in &watched.sources {
        let counts = live.engine.metrics.of_source(source);
        for (reason, refused) in counts.refused {
            if !STRANGERS.contains(&reason) {
                let title = format!("source `{source}`: allowed senders are refused ({reason})");
                seen.count(Cause::Refused, &format!("{source}/{reason}"), refused, title);
            }
        }
        for (field, unknown) in counts.unknown {
            let title = format!(
                "source `{source}`: the {field} of events is missing or not understood; they pass every filter"
            );
            seen.count(Cause::Unknown, &format!("{source}/{field}"), unknown, title);
        }
        let title = format!("events of source `{source}` reach no sink: no route takes them");
        seen.count(Cause::Unrouted, source, counts.unrouted, title);
        let title = format!(
            "refused bodies of source `{source}` are kept: siemgate quarantine list --source {source}"
        );
        let kept = quarantined.get(source).copied().unwrap_or(0);
        seen.amount(Cause::Quarantine, source, kept, title);
    }
}

fn silences(live: &Live, silence: &mut Silence, now: Now, seen: &mut Seen) {
    let all = live.ingress.heard.silences(now.wall);
    silence.keep(|name| all.iter().any(|heard| *heard.source == *name));
    for heard in all {
        let silent = silence.look(&heard.source, heard.last, heard.silent, now.up);
        let holds = heard.expected.is_some_and(|expected| silent > expected);
        let expected = heard.expected.map(|time| format!(" for {}", Span(time)));
        let title =
            format!("source `{}` has sent nothing{}", heard.source, expected.unwrap_or_default());
        let sighting = seen.state(Cause::Silent, &heard.source, holds, title);
        sighting.note = heard.last.map(|at| format!("last heard at {at}")).unwrap_or_default();
    }
}

fn log(stats: &Stats, seen: &mut Seen) {
    for step in STEPS {
        let title = format!("{step} % of the log are taken by events that some sink has not had");
        seen.state(Cause::LogFilling, &step.to_string(), stats.fill() >= step, title);
    }
    let title = "the log's disk has less free space than log.min_free".to_owned();
    seen.state(Cause::DiskFull, "", stats.free_bytes < stats.min_free, title);
    let title = "the log's disk failed: the gateway stops and must be started again".to_owned();
    seen.state(Cause::LogFailed, "", stats.poisoned, title);
}

fn reload(live: &Live, seen: &mut Seen) {
    let failed = live.failed_reload();
    let title = "the configuration cannot be used; the one before stays in force".to_owned();
    let sighting = seen.state(Cause::Reload, "", failed.is_some(), title);
    // Not the lines after the first: those quote the file, which may hold a misplaced secret.
    let told = failed.map(|problem| problem.to_string()).unwrap_or_default();
    sighting.note = told.lines().next().unwrap_or_default().to_owned();
}
