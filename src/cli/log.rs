//! `siemgate log …`: a look into the logs' files, and their repair. `log_move.rs` takes them elsewhere.
//!
//! Guarantees: only `inspect`, and `verify --live`, work beside a running gateway; the others refuse,
//! and say which process has the log. `repair` changes nothing without `--go`.

use std::ops::Range;
use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::log_move::{Export, Import};
use super::logs::{Place, Which, is_ours};
use super::{Exit, failed, log_move, print};
use crate::core::event::Position;
use crate::core::log::inspect::{SegmentReport, inspect};
use crate::core::log::repair::{Step, plan, repair};
use crate::core::log::verify::{Verdict, quiet, verify};
use crate::core::log::{Damage, Fault, LogError, RealDisk};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the segments: positions, sizes, damage known so far. Works while the gateway runs.
    Inspect(Look),
    /// Check every record, and name what is damaged: file, offset, positions.
    Verify(Verify),
    /// Set damaged parts aside, keep all that can be read, and say what is lost.
    ///
    /// Deletes nothing. A gateway starts without this; it also saves events that stand in the wrong
    /// place of a file, and tells everything at once.
    Repair(Repair),
    /// Write events, cursors, dead letters and quarantine into one file, to move the gateway.
    Export(Export),
    /// Fill empty logs from what `export` wrote: positions and cursors are kept.
    Import(Import),
}

#[derive(Debug, Args)]
pub(super) struct Look {
    #[command(flatten)]
    which: Which,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    look: Look,
    /// Also while the gateway runs: what it writes or frees meanwhile may show as damaged.
    #[arg(long)]
    live: bool,
}

#[derive(Debug, Args)]
pub(super) struct Repair {
    #[command(flatten)]
    look: Look,
    /// Do it. Without this it is only told what would be done.
    #[arg(long)]
    go: bool,
}

pub(super) fn run(config: &Path, command: Command) -> Exit {
    let done = match command {
        Command::Inspect(look) => inspected(config, &look),
        Command::Verify(Verify { look, live }) => verified(config, &look, live),
        Command::Repair(Repair { look, go }) => repaired(config, &look, go),
        Command::Export(export) => log_move::export(config, &export),
        Command::Import(import) => log_move::import(config, &import),
    };
    done.unwrap_or_else(|exit| exit)
}

/// What one log has to say: for people, for machines, and whether it is well.
struct Answer {
    text: String,
    json: Value,
    good: bool,
}

/// Ask all logs, and tell what they say.
fn asked(
    config: &Path,
    look: &Look,
    ask: impl Fn(&Place) -> Result<Answer, LogError>,
) -> Result<Exit, Exit> {
    let (mut told, mut text, mut good) = (Vec::new(), String::new(), true);
    for place in look.which.logs(config)? {
        let answer = ask(&place).map_err(failed)?;
        let mut json = json!({ "log": place.name, "dir": place.dir });
        if let (Some(json), Value::Object(more)) = (json.as_object_mut(), answer.json) {
            json.extend(more);
        }
        told.push(json);
        text.push_str(&format!("{} {}: {}", place.name, place.dir.display(), answer.text));
        good &= answer.good;
    }
    let all = json!({ "logs": told, "good": good });
    let printed = print(if look.json { format!("{all:#}\n") } else { text }.as_bytes());
    Ok(if good { printed } else { Exit::Failed })
}

// ---- inspect ------------------------------------------------------------------------------------

fn inspected(config: &Path, look: &Look) -> Result<Exit, Exit> {
    asked(config, look, |place| {
        let segments = inspect(&*place.disk())?;
        let damaged = damaged(&segments);
        let json = json!({ "segments": segments, "damaged": damaged });
        Ok(Answer { text: table(&segments), json, good: damaged == 0 })
    })
}

/// What `inspect` prints of the log in `dir`.
pub(super) fn report(dir: &Path) -> Result<String, String> {
    if !dir.is_dir() {
        return Err(format!("there is no log in {}", dir.display()));
    }
    let segments = inspect(&RealDisk::existing(dir)).map_err(|error| error.to_string())?;
    Ok(table(&segments))
}

fn table(segments: &[SegmentReport]) -> String {
    let mut text = format!("{} segments, {} damaged\n", segments.len(), damaged(segments));
    segments.iter().for_each(|segment| text.push_str(&format!("  {}\n", line(segment))));
    text
}

fn damaged(segments: &[SegmentReport]) -> usize {
    segments.iter().filter(|segment| is_damaged(segment)).count()
}

fn is_damaged(segment: &SegmentReport) -> bool {
    segment.contents.as_ref().is_none_or(|contents| contents.damaged_bytes > 0)
}

fn line(segment: &SegmentReport) -> String {
    let (Some(header), Some(contents)) = (&segment.header, &segment.contents) else {
        return format!("{}  {} bytes, header unreadable", segment.file, segment.bytes);
    };
    let mut line = format!(
        "{}  positions {}..{}  {} events  {} of {} bytes  generation {}  {}",
        segment.file,
        header.first,
        contents.end,
        contents.events,
        contents.used,
        segment.bytes,
        header.generation,
        if contents.sealed { "sealed" } else { "open" },
    );
    if contents.torn_bytes > 0 {
        line.push_str(&format!("  {} bytes of an unfinished write", contents.torn_bytes));
    }
    if contents.damaged_bytes > 0 {
        let lost = ranges(&contents.damaged);
        line.push_str(&format!("  DAMAGED: {} bytes, {lost}", contents.damaged_bytes));
    }
    line
}

// ---- verify -------------------------------------------------------------------------------------

fn verified(config: &Path, look: &Look, live: bool) -> Result<Exit, Exit> {
    asked(config, look, |place| {
        let disk = place.disk();
        let _quiet = if live { None } else { quiet(&*disk)? };
        let verdict = verify(&*disk)?;
        let good = verdict.damage.is_empty();
        Ok(Answer { text: told(&verdict), json: json!(verdict), good })
    })
}

fn told(verdict: &Verdict) -> String {
    let Verdict { events, segments, oldest, head, .. } = verdict;
    let state = if verdict.damage.is_empty() { "good" } else { "DAMAGED" };
    let mut text =
        format!("{state}, {events} events in {segments} segments, positions {oldest}..{head}\n");
    verdict.damage.iter().for_each(|damage| text.push_str(&format!("  {}\n", place_of(damage))));
    if !verdict.lost.is_empty() {
        text.push_str(&format!("  cannot be read any more: {}\n", ranges(&verdict.lost)));
    }
    if verdict.torn_bytes > 0 {
        let bytes = verdict.torn_bytes;
        text.push_str(&format!(
            "  {bytes} bytes of an unfinished write: their sender was never told that they were stored\n"
        ));
    }
    for (what, files) in [("set aside before", &verdict.aside), ("not ours", &verdict.strangers)] {
        if !files.is_empty() {
            text.push_str(&format!("  {what}: {}\n", files.join(", ")));
        }
    }
    text
}

fn place_of(damage: &Damage) -> String {
    let Damage { file, what, offset, bytes, positions } = damage;
    let about = if positions.is_empty() {
        String::new()
    } else {
        format!(", {}", ranges(std::slice::from_ref(positions)))
    };
    match what {
        Fault::Missing => format!("{file}{about}: {}", what.as_str()),
        _ => format!("{file} at byte {offset}, {bytes} bytes{about}: {}", what.as_str()),
    }
}

/// Positions for people: the last one is meant, too.
fn ranges(ranges: &[Range<Position>]) -> String {
    let one = |range: &Range<Position>| match range.end.since(range.start) {
        1 => range.start.to_string(),
        _ => format!("{} to {}", range.start, range.end.0.saturating_sub(1)),
    };
    let shown: Vec<String> = ranges.iter().take(20).map(one).collect();
    let more = ranges.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("positions {}{more}", shown.join(", "))
}

// ---- repair -------------------------------------------------------------------------------------

fn repaired(config: &Path, look: &Look, go: bool) -> Result<Exit, Exit> {
    if go {
        look.which.logs(config)?.iter().try_for_each(|place| is_ours(&place.dir))?;
    }
    let exit = asked(config, look, |place| {
        let disk = place.disk();
        let plan = if go {
            repair(&*disk)?
        } else {
            let _quiet = quiet(&*disk)?;
            plan(&*disk)?
        };
        let mut text = told(&plan.verdict);
        plan.steps.iter().for_each(|step| text.push_str(&step_of(step, go)));
        let good = go || plan.steps.is_empty();
        Ok(Answer { text, json: json!(plan), good })
    })?;
    if exit == Exit::Failed {
        eprintln!("nothing was changed; --go does it");
    }
    Ok(exit)
}

fn step_of(step: &Step, go: bool) -> String {
    let Step { file, aside, events, lost } = step;
    let does = if go { "was set aside" } else { "is to be set aside" };
    let lost =
        if lost.is_empty() { "nothing is lost".into() } else { format!("lost: {}", ranges(lost)) };
    format!("  {file} {does} as {aside}; {events} events of it are kept, {lost}\n")
}
