//! Walks the records of a segment in order, past any damage.
//!
//! Guarantees: every intact record is found whatever surrounds it, and nothing else is: where a
//! header does not verify, the walk looks again at every eighth byte. Reads a bounded chunk at a
//! time; a sector that the disk cannot read counts as zeros, and is told. It judges nothing: what a
//! hole means is decided in `recover.rs` and by readers.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::DiskFile;
use super::record::{ALIGN, HEADER, Header, Key};
use super::segment::BLOCK;
use crate::core::event::Position;

/// A record whose header verified.
pub(super) struct Found {
    pub offset: u64,
    pub header: Header,
    /// `None` when the payload is damaged.
    pub payload: Option<Bytes>,
}

impl Found {
    /// Where the next record may start.
    pub fn end(&self) -> u64 {
        self.offset + self.header.span()
    }
}

/// A walk over `offset..end` of a file.
pub(super) struct Walk {
    file: Arc<dyn DiskFile>,
    key: Key,
    offset: u64,
    end: u64,
    /// Positions below were passed already; a header that claims one is not believed.
    floor: Position,
    /// The floor stays where it is.
    in_any_order: bool,
    chunk: Bytes,
    chunk_at: u64,
    chunk_size: usize,
    unreadable: bool,
}

impl Walk {
    /// Records from `offset` (a multiple of 8) on, all ending by `end`, with positions from
    /// `floor` on; reads about `chunk_size` bytes at a time.
    pub fn new(
        file: Arc<dyn DiskFile>,
        key: Key,
        range: std::ops::Range<u64>,
        floor: Position,
        chunk_size: usize,
    ) -> Self {
        let chunk_size = chunk_size.max(BLOCK as usize);
        let (offset, end) = (range.start, range.end);
        let (chunk, chunk_at) = (Bytes::new(), offset);
        let (in_any_order, unreadable) = (false, false);
        Self {
            file,
            key,
            offset,
            end,
            floor,
            in_any_order,
            chunk,
            chunk_at,
            chunk_size,
            unreadable,
        }
    }

    /// Also records that come after later ones: blocks that were put in the wrong place.
    pub fn in_any_order(mut self) -> Self {
        self.in_any_order = true;
        self
    }

    /// Whether the disk could not read a part of what was passed: that may be another time.
    pub fn unreadable(&self) -> bool {
        self.unreadable
    }

    /// The next record, or `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Found>> {
        while self.offset + HEADER as u64 <= self.end {
            self.want(HEADER)?;
            if let Some(found) = self.here()? {
                self.offset = found.end();
                if !self.in_any_order {
                    self.floor = found.header.position.plus(1);
                } else if found.payload.is_none() {
                    // Where a block was put over it, whole records may follow within.
                    self.offset = found.offset + HEADER as u64;
                }
                return Ok(Some(found));
            }
            self.skip();
        }
        Ok(None)
    }

    /// The record at `offset`, not before where the walk began, if one is there.
    pub fn at(&mut self, offset: u64) -> io::Result<Option<Found>> {
        self.offset = offset;
        if offset < self.chunk_at {
            (self.chunk, self.chunk_at) = (Bytes::new(), offset);
        }
        if offset + HEADER as u64 > self.end {
            return Ok(None);
        }
        self.want(HEADER)?;
        self.here()
    }

    fn here(&mut self) -> io::Result<Option<Found>> {
        let Some(header) = Header::parse(&self.key, self.view()) else { return Ok(None) };
        if header.position < self.floor || self.offset + header.span() > self.end {
            return Ok(None);
        }
        let length = HEADER + header.length as usize;
        self.want(length)?;
        let start = (self.offset - self.chunk_at) as usize;
        let payload = self.chunk.slice(start + HEADER..start + length);
        let intact = self.key.sum(&payload) == header.payload_sum;
        Ok(Some(Found { offset: self.offset, header, payload: intact.then_some(payload) }))
    }

    /// To the next place in the chunk where a header could be: never at eight zero bytes.
    fn skip(&mut self) {
        let words = self.view()[ALIGN as usize..].chunks_exact(ALIGN as usize);
        let zeros = words.take_while(|word| **word == [0; 8]).count() as u64;
        self.offset += ALIGN * (1 + zeros);
    }

    /// The chunk from the current offset on.
    fn view(&self) -> &[u8] {
        &self.chunk[(self.offset - self.chunk_at) as usize..]
    }

    /// Make the next `count` bytes part of the chunk.
    fn want(&mut self, count: usize) -> io::Result<()> {
        if self.offset + count as u64 <= self.chunk_at + self.chunk.len() as u64 {
            return Ok(());
        }
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let mut buffer = vec![0; count.max(self.chunk_size).min(left)];
        self.unreadable |= !read_what_can_be(&*self.file, self.offset, &mut buffer);
        self.chunk = buffer.into();
        self.chunk_at = self.offset;
        Ok(())
    }
}

/// Read, with unreadable blocks and what lies beyond the end as zeros: one bad sector must cost
/// its own records only. False if there was one.
pub(super) fn read_what_can_be(file: &dyn DiskFile, offset: u64, buffer: &mut [u8]) -> bool {
    if file.read_at(offset, buffer).is_ok() {
        return true;
    }
    let mut whole = true;
    for (nth, block) in buffer.chunks_mut(BLOCK as usize).enumerate() {
        if file.read_at(offset + nth as u64 * BLOCK, block).is_err() {
            block.fill(0);
            whole = false;
        }
    }
    whole
}
