//! A quick look at a log folder from outside: `siemgate log inspect`.
//!
//! Guarantees: reads only, takes no lock, changes nothing; works beside a running gateway, whose
//! newest group may then show as unfinished. Sealed segments are believed: `verify.rs` reads them.

use std::ops::Range;

use serde::Serialize;

use super::LogError;
use super::disk::Disk;
use super::recover::scan;
use super::segment::{Facts, Head, HeadFound, first_in_name};
use super::start::failed;
use crate::core::Timestamp;
use crate::core::event::Position;

/// One file of the log.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentReport {
    /// Name in the folder.
    pub file: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// What its header says; `None` if both copies are damaged.
    pub header: Option<HeaderReport>,
    /// What it holds; `None` if that cannot be told.
    pub contents: Option<ContentsReport>,
}

/// A segment's header.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HeaderReport {
    /// Never used twice in a folder.
    pub generation: u32,
    /// The position of its first event.
    pub first: Position,
    /// When it was begun.
    pub created: Timestamp,
}

/// A segment's records.
#[derive(Clone, Debug, Serialize)]
pub struct ContentsReport {
    /// Whether it was closed with a footer.
    pub sealed: bool,
    /// One past the last position.
    pub end: Position,
    /// Readable events.
    pub events: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes known to be damaged.
    pub damaged_bytes: u64,
    /// Bytes of an unfinished last write.
    pub torn_bytes: u64,
    /// Damaged positions; in sealed segments they are not looked for.
    pub damaged: Vec<Range<Position>>,
}

/// The files of the log by their headers and footers; only unsealed ones are read whole.
pub fn inspect(disk: &dyn Disk) -> Result<Vec<SegmentReport>, LogError> {
    let mut names = disk.list().map_err(failed("list", &disk.place()))?;
    names.retain(|name| first_in_name(name).is_some());
    names.sort();
    names.iter().map(|name| look_at(disk, name)).collect()
}

fn look_at(disk: &dyn Disk, name: &str) -> Result<SegmentReport, LogError> {
    let file = disk.open(name).map_err(failed("open", name))?;
    let bytes = file.len().map_err(failed("open", name))?;
    let mut report = SegmentReport { file: name.to_owned(), bytes, header: None, contents: None };
    let HeadFound::Good(head) = Head::read(&*file) else { return Ok(report) };
    let Head { key, first, created, .. } = head;
    report.header = Some(HeaderReport { generation: key.generation, first, created });
    report.contents = Some(match Facts::read_footer(&*file, bytes, &key) {
        Some(facts) => contents(true, &facts, 0, Vec::new()),
        None => {
            let found = scan(&file, key, first, bytes, Position(0));
            let found = found.map_err(failed("read", name))?;
            contents(false, &found.facts, found.torn, found.damaged)
        }
    });
    Ok(report)
}

fn contents(
    sealed: bool,
    facts: &Facts,
    torn: u64,
    damaged: Vec<Range<Position>>,
) -> ContentsReport {
    ContentsReport {
        sealed,
        end: facts.end,
        events: facts.count,
        used: facts.used,
        damaged_bytes: facts.damaged,
        torn_bytes: torn,
        damaged,
    }
}
