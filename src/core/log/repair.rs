//! Putting a damaged log in order: `siemgate log repair`.
//!
//! Guarantees: nothing is deleted, what is bad stays in the folder as `*.damaged`; every intact
//! record is readable afterwards, at its position; a file is replaced in one step, so that a crash
//! at any moment leaves the log as it was or as it will be, and another repair ends the work. What
//! is lost stays lost, and is counted as damaged for the sinks that have not had it. A start repairs
//! what it must by itself; this one also saves records in the wrong place, and says what it does.

use std::ops::Range;

use serde::Serialize;

use super::LogError;
use super::disk::Disk;
use super::rewrite::Rewrite;
use super::segment::{aside_name, first_in_name};
use super::start::failed;
use super::survey::Survey;
use super::verify::{Part, Verdict, look};
use crate::core::event::Position;

/// The name of a segment that is being written.
const HALF: &str = "repairing";

/// What is to be done, or was done, with one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The file.
    pub file: String,
    /// What it is kept as.
    pub aside: String,
    /// Events that its replacement has.
    pub events: u64,
    /// Positions that are lost with it.
    pub lost: Vec<Range<Position>>,
}

/// The state of a log, and what would mend it.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// What is the matter.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What to do.
    pub steps: Vec<Step>,
}

/// What a repair would do. Changes nothing, and locks nothing: see `verify::quiet`.
pub fn plan(disk: &dyn Disk) -> Result<Plan, LogError> {
    Ok(planned(disk)?.0)
}

/// Do it. Takes the lock.
pub fn repair(disk: &dyn Disk) -> Result<Plan, LogError> {
    let _lock = super::files::lock(disk)?;
    let (plan, parts, mut generation) = planned(disk)?;
    for step in &plan.steps {
        let part = parts.iter().find(|part| part.name == step.file);
        generation += 1;
        carry_out(disk, step, part, generation)?;
    }
    disk.sync_dir().map_err(failed("sync", &disk.place()))?;
    Ok(plan)
}

fn planned(disk: &dyn Disk) -> Result<(Plan, Vec<Part>, u32), LogError> {
    let looked = look(disk)?;
    let names = disk.list().map_err(failed("list", &disk.place()))?;
    let mut files: Vec<&str> = looked.verdict.damage.iter().map(|bad| &*bad.file).collect();
    files.sort_unstable();
    files.dedup();
    let step = |file: &str| {
        let part = looked.parts.iter().find(|part| part.name == file);
        let survey = part.and_then(|part| part.survey.as_ref()).map(|(survey, _)| survey);
        let bad = looked.verdict.damage.iter().filter(|damage| damage.file == file);
        let lost = survey.map_or_else(
            || bad.map(|damage| damage.positions.clone()).filter(|lost| !lost.is_empty()).collect(),
            |survey| survey.lost.clone(),
        );
        Step {
            file: file.to_owned(),
            aside: aside_name(file, |name| names.iter().any(|taken| taken == name)),
            events: survey.map_or(0, |survey| survey.events),
            lost,
        }
    };
    let steps = files.into_iter().map(step).collect();
    Ok((Plan { verdict: looked.verdict, steps }, looked.parts, looked.generation))
}

fn carry_out(
    disk: &dyn Disk,
    step: &Step,
    part: Option<&Part>,
    generation: u32,
) -> Result<(), LogError> {
    let Step { file, aside, .. } = step;
    let moved = match part.map(|part| &part.survey) {
        // Replaced whole, and the damaged one kept.
        Some(Some((survey, old))) => write(disk, survey, old, generation)
            .inspect_err(|_| drop(disk.remove(HALF)))
            .and_then(|()| disk.link(file, aside))
            .and_then(|()| disk.sync_dir())
            .and_then(|()| disk.rename(HALF, file)),
        Some(None) => disk.rename(file, aside),
        None if first_in_name(file).is_some() => {
            // A file that is gone: an empty one in its place says that this is known.
            disk.create(aside, 0).and_then(|file| file.sync())
        }
        None => disk.rename(file, aside),
    };
    moved.map_err(failed("set aside", file))
}

fn write(
    disk: &dyn Disk,
    survey: &Survey,
    old: &std::sync::Arc<dyn super::disk::DiskFile>,
    generation: u32,
) -> std::io::Result<()> {
    let head = survey.head;
    let mut new = Rewrite::begin(disk, HALF, head.first, generation, head.created)?;
    survey.each(old, |position, payload| new.add(position, payload))?;
    new.finish(survey.end)
}
