//! How events stand at every sink: from memory, from receipts, and from the cursors.
//!
//! Guarantees: only reads; an end is told only where something says so. What ended where nobody
//! remembers how, because its receipt was freed or lost, is `settled`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::core::delivery::Engine;
use crate::core::event::{Draft, Event, Position};
use crate::core::log::{End, LogError, Standing};
use crate::core::receipts::Ends;
use crate::core::route::Choice;

/// What is known of the events of a page.
pub(super) struct Standings<'e> {
    engine: &'e Engine,
    ends: Ends,
    cursors: Vec<(String, Standing)>,
}

/// One event as the rules that are in force now see it.
pub(super) struct Seen {
    /// With its finding. A copy, so that looking leaves no trace.
    pub draft: Draft,
    /// Where it would go.
    pub choice: Choice,
}

impl Seen {
    pub fn of(engine: &Engine, event: &Event) -> Self {
        let draft = Draft::new(event.id, event.received, event.source.clone(), event.body.clone());
        let choice = engine.rules.load().select.choose(&draft);
        Self { draft, choice }
    }
}

impl<'e> Standings<'e> {
    /// Of the events at `positions`.
    pub async fn of(engine: &'e Engine, positions: Range<Position>) -> Result<Self, LogError> {
        let ends = Ends::of(&engine.receipts, positions).await?;
        Ok(Self { engine, ends, cursors: engine.log.stats().deliveries })
    }

    /// Every sink that has, or will have, something to do with the event, in a word: how it ended,
    /// `pending`, or `settled`.
    pub fn sinks(&self, event: &Event, seen: &Seen) -> BTreeMap<Arc<str>, &'static str> {
        let fates = self.engine.fates.of(event.id);
        let tried = self.ends.sinks(event.position).chain(fates.iter().map(|(sink, _)| sink));
        let routed = seen.choice.sinks().filter(|sink| self.concerns(event, sink));
        let all = tried.chain(routed).map(|sink| {
            let fate = fates.iter().find(|(name, _)| name == sink).and_then(|(_, fate)| fate.end);
            let kept = || self.ends.end(sink, event.position).flatten();
            let word = fate.or_else(kept).map_or_else(|| self.word(event, sink), End::as_str);
            (sink.clone(), word)
        });
        all.collect()
    }

    /// How it stands at `sink`, which no route gives it to: filtered, if it has come to it.
    pub fn is_filtered(&self, event: &Event, seen: &Seen, sink: &str) -> bool {
        let kept = self.ends.end(sink, event.position).flatten();
        match kept {
            Some(end) => end == End::Filtered,
            None => seen.choice.route_for(sink).is_none() && self.is_past(event, sink),
        }
    }

    fn word(&self, event: &Event, sink: &str) -> &'static str {
        if self.is_past(event, sink) { "settled" } else { "pending" }
    }

    fn cursor(&self, sink: &str) -> Option<&Standing> {
        self.cursors.iter().find(|(name, _)| name == sink).map(|(_, standing)| standing)
    }

    /// The sink had begun when the event came.
    fn concerns(&self, event: &Event, sink: &str) -> bool {
        self.cursor(sink).is_some_and(|standing| standing.start <= event.position)
    }

    fn is_past(&self, event: &Event, sink: &str) -> bool {
        let past = |standing: &Standing| (standing.start..standing.mark).contains(&event.position);
        self.cursor(sink).is_some_and(past)
    }
}
