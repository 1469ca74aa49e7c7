//! Amazon SQS queues, by `SendMessageBatch`.
//!
//! Guarantees: at most ten messages and the queue's size in a request; exactly the entries that the
//! answer names are sent again. A queue whose name ends in `.fifo` gets the incident as its group, so
//! that updates stay in order, and the event's id against doubles, which it knows for five minutes.

use bytes::Bytes;
use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::http::{Address, Answer, Connection, Request};
use super::super::{Built, Kind, Proof};
use super::{Account, Intake, Taken, codes};
use crate::core::Timestamp;
use crate::core::config::{ByteSize, Problem, Problems, Section};
use crate::core::route::{Format, Shaped};
use crate::core::sink::{Cause, Class, Idempotency, Limits, Piece, incident_key};
use crate::formats::Named;

/// SQS in the table of sinks.
pub const KIND: Kind = Kind {
    name: "sqs",
    about: "Amazon SQS queues, standard and FIFO",
    sample: r#"[sinks.sqs]
type = "sqs"
queue = "{{peer}}/123456789012/superna" # documents: queue = "https://sqs.eu-central-1.amazonaws.com/123456789012/superna"
region = "eu-central-1"
access_key = { file = "{{dir}}/key" }
secret_key = { file = "{{dir}}/key" }
"#,
    class: Class::Siem,
    idempotency: Idempotency::None,
    formats: true,
    proof: Proof::Documented,
    proves: "that the queue has stored the message; the receipt shows its id. The key needs sqs:SendMessage on the \
             queue, and kms:GenerateDataKey where its own key encrypts it. A FIFO queue (its name ends in .fifo) \
             recognises a repeated event for five minutes; of a standard queue the attribute event_id tells. \
             `aws sqs receive-message --queue-url URL --message-attribute-names All` shows it",
    success: (
        200,
        r#"{"Successful":[{"Id":"0","MessageId":"m"},{"Id":"1"},{"Id":"2"},{"Id":"3"},{"Id":"4"},{"Id":"5"},{"Id":"6"},{"Id":"7"},{"Id":"8"},{"Id":"9"}]}"#,
    ),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// Most entries of a batch.
const ENTRIES: usize = 10;
/// Largest message that a queue can be set to take.
const MOST: u64 = 1 << 20;
const LEAST: u64 = 1 << 10;

/// An SQS queue. Every message has the attributes `event_id`, `source` and `severity`.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// The queue's URL, as AWS shows it. If its name ends in `.fifo` it is a FIFO queue.
    queue: Address,
    /// Largest message, and batch: the queue's *maximum message size*, 256 KiB unless it was raised.
    /// Larger events are shortened.
    #[serde(default = "usual")]
    max_bytes: ByteSize,
    /// How the event is written, unless its route says so.
    #[serde(default)]
    format: Named,
    #[serde(flatten)]
    account: Account,
    #[serde(flatten)]
    connection: Connection,
}

fn usual() -> ByteSize {
    ByteSize(256 << 10)
}

struct Sqs {
    url: Url,
    before: String,
    fifo: bool,
    format: &'static Format,
    section: String,
}

fn build(section: &Section) -> Result<Built, Problems> {
    let Settings { queue, max_bytes, format, account, connection } = super::read(section)?;
    let key = |name: &str| format!("{}.{name}", section.key);
    let mut problems = account.mistakes(section);
    if !(LEAST..=MOST).contains(&max_bytes.0) {
        let told = format!("must be {} to {}", ByteSize(LEAST), ByteSize(MOST));
        problems.push(Problem::new(key("max_bytes"), told));
    }
    if queue.url().path().trim_matches('/').is_empty() || queue.url().query().is_some() {
        let problem = Problem::new(key("queue"), "is no queue's URL");
        problems
            .push(problem.help("such as https://sqs.eu-central-1.amazonaws.com/123456789012/NAME"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let to = account.url.clone().unwrap_or_else(|| queue.host());
    let client = account.open(section, &connection, "sqs", &to)?;
    let named = Value::from(queue.url().as_str());
    let sqs = Sqs {
        url: to.url().clone(),
        before: format!("{{\"QueueUrl\":{named},\"Entries\":["),
        fifo: queue.url().path().ends_with(".fifo"),
        format: format.0,
        section: section.key.clone(),
    };
    let bytes = usize::try_from(max_bytes.0).unwrap_or(usize::MAX);
    let limits = Limits {
        event_bytes: bytes,
        batch_events: ENTRIES,
        batch_bytes: bytes,
        in_flight: 4,
        ordered: false,
    };
    Ok(super::built(section, client, sqs, limits))
}

impl Sqs {
    fn entry(&self, event: &Shaped, text: &str) -> Vec<u8> {
        let (id, finding) = (event.event.id, event.event.finding());
        let attribute =
            |text: &str| json!({ "DataType": "String", "StringValue": super::xml_safe(text) });
        let mut entry = json!({
            "Id": id,
            "MessageBody": super::xml_safe(text),
            "MessageAttributes": {
                "event_id": attribute(&id.to_string()),
                "source": attribute(&event.event.source),
                "severity": attribute(event.finding().severity.as_str()),
            },
        });
        if self.fifo {
            entry["MessageGroupId"] = incident_key(finding.incident.as_deref(), id).into();
            entry["MessageDeduplicationId"] = id.to_string().into();
        }
        entry.to_string().into_bytes()
    }
}

impl Intake for Sqs {
    fn encode(&self, event: &Shaped, room: usize) -> Option<Bytes> {
        super::text(event, self.format, room, |text| self.entry(event, text))
    }

    fn request(&self, pieces: &[Piece], _: Option<Timestamp>) -> Request {
        let body = super::listed(&self.before, pieces, "]}");
        super::call(&self.url, "1.0", "AmazonSQS.SendMessageBatch", body)
    }

    fn taken(&self, answer: &Answer, pieces: &[Piece]) -> Option<Taken> {
        let body = super::json(answer)?;
        let list = |name: &str| body.get(name).and_then(Value::as_array);
        let (good, bad) = (list("Successful"), list("Failed"));
        good.or(bad)?;
        let text = |entry: &Value, key: &str| {
            entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let fault = |entry: &Value| {
            let index = super::piece_of(pieces, &text(entry, "Id"))?;
            let ours = entry.get("SenderFault") == Some(&Value::Bool(true));
            let otherwise = if ours { Cause::Refused } else { Cause::Down };
            let why = text(entry, "Message");
            Some((index, codes::of_piece(&text(entry, "Code"), &why, otherwise, &self.section)))
        };
        let id = good.and_then(|good| good.first()).map(|entry| text(entry, "MessageId"));
        let failed = bad.map_or(0, Vec::len);
        let told = good.map_or(0, Vec::len) + failed;
        let faults = bad.into_iter().flatten().filter_map(fault).collect();
        Some(Taken { id, told, failed, faults })
    }
}
