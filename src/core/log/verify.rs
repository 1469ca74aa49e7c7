//! A whole log looked at from outside, every record of it: `siemgate log verify`.
//!
//! Guarantees: reads only; whatever keeps an event from being read is named by file, offset and
//! positions, and whatever is named is so. Positions that were lost and set aside before are told
//! as lost, not as damage. The log must not be in use: what is written or freed meanwhile would
//! look damaged. It repairs nothing (`repair.rs`).

use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use super::LogError;
use super::commit::SPARE;
use super::disk::{Disk, DiskFile, Lock};
use super::marks::{self, Found, Marks};
use super::recover::note_range;
use super::segment::{Head, HeadFound, VERSION, first_in_name};
use super::start::failed;
use super::survey::{Damage, Fault, Survey};
use crate::core::event::Position;

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Files with events.
    pub segments: usize,
    /// Readable events.
    pub events: u64,
    /// The oldest position that the log holds.
    pub oldest: Position,
    /// The position that the next event will get, as far as files and cursors prove it.
    pub head: Position,
    /// Everything that is not as it was written.
    pub damage: Vec<Damage>,
    /// Positions from `oldest` on that cannot be read, for good.
    pub lost: Vec<Range<Position>>,
    /// Bytes of writes that were under way when the gateway died; nobody was told they were stored.
    pub torn_bytes: u64,
    /// Files that were set aside before.
    pub aside: Vec<String>,
    /// Files that are not the log's.
    pub strangers: Vec<String>,
}

/// Keeps the log from being opened while it is looked at. A folder that nobody may write needs none.
pub fn quiet(disk: &dyn Disk) -> Result<Option<Box<dyn Lock>>, LogError> {
    match disk.lock_to_look() {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err(LogError::Locked(super::files::holder(disk, &error)))
        }
        Err(error) => Err(failed("lock", &disk.place())(error)),
    }
}

/// Whether the folder has ever held a log.
pub fn is_log(disk: &dyn Disk) -> bool {
    let names = disk.list().unwrap_or_default();
    names.iter().any(|name| name == marks::NAME || first_in_name(name).is_some())
}

/// Check every record of every file. Locks nothing: see `quiet`.
pub fn verify(disk: &dyn Disk) -> Result<Verdict, LogError> {
    Ok(look(disk)?.verdict)
}

/// One file of the log.
pub(super) struct Part {
    pub name: String,
    pub first: Position,
    /// `None` if the header is unreadable.
    pub survey: Option<(Survey, Arc<dyn DiskFile>)>,
}

/// A verdict with what it rests on.
pub(super) struct Looked {
    pub verdict: Verdict,
    pub parts: Vec<Part>,
    /// The highest generation in any header.
    pub generation: u32,
}

pub(super) fn look(disk: &dyn Disk) -> Result<Looked, LogError> {
    let mut names = disk.list().map_err(failed("list", &disk.place()))?;
    names.sort();
    let (marks, bad) = cursors(disk, &names)?;
    let mut looked = Looked {
        verdict: Verdict { damage: bad, ..Verdict::default() },
        parts: Vec::new(),
        generation: marks.generation,
    };
    let segments = looked.sort_out(names);
    let firsts: Vec<Position> = segments.iter().map(|(_, first)| *first).collect();
    for (nth, (name, first)) in segments.into_iter().enumerate() {
        let proven = firsts.get(nth + 1).copied().unwrap_or(marks.head);
        looked.look_at(disk, &name, first, proven, &marks)?;
    }
    looked.sum_up(&marks);
    Ok(looked)
}

/// The marks that a start would use, and which files of them are damaged.
fn cursors(disk: &dyn Disk, names: &[String]) -> Result<(Marks, Vec<Damage>), LogError> {
    let mut bad = Vec::new();
    for name in [marks::NAME, marks::OLD] {
        if let Found::Bad = marks::read(disk, name)? {
            let bytes = disk.open(name).and_then(|file| file.len()).unwrap_or(0);
            bad.push(whole(name, Fault::Cursors, bytes, Position(0)..Position(0)));
        }
    }
    let used = names.iter().any(|name| first_in_name(name).is_some());
    Ok((marks::load(disk, used)?.0, bad))
}

fn whole(name: &str, what: Fault, bytes: u64, positions: Range<Position>) -> Damage {
    Damage { file: name.to_owned(), what, offset: 0, bytes, positions }
}

impl Looked {
    /// The segments, in the order of their positions.
    fn sort_out(&mut self, names: Vec<String>) -> Vec<(String, Position)> {
        let mut segments = Vec::new();
        for name in names {
            match first_in_name(&name) {
                Some(_) if name.ends_with(".damaged") => self.verdict.aside.push(name),
                Some(first) => segments.push((name, first)),
                None if [SPARE, "lock"].contains(&&*name) => {}
                // Made anew when missing: nothing is lost with it.
                None if name
                    .strip_suffix(".index")
                    .is_some_and(|of| first_in_name(of).is_some()) => {}
                None if name.starts_with(marks::NAME) && !name.ends_with(".damaged") => {}
                None => self.verdict.strangers.push(name),
            }
        }
        segments
    }

    fn look_at(
        &mut self,
        disk: &dyn Disk,
        name: &str,
        first: Position,
        proven: Position,
        marks: &Marks,
    ) -> Result<(), LogError> {
        let opened = disk.open(name).and_then(|file| Ok((file.len()?, file)));
        let found = opened.map(|(len, file)| (Head::read(&*file), len, file));
        let (head, file) = match found {
            Ok((HeadFound::Newer(found), ..)) => {
                let file = format!("{}/{name}", disk.place());
                return Err(LogError::Newer { file, found, known: VERSION });
            }
            Ok((HeadFound::Good(head), _, file)) => (head, file),
            other => {
                let bytes = other.map_or(0, |(_, len, _)| len);
                let end = proven.max(first);
                self.verdict.damage.push(whole(name, Fault::Header, bytes, first..end));
                self.parts.push(Part { name: name.to_owned(), first, survey: None });
                return Ok(());
            }
        };
        self.generation = self.generation.max(head.key.generation);
        if head.first != first {
            // Its recycling was interrupted: its events were freed before, and a start removes it.
            return Ok(());
        }
        let known = self.set_aside_within(first..first.plus(1));
        let survey = Survey::of(name, &file, head, proven, known).map_err(failed("read", name))?;
        if survey.end > marks.oldest || survey.end == first {
            let survey = Some((survey, file));
            self.parts.push(Part { name: name.to_owned(), first, survey });
        }
        Ok(())
    }

    fn set_aside_within(&self, positions: Range<Position>) -> bool {
        let firsts = self.verdict.aside.iter().filter_map(|name| first_in_name(name));
        firsts.into_iter().any(|first| positions.contains(&first))
    }

    fn sum_up(&mut self, marks: &Marks) {
        let firsts = self.parts.iter().map(|part| part.first);
        let aside = self.verdict.aside.iter().filter_map(|name| first_in_name(name));
        let oldest = if marks.lost { firsts.chain(aside).min() } else { Some(marks.oldest) };
        let oldest = oldest.unwrap_or_default();
        let mut ends = Vec::new();
        let mut lost = Vec::new();
        for part in &self.parts {
            let end = part.survey.as_ref().map_or(part.first, |(survey, _)| survey.end);
            ends.push((part.first, end));
            let Some((survey, _)) = &part.survey else { continue };
            self.verdict.segments += usize::from(survey.end > part.first);
            self.verdict.events += survey.events;
            self.verdict.torn_bytes += survey.torn;
            self.verdict.damage.extend(survey.damage.iter().cloned());
            lost.extend(survey.lost.iter().map(|lost| lost.start.max(oldest)..lost.end));
        }
        lost.into_iter().for_each(|lost| self.lose(lost));
        let head = ends.iter().map(|(_, end)| *end).max().unwrap_or_default().max(marks.head);
        let mut at = oldest;
        for (first, end) in ends.into_iter().chain([(head, head)]) {
            self.missing(at..first);
            at = at.max(end);
        }
        (self.verdict.oldest, self.verdict.head) = (oldest, head);
        self.verdict.lost.sort_by_key(|range| range.start);
    }

    /// No file has these positions.
    fn missing(&mut self, positions: Range<Position>) {
        if positions.is_empty() {
            return;
        }
        let ruined = |damage: &Damage| {
            damage.what == Fault::Header && positions.contains(&damage.positions.start)
        };
        let told = self.verdict.damage.iter().any(ruined);
        if !told && !self.set_aside_within(positions.clone()) {
            let name = super::segment::name_of(positions.start);
            let damage = whole(&name, Fault::Missing, 0, positions.clone());
            self.verdict.damage.push(damage);
        }
        self.lose(positions);
    }

    fn lose(&mut self, positions: Range<Position>) {
        if !positions.is_empty() {
            note_range(&mut self.verdict.lost, positions);
        }
    }
}
