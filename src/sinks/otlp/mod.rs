//! OpenTelemetry: collectors and products that take OTLP logs over HTTP.
//!
//! Guarantees: one event is one log record, with the original as its body; a record that the receiver has
//! rejected (`partial_success`) is not delivered, whatever the status; a reply that is none of OTLP's is no
//! delivery either.

mod record;
mod reply;
mod wire;

#[cfg(any(test, fuzzing))]
pub(super) use reply::partial as partial_of;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use schemars::JsonSchema;
use serde::Deserialize;

use super::http::{self, Address, Answer, ApiSink, Connection, Http, HttpApi, Request};
use super::{Built, Kind, Proof};
use crate::core::config::{Problems, Secret, Section};
use crate::core::route::Shaped;
use crate::core::sink::{Cause, Class, Fault, Idempotency, Limits, Outcome, Piece, Reply};
use crate::formats::{RAW, lines, shorten};
use record::{Encoding, Record};

/// Largest request and largest record: what receivers take unless they are told otherwise is more, and
/// some pass records on by gRPC, which takes 4 MiB.
const BYTES: usize = 4_000_000;
/// What stands around the records of a request, at most.
const AROUND: usize = 256;
/// Where logs go, below the address.
const PATH: &str = "/v1/logs";

/// OTLP in the table of sinks.
pub const KIND: Kind = Kind {
    name: "otlp",
    about: "OpenTelemetry collectors and products, by OTLP/HTTP logs in protobuf or JSON",
    sample: r#"[sinks.otel]
type = "otlp"
url = "{{peer}}" # documents: url = "https://otel.example:4318"
token = { file = "{{dir}}/key" }
"#,
    class: Class::Siem,
    idempotency: Idempotency::None,
    formats: true,
    proof: Proof::Documented,
    proves: "that the receiver has taken the log record, and rejected none. What its pipeline does then shows where it ends; the \
             resource is service.name=siemgate, and event.id the gateway's id.",
    success: (200, ""),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// OpenTelemetry. Give the collector an OTLP receiver with http (port 4318), and a logs pipeline that
/// starts with it. The original is the record's body, as text, which a route's `format` changes; severity,
/// times and `event.id`, `event.source`, `event.incident`, `event.state` stand beside it.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// Base address of the receiver, such as `"https://otel.example:4318"`; `/v1/logs` is added where it
    /// is not there.
    url: Address,
    /// Bearer token, where the receiver wants one.
    token: Option<Secret>,
    /// `"protobuf"` unless set, or `"json"`, which not every receiver reads.
    #[serde(default)]
    encoding: Encoding,
    /// Compress request bodies.
    #[serde(default = "yes")]
    gzip: bool,
    #[serde(flatten)]
    connection: Connection,
}

fn yes() -> bool {
    true
}

struct Otlp {
    section: String,
    url: Url,
    headers: HeaderMap,
    encoding: Encoding,
    gzip: bool,
}

fn build(section: &Section) -> Result<Built, Problems> {
    let settings: Settings = http::read(section)?;
    let key = format!("{}.token", section.key);
    let token = settings.token.as_ref();
    let authorization = token.map(|token| http::bearer(token, key)).transpose();
    let secrets: Vec<&Secret> = token.into_iter().collect();
    let client = Http::build(section, "token", &settings.connection, &settings.url, &secrets);
    let (authorization, client) = match (authorization, client) {
        (Ok(authorization), Ok(client)) => (authorization, client),
        (authorization, client) => {
            let problems = client.err().unwrap_or_default();
            return Err(problems.into_iter().chain(authorization.err()).collect());
        }
    };
    let content = HeaderValue::from_static(settings.encoding.content_type());
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, content)]);
    headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
    let otlp = Otlp {
        section: section.key.clone(),
        url: below(settings.url.url()),
        headers,
        encoding: settings.encoding,
        gzip: settings.gzip,
    };
    let limits = Limits {
        event_bytes: BYTES - AROUND,
        batch_events: 500,
        batch_bytes: BYTES - AROUND,
        in_flight: 4,
        ordered: false,
    };
    Ok(Built::new(std::sync::Arc::new(ApiSink::new(client, otlp)), limits))
}

/// Where logs go at `base`.
fn below(base: &Url) -> Url {
    let mut url = base.clone();
    let path = base.path().trim_end_matches('/');
    if !path.ends_with(PATH) {
        url.set_path(&format!("{path}{PATH}"));
    }
    url
}

impl HttpApi for Otlp {
    fn encode(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault> {
        let record = Record::of(event);
        let written = |body: &[u8]| record.write(self.encoding, &String::from_utf8_lossy(body));
        let fits = |written: &Vec<u8>| written.len() <= room;
        let line = lines::line(&event.body);
        let line = &line[..line.len() - 1];
        let whole = written(line);
        // In its place a text is longer than it is.
        let tries = [
            room.saturating_sub(whole.len().saturating_sub(line.len())),
            room - room / 8,
            room / 2,
            room / 4,
            room / 8,
        ];
        let fitted = match event.format.filter(|format| format.name != RAW.name) {
            Some(format) => tries
                .into_iter()
                .find_map(|room| (format.write)(event, room).map(|it| written(&it)).filter(fits)),
            None if fits(&whole) => Some(whole),
            None => tries.into_iter().find_map(|room| {
                shorten::json(line, room).map(|it| written(it.as_bytes())).filter(fits)
            }),
        };
        fitted.map(Bytes::from).ok_or_else(|| {
            let note =
                format!("the event has {} bytes and cannot be made to fit into {room}", line.len());
            Fault::new(Cause::TooLarge, note)
        })
    }

    fn request(&self, pieces: &[Piece]) -> Request {
        let records = pieces.iter().map(|piece| &piece.bytes[..]);
        let mut request = Request {
            method: Method::POST,
            url: self.url.clone(),
            headers: self.headers.clone(),
            body: self.encoding.request(records).into(),
        };
        if self.gzip {
            http::compress(&mut request);
        }
        request
    }

    fn accepted(&self, answer: &Answer, reply: Reply, sent: usize) -> Outcome {
        let Some(partial) = reply::partial(&answer.body) else {
            let note = format!(
                "{}: the reply is none of OTLP, so something else than a receiver answered (a proxy, a portal); check {section}.url and {section}.proxy",
                answer.status,
                section = self.section
            );
            return Outcome::Failed(Fault::new(Cause::Setup, note).with_reply(reply));
        };
        let accepted = (sent as u64).saturating_sub(partial.rejected);
        let reply = Reply { accepted: Some(accepted), ..reply };
        if partial.rejected == 0 {
            return Outcome::Delivered(reply);
        }
        // Of several it does not say which: the worker finds out by sending fewer.
        let note =
            format!("the receiver rejected {} of {sent}; its reply may say why", partial.rejected);
        Outcome::Failed(Fault::new(Cause::Refused, note).with_reply(reply))
    }

    fn probe(&self) -> Request {
        // No health address is part of OTLP. OPTIONS delivers nothing, and any answer proves the way.
        let (url, headers) = (self.url.clone(), self.headers.clone());
        Request { method: Method::OPTIONS, url, headers, body: Bytes::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_have_their_path_once() {
        for (base, url) in [
            ("https://h:4318", "https://h:4318/v1/logs"),
            ("https://h:4318/", "https://h:4318/v1/logs"),
            ("https://h/otlp", "https://h/otlp/v1/logs"),
            ("https://h/a%2Fb/v1/logs?x=1", "https://h/a%2Fb/v1/logs?x=1"),
            ("https://h/a%2Fb?x=1", "https://h/a%2Fb/v1/logs?x=1"),
        ] {
            assert_eq!(below(&base.parse().unwrap()).as_str(), url);
        }
    }
}
