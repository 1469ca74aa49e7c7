//! One event as a log record of OpenTelemetry, in either encoding.
//!
//! Guarantees: pure; both encodings say the same; the numbers of fields are those of
//! `opentelemetry/proto/logs/v1/logs.proto`; in JSON keys are lowerCamelCase, enums integers and 64-bit
//! numbers texts, as OTLP wants it.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::wire::Writer;
use crate::core::Timestamp;
use crate::core::finding::State;
use crate::core::route::Shaped;
use crate::core::sink::incident_key;
use crate::formats::scales;

/// Who writes.
const SERVICE: &str = "siemgate";

/// How requests are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Protocol Buffers, which OTLP's own clients send unless told otherwise.
    #[default]
    Protobuf,
    /// JSON, which people read, and not every receiver.
    Json,
}

impl Encoding {
    /// The content type of requests and of the replies to them.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    /// A request with these records, each as [`Record::write`] has made it.
    pub fn request<'b>(self, records: impl Iterator<Item = &'b [u8]>) -> Vec<u8> {
        match self {
            Self::Protobuf => {
                let records = records.fold(Writer::default(), Writer::raw).done();
                let name = Writer::default().text(1, SERVICE);
                let logs = Writer::default().message(1, name).raw(&records);
                let resource = Writer::default().message(1, pair("service.name", SERVICE));
                let resource = Writer::default().message(1, resource).message(2, logs);
                Writer::default().message(1, resource).done()
            }
            Self::Json => {
                let records = records.collect::<Vec<_>>().join(&b","[..]);
                let before = format!(
                    r#"{{"resourceLogs":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{SERVICE}"}}}}]}},"scopeLogs":[{{"logRecords":["#
                );
                let after = format!(r#"],"scope":{{"name":"{SERVICE}"}}}}]}}]}}"#);
                [before.as_bytes(), &records, after.as_bytes()].concat()
            }
        }
    }
}

/// A key with a text.
fn pair(key: &str, text: &str) -> Writer {
    Writer::default().text(1, key).message(2, any(text))
}

/// A text where a value of any form may stand: it is written though it is empty.
fn any(text: &str) -> Writer {
    Writer::default().bytes(1, text.as_bytes())
}

/// One log record without its body.
pub struct Record<'s> {
    time: u64,
    observed: u64,
    number: u8,
    severity: &'static str,
    name: String,
    attributes: Vec<(&'static str, Cow<'s, str>)>,
}

impl<'s> Record<'s> {
    /// Of `event`.
    pub fn of(event: &'s Shaped) -> Self {
        let (finding, event) = (event.finding(), &event.event);
        let observed = nanoseconds(event.received).unwrap_or_default();
        let state = Some(finding.state.as_str()).filter(|_| finding.state != State::Missing);
        let attributes = [
            ("event.id", Some(event.id.to_string().into())),
            ("event.source", Some(Cow::Borrowed(&*event.source))),
            ("event.incident", Some(incident_key(finding.incident.as_deref(), event.id).into())),
            ("event.state", state.map(Cow::Borrowed)),
        ];
        let there = |(key, value): (_, Option<_>)| value.map(|value| (key, value));
        Self {
            time: finding.time.and_then(nanoseconds).unwrap_or(observed),
            observed,
            number: scales::otlp(finding.severity),
            severity: finding.severity.as_str(),
            name: format!("{}.event", event.source),
            attributes: attributes.into_iter().filter_map(there).collect(),
        }
    }

    /// The record with this body.
    pub fn write(&self, encoding: Encoding, body: &str) -> Vec<u8> {
        match encoding {
            Encoding::Protobuf => self.protobuf(body),
            Encoding::Json => self.json(body),
        }
    }

    /// With its tag, as a field of `ScopeLogs`.
    fn protobuf(&self, body: &str) -> Vec<u8> {
        let mut record = Writer::default()
            .fixed64(1, self.time)
            .number(2, self.number.into())
            .text(3, self.severity)
            .message(5, any(body));
        for (key, text) in &self.attributes {
            record = record.message(6, pair(key, text));
        }
        let record = record.fixed64(11, self.observed).text(12, &self.name);
        Writer::default().message(2, record).done()
    }

    fn json(&self, body: &str) -> Vec<u8> {
        let pair = |(key, text): &(_, _)| json!({ "key": key, "value": { "stringValue": text } });
        let attributes: Vec<_> = self.attributes.iter().map(pair).collect();
        json!({
            "timeUnixNano": self.time.to_string(),
            "observedTimeUnixNano": self.observed.to_string(),
            "severityNumber": self.number,
            "severityText": self.severity,
            "eventName": self.name,
            "body": { "stringValue": body },
            "attributes": attributes,
        })
        .to_string()
        .into_bytes()
    }
}

/// Since 1970; nothing before it can be said.
fn nanoseconds(time: Timestamp) -> Option<u64> {
    u64::try_from(time.as_nanosecond()).ok()
}
