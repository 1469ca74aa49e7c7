//! Explain: what becomes of an event, down to the bytes that every sink would send.
//!
//! Guarantees: it asks the routing table and the sinks that are in force, the same code that
//! delivers; nothing is stored, sent or counted; credentials are masked. The bytes are whole: text
//! where they are UTF-8, else hexadecimal.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::plan::Plan;
use crate::core::Timestamp;
use crate::core::alarms::INTERNAL;
use crate::core::event::{Draft, Event, EventId, Position};
use crate::core::finding::Finding;
use crate::core::route::{RouteId, Select, Shape};
use crate::core::sink::{Fault, Limits, Piece, Sink};
use crate::http::admin::Asked;
use crate::http::split;
use crate::routes::{Answer, Table};

/// Most events of one body; more would bury the reader.
const EVENTS: usize = 100;
/// Most changes of a transform that are told.
const CHANGES: usize = 200;

/// The part of a configuration that decides what becomes of an event.
pub struct Explainer {
    table: Arc<Table>,
    sources: Vec<Arc<str>>,
    sinks: BTreeMap<Arc<str>, Known>,
}

#[derive(Clone)]
struct Known {
    kind: Arc<str>,
    sink: Arc<dyn Sink>,
    limits: Limits,
}

/// What becomes of one event.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The gateway's id: its own where it is stored, else a fresh one.
    pub id: EventId,
    /// The source whose decoder read it.
    pub source: Arc<str>,
    /// What the decoder made of it, and what it did not understand (`unknown`).
    pub finding: Finding,
    /// What every route made of it, in the order in which they are asked.
    pub routes: Vec<Answer>,
    /// What every sink would be sent.
    pub sinks: Vec<Sent>,
}

/// What one sink would be sent.
#[derive(Debug, Serialize)]
pub struct Sent {
    /// Its name.
    pub sink: Arc<str>,
    /// Its kind.
    pub kind: Arc<str>,
    /// The route that gives it the event.
    pub route: RouteId,
    /// What the route changes of the body: `changed /user`, `removed /files`.
    pub changes: Vec<String>,
    /// `POST https://host/…` and the headers, where it speaks HTTP. Never credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// The bytes.
    #[serde(flatten)]
    pub written: Option<Written>,
    /// Why it would become a dead letter instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead: Option<String>,
}

/// The head of a request.
#[derive(Debug, Serialize)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The address; path and query may be secret and are masked.
    pub url: String,
    /// Names and values, in order; credentials are masked.
    pub headers: Vec<(String, String)>,
    /// A secret stood in the body and was masked there too.
    pub body_masked: bool,
}

/// Bytes without loss.
#[derive(Debug, PartialEq, Serialize)]
pub struct Written {
    /// How many.
    pub bytes: usize,
    /// The bytes, where they are UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Else so, two digits a byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
}

impl Written {
    fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { bytes: bytes.len(), text: Some(text.to_owned()), hex: None },
            Err(_) => {
                let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                Self { bytes: bytes.len(), text: None, hex: Some(hex) }
            }
        }
    }
}

impl Explainer {
    /// For the configuration of `plan`.
    pub fn of(plan: &Plan) -> Self {
        let known = |sink: &super::SinkPlan| Known {
            kind: sink.kind.name().into(),
            sink: sink.built.sink.clone(),
            limits: sink.built.limits,
        };
        Self {
            table: plan.table.clone(),
            sources: plan.sources.iter().map(|source| source.name.clone()).collect(),
            sinks: plan.sinks.iter().map(|sink| (sink.name.clone(), known(sink))).collect(),
        }
    }

    /// The same with the sinks of `old` that are `kept`, so that no sink exists twice.
    pub(super) fn keeping(mut self, old: &Self, kept: impl Fn(&Arc<str>) -> bool) -> Self {
        for (name, known) in self.sinks.iter_mut().filter(|(name, _)| kept(name)) {
            if let Some(old) = old.sinks.get(name) {
                *known = old.clone();
            }
        }
        self
    }

    /// The names of all sinks.
    pub(super) fn sinks(&self) -> Vec<&str> {
        self.sinks.keys().map(|name| &**name).collect()
    }

    /// Answer the admin API.
    pub(super) fn answer(&self, asked: Asked) -> Result<Value, String> {
        let events = match asked {
            Asked::Event(event) => vec![self.event(copy(&event))],
            Asked::Body { source, body } => self.body(source.as_deref(), &body)?,
        };
        Ok(serde_json::json!({ "events": events }))
    }

    /// Every event of `body`, as the door of `source` would take it.
    pub fn body(&self, source: Option<&str>, body: &Bytes) -> Result<Vec<Explanation>, String> {
        let source = self.source(source)?;
        let pieces = split::split(body, EVENTS).map_err(|error| error.to_string())?;
        let draft = |body| Draft::new(EventId::fresh(), Timestamp::now(), source.clone(), body);
        Ok(pieces.into_iter().map(|body| self.event(draft(body))).collect())
    }

    /// The source `wanted`, which may be left out where there is only one.
    fn source(&self, wanted: Option<&str>) -> Result<Arc<str>, String> {
        let known = || self.sources.join(", ");
        match (wanted, self.sources.as_slice()) {
            (Some(wanted), _) if *wanted == *INTERNAL => Ok(INTERNAL.into()),
            (None, [only]) => Ok(only.clone()),
            (None, _) => Err(format!("say from which source the event is, one of: {}", known())),
            (Some(wanted), all) => all
                .iter()
                .find(|source| ***source == *wanted)
                .cloned()
                .ok_or_else(|| format!("there is no source `{wanted}`; known: {}", known())),
        }
    }

    /// One event.
    fn event(&self, draft: Draft) -> Explanation {
        let routes = self.table.explain(&draft);
        let choice = self.table.choose(&draft);
        let event = Arc::new(Event { position: Position(0), draft });
        let sent = |sink: &Arc<str>| {
            let (known, route) = (self.sinks.get(sink)?, choice.route_for(sink)?);
            Some(self.sent(sink, known, route, &event))
        };
        let sinks = choice.sinks().filter_map(sent).collect();
        let (id, source) = (event.id, event.source.clone());
        Explanation { id, source, finding: event.finding().clone(), routes, sinks }
    }

    fn sent(&self, sink: &Arc<str>, known: &Known, route: &RouteId, event: &Arc<Event>) -> Sent {
        let mut sent = Sent {
            sink: sink.clone(),
            kind: known.kind.clone(),
            route: route.clone(),
            changes: Vec::new(),
            request: None,
            written: None,
            dead: None,
        };
        if let Err(fault) = self.write(known, event, &mut sent) {
            sent.dead = Some(fault.note);
        }
        sent
    }

    /// As the delivery worker does it: shape, then encode with all the room there is.
    fn write(&self, known: &Known, event: &Arc<Event>, sent: &mut Sent) -> Result<(), Fault> {
        let shaped = self.table.shape(event, &sent.route)?;
        sent.changes = changes(&event.body, &shaped.body);
        let bytes = known.sink.encode(&shaped, known.limits.event_bytes)?;
        let piece = Piece::of(event, bytes.clone());
        sent.written = Some(Written::new(&bytes));
        if let Some(preview) = known.sink.preview(&[piece]) {
            sent.written = Some(Written::new(&preview.body));
            sent.request = Some(Request {
                method: preview.method,
                url: preview.url,
                headers: preview.headers,
                body_masked: preview.body_masked,
            });
        }
        Ok(())
    }
}

/// A stored event without what the worker remembers of it, so that explaining leaves no trace.
fn copy(event: &Event) -> Draft {
    Draft::new(event.id, event.received, event.source.clone(), event.body.clone())
}

/// What a transform did, by JSON pointers.
fn changes(before: &[u8], after: &[u8]) -> Vec<String> {
    if before == after {
        return Vec::new();
    }
    let parsed = |bytes| serde_json::from_slice::<Value>(bytes);
    let (Ok(before), Ok(after)) = (parsed(before), parsed(after)) else {
        return vec!["the body is another".into()];
    };
    let mut found = Vec::new();
    compare("", &before, &after, &mut found);
    if found.is_empty() {
        found.push("only the white space or the order of keys".into());
    }
    found.truncate(CHANGES);
    found
}

fn compare(at: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        if before != after {
            found.push(format!("changed {}", if at.is_empty() { "the whole body" } else { at }));
        }
        return;
    };
    let below = |name: &str| format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
    for (name, value) in old {
        match new.get(name) {
            Some(after) => compare(&below(name), value, after, found),
            None => found.push(format!("removed {}", below(name))),
        }
    }
    let added = new.keys().filter(|name| !old.contains_key(*name));
    found.extend(added.map(|name| format!("added {}", below(name))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_by_pointer() {
        let before = br#"{"a":{"b":1,"c/d":2},"e":[1],"same":0}"#;
        let after = br#"{"a":{"b":2},"e":[1,2],"same":0,"new":null}"#;
        let told = changes(before, after);
        assert_eq!(told, ["changed /a/b", "removed /a/c~1d", "changed /e", "added /new"]);
        assert!(changes(before, before).is_empty());
        assert_eq!(changes(b"[ 1 ]", b"[1]"), ["only the white space or the order of keys"]);
        assert_eq!(changes(b"{}", b"<14>x"), ["the body is another"]);
    }

    #[test]
    fn bytes_are_told_without_loss() {
        assert_eq!(Written::new(b"{}\n").text.as_deref(), Some("{}\n"));
        assert_eq!(Written::new(b"\xffa").hex.as_deref(), Some("ff61"));
    }
}
