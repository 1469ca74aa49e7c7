//! `siemgate log …`: a look into the log's files. Reads only, and works while the gateway runs.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Exit, failed, plan};
use crate::core::log::RealDisk;
use crate::core::log::inspect::{SegmentReport, inspect, verify};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the segments: positions, sizes, damage known so far.
    Inspect(Where),
    /// Check every record of every segment, and name what is damaged.
    Verify(Where),
}

#[derive(Debug, Args)]
pub(super) struct Where {
    /// The log's folder; log.dir of the configuration unless given.
    dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Path, command: Command) -> Exit {
    looked(config, command).unwrap_or_else(|exit| exit)
}

fn looked(config: &Path, command: Command) -> Result<Exit, Exit> {
    let (look, at): (fn(&_) -> _, _) = match command {
        Command::Inspect(at) => (|disk: &RealDisk| inspect(disk), at),
        Command::Verify(at) => (|disk: &RealDisk| verify(disk), at),
    };
    let dir = at.dir.map_or_else(|| plan(config).map(|plan| plan.log.dir), Ok)?;
    let segments = look(&existing(&dir).map_err(failed)?).map_err(failed)?;
    match at.json {
        true => println!("{:#}", json!({ "segments": segments, "damaged": damaged(&segments) })),
        false => print!("{}", table(&segments)),
    }
    Ok(if damaged(&segments) == 0 { Exit::Ok } else { Exit::Failed })
}

fn existing(dir: &Path) -> Result<RealDisk, String> {
    match dir.is_dir() {
        true => Ok(RealDisk::existing(dir)),
        false => Err(format!("there is no log in {}", dir.display())),
    }
}

/// What `inspect` prints of the log in `dir`.
pub(super) fn report(dir: &Path) -> Result<String, String> {
    let segments = inspect(&existing(dir)?).map_err(|error| error.to_string())?;
    Ok(table(&segments))
}

fn table(segments: &[SegmentReport]) -> String {
    let mut lines: Vec<String> = segments.iter().map(line).collect();
    lines.push(format!("{} segments, {} damaged", segments.len(), damaged(segments)));
    lines.join("\n") + "\n"
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
        line.push_str(&format!(
            "  DAMAGED: {} bytes, positions {:?}",
            contents.damaged_bytes, contents.damaged
        ));
    }
    line
}
