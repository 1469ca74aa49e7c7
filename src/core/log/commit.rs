//! The commit thread: the only writer of segments.
//!
//! Guarantees: a request is answered well only after its group was written and synced, and
//! readers see it only then; a group is one write and one sync, however many requests wait. A
//! full disk refuses and the log goes on; a failed sync, or a broken write, poisons the log: what
//! the disk holds is then unknown, and asking again would lie. It decides no retention
//! (`retain.rs`) and reads nothing.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Refusal;
use super::answers::hand_over;
use super::disk::{DiskFile, is_full};
use super::files::CommitFacts;
use super::record::{Glance, Key, encode, is_urgent};
use super::recover::{cut, seal};
use super::segment::{BLOCK, Facts, Head, Segment, name_of};
use super::shared::{Request, Shared, Stop, held};
use crate::core::event::{Draft, Event, EventId, Position};

/// Name of a file that is not a segment (yet): fresh, or freed and waiting to be used again.
pub(super) const SPARE: &str = "spare";
/// Most bytes in one group: a bound for the buffer and for how long a caller waits.
const GROUP_LIMIT: u64 = 8 << 20;

/// See the module.
pub(super) struct Writer {
    shared: Arc<Shared>,
    active: Option<Active>,
    buffer: Vec<u8>,
    next_tick: Instant,
}

struct Active {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    facts: Facts,
    size: u64,
    group: u32,
}

impl Active {
    /// Bytes left before the footer.
    fn room(&self) -> u64 {
        self.size.saturating_sub(BLOCK + self.facts.used)
    }
}

/// What woke the thread.
enum Wake {
    Work,
    Tick,
    Stop(Stop),
}

impl Writer {
    pub fn new(shared: Arc<Shared>) -> Self {
        let next_tick = Instant::now();
        Self { shared, active: None, buffer: Vec::new(), next_tick }
    }

    /// Work until the log is closed.
    pub fn run(mut self) {
        loop {
            match self.wait() {
                Wake::Work => self.work(),
                Wake::Tick => self.tick(),
                Wake::Stop(how) => return self.stop(how),
            }
        }
    }

    fn wait(&mut self) -> Wake {
        let mut queue = held(&self.shared.queue);
        loop {
            for asked in queue.asked.drain(..) {
                let _ = asked.send(());
            }
            match queue.stop {
                Some(Stop::Abandon) => return Wake::Stop(Stop::Abandon),
                _ if !queue.requests.is_empty() => return Wake::Work,
                Some(stop) => return Wake::Stop(stop),
                None => {}
            }
            let left = self.next_tick.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Wake::Tick;
            }
            queue.idle = true;
            let woken = self.shared.wake.wait_timeout(queue, left);
            queue = woken.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            queue.idle = false;
        }
    }

    fn tick(&mut self) {
        let every = self.shared.options.retain_every;
        self.next_tick = Instant::now() + every.min(Duration::from_secs(86_400));
        if self.shared.poison.get().is_some() {
            return;
        }
        let freed = self.shared.retain(0).and_then(|_| self.shared.drop_spare_if_short());
        if let Err(error) = freed {
            self.shared.poison("free a segment", &error);
        }
    }

    fn stop(mut self, how: Stop) {
        if how == Stop::Close && self.shared.poison.get().is_none() {
            // Unsealed is safe, only slower at the next start.
            if let Some(active) = self.active.take() {
                let _ = self.finish(&active);
            }
        }
    }

    /// Commit one group, or refuse one request.
    fn work(&mut self) {
        let room = self.active.as_ref().map_or(0, Active::room);
        let requests = self.take(room);
        if !requests.is_empty() {
            return self.commit(requests);
        }
        if let Err(refusal) = self.roll()
            && let Some(request) = self.take(u64::MAX).pop()
        {
            request.reply.send(Err(refusal));
        }
    }

    /// The waiting requests that fit into `room`; exactly one if the room is endless.
    fn take(&self, room: u64) -> Vec<Request> {
        let mut queue = held(&self.shared.queue);
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(request) = queue.requests.front() {
            bytes += request.bytes;
            let enough = !taken.is_empty() && (bytes > GROUP_LIMIT || room == u64::MAX);
            if enough || bytes.next_multiple_of(BLOCK) > room {
                break;
            }
            let Some(request) = queue.requests.pop_front() else { break };
            queue.bytes -= request.bytes;
            queue.events -= request.drafts.len();
            taken.push(request);
        }
        taken
    }

    /// A new segment, then seal the one before. In this order a full disk leaves the old one
    /// usable, and a crash in between costs a scan.
    fn roll(&mut self) -> Result<(), Refusal> {
        if let Some(text) = self.shared.poison.get() {
            return Err(Refusal::Poisoned(text.clone()));
        }
        let size = self.shared.options.segment_bytes;
        let need = if held(&self.shared.book).spare.is_some() { 0 } else { size };
        match self.shared.retain(need) {
            Ok(None) => {}
            Ok(Some(why)) => return Err(Refusal::Full(why)),
            Err(error) => return Err(self.failed("free a segment", &error)),
        }
        let next = self.create(size).map_err(|error| self.failed("create a segment", &error))?;
        if let Some(old) = self.active.replace(next) {
            self.finish(&old).map_err(|error| self.shared.poison("seal a segment", &error))?;
        }
        Ok(())
    }

    /// A full disk refuses; anything else poisons.
    fn failed(&self, what: &str, error: &io::Error) -> Refusal {
        if is_full(error) {
            Refusal::Full(error.to_string())
        } else {
            self.shared.poison(what, error)
        }
    }

    fn create(&self, size: u64) -> io::Result<Active> {
        let shared = &self.shared;
        let first = shared.head.borrow().next;
        let generation = held(&shared.book).generation + 1;
        let key = Key { generation, salt: secret_number() };
        let head = Head { key, first, created: (shared.options.clock)(), size };
        let name = name_of(first);
        let file = self.blank(size)?;
        file.write_at(0, &head.block())?;
        file.sync()?;
        shared.disk.rename(SPARE, &name)?;
        shared.disk.sync_dir()?;
        let facts = Facts::empty(first);
        let segment = Arc::new(Segment::new(name, &head, facts, size));
        segment.writing(file.clone());
        let mut book = held(&shared.book);
        book.spare = None;
        book.generation = generation;
        book.segments.push_back(segment.clone());
        Ok(Active { segment, file, facts, size, group: 0 })
    }

    /// The spare file, or a new one.
    fn blank(&self, size: u64) -> io::Result<Arc<dyn DiskFile>> {
        let disk = &self.shared.disk;
        let spare = held(&self.shared.book).spare;
        if spare == Some(size) {
            return disk.open(SPARE);
        }
        disk.create(SPARE, size).inspect_err(|_| {
            // What a full disk let us create only in part must not keep it full.
            let _ = disk.remove(SPARE);
        })
    }

    /// Seal a segment that will not be written any more. A full disk may leave it unsealed: the
    /// next start scans it.
    fn finish(&self, old: &Active) -> io::Result<()> {
        match seal(&*old.file, &old.segment.key, &old.facts, old.size) {
            Ok(size) => old.segment.sealed(size),
            Err(error) if is_full(&error) => old.segment.sealed(old.facts.used + BLOCK),
            Err(error) => return Err(error),
        }
        self.shared.store_index(&old.segment);
        Ok(())
    }

    fn commit(&mut self, requests: Vec<Request>) {
        let Some(active) = &mut self.active else { return };
        if let Some(text) = self.shared.poison.get() {
            return refuse(requests, &Refusal::Poisoned(text.clone()));
        }
        let began = Instant::now();
        let first = self.shared.head.borrow().next;
        let mut facts = active.facts;
        let mut group = Group { key: active.segment.key, number: active.group, next: first };
        self.buffer.clear();
        let mut events = Vec::new();
        let mut answers = Vec::new();
        for Request { drafts, reply, .. } in requests {
            let range = group.encode(drafts, &mut self.buffer, &mut facts, &mut events);
            answers.push((reply, range));
        }
        let padded = self.buffer.len().next_multiple_of(BLOCK as usize);
        self.buffer.resize(padded, 0);
        if let Err(refusal) = self.store() {
            return answers.into_iter().for_each(|(reply, _)| reply.send(Err(refusal.clone())));
        }
        let Some(active) = &mut self.active else { return };
        let offset = facts.used;
        facts.used += padded as u64;
        active.facts = facts;
        active.group += 1;
        self.shared.mark(&active.segment, &events);
        active.segment.publish(facts, first, offset);
        let done = CommitFacts {
            requests: answers.len(),
            events: events.len(),
            bytes: padded as u64,
            took: began.elapsed(),
        };
        let forgotten = held(&self.shared.tail).push(events.into_iter());
        self.shared.head.send_modify(|head| {
            head.next = group.next;
            head.urgent = head.urgent.max(facts.urgent);
        });
        self.shared.changed();
        hand_over(answers, forgotten);
        (self.shared.options.observer)(&done);
        self.buffer.shrink_to(GROUP_LIMIT as usize);
    }

    /// Write and sync the buffer as the next group.
    fn store(&mut self) -> Result<(), Refusal> {
        let Some(active) = &self.active else { return Err(Refusal::Closed) };
        match active.file.write_at(active.facts.used, &self.buffer) {
            Ok(()) => {}
            Err(error) if is_full(&error) => return Err(self.abandon(&error)),
            Err(error) => return Err(self.shared.poison("write to a segment", &error)),
        }
        active.file.sync().map_err(|error| self.shared.poison("sync a segment", &error))
    }

    /// The disk filled up within a group. Part of the group may be there: cut it off durably
    /// before anyone is told that it was refused, and go on in a new segment.
    fn abandon(&mut self, full: &io::Error) -> Refusal {
        let Some(active) = self.active.take() else { return Refusal::Closed };
        if let Err(error) = cut(&*active.file, active.facts.used) {
            return self.shared.poison("cut a segment", &error);
        }
        if active.facts.end == active.segment.first {
            // The next segment has the same name and replaces the file.
            held(&self.shared.book).segments.pop_back();
            return Refusal::Full(full.to_string());
        }
        if let Err(error) = self.finish(&Active { size: active.facts.used, ..active }) {
            return self.shared.poison("seal a segment", &error);
        }
        Refusal::Full(full.to_string())
    }
}

/// From the operating system's randomness, by way of an id: a sender must not be able to guess it.
pub(super) fn secret_number() -> u64 {
    let id = EventId::fresh();
    id.as_bytes()[8..].iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

fn refuse(requests: Vec<Request>, refusal: &Refusal) {
    for request in requests {
        request.reply.send(Err(refusal.clone()));
    }
}

/// A group being encoded.
struct Group {
    key: Key,
    number: u32,
    next: Position,
}

impl Group {
    fn encode(
        &mut self,
        drafts: Vec<Draft>,
        out: &mut Vec<u8>,
        facts: &mut Facts,
        events: &mut Vec<Arc<Event>>,
    ) -> Range<Position> {
        let first = self.next;
        // `append` refuses requests with more.
        let count = drafts.len() as u16;
        for (index, draft) in drafts.into_iter().enumerate() {
            let event = Arc::new(Event { position: self.next, draft });
            encode(&self.key, &event, self.number, index as u16, count, out);
            let glance = Glance {
                id_ms: event.id.unix_ms(),
                received_us: event.received.as_microsecond(),
                urgent: is_urgent(&event),
            };
            facts.add(self.next, &glance);
            self.next = self.next.plus(1);
            events.push(event);
        }
        first..self.next
    }
}
