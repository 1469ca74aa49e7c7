//! Random histories of a whole engine: a log and dead letters on a disk that loses power, several
//! workers, destinations whose mood changes, virtual time.
//!
//! Each history is a few lives of the engine, each ended by a power cut, a crash or a drain, and then
//! a last one in which everything works. What must then hold: every acknowledged event is at every
//! sink, as it was sent, or among that sink's dead letters because it is poison; no sink has what
//! nobody sent; the ledgers add up; a fresh event flows. A failure prints its seed;
//! `SIEMGATE_HISTORY=n` replays that one, `SIEMGATE_HISTORIES=n` runs as many.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use siemgate::core::Timestamp;
use siemgate::core::config::DeliverySettings;
use siemgate::core::delivery::{Delivery, Engine, Fates, Lookout, Rules, Spec};
use siemgate::core::event::{Draft, Event, EventId};
use siemgate::core::finding::{Finding, Severity};
use siemgate::core::letters::Letters;
use siemgate::core::log::sim::SimDisk;
use siemgate::core::log::{FilesLog, Log, Options, Start};
use siemgate::core::metrics::{Metrics, SinkMetrics};
use siemgate::core::receipts::Receipts;
use siemgate::core::route::{Choice, RouteId, Select, Shape, Shaped};
use siemgate::core::sink::{Cause, Fault, Limits, Outcome, Piece, Probe, Reply, Sink};

use crate::log_common::small;

const SINKS: [&str; 3] = ["plain", "picky", "moody"];
/// Histories in CI.
const HISTORIES: u64 = 10_000;
/// Virtual time that the last life may take: longer than any backoff and any parking.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// Every sink takes every event; the incident is the text before `:`, `!` is critical.
struct Everything;

impl Select for Everything {
    fn choose(&self, event: &Draft) -> Choice {
        let text = String::from_utf8_lossy(&event.body).into_owned();
        event.decoded_by(|| Finding {
            severity: if text.contains('!') { Severity::Critical } else { Severity::Low },
            incident: text.split_once(':').map(|(incident, _)| incident.to_owned()),
            ..Finding::default()
        });
        Choice::new(SINKS.iter().map(|sink| ((*sink).into(), "all".into())).collect())
    }
}

impl Shape for Everything {
    fn shape(&self, event: &Arc<Event>, _: &RouteId) -> Result<Shaped, Fault> {
        Ok(Shaped::unshaped(event.clone()))
    }
}

/// What a destination does at a time.
#[derive(Clone, Copy)]
enum Mood {
    Good,
    Fails(Cause),
    /// Takes the first half of a batch.
    Half,
    /// Takes all and says that it failed: the answer is lost on the way.
    Lies,
}

/// A destination: it outlives the engine.
struct Place {
    name: &'static str,
    /// Since the start of virtual time, from when on which mood.
    moods: Mutex<Vec<(Duration, Mood)>>,
    took: Mutex<HashMap<EventId, Bytes>>,
    start: tokio::time::Instant,
}

impl Place {
    fn mood(&self) -> Mood {
        let now = self.start.elapsed();
        let moods = self.moods.lock().unwrap();
        moods.iter().rev().find(|(from, _)| *from <= now).map_or(Mood::Good, |(_, mood)| *mood)
    }

    /// Bad luck from now on, at times that `chance` chooses.
    fn upset(&self, chance: &mut fastrand::Rng) {
        let mut at = self.start.elapsed();
        let mut moods = self.moods.lock().unwrap();
        for _ in 0..chance.usize(..4) {
            at += Duration::from_millis(chance.u64(1..20_000));
            let mood = match chance.usize(..7) {
                0 => Mood::Fails(Cause::Busy),
                1 | 2 => Mood::Fails(Cause::Down),
                3 => Mood::Fails(Cause::Setup),
                4 => Mood::Half,
                5 => Mood::Lies,
                _ => Mood::Good,
            };
            moods.push((at, mood));
        }
    }

    fn calm(&self) {
        self.moods.lock().unwrap().clear();
    }

    fn take(&self, pieces: &[Piece]) {
        let mut took = self.took.lock().unwrap();
        for piece in pieces {
            let known = took.entry(piece.id).or_insert_with(|| piece.bytes.clone());
            assert_eq!(*known, piece.bytes, "{} got one event in two forms", self.name);
        }
    }

    fn refuses(&self, piece: &Piece) -> bool {
        self.name == "picky" && piece.bytes.ends_with(b"poison")
    }
}

/// A sink of the engine's, leading to a place.
struct Way {
    place: Arc<Place>,
    flying: Mutex<BTreeSet<String>>,
}

fn fault(cause: Cause) -> Fault {
    Fault::new(cause, "so it goes")
}

#[async_trait]
impl Sink for Way {
    fn encode(&self, event: &Shaped, _: usize) -> Result<Bytes, Fault> {
        Ok(event.body.clone())
    }

    async fn send(&self, pieces: &[Piece], _: Timestamp) -> Outcome {
        let incidents = || pieces.iter().filter_map(|piece| piece.incident.clone());
        for incident in incidents() {
            let alone = self.flying.lock().unwrap().insert(incident.clone());
            assert!(alone, "two events of {incident} in flight to {}", self.place.name);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        incidents().for_each(|incident| {
            self.flying.lock().unwrap().remove(&incident);
        });
        let faults = |bad: &dyn Fn(usize, &Piece) -> bool, cause| -> Vec<(usize, Fault)> {
            let indexed = pieces.iter().enumerate().filter(|(at, piece)| bad(*at, piece));
            indexed.map(|(at, _)| (at, fault(cause))).collect()
        };
        match self.place.mood() {
            Mood::Fails(cause) => Outcome::Failed(fault(cause)),
            Mood::Lies => {
                let good: Vec<_> =
                    pieces.iter().filter(|piece| !self.place.refuses(piece)).cloned().collect();
                self.place.take(&good);
                Outcome::Failed(fault(Cause::Down))
            }
            _ if pieces.iter().any(|piece| self.place.refuses(piece)) => {
                Outcome::Failed(fault(Cause::Refused))
            }
            Mood::Half if pieces.len() > 1 => {
                let middle = pieces.len() / 2;
                self.place.take(&pieces[..middle]);
                let faults = faults(&|at, _| at >= middle, Cause::Busy);
                Outcome::Partly { reply: Reply::default(), faults }
            }
            Mood::Half | Mood::Good => {
                self.place.take(pieces);
                Outcome::Delivered(Reply::default())
            }
        }
    }

    async fn probe(&self, _: Timestamp) -> Result<Probe, Fault> {
        match self.place.mood() {
            Mood::Fails(cause) => Err(fault(cause)),
            _ => Ok(Probe::Unknown),
        }
    }

    async fn close(&self, _: Instant) {}
}

/// Everything that outlives the engine.
struct World {
    chance: fastrand::Rng,
    log: SimDisk,
    dead: SimDisk,
    places: Vec<Arc<Place>>,
    acknowledged: BTreeMap<EventId, Bytes>,
    attempted: BTreeMap<EventId, Bytes>,
    number: u64,
}

/// One life of the engine.
struct Life {
    engine: Arc<Engine>,
    log: Arc<FilesLog>,
    dead: Arc<FilesLog>,
    deliveries: Vec<Delivery>,
}

fn options() -> Options {
    Options { segment_bytes: 32 << 10, cursor_every: Duration::from_millis(2), ..small() }
}

impl World {
    fn new(seed: u64) -> Self {
        let start = tokio::time::Instant::now();
        let place = |name: &&'static str| {
            let (moods, took) = (Mutex::default(), Mutex::default());
            Arc::new(Place { name, moods, took, start })
        };
        Self {
            chance: fastrand::Rng::with_seed(seed),
            log: SimDisk::new(),
            dead: SimDisk::new(),
            places: SINKS.iter().map(place).collect(),
            acknowledged: BTreeMap::new(),
            attempted: BTreeMap::new(),
            number: 0,
        }
    }

    fn draft(&mut self) -> Draft {
        self.number += 1;
        let chance = &mut self.chance;
        let critical = if chance.u8(..4) == 0 { "!" } else { "" };
        let ending = if chance.u8(..12) == 0 { "poison" } else { "" };
        let incident = match chance.u8(..3) {
            0 => format!("i{}:", chance.u8(..4)),
            _ => String::new(),
        };
        let pad = "x".repeat([0, 10, 300, 5_000][chance.usize(..4)]);
        let body = Bytes::from(format!("{incident}{}{critical}{pad}{ending}", self.number));
        let draft = Draft::new(EventId::fresh(), Timestamp::now(), "s".into(), body.clone());
        self.attempted.insert(draft.id, body);
        draft
    }

    /// `None` when the disk has no power even for the start.
    async fn begin(&mut self) -> Option<Life> {
        let open = |disk: &SimDisk| FilesLog::open(Arc::new(disk.clone()), options()).ok();
        let (log, dead) = (open(&self.log)?.0, open(&self.dead)?.0);
        let letters = Letters::open(dead.clone()).await.ok()?;
        let rules = Rules { select: Arc::new(Everything), shape: Arc::new(Everything) };
        let engine = Arc::new(Engine {
            log: log.clone(),
            dead: Arc::new(letters),
            rules: ArcSwap::from_pointee(rules),
            fates: Arc::new(Fates::default()),
            receipts: Arc::new(Receipts::default()),
            lookout: Lookout::default(),
            replays: Arc::default(),
            metrics: Metrics::new(Timestamp::UNIX_EPOCH).unwrap(),
            clock: Timestamp::now,
        });
        let mut life = Life { engine, log, dead, deliveries: Vec::new() };
        for place in self.places.clone() {
            let Ok(delivery) = Delivery::start(life.engine.clone(), self.spec(&place)).await else {
                self.end(life).await;
                return None;
            };
            life.deliveries.push(delivery);
        }
        Some(life)
    }

    fn spec(&self, place: &Arc<Place>) -> Spec {
        let limits = Limits {
            event_bytes: 1 << 20,
            batch_events: 7,
            batch_bytes: 1 << 20,
            in_flight: 3,
            ordered: false,
        };
        Spec {
            name: place.name.into(),
            sink: Arc::new(Way { place: place.clone(), flying: Mutex::default() }),
            limits,
            settings: DeliverySettings::default(),
            guard: None,
            backing: Vec::new(),
            start: Start::Oldest,
            window_bytes: 64 << 10,
        }
    }

    /// Append, wait, reload, for some steps; false when the log has failed.
    async fn live(&mut self, life: &mut Life) -> bool {
        for _ in 0..self.chance.usize(1..10) {
            match self.chance.usize(..8) {
                0 => tokio::time::sleep(Duration::from_millis(self.chance.u64(..30_000))).await,
                1 => self.replace(life).await,
                _ => {
                    let group: Vec<_> =
                        (0..[1, 1, 2, 5][self.chance.usize(..4)]).map(|_| self.draft()).collect();
                    let told: Vec<_> = group.iter().map(|d| (d.id, d.body.clone())).collect();
                    let rules = life.engine.rules.load_full();
                    group.iter().for_each(|draft| drop(rules.select.choose(draft)));
                    match life.log.append(group).await {
                        Ok(_) => self.acknowledged.extend(told),
                        Err(_) => return false,
                    }
                }
            }
        }
        true
    }

    /// As a reload does with a sink whose section has changed.
    async fn replace(&mut self, life: &mut Life) {
        if life.deliveries.is_empty() {
            return; // The disk has had no power since several replacements.
        }
        let index = self.chance.usize(..life.deliveries.len());
        let limit = Duration::from_millis(self.chance.u64(..2_000));
        life.deliveries.remove(index).finish(limit).await;
        let spec = self.spec(&self.places[index]);
        if let Ok(delivery) = Delivery::start(life.engine.clone(), spec).await {
            life.deliveries.insert(index, delivery);
        } else {
            // The disk has no power any more; the life ends with the next append.
            let spare = self.places.remove(index);
            self.places.push(spare);
        }
    }

    async fn end(&mut self, life: Life) {
        let Life { engine, log, dead, deliveries } = life;
        if self.chance.bool() {
            let limit = Duration::from_millis(self.chance.u64(..5_000));
            futures_util::future::join_all(deliveries.into_iter().map(|d| d.finish(limit))).await;
            let _ = log.close().await;
            let _ = dead.close().await;
        } else {
            futures_util::future::join_all(
                deliveries.into_iter().map(|d| d.finish(Duration::ZERO)),
            )
            .await;
        }
        drop(engine);
        // A read under way on another thread may hold a log for a moment; two engines on one disk
        // are what the lock of a real folder forbids.
        for log in [log, dead] {
            let (mut log, deadline) = (log, Instant::now() + Duration::from_secs(20));
            while let Err(shared) = Arc::try_unwrap(log).map(drop) {
                assert!(
                    Instant::now() < deadline,
                    "somebody keeps the log of a life that has ended"
                );
                std::thread::yield_now();
                log = shared;
            }
        }
        // Lost or not, as the disk likes; of a closed log everything is synced.
        self.log.power_cut(&mut self.chance);
        self.dead.power_cut(&mut self.chance);
    }

    /// A life in which everything works, and what must hold after it.
    async fn check(&mut self) {
        self.places.iter().for_each(|place| place.calm());
        let life = self.begin().await.expect("a disk with power");
        let fresh = Draft::new(EventId::fresh(), Timestamp::now(), "s".into(), "fresh!".into());
        self.acknowledged.insert(fresh.id, fresh.body.clone());
        self.attempted.insert(fresh.id, fresh.body.clone());
        life.log.append(vec![fresh]).await.expect("a disk with power");
        self.settled(&life).await;
        let letters = life.engine.dead.list(Default::default(), None, 100_000).await.unwrap();
        for place in &self.places {
            let took = place.took.lock().unwrap().clone();
            let buried: BTreeMap<_, _> = letters
                .iter()
                .filter(|letter| *letter.note.sink == *place.name)
                .map(|letter| (letter.event.id, letter.event.body.clone()))
                .collect();
            for (id, body) in &self.acknowledged {
                let found = took.get(id).or_else(|| buried.get(id));
                let ends = String::from_utf8_lossy(&body[body.len().saturating_sub(12)..]);
                assert_eq!(found, Some(body), "{id}, which ends with {ends}, at {}", place.name);
            }
            for (id, body) in took.iter().chain(&buried) {
                assert_eq!(self.attempted.get(id), Some(body), "invented at {}", place.name);
            }
            let wrongly =
                buried.values().filter(|body| place.name != "picky" || !body.ends_with(b"poison"));
            assert_eq!(wrongly.count(), 0, "buried without a reason at {}", place.name);
        }
        self.end(life).await;
    }

    async fn settled(&self, life: &Life) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let head = life.log.head().borrow().next;
            let vitals: Vec<_> = SINKS
                .iter()
                .map(|name| life.engine.metrics.sink(&(*name).into()).vitals())
                .collect();
            if vitals.iter().all(|vitals| vitals.next == head && vitals.in_hand == 0) {
                for vitals in &vitals {
                    assert_eq!(SinkMetrics::unaccounted(vitals), 0, "the ledger");
                }
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "never settled: {vitals:?}, head {head}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn history(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..world.chance.usize(1..4) {
        if world.chance.bool() {
            let disk = if world.chance.u8(..4) == 0 { &world.dead } else { &world.log };
            disk.cut_power_at(disk.operations() + world.chance.u64(1..60));
        }
        let places = world.places.clone();
        places.iter().for_each(|place| place.upset(&mut world.chance));
        if let Some(mut life) = world.begin().await {
            world.live(&mut life).await;
            world.end(life).await;
        }
        world.log.power_cut(&mut world.chance);
        world.dead.power_cut(&mut world.chance);
    }
    world.check().await;
}

/// Names the history when a check fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("history: SIEMGATE_HISTORY={}", self.0);
        }
    }
}

#[test]
fn whatever_happens_every_acknowledged_event_is_at_every_sink_in_the_end() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (first, count) = match number("SIEMGATE_HISTORY") {
        Some(seed) => (seed, 1),
        None => (0, number("SIEMGATE_HISTORIES").unwrap_or(HISTORIES)),
    };
    let (next, begun) = (AtomicU64::new(first), Instant::now());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let _named = Named(seed);
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .start_paused(true)
                        .build()
                        .unwrap();
                    runtime.block_on(history(seed));
                }
            });
        }
    });
    println!("{count} histories in {:?}", begun.elapsed());
}
