//! Taking events in: from the log, from the dead letters, from a log that failed.
//!
//! Guarantees: what no route gives to this sink is settled as filtered at once; what cannot be
//! shaped or encoded is dead-lettered, never sent in another form.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::batch::{Hold, Item, Origin, Streak};
use super::super::{Extra, Rules};
use super::Worker;
use crate::core::event::Event;
use crate::core::log::{End, Item as Step, LogError, Loss, Page};
use crate::core::route::{RouteId, Shaped, Trouble};
use crate::core::sink::Piece;

/// How long a worker that could not read the log waits, while what it holds goes on.
const REREAD: Duration = Duration::from_secs(1);

impl Worker {
    pub(super) async fn take_page(&mut self, page: Result<Page, LogError>) {
        let page = match page {
            Ok(page) => page,
            Err(error) => return self.cannot_read(&error),
        };
        let rules = self.rules();
        for step in page.items {
            match step {
                Step::Event(event) => {
                    let choice = rules.select.choose(&event);
                    match self.route(&event, &choice) {
                        Some(route) => self.admit(event, route, &rules).await,
                        None => self.books.end(event.position, End::Filtered),
                    }
                }
                // Counted with the ledger, see `Books::publish`.
                Step::Gap { positions, loss: Loss::Expired } => {
                    self.books.lost(&positions, Loss::Expired);
                }
                Step::Gap { positions, loss: Loss::Damaged } => {
                    self.books.lost(&positions, Loss::Damaged);
                    let count = positions.end.since(positions.start);
                    self.books.metrics.settled(End::Damaged, count);
                    tracing::error!(sink = %self.books.sink, from = positions.start.0, count, "events of the log are damaged and lost");
                }
            }
        }
    }

    pub(super) fn cannot_read(&mut self, error: &LogError) {
        tracing::error!(sink = %self.books.sink, %error, "cannot read the log; trying again");
        self.read_from = Some(Instant::now() + REREAD);
    }

    pub(super) async fn take_extra(&mut self, extra: Extra) {
        let (event, origin) = match extra {
            Extra::Replay { letter, event, fix } => {
                self.books.fixes.extend(fix.map(|fix| (letter, fix)));
                (event, Origin::Replay(letter))
            }
            Extra::Spill(event) => (event, Origin::Spill),
        };
        let rules = self.rules();
        let choice = rules.select.choose(&event);
        // A person asked for a replay: it goes even if no route would give it today.
        let route = choice.route_for(&self.books.sink).cloned().unwrap_or_else(|| "replay".into());
        match origin {
            Origin::Spill => self.admit_spilled(event, route, &rules).await,
            _ => self.take_in(event, route, origin, &rules).await,
        }
    }

    /// Shape and encode an event that the sink wants, and queue it.
    /// The rules are those that chose the route: others may not know it, or mean another by it.
    pub(super) async fn take_in(
        &mut self,
        event: Arc<Event>,
        route: RouteId,
        origin: Origin,
        rules: &Rules,
    ) {
        let shaped = rules.shape.shape(&event, &route);
        if shaped.is_err() {
            self.books.engine.metrics.route_trouble(&route, Trouble::Failed);
        }
        let encoded = shaped.and_then(|shaped| {
            let bytes = self.sink.encode(&shaped, self.limits.event_bytes)?;
            Ok((shaped, bytes))
        });
        let (shaped, bytes, fault) = match encoded {
            Ok((shaped, bytes)) => (shaped, bytes, None),
            Err(fault) => {
                let body = event.body.clone();
                (Shaped::unshaped(event.clone()), body, Some(fault))
            }
        };
        self.seq += 1;
        let piece = Piece::of(&event, bytes);
        let now = (self.books.engine.clock)();
        let item = Item {
            seq: self.seq,
            age_read: Duration::try_from(now.duration_since(event.received)).unwrap_or_default(),
            event,
            shaped,
            route,
            piece,
            origin,
            read_at: Instant::now(),
            attempts: 0,
            streak: Streak::default(),
            hold: Hold::Free,
        };
        match fault {
            // It cannot be written for this destination, whatever the destination says.
            Some(fault) => self.bury(item, fault).await,
            None => self.queue.put(item),
        }
    }
}
