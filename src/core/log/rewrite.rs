//! A segment written anew from records that were verified: for repairs and imports.
//!
//! Guarantees: the file has the format of any sealed segment; records keep their positions and
//! payloads, byte for byte, and adjoin, so that a missing position leaves no hole of bytes; it is on
//! stable storage, under the name it was begun with, when `finish` returns. Renaming is the caller's.

use std::io;
use std::sync::Arc;

use super::commit::secret_number;
use super::disk::{Disk, DiskFile};
use super::record::{Key, encode_again, glance};
use super::recover::seal;
use super::segment::{BLOCK, Facts, Head};
use crate::core::Timestamp;
use crate::core::event::Position;

/// Bytes gathered before they are written.
const GATHERED: usize = 1 << 20;

/// See the module.
pub(super) struct Rewrite {
    file: Arc<dyn DiskFile>,
    key: Key,
    facts: Facts,
    buffer: Vec<u8>,
}

impl Rewrite {
    /// Begin `name`, a segment that starts at `first`.
    pub fn begin(
        disk: &dyn Disk,
        name: &str,
        first: Position,
        generation: u32,
        created: Timestamp,
    ) -> io::Result<Self> {
        let key = Key { generation, salt: secret_number() };
        let file = disk.create(name, 0)?;
        // The size is that of a preallocated file; this one is as long as it is.
        file.write_at(0, &Head { key, first, created, size: 0 }.block())?;
        Ok(Self { file, key, facts: Facts::empty(first), buffer: Vec::new() })
    }

    /// The next record; positions must rise.
    pub fn add(&mut self, position: Position, payload: &[u8]) -> io::Result<()> {
        let Some(seen) = glance(payload) else { return Ok(()) };
        self.facts.add(position, &seen);
        encode_again(&self.key, position, payload, &mut self.buffer);
        if self.buffer.len() >= GATHERED { self.write() } else { Ok(()) }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.facts.used + self.buffer.len() as u64
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_at(self.facts.used, &self.buffer)?;
        self.facts.used += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Seal it: it ends before `end`, also if records before that are missing.
    pub fn finish(mut self, end: Position) -> io::Result<()> {
        let padded = (self.bytes().next_multiple_of(BLOCK) - self.facts.used) as usize;
        self.buffer.resize(padded, 0);
        self.write()?;
        self.facts.end = self.facts.end.max(end);
        seal(&*self.file, &self.key, &self.facts, self.facts.used).map(drop)
    }
}
