//! "Is it in Sophos?": how an event stands at each of its sinks, for replies.
//!
//! Guarantees: a waiter is registered before the append, so it misses nothing; waiting is bounded.
//! It asks the fates, the log and the cursors, and decides nothing.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::core::delivery::{Engine, Fate, Fates};
use crate::core::event::{Event, EventId};
use crate::core::log::End;
use crate::core::route::Choice;

/// Longest wait a request may ask for.
pub const LONGEST: Duration = Duration::from_secs(60);

/// One event at one sink.
#[derive(Debug, Serialize)]
pub struct DeliveryView {
    /// The sink.
    pub sink: Arc<str>,
    /// `delivered`, `dead`, `expired`, `filtered` (by the sink's guard), `pending`; or `settled` when it ended before the gateway
    /// was last started, so that how it ended is no longer in memory.
    pub state: &'static str,
    /// HTTP status of the destination's last reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What the destination says it took.
    #[serde(rename = "successCount", skip_serializing_if = "Option::is_none")]
    pub success_count: Option<u64>,
    /// Attempts so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Cause of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// What to know about the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The beginning of the destination's last reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
}

impl DeliveryView {
    fn bare(sink: &Arc<str>, state: &'static str) -> Self {
        Self {
            sink: sink.clone(),
            state,
            status: None,
            success_count: None,
            attempts: None,
            cause: None,
            note: None,
            reply: None,
        }
    }

    fn of(sink: &Arc<str>, fate: &Fate) -> Self {
        let reply = fate.reply.as_ref();
        Self {
            status: reply.and_then(|reply| reply.status),
            success_count: reply.and_then(|reply| reply.accepted),
            attempts: Some(fate.attempts),
            cause: fate.cause.map(|cause| cause.as_str()),
            note: Some(fate.note.clone()).filter(|note| !note.is_empty()),
            reply: reply.map(|reply| reply.excerpt.clone()).filter(|text| !text.is_empty()),
            ..Self::bare(sink, fate.end.map_or("pending", End::as_str))
        }
    }
}

/// Whether every sink of `choice` has settled `id`; those in `past` did so before the last start.
pub fn settled(fates: &Fates, id: EventId, choice: &Choice, past: &[Arc<str>]) -> bool {
    let known = fates.of(id);
    choice.sinks().all(|sink| {
        past.contains(sink) || known.iter().any(|(name, fate)| name == sink && fate.end.is_some())
    })
}

/// How the event `id` with this routing answer stands.
pub fn of(fates: &Fates, id: EventId, choice: &Choice) -> Vec<DeliveryView> {
    let known = fates.of(id);
    let view = |sink: &Arc<str>| match known.iter().find(|(name, _)| name == sink) {
        Some((_, fate)) => DeliveryView::of(sink, fate),
        None => DeliveryView::bare(sink, "pending"),
    };
    choice.sinks().map(view).collect()
}

/// How an earlier event stands, also one from before the last start.
pub async fn of_stored(engine: &Engine, id: EventId) -> Vec<DeliveryView> {
    let Ok(Some(event)) = engine.log.find(id).await else { return Vec::new() };
    let choice = engine.rules.load().select.choose(&event);
    let past = passed(engine, &event, &choice);
    let mut views = of(&engine.fates, id, &choice);
    for view in views.iter_mut().filter(|view| view.state == "pending" && view.attempts.is_none()) {
        if past.contains(&view.sink) {
            view.state = "settled";
        }
    }
    views
}

/// The sinks of `choice` that are past the event `id`, which may be from before the last start.
pub async fn past(engine: &Engine, id: EventId, choice: &Choice) -> Vec<Arc<str>> {
    match engine.log.find(id).await {
        Ok(Some(event)) => passed(engine, &event, choice),
        _ => Vec::new(),
    }
}

fn passed(engine: &Engine, event: &Event, choice: &Choice) -> Vec<Arc<str>> {
    let standings = engine.log.stats().deliveries;
    let is_past = |sink: &&Arc<str>| {
        standings.iter().any(|(name, standing)| {
            **name == ***sink && (standing.start..standing.mark).contains(&event.position)
        })
    };
    choice.sinks().filter(is_past).cloned().collect()
}
