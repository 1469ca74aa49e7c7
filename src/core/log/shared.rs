//! What the commit thread, the readers and the callers of the files engine share.
//!
//! Guarantees: locks are held for memory work only, never over disk operations (`saving` excepted,
//! which orders writers of the cursors file); `book` may be taken before `cursors`, never after.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{oneshot, watch};

use super::answers::Reply;
use super::cursor::Cursor;
use super::disk::{Disk, Lock};
use super::files::Options;
use super::marks::{self, Marks};
use super::segment::Segment;
use super::tail::Tail;
use super::{Head, Refusal};
use crate::core::Timestamp;
use crate::core::event::{Draft, Position};

/// See the module.
pub(super) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub options: Options,
    pub queue: Mutex<Queue>,
    pub wake: Condvar,
    pub book: Mutex<Book>,
    pub cursors: Mutex<Cursors>,
    pub tail: Mutex<Tail>,
    pub head: watch::Sender<Head>,
    pub poison: OnceLock<String>,
    /// When it was poisoned: in this run, and in the one before.
    pub failed: OnceLock<Timestamp>,
    pub failed_before: Option<Timestamp>,
    pub closed: AtomicBool,
    pub lock: Mutex<Option<Box<dyn Lock>>>,
    /// Counts changes that belong into the cursors file.
    pub changes: AtomicU64,
    /// The count that was last stored.
    pub saving: Mutex<u64>,
    /// Bytes free on the disk when retention last looked: at least once a second.
    pub free: AtomicU64,
}

/// Requests waiting for the disk.
#[derive(Default)]
pub(super) struct Queue {
    pub requests: VecDeque<Request>,
    pub bytes: u64,
    pub events: usize,
    /// Who wants to know whether the commit thread lives; it answers when it looks at the queue.
    pub asked: Vec<oneshot::Sender<()>>,
    /// The commit thread sleeps. Whoever then adds a request clears this and wakes it: waking one
    /// that is awake costs a system call a request.
    pub idle: bool,
    /// No more requests; the commit thread ends when the queue is empty.
    pub stop: Option<Stop>,
}

/// How the commit thread ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Commit what waits, seal, store cursors.
    Close,
    /// Leave everything as it is, as a crash would.
    Abandon,
}

/// One append.
pub(super) struct Request {
    pub drafts: Vec<Draft>,
    pub bytes: u64,
    pub reply: Reply,
}

/// Which files make up the log.
#[derive(Default)]
pub(super) struct Book {
    /// Oldest first; the last may be the one being written.
    pub segments: VecDeque<Arc<Segment>>,
    /// Everything below was freed by retention.
    pub oldest: Position,
    /// The highest generation given.
    pub generation: u32,
    /// Size of the file that waits to become a segment, if there is one.
    pub spare: Option<u64>,
    /// Files set aside: name, the first position in the name, bytes.
    pub aside: Vec<(String, Position, u64)>,
}

impl Book {
    /// Bytes of the segments with positions from `mark` on.
    pub fn bytes_from(&self, mark: Position) -> u64 {
        let held = self.segments.iter().filter(|segment| segment.facts().end > mark);
        held.map(|segment| segment.size()).sum()
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        let segments: u64 = self.segments.iter().map(|segment| segment.size()).sum();
        let aside: u64 = self.aside.iter().map(|(_, _, bytes)| bytes).sum();
        segments + aside + self.spare.unwrap_or(0)
    }

    /// The segment that begins at or before `position`, and where the one after it begins.
    pub fn around(&self, position: Position) -> (Option<Arc<Segment>>, Option<Position>) {
        let after = self.segments.partition_point(|segment| segment.first <= position);
        let here = after.checked_sub(1).and_then(|at| self.segments.get(at)).cloned();
        (here, self.segments.get(after).map(|segment| segment.first))
    }
}

/// All cursors.
#[derive(Default)]
pub(super) struct Cursors {
    pub by_name: BTreeMap<String, Cursor>,
    /// See `Marks::lost`.
    pub lost: bool,
}

/// The value even if a thread panicked while it held the lock: these are plain data.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Something that belongs into the cursors file has changed.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// No append will be answered well again; everything else goes on.
    pub fn poison(&self, what: &str, error: &io::Error) -> Refusal {
        let text = self.poison.get_or_init(|| format!("{what}: {error}"));
        self.failed.get_or_init(|| (self.options.clock)());
        self.changed();
        Refusal::Poisoned(text.clone())
    }

    /// Store the cursors if anything has changed since they were last stored.
    pub fn save(&self) -> io::Result<()> {
        let mut saved = held(&self.saving);
        let changes = self.changes.load(Ordering::Relaxed);
        if *saved == changes {
            return Ok(());
        }
        marks::save(&*self.disk, &self.marks())?;
        *saved = changes;
        Ok(())
    }

    fn marks(&self) -> Marks {
        let book = held(&self.book);
        let (oldest, generation) = (book.oldest, book.generation);
        drop(book);
        // The head last: a cursor must never be ahead of the stored head.
        let cursors = held(&self.cursors);
        let marks = marks_of(oldest, generation, &cursors, || *self.head.borrow());
        Marks { failed: self.failed.get().copied(), ..marks }
    }
}

/// What belongs into the cursors file.
pub(super) fn marks_of(
    oldest: Position,
    generation: u32,
    cursors: &Cursors,
    head: impl FnOnce() -> Head,
) -> Marks {
    let deliveries = cursors.by_name.iter().map(|(name, c)| (name.clone(), c.stored()));
    let (lost, deliveries) = (cursors.lost, deliveries.collect());
    let Head { next: head, urgent } = head();
    Marks { version: 0, head, urgent, oldest, generation, failed: None, lost, deliveries }
}
