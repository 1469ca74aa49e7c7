//! Destinations that take a request first and confirm it later, as Splunk's indexer acknowledgement does.
//!
//! Guarantees: only a literal yes for the id that the answer gave confirms a delivery; a channel carries one
//! delivery at a time, and another one only after that was confirmed. Ids count from 0 in each channel and
//! start anew when the destination restarts, so a channel with two deliveries could take the yes for one
//! for the other's. What was not confirmed in time is no delivery: it is sent again, and may be there twice.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde_json::Value;
use uuid::Uuid;

use super::{Answer, Request};
use crate::core::sink::{Cause, Fault};

/// Stands for the id, in the question and in the place of its answer.
pub const ID: &str = "{{@ack}}";
/// The first wait before a question; each is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait between two questions.
const LONGEST: Duration = Duration::from_secs(5);

/// What one exchange may take: an attempt that waits for its confirmation may take much longer, and a
/// destination that is silent must be noticed as soon as any other.
pub const EXCHANGE: Duration = Duration::from_secs(30);

/// How one destination confirms.
pub struct Acks {
    /// The header that names the channel of a request.
    pub channel: HeaderName,
    /// Where an answer has the id of what it took: a JSON pointer.
    pub id: String,
    /// Where the question goes, by POST.
    pub url: Url,
    /// Its headers.
    pub headers: HeaderMap,
    /// The question, with [`ID`] in place of the id.
    pub question: Value,
    /// Where its answer says `true`: a JSON pointer, with [`ID`] in it.
    pub yes: String,
    /// How long it is asked.
    pub patience: Duration,
    /// Channels whose last delivery was confirmed.
    pub idle: Mutex<Vec<HeaderValue>>,
}

impl Acks {
    /// A channel that nothing else uses. Whoever does not give it back has spoiled it.
    pub fn take(&self) -> Result<HeaderValue, Fault> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| HeaderValue::from_str(&Uuid::new_v4().to_string()), Ok)
            .map_err(|error| Fault::new(Cause::Down, format!("cannot name a channel: {error}")))
    }

    /// Give a channel back whose delivery was confirmed.
    pub fn give_back(&self, channel: HeaderValue) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
    }

    /// The id that `answer` gives to what it took.
    pub fn id(&self, answer: &Answer) -> Option<Value> {
        let id = json(answer)?.pointer(&self.id)?.clone();
        (id.is_number() || id.is_string()).then_some(id)
    }

    /// The question about `id`.
    pub fn question(&self, id: &Value) -> Request {
        let body = Bytes::from(filled(&self.question, id).to_string());
        let (url, headers) = (self.url.clone(), self.headers.clone());
        Request { method: Method::POST, url, headers, body }
    }

    /// Whether `answer` confirms `id`.
    pub fn confirms(&self, answer: &Answer, id: &Value) -> bool {
        let place = self.yes.replace(ID, &text(id));
        json(answer).and_then(|body| body.pointer(&place)?.as_bool()) == Some(true)
    }

    /// The wait before a question, from that before the last one.
    pub fn wait(&self, last: Duration) -> Duration {
        (last * 2).clamp(FIRST, LONGEST)
    }

    /// What no confirmation within the patience means.
    pub fn missing(&self, id: &Value) -> Fault {
        let (id, patience) = (text(id), self.patience.as_secs());
        let note = format!(
            "taken as {id}, but not acknowledged within {patience} s, so it is sent again and may be there twice; look at the indexers and their queues, and whether a load balancer asks another server than it sent to (it needs sticky sessions)"
        );
        Fault::new(Cause::Down, note)
    }
}

fn json(answer: &Answer) -> Option<Value> {
    serde_json::from_slice(&answer.body).ok()
}

fn text(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

/// `question` with the id in its place; a number stays one.
fn filled(question: &Value, id: &Value) -> Value {
    match question {
        Value::String(text) if text == ID => id.clone(),
        Value::Array(items) => items.iter().map(|item| filled(item, id)).collect(),
        Value::Object(table) => {
            table.iter().map(|(name, value)| (name.clone(), filled(value, id))).collect()
        }
        plain => plain.clone(),
    }
}
