//! Histories of a log on a disk that loses power at every single operation.
//!
//! A failure prints its seed and the operation; `SIEMGATE_LOG_SEED=n` replays that seed alone and
//! `SIEMGATE_LOG_SEEDS=n` runs more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use siemgate::core::event::{Draft, EventId, Position};
use siemgate::core::log::sim::SimDisk;
use siemgate::core::log::{End, FilesLog, Item, Limit, Log, Loss, Options, Reader, Start};

use crate::log_common::{body, draft, open, run, small, whole};

type Told = Vec<(EventId, bytes::Bytes)>;

/// A log, and what it must still know.
struct World {
    disk: SimDisk,
    random: fastrand::Rng,
    /// Answered well: must be there, unless freed after all deliveries had it.
    stored: BTreeMap<u64, (EventId, bytes::Bytes)>,
    /// Not answered: may be there, but only whole.
    open: Vec<Told>,
    /// Settled, and the flush was answered.
    settled: BTreeSet<u64>,
    start: Option<Position>,
    /// The furthest that the cursor's mark got.
    mark: Position,
}

fn options() -> Options {
    Options { max_bytes: 384 << 10, segment_bytes: 48 << 10, ..small() }
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            disk: SimDisk::new(),
            random: fastrand::Rng::with_seed(seed),
            stored: BTreeMap::new(),
            open: Vec::new(),
            settled: BTreeSet::new(),
            start: None,
            mark: Position(0),
        }
    }

    fn request(&mut self) -> Vec<Draft> {
        let count = [1, 1, 1, 2, 3, 7][self.random.usize(..6)];
        let sizes = [10, 100, 700, 3_000, 9_000];
        let size = sizes[self.random.usize(..sizes.len())].min(30_000 / count);
        (0..count).map(|_| draft(body(self.random.u64(..), self.random.usize(..=size)))).collect()
    }

    /// Live until something fails or the steps are done.
    async fn live(&mut self, steps: usize) {
        // A disk without power may refuse even the start.
        let Ok((log, _)) = FilesLog::open(Arc::new(self.disk.clone()), options()) else { return };
        let Ok(mut reader) = log.open("soc", Start::Oldest).await else { return };
        self.start.get_or_insert(reader.standing().start);
        let mut pending = BTreeSet::new();
        for _ in 0..steps {
            let alive = match self.random.usize(..10) {
                0..5 => self.append(&log).await,
                5..9 => self.deliver(&mut *reader, &mut pending).await,
                _ => self.flush(&mut *reader, &mut pending).await,
            };
            if !alive {
                break;
            }
        }
        self.mark = self.mark.max(reader.standing().mark);
        if self.random.u8(..4) == 0 {
            let _ = log.close().await;
        }
    }

    async fn append(&mut self, log: &FilesLog) -> bool {
        let requests: Vec<_> =
            (0..[1, 1, 4][self.random.usize(..3)]).map(|_| self.request()).collect();
        let told: Vec<Told> = requests
            .iter()
            .map(|drafts| drafts.iter().map(|d| (d.id, d.body.clone())).collect())
            .collect();
        let answers = join_all(requests.into_iter().map(|drafts| log.append(drafts))).await;
        let mut alive = true;
        for (answer, told) in answers.into_iter().zip(told) {
            match answer {
                Ok(range) => {
                    assert_eq!(range.end.since(range.start), told.len() as u64);
                    for (at, event) in (range.start.0..).zip(told) {
                        assert!(self.stored.insert(at, event).is_none(), "{at} was given twice");
                    }
                }
                Err(siemgate::core::log::Refusal::Full(_)) => {}
                Err(_) => {
                    self.open.push(told);
                    alive = false;
                }
            }
        }
        alive
    }

    async fn deliver(&mut self, reader: &mut dyn Reader, pending: &mut BTreeSet<u64>) -> bool {
        let head = self.stored.last_key_value().map_or(0, |(at, _)| at + 1);
        if reader.standing().next.0 < head {
            let max = Limit { events: self.random.usize(1..40), bytes: 50_000 };
            let Ok(page) = reader.next(max).await else { return false };
            for item in page.items {
                if let Item::Event(event) = item {
                    pending.insert(event.position.0);
                }
            }
        }
        let most = self.random.usize(..60);
        for _ in 0..most.min(pending.len()) {
            let nth = if self.random.bool() { 0 } else { self.random.usize(..pending.len()) };
            let at = *pending.iter().nth(nth).unwrap();
            pending.remove(&at);
            reader.done(Position(at), End::ALL[self.random.usize(..4)]);
        }
        true
    }

    async fn flush(&mut self, reader: &mut dyn Reader, pending: &mut BTreeSet<u64>) -> bool {
        let Ok(()) = reader.flush().await else { return false };
        let next = reader.standing().next.0;
        let start = self.start.unwrap().0;
        self.settled.extend((start..next).filter(|at| !pending.contains(at)));
        true
    }

    /// Start again and hold everything against what was told.
    async fn check(&mut self) {
        let (log, report) = open(&self.disk, options());
        let max = Limit { events: 50, bytes: 20_000 };
        let whole = whole(&*log, max).await;
        let oldest = log.stats().oldest.0;
        assert!(oldest <= self.mark.0, "freed {oldest} before it was delivered ({:?})", self.mark);
        for (at, (id, body)) in self.stored.range(oldest..) {
            let event = whole.events.get(at);
            let event = event.unwrap_or_else(|| panic!("{at} is lost; {report:?}"));
            assert!(event.id == *id && event.body == *body, "{at} has changed");
            assert_eq!((event.key, &*event.note), (Some([7; 16]), &b"{}"[..]));
        }
        self.admit_the_unanswered(&whole.events, oldest);
        self.check_ledger(&*log, &whole).await;
        let head = log.stats().head.next;
        let drafts = self.request();
        let told: Vec<_> = drafts.iter().map(|d| (d.id, d.body.clone())).collect();
        match log.append(drafts).await {
            Ok(range) => {
                assert_eq!(range.start, head, "the next position");
                self.stored.extend((range.start.0..).zip(told));
            }
            Err(error) => assert!(error.to_string().contains("full"), "{error}"),
        }
    }

    /// What else is there must be requests that were under way, each of them whole.
    fn admit_the_unanswered(
        &mut self,
        events: &BTreeMap<u64, Arc<siemgate::core::event::Event>>,
        oldest: u64,
    ) {
        let unknown = events.iter().filter(|(at, _)| !self.stored.contains_key(at));
        let mut unknown: BTreeMap<u64, _> = unknown.map(|(at, e)| (*at, e.clone())).collect();
        for request in std::mem::take(&mut self.open) {
            let there = |id: &EventId| unknown.values().find(|event| event.id == *id).cloned();
            let found: Vec<_> = request.iter().filter_map(|(id, _)| there(id)).collect();
            assert!(found.is_empty() || found.len() == request.len(), "part of a request");
            for (event, (id, body)) in found.iter().zip(request) {
                assert!(event.id == id && event.body == body);
                unknown.remove(&event.position.0);
                self.stored.insert(event.position.0, (id, body));
            }
        }
        assert!(unknown.is_empty(), "invented: {unknown:?} (oldest {oldest})");
    }

    async fn check_ledger(&mut self, log: &dyn Log, whole: &crate::log_common::Whole) {
        let head = log.stats().head.next;
        let mut reader = log.open("soc", Start::Oldest).await.unwrap();
        let start = reader.standing().start;
        if let Some(known) = self.start {
            assert_eq!(start, known, "where the delivery began");
        }
        self.start = Some(start);
        let mut queued = 0;
        while reader.standing().next < head {
            // Nothing is left to hand out when all up to the head is settled.
            let page = tokio::select! {
                biased;
                page = reader.next(Limit { events: 9, bytes: 9_999 }) => page.unwrap(),
                () = tokio::time::sleep(std::time::Duration::from_millis(200)) => break,
            };
            for item in page.items {
                match item {
                    Item::Event(event) => {
                        let at = event.position.0;
                        assert!(!self.settled.contains(&at), "{at} was settled and flushed");
                        queued += 1;
                    }
                    Item::Gap { positions, loss } => {
                        assert_eq!(loss, Loss::Damaged, "{positions:?}");
                        assert!(whole.damaged().contains(&positions.start.0));
                    }
                }
            }
        }
        let standing = reader.standing();
        assert_eq!(head.since(start), standing.terms.total() + queued, "the ledger: {standing:?}");
        self.mark = self.mark.max(standing.mark);
    }
}

pub fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match (number("SIEMGATE_LOG_SEED"), number("SIEMGATE_LOG_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(6),
    }
}

/// Names the history when a check fails.
pub struct Named(pub u64, pub u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("history: SIEMGATE_LOG_SEED={} with power cut at {}", self.0, self.1);
        }
    }
}

#[test]
fn nothing_answered_is_lost_when_power_fails_at_any_operation() {
    for seed in seeds() {
        let mut calm = World::new(seed);
        run(calm.live(40));
        run(calm.check());
        let operations = calm.disk.operations();
        for cut in 0..operations {
            let _named = Named(seed, cut);
            let mut world = World::new(seed);
            world.disk.cut_power_at(cut);
            run(world.live(40));
            world.disk.power_cut(&mut world.random);
            run(world.check());
        }
    }
}

#[test]
fn nothing_comes_back_to_life_over_many_power_cuts() {
    for seed in seeds().start * 50..seeds().end * 50 {
        let _named = Named(seed, 0);
        let mut world = World::new(seed ^ 0xdead);
        for _ in 0..6 {
            let within = world.random.u64(1..60);
            world.disk.cut_power_at(world.disk.operations() + within);
            run(world.live(30));
            world.disk.power_cut(&mut world.random);
            run(world.check());
            // The check's own append may be torn by the next cut only if it was not answered.
            world.disk.power_cut(&mut world.random);
        }
    }
}
