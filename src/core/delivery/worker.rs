//! The delivery worker: one loop, every decision in it.
//!
//! Guarantees: each cause has one action (`failed`); nothing is dropped because of how a
//! destination or its setting behaves; one odd event does not stop the sink, and one wrong setting
//! does not dead-letter a backlog. How events are chosen, paced, bisected and settled is in the
//! pure neighbours; how they are encoded and sent is the sink's.

mod ahead;
mod guarding;
mod intake;
mod launch;
mod second;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batch::{BatchLimits, Hold, Item, ODD_AFTER, Origin, Others, Queue, Suspicion};
use super::guard::{Guard, HELD};
use super::journal::Journal;
use super::pace::{Pace, PaceSettings};
use super::seconds::Seconds;
use super::settle::Books;
use super::suspects::Suspects;
use super::{Extra, Halt, Line, Rules};
use crate::core::Timestamp;
use crate::core::config::DeliverySettings;
use crate::core::event::Position;
use crate::core::log::{Head, Limit, Reader};
use crate::core::metrics::Vitals;
use crate::core::sink::{Cause, Fault, Limits, Outcome, Probe, Reply, Sink};
use ahead::Scout;
use second::SECOND_PAGE;

/// Events a worker holds at most, waiting or in flight.
const WINDOW_EVENTS: usize = 2_000;
/// Events read from the log at once.
const PAGE: Limit = Limit { events: 256, bytes: 1 << 20 };
/// Single events refused in a row, nothing accepted in between, before the setting is suspected.
const REFUSED_IN_A_ROW: usize = 10;
/// Strikes before a suspect is dead-lettered. A destination that flaps may fail an event by chance,
/// so Down must repeat more often than Setup.
const STRIKES_DOWN: u32 = 5;
const STRIKES_SETUP: u32 = 3;
/// How long a refused event waits for proof that the destination takes anything.
const CONDEMNED_FOR: Duration = Duration::from_secs(60);
/// One attempt, unless the settings say otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a batch was sent: how its failure is read depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Normal,
    /// To see whether the destination is back.
    Trial,
    /// Part of a bisection.
    Suspect,
}

/// Something that was in flight and has come back.
enum Landed {
    Attempt { items: Vec<Item>, way: Way, outcome: Outcome, took: Duration },
    Probe(Result<Probe, Fault>),
}

pub(super) struct Worker {
    sink: Arc<dyn Sink>,
    limits: Limits,
    batch: BatchLimits,
    timeout: Duration,
    max_age: Option<Duration>,
    window_bytes: usize,
    books: Books,
    extras: Arc<Mutex<mpsc::Receiver<Extra>>>,
    drain: CancellationToken,
    stop: CancellationToken,
    halt: watch::Receiver<Option<Halt>>,
    head: watch::Receiver<Head>,
    urgent: Position,
    queue: Queue,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    flying: Flying,
    pace: Pace,
    suspects: Suspects,
    suspect_flying: bool,
    /// What was wrong with the last attempt, if anything was.
    trouble: Option<Arc<str>>,
    /// Where people read.
    guard: Option<Guard>,
    /// How events fared since this worker began.
    others: Others,
    /// Parked because everything was refused.
    refusing: bool,
    seq: u64,
    /// What is urgent in the backlog.
    scout: Scout,
    /// What is to be replayed has changed.
    replays: watch::Receiver<u64>,
    /// A second delivery could not begin or end: not again before this.
    seconds_from: Option<Instant>,
    /// Since when the destination has been down or the sink parked.
    down_since: Option<Instant>,
    /// The log could not be read: not again before this.
    read_from: Option<Instant>,
    draining: bool,
}

/// What is in flight, for the ledger and the age gauge.
#[derive(Default)]
struct Flying {
    from_log: u64,
    events: usize,
    bytes: usize,
    oldest: BTreeMap<Timestamp, usize>,
}

impl Flying {
    fn change(&mut self, items: &[Item], departing: bool) {
        for item in items {
            let from_log = u64::from(item.origin == Origin::Log);
            let bytes = item.piece.bytes.len();
            if departing {
                (self.from_log, self.events) = (self.from_log + from_log, self.events + 1);
                self.bytes += bytes;
            } else {
                (self.from_log, self.events) = (self.from_log - from_log, self.events - 1);
                self.bytes -= bytes;
            }
            if !item.is_own() {
                continue;
            }
            let at = self.oldest.entry(item.event.received).or_default();
            *at = if departing { *at + 1 } else { *at - 1 };
            if *at == 0 {
                self.oldest.remove(&item.event.received);
            }
        }
    }
}

fn pace_settings(settings: &DeliverySettings, limits: &Limits) -> PaceSettings {
    let mut in_flight = settings.in_flight;
    in_flight.max = in_flight.max.min(limits.in_flight.max(1));
    in_flight.min = in_flight.min.min(in_flight.max);
    PaceSettings {
        first: settings.retry.first.map_or(Duration::from_millis(500), |span| span.0),
        max: settings.retry.max.map_or(Duration::from_secs(30), |span| span.0),
        in_flight,
        rate: settings.rate,
    }
}

fn batch_limits(settings: &DeliverySettings, limits: &Limits) -> BatchLimits {
    let bytes =
        settings.batch.bytes.map_or(usize::MAX, |b| usize::try_from(b.0).unwrap_or(usize::MAX));
    BatchLimits {
        events: settings.batch.events.unwrap_or(usize::MAX).clamp(1, limits.batch_events.max(1)),
        bytes: bytes.clamp(1, limits.batch_bytes.max(1)),
        wait: settings.batch.wait.map_or(Duration::ZERO, |span| span.0),
        ordered: limits.ordered,
    }
}

impl Worker {
    pub fn new(line: Line, reader: Box<dyn Reader>) -> Self {
        let Line { engine, spec, extras, halt, drain, stop } = line;
        let pace = Pace::new(pace_settings(&spec.settings, &spec.limits));
        let mut batch = batch_limits(&spec.settings, &spec.limits);
        batch.events = batch.events.min(pace.burst());
        let head = engine.log.head();
        let urgent = head.borrow().urgent;
        let replays = engine.replays.changes();
        Self {
            urgent,
            head,
            batch,
            timeout: spec.settings.timeout.map_or(TIMEOUT, |span| span.0),
            max_age: spec.settings.max_age.map(|span| span.0),
            window_bytes: spec.window_bytes,
            limits: spec.limits,
            sink: spec.sink,
            books: Books {
                metrics: engine.metrics.sink(&spec.name),
                journal: Journal::new(spec.name.clone()),
                seconds: Seconds::new(spec.name.clone(), spec.backing),
                sink: spec.name,
                engine,
                lapsed: reader.standing().terms.expired,
                digests: BTreeMap::new(),
                digested: 0,
                fixes: BTreeMap::new(),
                reader,
            },
            extras,
            halt,
            drain,
            stop,
            queue: Queue::default(),
            flights: FuturesUnordered::new(),
            flying: Flying::default(),
            pace,
            suspects: Suspects::default(),
            suspect_flying: false,
            trouble: None,
            guard: spec.guard.map(Guard::new),
            others: Others::default(),
            refusing: false,
            seq: 0,
            scout: Scout::default(),
            replays,
            seconds_from: None,
            down_since: None,
            read_from: None,
            draining: false,
        }
    }

    /// Deliver until drained or stopped; the cursor is stored on the way out.
    pub async fn run(mut self) {
        self.recall().await;
        loop {
            self.tidy().await;
            self.look_ahead().await;
            self.look_at_seconds().await;
            let wake = self.dispatch(Instant::now());
            self.publish();
            if self.is_leaving() && self.is_idle() {
                break;
            }
            let room = self.has_room();
            let room_for_seconds = self.has_room_for_seconds();
            let page = self.page_limit();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(landed) = self.flights.next(), if !self.flights.is_empty() => self.landed(landed).await,
                Some(extra) = next_extra(&self.extras), if room => self.take_extra(extra).await,
                page = self.books.reader.next(page), if room && page.events > 0 => self.take_page(page).await,
                (id, page) = self.books.seconds.next(SECOND_PAGE), if room_for_seconds => self.take_second(id, page).await,
                Ok(()) = self.halt.changed() => {}
                Ok(()) = self.replays.changed() => {}
                () = self.drain.cancelled(), if !self.draining => self.draining = true,
                Ok(()) = self.head.changed() => self.look_at_head(),
                () = sleep_until(wake) => {}
            }
        }
        self.publish();
        drop(self.flights);
        self.sink.close(std::time::Instant::now() + Duration::from_secs(2)).await;
        if let Err(error) = self.books.reader.flush().await {
            tracing::error!(sink = %self.books.sink, %error, "the cursor could not be stored; some events will be delivered again");
        }
    }

    fn has_room(&mut self) -> bool {
        self.read_from = self.read_from.filter(|at| *at > Instant::now());
        self.read_from.is_none()
            && self.queue.len() + self.flying.events < WINDOW_EVENTS
            && self.held() < HELD as u64
            // The rest is for what is urgent.
            && self.queue.bytes() + self.flying.bytes < self.window_bytes / 8 * 7
    }

    /// The rules it works by.
    fn rules(&self) -> Arc<Rules> {
        match &*self.halt.borrow() {
            Some(halt) => halt.rules.clone(),
            None => self.books.engine.rules.load_full(),
        }
    }

    /// Where it stops reading, if it does.
    fn until(&self) -> Option<Position> {
        self.halt.borrow().as_ref().and_then(|halt| halt.until)
    }

    /// Its successor sends the rest.
    fn hands_over(&self) -> bool {
        self.halt.borrow().as_ref().is_some_and(|halt| halt.at_once)
    }

    /// Events that the guard holds back, in a digest or not.
    fn held(&self) -> u64 {
        self.guard.as_ref().map_or(0, |guard| guard.held() as u64) + self.books.in_digests()
    }

    fn is_leaving(&self) -> bool {
        self.draining || self.until().is_some() || self.hands_over()
    }

    /// How much to read next; no event when it has read all it is to read.
    fn page_limit(&self) -> Limit {
        if self.hands_over() {
            return Limit { events: 0, ..PAGE };
        }
        let left =
            self.until().map_or(u64::MAX, |until| until.since(self.books.reader.standing().next));
        Limit { events: PAGE.events.min(usize::try_from(left).unwrap_or(usize::MAX)), ..PAGE }
    }

    /// Drained: nothing in flight, and either all is delivered or the destination does not take it.
    fn is_idle(&self) -> bool {
        if self.hands_over() {
            return self.flights.is_empty();
        }
        let end = self.until().unwrap_or_else(|| self.head.borrow().next);
        let caught_up = self.books.reader.standing().next >= end;
        self.flights.is_empty()
            && ((self.queue.len() == 0 && self.held() == 0 && caught_up) || !self.can_deliver())
    }

    fn can_deliver(&self) -> bool {
        self.pace.is_up() && (self.queue.len() == 0 || self.queue.iter().any(|i| i.hold.is_free()))
    }

    fn look_at_head(&mut self) {
        let urgent = self.head.borrow_and_update().urgent;
        if urgent > self.urgent {
            self.urgent = urgent;
            self.pace.hurry(Instant::now());
        }
    }

    async fn landed(&mut self, landed: Landed) {
        match landed {
            Landed::Attempt { items, way, outcome, took } => {
                self.queue.arrive(&items);
                self.flying.change(&items, false);
                if way == Way::Suspect {
                    self.suspect_flying = false;
                }
                let cause = match &outcome {
                    Outcome::Delivered(_) => None,
                    Outcome::Partly { faults, .. } => faults.first().map(|(_, fault)| fault.cause),
                    Outcome::Failed(fault) => Some(fault.cause),
                };
                self.books.metrics.attempted(cause, items.len(), took);
                self.books.tried(&items, &outcome, took);
                match outcome {
                    Outcome::Delivered(reply) => self.took(items, &reply).await,
                    Outcome::Partly { reply, faults } => {
                        self.partly(items, &reply, faults, way).await
                    }
                    Outcome::Failed(fault) => self.failed(items, fault, way).await,
                }
            }
            Landed::Probe(result) => self.probed(result),
        }
    }

    /// The destination has these. That is also the proof that decides about what it had not taken.
    async fn took(&mut self, items: Vec<Item>, reply: &Reply) {
        self.pace.accepted();
        self.trouble = None;
        self.others.accepted += items.len() as u64;
        self.refusing = false;
        self.books.journal.recovered();
        self.books.journal.resent(reply);
        for item in &items {
            self.books.delivered(item, reply).await;
        }
        let condemned: Vec<u64> = self.condemned().map(|(_, seq)| seq).collect();
        self.bury_condemned(&condemned).await;
        let odd: Vec<u64> = self
            .queue
            .iter()
            .filter(|item| item.hold.is_free() && item.streak.count >= ODD_AFTER)
            .map(|item| item.seq)
            .collect();
        // The acceptance that brought the suspicion is the first that counts.
        let accepted = self.others.accepted.saturating_sub(1);
        let suspicion = Suspicion { strikes: 0, then: Others { accepted, ..self.others } };
        for seq in &odd {
            if let Some(item) = self.queue.get_mut(*seq) {
                item.hold = Hold::Suspect(suspicion);
            }
        }
        self.suspects.accuse(odd);
    }

    /// Some of a batch were taken, these were not.
    async fn partly(
        &mut self,
        items: Vec<Item>,
        reply: &Reply,
        faults: Vec<(usize, Fault)>,
        way: Way,
    ) {
        let mut items: Vec<Option<Item>> = items.into_iter().map(Some).collect();
        for (index, fault) in faults {
            if let Some(item) = items.get_mut(index).and_then(Option::take) {
                self.failed(vec![item], fault, way).await;
            }
        }
        let taken: Vec<Item> = items.into_iter().flatten().collect();
        if !taken.is_empty() {
            self.took(taken, reply).await;
        }
    }

    /// THE TABLE: each cause has one action.
    async fn failed(&mut self, items: Vec<Item>, fault: Fault, way: Way) {
        let now = Instant::now();
        self.books.journal.failed(&fault, items.len(), now);
        self.trouble = Some(told(&fault));
        items.iter().for_each(|item| self.books.pending(item, &fault));
        match fault.cause {
            Cause::Busy => {
                self.put_back(items);
                self.pace.busy(now, fault.retry_after, fastrand::f64());
            }
            Cause::Down | Cause::Setup if way == Way::Suspect => {
                self.suspect_failed(items, fault, now).await
            }
            Cause::Down => {
                self.others.failed += 1;
                self.put_back_with_verdict(items, &fault);
                self.pace.down(now, way == Way::Trial, fastrand::f64());
            }
            Cause::Setup => {
                self.others.failed += 1;
                self.put_back_with_verdict(items, &fault);
                self.pace.park(now, way == Way::Trial);
            }
            Cause::TooLarge => {
                self.answered();
                self.too_large(items, fault, way, now).await;
                if self.refusing && way == Way::Trial {
                    self.pace.park(now, true);
                }
            }
            Cause::Refused if self.refusing && way == Way::Trial => {
                self.put_back_with_verdict(items, &fault);
                self.pace.park(now, true);
            }
            Cause::Refused => {
                self.answered();
                self.refused(items, fault, now).await;
            }
        }
    }

    fn publish(&mut self) {
        self.down_since = match self.pace.is_failing() {
            true => self.down_since.or_else(|| Some(Instant::now())),
            false => None,
        };
        let own = self.queue.iter().filter(|item| item.is_own());
        let waiting = own.map(|item| item.event.received).min();
        let flying = self.flying.oldest.keys().next().copied();
        let held = self.guard.as_ref().and_then(Guard::oldest);
        let from_log = self.queue.iter().filter(|item| item.origin == Origin::Log).count() as u64;
        let vitals = Vitals {
            in_hand: from_log + self.flying.from_log + self.held(),
            oldest: [waiting, flying, held].into_iter().flatten().min(),
            state: self.pace.state(),
            down_since: self.down_since,
            trouble: self.trouble.clone(),
            ..Vitals::default()
        };
        self.books.publish(vitals, self.flights.len());
    }
}

/// A fault as people read it: the status, if there is one, and the note.
fn told(fault: &Fault) -> Arc<str> {
    let status = fault.reply.as_ref().and_then(|reply| reply.status);
    match status {
        Some(status) => format!("{status}: {}", fault.note).into(),
        None => fault.note.as_str().into(),
    }
}

async fn next_extra(extras: &Mutex<mpsc::Receiver<Extra>>) -> Option<Extra> {
    extras.lock().await.recv().await
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
