//! What the tests of sinks share: building one from TOML as the gateway does, and feeding it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use siemgate::core::Timestamp;
use siemgate::core::config::{Layers, Problems, Section};
use siemgate::core::event::{Draft, Event, EventId, Position};
use siemgate::core::finding::Finding;
use siemgate::core::route::Shaped;
use siemgate::core::sink::{Cause, Fault, Outcome, Piece, Reply, Sink};
use siemgate::sinks::{Built, Catalogue, Entry};
use tempfile::TempDir;

/// What `{{dir}}/key` holds: quotes, so that an echo inside JSON looks different from the key.
pub const KEY: &str = "kEy-\"42\"/hunter2-0123456789";

/// A folder with the secret that samples refer to.
pub fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_secrets(dir.path());
    dir
}

/// The secrets that samples refer to.
pub const SECRETS: [&str; 3] = ["key", "whsec", "google.json"];

pub fn write_secrets(dir: &Path) {
    std::fs::write(dir.join("key"), format!("{KEY}\n")).unwrap();
    std::fs::write(dir.join("whsec"), "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\n").unwrap();
    let account = super::gateway::fixture("google-service-account.json");
    std::fs::write(dir.join("google.json"), account).unwrap();
}

/// The kind and the section of the only sink in `toml`.
pub fn section(toml: &str) -> (Entry, Section) {
    let config = tempfile::tempdir().unwrap();
    std::fs::write(config.path().join("10-sink.toml"), toml).unwrap();
    let mut root = Layers::read(config.path()).map_err(told).unwrap().root();
    let mut sinks = root.take("sinks").map_err(told).unwrap();
    let name = sinks.table.keys().next().unwrap().clone();
    let mut section = sinks.take(&name).map_err(told).unwrap();
    let kind = section.take_text("type").unwrap();
    section.table.remove("delivery");
    section.table.remove("guard");
    (Catalogue::default().get(&kind).map_err(told).unwrap().unwrap(), section)
}

/// Build the only sink in `toml`.
pub fn build(toml: &str) -> Result<Built, Problems> {
    let (kind, section) = section(toml);
    kind.build(&section)
}

/// Build what must build.
pub fn built(toml: &str) -> Built {
    build(toml).map_err(told).unwrap()
}

/// Problems as people see them.
pub fn told(problems: Problems) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// An event with `body`, unshaped.
pub fn event(body: impl Into<Bytes>) -> Shaped {
    let draft = Draft::new(EventId::fresh(), now(), "test".into(), body.into());
    // With an incident of its own, so that the id stands for the event alone.
    draft.decoded_by(|| Finding { incident: Some("incident-1".into()), ..Finding::default() });
    Shaped::unshaped(Arc::new(Event { position: Position(0), draft }))
}

/// Encode one event with all the room its sink offers.
pub fn encode(built: &Built, body: impl Into<Bytes>) -> Result<Piece, Fault> {
    let event = event(body);
    let bytes = built.sink.encode(&event, built.limits.event_bytes)?;
    Ok(Piece::of(&event.event, bytes))
}

/// Encode and send events as one batch.
pub async fn send(built: &Built, bodies: &[&str]) -> Outcome {
    let piece = |body: &&str| encode(built, body.as_bytes().to_vec()).unwrap();
    let pieces: Vec<Piece> = bodies.iter().map(piece).collect();
    built.sink.send(&pieces, now()).await
}

pub fn now() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().unwrap()
}

pub fn delivered(outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Delivered(reply) => reply,
        other => panic!("not delivered: {other:?}"),
    }
}

pub fn failed(outcome: Outcome, cause: Cause) -> Fault {
    match outcome {
        Outcome::Failed(fault) if fault.cause == cause => fault,
        other => panic!("expected {cause:?}: {other:?}"),
    }
}

/// All files in `dir` but the key, oldest rotation first, unpacked.
pub fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .filter(|entry| SECRETS.iter().all(|secret| entry.file_name() != **secret))
        .map(|entry| (entry.file_name().into_string().unwrap(), unpacked(&entry.path())))
        .collect();
    files.sort();
    files
}

fn unpacked(path: &Path) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = std::fs::read(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        bytes = plain;
    }
    bytes
}

/// Each line as JSON.
pub fn lines(bytes: &[u8]) -> Vec<Value> {
    assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "torn: {}", String::from_utf8_lossy(bytes));
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// Send in a task, so that it can be cancelled.
pub fn sending(sink: Arc<dyn Sink>, pieces: Vec<Piece>) -> tokio::task::JoinHandle<Outcome> {
    tokio::spawn(async move { sink.send(&pieces, now()).await })
}
