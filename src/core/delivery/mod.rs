//! Delivery: one worker a sink, which reads the log at its own position, keeps what the routes
//! give the sink, batches, sends, and moves its position.
//!
//! Guarantees: an event is settled (delivered, dead-lettered, filtered, expired) exactly once for
//! the ledger; a sink, dead, slow or lying, holds up nobody but itself; what is in memory is
//! bounded. It does not know what a destination is: see `core/sink.rs`.

mod attempt;
mod batch;
mod fates;
mod guard;
mod journal;
mod ledger;
mod lookout;
mod pace;
mod seconds;
mod settle;
mod suspects;
mod worker;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use fates::{Fate, Fates, Watch};
pub use guard::GuardRules;
pub use ledger::{Ledger, ledgers};
pub use lookout::Lookout;
pub use seconds::Backing;

use super::Timestamp;
use super::config::DeliverySettings;
use super::event::{Event, Position};
use super::letters::{DeadNote, Letters};
use super::log::{Log, LogError, Reader, Start};
use super::metrics::Metrics;
use super::receipts::Receipts;
use super::replays::Replays;
use super::route::{Select, Shape};
use super::sink::{Limits, Sink};

/// Events outside the ledger that one worker will hold: replays, and what a failed log could not
/// take.
const EXTRA: usize = 1_000;

/// How long a worker that failed waits before it begins again.
const RESTART: Duration = Duration::from_secs(1);

/// What all workers of a gateway share.
pub struct Engine {
    /// The events.
    pub log: Arc<dyn Log>,
    /// What destinations refused.
    pub dead: Arc<Letters<DeadNote>>,
    /// The routing rules in force; replaced as one.
    pub rules: ArcSwap<Rules>,
    /// What became of the latest events.
    pub fates: Arc<Fates>,
    /// Every attempt, on disk.
    pub receipts: Arc<Receipts>,
    /// What is delivered again.
    pub replays: Arc<Replays>,
    /// What is urgent in the backlog.
    pub lookout: Lookout,
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
}

/// The routing rules: who wants an event, and in what shape.
pub struct Rules {
    /// Chooses sinks.
    pub select: Arc<dyn Select>,
    /// Shapes for a route.
    pub shape: Arc<dyn Shape>,
}

/// The end of a worker whose sink is changed or removed: it reads on by the rules that were in
/// force, and only so far, so that no event falls between the old worker and what follows it.
#[derive(Clone)]
pub struct Halt {
    /// The rules it goes on with.
    pub rules: Arc<Rules>,
    /// Where it stops reading; nowhere yet while `None`.
    pub until: Option<Position>,
    /// Wait only for what is in flight: what else it holds is read again by its successor.
    pub at_once: bool,
}

/// One sink to deliver to.
#[derive(Clone)]
pub struct Spec {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// What the destination takes at most.
    pub limits: Limits,
    /// The `delivery` section.
    pub settings: DeliverySettings,
    /// What keeps people from being buried, where people read.
    pub guard: Option<GuardRules>,
    /// The sinks that it stands in for.
    pub backing: Vec<Backing>,
    /// Where it begins when it has no cursor.
    pub start: Start,
    /// Encoded bytes it may hold in memory: its share of the gateway's budget.
    pub window_bytes: usize,
}

/// An event that reaches a worker by another way than the log; outside the ledger.
pub enum Extra {
    /// A dead letter to try again.
    Replay {
        /// Its number.
        letter: Position,
        /// The event it was, or is after `fix`.
        event: Arc<Event>,
        /// The program that changed its body.
        fix: Option<Arc<str>>,
    },
    /// An event that the log could not take.
    Spill(Arc<Event>),
}

/// What a worker is made from; outlives a worker that fails.
#[derive(Clone)]
struct Line {
    engine: Arc<Engine>,
    spec: Spec,
    extras: Arc<Mutex<mpsc::Receiver<Extra>>>,
    halt: watch::Receiver<Option<Halt>>,
    drain: CancellationToken,
    stop: CancellationToken,
}

impl Line {
    /// Run the worker; should it panic, which is a bug, begin again at its stored cursor.
    async fn keep_running(self, mut reader: Box<dyn Reader>) {
        loop {
            let worker = worker::Worker::new(self.clone(), reader);
            if AssertUnwindSafe(worker.run()).catch_unwind().await.is_ok() {
                return;
            }
            tracing::error!(sink = %self.spec.name, "the delivery worker failed (a bug: please report it); it begins again at its last stored position");
            reader = loop {
                if self.stop.is_cancelled() {
                    return;
                }
                tokio::time::sleep(RESTART).await;
                match self.engine.log.open(&self.spec.name, self.spec.start).await {
                    Ok(reader) => break reader,
                    Err(error) => {
                        tracing::error!(sink = %self.spec.name, %error, "cannot begin again yet")
                    }
                }
            };
        }
    }
}

/// A running worker.
pub struct Delivery {
    extra: mpsc::Sender<Extra>,
    halt: watch::Sender<Option<Halt>>,
    drain: CancellationToken,
    stop: CancellationToken,
    task: JoinHandle<()>,
    guarded: bool,
}

impl Delivery {
    /// Open the sink's cursor and start its worker.
    pub async fn start(engine: Arc<Engine>, spec: Spec) -> Result<Self, LogError> {
        let reader = engine.log.open(&spec.name, spec.start).await?;
        Ok(Self::start_at(engine, spec, reader))
    }

    /// Start the worker of a cursor that is open already: a reload opens all new cursors first, so
    /// that none of them can miss an event that the new rules give to its sink.
    pub fn start_at(engine: Arc<Engine>, spec: Spec, reader: Box<dyn Reader>) -> Self {
        let (extra, extras) = mpsc::channel(EXTRA);
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let (halt, halted) = watch::channel(None);
        let extras = Arc::new(Mutex::new(extras));
        let line = Line { engine, spec, extras, halt: halted, drain, stop };
        let (drain, stop) = (line.drain.clone(), line.stop.clone());
        let guarded = line.spec.guard.is_some();
        // The one place that spawns a worker; `finish` joins it.
        #[allow(clippy::disallowed_methods)]
        let task = tokio::spawn(line.keep_running(reader));
        Self { extra, halt, drain, stop, task, guarded }
    }

    /// Hand over an event that is not in the log; false when the worker holds enough of them.
    pub fn offer(&self, extra: Extra) -> bool {
        self.extra.try_send(extra).is_ok()
    }

    /// Whether people read what its sink delivers.
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// Go on by these rules, and stop reading where they say; `finish` then waits for the end.
    pub fn halt(&self, halt: Halt) {
        self.halt.send_replace(Some(halt));
    }

    /// Begin to finish: deliver what can be delivered now, then end.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Whether the worker has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Drain (unless halted) for at most `limit`, then let go. The cursor is stored in either case.
    pub async fn finish(mut self, limit: Duration) {
        if self.halt.borrow().is_none() {
            self.drain.cancel();
        }
        if tokio::time::timeout(limit, &mut self.task).await.is_err() {
            self.stop.cancel();
            let _ = (&mut self.task).await;
        }
    }
}
