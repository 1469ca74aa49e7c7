//! `siemgate explain`: what becomes of an event, and why.
//!
//! A file or standard input is explained by the configuration, without a gateway; an id by the
//! gateway that has the event.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::admin::Admin;
use super::{Exit, block_on, failed, plan};
use crate::app::Explainer;
use crate::core::event::EventId;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A file with a body as the product posts it, `-` for standard input, or the id of an event
    /// that the running gateway has.
    #[arg(value_name = "FILE|-|ID")]
    event: String,
    /// The source it is from; needed only where several are configured.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Path, arguments: &Arguments) -> Exit {
    let answer = match answer(config, arguments) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    match arguments.json {
        true => println!("{answer:#}"),
        false => list(&answer["events"]).iter().for_each(show),
    }
    Exit::Ok
}

fn answer(config: &Path, arguments: &Arguments) -> Result<Value, Exit> {
    let file = PathBuf::from(&arguments.event);
    if let (false, Ok(id)) = (file.exists(), arguments.event.parse::<EventId>()) {
        let admin = Admin::of(config)?;
        return block_on(admin.post(&format!("/api/v1/explain?id={id}")));
    }
    let body = match arguments.event.as_str() {
        "-" => {
            let mut body = Vec::new();
            std::io::stdin().read_to_end(&mut body).map(|_| body)
        }
        _ => std::fs::read(&file),
    };
    let body = body.map_err(|error| failed(format!("{}: {error}", arguments.event)))?;
    let plan = plan(config)?;
    let explained = Explainer::of(&plan).body(arguments.source.as_deref(), &body.into());
    Ok(serde_json::json!({ "events": explained.map_err(failed)? }))
}

/// The order in which a finding is told; `unknown` and what is empty apart.
const FACTS: [&str; 11] = [
    "severity",
    "reported_severity",
    "state",
    "category",
    "simulated",
    "incident",
    "user",
    "client_ips",
    "clusters",
    "shares",
    "title",
];

fn show(event: &Value) {
    println!("event {} from {}", text(&event["id"]), text(&event["source"]));
    let finding = &event["finding"];
    for name in FACTS {
        let value = match &finding[name] {
            Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
            value => text(value),
        };
        println!("  {name:<18} {}", if value.is_empty() { "-" } else { &value });
    }
    let unknown: Vec<String> = list(&finding["unknown"]).iter().map(text).collect();
    if !unknown.is_empty() {
        println!("  missing or not understood: {}", unknown.join(", "));
    }
    list(&event["routes"]).iter().for_each(show_route);
    if list(&event["sinks"]).is_empty() {
        println!("no sink gets it");
    }
    list(&event["sinks"]).iter().for_each(show_sink);
}

pub(super) fn show_route(route: &Value) {
    let takes = if route["takes"] == true { "takes it" } else { "leaves it" };
    let sinks: Vec<String> = list(&route["sinks"]).iter().map(text).collect();
    println!("route {}: {takes} ({})", text(&route["route"]), sinks.join(", "));
    if let Some(when) = route.get("when") {
        show_when(when);
    }
    for (part, before) in [("keys", ""), ("except", "except ")] {
        for verdict in list(&route[part]) {
            println!(
                "  {before}{} = {}: {}, the event has {}",
                text(&verdict["key"]),
                text(&verdict["wanted"]),
                verdict["holds"],
                text(&verdict["seen"])
            );
        }
    }
}

fn show_when(when: &Value) {
    let seen: Vec<String> = list(&when["seen"])
        .iter()
        .map(|pair| format!("{} is {}", text(&pair[0]), text(&pair[1])))
        .collect();
    let failure = when["failure"].as_str().map(|why| format!(", because it failed: {why}"));
    println!("  when: {}{} ({})", when["holds"], failure.unwrap_or_default(), seen.join(", "));
}

fn show_sink(sink: &Value) {
    println!(
        "sink {} ({}) by route {}:",
        text(&sink["sink"]),
        text(&sink["kind"]),
        text(&sink["route"])
    );
    list(&sink["changes"]).iter().for_each(|change| println!("  the route {}", text(change)));
    if let Some(request) = sink.get("request") {
        println!("  {} {}", text(&request["method"]), text(&request["url"]));
        for header in list(&request["headers"]) {
            println!("  {}: {}", text(&header[0]), text(&header[1]));
        }
    }
    if let Some(dead) = sink.get("dead") {
        println!("  would become a dead letter: {}", text(dead));
    }
    if let Some(bytes) = sink.get("bytes") {
        let body = sink.get("text").or(sink.get("hex")).map(text).unwrap_or_default();
        let form = if sink.get("hex").is_some() { ", not UTF-8, as hexadecimal" } else { "" };
        println!("  {bytes} bytes{form}:\n{}", body.trim_end());
    }
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
