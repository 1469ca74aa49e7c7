//! Second deliveries at work: what of a replay or of another sink's backlog goes through this sink.
//!
//! Guarantees: they are outside the ledger and counted by themselves; a replay goes after all that is
//! new, and as asked for, whatever the guard says; what comes in another sink's stead obeys the guard,
//! is never an alarm of the gateway's own, and never what this sink gets anyway.

use std::time::Duration;

use tokio::time::Instant;

use super::super::batch::Origin;
use super::super::guard::{News, OWN, Ruling};
use super::super::seconds::{Backing, Errand};
use super::{Limit, Worker};
use crate::core::event::Event;
use crate::core::log::{Item as Step, LogError, Page};
use crate::core::route::{Choice, RouteId};

/// Events of second deliveries that are read at once.
pub(super) const SECOND_PAGE: Limit = Limit { events: 64, bytes: 256 << 10 };
/// Until the next try to begin or end one.
const AGAIN: Duration = Duration::from_secs(1);
/// Events in hand, of whatever origin, up to which more of them are read.
const SECOND_EVENTS: usize = 256;

impl Worker {
    pub(super) fn has_room_for_seconds(&self) -> bool {
        !self.is_leaving()
            && self.read_from.is_none()
            && self.queue.len() + self.flying.events < SECOND_EVENTS
            && self.queue.bytes() + self.flying.bytes < self.window_bytes / 4
    }

    /// Begin and end them.
    pub(super) async fn look_at_seconds(&mut self) {
        let now = Instant::now();
        self.seconds_from = self.seconds_from.filter(|at| *at > now);
        if self.is_leaving() || self.seconds_from.is_some() {
            return;
        }
        let engine = self.books.engine.clone();
        if let Err(error) = self.books.seconds.look(&engine, now).await {
            self.seconds_from = Some(now + AGAIN);
            tracing::warn!(sink = %self.books.sink, %error, "a replay or a fallback cannot begin or end yet");
        }
    }

    pub(super) async fn take_second(&mut self, id: u64, page: Result<Page, LogError>) {
        let page = match page {
            Ok(page) => page,
            Err(error) => return self.cannot_read(&error),
        };
        let Some(errand) = self.books.seconds.errand(id).cloned() else { return };
        let rules = self.rules();
        for step in page.items {
            // What is lost the cursor has counted already.
            let Step::Event(event) = step else { continue };
            let choice = rules.select.choose(&event);
            let wanted = match &errand {
                Errand::Replay(replay) => {
                    let route = replay.route_of(&event, &choice);
                    route.map(|route| (route, Origin::Again(id)))
                }
                Errand::Fallback(backing) => {
                    let route = self.instead(backing, &event, &choice);
                    route.map(|route| (route, Origin::Instead(id)))
                }
            };
            match wanted {
                Some((route, origin)) => {
                    self.books.seconds.took(id);
                    self.take_in(event, route, origin, &rules).await;
                }
                None => self.books.seconds.leave(id, event.position),
            }
        }
    }

    /// The route by which this sink gets `event` in the stead of another.
    fn instead(&mut self, backing: &Backing, event: &Event, choice: &Choice) -> Option<RouteId> {
        let route = choice.route_for(&backing.sink)?.clone();
        if *event.source == *OWN || self.route(event, choice).is_some() {
            return None;
        }
        let now = (self.books.engine.clock)();
        let guard = self.guard.as_mut();
        let ruling = guard.map_or(Ruling::Tell, |guard| guard.judge(News::of(event), &route, now));
        (ruling == Ruling::Tell).then_some(route)
    }
}
