//! Fuzzing the log on disk: records, and folders that a power cut or a bad disk left. No part of the
//! program.
#![allow(clippy::unwrap_used, reason = "a failure is what targets are for")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::LogError;
use super::disk::Disk;
use super::record::{HEADER, Header, Key, decode, encode};
use super::segment::{BLOCK, Head, name_of};
use super::sim::SimDisk;
use super::start;
use super::walk::Walk;
use crate::core::Timestamp;
use crate::core::event::{Draft, Event, EventId, Position};
use crate::core::fuzz::Input;

/// No input knows it, as no sender does.
const KEY: Key = Key { generation: 3, salt: 0x5fd0_93c1_77aa_e2b9 };
/// A segment here never gets longer.
const LONGEST: usize = 256 << 10;

/// What is written is read back as it was; with any bit changed it is not believed; any bytes that
/// are believed have the checksums of this segment.
pub(crate) fn record(data: &[u8]) {
    let mut input = Input(data);
    let position = Position(input.long());
    let (group, index, count) = (input.long() as u32, input.short() as u16, input.short() as u16);
    let flip = input.short();
    let written = event(&mut input, position);
    let mut bytes = Vec::new();
    encode(&KEY, &written, group, index, count, &mut bytes);
    assert!(bytes.len().is_multiple_of(8));
    let (header, read) = parsed(&bytes).unwrap();
    assert_eq!((header.group, header.index, header.count), (group, index, count));
    assert!(same(&read, &written) && header.span() == bytes.len() as u64);
    let used = HEADER + header.length as usize;
    let at = flip % (8 * used);
    bytes[at / 8] ^= 1 << (at % 8);
    assert!(parsed(&bytes).is_none(), "a flipped bit is believed");
    assert!(parsed(data).is_none(), "bytes that nobody wrote are believed");
    // What the checksums stand before must hold by itself, too.
    let _ = decode(position, &Bytes::copy_from_slice(data));
}

fn parsed(bytes: &[u8]) -> Option<(Header, Event)> {
    let header = Header::parse(&KEY, bytes)?;
    let payload = bytes.get(HEADER..HEADER + header.length as usize)?;
    (KEY.sum(payload) == header.payload_sum).then_some(())?;
    Some((header, decode(header.position, &Bytes::copy_from_slice(payload))?))
}

fn event(input: &mut Input<'_>, position: Position) -> Event {
    let flags = input.byte();
    let id = EventId::from_bytes(std::array::from_fn(|_| input.byte()));
    let ms = (input.long() % 200_000_000_000_000).cast_signed() / 1_000;
    let received = Timestamp::from_millisecond(ms).unwrap();
    let (source, note) = (usize::from(input.byte()), usize::from(input.byte()));
    let source = String::from_utf8_lossy(input.take(source)).into_owned();
    let note = Bytes::copy_from_slice(input.take(note));
    let body = input.short() % 1_024;
    let body = Bytes::copy_from_slice(input.take(body));
    let mut draft = Draft::new(id, received, source.into(), body);
    (draft.note, draft.key) = (note, (flags & 1 == 1).then_some([flags; 16]));
    Event { position, draft }
}

fn same(one: &Event, other: &Event) -> bool {
    let facts = |it: &Event| {
        (
            it.position,
            it.id,
            it.received,
            it.source.clone(),
            it.key,
            it.note.clone(),
            it.body.clone(),
        )
    };
    facts(one) == facts(other)
}

/// A segment under the hands of an input: what was written to it, and what happened to it then.
struct Story {
    file: Vec<u8>,
    written: Vec<Event>,
    group: u32,
    /// Nothing but whole groups of requests of one event, as the writer makes them.
    orderly: bool,
}

impl Story {
    fn begin(first: Position) -> Self {
        let created = Timestamp::from_second(1_767_578_584).unwrap();
        let head = Head { key: KEY, first, created, size: LONGEST as u64 };
        Self { file: head.block(), written: Vec::new(), group: 0, orderly: true }
    }

    fn next(&self, first: Position) -> Position {
        self.written.last().map_or(first, |event| event.position.plus(1))
    }

    /// One thing that happens.
    fn go_on(&mut self, input: &mut Input<'_>, first: Position) {
        let op = input.byte();
        let at = (input.short() * 8) % self.file.len();
        let end = (at + 8 * usize::from(input.byte())).min(self.file.len());
        self.orderly &= op % 8 < 2;
        match op % 8 {
            0 => self.write(input, first, (0, 1)),
            1 => {
                self.file.resize(self.file.len().next_multiple_of(BLOCK as usize), 0);
                self.group = self.group.wrapping_add(1);
            }
            2 => {
                let request = (u16::from(input.byte() % 4), u16::from(input.byte() % 4));
                self.write(input, first, request);
            }
            3 => self.file[at] ^= 1 << (op / 8 % 8),
            4 => self.file[at..end].fill(op),
            5 => self.file.extend_from_within(at..end),
            6 => self.file.truncate(at),
            _ => self.file.extend_from_slice(input.take(end - at)),
        }
        self.file.resize(self.file.len().next_multiple_of(8).max(8), 0);
    }

    fn write(&mut self, input: &mut Input<'_>, first: Position, (index, count): (u16, u16)) {
        let event = event(input, self.next(first));
        encode(&KEY, &event, self.group, index, count, &mut self.file);
        self.written.push(event);
    }
}

/// Whatever happened to a segment and to the file of cursors, the folder opens; every event in it is
/// one that was written, in order; where nothing happened, every one is there; and no position that
/// was given comes again.
pub(crate) fn segment(data: &[u8]) {
    let mut input = Input(data);
    let seed = input.byte();
    // Mostly usual positions, now and then one at the end of all numbers.
    let first = Position(if seed == 255 { input.long() } else { u64::from(seed) });
    let cursors = usize::from(input.byte());
    let cursors = input.take(cursors % 64).to_vec();
    let mut story = Story::begin(first);
    while !input.0.is_empty() && story.file.len() < LONGEST && first.0 < u64::MAX - 4_096 {
        story.go_on(&mut input, first);
    }
    let mut files = BTreeMap::from([(name_of(first), story.file.clone())]);
    if !cursors.is_empty() {
        files.insert("cursors".to_owned(), cursors);
    }
    let disk = SimDisk::with_files(&files);
    let opened = match start::open(&disk) {
        Ok(opened) => opened,
        Err(LogError::Newer { .. }) => return,
        Err(error) => panic!("damage keeps the log from opening: {error}"),
    };
    let mut read = 0;
    let mut floor = Position(0);
    for segment in &opened.book.segments {
        let file = segment.open(&disk).unwrap();
        let len = disk.open(&segment.name).unwrap().len().unwrap();
        let mut walk =
            Walk::new(Arc::clone(&file), segment.key, BLOCK..len, segment.first, 1 << 16);
        while let Some(found) = walk.next().unwrap() {
            let Some(payload) = &found.payload else { continue };
            let event = decode(found.header.position, payload).unwrap();
            assert!(story.written.iter().any(|it| same(it, &event)), "nobody wrote this event");
            assert!(event.position >= floor && event.position < opened.head.next);
            floor = event.position.plus(1);
            read += 1;
        }
    }
    assert!(!story.orderly || read == story.written.len(), "{read} of {}", story.written.len());
}
