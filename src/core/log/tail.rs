//! The newest events, in memory: what every delivery reads while it keeps up.
//!
//! Guarantees: a contiguous run that ends at the head, at most `LIMIT` bytes of bodies (and at
//! least nothing); every reader gets the same `Arc<Event>`, so an event is decoded once for all.
//! It is not a queue: nobody waits for it and nothing is lost when it forgets.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Item, Limit};
use crate::core::event::{Event, Position};

/// Bytes of bodies kept.
const LIMIT: usize = 8 << 20;
/// What an event costs beside its body and note, roughly: many tiny ones are bounded, too.
const OVERHEAD: usize = 256;

/// See the module.
#[derive(Default)]
pub(super) struct Tail {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl Tail {
    /// Add the events of a commit; returns what is forgotten for them, to be freed elsewhere.
    pub fn push(&mut self, events: impl Iterator<Item = Arc<Event>>) -> Vec<Arc<Event>> {
        let mut forgotten = Vec::new();
        for event in events {
            let next = self.events.back().map(|last| last.position.plus(1));
            if next.is_some_and(|next| next != event.position) {
                forgotten.extend(self.events.drain(..));
                self.bytes = 0;
            }
            self.bytes += cost(&event);
            self.events.push_back(event);
        }
        while self.bytes > LIMIT {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= cost(&oldest);
            forgotten.push(oldest);
        }
        forgotten
    }

    /// The events from `from` on, as far as `max` allows, if `from` is in here.
    pub fn read(&self, from: Position, max: Limit) -> Option<Vec<Item>> {
        let first = self.events.front()?.position;
        let start = usize::try_from(from.0.checked_sub(first.0)?).ok()?;
        if start >= self.events.len() {
            return None;
        }
        let mut items = Vec::new();
        let mut bytes = 0;
        for event in self.events.range(start..) {
            bytes += event.body.len();
            if !items.is_empty() && (items.len() >= max.events || bytes > max.bytes) {
                break;
            }
            items.push(Item::Event(event.clone()));
        }
        Some(items)
    }

    /// The event that `wanted` picks.
    pub fn find(&self, wanted: impl Fn(&Event) -> bool) -> Option<Arc<Event>> {
        self.events.iter().rev().find(|event| wanted(event)).cloned()
    }
}

fn cost(event: &Event) -> usize {
    event.body.len() + event.note.len() + OVERHEAD
}
