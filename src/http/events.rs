//! Reading the log from outside: what has arrived, and one event's body.
//!
//! Guarantees: only reads; a page and a wait are bounded; a body is given byte for byte. What
//! becomes of an event is for `explain`, and how it stands at its sinks for `deliveries.rs`.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{self, Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::admin::{Admin, Answer, guard, told, unreadable};
use crate::core::Timestamp;
use crate::core::config::Span;
use crate::core::event::{Event, EventId, Position};
use crate::core::log::{Item, Limit, Log, Page};

/// Most events looked at for one answer.
const MOST: usize = 1_000;
/// Most bytes of bodies read for one answer; bodies are not part of it.
const BYTES: usize = 16 << 20;
/// Longest that an answer waits for an event.
const LONGEST: Duration = Duration::from_secs(60);

/// The routes of this file.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/v1/events", web::get().to(list))
        .route("/api/v1/events/{id}/body", web::get().to(body));
}

/// Which events: in the order of their arrival.
#[derive(Debug, Deserialize)]
struct Asked {
    /// From this position on; from the head on, so that none is listed yet, unless set.
    from: Option<Position>,
    /// Only this source's.
    source: Option<String>,
    /// Wait so long for the first one.
    wait: Option<Span>,
}

/// An event without its body.
#[derive(Serialize)]
struct View<'e> {
    id: EventId,
    position: Position,
    source: &'e str,
    received: Timestamp,
    bytes: usize,
}

async fn list(request: HttpRequest, admin: Data<Admin>, asked: Query<Asked>) -> Answer {
    guard(&request, &admin).await?;
    let log = &*admin.ingress.engine.log;
    let from = asked.from.unwrap_or_else(|| log.head().borrow().next);
    if let Some(wait) = asked.wait {
        arrival(log, from, wait.0.min(LONGEST)).await;
    }
    let page = log.read(from, Limit { events: MOST, bytes: BYTES }).await.map_err(unreadable)?;
    let events = events(&page);
    let wanted =
        |event: &&Arc<Event>| asked.source.as_ref().is_none_or(|source| *event.source == **source);
    let events: Vec<View<'_>> = events.filter(wanted).map(view).collect();
    Ok(HttpResponse::Ok().json(json!({ "next": page.next, "events": events })))
}

/// Wait until there is something at `from`, at most so long.
async fn arrival(log: &dyn Log, from: Position, wait: Duration) {
    let mut head = log.head();
    let arrived = head.wait_for(|head| head.next > from);
    // Too late or closing: the answer then says that there is none.
    let _ = tokio::time::timeout(wait, arrived).await;
}

fn events(page: &Page) -> impl Iterator<Item = &Arc<Event>> {
    page.items.iter().filter_map(|item| match item {
        Item::Event(event) => Some(event),
        Item::Gap { .. } => None,
    })
}

fn view(event: &Arc<Event>) -> View<'_> {
    View {
        id: event.id,
        position: event.position,
        source: &event.source,
        received: event.received,
        bytes: event.body.len(),
    }
}

async fn body(request: HttpRequest, admin: Data<Admin>, id: web::Path<EventId>) -> Answer {
    guard(&request, &admin).await?;
    let found = admin.ingress.engine.log.find(*id).await.map_err(unreadable)?;
    let event = found.ok_or_else(|| told(404, format!("the log has no event {id}")))?;
    Ok(HttpResponse::Ok().content_type("application/octet-stream").body(event.body.clone()))
}
