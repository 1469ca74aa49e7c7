//! Sophos XDR / Secureworks Taegis, by HTTP Ingest.
//!
//! Guarantees: the original bytes arrive unmodified, because Taegis recognises Superna's events by
//! their JSON and files anything else as generic; nothing is shortened for the same reason; a
//! reply that counts fewer events than were sent is not a delivery. Taegis answers when it has
//! accepted, not when it has parsed: a detection that never shows up is not visible here.
//!
//! Facts: the address and the key come from the integration's page in Taegis; bearer key, JSON body
//! and `successCount` are documented. Largest body, batches and error replies could not be
//! verified, hence the cautious settings.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::http::{self, Address, Answer, ApiSink, Connection, Http, HttpApi, Request};
use super::{Built, Kind, Proof};
use crate::core::config::{ByteSize, Problem, Problems, Secret, Section};
use crate::core::route::Shaped;
use crate::core::sink::{Cause, Class, Fault, Idempotency, Limits, Outcome, Piece, Reply};
use crate::formats::lines;

/// Sophos XDR / Taegis in the table of sinks.
pub const KIND: Kind = Kind {
    name: "taegis",
    about: "Sophos XDR / Secureworks Taegis, by HTTP Ingest",
    sample: r#"[sinks.sophos]
type = "taegis"
url = "{{peer}}/http-endpoint/v1/abc"
key = { file = "{{dir}}/key" }
"#,
    class: Class::Siem,
    idempotency: Idempotency::None,
    formats: false,
    proof: Proof::UnverifiedFacts,
    proves: "the transport (address, key, proxy), and that Taegis took one event. Not that its parser \
             for Superna understands it: only Defender's own test event shows that. Create one in \
             Defender, then search in Sophos XDR: \
             FROM thirdparty WHERE sensor_id='Superna.io' EARLIEST=-7d",
    success: (200, r#"{"successCount":1}"#),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// Sophos XDR / Secureworks Taegis. Create an *HTTP Ingest* integration in Taegis; it shows the
/// address and the key.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// The integration's address, exactly as Taegis shows it.
    url: Address,
    /// The integration's key.
    key: Secret,
    /// Most events in one request, one on each line. 1 sends every event alone and unchanged.
    /// Raise it only after a trial with your tenant: Taegis documents single events.
    #[serde(default = "one")]
    batch_events: usize,
    /// Largest event that is tried. A larger one is not shortened but becomes a dead letter: Taegis
    /// recognises only the original. Its own limit is not documented, so the default leaves the
    /// decision to its reply.
    #[serde(default = "most")]
    event_bytes: ByteSize,
    #[serde(flatten)]
    connection: Connection,
}

fn one() -> usize {
    1
}

fn most() -> ByteSize {
    ByteSize(MOST_BYTES)
}

/// Most events that a request may be configured to carry.
const MOST_EVENTS: usize = 1_000;
/// Largest event that may be configured; as large as the door takes unless told otherwise.
const MOST_BYTES: u64 = 16 << 20;
/// Largest batch: the documents speak of single messages, so several together stay small.
const BATCH_BYTES: usize = 256 << 10;

struct Taegis {
    section: String,
    url: Address,
    headers: HeaderMap,
    lines: bool,
    event_bytes: usize,
}

fn build(section: &Section) -> Result<Built, Problems> {
    let settings: Settings = http::read(section)?;
    let key = |name: &str| format!("{}.{name}", section.key);
    let mut problems = Problems::new();
    if !(1..=MOST_EVENTS).contains(&settings.batch_events) {
        problems.push(Problem::new(key("batch_events"), format!("must be 1 to {MOST_EVENTS}")));
    }
    if !(1..=MOST_BYTES).contains(&settings.event_bytes.0) {
        problems.push(Problem::new(
            key("event_bytes"),
            format!("must be 1B to {}", ByteSize(MOST_BYTES)),
        ));
    }
    let authorization = http::bearer(&settings.key, key("key")).map_err(|problem| vec![problem]);
    let client = Http::build(section, "key", &settings.connection, &settings.url, &[&settings.key]);
    match (authorization, client) {
        (Ok(authorization), Ok(client)) if problems.is_empty() => {
            Ok(built(section, settings, authorization, client))
        }
        (authorization, client) => {
            problems.extend(authorization.err().into_iter().chain(client.err()).flatten());
            Err(problems)
        }
    }
}

fn built(section: &Section, settings: Settings, authorization: HeaderValue, client: Http) -> Built {
    let headers = HeaderMap::from_iter([
        (AUTHORIZATION, authorization),
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
    ]);
    let event_bytes = usize::try_from(settings.event_bytes.0).unwrap_or(usize::MAX);
    let lines = settings.batch_events > 1;
    let taegis =
        Taegis { section: section.key.clone(), url: settings.url, headers, lines, event_bytes };
    let limits = Limits {
        event_bytes,
        batch_events: settings.batch_events,
        batch_bytes: event_bytes.min(BATCH_BYTES),
        in_flight: 4,
        ordered: false,
    };
    Built::new(std::sync::Arc::new(ApiSink::new(client, taegis)), limits)
}

impl HttpApi for Taegis {
    fn encode(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault> {
        let bytes = if self.lines { lines::line(&event.body) } else { event.body.clone() };
        let room = room.min(self.event_bytes);
        if bytes.len() > room {
            let note = format!(
                "the event has {} bytes of {room}; Taegis needs the original, so it is not shortened",
                bytes.len()
            );
            return Err(Fault::new(Cause::TooLarge, note));
        }
        Ok(bytes)
    }

    fn request(&self, pieces: &[Piece]) -> Request {
        let body = match pieces {
            [piece] => piece.bytes.clone(),
            pieces => super::joined(pieces),
        };
        Request {
            method: Method::POST,
            url: self.url.url().clone(),
            headers: self.headers.clone(),
            body,
        }
    }

    fn accepted(&self, answer: &Answer, reply: Reply, sent: usize) -> Outcome {
        // Lossy, because a proxy's page may be in any encoding and JSON's syntax is ASCII.
        let text = String::from_utf8_lossy(&answer.body);
        let accepted = match serde_json::from_str::<Value>(&text) {
            Ok(body) => body.get("successCount").and_then(count),
            Err(_) if text.trim().is_empty() => None,
            Err(_) => {
                let note = format!(
                    "{}: the reply is not JSON, so something else than Taegis answered (a proxy, a portal); check {section}.url and {section}.proxy",
                    answer.status,
                    section = self.section
                );
                return Outcome::Failed(Fault::new(Cause::Setup, note).with_reply(reply));
            }
        };
        let reply = Reply { accepted, ..reply };
        match accepted {
            Some(count) if count < sent as u64 => {
                // Of several it does not say which: the worker finds out by sending fewer.
                let note = format!("Taegis accepted {count} of {sent}; its reply may say why");
                Outcome::Failed(Fault::new(Cause::Refused, note).with_reply(reply))
            }
            _ => Outcome::Delivered(reply),
        }
    }

    fn probe(&self) -> Request {
        // No health address is known. OPTIONS delivers nothing, and any answer proves the way.
        Request { method: Method::OPTIONS, body: Bytes::new(), ..self.request(&[]) }
    }
}

/// A count as number or as text; anything else says nothing.
fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => {
            number.as_u64().or_else(|| number.as_f64().map(|float| float.max(0.0) as u64))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}
