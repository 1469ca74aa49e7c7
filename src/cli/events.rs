//! `siemgate events …`: what arrived, what became of one event, and what arrives.
//!
//! Guarantees: asks the running gateway and changes nothing; a list is bounded, and says how to go
//! on; no body is printed.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::Admin;
use super::explain::{list, show_route, text};
use super::when::When;
use super::{Exit, block_on};
use crate::core::event::EventId;

/// How long one request of `tail` waits for an event.
const WAIT: &str = "30s";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List events, the newest first, and how each stands at its sinks.
    List(List),
    /// Tell what became of one: received, routed, every attempt, and how it ended at every sink.
    Show(Show),
    /// List events as they arrive; Ctrl-C ends it.
    Tail(Tail),
}

#[derive(Debug, Args)]
struct Only {
    /// Only this source's.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only those of this severity.
    #[arg(long, value_name = "WORD", value_parser = ["unknown", "info", "low", "medium", "high", "critical"])]
    severity: Option<String>,
    /// Only those that this sink gets or got; with --end filtered, those that it did not.
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    only: Only,
    /// Only those that stand so at the sink, or at any.
    #[arg(long, value_name = "WORD", value_parser = ["delivered", "dead", "filtered", "expired", "damaged", "pending", "settled"])]
    end: Option<String>,
    /// Only those received since then: 24h, 7d, 2026-01-31T07:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<When>,
    /// Only those received before then.
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: u64,
    /// Only those before this position, as a list that was cut names it.
    #[arg(long, value_name = "POSITION")]
    before: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Its id, as `list`, the answer to a webhook and the journal name it.
    id: EventId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Tail {
    #[command(flatten)]
    only: Only,
    /// End after so many.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

pub(super) fn run(config: &Path, command: Command) -> Exit {
    let done = match command {
        Command::List(list) => block_on(listed(config, &list)),
        Command::Show(show) => block_on(shown(config, &show)),
        Command::Tail(tail) => block_on(followed(config, &tail)),
    };
    done.err().unwrap_or(Exit::Ok)
}

impl Only {
    /// As a query, with what else is asked.
    fn query(&self, more: &[(&str, Option<String>)]) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let own = [("source", &self.source), ("severity", &self.severity), ("sink", &self.sink)];
        for (name, value) in own {
            value.as_ref().map(|value| query.append_pair(name, value));
        }
        for (name, value) in more {
            value.as_ref().map(|value| query.append_pair(name, value));
        }
        query.append_pair("sinks", "true").finish()
    }
}

async fn listed(config: &Path, list: &List) -> Result<(), Exit> {
    let admin = Admin::of(config)?;
    let (mut left, mut before) = (list.limit, list.before);
    let mut found = Vec::new();
    loop {
        let query = list.only.query(&[
            ("newest", Some("true".into())),
            ("before", before.map(|at| at.to_string())),
            ("limit", Some(left.min(1_000).to_string())),
            ("end", list.end.clone()),
            ("since", list.since.map(|at| at.to_string())),
            ("until", list.until.map(|at| at.to_string())),
        ]);
        let page = admin.get(&format!("/api/v1/events?{query}")).await?;
        let events = super::explain::list(&page["events"]);
        left -= (events.len() as u64).min(left);
        match list.only.json {
            true => found.extend(events.iter().cloned()),
            false => events.iter().for_each(|event| println!("{}", line(event))),
        }
        before = page["before"].as_u64();
        if left == 0 || before.is_none() {
            break;
        }
    }
    match (list.only.json, before) {
        (true, before) => println!("{:#}", json!({ "events": found, "before": before })),
        (false, Some(before)) => eprintln!("there may be more: --before {before}"),
        (false, None) => {}
    }
    Ok(())
}

/// One event on one line.
fn line(event: &Value) -> String {
    let sinks = event["sinks"].as_object().into_iter().flatten();
    let sinks: Vec<String> = sinks.map(|(sink, word)| format!("{sink} {}", text(word))).collect();
    let sinks = if sinks.is_empty() { "no sink".into() } else { sinks.join(", ") };
    let drill = if event["simulated"] == true { "  a drill" } else { "" };
    format!(
        "{}  {:<12} {:<8} {:<14} {}{drill}  {sinks}",
        text(&event["received"]),
        text(&event["source"]),
        text(&event["severity"]),
        text(&event["state"]),
        text(&event["id"]),
    )
}

async fn followed(config: &Path, tail: &Tail) -> Result<(), Exit> {
    let admin = Admin::of(config)?;
    let base = format!("/api/v1/events?{}", tail.only.query(&[]));
    let mut next = admin.get(&base).await?["next"].clone();
    eprintln!("waiting for events; Ctrl-C ends it");
    let mut left = tail.count.unwrap_or(u64::MAX);
    while left > 0 {
        let page = admin.get(&format!("{base}&from={next}&wait={WAIT}")).await?;
        next = page["next"].clone();
        for event in list(&page["events"]) {
            if left > 0 {
                left -= 1;
                match tail.only.json {
                    true => println!("{event}"),
                    false => println!("{}", line(event)),
                }
            }
        }
    }
    Ok(())
}

async fn shown(config: &Path, show: &Show) -> Result<(), Exit> {
    let admin = Admin::of(config)?;
    let story = admin.get(&format!("/api/v1/events/{}", show.id)).await?;
    match show.json {
        true => println!("{story:#}"),
        false => tell(&story),
    }
    Ok(())
}

fn tell(story: &Value) {
    let finding = &story["finding"];
    println!("event {} at position {}", text(&story["id"]), story["position"]);
    println!(
        "received {} from {}, {} bytes: severity {}, state {}, category {}{}",
        text(&story["received"]),
        text(&story["source"]),
        story["bytes"],
        text(&finding["severity"]),
        finding["state"].as_str().unwrap_or("unknown"),
        finding["category"].as_str().unwrap_or("unknown"),
        if finding["simulated"] == true { ", a drill" } else { "" },
    );
    if has_changed(story) {
        println!(
            "routes as they are now (configuration {}); another was in force when it was delivered:",
            text(&story["config"])
        );
    }
    list(&story["routes"]).iter().for_each(show_route);
    if list(&story["sinks"]).is_empty() {
        println!("no sink gets it");
    }
    list(&story["sinks"]).iter().for_each(|sink| tell_sink(sink, story));
    let receipts = &story["receipts"];
    match (receipts["kept"] == true, receipts["since"].as_str()) {
        (false, _) => println!("no receipts are kept, so attempts are not known"),
        (true, since) => println!(
            "receipts: {} of {} segments read{}",
            receipts["segments"],
            receipts["of"],
            since.map(|since| format!("; the oldest is from {since}")).unwrap_or_default()
        ),
    }
}

/// Whether a step was taken under another configuration than that which is in force.
fn has_changed(story: &Value) -> bool {
    let mut steps = list(&story["sinks"]).iter().flat_map(|sink| list(&sink["steps"]));
    steps.any(|step| step["config"] != story["config"])
}

fn tell_sink(sink: &Value, story: &Value) {
    let route = sink["route"].as_str().map(|route| format!(" by route {route}"));
    println!("sink {}{}: {}", text(&sink["sink"]), route.unwrap_or_default(), text(&sink["state"]));
    for (nth, step) in list(&sink["steps"]).iter().enumerate() {
        if nth == 50 && sink["left_out"].as_u64() > Some(0) {
            println!("  … {} more …", sink["left_out"]);
        }
        let other = if step["config"] == story["config"] {
            String::new()
        } else {
            format!(" (configuration {})", text(&step["config"]))
        };
        println!("  {}  {}{other}", text(&step["at"]), told(step));
    }
    if let Some(letter) = sink["letter"].as_u64() {
        match sink["letter_open"] == true {
            true => println!("  dead letter {letter} is open: `siemgate dead show {letter}`"),
            false => println!("  dead letter {letter} is closed"),
        }
    }
}

/// One step in words.
fn told(step: &Value) -> String {
    let mut parts = Vec::new();
    let reply = &step["reply"];
    if let Some(number) = step["attempt"].as_u64() {
        let again = step["replay"].as_u64().map(|letter| format!(" (dead letter {letter} again)"));
        let became = step["cause"].as_str().unwrap_or("delivered");
        parts.push(format!("attempt {number}{}: {became}", again.unwrap_or_default()));
    } else {
        let letter = step["letter"].as_u64().map(|letter| format!(", dead letter {letter}"));
        parts.push(format!("{}{}", text(&step["end"]), letter.unwrap_or_default()));
    }
    let facts = [
        ("", "status", ""),
        ("successCount ", "accepted", ""),
        ("id ", "id", ""),
        ("", "resent", " sent again before it"),
    ];
    for (before, name, after) in facts {
        if !reply[name].is_null() {
            parts.push(format!("{before}{}{after}", text(&reply[name])));
        }
    }
    if let Some(ms) = step["ms"].as_f64() {
        parts.push(format!("{ms:.1} ms"));
    }
    if let Some(batch) = step["batch"].as_u64().filter(|batch| *batch > 1) {
        parts.push(format!("with {} others", batch - 1));
    }
    let note = step["note"].as_str().filter(|note| !note.is_empty());
    parts.extend(note.map(str::to_owned));
    let excerpt = reply["excerpt"].as_str().filter(|excerpt| !excerpt.is_empty());
    parts.extend(excerpt.map(|excerpt| format!("it said: {excerpt}")));
    parts.join(", ")
}
