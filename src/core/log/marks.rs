//! The `cursors` file: every delivery's cursor and the log's own marks, in one write.
//!
//! Guarantees: the file is replaced whole (written beside, synced, renamed, folder synced) and
//! the one before is kept as `cursors.old`; a damaged one falls back to it. When both are lost
//! every delivery begins at the oldest event: twice rather than never. It does not decide when
//! to write (`files.rs`).

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::LogError;
use super::cursor::Stored;
use super::disk::Disk;
use crate::core::Timestamp;
use crate::core::event::Position;

pub(super) const NAME: &str = "cursors";
pub(super) const OLD: &str = "cursors.old";
const NEW: &str = "cursors.new";
/// The format this code writes, and the newest it reads.
const VERSION: u32 = 1;

/// All that is in the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Marks {
    pub version: u32,
    /// Everything below was committed: proof against a torn end, and never given again.
    pub head: Position,
    pub urgent: Position,
    /// Everything below was freed by retention.
    pub oldest: Position,
    /// The highest generation given to a segment.
    pub generation: u32,
    /// When the log's disk failed, if it did in this run and could still store that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Timestamp>,
    /// Cursors were lost: unknown deliveries begin at the oldest event.
    pub lost: bool,
    pub deliveries: BTreeMap<String, Stored>,
}

/// Where the cursors came from at a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CursorsFound {
    /// A new log: there were none.
    #[default]
    New,
    /// The current file.
    Current,
    /// `cursors` was missing, as after a crash while it was replaced; the one before is exact.
    Previous,
    /// `cursors` was damaged; the one before was used, so some events are delivered twice.
    PreviousForDamaged,
    /// All were lost: every delivery begins at the oldest event.
    Lost,
}

/// The file's contents.
pub(super) fn written(marks: &Marks) -> io::Result<Vec<u8>> {
    let marks = Marks { version: VERSION, ..marks.clone() };
    let mut text = serde_json::to_vec(&marks)?;
    let sum = crc32c::crc32c(&text);
    text.extend_from_slice(format!("\n{sum:08x}\n").as_bytes());
    Ok(text)
}

/// Write `marks` so that either these or the ones before survive anything.
pub(super) fn save(disk: &dyn Disk, marks: &Marks) -> io::Result<()> {
    let file = disk.create(NEW, 0)?;
    file.write_at(0, &written(marks)?)?;
    file.sync()?;
    match disk.rename(NAME, OLD) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    disk.rename(NEW, NAME)?;
    disk.sync_dir()
}

/// Read the best file there is. `used` says whether the log has ever held anything.
pub(super) fn load(disk: &dyn Disk, used: bool) -> Result<(Marks, CursorsFound), LogError> {
    match (read(disk, NAME)?, read(disk, OLD)?) {
        (Found::Good(marks), _) => Ok((*marks, CursorsFound::Current)),
        (Found::Missing, Found::Good(marks)) => Ok((*marks, CursorsFound::Previous)),
        (Found::Bad, Found::Good(marks)) => Ok((*marks, CursorsFound::PreviousForDamaged)),
        (Found::Missing, Found::Missing) if !used => Ok((Marks::default(), CursorsFound::New)),
        _ => Ok((Marks { lost: true, ..Marks::default() }, CursorsFound::Lost)),
    }
}

/// How a cursors file reads.
pub(super) enum Found {
    Missing,
    Bad,
    Good(Box<Marks>),
}

pub(super) fn read(disk: &dyn Disk, name: &str) -> Result<Found, LogError> {
    let text = match read_all(disk, name) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        // Unreadable is as bad as damaged: the start must not fail for it.
        Err(_) => return Ok(Found::Bad),
    };
    parse(&text, name)
}

/// What contents called `name` say.
pub(super) fn parse(text: &[u8], name: &str) -> Result<Found, LogError> {
    let Some(json) = verified(text) else { return Ok(Found::Bad) };
    match serde_json::from_slice::<Marks>(json) {
        Ok(marks) if marks.version <= VERSION => Ok(Found::Good(Box::new(marks))),
        _ => newer(json, name),
    }
}

/// An intact file that does not read: a later version's, or nothing we know.
fn newer(json: &[u8], name: &str) -> Result<Found, LogError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    match serde_json::from_slice::<Version>(json) {
        Ok(Version { version: found }) if found > VERSION => {
            Err(LogError::Newer { file: name.to_owned(), found, known: VERSION })
        }
        _ => Ok(Found::Bad),
    }
}

fn read_all(disk: &dyn Disk, name: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(name)?;
    let mut text = vec![0; usize::try_from(file.len()?).unwrap_or(0)];
    let count = file.read_at(0, &mut text)?;
    text.truncate(count);
    Ok(text)
}

fn verified(text: &[u8]) -> Option<&[u8]> {
    let (json, sum) = text.split_at_checked(text.len().checked_sub(10)?)?;
    let expected = format!("\n{:08x}\n", crc32c::crc32c(json));
    (sum == expected.as_bytes()).then_some(json)
}
