//! `siemgate capture`: the next real bodies of a source, kept as private fixtures.
//!
//! Guarantees: a file holds the sender's bytes and nothing else, for its owner only; what the
//! gateway does with the event is not touched. It prints names of keys, never values.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::admin::Admin;
use super::{Exit, block_on, failed, plan, source};
use crate::app::{Plan, SourcePlan};
use crate::core::Timestamp;
use crate::core::config::Span;
use crate::core::finding::Finding;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The source whose bodies are kept; the first of type superna unless given.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// How many.
    #[arg(long, default_value_t = 1, value_name = "N")]
    count: usize,
    /// Give up after so long, such as 10m. Without it, only Ctrl-C ends the waiting.
    #[arg(long, value_name = "TIME")]
    wait: Option<Span>,
    /// Keep drills and test events too, such as those of `siemgate send`.
    #[arg(long)]
    simulated: bool,
    /// Where to; `captures` beside the log's folder unless given.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print JSON, one object a body.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Path, arguments: &Arguments) -> Exit {
    let plan = match plan(config) {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    captured(config, &plan, arguments).err().unwrap_or(Exit::Ok)
}

fn captured(config: &Path, plan: &Plan, arguments: &Arguments) -> Result<(), Exit> {
    let source = source(plan, arguments.source.as_deref())?;
    let dir = match &arguments.dir {
        Some(dir) => dir.clone(),
        None => plan.log.dir.with_file_name("captures"),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
    let admin = Admin::of(config)?;
    let waiting = Waiting { admin, source, arguments, dir };
    let kept = block_on(waiting.kept())?;
    if kept < arguments.count {
        return Err(failed(format!("{kept} of {} came in time", arguments.count)));
    }
    if !arguments.json {
        println!(
            "They hold names of users and files: keep them private. `siemgate explain FILE` tells what\nbecomes of one, and a case of `siemgate test` can name it as its `fixture`."
        );
    }
    Ok(())
}

struct Waiting<'a> {
    admin: Admin,
    source: &'a SourcePlan,
    arguments: &'a Arguments,
    dir: PathBuf,
}

impl Waiting<'_> {
    /// Keep the next bodies; returns how many came in time.
    async fn kept(&self) -> Result<usize, Exit> {
        let path = format!("/api/v1/events?source={}", self.source.name);
        let mut next = self.admin.get(&path).await?["next"].clone();
        eprintln!("waiting for the next body of source {}; Ctrl-C ends it", self.source.name);
        let end = self.arguments.wait.map(|wait| Instant::now() + wait.0);
        let mut kept = 0;
        while kept < self.arguments.count {
            let left = end.map_or(Duration::from_secs(30), |end| {
                end.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                break;
            }
            let wait = Span(left.min(Duration::from_secs(30)).max(Duration::from_millis(1)));
            let page = self.admin.get(&format!("{path}&from={next}&wait={wait}")).await?;
            next = page["next"].clone();
            for event in page["events"].as_array().into_iter().flatten() {
                if kept < self.arguments.count && self.keep(event).await? {
                    kept += 1;
                }
            }
        }
        Ok(kept)
    }

    /// Keep one body, unless it is a drill's.
    async fn keep(&self, event: &Value) -> Result<bool, Exit> {
        let id = event["id"].as_str().unwrap_or_default();
        let body = self.admin.bytes(&format!("/api/v1/events/{id}/body")).await?;
        let finding = self.source.decode(&body);
        if finding.simulated && !self.arguments.simulated {
            eprintln!("left out, as it is simulated: {id} (--simulated keeps such)");
            return Ok(false);
        }
        let file = self.dir.join(name(&self.source.name, id));
        write(&file, &body)
            .map_err(|error| failed(format!("cannot write {}: {error}", file.display())))?;
        let unread = self.source.unread(&body);
        match self.arguments.json {
            true => println!("{}", facts(&file, id, &body, &finding, &unread)),
            false => tell(&file, &body, &finding, &unread),
        }
        Ok(true)
    }
}

/// Such as `superna-20251201T070000Z-126fce3f9524.json`: sorted by time, and unique by the id's
/// random end.
fn name(source: &str, id: &str) -> String {
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let end = id.rsplit('-').next().unwrap_or_default();
    format!("{source}-{time}-{end}.json")
}

fn write(file: &Path, body: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    file.write_all(body)
}

fn facts(file: &Path, id: &str, body: &[u8], finding: &Finding, unread: &[String]) -> Value {
    json!({
        "file": file, "id": id, "bytes": body.len(), "severity": finding.severity,
        "state": finding.state, "category": finding.category, "unknown": finding.unknown,
        "unread_keys": unread,
    })
}

fn tell(file: &Path, body: &[u8], finding: &Finding, unread: &[String]) {
    println!("{}  {} bytes", file.display(), body.len());
    println!(
        "  severity {}, state {}, category {}",
        finding.severity,
        finding.state.as_str(),
        finding.category.as_deref().unwrap_or("unknown")
    );
    if !finding.unknown.is_empty() {
        println!("  missing or not understood: {}", finding.unknown.join(", "));
    }
    match unread {
        [] => println!("  every key is known to the decoder"),
        keys => println!(
            "  keys that the decoder makes nothing of: {}\n    if one of them holds a fact, name it in this source's section (`aliases` or a path)",
            keys.join(", ")
        ),
    }
}
