//! The log on disk: the engine a gateway runs on.
//!
//! Guarantees: those of `mod.rs`, over any `Disk`. Two threads belong to it, the commit thread
//! and one that stores cursors; both end with `close`, or when the engine is dropped, which
//! leaves the folder as a crash would. This file is the front: admission and bookkeeping.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

use super::answers::Reply;
use super::commit::Writer;
use super::cursor::Cursor;
use super::disk::{Disk, Lock, RealDisk, is_full};
use super::index::Indexer;
use super::reader::{FilesReader, blocking};
use super::record::span_of;
use super::retain::WhenFull;
use super::segment::BLOCK;
use super::shared::{Queue, Request, Shared, Stop, held};
use super::start::{self, RecoveryReport, failed};
use super::{Head, Limit, Log, LogError, Page, Reader, Refusal, Start, Stats};
use crate::core::Timestamp;
use crate::core::event::{Draft, Event, EventId, Position};
use crate::core::quiet::Quiet;

/// Bytes of requests that may wait for the disk.
const WAITING_BYTES: u64 = 64 << 20;
/// Events that may wait for the disk.
const WAITING_EVENTS: usize = 100_000;
/// The largest segment: group numbers and offsets stay small.
const LARGEST_SEGMENT: u64 = 1 << 30;
const SMALLEST_SEGMENT: u64 = 4 * BLOCK;

/// What one commit was, for metrics.
#[derive(Clone, Copy, Debug)]
pub struct CommitFacts {
    /// Appends answered.
    pub requests: usize,
    /// Events stored.
    pub events: usize,
    /// Bytes written, padding included.
    pub bytes: u64,
    /// Encoding, writing and syncing.
    pub took: Duration,
}

/// How a log on disk behaves.
#[derive(Clone)]
pub struct Options {
    /// Bytes in a segment, rounded to 4 KiB and to at most a quarter of `max_bytes`.
    pub segment_bytes: u64,
    /// Segments whose newest event is older are freed once every delivery has passed them.
    pub keep: Duration,
    /// Most bytes on disk.
    pub max_bytes: u64,
    /// Bytes to leave free on the file system.
    pub min_free: u64,
    /// What to do when the log is full of undelivered events.
    pub when_full: WhenFull,
    /// The time, for retention and file headers.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Hears of every commit, on the commit thread: must be quick.
    pub observer: Arc<dyn Fn(&CommitFacts) + Send + Sync>,
    /// What each record is about, where `Log::holding` is to know it.
    pub index: Option<Indexer>,
    /// How long a part that the disk cannot read is asked for again, before it counts as damaged.
    pub doubt: Duration,
    /// How often changed cursors are stored.
    pub cursor_every: Duration,
    /// How often retention is looked at between appends.
    pub retain_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            keep: Duration::from_secs(90 * 86_400),
            max_bytes: 2 << 30,
            min_free: 1 << 30,
            when_full: WhenFull::DropOldest,
            clock: Arc::new(Timestamp::now),
            observer: Arc::new(|_| {}),
            index: None,
            doubt: Duration::from_secs(60),
            cursor_every: Duration::from_millis(200),
            retain_every: Duration::from_secs(1),
        }
    }
}

impl Options {
    /// With a segment size that the format and `max_bytes` allow.
    fn sound(mut self) -> Self {
        let most = (self.max_bytes / 4).min(LARGEST_SEGMENT);
        let bytes = self.segment_bytes.min(most) / BLOCK * BLOCK;
        self.segment_bytes = bytes.max(SMALLEST_SEGMENT);
        self
    }

    /// Bytes that whole segments can take.
    fn capacity(&self) -> u64 {
        self.max_bytes / self.segment_bytes * self.segment_bytes
    }

    /// Bytes the largest group may take.
    fn largest_group(&self) -> u64 {
        self.segment_bytes - 2 * BLOCK
    }
}

/// See the module.
pub struct FilesLog {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    keeper: Arc<Keeper>,
}

impl FilesLog {
    /// Open the log in `disk`, putting it in order first. Blocks for the time that takes.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
    ) -> Result<(Arc<Self>, RecoveryReport), LogError> {
        let lock = lock(&*disk)?;
        let opened = start::open(&*disk)?;
        // If it cannot be told, retention will say why.
        let free = disk.free_bytes().unwrap_or_default();
        let shared = Arc::new(Shared {
            disk,
            options: options.sound(),
            queue: Mutex::new(Queue::default()),
            wake: Condvar::new(),
            book: Mutex::new(opened.book),
            cursors: Mutex::new(opened.cursors),
            tail: Mutex::default(),
            head: watch::Sender::new(opened.head),
            poison: OnceLock::new(),
            failed: OnceLock::new(),
            failed_before: opened.report.failed,
            closed: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
            changes: AtomicU64::new(1),
            saving: Mutex::new(0),
            free: AtomicU64::new(free),
        });
        if let Some(error) = opened.broken {
            shared.poison("seal a segment", &error);
        }
        shared.load_indexes();
        // So that a missing file means a lost one, also after the first events. A full or broken
        // disk shows at the next append; reading must go on.
        let _ = shared.save();
        let log = Self::run(shared).map_err(failed("start the threads of", "the log"))?;
        Ok((Arc::new(log), opened.report))
    }

    /// The same for a folder of the operating system, made if it does not exist.
    pub fn open_dir(
        dir: &std::path::Path,
        options: Options,
    ) -> Result<(Arc<Self>, RecoveryReport), LogError> {
        let disk = RealDisk::new(dir).map_err(failed("make", &dir.display().to_string()))?;
        Self::open(Arc::new(disk), options)
    }

    fn run(shared: Arc<Shared>) -> std::io::Result<Self> {
        let keeper = Arc::new(Keeper::default());
        let writer = Writer::new(shared.clone());
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let commits = named("log-commit").spawn(move || writer.run())?;
        let (store, stop) = (shared.clone(), keeper.clone());
        let cursors = named("log-cursors").spawn(move || stop.run(&store))?;
        Ok(Self { shared, threads: Mutex::new(vec![commits, cursors]), keeper })
    }

    /// Let both threads end as `how` says and wait for them; then release the folder.
    fn stop(shared: &Shared, keeper: &Keeper, threads: Vec<JoinHandle<()>>, how: Stop) {
        shared.closed.store(true, Ordering::Release);
        held(&shared.queue).stop.get_or_insert(how);
        shared.wake.notify_all();
        keeper.stop();
        for thread in threads {
            let _ = thread.join();
        }
        {
            let mut queue = held(&shared.queue);
            queue.requests.clear();
            queue.asked.clear();
        }
        shared.head.send_modify(|_| {});
    }

    fn admit(&self, drafts: &[Draft]) -> Result<u64, Refusal> {
        if self.shared.is_closed() {
            return Err(Refusal::Closed);
        }
        if let Some(text) = self.shared.poison.get() {
            return Err(Refusal::Poisoned(text.clone()));
        }
        let limit = self.shared.options.largest_group();
        let bytes = drafts.iter().map(span_of).sum::<u64>();
        let odd = drafts.iter().any(|draft| draft.source.len() > usize::from(u16::MAX));
        if bytes > limit || drafts.len() > usize::from(u16::MAX) || odd {
            return Err(Refusal::TooLarge { bytes: bytes as usize, limit: limit as usize });
        }
        Ok(bytes)
    }

    fn enqueue(&self, request: Request) -> Result<(), Refusal> {
        let mut queue = held(&self.shared.queue);
        if queue.stop.is_some() {
            return Err(Refusal::Closed);
        }
        let (bytes, events) = (queue.bytes + request.bytes, queue.events + request.drafts.len());
        let over = bytes > WAITING_BYTES || events > WAITING_EVENTS;
        if over && !queue.requests.is_empty() {
            return Err(Refusal::Busy);
        }
        (queue.bytes, queue.events) = (bytes, events);
        queue.requests.push_back(request);
        let idle = std::mem::take(&mut queue.idle);
        drop(queue);
        if idle {
            self.shared.wake.notify_all();
        }
        Ok(())
    }

    async fn first_of(&self, from: Start) -> Result<Position, LogError> {
        match from {
            Start::Now => Ok(self.shared.head.borrow().next),
            Start::Oldest => Ok(held(&self.shared.book).oldest),
            Start::At(position) => Ok(position.min(self.shared.head.borrow().next)),
            Start::Back(time) => {
                let now = (self.shared.options.clock)().as_microsecond();
                let back = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
                let shared = self.shared.clone();
                blocking(move || shared.first_since(now.saturating_sub(back))).await
            }
        }
    }

    async fn store(&self) -> Result<(), LogError> {
        let shared = self.shared.clone();
        blocking(move || shared.store_cursors()).await
    }
}

/// Exclusive use of the folder.
pub(super) fn lock(disk: &dyn Disk) -> Result<Box<dyn Lock>, LogError> {
    disk.lock().map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => LogError::Locked(holder(disk, &error)),
        _ => failed("lock", &disk.place())(error),
    })
}

pub(super) fn holder(disk: &dyn Disk, error: &std::io::Error) -> String {
    match error.to_string() {
        pid if pid.is_empty() => disk.place(),
        pid => format!("{} (process {pid})", disk.place()),
    }
}

impl Shared {
    /// Store the cursors now.
    pub fn store_cursors(&self) -> Result<(), LogError> {
        self.save().map_err(failed("write cursors in", &self.disk.place()))
    }
}

#[async_trait]
impl Log for FilesLog {
    async fn append(&self, group: Vec<Draft>) -> Result<Range<Position>, Refusal> {
        let bytes = self.admit(&group)?;
        if group.is_empty() {
            let next = self.shared.head.borrow().next;
            return Ok(next..next);
        }
        let (reply, answer) = Reply::here();
        self.enqueue(Request { drafts: group, bytes, reply })?;
        let stored = answer.await.unwrap_or(Err(Refusal::Closed))?;
        drop(stored.mates); // answers them; freeing memory can wait
        drop(stored.forgotten);
        Ok(stored.positions)
    }

    async fn open(&self, delivery: &str, from: Start) -> Result<Box<dyn Reader>, LogError> {
        if self.shared.is_closed() {
            return Err(LogError::Closed);
        }
        let lost = held(&self.shared.cursors).lost;
        let known = held(&self.shared.cursors).by_name.contains_key(delivery);
        let start = self.first_of(if lost { Start::Oldest } else { from }).await?;
        {
            let mut cursors = held(&self.shared.cursors);
            let fresh = || Cursor::new(start);
            let cursor = cursors.by_name.entry(delivery.to_owned()).or_insert_with(fresh);
            if cursor.taken {
                return Err(LogError::Taken(delivery.to_owned()));
            }
            cursor.taken = true;
            cursor.pinning = true;
            cursor.rewind();
        }
        self.shared.changed();
        let head = self.shared.head.subscribe();
        // From here on dropping the reader gives the name free again.
        let reader = FilesReader { shared: self.shared.clone(), delivery: delivery.into(), head };
        match self.store().await {
            // What it says is on disk already, but for a flag: delivering is what makes room.
            Err(LogError::Io { source, .. }) if known && is_full(&source) => {}
            stored => stored?,
        }
        Ok(Box::new(reader))
    }

    async fn detach(&self, delivery: &str) -> Result<(), LogError> {
        if let Some(cursor) = held(&self.shared.cursors).by_name.get_mut(delivery) {
            cursor.pinning = false;
        }
        self.shared.changed();
        self.store().await
    }

    async fn forget(&self, delivery: &str) -> Result<(), LogError> {
        {
            let mut cursors = held(&self.shared.cursors);
            if cursors.by_name.get(delivery).is_some_and(|cursor| cursor.taken) {
                return Err(LogError::Taken(delivery.to_owned()));
            }
            cursors.by_name.remove(delivery);
        }
        self.shared.changed();
        self.store().await
    }

    async fn read(&self, from: Position, max: Limit) -> Result<Page, LogError> {
        self.shared.page(from, max).await
    }

    async fn since(&self, time: Timestamp) -> Result<Position, LogError> {
        let shared = self.shared.clone();
        blocking(move || shared.first_since(time.as_microsecond())).await
    }

    async fn find(&self, id: EventId) -> Result<Option<Arc<Event>>, LogError> {
        let shared = self.shared.clone();
        blocking(move || shared.find_id(id)).await
    }

    fn holding(&self, label: Option<&str>, numbers: &Range<u64>) -> Vec<Range<Position>> {
        self.shared.holding(label, numbers)
    }

    fn head(&self) -> watch::Receiver<Head> {
        self.shared.head.subscribe()
    }

    fn stats(&self) -> Stats {
        let deliveries: Vec<_> = {
            let cursors = held(&self.shared.cursors);
            cursors.by_name.iter().map(|(name, c)| (name.clone(), c.standing())).collect()
        };
        let pinned = Stats::pinned_at(&deliveries);
        let book = held(&self.shared.book);
        let damaged: u64 = book.segments.iter().map(|segment| segment.facts().damaged).sum();
        let aside: u64 = book.aside.iter().map(|(_, _, bytes)| bytes).sum();
        Stats {
            head: *self.shared.head.borrow(),
            oldest: book.oldest,
            bytes: book.bytes(),
            held_bytes: pinned.map_or(0, |mark| book.bytes_from(mark)),
            max_bytes: self.shared.options.max_bytes,
            free_bytes: self.shared.free.load(Ordering::Relaxed),
            min_free: self.shared.options.min_free,
            capacity: self.shared.options.capacity(),
            poisoned: self.shared.poison.get().is_some(),
            failed_before: self.shared.failed_before,
            damaged_bytes: damaged + aside,
            deliveries,
        }
    }

    async fn alive(&self) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        if let Some(text) = self.shared.poison.get() {
            return Err(Refusal::Poisoned(text.clone()));
        }
        {
            let mut queue = held(&self.shared.queue);
            // Of a hanging thread's askers only those who still wait are kept.
            queue.asked.retain(|asked| !asked.is_closed());
            queue.asked.push(reply);
        }
        if self.shared.is_closed() {
            return Err(Refusal::Closed);
        }
        self.shared.wake.notify_all();
        answer.await.map_err(|_| Refusal::Closed)
    }

    async fn close(&self) -> Result<(), LogError> {
        let threads = std::mem::take(&mut *held(&self.threads));
        let (shared, keeper) = (self.shared.clone(), self.keeper.clone());
        blocking(move || {
            Self::stop(&shared, &keeper, threads, Stop::Close);
            // All deliveries that lost their cursor have been opened again by now.
            held(&shared.cursors).lost = false;
            shared.changed();
            let stored = shared.store_cursors();
            held(&shared.lock).take();
            stored
        })
        .await
    }
}

impl Drop for FilesLog {
    fn drop(&mut self) {
        let threads = std::mem::take(&mut *held(&self.threads));
        if !threads.is_empty() {
            Self::stop(&self.shared, &self.keeper, threads, Stop::Abandon);
            held(&self.shared.lock).take();
        }
    }
}

/// Stores changed cursors now and then, beside the commits.
#[derive(Default)]
struct Keeper {
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl Keeper {
    fn stop(&self) {
        *held(&self.stopped) = true;
        self.wake.notify_all();
    }

    fn run(&self, shared: &Shared) {
        let every = shared.options.cursor_every.min(Duration::from_secs(86_400));
        let quiet = Quiet::default();
        let mut stopped = held(&self.stopped);
        while !*stopped {
            let woken = self.wake.wait_timeout(stopped, every);
            stopped = woken.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            if *stopped {
                return;
            }
            drop(stopped);
            if let Err(error) = shared.save()
                && let Some(silent) = quiet.speaks()
            {
                let full = is_full(&error);
                tracing::warn!(%error, full, silent, "the cursors could not be stored; trying again");
            }
            stopped = held(&self.stopped);
        }
    }
}
