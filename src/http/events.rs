//! Reading the log from outside: what has arrived, how it stands, and one event's body or story.
//!
//! Guarantees: only reads; a page, a wait and the number of events looked at for one answer are
//! bounded; a body is given byte for byte.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{self, Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::admin::{Admin, Answer, Asked as Explained, Told, guard, told, unreadable};
use super::standing::{Seen, Standings};
use crate::core::Timestamp;
use crate::core::config::Span;
use crate::core::delivery::Engine;
use crate::core::event::{Event, EventId, Position};
use crate::core::finding::Severity;
use crate::core::log::{End, Item, Limit, Log};
use crate::core::receipts::{AtSink, Timeline};

/// Most events looked at for one answer.
const MOST: usize = 1_000;
/// So many of them at once where the newest come first.
const STEP: u64 = 250;
/// Most bytes of bodies read at once; bodies are not part of the answer.
const BYTES: usize = 16 << 20;
/// Longest that an answer waits for an event.
const LONGEST: Duration = Duration::from_secs(60);

/// The routes of this file.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/v1/events", web::get().to(list))
        .route("/api/v1/events/{id}", web::get().to(story))
        .route("/api/v1/events/{id}/body", web::get().to(body));
}

/// Which events: in the order of their arrival, or the newest first.
#[derive(Debug, Deserialize)]
struct Asked {
    /// From this position on; from the head on, so that none is listed yet, unless set.
    from: Option<Position>,
    /// The newest first, below this position; below the head with `newest`.
    before: Option<Position>,
    /// The newest first.
    #[serde(default)]
    newest: bool,
    /// Wait so long for the first one.
    wait: Option<Span>,
    /// At most so many, 1,000 at the most.
    limit: Option<usize>,
    /// Say how each stands at its sinks.
    #[serde(default)]
    sinks: bool,
    #[serde(flatten)]
    only: Only,
}

/// What is wanted of an event.
#[derive(Debug, Deserialize)]
struct Only {
    /// Only this source's.
    source: Option<String>,
    /// Only those of this severity.
    severity: Option<Severity>,
    /// Only those that this sink has, or will have, to do with.
    sink: Option<String>,
    /// Only those that ended so: at that sink, or at any.
    end: Option<String>,
    /// Only those received since then.
    since: Option<Timestamp>,
    /// Only those received before then.
    until: Option<Timestamp>,
}

/// An event without its body.
#[derive(Serialize)]
struct View {
    id: EventId,
    position: Position,
    source: Arc<str>,
    received: Timestamp,
    bytes: usize,
    severity: Severity,
    state: String,
    simulated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sinks: Option<BTreeMap<Arc<str>, &'static str>>,
}

impl Only {
    /// Whether that can be told from the event alone.
    fn wants(&self, event: &Event) -> bool {
        self.source.as_ref().is_none_or(|source| *event.source == **source)
            && self.since.is_none_or(|since| event.received >= since)
            && self.until.is_none_or(|until| event.received < until)
    }

    fn needs_sinks(&self) -> bool {
        self.sink.is_some() || self.end.is_some()
    }

    /// `event` as it is shown, if it is wanted.
    fn view(
        &self,
        event: &Event,
        engine: &Engine,
        standings: Option<&Standings<'_>>,
    ) -> Option<View> {
        if !self.wants(event) {
            return None;
        }
        let seen = Seen::of(engine, event);
        let finding = seen.draft.finding();
        if self.severity.is_some_and(|severity| finding.severity != severity) {
            return None;
        }
        let mut sinks = standings.map(|standings| standings.sinks(event, &seen));
        if let (Some(sink), Some(end)) = (&self.sink, &self.end)
            && end == End::Filtered.as_str()
            && standings.is_some_and(|standings| standings.is_filtered(event, &seen, sink))
        {
            sinks.get_or_insert_default().insert(sink.as_str().into(), End::Filtered.as_str());
        }
        if self.needs_sinks() && !sinks.as_ref().is_some_and(|sinks| self.wants_sinks(sinks)) {
            return None;
        }
        Some(View {
            id: event.id,
            position: event.position,
            source: event.source.clone(),
            received: event.received,
            bytes: event.body.len(),
            severity: finding.severity,
            state: finding.state.as_str().to_owned(),
            simulated: finding.simulated,
            sinks,
        })
    }

    fn wants_sinks(&self, sinks: &BTreeMap<Arc<str>, &'static str>) -> bool {
        sinks.iter().any(|(name, word)| {
            self.sink.as_ref().is_none_or(|sink| **name == **sink)
                && self.end.as_ref().is_none_or(|end| *word == end.as_str())
        })
    }
}

async fn list(request: HttpRequest, admin: Data<Admin>, asked: Query<Asked>) -> Answer {
    guard(&request, &admin).await?;
    let engine = &*admin.ingress.engine;
    if let Some(end) = &asked.only.end {
        let known = End::ALL.map(End::as_str);
        if !known.contains(&end.as_str()) && !["pending", "settled"].contains(&end.as_str()) {
            let known = known.join(", ");
            return Err(told(400, format!("`end` is one of {known}, pending, settled")));
        }
    }
    match asked.newest || asked.before.is_some() {
        true => newest(engine, &asked).await,
        false => arrived(engine, &asked).await,
    }
}

/// In the order of arrival.
async fn arrived(engine: &Engine, asked: &Asked) -> Answer {
    let log = &*engine.log;
    let from = asked.from.unwrap_or_else(|| log.head().borrow().next);
    if let Some(wait) = asked.wait {
        arrival(log, from, wait.0.min(LONGEST)).await;
    }
    let most = asked.limit.unwrap_or(MOST).clamp(1, MOST);
    let page = log.read(from, Limit { events: most, bytes: BYTES }).await.map_err(unreadable)?;
    let views = views(engine, asked, page.items, from..page.next).await?;
    Ok(HttpResponse::Ok().json(json!({ "next": page.next, "events": views })))
}

/// The newest first, until there are enough or so many were looked at; `before` says where to go on,
/// and is missing at the end.
async fn newest(engine: &Engine, asked: &Asked) -> Answer {
    let (log, limit) = (&*engine.log, asked.limit.unwrap_or(100).clamp(1, MOST));
    let mut floor = log.stats().oldest;
    if let Some(since) = asked.only.since {
        floor = floor.max(log.since(since).await.map_err(unreadable)?);
    }
    let head = log.head().borrow().next;
    let mut at = asked.before.unwrap_or(head).min(head);
    let mut found: Vec<View> = Vec::new();
    for _ in 0..MOST as u64 / STEP {
        if at <= floor || found.len() >= limit {
            break;
        }
        let start = Position(at.0.saturating_sub(STEP)).max(floor);
        let mut step = stretch(engine, asked, start..at).await?;
        step.reverse();
        at = start;
        for view in step {
            if found.len() == limit {
                break;
            }
            if found.len() + 1 == limit {
                at = view.position;
            }
            found.push(view);
        }
    }
    let before = (at > floor).then_some(at);
    Ok(HttpResponse::Ok().json(json!({ "before": before, "events": found })))
}

async fn stretch(
    engine: &Engine,
    asked: &Asked,
    positions: Range<Position>,
) -> Result<Vec<View>, Told> {
    let (mut at, mut all) = (positions.start, Vec::new());
    while at < positions.end {
        let left = usize::try_from(positions.end.since(at)).unwrap_or(usize::MAX);
        let limit = Limit { events: left, bytes: BYTES };
        let page = engine.log.read(at, limit).await.map_err(unreadable)?;
        if page.next <= at {
            break;
        }
        all.extend(views(engine, asked, page.items, at..page.next.min(positions.end)).await?);
        at = page.next;
    }
    Ok(all)
}

async fn views(
    engine: &Engine,
    asked: &Asked,
    items: Vec<Item>,
    positions: Range<Position>,
) -> Result<Vec<View>, Told> {
    let wanted = |item: &Item| match item {
        Item::Event(event) => positions.contains(&event.position) && asked.only.wants(event),
        Item::Gap { .. } => false,
    };
    let standings = match asked.sinks || asked.only.needs_sinks() {
        true if items.iter().any(wanted) => {
            Some(Standings::of(engine, positions.clone()).await.map_err(unreadable)?)
        }
        _ => None,
    };
    let views = items.iter().filter(|item| wanted(item)).filter_map(|item| match item {
        Item::Event(event) => asked.only.view(event, engine, standings.as_ref()),
        Item::Gap { .. } => None,
    });
    Ok(views.collect())
}

/// Wait until there is something at `from`, at most so long.
async fn arrival(log: &dyn Log, from: Position, wait: Duration) {
    let mut head = log.head();
    let arrived = head.wait_for(|head| head.next > from);
    // Too late or closing: the answer then says that there is none.
    let _ = tokio::time::timeout(wait, arrived).await;
}

async fn find(admin: &Admin, id: EventId) -> Result<Arc<Event>, Told> {
    let found = admin.ingress.engine.log.find(id).await.map_err(unreadable)?;
    found.ok_or_else(|| told(404, format!("the log has no event {id}")))
}

async fn body(request: HttpRequest, admin: Data<Admin>, id: web::Path<EventId>) -> Answer {
    guard(&request, &admin).await?;
    let event = find(&admin, *id).await?;
    Ok(HttpResponse::Ok().content_type("application/octet-stream").body(event.body.clone()))
}

/// What became of one event, from its arrival on.
#[derive(Serialize)]
struct Story {
    id: EventId,
    position: Position,
    source: Arc<str>,
    received: Timestamp,
    bytes: usize,
    /// What the decoder makes of it.
    finding: Value,
    /// What every route makes of it now.
    routes: Value,
    /// The configuration in force, by which these two are told.
    config: Arc<str>,
    sinks: Vec<StoryAtSink>,
    receipts: Kept,
}

/// The same at one sink.
#[derive(Serialize)]
struct StoryAtSink {
    sink: Arc<str>,
    /// In a word.
    state: &'static str,
    #[serde(flatten)]
    told: AtSink,
    /// Its last dead letter waits for a person.
    letter_open: bool,
}

/// What the story was read from.
#[derive(Serialize)]
struct Kept {
    /// Receipts are written.
    kept: bool,
    /// When the oldest is from.
    since: Option<Timestamp>,
    /// Segments of their log that were read.
    segments: usize,
    /// Segments there are.
    of: usize,
}

async fn story(request: HttpRequest, admin: Data<Admin>, id: web::Path<EventId>) -> Answer {
    guard(&request, &admin).await?;
    let (engine, event) = (&*admin.ingress.engine, find(&admin, *id).await?);
    let receipts = &engine.receipts;
    let mut timeline = Timeline::of(receipts, event.position).await.map_err(unreadable)?;
    let positions = event.position..event.position.plus(1);
    let standings = Standings::of(engine, positions).await.map_err(unreadable)?;
    let mut sinks = Vec::new();
    for (sink, state) in standings.sinks(&event, &Seen::of(engine, &event)) {
        let told = timeline.sinks.remove(&sink).unwrap_or_default();
        let letter_open = match told.letter {
            Some(letter) => engine.dead.get(letter).await.map_err(unreadable)?.is_some(),
            None => false,
        };
        // A dead letter that was replayed since is told by its last step.
        let state = told.end.filter(|_| told.letter.is_some()).map_or(state, End::as_str);
        sinks.push(StoryAtSink { sink, state, told, letter_open });
    }
    let mut explained =
        (admin.explain)(Explained::Event(event.clone())).map_err(|error| told(500, error))?;
    let explained = &mut explained["events"][0];
    let kept = Kept {
        kept: receipts.are_kept(),
        since: receipts.oldest().await.map_err(unreadable)?,
        segments: timeline.reading.segments,
        of: timeline.reading.of,
    };
    Ok(HttpResponse::Ok().json(Story {
        id: event.id,
        position: event.position,
        source: event.source.clone(),
        received: event.received,
        bytes: event.body.len(),
        finding: explained["finding"].take(),
        routes: explained["routes"].take(),
        config: receipts.config(),
        sinks,
        receipts: kept,
    }))
}
