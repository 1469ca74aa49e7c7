//! Replays: how much a stretch of the log holds for a sink, and delivering it once more.
//!
//! Guarantees: without `go` nothing is begun; what is begun is what was counted; people are told of old
//! events only on purpose. It counts; the sink's worker delivers.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web::{self, Data, Query};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Admin, Answer, Guarded, Told, guard, told, unreadable};
use crate::core::Timestamp;
use crate::core::event::Event;
use crate::core::log::{Item, Limit};
use crate::core::replays::Replay;

/// Events looked at in one step.
const PAGE: Limit = Limit { events: 1_000, bytes: 4 << 20 };

/// The routes of this file.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/v1/replays", web::get().to(list))
        .route("/api/v1/replays", web::post().to(replay))
        .route("/api/v1/replays/{number}/cancel", web::post().to(cancel));
}

/// Which events, and for whom.
#[derive(Debug, Deserialize)]
struct Wanted {
    sink: Arc<str>,
    /// Received at or after.
    since: Timestamp,
    /// Received before; until now unless set.
    until: Option<Timestamp>,
    /// What this route takes, whichever sinks it names.
    route: Option<Arc<str>>,
    /// Begin.
    #[serde(default)]
    go: bool,
    /// Although people read what the sink delivers.
    #[serde(default)]
    notify: bool,
}

/// What a stretch of the log holds.
#[derive(Default, Serialize)]
struct Tally {
    events: u64,
    bytes: u64,
    /// Positions whose events are gone.
    lost: u64,
    by_route: BTreeMap<Arc<str>, u64>,
    by_severity: BTreeMap<String, u64>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Tally {
    fn add(&mut self, event: &Event, route: Arc<str>) {
        self.events += 1;
        self.bytes += event.body.len() as u64;
        *self.by_route.entry(route).or_default() += 1;
        *self.by_severity.entry(event.finding().severity.to_string()).or_default() += 1;
        self.first.get_or_insert(event.received);
        self.last = Some(event.received);
    }
}

async fn replay((request, admin): Guarded, wanted: Query<Wanted>) -> Answer {
    guard(&request, &admin).await?;
    let engine = admin.engine();
    if !engine.metrics.sinks().iter().any(|(sink, _)| *sink == wanted.sink) {
        return Err(told(404, format!("there is no sink {}", wanted.sink)));
    }
    let head = engine.log.head().borrow().next;
    let from = engine.log.since(wanted.since).await.map_err(unreadable)?;
    let until = match wanted.until {
        Some(until) => engine.log.since(until).await.map_err(unreadable)?.min(head),
        None => head,
    };
    if until <= from {
        return Err(told(409, "the log holds nothing from this time"));
    }
    let (sink, route) = (wanted.sink.clone(), wanted.route.clone());
    let asked = (engine.clock)();
    let replay = Replay { number: 0, sink, route, from, until, asked };
    let tally = count(&admin, &replay).await?;
    let mut answer = json!({ "sink": wanted.sink, "from": from, "until": until, "go": wanted.go });
    merge(&mut answer, json!(tally));
    if !wanted.go {
        answer["note"] = "a dry run: nothing was sent; --go (go=true) sends these".into();
        return Ok(HttpResponse::Ok().json(answer));
    }
    if (admin.guarded)(&wanted.sink) && !wanted.notify {
        let error = format!(
            "sink {} writes to people or opens tickets; to replay to them all the same, add --notify (notify=true)",
            wanted.sink
        );
        return Err(told(409, error));
    }
    if tally.events == 0 {
        return Err(told(409, format!("none of these events are for sink {}", wanted.sink)));
    }
    let number = engine.replays.begin(replay).map_err(|error| told(503, error))?;
    answer["replay"] = number.into();
    tracing::info!(sink = %wanted.sink, replay = number, events = tally.events, from = from.0, until = until.0, "a replay begins");
    Ok(HttpResponse::Accepted().json(answer))
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

async fn count(admin: &Admin, replay: &Replay) -> Result<Tally, Told> {
    let (engine, mut tally) = (admin.engine(), Tally::default());
    let rules = engine.rules.load_full();
    let mut next = replay.from;
    while next < replay.until {
        let page = engine.log.read(next, PAGE).await.map_err(unreadable)?;
        for step in page.items {
            match step {
                Item::Event(event) if event.position < replay.until => {
                    let choice = rules.select.choose(&event);
                    if let Some(route) = replay.route_of(&event, &choice) {
                        tally.add(&event, route);
                    }
                }
                Item::Event(_) => {}
                Item::Gap { positions, .. } => {
                    tally.lost += positions.end.min(replay.until).since(positions.start);
                }
            }
        }
        next = page.next.max(next.plus(1));
    }
    Ok(tally)
}

/// How far each is, and what became of the last that ended.
async fn list(request: HttpRequest, admin: Data<Admin>) -> Answer {
    guard(&request, &admin).await?;
    let engine = admin.engine();
    let deliveries = engine.log.stats().deliveries;
    let view = |replay: &Replay| {
        let cursor = replay.cursor();
        let standing = deliveries.iter().find(|(name, _)| *name == cursor).map(|(_, s)| *s);
        let settled = standing.map_or(0, |standing| standing.terms.total());
        let all = replay.until.since(replay.from);
        let mut view = json!(replay);
        view["done"] = format!("{} %", settled * 100 / all.max(1)).into();
        view["delivered"] = standing.map_or(0, |standing| standing.terms.delivered).into();
        view["dead"] = standing.map_or(0, |standing| standing.terms.dead).into();
        view
    };
    let running: Vec<Value> = engine.replays.all().iter().map(view).collect();
    Ok(HttpResponse::Ok().json(json!({ "replays": running, "ended": engine.replays.ended() })))
}

async fn cancel((request, admin): Guarded, number: web::Path<u64>) -> Answer {
    guard(&request, &admin).await?;
    match admin.engine().replays.end(*number, None) {
        Ok(true) => Ok(HttpResponse::Ok().json(json!({ "cancelled": *number }))),
        Ok(false) => Err(told(404, format!("no replay {number} is under way"))),
        Err(error) => Err(told(503, error)),
    }
}
