//! One record: an event as bytes in a segment.
//!
//! Guarantees: a record that parses is exactly what was written for this position in this segment.
//! Header and payload have their own checksums, so a damaged payload still tells its position and
//! length. Both are seeded with the segment's generation and its secret salt: leftovers of a
//! recycled file never parse, nor does a forged record that a sender hides in a body.
//! It does not know where in a file it lies.
//!
//! ```text
//!  0 header crc u32 (over 4..32)   4 payload crc u32   8 payload length u32   12 generation u32
//! 16 position u64                 24 group u32        28 index u16           30 count u16
//! 32 payload: id 16, received i64 us, flags u8, [key 16], source len u16 + bytes,
//!    note len u32 + bytes, body; padded with zeros to 8 bytes
//! ```

use std::sync::Arc;

use bytes::Bytes;

use crate::core::Timestamp;
use crate::core::event::{Draft, Event, EventId, Position};
use crate::core::finding::Severity;

/// Bytes before the payload.
pub(super) const HEADER: usize = 32;
/// Records start at multiples of this.
pub(super) const ALIGN: u64 = 8;
/// The smallest payload: id, received, flags, two lengths.
const LEAST: usize = 16 + 8 + 1 + 2 + 4;

const HAS_KEY: u8 = 1;
const URGENT: u8 = 2;

/// What makes a record belong to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub generation: u32,
    pub salt: u64,
}

impl Key {
    /// A checksum that only this generation of this file gives.
    pub fn sum(&self, bytes: &[u8]) -> u32 {
        let seed = crc32c::crc32c(&self.salt.to_le_bytes());
        let seed = crc32c::crc32c_append(seed, &self.generation.to_le_bytes());
        crc32c::crc32c_append(seed, bytes)
    }
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub position: Position,
    pub group: u32,
    pub index: u16,
    pub count: u16,
    /// Bytes of payload.
    pub length: u32,
    pub payload_sum: u32,
}

impl Header {
    /// Bytes from this record's start to the next one's.
    pub fn span(&self) -> u64 {
        (HEADER as u64 + u64::from(self.length)).next_multiple_of(ALIGN)
    }

    /// Read the first 32 bytes of a record; `None` unless they were written for `key`.
    pub fn parse(key: &Key, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER)?;
        // The cheap test first: resynchronising asks this at every eighth byte.
        if u32_at(bytes, 12)? != key.generation || u32_at(bytes, 0)? != key.sum(&bytes[4..]) {
            return None;
        }
        Some(Self {
            payload_sum: u32_at(bytes, 4)?,
            length: u32_at(bytes, 8)?,
            position: Position(u64_at(bytes, 16)?),
            group: u32_at(bytes, 24)?,
            index: u16_at(bytes, 28)?,
            count: u16_at(bytes, 30)?,
        })
    }

    fn write(&self, key: &Key, out: &mut [u8]) {
        out[4..8].copy_from_slice(&self.payload_sum.to_le_bytes());
        out[8..12].copy_from_slice(&self.length.to_le_bytes());
        out[12..16].copy_from_slice(&key.generation.to_le_bytes());
        out[16..24].copy_from_slice(&self.position.0.to_le_bytes());
        out[24..28].copy_from_slice(&self.group.to_le_bytes());
        out[28..30].copy_from_slice(&self.index.to_le_bytes());
        out[30..32].copy_from_slice(&self.count.to_le_bytes());
        let sum = key.sum(&out[4..HEADER]);
        out[..4].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Bytes that `draft` takes in a segment, padding included.
pub(super) fn span_of(draft: &Draft) -> u64 {
    let key = if draft.key.is_some() { 16 } else { 0 };
    let length = LEAST + key + draft.source.len() + draft.note.len() + draft.body.len();
    (HEADER as u64 + length as u64).next_multiple_of(ALIGN)
}

/// Whether followers are told at once.
pub(super) fn is_urgent(draft: &Draft) -> bool {
    draft.finding().severity == Severity::Critical
}

/// Append `event` to `out`, which must end at a multiple of 8.
pub(super) fn encode(
    key: &Key,
    event: &Event,
    group: u32,
    index: u16,
    count: u16,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.resize(start + HEADER, 0);
    out.extend_from_slice(event.id.as_bytes());
    out.extend_from_slice(&event.received.as_microsecond().to_le_bytes());
    let has_key = if event.key.is_some() { HAS_KEY } else { 0 };
    out.push(has_key | if is_urgent(event) { URGENT } else { 0 });
    if let Some(key) = &event.key {
        out.extend_from_slice(key);
    }
    out.extend_from_slice(&(event.source.len() as u16).to_le_bytes());
    out.extend_from_slice(event.source.as_bytes());
    out.extend_from_slice(&(event.note.len() as u32).to_le_bytes());
    out.extend_from_slice(&event.note);
    out.extend_from_slice(&event.body);
    let (head, payload) = out[start..].split_at_mut(HEADER);
    let header = Header {
        position: event.position,
        group,
        index,
        count,
        length: payload.len() as u32,
        payload_sum: key.sum(payload),
    };
    header.write(key, head);
    out.resize(start + header.span() as usize, 0);
}

/// Append a record with a payload that was verified before, in a request of its own.
pub(super) fn encode_again(key: &Key, position: Position, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let payload_sum = key.sum(payload);
    let length = payload.len() as u32;
    let header = Header { position, group: 0, index: 0, count: 1, length, payload_sum };
    out.resize(start + HEADER, 0);
    header.write(key, &mut out[start..]);
    out.extend_from_slice(payload);
    out.resize(start + header.span() as usize, 0);
}

/// What the scan needs of a payload without building the event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glance {
    pub id_ms: u64,
    pub received_us: i64,
    pub urgent: bool,
}

/// The facts of a verified payload.
pub(super) fn glance(payload: &[u8]) -> Option<Glance> {
    let id = EventId::from_bytes(payload.get(..16)?.try_into().ok()?);
    let flags = *payload.get(24)?;
    Some(Glance {
        id_ms: id.unix_ms(),
        received_us: i64::from_le_bytes(payload.get(16..24)?.try_into().ok()?),
        urgent: flags & URGENT != 0,
    })
}

/// The event of a verified payload; note and body share its memory.
pub(super) fn decode(position: Position, payload: &Bytes) -> Option<Event> {
    let facts = glance(payload)?;
    let id = EventId::from_bytes(payload.get(..16)?.try_into().ok()?);
    let received = Timestamp::from_microsecond(facts.received_us).ok()?;
    let mut rest = payload.slice(25..);
    let key = match payload[24] & HAS_KEY {
        0 => None,
        _ => Some(take(&mut rest, 16)?.as_ref().try_into().ok()?),
    };
    let source_len = u16_at(&take(&mut rest, 2)?, 0)?;
    let source = take(&mut rest, source_len.into())?;
    let note_len = u32_at(&take(&mut rest, 4)?, 0)?;
    let note = take(&mut rest, note_len as usize)?;
    let source = Arc::from(std::str::from_utf8(&source).ok()?);
    let mut draft = Draft::new(id, received, source, rest);
    draft.key = key;
    // An empty slice would keep the whole page in memory.
    draft.note = if note.is_empty() { Bytes::new() } else { note };
    Some(Event { position, draft })
}

fn take(rest: &mut Bytes, count: usize) -> Option<Bytes> {
    (count <= rest.len()).then(|| rest.split_to(count))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
