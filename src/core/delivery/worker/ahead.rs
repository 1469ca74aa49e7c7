//! Urgent first: while a backlog waits, the critical events in it are taken before their turn.
//!
//! Guarantees: an event that is taken here is read once and settled once; before a critical event go
//! the earlier ones of its incident that this sink still lacks, so that the order within an incident
//! holds. Where that cannot be known yet, or they are too many, the event waits for its turn. It
//! shares everything else with the rest: rate, breaker, window, guard and routes.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::Rules;
use super::super::guard::HELD;
use super::super::lookout::{Seen, Signs};
use super::{PAGE, WINDOW_EVENTS, Worker};
use crate::core::event::{Event, Position};
use crate::core::log::{Claim, Item as Step, Limit, Log, LogError};

/// Events a worker holds beside its window because they are urgent.
const URGENT_EVENTS: usize = 256;
/// Critical events that are known and not taken yet, roughly.
const FOUND: usize = 1_000;
/// Events whose signs are read at once.
const BLOCK: u64 = 10_000;
/// Earlier events of one incident that are brought along.
const BEFORE: usize = 200;
/// Critical events that are taken before the worker looks around again.
const AT_ONCE: usize = 32;
/// How long a worker looks ahead at once, while its answers wait; and until it goes on.
const LOOK: Duration = Duration::from_millis(20);
const SOON: Duration = Duration::from_millis(5);
/// Until the next try when the log cannot be read; the ordinary reader tells of it.
const LATER: Duration = Duration::from_secs(1);
const ONE: Limit = Limit { events: 1, bytes: 1 };

/// The critical events of the backlog that were seen and not taken yet.
#[derive(Default)]
pub(super) struct Scout {
    /// What has been searched.
    seen: Range<Position>,
    found: BTreeSet<Position>,
    /// When to go on, if there is more to do.
    pub again: Option<Instant>,
}

/// What became of a critical event.
enum Taken {
    /// It is in hand, or it waits for its turn.
    Settled,
    /// What comes before it is not known yet.
    Unknown,
    /// There is no room.
    Full,
}

impl Scout {
    /// Look for critical events in what is known of `unread`: the newest first.
    fn search(&mut self, signs: &Signs, unread: &Range<Position>) {
        self.found = self.found.split_off(&unread.start);
        let known = signs.known(unread);
        if self.seen.is_empty()
            || self.seen.end < known.start
            || self.seen.start > known.end
            || self.seen.end > known.end
        {
            self.seen = known.end..known.end;
        }
        while self.found.len() < FOUND {
            let block = if self.seen.end < known.end {
                let block = self.seen.end..self.seen.end.plus(BLOCK).min(known.end);
                self.seen.end = block.end;
                block
            } else if self.seen.start > known.start {
                let from = Position(self.seen.start.0.saturating_sub(BLOCK)).max(known.start);
                let block = from..self.seen.start;
                self.seen.start = from;
                block
            } else {
                return;
            };
            self.found.extend(signs.critical(block));
        }
    }
}

impl Worker {
    /// Take what is urgent out of the backlog, if there is one.
    pub(super) async fn look_ahead(&mut self) {
        self.scout.again = None;
        let Some(unread) = self.backlog() else {
            self.scout = Scout::default();
            return;
        };
        if !self.has_room_ahead() {
            return;
        }
        let (engine, rules) = (self.books.engine.clone(), self.rules());
        let (until, urgent) = (Instant::now() + LOOK, self.head.borrow().urgent > unread.start);
        loop {
            let look = engine.lookout.look(&*engine.log, &*rules.select, unread.clone(), urgent);
            match look.await {
                Ok(Seen::All) => break,
                Ok(Seen::Part) if Instant::now() < until => continue,
                Ok(_) => self.scout.again = Some(Instant::now() + SOON),
                Err(_) => self.scout.again = Some(Instant::now() + LATER),
            }
            break;
        }
        self.scout.search(&engine.lookout.signs(), &unread);
        if self.take_found(&unread, &rules).await.is_err() {
            self.scout.again = Some(Instant::now() + LATER);
        }
    }

    /// What it has not read, when that is more than it will read at once.
    fn backlog(&mut self) -> Option<Range<Position>> {
        if self.limits.ordered || self.hands_over() {
            return None;
        }
        let (next, head) = (self.books.reader.standing().next, self.head.borrow().next);
        let end = self.until().map_or(head, |until| until.min(head));
        let waits = end.since(next) > PAGE.events as u64 || !self.has_room();
        (waits && end > next).then_some(next..end)
    }

    fn has_room_ahead(&self) -> bool {
        self.queue.len() + self.flying.events < WINDOW_EVENTS + URGENT_EVENTS
            && self.held() < HELD as u64
            && self.queue.bytes() + self.flying.bytes < self.window_bytes
    }

    async fn take_found(
        &mut self,
        unread: &Range<Position>,
        rules: &Rules,
    ) -> Result<(), LogError> {
        let found: Vec<Position> = self.scout.found.iter().copied().collect();
        let mut taken = 0;
        for position in found {
            if taken == AT_ONCE {
                self.scout.again = Some(Instant::now());
                break;
            }
            match self.take_ahead(position, unread.start, rules).await? {
                Taken::Full => break,
                Taken::Unknown => continue,
                Taken::Settled => self.scout.found.remove(&position),
            };
            taken += 1;
        }
        Ok(())
    }

    /// Take the critical event at `position`, after those of its incident since `start`.
    async fn take_ahead(
        &mut self,
        position: Position,
        start: Position,
        rules: &Rules,
    ) -> Result<Taken, LogError> {
        let before = {
            let signs = self.books.engine.lookout.signs();
            let missing = |at: &Position| !self.books.reader.is_taken(*at);
            match signs.before(position, start) {
                Some(same) => same.filter(missing).take(BEFORE + 1).collect::<Vec<_>>(),
                None if signs.is_full() => return Ok(Taken::Settled),
                None => return Ok(Taken::Unknown),
            }
        };
        if before.len() > BEFORE {
            return Ok(Taken::Settled);
        }
        let log = self.books.engine.log.clone();
        for at in before.into_iter().chain([position]) {
            if !self.has_room_ahead() {
                return Ok(Taken::Full);
            }
            let Some(event) = event_at(&*log, at).await? else { continue };
            let choice = rules.select.choose(&event);
            // What nobody wants here is filtered in its turn.
            let Some(route) = self.route(&event, &choice) else { continue };
            match self.books.reader.claim(at) {
                Claim::Had => {}
                Claim::Full => return Ok(Taken::Full),
                Claim::Yes => {
                    self.books.metrics.went_first();
                    self.admit(event, route, rules).await;
                }
            }
        }
        Ok(Taken::Settled)
    }
}

async fn event_at(log: &dyn Log, at: Position) -> Result<Option<Arc<Event>>, LogError> {
    let page = log.read(at, ONE).await?;
    Ok(page.items.into_iter().find_map(|step| match step {
        Step::Event(event) if event.position == at => Some(event),
        _ => None,
    }))
}
