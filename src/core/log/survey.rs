//! Every byte of one segment, judged: which records are intact, and exactly where the rest is bad.
//!
//! Guarantees: a record counts as readable exactly when its checksums hold, also when it stands in
//! the wrong place; what is bad is named by offset, length and positions. It changes nothing and
//! reads a bounded part at a time. What a start makes of the same file is `recover.rs`.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use super::disk::DiskFile;
use super::recover::{note_range, scan};
use super::segment::{BLOCK, COPY, Facts, Head, HeadFound, read_block};
use super::walk::{Found, Walk, read_what_can_be};
use crate::core::event::Position;

const CHUNK: usize = 1 << 20;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Which file.
    pub file: String,
    /// What is bad.
    pub what: Fault,
    /// Where it begins.
    pub offset: u64,
    /// How much it is.
    pub bytes: u64,
    /// The positions it is about; empty if none.
    pub positions: Range<Position>,
}

/// What is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Both copies of a segment's header: nothing in the file can be checked.
    Header,
    /// One copy of the header or footer; the other one serves.
    Copy,
    /// Bytes where a record should be.
    Unreadable,
    /// A record whose payload does not fit its checksum.
    Record,
    /// An intact record that stands behind a later one.
    Misplaced,
    /// A file that is gone.
    Missing,
    /// A file of cursors.
    Cursors,
}

impl Fault {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Header => "the header is unreadable, and with it the whole file",
            Self::Copy => "one copy of the header or footer is unreadable; the other one serves",
            Self::Unreadable => "no record can be read here",
            Self::Record => "a record does not fit its checksum",
            Self::Misplaced => "an intact record stands in the wrong place",
            Self::Missing => "no file has these positions",
            Self::Cursors => "the cursors cannot be read",
        }
    }
}

/// What one segment holds.
pub(super) struct Survey {
    pub head: Head,
    /// Whether it has a footer.
    pub sealed: bool,
    /// One past the last position it is known to have held.
    pub end: Position,
    pub damage: Vec<Damage>,
    /// Positions up to `end` that no intact record has.
    pub lost: Vec<Range<Position>>,
    pub events: u64,
    /// Bytes of an unfinished last write.
    pub torn: u64,
    /// Where records end.
    used: u64,
    /// Records of requests that nobody was told about: to be passed over.
    dropped: Vec<u64>,
}

impl Survey {
    /// Look at `file`, whose header reads as `head`. `proven`: positions below were committed.
    /// `known`: whether lost positions were set aside before.
    pub fn of(
        name: &str,
        file: &Arc<dyn DiskFile>,
        head: Head,
        proven: Position,
        known: bool,
    ) -> io::Result<Self> {
        let len = file.len()?;
        let footer = Facts::read_footer(&**file, len, &head.key);
        let mut survey = Self {
            head,
            sealed: footer.is_some(),
            end: head.first,
            damage: Vec::new(),
            lost: Vec::new(),
            events: 0,
            torn: 0,
            used: BLOCK,
            dropped: Vec::new(),
        };
        match footer {
            Some(facts) => (survey.end, survey.used) = (facts.end, facts.used),
            None => {
                let scan = scan(file, head.key, head.first, len, proven)?;
                survey.end = scan.facts.end.max(proven).max(head.first);
                survey.used = len;
                (survey.torn, survey.dropped) = (scan.torn, scan.dropped);
            }
        }
        survey.copies(name, &**file, len);
        let mut look =
            Look { name, survey, known, at: BLOCK, next: head.first, seen: Seen::default() };
        let mut walk = look.survey.walk(file.clone());
        while let Some(found) = walk.next()? {
            look.take(&found);
        }
        look.finish(&**file)
    }

    fn walk(&self, file: Arc<dyn DiskFile>) -> Walk {
        let Head { key, first, .. } = self.head;
        Walk::new(file, key, BLOCK..self.used, first, CHUNK).in_any_order()
    }

    /// One bad copy of two is damage, too: the next one is the last.
    fn copies(&mut self, name: &str, file: &dyn DiskFile, len: u64) {
        let key = self.head.key;
        let header = |copy: &[u8]| matches!(Head::parse(copy), HeadFound::Bad);
        self.bad_copies(name, file, 0, header);
        if self.sealed {
            self.bad_copies(name, file, len - BLOCK, |copy| Facts::parse(copy, &key).is_none());
        }
    }

    fn bad_copies(
        &mut self,
        name: &str,
        file: &dyn DiskFile,
        at: u64,
        is_bad: impl Fn(&[u8]) -> bool,
    ) {
        let block = read_block(file, at);
        for copy in [0, COPY].into_iter().filter(|copy| is_bad(&block[*copy..])) {
            let offset = at + copy as u64;
            let none = self.head.first..self.head.first;
            self.note(name, Fault::Copy, offset..offset + COPY as u64, none);
        }
    }

    fn note(&mut self, name: &str, what: Fault, at: Range<u64>, positions: Range<Position>) {
        let (offset, bytes) = (at.start, at.end.saturating_sub(at.start));
        self.damage.push(Damage { file: name.to_owned(), what, offset, bytes, positions });
    }

    /// Every intact record, once, in the order of positions: position and payload.
    pub fn each(
        &self,
        file: &Arc<dyn DiskFile>,
        mut take: impl FnMut(Position, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut places = Vec::new();
        let mut walk = self.walk(file.clone());
        while let Some(found) = walk.next()? {
            if found.payload.is_some() && self.is_own(&found) {
                places.push((found.header.position, found.offset));
            }
        }
        places.sort_unstable();
        places.dedup_by_key(|(position, _)| *position);
        let Some((_, first)) = places.first() else { return Ok(()) };
        let Head { key, first: floor, .. } = self.head;
        let mut walk = Walk::new(file.clone(), key, *first..self.used, floor, CHUNK).in_any_order();
        for (position, offset) in places {
            if let Some(payload) = walk.at(offset)?.and_then(|found| found.payload) {
                take(position, &payload)?;
            }
        }
        Ok(())
    }

    fn is_own(&self, found: &Found) -> bool {
        let position = found.header.position;
        let inside = position >= self.head.first && position < self.end;
        inside && self.dropped.binary_search(&found.offset).is_err()
    }
}

/// The look itself.
struct Look<'a> {
    name: &'a str,
    survey: Survey,
    known: bool,
    /// Where the last record ended.
    at: u64,
    /// One past the highest position so far.
    next: Position,
    seen: Seen,
}

impl Look<'_> {
    fn take(&mut self, found: &Found) {
        if !self.survey.is_own(found) {
            return;
        }
        let (at, position) = (found.offset, found.header.position);
        let one = position..position.plus(1);
        let adjoins = at == self.at;
        let padded = at == self.at.next_multiple_of(BLOCK);
        // Within one whose payload was damaged.
        let within = at < self.at;
        let skips = position > self.next;
        if !(adjoins || padded || within) || skips && !(self.known && adjoins) {
            // A hole, unless it was put right before: then records adjoin.
            let missing = self.next..position.max(self.next);
            self.survey.note(self.name, Fault::Unreadable, self.at.min(at)..at, missing);
        }
        if position < self.next {
            self.survey.note(self.name, Fault::Misplaced, at..found.end(), one.clone());
        }
        match found.payload {
            Some(_) => self.survey.events += u64::from(self.seen.add(position)),
            None => self.survey.note(self.name, Fault::Record, at..found.end(), one.clone()),
        }
        self.next = self.next.max(one.end);
        self.at = self.at.max(found.end());
    }

    fn finish(mut self, file: &dyn DiskFile) -> io::Result<Survey> {
        let (end, used) = (self.survey.end, self.survey.used);
        if self.next < end && !(self.known && self.ends_clean(file)?) {
            self.survey.note(self.name, Fault::Unreadable, self.at..used, self.next..end);
        }
        self.survey.lost = self.seen.missing(self.survey.head.first..end);
        Ok(self.survey)
    }

    /// Nothing but padding follows: how a repair leaves a file whose end is lost.
    fn ends_clean(&self, file: &dyn DiskFile) -> io::Result<bool> {
        let mut rest = vec![0; usize::try_from(self.survey.used - self.at).unwrap_or(0)];
        if rest.len() as u64 > BLOCK {
            return Ok(false);
        }
        read_what_can_be(file, self.at, &mut rest);
        Ok(rest.iter().all(|byte| *byte == 0))
    }
}

/// Positions, as ranges.
#[derive(Default)]
struct Seen(BTreeMap<u64, u64>);

impl Seen {
    /// False when it was there.
    fn add(&mut self, position: Position) -> bool {
        let before = self.0.range(..=position.0).next_back().map(|(from, to)| (*from, *to));
        let (from, to) = match before {
            Some((_, to)) if to > position.0 => return false,
            Some((from, to)) if to == position.0 => (from, to + 1),
            _ => (position.0, position.0 + 1),
        };
        let to = self.0.remove(&to).unwrap_or(to);
        self.0.insert(from, to);
        true
    }

    fn missing(&self, within: Range<Position>) -> Vec<Range<Position>> {
        let mut missing = Vec::new();
        let mut at = within.start;
        for (from, to) in &self.0 {
            if Position(*from) > at {
                note_range(&mut missing, at..Position(*from));
            }
            at = at.max(Position(*to));
        }
        if at < within.end {
            note_range(&mut missing, at..within.end);
        }
        missing
    }
}
