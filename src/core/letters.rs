//! Letters: bodies that wait for a person, each with a note. Dead letters and the quarantine.
//!
//! Guarantees: a letter is on stable storage before `keep` returns, in a log of the same type as
//! the events' own, with its own limits (the oldest go first); it stays open until it is dropped
//! or replayed, which is written down too. Memory holds a position and a label a letter.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::alarms::INTERNAL;
use super::event::{Draft, Event, EventId, Position};
use super::log::{Item, Limit, Log, LogError, Refusal};
use super::sink::{Cause, Reply};

/// How much of the letters' log is read at once.
const PAGE: Limit = Limit { events: 500, bytes: 4 << 20 };

/// Why a destination's event is in the dead letters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadNote {
    /// The sink that could not deliver it.
    pub sink: Arc<str>,
    /// The route that chose the sink.
    pub route: Arc<str>,
    /// The cause of the last failure.
    pub cause: Cause,
    /// What to know about it.
    pub note: String,
    /// What the destination said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// Attempts made.
    pub attempts: u32,
    /// Its position in the events' log.
    pub position: Position,
    /// When it was given up.
    pub died: Timestamp,
    /// What changed its body before it was given up again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<Fixed>,
}

/// How a replayed letter was changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fixed {
    /// The letter that has the body as it was; it is closed, and kept as long as the letters' log keeps.
    pub of: Position,
    /// The program that changed it.
    pub program: Arc<str>,
}

/// Why a body is in the quarantine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuarantineNote {
    /// The configured source it was sent to.
    pub source: Arc<str>,
    /// `malformed`, `too_large`, `too_many`, `timestamp`, or `handshake`.
    pub reason: Arc<str>,
    /// What was wrong, as the sender was told.
    pub detail: String,
    /// The sender's address.
    pub peer: String,
    /// The body is only the beginning of what was sent, and cannot be replayed.
    pub truncated: bool,
}

/// What a letter is counted under: a dead letter's sink, a quarantined body's source.
pub trait Labelled {
    /// The label.
    fn label(&self) -> &Arc<str>;
}

impl Labelled for DeadNote {
    fn label(&self) -> &Arc<str> {
        &self.sink
    }
}

impl Labelled for QuarantineNote {
    fn label(&self) -> &Arc<str> {
        &self.source
    }
}

/// What is written beside a body.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry<N> {
    /// A letter.
    Letter(N),
    /// An earlier letter is settled: `dropped` or `replayed`, as changed by the program `fix`.
    Settled {
        letter: Position,
        how: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fix: Option<Arc<str>>,
    },
}

/// One open letter.
#[derive(Debug)]
pub struct Letter<N> {
    /// Its number, for `show`, `replay` and `drop`.
    pub number: Position,
    /// The body, its source, id and time.
    pub event: Arc<Event>,
    /// Why it is here.
    pub note: N,
}

/// What memory holds of an open letter.
struct Open {
    label: Arc<str>,
    /// It holds an alarm or a heartbeat of the gateway itself.
    internal: bool,
}

impl Open {
    fn new(label: &Arc<str>, event: &Draft) -> Self {
        Self { label: label.clone(), internal: *event.source == *INTERNAL }
    }
}

/// A log of letters.
pub struct Letters<N> {
    log: Arc<dyn Log>,
    open: Mutex<BTreeMap<Position, Open>>,
    notes: PhantomData<fn() -> N>,
}

impl<N: Labelled + Serialize + DeserializeOwned> Letters<N> {
    /// The letters in `log`: reads it once to find out which are open.
    pub async fn open(log: Arc<dyn Log>) -> Result<Self, LogError> {
        let letters = Self { log, open: Mutex::default(), notes: PhantomData };
        letters
            .each(Position(0), |position, event, entry| {
                let mut open = letters.lock();
                match entry {
                    Entry::Letter(note) => {
                        drop(open.insert(position, Open::new(note.label(), &event)));
                    }
                    Entry::Settled { letter, .. } => drop(open.remove(&letter)),
                }
                true
            })
            .await?;
        Ok(letters)
    }

    /// Keep the body of `event` with `note`; durable when this returns.
    pub async fn keep(&self, event: &Draft, note: &N) -> Result<Position, Refusal> {
        let mut draft =
            Draft::new(event.id, event.received, event.source.clone(), event.body.clone());
        draft.note = encode(&Entry::Letter(note));
        let position = self.log.append(vec![draft]).await?.start;
        self.lock().insert(position, Open::new(note.label(), event));
        Ok(position)
    }

    /// The open letters from number `from` on, oldest first, at most `limit`; only those with
    /// `label`, if one is given.
    pub async fn list(
        &self,
        from: Position,
        label: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Letter<N>>, LogError> {
        let wanted = |letter: &Letter<N>| label.is_none_or(|of| **letter.note.label() == *of);
        self.find(from, limit, wanted).await
    }

    /// The same for those that are `wanted`.
    pub async fn find(
        &self,
        from: Position,
        limit: usize,
        wanted: impl Fn(&Letter<N>) -> bool,
    ) -> Result<Vec<Letter<N>>, LogError> {
        let mut found = Vec::new();
        self.each(from, |number, event, entry| {
            if let Entry::Letter(note) = entry
                && self.lock().contains_key(&number)
            {
                let letter = Letter { number, event, note };
                found.extend(wanted(&letter).then_some(letter));
            }
            found.len() < limit
        })
        .await?;
        Ok(found)
    }

    /// The open letter `number`.
    pub async fn get(&self, number: Position) -> Result<Option<Letter<N>>, LogError> {
        if !self.lock().contains_key(&number) {
            return Ok(None);
        }
        let found = self.list(number, None, 1).await?;
        Ok(found.into_iter().find(|letter| letter.number == number))
    }

    /// Close the letter `number`; false when it is not open. `how` is `dropped` or `replayed`, `fix`
    /// the program that changed its body for that.
    pub async fn settle(
        &self,
        number: Position,
        how: &str,
        fix: Option<Arc<str>>,
        now: Timestamp,
    ) -> Result<bool, Refusal> {
        if !self.lock().contains_key(&number) {
            return Ok(false);
        }
        let entry = Entry::<N>::Settled { letter: number, how: how.to_owned(), fix };
        let mut draft = Draft::new(EventId::fresh(), now, "siemgate".into(), Bytes::new());
        draft.note = encode(&entry);
        self.log.append(vec![draft]).await?;
        Ok(self.lock().remove(&number).is_some())
    }

    /// Open letters by label.
    pub fn counts(&self) -> BTreeMap<Arc<str>, u64> {
        self.count(|_| true)
    }

    /// The same without the gateway's own alarms and heartbeats.
    pub fn counts_of_senders(&self) -> BTreeMap<Arc<str>, u64> {
        self.count(|letter| !letter.internal)
    }

    fn count(&self, wanted: impl Fn(&Open) -> bool) -> BTreeMap<Arc<str>, u64> {
        let oldest = self.log.stats().oldest;
        let mut open = self.lock();
        // What retention has freed is no longer open.
        *open = open.split_off(&oldest);
        let mut counts = BTreeMap::new();
        for letter in open.values().filter(|letter| wanted(letter)) {
            *counts.entry(letter.label.clone()).or_default() += 1;
        }
        counts
    }

    /// The log underneath.
    pub fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Position, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Visit the entries from `from` on until `visit` returns false.
    async fn each(
        &self,
        from: Position,
        mut visit: impl FnMut(Position, Arc<Event>, Entry<N>) -> bool,
    ) -> Result<(), LogError> {
        let mut next = from;
        loop {
            let page = self.log.read(next, PAGE).await?;
            if page.items.is_empty() {
                return Ok(());
            }
            for item in page.items {
                let Item::Event(event) = item else { continue };
                // An entry this version cannot read is left alone.
                let Ok(entry) = serde_json::from_slice(&event.note) else { continue };
                if !visit(event.position, event, entry) {
                    return Ok(());
                }
            }
            next = page.next;
        }
    }
}

fn encode<N: Serialize>(entry: &Entry<N>) -> Bytes {
    // Notes are plain structs with string keys: writing them to memory cannot fail.
    serde_json::to_vec(entry).unwrap_or_default().into()
}
