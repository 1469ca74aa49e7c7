//! A whole engine in memory with a scripted destination, on virtual time: for the decisions of the
//! delivery worker, which would take minutes of waiting otherwise.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use siemgate::core::Timestamp;
use siemgate::core::config::DeliverySettings;
use siemgate::core::delivery::{Delivery, Engine, Fates, GuardRules, Lookout, Rules, Spec};
use siemgate::core::event::{Draft, Event, EventId};
use siemgate::core::finding::{Finding, Severity};
use siemgate::core::letters::Letters;
use siemgate::core::log::{End, Log, MemoryLog, Start};
use siemgate::core::metrics::{Facts, Metrics, SinkMetrics, Vitals};
use siemgate::core::receipts::Receipts;
use siemgate::core::route::{Choice, RouteId, Select, Shape, Shaped};
use siemgate::core::sink::{Fault, Limits, Outcome, Piece, Probe, Reply, Sink};

/// The one sink.
pub const SINK: &str = "soc";

/// Takes every event whose body does not begin with `-`; the incident is the text before `:`.
struct Everything;

impl Select for Everything {
    fn choose(&self, event: &Draft) -> Choice {
        let text = String::from_utf8_lossy(&event.body).into_owned();
        event.decoded_by(|| Finding {
            severity: if text.contains('!') { Severity::Critical } else { Severity::Low },
            incident: text.split_once(':').map(|(incident, _)| incident.to_owned()),
            ..Finding::default()
        });
        let wanted = !text.starts_with('-');
        Choice::new(wanted.then(|| (SINK.into(), "all".into())).into_iter().collect())
    }
}

impl Shape for Everything {
    fn shape(&self, event: &Arc<Event>, _: &RouteId) -> Result<Shaped, Fault> {
        Ok(Shaped::unshaped(event.clone()))
    }
}

/// Answers a batch of bodies at a time since the start.
type Script = Box<dyn Fn(&[String], Duration) -> Outcome + Send>;

/// A destination that does what it is told, and remembers.
pub struct Scripted {
    script: Mutex<Script>,
    probe: Mutex<Result<Probe, Fault>>,
    /// Bodies of every attempt, with its time.
    attempts: Mutex<Vec<(Duration, Vec<String>)>>,
    took: Mutex<Vec<String>>,
    flying: Mutex<HashMap<String, u32>>,
    start: tokio::time::Instant,
}

#[async_trait]
impl Sink for Scripted {
    fn encode(&self, event: &Shaped, _: usize) -> Result<Bytes, Fault> {
        Ok(event.body.clone())
    }

    async fn send(&self, pieces: &[Piece], _: Timestamp) -> Outcome {
        let bodies: Vec<String> =
            pieces.iter().map(|p| String::from_utf8_lossy(&p.bytes).into_owned()).collect();
        for incident in pieces.iter().filter_map(|piece| piece.incident.clone()) {
            let mut flying = self.flying.lock().unwrap();
            let count = flying.entry(incident.clone()).or_default();
            *count += 1;
            assert!(*count == 1, "two events of incident {incident} in flight");
        }
        let now = self.start.elapsed();
        self.attempts.lock().unwrap().push((now, bodies.clone()));
        tokio::time::sleep(Duration::from_millis(10)).await;
        let outcome = (self.script.lock().unwrap())(&bodies, now);
        for piece in pieces {
            piece.incident.as_ref().and_then(|i| self.flying.lock().unwrap().remove(i));
        }
        let refused = |index: usize| match &outcome {
            Outcome::Delivered(_) => false,
            Outcome::Partly { faults, .. } => faults.iter().any(|(at, _)| *at == index),
            Outcome::Failed(_) => true,
        };
        let taken = bodies.iter().enumerate().filter(|(at, _)| !refused(*at));
        self.took.lock().unwrap().extend(taken.map(|(_, body)| body.clone()));
        outcome
    }

    async fn probe(&self, _: Timestamp) -> Result<Probe, Fault> {
        self.probe.lock().unwrap().clone()
    }

    async fn close(&self, _: Instant) {}
}

impl Scripted {
    pub fn answers(&self, script: impl Fn(&[String], Duration) -> Outcome + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    pub fn probes(&self, answer: Result<Probe, Fault>) {
        *self.probe.lock().unwrap() = answer;
    }

    pub fn took(&self) -> Vec<String> {
        self.took.lock().unwrap().clone()
    }

    pub fn attempts(&self) -> Vec<(Duration, Vec<String>)> {
        self.attempts.lock().unwrap().clone()
    }
}

pub fn ok() -> Outcome {
    Outcome::Delivered(Reply { status: Some(200), ..Reply::default() })
}

/// An engine with one worker.
pub struct Stage {
    pub engine: Arc<Engine>,
    pub sink: Arc<Scripted>,
    pub metrics: Arc<SinkMetrics>,
    pub delivery: Delivery,
}

pub fn limits(batch_events: usize) -> Limits {
    Limits {
        event_bytes: 1 << 20,
        batch_events,
        batch_bytes: 1 << 20,
        in_flight: 4,
        ordered: false,
    }
}

impl Stage {
    pub async fn new(batch_events: usize) -> Self {
        Self::with(Arc::new(MemoryLog::new(64 << 20)), limits(batch_events), "{}").await
    }

    /// With this log, these limits, and delivery settings as JSON.
    pub async fn with(log: Arc<dyn Log>, limits: Limits, settings: &str) -> Self {
        Self::narrow(log, limits, settings, 8 << 20).await
    }

    /// With so many bytes in the worker's window.
    pub async fn narrow(
        log: Arc<dyn Log>,
        limits: Limits,
        settings: &str,
        window_bytes: usize,
    ) -> Self {
        let clock = Timestamp::now;
        Self::built(log, limits, settings, window_bytes, |_| Receipts::default(), None, clock).await
    }

    /// By another clock, and maybe for people.
    pub async fn timed(
        limits: Limits,
        settings: &str,
        guard: Option<GuardRules>,
        clock: fn() -> Timestamp,
    ) -> Self {
        let log = Arc::new(MemoryLog::new(64 << 20));
        let none = |_| Receipts::default();
        Self::built(log, limits, settings, 8 << 20, none, guard, clock).await
    }

    /// The same, keeping receipts.
    pub async fn keeping(
        log: Arc<dyn Log>,
        limits: Limits,
        settings: &str,
        receipts: impl FnOnce(Arc<Metrics>) -> Receipts,
    ) -> Self {
        Self::built(log, limits, settings, 8 << 20, receipts, None, Timestamp::now).await
    }

    async fn built(
        log: Arc<dyn Log>,
        limits: Limits,
        settings: &str,
        window_bytes: usize,
        receipts: impl FnOnce(Arc<Metrics>) -> Receipts,
        guard: Option<GuardRules>,
        clock: fn() -> Timestamp,
    ) -> Self {
        let metrics = Metrics::new(Timestamp::UNIX_EPOCH).unwrap();
        let dead = Letters::open(Arc::new(MemoryLog::new(64 << 20))).await.unwrap();
        let engine = Arc::new(Engine {
            log,
            dead: Arc::new(dead),
            rules: ArcSwap::from_pointee(Rules {
                select: Arc::new(Everything),
                shape: Arc::new(Everything),
            }),
            fates: Arc::new(Fates::default()),
            receipts: Arc::new(receipts(metrics.clone())),
            lookout: Lookout::default(),
            replays: Arc::default(),
            metrics: metrics.clone(),
            clock,
        });
        let sink = Arc::new(Scripted {
            script: Mutex::new(Box::new(|_, _| ok())),
            probe: Mutex::new(Ok(Probe::Unknown)),
            attempts: Mutex::default(),
            took: Mutex::default(),
            flying: Mutex::default(),
            start: tokio::time::Instant::now(),
        });
        let settings: DeliverySettings = serde_json::from_str(settings).unwrap();
        let spec = Spec {
            name: SINK.into(),
            sink: sink.clone(),
            limits,
            settings,
            guard,
            backing: Vec::new(),
            start: Start::Oldest,
            window_bytes,
        };
        let delivery = Delivery::start(engine.clone(), spec).await.unwrap();
        Self { metrics: metrics.sink(&SINK.into()), engine, sink, delivery }
    }

    /// Append bodies, each a request of its own.
    pub async fn append<S: Into<String>>(&self, bodies: impl IntoIterator<Item = S>) {
        for body in bodies {
            let body = Bytes::from(body.into());
            let draft = Draft::new(EventId::fresh(), (self.engine.clock)(), "s".into(), body);
            let rules = self.engine.rules.load_full();
            rules.select.choose(&draft);
            self.engine.log.append(vec![draft]).await.unwrap();
        }
    }

    /// The metrics, as they are scraped.
    pub fn render(&self) -> Vec<u8> {
        let none = Default::default();
        let now = Timestamp::now();
        let log = &self.engine.log.stats();
        let facts = Facts { log, dead: &none, quarantine: &none, silences: &[], now };
        self.engine.metrics.render(&facts)
    }

    pub fn vitals(&self) -> Vitals {
        self.metrics.vitals()
    }

    /// Wait, in virtual time, until `done`.
    pub async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(24 * 3_600);
        while !done(self) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "never: {what}; took {} of {:?}, {} attempts",
                self.sink.took().len(),
                self.vitals(),
                self.sink.attempts().len(),
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Wait until every event of the log is settled.
    pub async fn settled(&self) {
        self.until("all settled", |stage| {
            let head = stage.engine.log.head().borrow().next;
            let vitals = stage.vitals();
            vitals.next == head && vitals.in_hand == 0
        })
        .await;
        assert_eq!(SinkMetrics::unaccounted(&self.vitals()), 0);
    }

    pub fn dead(&self) -> u64 {
        self.engine.dead.counts().values().sum()
    }

    pub async fn dead_bodies(&self) -> Vec<String> {
        let letters = self.engine.dead.list(Default::default(), None, 1_000).await.unwrap();
        letters.iter().map(|l| String::from_utf8_lossy(&l.event.body).into_owned()).collect()
    }

    pub fn ended(&self, end: End) -> u64 {
        let stats = self.engine.log.stats();
        let mut terms = stats.deliveries.iter().find(|(name, _)| name == SINK).unwrap().1.terms;
        *terms.of(end)
    }
}
