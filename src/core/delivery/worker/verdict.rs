//! What follows from what a destination said about a batch.
//!
//! Guarantees: an event is dead-lettered only when something else was accepted meanwhile (or these
//! settings have worked before): a wrong setting or an outage condemns nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::super::batch::{BatchLimits, Hold, Item, Origin, Streak, Suspicion};
use super::{CONDEMNED_FOR, REFUSED_IN_A_ROW, STRIKES_DOWN, STRIKES_SETUP, Way, Worker, told};
use crate::core::sink::{Cause, Fault, Probe};

impl Worker {
    /// The destination judged the bytes themselves, so it is there and lets us in.
    pub(super) fn answered(&mut self) {
        if !self.pace.is_up() && !self.refusing {
            self.pace.resume();
        }
    }

    pub(super) fn put_back(&mut self, items: Vec<Item>) {
        for item in items {
            // A suspect belongs to its group, and the group has flown: it starts anew.
            let seq = item.seq;
            let suspect = matches!(item.hold, Hold::Suspect(_));
            self.queue.put(item);
            if suspect {
                self.suspects.accuse(vec![seq]);
            }
        }
    }

    pub(super) fn put_back_with_verdict(&mut self, items: Vec<Item>, fault: &Fault) {
        for mut item in items {
            item.streak.add(fault);
            item.hold = Hold::Free;
            self.queue.put(item);
        }
    }

    /// 413: a batch is cut in two by lowering the limit; a single event is shortened further.
    pub(super) async fn too_large(
        &mut self,
        items: Vec<Item>,
        fault: Fault,
        way: Way,
        now: Instant,
    ) {
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
    pub(super) async fn refused(&mut self, mut items: Vec<Item>, fault: Fault, now: Instant) {
        if items.len() > 1 {
            let seqs = items.iter().map(|item| item.seq).collect();
            for mut item in items {
                item.hold = Hold::Suspect(Suspicion::default());
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

    pub(super) fn suspect_the_setting(&mut self, count: usize, fault: &Fault, now: Instant) {
        self.books.journal.refusing(count, fault);
        self.release_held();
        self.refusing = true;
        self.pace.park(now, false);
    }

    /// Everybody is free again: the verdicts so far prove nothing.
    pub(super) fn release_held(&mut self) {
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
    pub(super) async fn suspect_failed(
        &mut self,
        mut items: Vec<Item>,
        fault: Fault,
        now: Instant,
    ) {
        let wait = (fault.cause == Cause::Down).then(|| now + Duration::from_millis(500));
        if items.len() > 1 {
            let seqs = items.iter().map(|item| item.seq).collect();
            items.into_iter().for_each(|item| self.queue.put(item));
            self.suspects.halve(seqs, wait);
            return;
        }
        let Some(mut item) = items.pop() else { return };
        let Hold::Suspect(suspicion) = &mut item.hold else { return self.put_back(vec![item]) };
        suspicion.failed_alone(self.others);
        let enough = if fault.cause == Cause::Down { STRIKES_DOWN } else { STRIKES_SETUP };
        if suspicion.strikes >= enough {
            self.bury(item, fault).await;
        } else {
            self.suspects.again(item.seq, self.others.accepted, now);
            self.queue.put(item);
        }
    }

    pub(super) fn probed(&mut self, result: Result<Probe, Fault>) {
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
                self.trouble = Some(told(&fault));
                self.pace.park(now, true);
            }
        }
    }

    pub(super) fn condemned(&self) -> impl Iterator<Item = (Instant, u64)> + '_ {
        self.queue.iter().filter_map(|item| match &item.hold {
            Hold::Condemned { since, .. } => Some((*since, item.seq)),
            _ => None,
        })
    }

    pub(super) async fn bury_condemned(&mut self, seqs: &[u64]) {
        for item in self.queue.take(seqs) {
            let fault = match &item.hold {
                Hold::Condemned { fault, .. } => fault.clone(),
                _ => Fault::new(Cause::Refused, "refused"),
            };
            self.bury(item, fault).await;
        }
    }

    /// Dead-letter the item; if the letter cannot be stored, it stays and is tried again later.
    pub(super) async fn bury(&mut self, mut item: Item, fault: Fault) {
        if !self.books.bury(&item, &fault).await {
            item.hold = Hold::Condemned { since: Instant::now(), fault };
            self.queue.put(item);
        }
    }

    /// What time alone settles: events that became too old, refusals that waited long enough.
    pub(super) async fn tidy(&mut self) {
        if let Some(max_age) = self.max_age {
            let now = Instant::now();
            // What somebody asks for again may be old.
            let too_old = |item: &&Item| {
                !matches!(item.origin, Origin::Again(_) | Origin::Replay(_))
                    // A clock that is set while it waits makes it neither older nor younger.
                    && item.age_read + (now - item.read_at) > max_age
            };
            let old: Vec<u64> = self.queue.iter().filter(too_old).map(|item| item.seq).collect();
            for item in self.queue.take(&old) {
                self.books.expired(&item);
            }
        }
        self.hold_late();
        let now = Instant::now();
        let ripe: Vec<u64> = self
            .condemned()
            .filter(|(since, _)| *since + CONDEMNED_FOR <= now)
            .map(|(_, seq)| seq)
            .collect();
        if ripe.is_empty() {
            return;
        }
        if self.others.accepted > 0 {
            // These settings have worked: the event is at fault.
            self.bury_condemned(&ripe).await;
        } else {
            let fault =
                Fault::new(Cause::Refused, "nothing has been accepted with these settings yet");
            self.suspect_the_setting(ripe.len(), &fault, now);
        }
    }
}
