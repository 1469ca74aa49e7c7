//! One segment: a file of records, with a header in front and, once sealed, a footer at its end.
//!
//! Guarantees: header and footer are written twice in one 4 KiB block, so that neither a flipped
//! bit nor a torn write loses a segment; both carry the generation, so that a recycled file's old
//! footer means nothing. `Segment` is what memory keeps of it: a few hundred bytes, no events.
//! It does not write records (`commit.rs`) nor judge damage (`recover.rs`).

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::disk::{Disk, DiskFile};
use super::index::{Hulls, covers};
use super::record::{Glance, Key, u32_at, u64_at};
use super::walk::read_what_can_be;
use crate::core::Timestamp;
use crate::core::event::Position;

/// Groups start at multiples of this and are padded to it, so that a direct writer fits later.
pub(super) const BLOCK: u64 = 4096;
/// The second copy of a header or footer within its block.
pub(super) const COPY: usize = 2048;
/// The segment format this code writes, and the newest it reads.
pub(super) const VERSION: u32 = 1;
const HEADER_MAGIC: &[u8; 8] = b"SIEMGATE";
const FOOTER_MAGIC: &[u8; 8] = b"SIEMSEAL";
/// Bytes between two entries of the sparse index.
const STRIDE: u64 = 256 * 1024;
/// Damaged ranges remembered per segment.
const DAMAGE_LIMIT: usize = 1_000;

/// The name of the segment that begins at `first`.
pub(super) fn name_of(first: Position) -> String {
    format!("{:020}.seg", first.0)
}

/// The first position in the name of a segment, also of one set aside.
pub(super) fn first_in_name(name: &str) -> Option<Position> {
    let (digits, rest) = name.split_at_checked(20)?;
    let rest = rest.strip_prefix(".seg")?;
    let numbered = |n: &str| n.bytes().all(|byte| byte.is_ascii_digit());
    let aside = || rest.strip_prefix('.')?.strip_suffix("damaged").map(|n| n.trim_end_matches('.'));
    let known = rest.is_empty() || aside().is_some_and(numbered);
    known.then(|| digits.parse().ok().map(Position))?
}

/// A name under which `name` can be set aside: one that no file has.
pub(super) fn aside_name(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|nth| format!("{name}.{nth}.damaged"));
    let mut names = std::iter::once(format!("{name}.damaged")).chain(numbered);
    names.find(|name| !taken(name)).unwrap_or_default()
}

/// What the header block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub key: Key,
    pub first: Position,
    pub created: Timestamp,
    pub size: u64,
}

/// How a header block reads.
pub(super) enum HeadFound {
    Good(Head),
    Newer(u32),
    Bad,
}

impl Head {
    pub fn block(&self) -> Vec<u8> {
        let mut copy = HEADER_MAGIC.to_vec();
        copy.extend_from_slice(&VERSION.to_le_bytes());
        copy.extend_from_slice(&self.key.generation.to_le_bytes());
        copy.extend_from_slice(&self.key.salt.to_le_bytes());
        copy.extend_from_slice(&self.first.0.to_le_bytes());
        copy.extend_from_slice(&self.created.as_microsecond().to_le_bytes());
        copy.extend_from_slice(&self.size.to_le_bytes());
        twice(copy, crc32c::crc32c)
    }

    /// Read the header of `file`. Of two good copies the higher generation counts: the other is
    /// what an interrupted recycling left.
    pub fn read(file: &dyn DiskFile) -> HeadFound {
        let block = read_block(file, 0);
        let mut newest = HeadFound::Bad;
        for at in [0, COPY] {
            match (Self::parse(&block[at..]), &newest) {
                (HeadFound::Bad, _) => {}
                (HeadFound::Good(new), HeadFound::Good(old))
                    if new.key.generation <= old.key.generation => {}
                (found, _) => newest = found,
            }
        }
        newest
    }

    pub fn parse(copy: &[u8]) -> HeadFound {
        Self::fields(copy).unwrap_or(HeadFound::Bad)
    }

    fn fields(copy: &[u8]) -> Option<HeadFound> {
        const LEN: usize = 48;
        if copy.get(..8)? != HEADER_MAGIC || u32_at(copy, LEN)? != crc32c::crc32c(&copy[..LEN]) {
            return None;
        }
        let version = u32_at(copy, 8)?;
        if version > VERSION {
            return Some(HeadFound::Newer(version));
        }
        Some(HeadFound::Good(Self {
            key: Key { generation: u32_at(copy, 12)?, salt: u64_at(copy, 16)? },
            first: Position(u64_at(copy, 24)?),
            created: Timestamp::from_microsecond(u64_at(copy, 32)?.cast_signed()).ok()?,
            size: u64_at(copy, 40)?,
        }))
    }
}

/// What is known of a segment's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// One past the last position.
    pub end: Position,
    /// Records that were intact when this was determined.
    pub count: u64,
    /// Bytes up to the end of the last group, a multiple of 4 KiB.
    pub used: u64,
    /// Milliseconds in the ids, smallest and largest.
    pub ids: (u64, u64),
    /// Microseconds of `received`, oldest and newest.
    pub received: (i64, i64),
    /// One past the newest urgent event; 0 if none.
    pub urgent: Position,
    /// Bytes known to be damaged.
    pub damaged: u64,
}

impl Facts {
    pub fn empty(first: Position) -> Self {
        Self {
            end: first,
            count: 0,
            used: BLOCK,
            ids: (u64::MAX, 0),
            received: (i64::MAX, i64::MIN),
            urgent: Position(0),
            damaged: 0,
        }
    }

    /// Count one record in.
    pub fn add(&mut self, position: Position, seen: &Glance) {
        self.end = self.end.max(position.plus(1));
        self.count += 1;
        self.ids = (self.ids.0.min(seen.id_ms), self.ids.1.max(seen.id_ms));
        let us = seen.received_us;
        self.received = (self.received.0.min(us), self.received.1.max(us));
        if seen.urgent {
            self.urgent = position.plus(1);
        }
    }

    pub fn footer(&self, key: &Key) -> Vec<u8> {
        let mut copy = FOOTER_MAGIC.to_vec();
        let numbers = [
            self.end.0,
            self.count,
            self.used,
            self.ids.0,
            self.ids.1,
            self.received.0.cast_unsigned(),
            self.received.1.cast_unsigned(),
            self.urgent.0,
            self.damaged,
        ];
        numbers.iter().for_each(|number| copy.extend_from_slice(&number.to_le_bytes()));
        twice(copy, |bytes| key.sum(bytes))
    }

    /// The footer in the last 4 KiB, if the segment was sealed in this generation.
    pub fn read_footer(file: &dyn DiskFile, len: u64, key: &Key) -> Option<Self> {
        let block = read_block(file, len.checked_sub(BLOCK).filter(|at| *at >= BLOCK)?);
        [0, COPY].iter().find_map(|at| Self::parse(&block[*at..], key))
    }

    pub fn parse(copy: &[u8], key: &Key) -> Option<Self> {
        const LEN: usize = 80;
        if copy.get(..8)? != FOOTER_MAGIC || u32_at(copy, LEN)? != key.sum(&copy[..LEN]) {
            return None;
        }
        let number = |nth: usize| u64_at(copy, 8 + 8 * nth);
        Some(Self {
            end: Position(number(0)?),
            count: number(1)?,
            used: number(2)?,
            ids: (number(3)?, number(4)?),
            received: (number(5)?.cast_signed(), number(6)?.cast_signed()),
            urgent: Position(number(7)?),
            damaged: number(8)?,
        })
    }
}

/// A 4 KiB block with `copy` and its checksum at its start and in its middle.
fn twice(mut copy: Vec<u8>, sum: impl Fn(&[u8]) -> u32) -> Vec<u8> {
    let sum = sum(&copy);
    copy.extend_from_slice(&sum.to_le_bytes());
    let mut block = vec![0; BLOCK as usize];
    block[..copy.len()].copy_from_slice(&copy);
    block[COPY..COPY + copy.len()].copy_from_slice(&copy);
    block
}

pub(super) fn read_block(file: &dyn DiskFile, at: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK as usize];
    // An unreadable block is a bad one: zeros do not verify.
    read_what_can_be(file, at, &mut block);
    block
}

/// After so many times the patience with an unreadable part another one gets its own.
const FORGOTTEN: u32 = 60;

/// What memory keeps of a segment. Readers share it; a file is recycled only when none does.
pub(super) struct Segment {
    pub name: String,
    pub key: Key,
    pub first: Position,
    state: Mutex<State>,
}

struct State {
    facts: Facts,
    /// Bytes the file takes on disk.
    size: u64,
    /// Only the segment being written keeps its file open: a large log has thousands.
    file: Option<Arc<dyn DiskFile>>,
    /// Position and offset of a record about every 256 KiB, from the start on.
    index: Vec<(Position, u64)>,
    /// Damaged ranges already counted, by their first position.
    damage: Vec<Range<Position>>,
    /// Since when the disk has not been able to read a part of it.
    doubted: Option<Instant>,
    /// What the records are about; `None` when that is not known, so that it may be anything.
    hulls: Option<Hulls>,
}

impl Segment {
    pub fn new(name: String, head: &Head, facts: Facts, size: u64) -> Self {
        let state = State {
            facts,
            size,
            file: None,
            index: vec![(head.first, BLOCK)],
            damage: Vec::new(),
            doubted: None,
            hulls: Some(Hulls::new()),
        };
        Self { name, key: head.key, first: head.first, state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn facts(&self) -> Facts {
        self.state().facts
    }

    pub fn size(&self) -> u64 {
        self.state().size
    }

    /// Keep `file` open until `sealed`.
    pub fn writing(&self, file: Arc<dyn DiskFile>) {
        self.state().file = Some(file);
    }

    /// The file is complete and takes `size` bytes.
    pub fn sealed(&self, size: u64) {
        let mut state = self.state();
        state.file = None;
        state.size = size;
    }

    /// A group is durable: publish it to readers.
    pub fn publish(&self, facts: Facts, first: Position, offset: u64) {
        let mut state = self.state();
        state.facts = facts;
        state.note(first, offset);
    }

    pub fn open(&self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = &self.state().file {
            return Ok(file.clone());
        }
        disk.open(&self.name)
    }

    /// A record at or before `position`: its position and offset.
    pub fn seek(&self, position: Position) -> (Position, u64) {
        let state = self.state();
        let after = state.index.partition_point(|(at, _)| *at <= position);
        state.index.get(after.saturating_sub(1)).copied().unwrap_or((self.first, BLOCK))
    }

    /// A walk passed this record: remember it if it is far enough from the last remembered.
    pub fn note(&self, position: Position, offset: u64) {
        self.state().note(position, offset);
    }

    /// A walk could not read these positions. Counted once.
    pub fn note_damage(&self, positions: &Range<Position>, bytes: u64) {
        let mut state = self.state();
        let known = state.damage.iter().any(|r| r.start < positions.end && positions.start < r.end);
        if !known && state.damage.len() < DAMAGE_LIMIT {
            state.damage.push(positions.clone());
            state.facts.damaged += bytes;
        }
    }

    /// Whether what the disk cannot read now may be readable later: until `patience` after the first
    /// time, and again when there was none for long.
    pub fn is_doubted(&self, patience: Duration) -> bool {
        let doubted = &mut self.state().doubted;
        let lately = doubted.filter(|since| since.elapsed() < patience.saturating_mul(FORGOTTEN));
        doubted.insert(lately.unwrap_or_else(Instant::now)).elapsed() < patience
    }

    /// Change what is known of what its records are about; false from `change`: nothing is known.
    pub fn about(&self, change: impl FnOnce(&mut Hulls) -> bool) {
        let mut state = self.state();
        if let Some(hulls) = &mut state.hulls
            && !change(hulls)
        {
            state.hulls = None;
        }
    }

    /// What its records are about, if that is known.
    pub fn hulls(&self) -> Option<Hulls> {
        self.state().hulls.clone()
    }

    /// Whether a record may be about one of `numbers`.
    pub fn may_hold(&self, label: Option<&str>, numbers: &Range<u64>) -> bool {
        self.state().hulls.as_ref().is_none_or(|hulls| covers(hulls, label, numbers))
    }

    /// These ranges are part of `facts.damaged` already.
    pub fn knows_damage(&self, ranges: &[Range<Position>]) {
        self.state().damage.extend(ranges.iter().take(DAMAGE_LIMIT).cloned());
    }
}

impl State {
    fn note(&mut self, position: Position, offset: u64) {
        let last = self.index.last().copied().unwrap_or_default();
        if position > last.0 && offset >= last.1 + STRIDE {
            self.index.push((position, offset));
        }
    }
}
