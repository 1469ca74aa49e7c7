//! The delivery worker: one loop, every decision in it.
//!
//! Guarantees: each cause has one action (`failed`); nothing is dropped because of how a
//! destination or its setting behaves; one odd event does not stop the sink, and one wrong setting
//! does not dead-letter a backlog. How events are chosen, paced, bisected and settled is in the
//! pure neighbours; how they are encoded and sent is the sink's.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batch::{BatchLimits, Hold, Item, ODD_AFTER, Origin, Queue, Ready, Streak};
use super::journal::Journal;
use super::pace::{Pace, PaceSettings, Permit};
use super::settle::Books;
use super::suspects::Suspects;
use super::{Engine, Extra, Spec};
use crate::core::Timestamp;
use crate::core::config::DeliverySettings;
use crate::core::event::{Event, Position};
use crate::core::finding::Severity;
use crate::core::log::{End, Head, Item as Step, Limit, Page, Reader};
use crate::core::metrics::Vitals;
use crate::core::route::RouteId;
use crate::core::sink::{Cause, Fault, Limits, Outcome, Piece, Probe, Reply, Sink};

/// Events a worker holds at most, waiting or in flight.
const WINDOW_EVENTS: usize = 2_000;
/// Events read from the log at once.
const PAGE: Limit = Limit { events: 256, bytes: 1 << 20 };
/// Single events refused in a row, nothing accepted in between, before the setting is suspected.
const REFUSED_IN_A_ROW: usize = 10;
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
    extras: mpsc::Receiver<Extra>,
    drain: CancellationToken,
    stop: CancellationToken,
    head: watch::Receiver<Head>,
    urgent: Position,
    queue: Queue,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    flying: Flying,
    pace: Pace,
    suspects: Suspects,
    suspect_flying: bool,
    /// Events accepted by the destination since this worker began.
    accepted: u64,
    /// Parked because everything was refused.
    refusing: bool,
    seq: u64,
    draining: bool,
}

/// What is in flight, for the ledger and the age gauge.
#[derive(Default)]
struct Flying {
    from_log: u64,
    events: usize,
    bytes: usize,
    oldest: std::collections::BTreeMap<Timestamp, usize>,
}

impl Flying {
    fn change(&mut self, items: &[Item], departing: bool) {
        for item in items {
            let from_log = u64::from(item.origin == Origin::Log);
            let bytes = item.piece.bytes.len();
            let at = self.oldest.entry(item.event.received).or_default();
            if departing {
                (self.from_log, self.events) = (self.from_log + from_log, self.events + 1);
                self.bytes += bytes;
                *at += 1;
            } else {
                (self.from_log, self.events) = (self.from_log - from_log, self.events - 1);
                self.bytes -= bytes;
                *at -= 1;
                if *at == 0 {
                    self.oldest.remove(&item.event.received);
                }
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
    pub fn new(
        engine: Arc<Engine>,
        spec: Spec,
        reader: Box<dyn Reader>,
        extras: mpsc::Receiver<Extra>,
        drain: CancellationToken,
        stop: CancellationToken,
    ) -> Self {
        let pace = Pace::new(pace_settings(&spec.settings, &spec.limits));
        let mut batch = batch_limits(&spec.settings, &spec.limits);
        batch.events = batch.events.min(pace.burst());
        let head = engine.log.head();
        let urgent = head.borrow().urgent;
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
                sink: spec.name,
                engine,
                reader,
            },
            extras,
            drain,
            stop,
            queue: Queue::default(),
            flights: FuturesUnordered::new(),
            flying: Flying::default(),
            pace,
            suspects: Suspects::default(),
            suspect_flying: false,
            accepted: 0,
            refusing: false,
            seq: 0,
            draining: false,
        }
    }

    /// Deliver until drained or stopped; the cursor is stored on the way out.
    pub async fn run(mut self) {
        loop {
            self.tidy().await;
            let wake = self.dispatch(Instant::now());
            self.publish();
            if self.draining && self.is_idle() {
                break;
            }
            let room = self.has_room();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(landed) = self.flights.next(), if !self.flights.is_empty() => self.landed(landed).await,
                Some(extra) = self.extras.recv(), if room => self.take_extra(extra).await,
                page = self.books.reader.next(PAGE), if room => self.take_page(page).await,
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

    fn has_room(&self) -> bool {
        self.queue.len() + self.flying.events < WINDOW_EVENTS
            && self.queue.bytes() + self.flying.bytes < self.window_bytes
    }

    /// Drained: nothing in flight, and either all is delivered or the destination does not take it.
    fn is_idle(&self) -> bool {
        let caught_up = self.books.reader.standing().next >= self.head.borrow().next;
        self.flights.is_empty() && ((self.queue.len() == 0 && caught_up) || !self.can_deliver())
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

    // ---- Reading -----------------------------------------------------------------------------

    async fn take_page(&mut self, page: Result<Page, crate::core::log::LogError>) {
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(sink = %self.books.sink, %error, "cannot read the log; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                return;
            }
        };
        let rules = self.books.engine.rules.load_full();
        for step in page.items {
            match step {
                Step::Event(event) => {
                    let choice = rules.select.choose(&event);
                    match choice.route_for(&self.books.sink) {
                        Some(route) => self.take_in(event, route.clone(), Origin::Log).await,
                        None => self.books.end(event.position, End::Filtered),
                    }
                }
                Step::Gap { positions, loss } => {
                    let count = positions.end.since(positions.start);
                    let end = match loss {
                        crate::core::log::Loss::Expired => End::Expired,
                        crate::core::log::Loss::Damaged => End::Damaged,
                    };
                    self.books.metrics.settled(end, count);
                    tracing::error!(sink = %self.books.sink, from = positions.start.0, count, reason = end.as_str(), "events of the log are gone");
                }
            }
        }
    }

    async fn take_extra(&mut self, extra: Extra) {
        let (event, origin) = match extra {
            Extra::Replay { letter, event } => (event, Origin::Replay(letter)),
            Extra::Spill(event) => (event, Origin::Spill),
        };
        let rules = self.books.engine.rules.load_full();
        let choice = rules.select.choose(&event);
        // A person asked for a replay: it goes even if no route would give it today.
        let route = choice.route_for(&self.books.sink).cloned().unwrap_or_else(|| "replay".into());
        self.take_in(event, route, origin).await;
    }

    /// Shape and encode an event that the sink wants, and queue it.
    async fn take_in(&mut self, event: Arc<Event>, route: RouteId, origin: Origin) {
        let rules = self.books.engine.rules.load_full();
        let shaped = rules.shape.shape(&event, &route);
        let encoded = shaped.and_then(|shaped| {
            let bytes = self.sink.encode(&shaped, self.limits.event_bytes)?;
            Ok((shaped, bytes))
        });
        let (shaped, bytes, fault) = match encoded {
            Ok((shaped, bytes)) => (shaped, bytes, None),
            Err(fault) => {
                let body = event.body.clone();
                (
                    crate::core::route::Shaped { event: event.clone(), body: body.clone() },
                    body,
                    Some(fault),
                )
            }
        };
        self.seq += 1;
        let piece = Piece { id: event.id, incident: event.finding().incident.clone(), bytes };
        let item = Item {
            seq: self.seq,
            event,
            shaped,
            route,
            piece,
            origin,
            read_at: Instant::now(),
            attempts: 0,
            streak: Streak::default(),
            hold: Hold::Free,
        };
        match fault {
            // It cannot be written for this destination, whatever the destination says.
            Some(fault) => self.bury(item, fault).await,
            None => self.queue.put(item),
        }
    }

    // ---- Sending -----------------------------------------------------------------------------

    /// Send what may be sent, and say when to look again.
    fn dispatch(&mut self, now: Instant) -> Option<Instant> {
        loop {
            match self.pace.permit(now, self.flights.len()) {
                Permit::Send => {
                    if self.send_suspects(now) {
                        continue;
                    }
                    match self.queue.ready(&self.batch, now, self.draining) {
                        Ready::Batch(seqs) => self.launch(&seqs, Way::Normal, now),
                        Ready::At(at) => return self.wake(Some(at)),
                        Ready::Nothing => return self.wake(None),
                    }
                }
                Permit::Trial if self.draining => return None,
                Permit::Trial => {
                    if !self.launch_trial(self.batch, now) {
                        return self.wake(None);
                    }
                }
                Permit::Probe if self.draining => return None,
                Permit::Probe => self.launch_probe(),
                Permit::Until(at) => return self.wake(Some(at)),
                Permit::Landing => return self.wake(None),
            }
        }
    }

    /// The earliest of `at` and what time alone will change.
    fn wake(&self, at: Option<Instant>) -> Option<Instant> {
        let suspects = self.suspects.wake().filter(|_| self.pace.is_up() && !self.suspect_flying);
        let condemned = self.condemned().map(|(since, _)| since + CONDEMNED_FOR).min();
        let aging = self
            .max_age
            .filter(|_| self.queue.len() > 0)
            .map(|_| Instant::now() + Duration::from_secs(1));
        // Never at once: what could be done now has been done.
        let soonest = Instant::now() + Duration::from_millis(5);
        [at, suspects, condemned, aging].into_iter().flatten().min().map(|at| at.max(soonest))
    }

    fn send_suspects(&mut self, now: Instant) -> bool {
        if self.suspect_flying {
            return false;
        }
        let Some(group) = self.suspects.next(self.accepted, now) else { return false };
        let going = self.queue.of_group(&group, &self.batch);
        let staying = group.into_iter().filter(|seq| !going.contains(seq)).collect();
        self.suspects.postpone(staying, self.accepted, now);
        if !going.is_empty() {
            self.suspect_flying = true;
            self.launch(&going, Way::Suspect, now);
        }
        true
    }

    /// One batch to a destination that may be back; false when there is nothing to try with.
    fn launch_trial(&mut self, limits: BatchLimits, now: Instant) -> bool {
        let seqs =
            self.queue.trial(&limits, |item| item.event.finding().severity == Severity::Critical);
        if seqs.is_empty() {
            // Only held items are left: with nothing else to try, they are tried.
            self.release_held();
            let seqs = self.queue.trial(&limits, |_| false);
            if seqs.is_empty() {
                return false;
            }
            self.launch(&seqs, Way::Trial, now);
            return true;
        }
        self.launch(&seqs, Way::Trial, now);
        true
    }

    fn launch(&mut self, seqs: &[u64], way: Way, now: Instant) {
        let mut items = self.queue.take(seqs);
        items.iter_mut().for_each(|item| item.attempts += 1);
        self.queue.depart(&items);
        self.flying.change(&items, true);
        self.pace.leave(now, items.len());
        let (sink, timeout) = (self.sink.clone(), self.timeout);
        let clock = self.books.engine.clock;
        self.flights.push(
            async move {
                let pieces: Vec<Piece> = items.iter().map(|item| item.piece.clone()).collect();
                let sent = AssertUnwindSafe(sink.send(&pieces, clock())).catch_unwind();
                let outcome = match tokio::time::timeout(timeout, sent).await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) => Outcome::Failed(Fault::new(
                        Cause::Down,
                        "the sink failed on this batch (a bug: please report it)",
                    )),
                    Err(_) => Outcome::Failed(Fault::new(
                        Cause::Down,
                        format!("no answer within {} s", timeout.as_secs_f32()),
                    )),
                };
                Landed::Attempt { items, way, outcome, took: now.elapsed() }
            }
            .boxed(),
        );
    }

    fn launch_probe(&mut self) {
        let (sink, timeout) = (self.sink.clone(), self.timeout);
        let clock = self.books.engine.clock;
        self.flights.push(
            async move {
                let probe = tokio::time::timeout(timeout, sink.probe(clock())).await;
                let late = || Fault::new(Cause::Down, "no answer to the probe in time");
                Landed::Probe(probe.unwrap_or_else(|_| Err(late())))
            }
            .boxed(),
        );
    }

    // ---- What came of it ---------------------------------------------------------------------

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
        self.accepted += items.len() as u64;
        self.refusing = false;
        self.books.journal.recovered();
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
        for seq in &odd {
            if let Some(item) = self.queue.get_mut(*seq) {
                item.hold = Hold::Suspect { strikes: 0 };
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
                self.put_back_with_verdict(items, &fault);
                self.pace.down(now, way == Way::Trial, fastrand::f64());
            }
            Cause::Setup => {
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

    /// The destination judged the bytes themselves, so it is there and lets us in.
    fn answered(&mut self) {
        if !self.pace.is_up() && !self.refusing {
            self.pace.resume();
        }
    }

    fn put_back(&mut self, items: Vec<Item>) {
        for item in items {
            // A suspect belongs to its group, and the group has flown: it starts anew.
            let seq = item.seq;
            let suspect = matches!(item.hold, Hold::Suspect { .. });
            self.queue.put(item);
            if suspect {
                self.suspects.accuse(vec![seq]);
            }
        }
    }

    fn put_back_with_verdict(&mut self, items: Vec<Item>, fault: &Fault) {
        for mut item in items {
            item.streak.add(fault);
            item.hold = Hold::Free;
            self.queue.put(item);
        }
    }

    /// 413: a batch is cut in two by lowering the limit; a single event is shortened further.
    async fn too_large(&mut self, items: Vec<Item>, fault: Fault, way: Way, now: Instant) {
        if items.len() > 1 {
            let bytes: usize = items.iter().map(|item| item.piece.bytes.len()).sum();
            self.batch.bytes = (bytes / 2).max(1);
            if way == Way::Suspect {
                let seqs = items.iter().map(|item| item.seq).collect();
                items.into_iter().for_each(|item| self.queue.put(item));
                self.suspects.halve(seqs, None);
            } else {
                self.put_back(items);
            }
            return;
        }
        for mut item in items {
            let size = item.piece.bytes.len();
            match self.sink.encode(&item.shaped, size / 2) {
                Ok(shorter) if shorter.len() < size => {
                    item.piece.bytes = shorter;
                    self.put_back(vec![item]);
                }
                _ => self.refused(vec![item], fault.clone(), now).await,
            }
        }
    }

    /// The bytes are refused: find the culprit, and do not believe it before something else is
    /// accepted.
    async fn refused(&mut self, mut items: Vec<Item>, fault: Fault, now: Instant) {
        if items.len() > 1 {
            let seqs = items.iter().map(|item| item.seq).collect();
            for mut item in items {
                item.hold = Hold::Suspect { strikes: 0 };
                self.queue.put(item);
            }
            self.suspects.halve(seqs, None);
            return;
        }
        let Some(mut item) = items.pop() else { return };
        item.hold = Hold::Condemned { since: now, fault: fault.clone() };
        self.queue.put(item);
        let count = self.condemned().count();
        if count >= REFUSED_IN_A_ROW {
            self.suspect_the_setting(count, &fault, now);
        }
    }

    fn suspect_the_setting(&mut self, count: usize, fault: &Fault, now: Instant) {
        self.books.journal.refusing(count, fault);
        self.release_held();
        self.refusing = true;
        self.pace.park(now, false);
    }

    /// Everybody is free again: the verdicts so far prove nothing.
    fn release_held(&mut self) {
        self.suspects.clear();
        let held: Vec<u64> =
            self.queue.iter().filter(|i| !i.hold.is_free()).map(|i| i.seq).collect();
        for seq in held {
            if let Some(item) = self.queue.get_mut(seq) {
                item.hold = Hold::Free;
                item.streak = Streak::default();
            }
        }
    }

    /// A part of a bisection was not taken while others were.
    async fn suspect_failed(&mut self, mut items: Vec<Item>, fault: Fault, now: Instant) {
        let wait = (fault.cause == Cause::Down).then(|| now + Duration::from_millis(500));
        if items.len() > 1 {
            let seqs = items.iter().map(|item| item.seq).collect();
            items.into_iter().for_each(|item| self.queue.put(item));
            self.suspects.halve(seqs, wait);
            return;
        }
        let Some(mut item) = items.pop() else { return };
        // A flapping destination can look like an odd event: Down must repeat more often.
        let enough = if fault.cause == Cause::Down { 3 } else { 2 };
        let Hold::Suspect { strikes } = &mut item.hold else { return self.put_back(vec![item]) };
        *strikes += 1;
        if *strikes >= enough {
            self.bury(item, fault).await;
        } else {
            self.suspects.again(item.seq, self.accepted, now);
            self.queue.put(item);
        }
    }

    fn probed(&mut self, result: Result<Probe, Fault>) {
        let now = Instant::now();
        match result {
            Ok(Probe::Accepted) if !self.refusing => {
                self.pace.resume();
                self.books.journal.recovered();
            }
            Ok(_) => {
                let single = BatchLimits { events: 1, ..self.batch };
                if !self.launch_trial(single, now) {
                    self.pace.park(now, true);
                }
            }
            Err(fault) => {
                self.books.journal.failed(&fault, 0, now);
                self.pace.park(now, true);
            }
        }
    }

    // ---- Ends --------------------------------------------------------------------------------

    fn condemned(&self) -> impl Iterator<Item = (Instant, u64)> + '_ {
        self.queue.iter().filter_map(|item| match &item.hold {
            Hold::Condemned { since, .. } => Some((*since, item.seq)),
            _ => None,
        })
    }

    async fn bury_condemned(&mut self, seqs: &[u64]) {
        for item in self.queue.take(seqs) {
            let fault = match &item.hold {
                Hold::Condemned { fault, .. } => fault.clone(),
                _ => Fault::new(Cause::Refused, "refused"),
            };
            self.bury(item, fault).await;
        }
    }

    /// Dead-letter the item; if the letter cannot be stored, it stays and is tried again later.
    async fn bury(&mut self, mut item: Item, fault: Fault) {
        if !self.books.bury(&item, &fault).await {
            item.hold = Hold::Condemned { since: Instant::now(), fault };
            self.queue.put(item);
        }
    }

    /// What time alone settles: events that became too old, refusals that waited long enough.
    async fn tidy(&mut self) {
        if let Some(max_age) = self.max_age {
            let now = (self.books.engine.clock)();
            let too_old =
                |item: &&Item| now.duration_since(item.event.received).unsigned_abs() > max_age;
            let old: Vec<u64> = self.queue.iter().filter(too_old).map(|item| item.seq).collect();
            for item in self.queue.take(&old) {
                self.books.expired(&item);
            }
        }
        let now = Instant::now();
        let ripe: Vec<u64> = self
            .condemned()
            .filter(|(since, _)| *since + CONDEMNED_FOR <= now)
            .map(|(_, seq)| seq)
            .collect();
        if ripe.is_empty() {
            return;
        }
        if self.accepted > 0 {
            // These settings have worked: the event is at fault.
            self.bury_condemned(&ripe).await;
        } else {
            let fault =
                Fault::new(Cause::Refused, "nothing has been accepted with these settings yet");
            self.suspect_the_setting(ripe.len(), &fault, now);
        }
    }

    fn publish(&self) {
        let waiting = self.queue.iter().map(|item| item.event.received).min();
        let flying = self.flying.oldest.keys().next().copied();
        let from_log = self.queue.iter().filter(|item| item.origin == Origin::Log).count() as u64;
        let vitals = Vitals {
            in_hand: from_log + self.flying.from_log,
            oldest: [waiting, flying].into_iter().flatten().min(),
            state: self.pace.state(),
            ..Vitals::default()
        };
        self.books.publish(vitals, self.flights.len());
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
