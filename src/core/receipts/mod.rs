//! Receipts: a record on disk of every attempt, and of every end without one.
//!
//! Guarantees: keeping one never waits and never fails a delivery: a full queue, a full disk or a
//! broken one loses receipts, which is counted and told, and nothing else. They are in a log of the
//! same type as the events, with limits of its own, the oldest going first; the ledger, the dead
//! letters and the cursors do not depend on them. They are written in groups, five times a second at
//! most: what a crash or a power cut takes is what the last 200 ms and the write under way held.
//! For one event only those segments are read whose index says that they may name it.

mod receipt;
mod report;
mod stretches;
mod timeline;
mod waits;

use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::receipt::{Attempt, Ended, Entry, LETTERS, Receipt, Refused, Routed, What};
pub use self::report::{Report, SinkFigures, SourceFigures};
pub use self::stretches::Stretches;
pub use self::timeline::{AtSink, Ends, Step, Timeline};
use super::Timestamp;
use super::event::{Draft, EventId, Position};
use super::log::{Item, Limit, Log, LogError, Refusal};
use super::metrics::Metrics;
use super::quiet::Quiet;

/// Receipts that wait to be written; more are dropped.
const QUEUE: usize = 1_000;
/// How many are written at once, in receipts and in bytes; of a small log, so that a segment takes
/// several groups.
const GROUP: usize = 250;
const GROUP_BYTES: u64 = 512 << 10;
const GROUPS: u64 = 16;
/// About what the log adds to a receipt.
const RECORD: u64 = 100;
/// The shortest time between two writes.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a stopping gateway waits for the last of them.
const LAST: Duration = Duration::from_secs(2);
/// How much is read at once.
const PAGE: Limit = Limit { events: 500, bytes: 1 << 20 };

/// See the module. The default keeps none.
#[derive(Default)]
pub struct Receipts {
    kept: Option<Kept>,
    /// Fingerprint of the configuration in force.
    config: ArcSwap<Arc<str>>,
    /// Held by whoever makes a report.
    pub(super) reporting: Mutex<()>,
}

/// Where they go.
struct Kept {
    log: Arc<dyn Log>,
    queue: mpsc::Sender<(Arc<str>, Timestamp, Entry)>,
    metrics: Arc<Metrics>,
    quiet: Arc<Quiet>,
    stop: CancellationToken,
    writer: std::sync::Mutex<Option<JoinHandle<()>>>,
}

/// How much of the log an answer was read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Segments read.
    pub segments: usize,
    /// Segments there are.
    pub of: usize,
}

impl Receipts {
    /// Receipts in `log`, which was opened with `Receipt::marks` as its index.
    pub fn kept_in(log: Arc<dyn Log>, metrics: Arc<Metrics>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (quiet, stop) = (Arc::new(Quiet::default()), CancellationToken::new());
        let (log_, metrics_, quiet_) = (log.clone(), metrics.clone(), quiet.clone());
        let writer = Writer { log: log_, waiting, metrics: metrics_, quiet: quiet_ };
        // Joined in `close`.
        #[allow(clippy::disallowed_methods)]
        let writer = tokio::spawn(writer.run(stop.clone()));
        let writer = std::sync::Mutex::new(Some(writer));
        Self { kept: Some(Kept { log, queue, metrics, quiet, stop, writer }), ..Self::default() }
    }

    /// Whether any are kept.
    pub fn are_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// From now on this configuration is in force.
    pub fn configured(&self, hash: &str) {
        self.config.store(Arc::new(hash.into()));
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<str> {
        self.config.load().as_ref().clone()
    }

    /// Keep what happened at `sink`. Never waits; what there is no room for is dropped and counted.
    pub fn keep(&self, sink: &Arc<str>, at: Timestamp, what: impl FnOnce() -> What) {
        let Some(kept) = &self.kept else { return };
        let full = match kept.queue.try_reserve() {
            Ok(place) => {
                let entry = Entry { config: self.config(), what: what() };
                return place.send((sink.clone(), at, entry));
            }
            Err(error) => error,
        };
        dropped(&kept.metrics, &kept.quiet, 1, &full);
    }

    /// The oldest receipt that is still there.
    pub async fn oldest(&self) -> Result<Option<Timestamp>, LogError> {
        let Some(kept) = &self.kept else { return Ok(None) };
        let page = kept.log.read(kept.log.stats().oldest, Limit { events: 1, ..PAGE }).await?;
        Ok(page.items.iter().find_map(|item| match item {
            Item::Event(record) => Some(record.received),
            Item::Gap { .. } => None,
        }))
    }

    /// Visit every receipt that names one of `numbers`, and perhaps others, in order.
    /// `label` is a sink, or `LETTERS`; without one, numbers are positions at any sink.
    pub async fn about(
        &self,
        label: Option<&str>,
        numbers: Range<u64>,
        mut visit: impl FnMut(Receipt),
    ) -> Result<Reading, LogError> {
        let Some(kept) = &self.kept else { return Ok(Reading::default()) };
        let stretches = kept.log.holding(label, &numbers);
        let of = kept.log.holding(None, &(0..u64::MAX)).len();
        let reading = Reading { segments: stretches.len(), of };
        for stretch in stretches {
            each(&*kept.log, stretch, &mut visit).await?;
        }
        Ok(reading)
    }

    /// Visit every receipt since `at`, and perhaps some before, in order.
    pub async fn since(
        &self,
        at: Timestamp,
        mut visit: impl FnMut(Receipt),
    ) -> Result<(), LogError> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let from = kept.log.since(at).await?;
        each(&*kept.log, from..kept.log.head().borrow().next, &mut visit).await
    }

    /// Write what waits, and close the log.
    pub async fn close(&self) {
        let Some(kept) = &self.kept else { return };
        kept.stop.cancel();
        let writer = kept.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut writer) = writer
            && tokio::time::timeout(LAST, &mut writer).await.is_err()
        {
            writer.abort();
        }
        let closed = tokio::time::timeout(LAST, kept.log.close()).await;
        if !matches!(closed, Ok(Ok(()))) {
            tracing::warn!(
                "the receipts' log could not be closed; the next start puts it in order"
            );
        }
    }
}

async fn each(
    log: &dyn Log,
    stretch: Range<Position>,
    visit: &mut impl FnMut(Receipt),
) -> Result<(), LogError> {
    let mut at = stretch.start;
    while at < stretch.end {
        let page = log.read(at, PAGE).await?;
        if page.next <= at {
            return Ok(());
        }
        for item in page.items {
            if let Item::Event(record) = item
                && record.position < stretch.end
                && let Some(receipt) = Receipt::of(&record)
            {
                visit(receipt);
            }
        }
        at = page.next;
    }
    Ok(())
}

fn dropped(metrics: &Metrics, quiet: &Quiet, count: u64, why: &dyn std::fmt::Display) {
    metrics.receipts_dropped(count);
    if let Some(left_out) = quiet.speaks() {
        tracing::warn!(count, left_out, %why, "receipts were dropped: deliveries go on, but `siemgate events show` will not know of these attempts");
    }
}

/// Writes receipts, beside the deliveries.
struct Writer {
    log: Arc<dyn Log>,
    waiting: mpsc::Receiver<(Arc<str>, Timestamp, Entry)>,
    metrics: Arc<Metrics>,
    quiet: Arc<Quiet>,
}

impl Writer {
    async fn run(mut self, stop: CancellationToken) {
        let mut group = Vec::new();
        loop {
            tokio::select! {
                biased;
                count = self.waiting.recv_many(&mut group, GROUP) => if count == 0 { return },
                () = stop.cancelled() => return,
            }
            self.write(group.drain(..)).await;
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn write(&self, group: impl Iterator<Item = (Arc<str>, Timestamp, Entry)>) {
        let most = GROUP_BYTES.min(self.log.stats().max_bytes / GROUPS);
        let (mut drafts, mut bytes) = (Vec::new(), 0);
        for (sink, at, entry) in group {
            // Plain structs with string keys: writing them to memory cannot fail.
            let body = serde_json::to_vec(&entry).unwrap_or_default();
            let size = body.len() as u64 + RECORD;
            if bytes + size > most {
                self.append(std::mem::take(&mut drafts)).await;
                bytes = 0;
            }
            bytes += size;
            // As exact as the log keeps it, so that nobody sees a difference after a restart.
            let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
            drafts.push(Draft::new(EventId::fresh(), at, sink, body.into()));
        }
        self.append(drafts).await;
    }

    async fn append(&self, drafts: Vec<Draft>) {
        let count = drafts.len() as u64;
        if count == 0 {
            return;
        }
        match self.log.append(drafts).await {
            Ok(_) => self.metrics.receipts_written(count),
            Err(Refusal::Full(why)) => dropped(&self.metrics, &self.quiet, count, &why),
            Err(why) => dropped(&self.metrics, &self.quiet, count, &why),
        }
    }
}
