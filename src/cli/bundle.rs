//! `siemgate support-bundle`: what somebody who helps needs to know, in one archive.
//!
//! Guarantees: no secret, no payload and no private part of an address is in it: settings come
//! masked as `config show` prints them, letters without bodies and replies, the journal as it is
//! (it names no user and no file). What cannot be had says why in its own place, so that a bundle
//! can be made of a gateway that does not run, or does not start.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::admin::Admin;
use super::{Exit, block_on, config, failed, log};
use crate::app::{Plan, effective};
use crate::core::Timestamp;
use crate::core::config::Problems;

/// Most files of the data folder that are listed.
const FILES: usize = 2_000;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The archive (tar, gzip); siemgate-support-TIME.tar.gz in the working directory unless given.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(config: &Path, arguments: &Arguments) -> Exit {
    let stem = format!("siemgate-support-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
    let out = arguments.out.clone().unwrap_or_else(|| format!("{stem}.tar.gz").into());
    let parts = parts(config);
    match packed(&out, &stem, &parts) {
        Ok(()) => {
            println!("{}:", out.display());
            parts.iter().for_each(|(name, text)| println!("  {name:<16} {} bytes", text.len()));
            println!("Secrets and payloads are left out; look through it before you hand it on.");
            Exit::Ok
        }
        Err(error) => failed(format!("cannot write {}: {error}", out.display())),
    }
}

/// The files of the bundle.
type Parts = Vec<(&'static str, String)>;

fn parts(config: &Path) -> Parts {
    let plan = Plan::read(config);
    let mut parts = vec![
        ("system.txt", system()),
        ("settings.txt", settings(config)),
        ("check.txt", checked(plan.as_ref())),
    ];
    if let Ok(plan) = &plan {
        let data = plan.log.dir.parent().unwrap_or(Path::new("."));
        parts.push(("files.txt", files(data)));
        parts.push(("log.txt", log::report(&plan.log.dir).unwrap_or_else(|error| error)));
    }
    parts.extend(block_on(running(config)).unwrap_or_else(|_| {
        vec![("gateway.txt", "not to be had: the gateway did not answer\n".to_owned())]
    }));
    parts
}

/// What only the running gateway knows.
async fn running(config: &Path) -> Result<Parts, Exit> {
    let admin = Admin::of(config)?;
    let mut parts = Vec::new();
    for (name, path) in [("metrics.txt", "/metrics"), ("journal.txt", "/api/v1/journal")] {
        parts.push((name, String::from_utf8_lossy(&admin.bytes(path).await?).into_owned()));
    }
    for (name, path) in [("dead.txt", "/api/v1/dead"), ("quarantine.txt", "/api/v1/quarantine")] {
        parts.push((name, letters(&admin.get(&format!("{path}?limit=1000")).await?)));
    }
    Ok(parts)
}

/// Letters without bodies and without what destinations replied, which may quote one.
fn letters(answer: &Value) -> String {
    let mut text = format!("{} open\n", answer["open"]);
    for letter in answer["letters"].as_array().into_iter().flatten() {
        let facts =
            ["number", "received", "sink", "source", "cause", "reason", "attempts", "bytes"];
        for name in facts.into_iter().filter(|name| !letter[*name].is_null()) {
            let _ = write!(text, "{name}={} ", plain(&letter[name]));
        }
        text.push('\n');
    }
    text
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn settings(dir: &Path) -> String {
    effective(dir)
        .map_or_else(|problems| told(&problems), |settings| config::people(&settings, true))
}

fn checked(plan: Result<&Plan, &Problems>) -> String {
    match plan {
        Ok(plan) => {
            let gaps = plan.coverage.iter().map(|gap| format!("coverage: {gap}\n"));
            let warnings = plan.warnings.iter().map(|warning| format!("warning: {warning}\n"));
            gaps.chain(warnings).chain(["good\n".to_owned()]).collect()
        }
        Err(problems) => told(problems),
    }
}

fn told(problems: &Problems) -> String {
    problems.iter().map(|problem| format!("error: {problem}\n")).collect()
}

/// The machine, as far as it matters: system, memory, uptime, clock.
fn system() -> String {
    let mut text = format!(
        "siemgate {}\ntime {}\nuser {}\n",
        env!("CARGO_PKG_VERSION"),
        Timestamp::now(),
        rustix::process::geteuid().as_raw()
    );
    for file in
        ["/etc/os-release", "/proc/version", "/proc/uptime", "/proc/loadavg", "/proc/self/limits"]
    {
        let read = std::fs::read_to_string(file).unwrap_or_else(|error| error.to_string());
        let _ = write!(text, "\n# {file}\n{}\n", read.trim_end());
    }
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let _ = writeln!(text, "\n# /proc/meminfo");
    memory.lines().take(5).for_each(|line| text.extend([line, "\n"]));
    text
}

/// Names, sizes and modes below the data folder, and the room on its disk.
fn files(data: &Path) -> String {
    let mut text = String::new();
    if let Ok(disk) = rustix::fs::statvfs(data) {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let all = disk.f_blocks.saturating_mul(disk.f_frsize);
        let _ = writeln!(text, "{}: {free} of {all} bytes free", data.display());
    }
    let (mut folders, mut listed) = (vec![data.to_owned()], 0);
    while let Some(folder) = folders.pop().filter(|_| listed < FILES) {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                let _ = writeln!(text, "{}: {error}", folder.display());
                continue;
            }
        };
        for path in entries.flatten().map(|entry| entry.path()).take(FILES - listed) {
            let Ok(facts) = path.symlink_metadata() else { continue };
            listed += 1;
            let (mode, user, bytes) = (facts.mode(), facts.uid(), facts.len());
            let _ = writeln!(text, "{mode:06o} {user:>5} {bytes:>12} {}", path.display());
            if facts.is_dir() {
                folders.push(path);
            }
        }
    }
    text
}

fn packed(out: &Path, stem: &str, parts: &Parts) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    for (name, text) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        archive.append_data(&mut header, format!("{stem}/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()
}
