//! Short histories of a log with several readers on a disk that loses power: retention and recycling
//! beside reading, deliveries that leave and come back, clean ends, a clock that steps to and fro; and
//! of letters on the same disk.
//!
//! A failure prints its seed; `SIEMGATE_LOG_SEED=n` replays it alone, `SIEMGATE_LOG_SEEDS=n` runs more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use siemgate::core::Timestamp;
use siemgate::core::event::{EventId, Position};
use siemgate::core::letters::{Letters, QuarantineNote};
use siemgate::core::log::sim::SimDisk;
use siemgate::core::log::verify::verify;
use siemgate::core::log::{
    End, FilesLog, Item, Limit, Log, Loss, Options, Reader, Refusal, Start, WhenFull,
};

use crate::log_common::{ALL, body, draft, run, small, whole};
use crate::log_sim::{Named, seeds};

/// Histories a seed of `SIEMGATE_LOG_SEEDS`.
const HISTORIES: u64 = 200;
const NAMES: [&str; 3] = ["a", "b", "c"];
const MY_ENDS: [End; 3] = [End::Delivered, End::Dead, End::Filtered];

/// What is known of one delivery.
#[derive(Default)]
struct Place {
    start: Option<Position>,
    /// It has pinned the log all its life.
    pinned: bool,
    /// Settled, and a flush was answered.
    safe: BTreeSet<u64>,
    mark: u64,
}

struct History {
    disk: SimDisk,
    random: fastrand::Rng,
    clock: Arc<AtomicI64>,
    when_full: WhenFull,
    stored: BTreeMap<u64, (EventId, bytes::Bytes)>,
    /// Not answered: may be there, but only whole.
    open: Vec<Vec<(EventId, bytes::Bytes)>>,
    places: BTreeMap<&'static str, Place>,
    head: u64,
    /// Retention freed something.
    freed: bool,
}

struct Open {
    reader: Box<dyn Reader>,
    /// In its hands.
    pending: BTreeSet<u64>,
    /// Settled since the last flush.
    settled: BTreeSet<u64>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let when_full = if random.bool() { WhenFull::Refuse } else { WhenFull::DropOldest };
        Self {
            disk: SimDisk::new(),
            random,
            clock: Arc::new(AtomicI64::new(1_800_000_000)),
            when_full,
            stored: BTreeMap::new(),
            open: Vec::new(),
            places: BTreeMap::new(),
            head: 0,
            freed: false,
        }
    }

    fn options(&self) -> Options {
        let clock = self.clock.clone();
        Options {
            segment_bytes: 16 << 10,
            max_bytes: 96 << 10,
            when_full: self.when_full,
            keep: Duration::from_secs(3_600),
            clock: Arc::new(move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap()),
            ..small()
        }
    }

    async fn live(&mut self, steps: usize) {
        let opened = FilesLog::open(Arc::new(self.disk.clone()), self.options());
        let Ok((log, _)) = opened else { return };
        let mut readers: BTreeMap<&'static str, Open> = BTreeMap::new();
        for _ in 0..steps {
            let name = NAMES[self.random.usize(..NAMES.len())];
            let alive = match self.random.usize(..20) {
                0..8 => self.append(&log).await,
                8..14 => self.deliver(&log, name, &mut readers).await,
                14..16 => Self::flush(&mut self.places, name, &mut readers).await,
                16 => self.leave(&log, name, &mut readers).await,
                17 => {
                    let step = self.random.i64(-7_200..7_200);
                    self.clock.fetch_add(step, Ordering::Relaxed);
                    true
                }
                18 => self.read_cold(&log).await,
                _ => match readers.remove(name) {
                    // Begun again, as by a reload.
                    Some(open) => {
                        self.note(name, &*open.reader);
                        true
                    }
                    None => true,
                },
            };
            if !alive {
                break;
            }
        }
        readers.iter().for_each(|(name, open)| self.note(name, &*open.reader));
        if self.random.u8(..3) == 0 {
            for name in NAMES {
                Self::flush(&mut self.places, name, &mut readers).await;
            }
            drop(readers);
            let _ = log.close().await;
        }
    }

    /// Where it got, which no crash may undo by freeing.
    fn note(&mut self, name: &'static str, reader: &dyn Reader) {
        let place = self.places.entry(name).or_default();
        place.mark = place.mark.max(reader.standing().mark.0);
    }

    /// Requests side by side, while somebody reads from the disk.
    async fn append(&mut self, log: &Arc<FilesLog>) -> bool {
        let mut requests = Vec::new();
        for _ in 0..[1, 1, 3][self.random.usize(..3)] {
            let count = [1, 1, 2, 5][self.random.usize(..4)];
            let size = [20, 400, 3_000, 6_000][self.random.usize(..4)];
            let mut one = || {
                let mut draft = draft(body(self.random.u64(..), self.random.usize(0..=size)));
                draft.received =
                    Timestamp::from_second(self.clock.load(Ordering::Relaxed)).unwrap();
                draft
            };
            requests.push((0..count).map(|_| one()).collect::<Vec<_>>());
        }
        let told: Vec<Vec<_>> = requests
            .iter()
            .map(|drafts| drafts.iter().map(|d| (d.id, d.body.clone())).collect())
            .collect();
        let oldest = log.stats().oldest;
        let appends = join_all(requests.into_iter().map(|drafts| log.append(drafts)));
        let (answers, page) =
            tokio::join!(appends, log.read(oldest, Limit { events: 20, bytes: 40_000 }));
        let mut alive = true;
        for (answer, told) in answers.into_iter().zip(told) {
            match answer {
                Ok(range) => {
                    assert!(range.start.0 >= self.head, "{range:?} was given before");
                    self.head = self.head.max(range.end.0);
                    self.stored.extend((range.start.0..).zip(told));
                }
                Err(Refusal::Full(_)) => {}
                Err(_) => {
                    self.open.push(told);
                    alive = false;
                }
            }
        }
        if let Ok(page) = page {
            self.hold_against(&page.items);
        }
        alive
    }

    /// What is read is what was stored.
    fn hold_against(&self, items: &[Item]) {
        for item in items {
            match item {
                Item::Event(event) => {
                    if let Some((id, body)) = self.stored.get(&event.position.0) {
                        assert!(event.id == *id && event.body == *body, "{}", event.position);
                    }
                }
                // A disk without power reads as one that is damaged all over; nothing of that is stored.
                Item::Gap { positions, loss: Loss::Damaged } if self.disk.has_power() => {
                    let hit = self.stored.range(positions.start.0..positions.end.0).next();
                    assert!(hit.is_none(), "{positions:?} was stored, and is called damaged");
                }
                Item::Gap { .. } => {}
            }
        }
    }

    async fn read_cold(&mut self, log: &Arc<FilesLog>) -> bool {
        let from = Position(self.random.u64(..=self.head));
        match log.read(from, Limit { events: 30, bytes: 60_000 }).await {
            Ok(page) => self.hold_against(&page.items),
            Err(_) => return false,
        }
        true
    }

    async fn deliver(
        &mut self,
        log: &Arc<FilesLog>,
        name: &'static str,
        readers: &mut BTreeMap<&'static str, Open>,
    ) -> bool {
        if !readers.contains_key(name) {
            let from = if self.random.bool() { Start::Oldest } else { Start::Now };
            let Ok(reader) = log.open(name, from).await else { return false };
            let place = self.places.entry(name).or_default();
            let start = reader.standing().start;
            if place.start.is_none() {
                *place = Place { start: Some(start), pinned: true, ..Place::default() };
            }
            assert_eq!(place.start, Some(start), "where {name} began");
            readers
                .insert(name, Open { reader, pending: BTreeSet::new(), settled: BTreeSet::new() });
        }
        let Some(open) = readers.get_mut(name) else { return true };
        if open.reader.standing().next < log.stats().head.next {
            let max = Limit { events: self.random.usize(1..20), bytes: 30_000 };
            // What is settled already is passed over, so there may be nothing to wait for.
            let page = tokio::time::timeout(Duration::from_millis(50), open.reader.next(max));
            match page.await {
                Ok(Ok(page)) => {
                    self.hold_against(&page.items);
                    for item in page.items {
                        if let Item::Event(event) = item {
                            let safe = &self.places[name].safe;
                            assert!(!safe.contains(&event.position.0), "{name} had it");
                            open.pending.insert(event.position.0);
                        }
                    }
                }
                Ok(Err(_)) => return false,
                Err(_) => {}
            }
        }
        for _ in 0..self.random.usize(..30).min(open.pending.len()) {
            let nth = if self.random.bool() { 0 } else { self.random.usize(..open.pending.len()) };
            let at = *open.pending.iter().nth(nth).unwrap();
            open.pending.remove(&at);
            open.reader.done(Position(at), MY_ENDS[self.random.usize(..3)]);
            open.settled.insert(at);
        }
        true
    }

    async fn flush(
        places: &mut BTreeMap<&'static str, Place>,
        name: &'static str,
        readers: &mut BTreeMap<&'static str, Open>,
    ) -> bool {
        let Some(open) = readers.get_mut(name) else { return true };
        let Ok(()) = open.reader.flush().await else { return false };
        let place = places.entry(name).or_default();
        place.safe.append(&mut open.settled);
        true
    }

    /// Its sink is removed for a while, or for good.
    async fn leave(
        &mut self,
        log: &Arc<FilesLog>,
        name: &'static str,
        readers: &mut BTreeMap<&'static str, Open>,
    ) -> bool {
        let Some(open) = readers.remove(name) else { return true };
        self.note(name, &*open.reader);
        drop(open);
        if self.random.bool() {
            self.places.entry(name).or_default().pinned = false;
            return log.detach(name).await.is_ok();
        }
        match log.forget(name).await {
            Ok(()) => drop(self.places.remove(name)),
            // Gone, or still there after the crash.
            Err(_) => {
                let place = self.places.entry(name).or_default();
                (place.pinned, place.start) = (false, None);
                return false;
            }
        }
        true
    }

    /// Start again and hold everything against what was told.
    async fn check(&mut self) {
        let verdict = verify(&self.disk).unwrap();
        let hit = |range: &std::ops::Range<Position>| {
            self.stored
                .range(range.start.0.max(verdict.oldest.0)..range.end.0.max(verdict.oldest.0))
                .next()
                .is_some()
        };
        assert!(!verdict.lost.iter().any(hit), "{verdict:?}");
        let opened = FilesLog::open(Arc::new(self.disk.clone()), self.options());
        let (log, report) = opened.unwrap();
        let whole = whole(&*log, ALL).await;
        let (oldest, head) = (log.stats().oldest.0, log.stats().head.next.0);
        assert!(head >= self.head, "positions would be given twice: {report:?}");
        for (at, (id, body)) in self.stored.range(oldest..) {
            let event = whole.events.get(at).unwrap_or_else(|| panic!("{at} is lost; {report:?}"));
            assert!(event.id == *id && event.body == *body, "{at} has changed");
        }
        let unknown = whole.events.iter().filter(|(at, _)| !self.stored.contains_key(at));
        let mut unknown: BTreeMap<u64, _> = unknown.map(|(at, event)| (*at, event)).collect();
        for request in std::mem::take(&mut self.open) {
            let there = |id: &EventId| unknown.iter().find(|(_, e)| e.id == *id).map(|(at, _)| *at);
            let found: Vec<u64> = request.iter().filter_map(|(id, _)| there(id)).collect();
            // The first of a request may have been freed since, with its segment.
            let freed = found.first().is_some_and(|at| *at == oldest);
            assert!(found.is_empty() || found.len() == request.len() || freed, "part of a request");
            for (at, told) in found.into_iter().zip(request) {
                unknown.remove(&at);
                self.stored.insert(at, told);
            }
        }
        assert!(unknown.is_empty(), "invented: {unknown:?}");
        self.head = head;
        self.freed |= oldest > 0;
        for standing in log.stats().deliveries {
            self.check_delivery(&standing, oldest, head);
        }
        for (name, place) in &self.places {
            let there = log.stats().deliveries.iter().any(|(known, _)| known == name);
            assert!(there || place.start.is_none(), "the cursor of {name} is lost");
        }
    }

    fn check_delivery(
        &self,
        (name, now): &(String, siemgate::core::log::Standing),
        oldest: u64,
        head: u64,
    ) {
        let Some(place) = self.places.get(&**name) else { return };
        if place.start != Some(now.start) {
            return;
        }
        // All up to the mark is settled, and nothing is counted twice.
        assert!(now.mark.since(now.start) <= now.terms.total(), "{name}: {now:?}");
        assert!(now.terms.total() <= head - now.start.0, "{name}: {now:?}");
        let above = place.safe.range(now.mark.0..).count() as u64;
        assert!(
            now.terms.total() >= now.mark.since(now.start) + above,
            "{name} has forgotten what it had flushed: {now:?}"
        );
        if place.pinned && self.when_full == WhenFull::Refuse {
            assert!(oldest <= now.mark.0.max(place.mark), "freed before {name} had it");
            assert_eq!(now.terms.expired, 0, "{name}: {now:?}");
        }
    }
}

#[test]
fn several_readers_lose_nothing_over_power_cuts_reloads_and_odd_clocks() {
    let (began, mut freed) = (Instant::now(), 0);
    let histories = seeds().start * HISTORIES..seeds().end * HISTORIES;
    let count = histories.end - histories.start;
    for seed in histories {
        let _named = Named(seed / HISTORIES, seed);
        let mut history = History::new(seed ^ 0xa11);
        for _ in 0..3 {
            let within = history.random.u64(5..150);
            history.disk.cut_power_at(history.disk.operations() + within);
            run(history.live(40));
            history.disk.power_cut(&mut history.random);
            run(history.check());
            history.disk.power_cut(&mut history.random);
        }
        freed += u64::from(history.freed);
    }
    println!("{count} histories of three lives in {:?}; {freed} freed events", began.elapsed());
    assert!(freed > count / 10, "{freed} of {count}");
}

// ---- Letters ------------------------------------------------------------------------------------

fn note(nth: u64) -> QuarantineNote {
    QuarantineNote {
        source: format!("s{}", nth % 3).into(),
        reason: "malformed".into(),
        detail: nth.to_string(),
        peer: String::new(),
        truncated: false,
    }
}

#[derive(Default)]
struct Kept {
    /// Kept for sure: number, detail, body.
    open: BTreeMap<u64, (String, bytes::Bytes)>,
    /// Settled for sure.
    closed: BTreeSet<u64>,
    /// Asked for and not answered: may be kept, or settled.
    unsure: BTreeSet<String>,
    leaving: BTreeSet<u64>,
    nth: u64,
}

async fn letters_live(disk: &SimDisk, kept: &mut Kept, random: &mut fastrand::Rng) {
    let options = Options { segment_bytes: 32 << 10, max_bytes: 128 << 10, ..small() };
    let options = Options { when_full: WhenFull::DropOldest, ..options };
    let Ok((log, _)) = FilesLog::open(Arc::new(disk.clone()), options) else { return };
    let Ok(letters) = Letters::<QuarantineNote>::open(log).await else { return };
    for _ in 0..30 {
        if random.u8(..3) > 0 || kept.open.is_empty() {
            kept.nth += 1;
            let bytes = body(kept.nth, random.usize(..6_000));
            match letters.keep(&draft(bytes.clone()), &note(kept.nth)).await {
                Ok(number) => {
                    let fresh = kept.open.insert(number.0, (kept.nth.to_string(), bytes));
                    assert!(fresh.is_none() && !kept.closed.contains(&number.0), "{number} again");
                }
                Err(_) => {
                    kept.unsure.insert(kept.nth.to_string());
                    return;
                }
            }
        } else {
            let nth = random.usize(..kept.open.len());
            let number = *kept.open.keys().nth(nth).unwrap();
            match letters.settle(Position(number), "dropped", None, Timestamp::now()).await {
                Ok(_) => {
                    kept.open.remove(&number);
                    kept.closed.insert(number);
                }
                Err(_) => {
                    kept.leaving.insert(number);
                    return;
                }
            }
        }
    }
}

async fn letters_check(disk: &SimDisk, kept: &mut Kept) {
    let options = Options { segment_bytes: 32 << 10, max_bytes: 128 << 10, ..small() };
    let (log, _) = FilesLog::open(Arc::new(disk.clone()), options).unwrap();
    let letters = Letters::<QuarantineNote>::open(log.clone()).await.unwrap();
    let oldest = log.stats().oldest.0;
    kept.open = kept.open.split_off(&oldest);
    let listed = letters.list(Position(0), None, usize::MAX).await.unwrap();
    let listed: BTreeMap<u64, (String, bytes::Bytes)> = listed
        .into_iter()
        .map(|letter| (letter.number.0, (letter.note.detail, letter.event.body.clone())))
        .collect();
    for (number, letter) in &kept.open {
        let there = listed.get(number);
        assert!(there == Some(letter) || kept.leaving.contains(number), "{number} is gone");
    }
    for (number, (detail, _)) in &listed {
        assert!(!kept.closed.contains(number), "{number} has come back");
        assert!(kept.open.contains_key(number) || kept.unsure.contains(detail), "{number}: who?");
    }
    let counted: u64 = letters.counts().values().sum();
    assert_eq!(counted, listed.len() as u64);
    let gone = kept.leaving.iter().filter(|number| !listed.contains_key(number));
    kept.closed.extend(gone);
    kept.leaving.clear();
    kept.unsure.clear();
    kept.open = listed;
}

#[test]
fn letters_stay_until_they_are_settled_over_power_cuts() {
    let began = Instant::now();
    let histories = seeds().start * HISTORIES / 2..seeds().end * HISTORIES / 2;
    let count = histories.end - histories.start;
    for seed in histories {
        let _named = Named(seed * 2 / HISTORIES, seed);
        let mut random = fastrand::Rng::with_seed(seed ^ 0x1e77);
        let (disk, mut kept) = (SimDisk::new(), Kept::default());
        for _ in 0..4 {
            disk.cut_power_at(disk.operations() + random.u64(3..80));
            run(letters_live(&disk, &mut kept, &mut random));
            disk.power_cut(&mut random);
            run(letters_check(&disk, &mut kept));
            disk.power_cut(&mut random);
        }
    }
    println!("{count} histories of letters in {:?}", began.elapsed());
}
