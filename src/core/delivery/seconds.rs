//! Second deliveries of one sink: replays, and events of another sink that it stands in for.
//!
//! Guarantees: each reads the log at a cursor of its own, which holds back nothing of the log and is
//! no part of the sink's ledger; it goes on where it was after a restart. It decides which stretch is
//! read and when; what is sent and how is the worker's.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Engine;
use crate::core::event::Position;
use crate::core::log::{End, Limit, Log, LogError, Page, Reader, Start};
use crate::core::metrics::Vitals;
use crate::core::replays::Replay;

/// A sink that another one stands in for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The sink whose events come here while it takes none.
    pub sink: Arc<str>,
    /// How long it must have been down.
    pub after: Duration,
}

impl Backing {
    /// Whether its events are to come here now.
    fn is_needed(&self, vitals: &Vitals, now: Instant) -> bool {
        let since = |down: Instant| now.saturating_duration_since(down) >= self.after;
        vitals.is_parked() || vitals.down_since.is_some_and(since)
    }

    /// The name of the cursor in the log: no sink can have it.
    fn cursor(&self, by: &str) -> String {
        format!("fallback:{}:{by}", self.sink)
    }
}

/// What a second delivery is for.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    Replay(Replay),
    Fallback(Backing),
}

/// One of them, while it reads.
struct Second {
    id: u64,
    errand: Errand,
    cursor: String,
    reader: Box<dyn Reader>,
    /// In the worker's hands.
    in_hand: usize,
    /// No more is read: it ends when its hands are empty.
    closing: bool,
}

impl Second {
    fn end(&self) -> Position {
        match &self.errand {
            Errand::Replay(replay) => replay.until,
            Errand::Fallback(_) => Position(u64::MAX),
        }
    }

    fn has_more(&self) -> bool {
        !self.closing && self.reader.standing().next < self.end()
    }
}

/// All of them.
pub(super) struct Seconds {
    sink: Arc<str>,
    backing: Vec<Backing>,
    list: Vec<Second>,
    last: u64,
}

impl Seconds {
    pub fn new(sink: Arc<str>, backing: Vec<Backing>) -> Self {
        Self { sink, backing, list: Vec::new(), last: 0 }
    }

    /// Whether time alone may change what is to be done.
    pub fn watches(&self) -> bool {
        !self.backing.is_empty()
    }

    pub fn errand(&self, id: u64) -> Option<&Errand> {
        self.list.iter().find(|second| second.id == id).map(|second| &second.errand)
    }

    /// The next events of one that has any, and whose; waits while there are none. Cancel-safe.
    pub async fn next(&mut self, max: Limit) -> (u64, Result<Page, LogError>) {
        let Some(second) = self.list.iter_mut().find(|second| second.has_more()) else {
            return std::future::pending().await;
        };
        let left = second.end().since(second.reader.standing().next);
        let events = max.events.min(usize::try_from(left).unwrap_or(usize::MAX));
        (second.id, second.reader.next(Limit { events, ..max }).await)
    }

    /// An event is in hand.
    pub fn took(&mut self, id: u64) {
        if let Some(second) = self.list.iter_mut().find(|second| second.id == id) {
            second.in_hand += 1;
        }
    }

    /// An event that was in hand has ended.
    pub fn ended(&mut self, id: u64, position: Position, end: End) {
        if let Some(second) = self.list.iter_mut().find(|second| second.id == id) {
            second.in_hand = second.in_hand.saturating_sub(1);
            second.reader.done(position, end);
        }
    }

    /// An event that is not for this sink.
    pub fn leave(&mut self, id: u64, position: Position) {
        if let Some(second) = self.list.iter_mut().find(|second| second.id == id) {
            second.reader.done(position, End::Filtered);
        }
    }

    /// Begin what is due, end what is over.
    pub async fn look(&mut self, engine: &Engine, now: Instant) -> Result<(), LogError> {
        self.look_at_replays(engine).await?;
        self.look_at_backing(engine, now).await
    }

    async fn look_at_replays(&mut self, engine: &Engine) -> Result<(), LogError> {
        let wanted: Vec<Replay> = engine.replays.all();
        let mine = wanted.into_iter().filter(|replay| replay.sink == self.sink);
        let mine: Vec<Replay> = mine.collect();
        for second in &mut self.list {
            if let Errand::Replay(replay) = &second.errand {
                // Cancelled, and perhaps a replay of the same number has never been begun.
                second.closing |= !mine.contains(replay);
            }
        }
        for replay in mine {
            let cursor = replay.cursor();
            if self.at(&cursor).is_none() {
                let mut reader = open(&*engine.log, &cursor, replay.from).await?;
                if reader.standing().start != replay.from {
                    // Left by another of the same number.
                    drop(reader);
                    engine.log.forget(&cursor).await?;
                    reader = open(&*engine.log, &cursor, replay.from).await?;
                }
                self.add(Errand::Replay(replay), cursor, reader);
            }
        }
        while let Some(index) = self.over() {
            let Errand::Replay(Replay { number, .. }) = self.list[index].errand else { break };
            let terms = self.list[index].reader.standing().terms;
            match engine.replays.end(number, Some(terms)) {
                Ok(true) => {
                    tracing::info!(sink = %self.sink, replay = number, delivered = terms.delivered, dead = terms.dead, lost = terms.expired + terms.damaged, "replayed");
                }
                Ok(false) => {
                    tracing::info!(sink = %self.sink, replay = number, delivered = terms.delivered, "the replay was cancelled");
                }
                // It stays, as done as it is, and is ended later.
                Err(error) => {
                    let what = format!("store the end of replay {number}");
                    return Err(LogError::Io { what, source: error });
                }
            }
            let Second { cursor, reader, .. } = self.list.remove(index);
            drop(reader);
            engine.log.forget(&cursor).await?;
        }
        Ok(())
    }

    /// A replay that has ended.
    fn over(&self) -> Option<usize> {
        self.list.iter().position(|second| {
            let done = matches!(second.errand, Errand::Replay(_)) && second.in_hand == 0;
            done && (second.closing || second.reader.standing().mark >= second.end())
        })
    }

    async fn look_at_backing(&mut self, engine: &Engine, now: Instant) -> Result<(), LogError> {
        for backing in self.backing.clone() {
            let needed = backing.is_needed(&engine.metrics.sink(&backing.sink).vitals(), now);
            let cursor = backing.cursor(&self.sink);
            match self.at(&cursor) {
                Some(index) => {
                    self.list[index].closing = !needed;
                    if !needed && self.list[index].in_hand == 0 {
                        self.list.remove(index);
                        tracing::info!(sink = %self.sink, of = %backing.sink, "no longer stands in");
                    }
                }
                None if needed => {
                    let reader = open_at_mark(&*engine.log, &cursor, &backing.sink).await?;
                    tracing::warn!(sink = %self.sink, of = %backing.sink, "stands in: gets the events that wait there, too");
                    self.add(Errand::Fallback(backing), cursor, reader);
                }
                None => {}
            }
        }
        Ok(())
    }

    fn at(&self, cursor: &str) -> Option<usize> {
        self.list.iter().position(|second| second.cursor == cursor)
    }

    fn add(&mut self, errand: Errand, cursor: String, reader: Box<dyn Reader>) {
        self.last += 1;
        let id = self.last;
        self.list.push(Second { id, errand, cursor, reader, in_hand: 0, closing: false });
    }
}

/// A cursor that does not hold the log.
async fn open(log: &dyn Log, cursor: &str, at: Position) -> Result<Box<dyn Reader>, LogError> {
    let reader = log.open(cursor, Start::At(at)).await?;
    log.detach(cursor).await?;
    Ok(reader)
}

/// One for what waits for `sink`: where it was, unless `sink` has come further since.
async fn open_at_mark(
    log: &dyn Log,
    cursor: &str,
    sink: &str,
) -> Result<Box<dyn Reader>, LogError> {
    let deliveries = log.stats().deliveries;
    let mark = deliveries.iter().find(|(name, _)| name == sink).map(|(_, standing)| standing.mark);
    let mark = mark.unwrap_or_else(|| log.head().borrow().next);
    let reader = open(log, cursor, mark).await?;
    if reader.standing().next >= mark {
        return Ok(reader);
    }
    drop(reader);
    log.forget(cursor).await?;
    open(log, cursor, mark).await
}
