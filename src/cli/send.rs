//! `siemgate send`: a harmless sample event through the front door.
//!
//! Every event has a fresh id, is marked as simulated, and names a user and an address that exist
//! nowhere, so that no playbook can lock anybody out because of it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use super::admin::plain;
use super::own::client;
use super::{Exit, block_on, failed, plan};
use crate::app::{Plan, SinkPlan};
use crate::core::Timestamp;
use crate::core::config::Span;
use crate::core::event::EventId;

/// The samples: name, severity, state, files.
const SAMPLES: [(&str, &str, &str, u32); 4] = [
    ("critical", "CRITICAL", "LOCKED_OUT", 3),
    ("major", "MAJOR", "DELAYED_LOCKOUT", 40),
    ("warning", "WARNING", "WARNING", 11),
    ("restored", "CRITICAL", "ACCESS_RESTORED", 3),
];

const CANNOT_PROVE: &str =
    "this command has none of what the source's `auth` asks for; add a way with a secret";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Which sample: critical, major, warning or restored.
    #[arg(long, default_value = "critical", value_name = "NAME")]
    sample: String,
    /// Change or add a key of the event; VALUE is JSON or plain text. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Wait until every sink has it, at most so long (10s unless given).
    #[arg(long, num_args = 0..=1, default_missing_value = "10s", value_name = "TIME")]
    wait: Option<Span>,
    /// The source to send to; the first of type superna unless given.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print the gateway's answer as JSON.
    #[arg(long)]
    json: bool,
    /// Print the event and send nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(config: &Path, arguments: Arguments) -> Exit {
    sent(config, &arguments).err().unwrap_or(Exit::Ok)
}

fn sent(config: &Path, arguments: &Arguments) -> Result<(), Exit> {
    let event = event(arguments)?;
    if arguments.dry_run {
        println!("{event:#}");
        return Ok(());
    }
    let plan = plan(config)?;
    let answer = block_on(post(&plan, arguments, &event))?;
    if arguments.json {
        println!("{answer:#}")
    } else {
        tell(&answer);
        tell_proof(&plan, &answer);
    }
    let settled = answer["settled"].as_bool().unwrap_or(true);
    if settled && all_delivered(&answer) { Ok(()) } else { Err(Exit::Failed) }
}

/// The sample with the wanted changes.
fn event(arguments: &Arguments) -> Result<Value, Exit> {
    let sample = SAMPLES.iter().find(|(name, ..)| *name == arguments.sample);
    let Some((_, severity, state, files)) = sample else {
        let known: Vec<&str> = SAMPLES.iter().map(|(name, ..)| *name).collect();
        return Err(failed(format!(
            "there is no sample `{}`; known: {}",
            arguments.sample,
            known.join(", ")
        )));
    };
    let mut event = sample_event(severity, state, *files);
    for change in &arguments.set {
        let Some((key, value)) = change.split_once('=') else {
            return Err(failed(format!("--set {change}: write KEY=VALUE")));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        event.insert(key.to_owned(), value);
    }
    Ok(Value::Object(event))
}

fn sample_event(severity: &str, state: &str, files: u32) -> Map<String, Value> {
    let names: Vec<String> =
        (1..=files.min(3)).map(|n| format!("\\ifs\\siemgate-test\\file{n}.locky")).collect();
    let event = json!({
        "id": format!("siemgate-test-{}", EventId::fresh()),
        "eventSource": "ISILON_CLUSTER",
        "severity": severity,
        "state": state,
        "user": "S-1-5-21-0-0-0-0",
        "userName": "SIEMGATE-TEST\\nobody",
        // A documentation address (RFC 5737): no host has it.
        "clientIPs": ["192.0.2.1"],
        "protocol": "SMB2",
        "nes": ["siemgate-test"],
        "detected": Timestamp::now().as_millisecond(),
        "numFiles": files,
        "files": names,
        "shares": ["siemgate-test:test:System"],
        "snapshots": [],
        "extraParams": {},
        "siemgate": { "simulated": true },
    });
    event.as_object().cloned().unwrap_or_default()
}

/// Where to send to; with the certificate that is shown there, if that is TLS.
fn listener(plan: &Plan) -> Result<(SocketAddr, Option<&[u8]>), Exit> {
    if let Some(address) = plan.server.plain().first() {
        return Ok((*address, None));
    }
    match (plan.server.secure().first(), &plan.tls) {
        (Some(_), Some(tls)) if tls.demands => Err(failed(
            "every listener demands a client certificate, which this command does not have; try `curl --cert FILE --key FILE`, or name an address without TLS in server.listen (and those with it in server.tls.listen)",
        )),
        (Some(address), Some(tls)) => Ok((*address, Some(&tls.shown))),
        _ => Err(failed("server.listen is empty")),
    }
}

async fn post(plan: &Plan, arguments: &Arguments, event: &Value) -> Result<Value, Exit> {
    let source = super::source(plan, arguments.source.as_deref())?;
    let (address, own) = listener(plan)?;
    let wait = arguments.wait.map(|wait| format!("?wait={wait}")).unwrap_or_default();
    let scheme = if own.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}/webhook/{}{wait}", source.name);
    let body = event.to_string();
    let mut request = client(own)?.post(&url).header("Content-Type", "application/json");
    let id = EventId::fresh().to_string();
    let credentials = source.door.ways.credentials(body.as_bytes(), &id, Timestamp::now());
    for (header, value) in credentials.ok_or_else(|| failed(CANNOT_PROVE))? {
        request = request.header(header, value);
    }
    let request = request.body(body);
    let timeout =
        arguments.wait.map_or(Duration::from_secs(30), |wait| wait.0 + Duration::from_secs(10));
    let response = request.timeout(timeout).send().await;
    let unreachable = |error: reqwest::Error| {
        failed(format!(
            "no gateway answers at {url} ({}); is `siemgate run` running with this configuration?",
            plain(&error)
        ))
    };
    let response = response.map_err(unreachable)?;
    let status = response.status();
    let text = response.text().await.map_err(unreachable)?;
    let answer: Value = serde_json::from_str(&text).map_err(failed)?;
    if status.is_success() {
        Ok(answer)
    } else {
        Err(failed(format!("{status}: {}", answer["error"].as_str().unwrap_or(&text))))
    }
}

fn deliveries(answer: &Value) -> impl Iterator<Item = &Value> {
    let events = answer["events"].as_array().into_iter().flatten();
    events.flat_map(|event| event["deliveries"].as_array().into_iter().flatten())
}

fn all_delivered(answer: &Value) -> bool {
    deliveries(answer).all(|delivery| delivery["state"] == "delivered")
}

/// What the deliveries prove, which is not always what one would like them to.
fn tell_proof(plan: &Plan, answer: &Value) {
    let delivered = |sink: &&SinkPlan| {
        deliveries(answer).any(|at| at["sink"] == *sink.name && at["state"] == "delivered")
    };
    for sink in plan.sinks.iter().filter(delivered) {
        println!("{} proves {}", sink.name, sink.kind.proves());
    }
}

fn tell(answer: &Value) {
    for event in answer["events"].as_array().into_iter().flatten() {
        println!("stored as {}", event["id"].as_str().unwrap_or("?"));
    }
    for delivery in deliveries(answer) {
        let text = |name: &str| delivery[name].as_str().unwrap_or_default();
        print!("  {:<12} {}", text("sink"), text("state"));
        for name in ["status", "successCount", "cause", "note", "reply"] {
            match &delivery[name] {
                Value::Null => {}
                Value::String(text) => print!(", {name}: {text}"),
                other => print!(", {name} {other}"),
            }
        }
        println!();
    }
    if answer["settled"] == false {
        println!("Not every sink has it yet. It is stored, and delivery goes on.");
    }
    if let Some(note) = answer["note"].as_str() {
        println!("note: {note}");
    }
}
