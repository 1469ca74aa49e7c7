//! What came in, what went out, how fast and with what trouble, over a time: for `siemgate report`.
//!
//! Guarantees: every figure is counted from records, none is estimated; where records are missing
//! (freed, or lost in a crash) the report says from when on it could count. It reads the log and the
//! receipts once, a page at a time, and holds eight bytes an event, of 2,000,000 events at most.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::waits::Waits;
use super::{Attempt, Receipt, Stretches, What};
use crate::core::Timestamp;
use crate::core::delivery::Engine;
use crate::core::event::Position;
use crate::core::log::{End, Item, Limit, Log, LogError};
use crate::core::metrics::SinkMetrics;

/// Events whose time of arrival is remembered.
const EVENTS: u64 = 2_000_000;
/// How much of the log is read at once.
const PAGE: Limit = Limit { events: 1_000, bytes: 4 << 20 };

/// The figures of a time.
#[derive(Debug, Serialize)]
pub struct Report {
    /// From when.
    pub since: Timestamp,
    /// To when.
    pub until: Timestamp,
    /// When the first event of the time came that could still be counted.
    pub first_event: Option<Timestamp>,
    /// When the oldest receipt is from; what was delivered before it cannot be told.
    pub receipts_since: Option<Timestamp>,
    /// More events came than are counted; the oldest were left out.
    pub cut: bool,
    /// By source.
    pub sources: BTreeMap<Arc<str>, SourceFigures>,
    /// By sink.
    pub sinks: BTreeMap<Arc<str>, SinkFigures>,
}

/// What came from one source.
#[derive(Debug, Default, Serialize)]
pub struct SourceFigures {
    /// Events.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What became of events at one sink.
#[derive(Debug, Default, Serialize)]
pub struct SinkFigures {
    /// Events that the destination took, each counted once.
    pub delivered: u64,
    /// Of dead letters that were tried again.
    pub replayed: u64,
    /// Attempts by cause; `ok` for those that succeeded.
    pub attempts: BTreeMap<&'static str, u64>,
    /// Events that became dead letters.
    pub dead: u64,
    /// Events that grew too old, or that the log had no room for.
    pub expired: u64,
    /// Events that could not be read any more.
    pub damaged: u64,
    /// Milliseconds from acceptance to delivery that half of the events kept within.
    pub p50_ms: Option<f64>,
    /// The same of 99 in 100.
    pub p99_ms: Option<f64>,
    /// Events that these two are of: accepted and delivered within the time.
    pub timed: u64,
    /// When the last drill or test was delivered, in all receipts there are.
    pub last_drill: Option<Timestamp>,
    /// Events waiting now; none for a sink that is not configured any more.
    pub queued: Option<u64>,
    #[serde(skip)]
    taken: Stretches,
    #[serde(skip)]
    waits: Waits,
}

impl Report {
    /// Of what happened since `since`, as of `until`.
    pub async fn of(engine: &Engine, since: Timestamp, until: Timestamp) -> Result<Self, LogError> {
        let _one_at_a_time = engine.receipts.reporting.lock().await;
        let mut report = Self {
            since,
            until,
            first_event: None,
            receipts_since: engine.receipts.oldest().await?,
            cut: false,
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
        };
        let arrivals = report.arrivals(&*engine.log).await?;
        engine.receipts.since(Timestamp::MIN, |receipt| report.take(receipt, &arrivals)).await?;
        report.waiting(engine);
        report.sum_up();
        Ok(report)
    }

    /// Count what came, and remember when.
    async fn arrivals(&mut self, log: &dyn Log) -> Result<Arrivals, LogError> {
        let head = log.head().borrow().next;
        let from = log.since(self.since).await?;
        let first = from.max(Position(head.0.saturating_sub(EVENTS)));
        self.cut = first > from;
        let mut arrivals = Arrivals { first, received: Vec::new() };
        let mut at = first;
        while at < head {
            let page = log.read(at, PAGE).await?;
            if page.next <= at {
                break;
            }
            for item in page.items {
                let Item::Event(event) = item else { continue };
                if event.received < self.since || event.received > self.until {
                    continue;
                }
                arrivals.note(event.position, event.received);
                self.first_event.get_or_insert(event.received);
                let of = self.sources.entry(event.source.clone()).or_default();
                of.events += 1;
                of.bytes += event.body.len() as u64;
            }
            at = page.next;
        }
        Ok(arrivals)
    }

    fn take(&mut self, receipt: Receipt, arrivals: &Arrivals) {
        let Receipt { sink, at, entry } = receipt;
        let of = self.sinks.entry(sink).or_default();
        if let What::Attempt(attempt) = &entry.what
            && attempt.taken().any(|position| attempt.drills.has(position))
        {
            of.last_drill = of.last_drill.max(Some(at));
        }
        if at < self.since || at > self.until {
            return;
        }
        match entry.what {
            What::Attempt(attempt) => of.tried(&attempt, at, arrivals),
            What::Ended(ended) => {
                let count = ended.positions.count();
                match ended.end {
                    End::Dead => of.dead += count,
                    End::Expired => of.expired += count,
                    End::Damaged => of.damaged += count,
                    End::Delivered | End::Filtered => {}
                }
            }
        }
    }

    fn waiting(&mut self, engine: &Engine) {
        let head = engine.log.head().borrow().next;
        for (sink, metrics) in engine.metrics.sinks() {
            let vitals = SinkMetrics::vitals(&metrics);
            self.sinks.entry(sink).or_default().queued = Some(vitals.lag(head));
        }
    }

    fn sum_up(&mut self) {
        let ms = |us: u64| us as f64 / 1_000.0;
        for of in self.sinks.values_mut() {
            of.delivered = of.taken.count();
            of.timed = of.waits.count();
            (of.p50_ms, of.p99_ms) = (of.waits.within(50).map(ms), of.waits.within(99).map(ms));
        }
    }
}

impl SinkFigures {
    fn tried(&mut self, attempt: &Attempt, at: Timestamp, arrivals: &Arrivals) {
        let cause = attempt.cause.or_else(|| attempt.faults.first().map(|fault| fault.cause));
        *self.attempts.entry(cause.map_or("ok", |cause| cause.as_str())).or_default() += 1;
        for position in attempt.taken() {
            // An event that was delivered twice, because of a crash in between, counts once.
            if self.taken.has(position) {
                continue;
            }
            self.taken.add(position);
            if let Some(received) = arrivals.of(position) {
                let us = at.as_microsecond().saturating_sub(received);
                self.waits.add(u64::try_from(us).unwrap_or(0));
            }
        }
        if attempt.cause.is_none() {
            let refused = |letter: &u64| attempt.faults.iter().any(|f| f.letters.has(*letter));
            self.replayed +=
                attempt.letters.numbers().filter(|letter| !refused(letter)).count() as u64;
        }
    }
}

/// When the events of a stretch of the log were received, in microseconds.
struct Arrivals {
    first: Position,
    received: Vec<i64>,
}

/// Of a position without an event.
const NONE: i64 = i64::MIN;

impl Arrivals {
    fn note(&mut self, position: Position, received: Timestamp) {
        let at = position.since(self.first) as usize;
        if self.received.len() < at {
            self.received.resize(at, NONE);
        }
        self.received.push(received.as_microsecond());
    }

    fn of(&self, position: u64) -> Option<i64> {
        let at = position.checked_sub(self.first.0)?;
        self.received.get(usize::try_from(at).ok()?).copied().filter(|received| *received != NONE)
    }
}
