//! The tools for logs: what is damaged is named, what is intact is kept, and a log that was moved is
//! the same log. On a simulated disk; `log_moved.rs` has the commands.
//!
//! A failure prints its seed; `SIEMGATE_LOG_SEED=n` replays it alone, `SIEMGATE_LOG_SEEDS=n` runs more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use siemgate::core::event::{Event, Position};
use siemgate::core::log::portable::{StreamError, check, export, import};
use siemgate::core::log::repair::{plan, repair};
use siemgate::core::log::sim::SimDisk;
use siemgate::core::log::verify::{Verdict, quiet, verify};
use siemgate::core::log::{
    Disk, End, Fault, FilesLog, Item, Limit, Log, LogError, Options, Reader, Standing, Start,
};

use crate::log_common::{ALL, body, draft, open, run, small, whole};
use crate::log_sim::{Named, seeds};

type Files = BTreeMap<String, Vec<u8>>;

/// What of a record lies before its body, as `draft` makes them: header, id, time, flags, key,
/// source, note.
const BEFORE_BODY: usize = 32 + 16 + 8 + 1 + 16 + 2 + 4 + 4 + 2;

fn options() -> Options {
    Options { segment_bytes: 32 << 10, ..small() }
}

fn disks(name: &str, disk: &SimDisk) -> Vec<(String, Arc<dyn Disk>)> {
    vec![(name.to_owned(), Arc::new(disk.clone()))]
}

/// Settle some of the next events.
async fn deliver(reader: &mut dyn Reader, head: Position, random: &mut fastrand::Rng) {
    if reader.standing().next >= head {
        return;
    }
    let max = Limit { events: random.usize(1..30), bytes: 50_000 };
    for item in reader.next(max).await.unwrap().items {
        if let Item::Event(event) = item
            && random.u8(..4) > 0
        {
            reader.done(event.position, End::ALL[random.usize(..5)]);
        }
    }
}

/// A log with a life behind it: bodies by position, and the disk.
async fn lived(random: &mut fastrand::Rng, options: Options) -> (SimDisk, Vec<bytes::Bytes>) {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, options);
    let mut bodies = Vec::new();
    let mut readers = vec![log.open("soc", Start::Oldest).await.unwrap()];
    for step in 0..random.usize(8..40) {
        let count = [1, 1, 2, 3, 9][random.usize(..5)];
        let sizes = [40, 60, 300, 3_000];
        let size = sizes[random.usize(..sizes.len())];
        let made = || body(random.u64(..), random.usize(40..=size));
        let group: Vec<_> = std::iter::repeat_with(made).take(count).collect();
        if log.append(group.iter().cloned().map(draft).collect()).await.is_ok() {
            bodies.extend(group);
        }
        if step == 5 {
            readers.push(log.open("late", Start::Now).await.unwrap());
        }
        for reader in &mut readers {
            deliver(&mut **reader, log.stats().head.next, random).await;
        }
    }
    readers[0].flush().await.unwrap();
    drop(readers);
    match random.u8(..3) {
        0 => log.close().await.unwrap(),
        1 => log.detach("late").await.unwrap(),
        _ => {}
    }
    drop(log);
    (disk, bodies)
}

// ---- Damage -------------------------------------------------------------------------------------

/// A file, and where each of its bytes was at first; `None` once it was changed.
struct Hurt {
    bytes: Vec<u8>,
    origin: Vec<Option<usize>>,
}

impl Hurt {
    fn new(bytes: Vec<u8>) -> Self {
        let origin = (0..bytes.len()).map(Some).collect();
        Self { bytes, origin }
    }

    fn hit(&mut self, random: &mut fastrand::Rng) -> String {
        let len = self.bytes.len();
        let blocks = len / 4_096;
        match random.u8(..10) {
            0 => {
                let to = random.usize(..len);
                self.bytes.truncate(to);
                self.origin.truncate(to);
                format!("truncated to {to}")
            }
            1..4 if blocks > 1 => {
                let (a, b) = (random.usize(..blocks) * 4_096, random.usize(..blocks) * 4_096);
                for nth in 0..4_096 {
                    self.bytes.swap(a + nth, b + nth);
                    self.origin.swap(a + nth, b + nth);
                }
                format!("swapped {a} and {b}")
            }
            _ => {
                // Zeros at the end are many, and say little.
                let used = self.bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
                let at = random.usize(..=used);
                self.bytes[at] ^= 1 << random.u8(..8);
                self.origin[at] = None;
                format!("flipped {at}")
            }
        }
    }

    /// The bytes of `range` stand together somewhere, unchanged.
    fn has(&self, range: std::ops::Range<usize>) -> bool {
        let first = self.origin.iter().position(|at| *at == Some(range.start));
        first.is_some_and(|first| self.is_at(range, first))
    }

    fn is_at(&self, range: std::ops::Range<usize>, first: usize) -> bool {
        range.clone().zip(first..).all(|(was, now)| self.origin.get(now) == Some(&Some(was)))
    }

    /// One copy of the header is in its place.
    fn has_header(&self) -> bool {
        self.is_at(0..52, 0) || self.is_at(2_048..2_100, 2_048)
    }
}

/// Which positions can still be read, by what was done to the bytes alone.
fn intact(
    before: &Files,
    after: &BTreeMap<String, Hurt>,
    bodies: &[bytes::Bytes],
) -> BTreeSet<u64> {
    let is_intact = |body: &bytes::Bytes| {
        before.iter().filter(|(name, _)| name.ends_with(".seg")).any(|(name, bytes)| {
            let Some(at) = bytes.windows(body.len()).position(|part| part == &body[..]) else {
                return false;
            };
            let hurt = &after[name];
            hurt.has_header() && hurt.has(at - BEFORE_BODY..at + body.len())
        })
    };
    let positions = bodies.iter().enumerate().filter(|(_, body)| is_intact(body));
    positions.map(|(position, _)| position as u64).collect()
}

fn positions(ranges: &[std::ops::Range<Position>]) -> BTreeSet<u64> {
    ranges.iter().flat_map(|range| range.start.0..range.end.0).collect()
}

fn named(verdict: &Verdict) -> BTreeSet<u64> {
    verdict.damage.iter().flat_map(|bad| bad.positions.start.0..bad.positions.end.0).collect()
}

#[test]
fn random_damage_is_named_and_a_repair_keeps_every_intact_event() {
    let mut lost_in_all = 0;
    for seed in seeds().start * 25..seeds().end * 25 {
        let _named = Named(seed / 25, seed);
        let mut random = fastrand::Rng::with_seed(seed ^ 0x7001);
        let (disk, bodies) = run(lived(&mut random, options()));
        assert_eq!(verify(&disk).unwrap().damage, [], "it was well");
        let before = disk.files();
        let mut hurt: BTreeMap<String, Hurt> =
            before.iter().map(|(name, bytes)| (name.clone(), Hurt::new(bytes.clone()))).collect();
        let names: Vec<_> = before.keys().filter(|name| name.ends_with(".seg")).cloned().collect();
        let mut done = Vec::new();
        for _ in 0..random.usize(1..5) {
            let name = &names[random.usize(..names.len())];
            if !hurt[name].bytes.is_empty() {
                done.push(format!("{name} {}", hurt.get_mut(name).unwrap().hit(&mut random)));
            }
        }
        let intact = intact(&before, &hurt, &bodies);
        let files: Files = hurt.into_iter().map(|(name, hurt)| (name, hurt.bytes)).collect();
        let disk = SimDisk::with_files(&files);
        let verdict = verify(&disk).unwrap();
        assert_eq!(disk.files(), files, "a look changes nothing");
        let lost: BTreeSet<u64> =
            (0..bodies.len() as u64).filter(|at| !intact.contains(at)).collect();
        assert_eq!(positions(&verdict.lost), lost, "{done:?}: {:?}", verdict.damage);
        let unnamed: Vec<_> = lost.difference(&named(&verdict)).copied().collect();
        assert!(unnamed.is_empty(), "{done:?}: {unnamed:?} not in {:?}", verdict.damage);
        assert_eq!(verdict.events, intact.len() as u64, "{done:?}");
        lost_in_all += lost.len();
        let told = plan(&disk).unwrap();
        assert_eq!(disk.files(), files, "a plan changes nothing");
        assert_eq!(repair(&disk).unwrap().steps, told.steps);
        run(repaired(&disk, &files, &told.steps, &intact, &bodies, &done));
    }
    assert!(lost_in_all > 100, "{lost_in_all}");
}

/// Everything that was hit is set aside as it was, and all the rest is there.
async fn repaired(
    disk: &SimDisk,
    before: &Files,
    steps: &[siemgate::core::log::repair::Step],
    intact: &BTreeSet<u64>,
    bodies: &[bytes::Bytes],
    done: &[String],
) {
    let after = disk.files();
    for step in steps {
        assert_eq!(after.get(&step.aside), before.get(&step.file).or(Some(&vec![])), "{done:?}");
    }
    let again = verify(disk).unwrap();
    assert_eq!(again.damage, [], "{done:?}");
    assert!(plan(disk).unwrap().steps.is_empty());
    disk.power_cut(&mut fastrand::Rng::with_seed(1));
    let (log, report) = open(disk, options());
    let whole = whole(&*log, ALL).await;
    let there: BTreeSet<u64> = whole.events.keys().copied().collect();
    assert_eq!(&there, intact, "{done:?} {report:?}");
    assert!(whole.events.iter().all(|(at, event)| event.body == bodies[*at as usize]));
    let range = log.append(vec![draft("next")]).await.unwrap();
    assert_eq!(range.start, Position(bodies.len() as u64), "{done:?}");
}

#[test]
fn a_repair_that_is_cut_short_at_any_step_can_be_repeated() {
    let mut random = fastrand::Rng::with_seed(5);
    let (disk, bodies) = run(lived(&mut random, options()));
    let mut files = disk.files();
    let names: Vec<_> = files.keys().filter(|name| name.ends_with(".seg")).cloned().collect();
    files.get_mut(&names[0]).unwrap()[4_096 + 40] ^= 1;
    files.remove(&names[2]);
    files.get_mut(&names[1]).unwrap()[..4_096].fill(0);
    files.get_mut("cursors").unwrap()[20] ^= 1;
    let whole_life = SimDisk::with_files(&files);
    repair(&whole_life).unwrap();
    let (log, _) = open(&whole_life, options());
    let expected: Vec<u64> = run(whole(&*log, ALL)).events.into_keys().collect();
    drop(log);
    assert!(expected.len() < bodies.len());
    for cut in 0..whole_life.operations() {
        let disk = SimDisk::with_files(&files);
        disk.cut_power_at(cut);
        let first = repair(&disk);
        disk.power_cut(&mut fastrand::Rng::with_seed(cut));
        if first.is_err() {
            repair(&disk).unwrap();
        }
        assert_eq!(verify(&disk).unwrap().damage, [], "cut at {cut}");
        let (log, _) = open(&disk, options());
        let there: Vec<u64> = run(whole(&*log, ALL)).events.into_keys().collect();
        assert_eq!(there, expected, "cut at {cut}");
    }
}

#[test]
fn damaged_cursors_are_named_and_set_aside_for_the_ones_before() {
    let (disk, _) = run(lived(&mut fastrand::Rng::with_seed(3), options()));
    disk.flip("cursors", 30, 2);
    let verdict = verify(&disk).unwrap();
    let [bad] = &verdict.damage[..] else { panic!("{verdict:?}") };
    assert_eq!((&*bad.file, bad.what), ("cursors", Fault::Cursors));
    let ruined = disk.files()["cursors"].clone();
    repair(&disk).unwrap();
    assert_eq!(disk.files()["cursors.damaged"], ruined);
    assert_eq!(verify(&disk).unwrap().damage, []);
    let (log, _) = open(&disk, options());
    assert!(log.stats().deliveries.iter().any(|(name, _)| name == "soc"));
}

#[test]
fn tools_leave_a_log_alone_that_is_in_use_or_newer() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, options());
    let locked = |error: LogError| matches!(&error, LogError::Locked(who) if who.contains("4711"));
    assert!(locked(quiet(&disk).err().unwrap()));
    assert!(locked(repair(&disk).err().unwrap()));
    drop(log);
    drop(quiet(&disk).unwrap());
    repair(&disk).unwrap();
    let (disk, _) = run(lived(&mut fastrand::Rng::with_seed(3), options()));
    let mut files = disk.files();
    let segment = files.values_mut().find(|bytes| bytes.starts_with(b"SIEMGATE")).unwrap();
    for at in [0, 2_048] {
        segment[at + 8] = 9;
        let sum = crc32c::crc32c(&segment[at..at + 48]).to_le_bytes();
        segment[at + 48..at + 52].copy_from_slice(&sum);
    }
    let newer = SimDisk::with_files(&files);
    for error in [verify(&newer).err(), repair(&newer).err()] {
        assert!(matches!(error, Some(LogError::Newer { found: 9, .. })), "{error:?}");
    }
    let told = export(&disks("log", &newer), &mut Vec::new()).unwrap_err();
    assert!(matches!(told, StreamError::Log(LogError::Newer { .. })), "{told}");
    assert_eq!(newer.files(), files);
}

// ---- Moving -------------------------------------------------------------------------------------

/// Everything of an event that is stored.
fn all_of(event: &Event) -> impl PartialEq + std::fmt::Debug + use<> {
    let (id, received, source) = (event.id, event.received, event.source.clone());
    (id, received, source, event.key, event.note.clone(), event.body.clone())
}

type Delivery = (String, Standing);

/// Everything a log says of itself, from a copy.
async fn told(
    disk: &SimDisk,
) -> (Vec<impl PartialEq + std::fmt::Debug + use<>>, Vec<Delivery>, String) {
    let copy = SimDisk::with_files(&disk.files());
    let (log, _) = FilesLog::open(Arc::new(copy), options()).unwrap();
    let whole = whole(&*log, ALL).await;
    let stats = log.stats();
    let events: Vec<_> = whole.events.iter().map(|(at, event)| (*at, all_of(event))).collect();
    let rest = format!("{:?} {:?} {:?}", stats.head, stats.oldest, whole.gaps);
    (events, stats.deliveries, rest)
}

#[test]
fn a_log_that_was_moved_is_the_same_log() {
    let (mut gaps, mut expired) = (0, 0);
    for seed in seeds().start * 25..seeds().end * 25 {
        let _named = Named(seed / 25, seed);
        let mut random = fastrand::Rng::with_seed(seed ^ 0x3e);
        let mut options = options();
        if random.bool() {
            options.max_bytes = 128 << 10;
            options.when_full = siemgate::core::log::WhenFull::DropOldest;
        }
        let (disk, _) = run(lived(&mut random, options));
        if random.u8(..3) == 0 {
            let mut files = disk.files();
            let names: Vec<_> = files.keys().filter(|n| n.ends_with(".seg")).cloned().collect();
            let file = files.get_mut(&names[random.usize(..names.len())]).unwrap();
            let at = random.usize(4_096..file.len().max(4_097)).min(file.len() - 1);
            file[at] ^= 1;
            files.iter().for_each(|(name, _)| drop(disk.remove(name)));
            let hurt = SimDisk::with_files(&files);
            moved(&hurt, &mut gaps, &mut expired);
        } else {
            moved(&disk, &mut gaps, &mut expired);
        }
    }
    assert!(gaps > 0 && expired > 0, "{gaps} {expired}");
}

fn moved(disk: &SimDisk, gaps: &mut u64, expired: &mut u64) {
    let before = disk.files();
    let mut stream = Vec::new();
    let carried = export(&disks("log", disk), &mut stream).unwrap();
    assert_eq!(disk.files(), before, "an export changes nothing");
    assert_eq!(check(&stream[..]).unwrap(), carried);
    let new = SimDisk::new();
    import(&stream[..], &disks("log", &new).into_iter().collect()).unwrap();
    assert!(new.files().keys().all(|name| !name.ends_with(".importing")));
    let verdict = verify(&new).unwrap();
    assert_eq!((verdict.damage, &verdict.lost), (vec![], &carried[0].lost));
    run(async { assert_eq!(told(&new).await, told(disk).await) });
    let mut again = Vec::new();
    assert_eq!(export(&disks("log", &new), &mut again).unwrap(), carried);
    *gaps += carried[0].lost.len() as u64;
    *expired += carried[0].oldest.0;
}

#[test]
fn a_stream_that_is_not_whole_is_refused_and_nothing_is_made() {
    let (disk, _) = run(lived(&mut fastrand::Rng::with_seed(9), options()));
    let mut stream = Vec::new();
    export(&disks("log", &disk), &mut stream).unwrap();
    let refused = |stream: &[u8]| {
        let new = SimDisk::new();
        let error = import(stream, &disks("log", &new).into_iter().collect()).unwrap_err();
        assert!(new.files().is_empty(), "{error}: {:?}", new.files().keys());
        assert_eq!(check(stream).unwrap_err().to_string(), error.to_string());
        error
    };
    for len in (0..stream.len()).step_by(97).chain(stream.len() - 20..stream.len()) {
        let error = refused(&stream[..len]);
        assert!(matches!(error, StreamError::Cut(_) | StreamError::Foreign), "{len}: {error}");
    }
    for at in (0..stream.len()).filter(|at| *at < 400 || at % 89 == 0) {
        let mut hurt = stream.clone();
        hurt[at] ^= 4;
        refused(&hurt);
    }
    let mut longer = stream.clone();
    longer.push(0);
    assert!(refused(&longer).to_string().contains("something follows"));
    let mut newer = stream.clone();
    newer[8] = 2;
    let sum = crc32c::crc32c(&newer[..20]).to_le_bytes();
    newer[20..24].copy_from_slice(&sum);
    assert!(matches!(refused(&newer), StreamError::Newer { found: 2, known: 1 }));
    // Into a folder that has something.
    let files = disk.files();
    let error = import(&stream[..], &disks("log", &disk).into_iter().collect()).unwrap_err();
    assert!(matches!(error, StreamError::NotEmpty(_)) && disk.files() == files, "{error}");
}

#[test]
fn an_import_that_the_disk_cuts_short_leaves_nothing_or_everything() {
    let (disk, _) = run(lived(&mut fastrand::Rng::with_seed(11), options()));
    let mut stream = Vec::new();
    export(&disks("log", &disk), &mut stream).unwrap();
    let expected = run(told(&disk));
    let whole_life = SimDisk::new();
    import(&stream[..], &disks("log", &whole_life).into_iter().collect()).unwrap();
    let mut empty = 0;
    for at in 0..whole_life.operations() {
        let new = SimDisk::new();
        let trouble = siemgate::core::log::sim::Trouble::Broken;
        new.fail(Some(siemgate::core::log::sim::Fault { at, trouble, sticky: false }));
        if import(&stream[..], &disks("log", &new).into_iter().collect()).is_ok() {
            run(async { assert_eq!(told(&new).await, expected) });
        } else {
            assert!(new.files().is_empty(), "{at}: {:?}", new.files().keys());
            empty += 1;
        }
    }
    assert!(empty > 3);
}
