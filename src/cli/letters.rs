//! `siemgate dead …` and `siemgate quarantine …`: what waits for a person.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::admin::Admin;
use super::when::When;
use super::{Exit, block_on};

#[derive(Debug, Subcommand)]
pub(super) enum Dead {
    /// List the open dead letters, oldest first.
    List(List),
    /// Show one, with the event and the destination's reply.
    Show(One),
    /// Give one (or, with --all, every one that is meant) to its sink again, as it is or changed.
    Replay(Replay),
    /// Close one for good, undelivered.
    Drop(One),
}

#[derive(Debug, Subcommand)]
pub(super) enum Quarantine {
    /// List the bodies that were refused at the door, oldest first.
    List(List),
    /// Show one, with its body.
    Show(One),
    /// Take one through the door again, after the cause was mended.
    Replay(One),
    /// Close one for good.
    Drop(One),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those of this sink (dead letters) or source (quarantine).
    #[arg(long = "of", visible_aliases = ["sink", "source"], value_name = "NAME")]
    of: Option<String>,
    /// Most letters shown.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// Its number, as `list` shows it.
    number: u64,
}

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Its number, as `list` shows it.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    number: Option<u64>,
    /// Every open one that the filters leave, at most 1,000 at a time.
    #[arg(long)]
    all: bool,
    /// With --all: only this sink's.
    #[arg(long, value_name = "NAME", requires = "all")]
    sink: Option<String>,
    /// With --all: only events of this source.
    #[arg(long, value_name = "NAME", requires = "all")]
    source: Option<String>,
    /// With --all: only those that failed for this cause, such as `refused`.
    #[arg(long, value_name = "CAUSE", requires = "all")]
    cause: Option<String>,
    /// With --all: only those given up since this time, or within so long, such as "2h".
    #[arg(long, value_name = "TIME", requires = "all")]
    since: Option<When>,
    /// With --all: only those given up before this time.
    #[arg(long, value_name = "TIME", requires = "all")]
    until: Option<When>,
    /// With --all: at most so many, the oldest first.
    #[arg(long, value_name = "COUNT", requires = "all")]
    limit: Option<usize>,
    /// A VRL program that changes each body first, such as '.severity = "high"'. The letter keeps
    /// what it was, and the program is written down.
    #[arg(long, value_name = "VRL")]
    fix: Option<String>,
    /// Only say what would be sent, and show what a fix makes of it.
    #[arg(long)]
    dry_run: bool,
    /// Also to sinks that write to people or open tickets.
    #[arg(long)]
    notify: bool,
}

pub(super) fn dead(config: &Path, command: Dead) -> Exit {
    let base = "/api/v1/dead";
    finish(match command {
        Dead::List(list) => listed(config, base, &list),
        Dead::Show(one) => asked(config, false, &format!("{base}/{}", one.number)),
        Dead::Drop(one) => asked(config, true, &format!("{base}/{}/drop", one.number)),
        Dead::Replay(replay) => replayed(config, base, &replay),
    })
}

fn replayed(config: &Path, base: &str, replay: &Replay) -> Result<(), Exit> {
    let path = match replay.number {
        Some(number) => format!("{base}/{number}/replay"),
        None => format!("{base}/replay"),
    };
    let time = |time: &Option<When>| time.map(|time| time.to_string());
    let filters = [
        ("sink", replay.sink.clone()),
        ("source", replay.source.clone()),
        ("cause", replay.cause.clone()),
        ("since", time(&replay.since)),
        ("until", time(&replay.until)),
        ("limit", replay.number.is_none().then(|| replay.limit.unwrap_or(1_000).to_string())),
        ("notify", Some(replay.notify.to_string())),
        ("dry", Some(replay.dry_run.to_string())),
    ];
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(filters.into_iter().filter_map(|(key, value)| Some((key, value?))));
    let (admin, path) = (Admin::of(config)?, format!("{path}?{}", query.finish()));
    let program = replay.fix.clone().unwrap_or_default();
    let answer = block_on(admin.send(&path, program))?;
    println!("{answer:#}");
    Ok(())
}

pub(super) fn quarantine(config: &Path, command: Quarantine) -> Exit {
    let base = "/api/v1/quarantine";
    finish(match command {
        Quarantine::List(list) => listed(config, base, &list),
        Quarantine::Show(one) => asked(config, false, &format!("{base}/{}", one.number)),
        Quarantine::Replay(one) => asked(config, true, &format!("{base}/{}/replay", one.number)),
        Quarantine::Drop(one) => asked(config, true, &format!("{base}/{}/drop", one.number)),
    })
}

/// `siemgate sinks forget NAME`
pub(super) fn forget(config: &Path, sink: &str) -> Exit {
    finish(asked(config, true, &format!("/api/v1/sinks/{sink}/forget")))
}

fn finish(done: Result<(), Exit>) -> Exit {
    done.err().unwrap_or(Exit::Ok)
}

fn asked(config: &Path, post: bool, path: &str) -> Result<(), Exit> {
    let admin = Admin::of(config)?;
    let answer =
        block_on(async { if post { admin.post(path).await } else { admin.get(path).await } })?;
    println!("{answer:#}");
    Ok(())
}

fn listed(config: &Path, base: &str, list: &List) -> Result<(), Exit> {
    let only = list.of.as_ref().map(|of| format!("&sink={of}")).unwrap_or_default();
    let admin = Admin::of(config)?;
    let answer = block_on(admin.get(&format!("{base}?limit={}{only}", list.limit)))?;
    if list.json {
        println!("{answer:#}");
        return Ok(());
    }
    let letters = answer["letters"].as_array().map(Vec::as_slice).unwrap_or_default();
    for letter in letters {
        println!("{}", line(letter));
    }
    println!("{} open, {} shown", answer["open"], letters.len());
    Ok(())
}

fn line(letter: &Value) -> String {
    let text = |name: &str| letter[name].as_str().unwrap_or("-").to_owned();
    let (label, why) = match letter.get("sink") {
        Some(_) => (text("sink"), format!("{} {}", text("cause"), text("note"))),
        None => (text("source"), format!("{} {}", text("reason"), text("detail"))),
    };
    format!("{:>6}  {}  {:<12} {}  {}", letter["number"], text("received"), label, text("id"), why)
}
