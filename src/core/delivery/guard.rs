//! What keeps people from being buried, and keeps one incident one story.
//!
//! Guarantees: an update of an incident that was told here is told too; of new incidents no more than
//! so many an hour are told one by one; news that is too old is told in sum. What is held back is
//! counted until a digest has told of it, and its position is settled only then: a crash in between
//! holds it back again, and loses nothing. Memory is bounded. Pure: time comes in the call.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::core::Timestamp;
pub(super) use crate::core::alarms::INTERNAL as OWN;
use crate::core::config::GuardSettings;
use crate::core::event::{Event, EventId, Position};
use crate::core::finding::{Finding, Severity};
use crate::core::route::RouteId;
use crate::core::sink::{Class, incident_key};

/// Incidents that are remembered as told.
const INCIDENTS: usize = 10_000;
/// Events that one digest tells of at most.
const PILE: usize = 10_000;
/// Events held back at once; beyond it nothing more is read from the log.
pub(super) const HELD: usize = 100_000;
/// Ids and clusters that a digest lists.
const LISTED: usize = 100;
const CLUSTERS: usize = 5;
/// The time that `new_per_hour` counts in, and after which a storm is over.
const HOUR: Duration = Duration::from_secs(3_600);
/// A first digest does not wait longer.
const FIRST: Duration = Duration::from_secs(60);

/// The rules of one sink.
#[derive(Clone, Copy, Debug)]
pub struct GuardRules {
    /// What it opens it also closes, so that an end must reach it however late.
    closes: bool,
    follow: bool,
    new_per_hour: usize,
    stale_after: Duration,
    simulated: bool,
    digest_every: Duration,
}

impl GuardRules {
    /// The rules of a sink of `class`; none where no people read.
    pub fn of(class: Class, settings: &GuardSettings) -> Option<Self> {
        let (closes, stale) = match class {
            Class::Siem | Class::Archive => return None,
            Class::People => (false, HOUR),
            Class::Incident => (true, 24 * HOUR),
        };
        Some(Self {
            closes,
            follow: settings.follow.unwrap_or(closes),
            new_per_hour: settings.new_per_hour,
            stale_after: settings.stale_after.map_or(stale, |span| span.0),
            simulated: settings.simulated,
            digest_every: settings.digest_every.0,
        })
    }
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// It is told by itself.
    Tell,
    /// It is told in sum.
    Hold(Why),
    /// It is not told: a drill.
    Leave,
}

/// Why an event is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// Too many new incidents.
    Storm,
    /// Too old.
    Stale,
}

impl Why {
    const ALL: [Self; 2] = [Self::Storm, Self::Stale];

    /// The word in metrics and in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Storm => "storm",
            Self::Stale => "stale",
        }
    }
}

/// An event as the guard sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct News<'e> {
    pub id: EventId,
    pub source: &'e str,
    pub received: Timestamp,
    pub finding: &'e Finding,
}

impl<'e> News<'e> {
    pub fn of(event: &'e Event) -> Self {
        let (id, received) = (event.id, event.received);
        Self { id, source: &event.source, received, finding: event.finding() }
    }

    fn key(&self) -> String {
        incident_key(self.finding.incident.as_deref(), self.id)
    }
}

/// See the module.
pub(super) struct Guard {
    rules: GuardRules,
    told: Told,
    /// When incidents were told as new within the last hour.
    fresh: VecDeque<Timestamp>,
    piles: [Pile; 2],
    /// The storm that goes on: what ties its digests together, and when it was last told of.
    storm: Option<(String, Timestamp)>,
}

/// The incidents that were told, each with the route that gave it to this sink.
#[derive(Default)]
struct Told {
    routes: HashMap<String, RouteId>,
    order: VecDeque<String>,
}

impl Told {
    fn add(&mut self, key: String, route: &RouteId) {
        if self.routes.insert(key.clone(), route.clone()).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > INCIDENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.routes.remove(&oldest);
        }
    }
}

/// What is held back for one reason.
#[derive(Default)]
struct Pile {
    /// All events, those that are not in the log included.
    count: usize,
    positions: Vec<Position>,
    since: Option<Instant>,
    ids: Vec<EventId>,
    clusters: BTreeSet<String>,
    /// In the order of the scale.
    severities: [u64; 6],
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Pile {
    fn add(&mut self, position: Option<Position>, news: News<'_>, now: Instant) {
        self.count += 1;
        self.positions.extend(position);
        self.since.get_or_insert(now);
        if self.ids.len() < LISTED {
            self.ids.push(news.id);
        }
        if self.clusters.len() < CLUSTERS {
            self.clusters.extend(news.finding.clusters.first().cloned());
        }
        self.severities[news.finding.severity as usize] += 1;
        self.first = Some(self.first.map_or(news.received, |first| first.min(news.received)));
        self.last = Some(self.last.map_or(news.received, |last| last.max(news.received)));
    }
}

/// A digest, and the positions that it tells of.
pub(super) struct Digest {
    pub why: Why,
    pub finding: Finding,
    pub body: Vec<u8>,
    pub positions: Vec<Position>,
    pub ids: Vec<EventId>,
}

impl Guard {
    pub fn new(rules: GuardRules) -> Self {
        let piles = [Pile::default(), Pile::default()];
        Self { rules, told: Told::default(), fresh: VecDeque::new(), piles, storm: None }
    }

    /// The route that gave the incident of `event` to this sink, where updates follow it.
    pub fn follows(&self, finding: &Finding, id: EventId) -> Option<RouteId> {
        let incident = finding.incident.as_deref().filter(|_| self.rules.follow)?;
        self.told.routes.get(&incident_key(Some(incident), id)).cloned()
    }

    /// What becomes of an event that `route` gives to this sink.
    pub fn judge(&mut self, news: News<'_>, route: &RouteId, now: Timestamp) -> Ruling {
        if news.finding.simulated && !self.rules.simulated {
            return Ruling::Leave;
        }
        let key = news.key();
        let known = self.told.routes.contains_key(&key);
        if self.is_stale(news.received, now) && !(known && self.must_arrive(news.finding)) {
            return Ruling::Hold(Why::Stale);
        }
        if known || news.source == OWN {
            return Ruling::Tell;
        }
        self.forget(now);
        if self.fresh.len() >= self.rules.new_per_hour {
            return Ruling::Hold(Why::Storm);
        }
        self.fresh.push_back(now);
        self.told.add(key, route);
        Ruling::Tell
    }

    /// An event that was settled before this worker began.
    pub fn recall(&mut self, news: News<'_>, route: &RouteId, now: Timestamp) {
        let key = news.key();
        if self.told.routes.contains_key(&key) || (news.finding.simulated && !self.rules.simulated)
        {
            return;
        }
        if age(news.received, now) < HOUR {
            // What was beyond the limit was told in sum.
            if self.fresh.len() >= self.rules.new_per_hour {
                return;
            }
            self.fresh.push_back(news.received);
        }
        self.told.add(key, route);
    }

    /// Whether an event that waits has become too old to be told by itself.
    pub fn is_late(&self, received: Timestamp, finding: &Finding, now: Timestamp) -> bool {
        self.is_stale(received, now) && !self.must_arrive(finding)
    }

    fn is_stale(&self, received: Timestamp, now: Timestamp) -> bool {
        age(received, now) > self.rules.stale_after
    }

    fn must_arrive(&self, finding: &Finding) -> bool {
        self.rules.closes && finding.ended
    }

    fn forget(&mut self, now: Timestamp) {
        // What lies in the future was told before the clock was set back: it would never be an hour ago.
        self.fresh.retain(|at| *at <= now);
        while self.fresh.front().is_some_and(|at| age(*at, now) >= HOUR) {
            self.fresh.pop_front();
        }
    }

    /// Hold an event back. One that is not in the log has no position, and nothing to settle.
    pub fn hold(&mut self, why: Why, position: Option<Position>, news: News<'_>, now: Instant) {
        self.piles[why as usize].add(position, news, now);
    }

    /// Events of the log that no digest has been made of yet.
    pub fn held(&self) -> usize {
        self.piles.iter().map(|pile| pile.positions.len()).sum()
    }

    /// When the oldest of them was received.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.piles.iter().filter_map(|pile| pile.first).min()
    }

    /// When the next digest is due.
    pub fn due(&self) -> Option<Instant> {
        Why::ALL.into_iter().filter_map(|why| self.due_of(why)).min()
    }

    fn due_of(&self, why: Why) -> Option<Instant> {
        let pile = &self.piles[why as usize];
        let since = pile.since?;
        let goes_on = why == Why::Storm && self.storm.is_some();
        Some(match (pile.count >= PILE, goes_on) {
            (true, _) => since,
            (false, true) => since + self.rules.digest_every,
            (false, false) => since + self.rules.digest_every.min(FIRST),
        })
    }

    /// The next digest that is due, or that there is, if it has to be now.
    pub fn digest(&mut self, now: Instant, clock: Timestamp, at_once: bool) -> Option<Digest> {
        let is_due = |why: &Why| self.due_of(*why).is_some_and(|due| at_once || due <= now);
        let why = Why::ALL.into_iter().find(is_due)?;
        let pile = std::mem::take(&mut self.piles[why as usize]);
        let incident = match why {
            Why::Storm => Some(self.storm_of(&pile, clock)),
            Why::Stale => None,
        };
        Some(digest(why, pile, incident, self.rules.stale_after))
    }

    fn storm_of(&mut self, pile: &Pile, clock: Timestamp) -> String {
        let goes_on = self.storm.take().filter(|(_, at)| age(*at, clock) < HOUR);
        let named =
            || format!("storm-{}", pile.ids.first().map(ToString::to_string).unwrap_or_default());
        let key = goes_on.map_or_else(named, |(key, _)| key);
        self.storm = Some((key.clone(), clock));
        key
    }
}

fn age(of: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(of)).unwrap_or_default()
}

/// Severities by index, as `Pile` counts them.
const SEVERITIES: [Severity; 6] = [
    Severity::Unknown,
    Severity::Info,
    Severity::Low,
    Severity::Medium,
    Severity::High,
    Severity::Critical,
];

fn digest(why: Why, pile: Pile, incident: Option<String>, stale_after: Duration) -> Digest {
    let count = pile.count;
    let worst = SEVERITIES.into_iter().rev().filter(|s| pile.severities[*s as usize] > 0);
    let counted = |s: Severity| format!("{} {s}", pile.severities[s as usize]);
    let counts = worst.clone().map(counted).collect::<Vec<_>>().join(", ");
    let clock = |at: Option<Timestamp>| {
        at.map(|at| at.strftime("%Y-%m-%d %H:%M").to_string()).unwrap_or_default()
    };
    let (first, last) = (clock(pile.first), clock(pile.last));
    let plural = |word: &str| if count == 1 { word.to_owned() } else { format!("{word}s") };
    let title = match why {
        Why::Storm => format!(
            "Storm: {count} more {} since {first} UTC, not told one by one: {counts}",
            plural("event")
        ),
        Why::Stale => format!(
            "Late: {count} {} older than {}, {first} to {last} UTC: {counts}",
            plural("event"),
            crate::core::config::Span(stale_after)
        ),
    };
    let severity = worst.clone().find(|s| *s != Severity::Unknown).unwrap_or_default();
    let clusters: Vec<String> = pile.clusters.into_iter().collect();
    let body = json!({
        "product": OWN, "sort": why.as_str(), "title": title, "severity": severity, "events": count,
        "incident": incident, "clusters": clusters, "first": first, "last": last, "ids": pile.ids,
    });
    let finding = Finding {
        severity,
        reported_severity: severity,
        category: Some(why.as_str().into()),
        title: Some(title),
        incident,
        clusters,
        ..Finding::default()
    };
    let body = body.to_string().into_bytes();
    Digest { why, finding, body, positions: pile.positions, ids: pile.ids }
}

#[cfg(test)]
mod tests;
