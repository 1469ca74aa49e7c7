//! What the tests of the log share: drafts, whole reads, a small engine without its own rhythm.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use siemgate::core::Timestamp;
use siemgate::core::event::{Draft, Event, EventId, Position};
use siemgate::core::finding::{Finding, Severity};
use siemgate::core::log::sim::SimDisk;
use siemgate::core::log::{FilesLog, Item, Limit, Log, Loss, Options, RecoveryReport, WhenFull};

pub const ALL: Limit = Limit { events: usize::MAX, bytes: usize::MAX };

pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test)
}

/// Tiny segments; cursors and retention move only when the test makes them.
pub fn small() -> Options {
    Options {
        segment_bytes: 64 << 10,
        keep: Duration::from_secs(1 << 40),
        max_bytes: 1 << 40,
        min_free: 0,
        when_full: WhenFull::Refuse,
        cursor_every: Duration::MAX,
        retain_every: Duration::MAX,
        ..Options::default()
    }
}

pub fn open(disk: &SimDisk, options: Options) -> (Arc<FilesLog>, RecoveryReport) {
    FilesLog::open(Arc::new(disk.clone()), options).unwrap()
}

pub fn draft(body: impl Into<Bytes>) -> Draft {
    let mut draft = Draft::new(EventId::fresh(), Timestamp::now(), "test".into(), body.into());
    draft.key = Some([7; 16]);
    draft.note = Bytes::from_static(b"{}");
    draft
}

pub fn critical(body: impl Into<Bytes>) -> Draft {
    let draft = draft(body);
    draft.decoded_by(|| Finding { severity: Severity::Critical, ..Finding::default() });
    draft
}

/// A body that tells its seed and has `len` bytes.
pub fn body(seed: u64, len: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes.into()
}

/// Everything a log shows: its events by position, and its gaps.
#[derive(Default)]
pub struct Whole {
    pub events: BTreeMap<u64, Arc<Event>>,
    pub gaps: Vec<(Range<u64>, Loss)>,
}

impl Whole {
    pub fn damaged(&self) -> Vec<u64> {
        let damaged = self.gaps.iter().filter(|(_, loss)| *loss == Loss::Damaged);
        damaged.flat_map(|(range, _)| range.clone()).collect()
    }
}

/// Read from 0 to the head, and check that every position is told exactly once, in order.
pub async fn whole(log: &dyn Log, max: Limit) -> Whole {
    let mut whole = Whole::default();
    let mut at = Position(0);
    loop {
        let page = log.read(at, max).await.unwrap();
        if page.items.is_empty() {
            assert_eq!(at, log.stats().head.next, "a read ends at the head");
            return whole;
        }
        for item in page.items {
            match item {
                Item::Event(event) => {
                    assert_eq!(event.position, at, "in order, without holes");
                    at = at.plus(1);
                    whole.events.insert(event.position.0, event);
                }
                Item::Gap { positions, loss } => {
                    assert_eq!(positions.start, at, "in order, without holes");
                    at = positions.end;
                    whole.gaps.push((positions.start.0..positions.end.0, loss));
                }
            }
        }
        assert_eq!(page.next, at, "a page says where to read on");
    }
}
