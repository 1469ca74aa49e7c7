//! Opening the folder: from files to a book of segments, a head and cursors.
//!
//! Guarantees: only a lock held elsewhere, a newer format or a folder that cannot be written
//! keep the log from opening; positions are never given twice, whatever was lost. Every segment
//! that was being written is sealed: appends after a start go to a new file with a new
//! generation, so that leftovers of a torn write stay dead. The judgement of one segment's
//! records is `recover.rs`.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::commit::SPARE;
use super::cursor::Cursor;
use super::disk::{Disk, DiskFile};
use super::marks::{self, CursorsFound, Marks};
use super::recover::{cut, destroy, highest_plausible, note_range, scan, seal};
use super::segment::{Facts, Head, HeadFound, Segment, VERSION, aside_name, first_in_name};
use super::shared::{Book, Cursors};
use super::{Head as LogHead, LogError};
use crate::core::Timestamp;
use crate::core::event::Position;

/// What a start found, for the journal.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Events the log holds.
    pub events: u64,
    /// Segments they are in.
    pub segments: usize,
    /// Bytes of writes that were under way when the gateway died; nobody was told they were stored.
    pub torn_bytes: u64,
    /// Bytes of stored events that cannot be read any more, as far as is known.
    pub damaged_bytes: u64,
    /// Their positions, as far as this start read (at most 1,000 ranges).
    pub damaged: Vec<Range<Position>>,
    /// Files that were set aside as unreadable (`*.damaged`).
    pub set_aside: Vec<String>,
    /// Where the cursors came from.
    pub cursors: CursorsFound,
    /// When the disk failed in the run before, if that could be stored.
    pub failed: Option<Timestamp>,
    /// How long it took.
    pub took: Duration,
}

/// An opened folder.
pub(super) struct Opened {
    pub book: Book,
    pub cursors: Cursors,
    pub head: LogHead,
    pub report: RecoveryReport,
    /// Sealing failed: readable, but nothing may be written.
    pub broken: Option<io::Error>,
}

/// A segment file with a good header.
struct Candidate {
    name: String,
    head: Head,
    file: Arc<dyn DiskFile>,
    len: u64,
}

pub(super) fn failed(what: &str, name: &str) -> impl Fn(io::Error) -> LogError {
    let what = format!("{what} {name}");
    move |source| LogError::Io { what: what.clone(), source }
}

/// Put the folder in order and say what is in it.
pub(super) fn open(disk: &dyn Disk) -> Result<Opened, LogError> {
    let began = Instant::now();
    let names = disk.list().map_err(failed("list", &disk.place()))?;
    let used = names.iter().any(|name| first_in_name(name).is_some());
    let (marks, found) = marks::load(disk, used)?;
    let mut start = Start {
        disk,
        book: Book { oldest: marks.oldest, generation: marks.generation, ..Book::default() },
        report: RecoveryReport {
            cursors: found,
            failed: marks.failed,
            ..RecoveryReport::default()
        },
        floor: marks.head,
        broken: None,
    };
    let candidates = start.sort_out(&names)?;
    start.take_all(candidates)?;
    Ok(start.finish(&marks, began))
}

struct Start<'a> {
    disk: &'a dyn Disk,
    book: Book,
    report: RecoveryReport,
    /// The head is at least this.
    floor: Position,
    broken: Option<io::Error>,
}

impl Start<'_> {
    /// Which files are segments; the rest is removed, kept as a spare, or set aside.
    fn sort_out(&mut self, names: &[String]) -> Result<Vec<Candidate>, LogError> {
        let mut candidates = Vec::new();
        for name in names {
            if name == SPARE {
                let len = self.disk.open(name).and_then(|file| file.len());
                self.book.spare = len.ok().filter(|len| *len > 0);
            } else if let Some(first) = first_in_name(name) {
                candidates.extend(self.look_at(name, first)?);
            }
        }
        candidates.sort_by_key(|candidate| candidate.head.first);
        Ok(candidates)
    }

    fn look_at(&mut self, name: &str, first: Position) -> Result<Option<Candidate>, LogError> {
        let opened = self.disk.open(name).and_then(|file| Ok((file.len()?, file)));
        let Ok((len, file)) = opened else { return Ok(self.set_aside(name, first, 0)) };
        if name.ends_with(".damaged") {
            return Ok(self.note_aside(name, first, len));
        }
        match Head::read(&*file) {
            HeadFound::Newer(found) => {
                let file = format!("{}/{name}", self.disk.place());
                Err(LogError::Newer { file, found, known: VERSION })
            }
            HeadFound::Bad => Ok(self.set_aside(name, first, len)),
            HeadFound::Good(head) => {
                self.book.generation = self.book.generation.max(head.key.generation);
                if head.first != first {
                    // Its recycling was interrupted: its events were freed before.
                    let _ = self.disk.remove(name);
                    return Ok(None);
                }
                Ok(Some(Candidate { name: name.to_owned(), head, file, len }))
            }
        }
    }

    /// Keep an unreadable file out of the way, but on disk for whoever wants to look.
    fn set_aside(&mut self, name: &str, first: Position, len: u64) -> Option<Candidate> {
        let names = self.disk.list().unwrap_or_default();
        let aside = aside_name(name, |other| names.iter().any(|taken| taken == other));
        // If renaming fails the next start tries again.
        let now = if self.disk.rename(name, &aside).is_ok() { aside } else { name.to_owned() };
        self.report.set_aside.push(now.clone());
        self.note_aside(&now, first, len)
    }

    fn note_aside(&mut self, name: &str, first: Position, len: u64) -> Option<Candidate> {
        self.book.aside.push((name.to_owned(), first, len));
        None
    }

    fn take_all(&mut self, candidates: Vec<Candidate>) -> Result<(), LogError> {
        let firsts: Vec<_> = candidates.iter().map(|candidate| candidate.head.first).collect();
        for (nth, candidate) in candidates.into_iter().enumerate() {
            self.take(candidate, firsts.get(nth + 1).copied())?;
        }
        Ok(())
    }

    fn take(&mut self, one: Candidate, next: Option<Position>) -> Result<(), LogError> {
        self.floor = self.floor.max(one.head.first);
        let footer = Facts::read_footer(&*one.file, one.len, &one.head.key);
        let (facts, size, damaged) = match footer {
            Some(facts) => (facts, one.len, Vec::new()),
            None => self.settle(&one, next)?,
        };
        if facts.end == one.head.first || facts.end <= self.book.oldest {
            // Without events, or freed already. A new segment of the same name replaces it.
            if next.is_some() || facts.end < self.floor {
                let _ = self.disk.remove(&one.name);
            }
            return Ok(());
        }
        let segment = Segment::new(one.name, &one.head, facts, size);
        segment.knows_damage(&damaged);
        self.book.segments.push_back(Arc::new(segment));
        Ok(())
    }

    /// Judge a segment that was not sealed, and seal it.
    fn settle(
        &mut self,
        one: &Candidate,
        next: Option<Position>,
    ) -> Result<(Facts, u64, Vec<Range<Position>>), LogError> {
        // What a later segment begins after was settled by an earlier start, or synced.
        let proven = next.unwrap_or(self.floor);
        let scanned = scan(&one.file, one.head.key, one.head.first, one.len, proven);
        let scan = scanned.map_err(failed("read", &one.name))?;
        self.report.torn_bytes += scan.torn;
        scan.damaged.iter().for_each(|range| note_range(&mut self.report.damaged, range.clone()));
        if next.is_none() {
            // Without this a later start could take a dropped record for an event.
            destroy(&*one.file, &scan.dropped).map_err(failed("clean the end of", &one.name))?;
        }
        let mut size = one.len;
        if scan.facts.end > one.head.first {
            let sealed = cut(&*one.file, scan.facts.used)
                .and_then(|()| seal(&*one.file, &one.head.key, &scan.facts, scan.facts.used));
            match sealed {
                Ok(len) => size = len,
                Err(error) if super::disk::is_full(&error) => {}
                Err(error) => self.broken = Some(error),
            }
        }
        Ok((scan.facts, size, scan.damaged))
    }

    fn finish(mut self, marks: &Marks, began: Instant) -> Opened {
        let by_name: std::collections::BTreeMap<_, _> = marks
            .deliveries
            .iter()
            .map(|(name, stored)| (name.clone(), Cursor::restored(stored)))
            .collect();
        let reach = by_name.values().map(Cursor::reach).max().unwrap_or_default();
        let last = self.book.segments.back().map(|s| s.facts());
        let end = last.map_or(Position(0), |facts| facts.end);
        let mut next = self.floor.max(reach).max(end);
        for (name, first, _) in self.book.aside.iter().filter(|(_, first, _)| *first >= end) {
            next = next.max(highest_plausible(self.disk, name, *first));
        }
        let urgent = self.book.segments.iter().map(|s| s.facts().urgent).max();
        let urgent = urgent.unwrap_or_default().max(marks.urgent);
        self.settle_oldest(marks);
        self.note_missing(next);
        self.count(began);
        let cursors = Cursors { by_name, lost: marks.lost };
        let head = LogHead { next, urgent };
        Opened { book: self.book, cursors, head, report: self.report, broken: self.broken }
    }

    /// Without a stored mark, what lies before the first file was freed.
    fn settle_oldest(&mut self, marks: &Marks) {
        if marks.lost {
            let first = self.book.segments.front().map(|segment| segment.first);
            let aside = self.book.aside.iter().map(|(_, first, _)| *first);
            self.book.oldest = aside.chain(first).min().unwrap_or_default();
        }
    }

    /// Positions between and after the segments that no file holds.
    fn note_missing(&mut self, head: Position) {
        let mut at = self.book.oldest;
        for segment in &self.book.segments {
            if segment.first > at {
                note_range(&mut self.report.damaged, at..segment.first);
            }
            at = at.max(segment.facts().end);
        }
        if head > at {
            note_range(&mut self.report.damaged, at..head);
        }
        self.report.damaged.sort_by_key(|range| range.start);
    }

    fn count(&mut self, began: Instant) {
        let facts = self.book.segments.iter().map(|segment| segment.facts());
        let (events, damaged) =
            facts.fold((0, 0), |(events, bytes), f| (events + f.count, bytes + f.damaged));
        let aside: u64 = self.book.aside.iter().map(|(_, _, bytes)| bytes).sum();
        self.report.events = events;
        self.report.damaged_bytes = damaged + aside;
        self.report.segments = self.book.segments.len();
        self.report.took = began.elapsed();
    }
}
