//! What a start finds in the folder, and how it is put in order.
//!
//! Guarantees: never refuses to start because of damage: what cannot be read is set aside and
//! counted. A hole before the last group is damage, because a later group is only written after
//! the earlier one was synced. A hole in the last group is an unfinished write unless a stored
//! head proves otherwise: whole requests are kept, incomplete ones are destroyed on disk, so that
//! no later start can take them for events. Reads sealed segments' footers only; no event is
//! loaded. It does not open new segments (`commit.rs`).

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::record::{Glance, HEADER, Key, glance, u16_at, u32_at, u64_at};
use super::segment::{BLOCK, Facts};
use super::walk::{Found, Walk, read_what_can_be};
use crate::core::event::Position;

/// Damaged ranges listed in a report; the counts stay exact.
const RANGES: usize = 1_000;
const CHUNK: usize = 1 << 20;

/// What a scan of one segment's records says.
pub(super) struct Scan {
    pub facts: Facts,
    /// Positions of committed groups that have no readable record.
    pub damaged: Vec<Range<Position>>,
    /// Bytes of an unfinished last write.
    pub torn: u64,
    /// Offsets of intact records of incomplete requests: to be destroyed.
    pub dropped: Vec<u64>,
    /// The highest group number seen, if any header verified.
    pub groups: Option<u32>,
}

/// One record of the group being read.
struct Entry {
    offset: u64,
    end: u64,
    position: Position,
    index: u16,
    count: u16,
    glance: Option<Glance>,
}

struct Scanner {
    scan: Scan,
    /// Positions below are known to have been committed.
    proven: Position,
    group: Vec<Entry>,
    /// End of the last record taken, for sizing holes.
    at: u64,
}

/// Read all records of a segment up to `end` bytes. `proven` is a head that is known to have been
/// committed (0 if none is).
pub(super) fn scan(
    file: &Arc<dyn DiskFile>,
    key: Key,
    first: Position,
    end: u64,
    proven: Position,
) -> io::Result<Scan> {
    let scan = Scan {
        facts: Facts::empty(first),
        damaged: Vec::new(),
        torn: 0,
        dropped: Vec::new(),
        groups: None,
    };
    let mut scanner = Scanner { scan, proven, group: Vec::new(), at: BLOCK };
    let mut walk = Walk::new(file.clone(), key, BLOCK..end, first, CHUNK);
    while let Some(found) = walk.next()? {
        scanner.take(&found);
    }
    scanner.finish();
    Ok(scanner.scan)
}

impl Scanner {
    fn take(&mut self, found: &Found) {
        let group = found.header.group;
        if self.scan.groups.is_some_and(|last| group != last) {
            // The group before was synced before this one was written.
            self.commit();
        }
        self.scan.groups = Some(group);
        self.group.push(Entry {
            offset: found.offset,
            end: found.end(),
            position: found.header.position,
            index: found.header.index,
            count: found.header.count,
            glance: found.payload.as_ref().and_then(|payload| glance(payload)),
        });
    }

    /// The collected group is known to have been complete on disk: all that is missing is damage.
    fn commit(&mut self) {
        for entry in std::mem::take(&mut self.group) {
            self.keep(&entry);
        }
    }

    fn keep(&mut self, entry: &Entry) {
        let known = self.scan.facts.end;
        if entry.position > known {
            self.damage(known..entry.position, entry.offset.saturating_sub(self.at));
        }
        match &entry.glance {
            Some(glance) => self.scan.facts.add(entry.position, glance),
            None => {
                let one = entry.position..entry.position.plus(1);
                self.damage(one.clone(), entry.end - entry.offset);
                self.scan.facts.end = one.end;
            }
        }
        self.at = entry.end;
        self.scan.facts.used = entry.end.next_multiple_of(BLOCK);
    }

    fn damage(&mut self, positions: Range<Position>, bytes: u64) {
        self.scan.facts.damaged += bytes;
        note_range(&mut self.scan.damaged, positions);
    }

    fn finish(&mut self) {
        if self.proven > self.scan.facts.end {
            return self.commit();
        }
        let group = std::mem::take(&mut self.group);
        let mut rest = &group[..];
        while let Some(entry) = rest.first() {
            let whole = whole_request(rest);
            if whole > 0 {
                rest[..whole].iter().for_each(|entry| self.keep_after_drop(entry));
                rest = &rest[whole..];
                continue;
            }
            self.scan.torn += entry.end - entry.offset;
            if entry.glance.is_some() {
                self.scan.dropped.push(entry.offset);
            }
            rest = &rest[1..];
        }
    }

    /// Positions skipped here belonged to requests nobody was told about: a gap, not damage.
    fn keep_after_drop(&mut self, entry: &Entry) {
        if self.scan.torn > 0 && entry.position > self.scan.facts.end {
            note_range(&mut self.scan.damaged, self.scan.facts.end..entry.position);
            self.scan.facts.end = entry.position;
        }
        self.keep(entry);
    }
}

/// How many entries at the front make one complete request; 0 if it is incomplete.
fn whole_request(entries: &[Entry]) -> usize {
    let Some(first) = entries.first() else { return 0 };
    let count = usize::from(first.count);
    let Some(request) = entries.get(..count) else { return 0 };
    let whole = request.iter().enumerate().all(|(nth, entry)| {
        usize::from(entry.index) == nth
            && usize::from(entry.count) == count
            && entry.position == first.position.plus(nth as u64)
            && entry.glance.is_some()
    });
    if whole { count } else { 0 }
}

/// Append to a bounded list of ranges, joined with the last where they touch.
pub(super) fn note_range(ranges: &mut Vec<Range<Position>>, positions: Range<Position>) {
    if let Some(last) = ranges.last_mut().filter(|last| last.end == positions.start) {
        last.end = positions.end;
    } else if ranges.len() < RANGES {
        ranges.push(positions);
    }
}

/// Make what the scan dropped unreadable, durably, before anything can take it for events.
pub(super) fn destroy(file: &dyn DiskFile, dropped: &[u64]) -> io::Result<()> {
    for offset in dropped {
        file.write_at(*offset, &[0; 8])?;
    }
    file.sync()
}

/// Cut off everything beyond `used`, durably.
pub(super) fn cut(file: &dyn DiskFile, used: u64) -> io::Result<()> {
    file.truncate(used)?;
    file.sync()
}

/// Append the footer and sync. Returns the file's size. A file with little room left keeps its
/// size, so that it can be recycled; else it is cut to what is used. A crash in between leaves an
/// unsealed segment that scans to the same facts.
pub(super) fn seal(file: &dyn DiskFile, key: &Key, facts: &Facts, len: u64) -> io::Result<u64> {
    let keeps = len >= facts.used + BLOCK && len - facts.used < len / 4;
    let at = if keeps { len - BLOCK } else { facts.used };
    if !keeps {
        cut(file, at)?;
    }
    file.write_at(at, &facts.footer(key))?;
    file.sync()?;
    Ok(at + BLOCK)
}

/// One past the highest position that a file with a ruined header may have held, going by
/// plausible records. They cannot be verified, so this is only a bound that keeps positions from
/// being given twice.
pub(super) fn highest_plausible(disk: &dyn Disk, name: &str, first: Position) -> Position {
    let Ok(file) = disk.open(name) else { return first };
    let len = file.len().unwrap_or(0);
    let mut highest = first;
    let mut chunk = vec![0; CHUNK];
    for at in (0..len).step_by(CHUNK) {
        read_what_can_be(&*file, at, &mut chunk);
        let positions = chunk.windows(HEADER).step_by(8).filter_map(plausible_position);
        let most = first.plus(len / HEADER as u64);
        highest = positions.filter(|p| *p < most).fold(highest, |a, b| a.max(b.plus(1)));
    }
    highest
}

fn plausible_position(header: &[u8]) -> Option<Position> {
    let generation = u32_at(header, 12)?;
    let (index, count) = (u16_at(header, 28)?, u16_at(header, 30)?);
    let plausible = generation > 0 && generation < 1 << 24 && index < count;
    plausible.then_some(Position(u64_at(header, 16)?))
}
