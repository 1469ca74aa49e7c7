//! Logs as one stream of bytes, to move a gateway to another machine: `siemgate log export` and
//! `import`.
//!
//! Guarantees: events keep their positions, ids, times, notes and bytes, and every delivery its
//! cursor, so that after an import nothing is delivered twice and nothing is left out. What is cut
//! short, damaged or of a later version is refused before anything is written; a folder that is not
//! empty is refused, too. An export reads only. The logs must not be in use.
//!
//! ```text
//! header   "SIEMPORT"  version u32  salt u64  crc u32
//! section  tag 4 bytes  length u32  crc u32  contents
//!   LOG.   JSON: { "name", "oldest", "next" }
//!   CURS   the file of cursors, as it is in a folder
//!   RECS   records as in a segment, with the header's salt and generation 1; as often as needed
//!   ENDL   JSON: { "events", "lost" }
//!   ENDS   no contents; the last
//! ```
//!
//! Numbers are little-endian; a section's checksum covers its number in the stream, its tag and its
//! contents, and is seeded with the salt, so that sections that are missing or swapped show.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::LogError;
use super::commit::secret_number;
use super::disk::{Disk, Lock};
use super::marks::{self, Found};
use super::record::{HEADER, Header, Key, decode, encode_again, u32_at, u64_at};
use super::rewrite::Rewrite;
use super::segment::{Head, HeadFound, aside_name, name_of};
use super::shadow::Shadow;
use super::shared::marks_of;
use super::start::{self, failed};
use super::survey::Survey;
use crate::core::Timestamp;
use crate::core::event::Position;

/// The format this code writes, and the newest it reads.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"SIEMPORT";
/// Bytes of records in a section, but for a single larger one.
const SECTION: usize = 1 << 20;
/// Bytes in a segment that an import writes.
const SEGMENT: u64 = 64 << 20;

const LOG: [u8; 4] = *b"LOG.";
const CURSORS: [u8; 4] = *b"CURS";
const RECORDS: [u8; 4] = *b"RECS";
const END_LOG: [u8; 4] = *b"ENDL";
const END: [u8; 4] = *b"ENDS";

/// One log in a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// `log`, `dead`, `quarantine` or the like.
    pub name: String,
    /// Events.
    pub events: u64,
    /// The oldest position.
    pub oldest: Position,
    /// The position that the next event will get.
    pub next: Position,
    /// Positions between the two that could not be read.
    pub lost: Vec<Range<Position>>,
}

/// Why a stream cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Something else.
    #[error("this is no export of siemgate")]
    Foreign,
    /// Of a later version.
    #[error(
        "the export has format {found}; this siemgate reads up to {known}: use a newer siemgate"
    )]
    Newer {
        /// Its format.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// It stops in the middle.
    #[error("the export ends too early, at byte {0}: it was not copied whole")]
    Cut(u64),
    /// It is not what was written.
    #[error("the export is damaged at byte {at}: {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// How that shows.
        what: &'static str,
    },
    /// The folder is in use already.
    #[error("{0} is not empty: an import fills a new log, and adds to none")]
    NotEmpty(String),
    /// Reading or writing the stream failed.
    #[error("the export: {0}")]
    Stream(#[from] io::Error),
    /// A log could not be read or written.
    #[error("{0}")]
    Log(#[from] LogError),
}

#[derive(Serialize, Deserialize)]
struct Opening {
    name: String,
    oldest: Position,
    next: Position,
}

#[derive(Serialize, Deserialize)]
struct Ending {
    events: u64,
    lost: Vec<Range<Position>>,
}

// ---- Writing ------------------------------------------------------------------------------------

/// Write `logs`, each with its name. Locks nothing: see `verify::quiet`.
pub fn export(
    logs: &[(String, Arc<dyn Disk>)],
    out: &mut dyn Write,
) -> Result<Vec<Carried>, StreamError> {
    let key = Key { generation: 1, salt: secret_number() };
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&key.salt.to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    out.write_all(&header)?;
    let mut sections = Sections { out, key, number: 0 };
    let mut carried = Vec::new();
    for (name, disk) in logs {
        carried.push(sections.log(name, disk.clone())?);
    }
    sections.put(END, &[])?;
    sections.out.flush()?;
    Ok(carried)
}

struct Sections<'a> {
    out: &'a mut dyn Write,
    key: Key,
    number: u64,
}

/// The checksum of a section.
fn sum(key: &Key, number: u64, tag: [u8; 4], contents: &[u8]) -> u32 {
    let mut head = number.to_le_bytes().to_vec();
    head.extend_from_slice(&tag);
    crc32c::crc32c_append(key.sum(&head), contents)
}

impl Sections<'_> {
    fn put(&mut self, tag: [u8; 4], contents: &[u8]) -> io::Result<()> {
        let length = u32::try_from(contents.len()).map_err(io::Error::other)?;
        self.out.write_all(&tag)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&sum(&self.key, self.number, tag, contents).to_le_bytes())?;
        self.number += 1;
        self.out.write_all(contents)
    }

    fn log(&mut self, name: &str, disk: Arc<dyn Disk>) -> Result<Carried, StreamError> {
        // Put in order as a start would, but in memory.
        let shadow = Shadow::over(disk.clone()).map_err(failed("list", &disk.place()))?;
        let opened = start::open(&shadow)?;
        let (book, next) = (opened.book, opened.head.next);
        let oldest = book.oldest;
        let opening = Opening { name: name.to_owned(), oldest, next };
        self.put(LOG, &written(&opening)?)?;
        let marks = marks_of(oldest, book.generation, &opened.cursors, || opened.head);
        self.put(CURSORS, &marks::written(&marks)?)?;
        let mut records = Records {
            sections: self,
            buffer: Vec::new(),
            next: oldest,
            events: 0,
            lost: Vec::new(),
        };
        for segment in &book.segments {
            records.segment(&shadow, &segment.name, segment.facts().end)?;
        }
        let (events, lost) = records.finish(next)?;
        self.put(END_LOG, &written(&Ending { events, lost: lost.clone() })?)?;
        Ok(Carried { name: name.to_owned(), events, oldest, next, lost })
    }
}

fn written(value: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(value)?)
}

/// Writes the records of a log.
struct Records<'a, 'o> {
    sections: &'a mut Sections<'o>,
    buffer: Vec<u8>,
    /// The position after the last record.
    next: Position,
    events: u64,
    lost: Vec<Range<Position>>,
}

impl Records<'_, '_> {
    fn segment(&mut self, disk: &Shadow, name: &str, end: Position) -> Result<(), StreamError> {
        let file = disk.open(name).map_err(failed("open", name))?;
        let HeadFound::Good(head) = Head::read(&*file) else { return Ok(()) };
        let survey = Survey::of(name, &file, head, end, true).map_err(failed("read", name))?;
        let each = survey.each(&file, |position, payload| self.record(position, payload));
        each.map_err(failed("read", name))?;
        Ok(())
    }

    fn record(&mut self, position: Position, payload: &[u8]) -> io::Result<()> {
        if position < self.next {
            // Freed already.
            return Ok(());
        }
        self.skip_to(position);
        self.next = position.plus(1);
        self.events += 1;
        let before = self.buffer.len();
        encode_again(&self.sections.key, position, payload, &mut self.buffer);
        if self.buffer.len() <= SECTION {
            return Ok(());
        }
        let last = self.buffer.split_off(before);
        self.write()?;
        self.buffer = last;
        Ok(())
    }

    fn skip_to(&mut self, position: Position) {
        if position > self.next {
            self.lost.push(self.next..position);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.sections.put(RECORDS, &self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn finish(mut self, next: Position) -> io::Result<(u64, Vec<Range<Position>>)> {
        self.skip_to(next);
        self.write()?;
        Ok((self.events, self.lost))
    }
}

// ---- Reading ------------------------------------------------------------------------------------

/// What is in a stream, after every byte of it was checked.
pub fn check(input: impl Read) -> Result<Vec<Carried>, StreamError> {
    read(input, &mut Nowhere)
}

/// Fill the logs that `disks` names from a stream that `check` found good; others are passed over.
/// After an error the folders are as they were, but for their lock files.
pub fn import(
    input: impl Read,
    disks: &BTreeMap<String, Arc<dyn Disk>>,
) -> Result<Vec<Carried>, StreamError> {
    for disk in disks.values() {
        if !disk.list().map_err(failed("list", &disk.place()))?.is_empty() {
            return Err(StreamError::NotEmpty(disk.place()));
        }
    }
    let mut fill = Fill { disks, logs: Vec::new(), wanted: false, generation: 0 };
    let carried = read(input, &mut fill).and_then(|carried| {
        fill.logs.iter().try_for_each(Filled::publish)?;
        Ok(carried)
    });
    if carried.is_err() {
        fill.logs.iter().for_each(Filled::discard);
    }
    Ok(carried?.into_iter().filter(|log| disks.contains_key(&log.name)).collect())
}

/// Takes what is read.
trait Take {
    fn log(&mut self, opening: &Opening, cursors: &[u8]) -> Result<(), StreamError>;
    fn record(&mut self, position: Position, payload: &[u8]) -> Result<(), StreamError>;
    fn end(&mut self, opening: &Opening) -> Result<(), StreamError>;
}

struct Nowhere;

impl Take for Nowhere {
    fn log(&mut self, _: &Opening, _: &[u8]) -> Result<(), StreamError> {
        Ok(())
    }
    fn record(&mut self, _: Position, _: &[u8]) -> Result<(), StreamError> {
        Ok(())
    }
    fn end(&mut self, _: &Opening) -> Result<(), StreamError> {
        Ok(())
    }
}

fn read(input: impl Read, take: &mut dyn Take) -> Result<Vec<Carried>, StreamError> {
    let mut stream =
        Stream { input, key: Key { generation: 1, salt: 0 }, number: 0, at: 0, began: 0 };
    stream.header()?;
    let mut carried: Vec<Carried> = Vec::new();
    loop {
        let (tag, contents) = stream.section()?;
        match tag {
            LOG => {
                let log = stream.log(&contents, take)?;
                if carried.iter().any(|known| known.name == log.name) {
                    return Err(stream.damaged("a log comes twice"));
                }
                carried.push(log);
            }
            END if stream.at_end()? => return Ok(carried),
            END => return Err(stream.damaged("something follows its end")),
            _ => return Err(stream.damaged("a section is out of place")),
        }
    }
}

struct Stream<R> {
    input: R,
    key: Key,
    number: u64,
    at: u64,
    /// Where the section begins that was read last.
    began: u64,
}

impl<R: Read> Stream<R> {
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, StreamError> {
        let mut bytes = Vec::new();
        // Grows with what is there, whatever a damaged length says.
        self.input.by_ref().take(count).read_to_end(&mut bytes)?;
        self.at += bytes.len() as u64;
        if bytes.len() as u64 == count { Ok(bytes) } else { Err(StreamError::Cut(self.at)) }
    }

    fn at_end(&mut self) -> Result<bool, StreamError> {
        let mut one = [0];
        Ok(self.input.read(&mut one)? == 0)
    }

    fn damaged(&self, what: &'static str) -> StreamError {
        StreamError::Damaged { at: self.began, what }
    }

    fn header(&mut self) -> Result<(), StreamError> {
        let header = match self.bytes(24) {
            Err(StreamError::Cut(_)) => return Err(StreamError::Foreign),
            header => header?,
        };
        if !header.starts_with(MAGIC) {
            return Err(StreamError::Foreign);
        }
        if u32_at(&header, 20) != Some(crc32c::crc32c(&header[..20])) {
            return Err(self.damaged("its header does not fit its checksum"));
        }
        let found = u32_at(&header, 8).unwrap_or_default();
        if found > VERSION {
            return Err(StreamError::Newer { found, known: VERSION });
        }
        self.key.salt = u64_at(&header, 12).unwrap_or_default();
        Ok(())
    }

    fn section(&mut self) -> Result<([u8; 4], Bytes), StreamError> {
        self.began = self.at;
        let head = self.bytes(12)?;
        let mut tag = [0; 4];
        tag.copy_from_slice(&head[..4]);
        let length = u32_at(&head, 4).unwrap_or_default();
        let contents = self.bytes(length.into())?;
        if u32_at(&head, 8) != Some(sum(&self.key, self.number, tag, &contents)) {
            return Err(self.damaged("a section does not fit its checksum"));
        }
        self.number += 1;
        Ok((tag, contents.into()))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, contents: &[u8]) -> Result<T, StreamError> {
        serde_json::from_slice(contents).map_err(|_| self.damaged("a section cannot be read"))
    }

    fn log(&mut self, contents: &[u8], take: &mut dyn Take) -> Result<Carried, StreamError> {
        let opening: Opening = self.json(contents)?;
        if !is_name(&opening.name) || opening.oldest > opening.next {
            return Err(self.damaged("a section cannot be read"));
        }
        let (tag, cursors) = self.section()?;
        let Found::Good(_) = marks::parse(&cursors, "cursors")? else {
            return Err(self.damaged("the cursors cannot be read"));
        };
        if tag != CURSORS {
            return Err(self.damaged("a section is out of place"));
        }
        take.log(&opening, &cursors)?;
        let (mut next, mut events) = (opening.oldest, 0);
        loop {
            let (tag, contents) = self.section()?;
            match tag {
                RECORDS => {
                    events += self.records(&contents, &mut next, opening.next, take)?;
                }
                END_LOG => {
                    let ending: Ending = self.json(&contents)?;
                    if ending.events != events {
                        return Err(self.damaged("events are missing"));
                    }
                    take.end(&opening)?;
                    let Opening { name, oldest, next } = opening;
                    return Ok(Carried { name, events, oldest, next, lost: ending.lost });
                }
                _ => return Err(self.damaged("a section is out of place")),
            }
        }
    }

    fn records(
        &self,
        contents: &Bytes,
        next: &mut Position,
        end: Position,
        take: &mut dyn Take,
    ) -> Result<u64, StreamError> {
        let (mut at, mut events) = (0, 0);
        while at < contents.len() {
            let bad = || self.damaged("a record cannot be read");
            let header = Header::parse(&self.key, &contents[at..]).ok_or_else(bad)?;
            let (from, length) = (at + HEADER, header.length as usize);
            if contents.len() - from < length {
                return Err(bad());
            }
            let payload = contents.slice(from..from + length);
            let position = header.position;
            let sound = self.key.sum(&payload) == header.payload_sum
                && decode(position, &payload).is_some();
            if !sound || position < *next || position >= end {
                return Err(bad());
            }
            take.record(position, &payload)?;
            *next = position.plus(1);
            events += 1;
            at += header.span() as usize;
        }
        Ok(events)
    }
}

/// A folder's name, and nothing that leads elsewhere.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    !name.is_empty() && name.len() <= 64 && name.chars().all(allowed)
}

/// Fills folders.
struct Fill<'a> {
    disks: &'a BTreeMap<String, Arc<dyn Disk>>,
    logs: Vec<Filled>,
    /// The log that is being read is one of them.
    wanted: bool,
    generation: u32,
}

/// One folder. All files have other names until everything is there.
struct Filled {
    disk: Arc<dyn Disk>,
    _lock: Box<dyn Lock>,
    /// The segment being written, and its name.
    segment: Option<(Rewrite, String)>,
    /// Positions are missing in it.
    gap: bool,
    next: Position,
    /// Names that the files will have, in the order of their appearance: cursors last.
    files: Vec<String>,
}

fn half(name: &str) -> String {
    format!("{name}.importing")
}

impl Filled {
    /// Begin another segment at `first`.
    fn begin(&mut self, first: Position, generation: u32) -> io::Result<()> {
        self.finish(first)?;
        let name = name_of(first);
        let now = Timestamp::now();
        self.add(name.clone());
        let segment = Rewrite::begin(&*self.disk, &half(&name), first, generation, now)?;
        self.segment = Some((segment, name));
        self.next = first;
        Ok(())
    }

    /// The segment ends before `end`.
    fn finish(&mut self, end: Position) -> io::Result<()> {
        self.gap |= end > self.next;
        let gap = std::mem::take(&mut self.gap);
        let name = match self.segment.take() {
            Some((segment, name)) => {
                segment.finish(end)?;
                name
            }
            None => name_of(self.next),
        };
        if gap {
            // An empty file beside it says that positions are known to be lost.
            let aside = aside_name(&name, |_| false);
            self.add(aside.clone());
            self.put(&aside, &[])?;
        }
        Ok(())
    }

    fn record(&mut self, position: Position, payload: &[u8]) -> io::Result<()> {
        self.gap |= position > self.next;
        self.next = position.plus(1);
        self.segment.as_mut().map_or(Ok(()), |(segment, _)| segment.add(position, payload))
    }

    fn is_full(&self) -> bool {
        self.segment.as_ref().is_none_or(|(segment, _)| segment.bytes() >= SEGMENT)
    }

    fn add(&mut self, name: String) {
        self.files.insert(self.files.len() - 1, name);
    }

    /// Under its own name everything counts.
    fn publish(&self) -> Result<(), StreamError> {
        let Some((cursors, segments)) = self.files.split_last() else { return Ok(()) };
        let disk = &self.disk;
        let named = |name: &String| disk.rename(&half(name), name);
        let done = segments
            .iter()
            .try_for_each(named)
            .and_then(|()| disk.sync_dir())
            .and_then(|()| named(cursors))
            .and_then(|()| disk.sync_dir());
        Ok(done.map_err(failed("finish", &disk.place()))?)
    }

    fn discard(&self) {
        for name in &self.files {
            for name in [half(name), name.clone()] {
                // What is not there was not written yet.
                let _ = self.disk.remove(&name);
            }
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.disk.create(&half(name), 0)?;
        file.write_at(0, bytes)?;
        file.sync()
    }
}

impl Fill<'_> {
    fn filled(
        &mut self,
        doing: impl FnOnce(&mut Filled, &mut u32) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let generation = &mut self.generation;
        let Some(log) = self.logs.last_mut().filter(|_| self.wanted) else { return Ok(()) };
        let place = log.disk.place();
        Ok(doing(log, generation).map_err(failed("write to", &place))?)
    }
}

impl Take for Fill<'_> {
    fn log(&mut self, opening: &Opening, cursors: &[u8]) -> Result<(), StreamError> {
        self.wanted = false;
        let Some(disk) = self.disks.get(&opening.name) else { return Ok(()) };
        self.wanted = true;
        let filled = Filled {
            _lock: super::files::lock(&**disk)?,
            disk: disk.clone(),
            segment: None,
            gap: false,
            next: opening.oldest,
            files: vec![marks::NAME.to_owned()],
        };
        self.logs.push(filled);
        self.filled(|log, _| log.put(marks::NAME, cursors))
    }

    fn record(&mut self, position: Position, payload: &[u8]) -> Result<(), StreamError> {
        self.filled(|log, generation| {
            if log.is_full() {
                *generation += 1;
                // The first one begins with the log, also if its first events are lost.
                let first = if log.segment.is_none() { log.next } else { position };
                log.begin(first, *generation)?;
            }
            log.record(position, payload)
        })
    }

    fn end(&mut self, opening: &Opening) -> Result<(), StreamError> {
        self.filled(|log, _| log.finish(opening.next))
    }
}
