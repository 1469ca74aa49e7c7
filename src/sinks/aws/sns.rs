//! Amazon SNS topics, by `PublishBatch`: a form goes out, XML comes back.
//!
//! Guarantees: at most ten messages and 256 KiB in a request; exactly the entries that the answer names
//! are sent again. A topic whose name ends in `.fifo` gets the incident as its group and the event's
//! id against doubles. The subject, for those who subscribe by mail, names no user, address or file.

use bytes::Bytes;
use form_urlencoded::Serializer;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::http::{Answer, Connection, Request};
use super::super::{Built, Kind, Proof};
use super::{Account, Intake, Taken, codes};
use crate::core::Timestamp;
use crate::core::config::{Problem, Problems, Section};
use crate::core::route::{Format, Shaped};
use crate::core::sink::{Cause, Class, Idempotency, Limits, Piece};
use crate::formats::Named;
use crate::formats::headline::headline;

/// SNS in the table of sinks.
pub const KIND: Kind = Kind {
    name: "sns",
    about: "Amazon SNS topics, standard and FIFO",
    sample: r#"[sinks.sns]
type = "sns"
topic = "arn:aws:sns:eu-central-1:123456789012:superna"
region = "eu-central-1"
access_key = { file = "{{dir}}/key" }
secret_key = { file = "{{dir}}/key" }
url = "{{peer}}" # documents: # url = "…": that of the region unless set
"#,
    class: Class::Siem,
    idempotency: Idempotency::None,
    formats: true,
    proof: Proof::Documented,
    proves: "that the topic has taken the message, not that its subscribers have; the receipt shows its id. The key \
             needs sns:Publish on the topic. A FIFO topic (its name ends in .fifo) recognises a repeated event for \
             five minutes; of a standard topic the attribute event_id tells",
    success: (
        200,
        concat!(
            "<PublishBatchResponse><PublishBatchResult><Failed/><Successful>",
            "<member><Id>0</Id><MessageId>m</MessageId></member><member/><member/><member/><member/>",
            "<member/><member/><member/><member/><member/></Successful></PublishBatchResult></PublishBatchResponse>",
        ),
    ),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// Most messages of a batch.
const MESSAGES: usize = 10;
/// What all messages of a batch may have together.
const BATCH: usize = 256 << 10;
/// What a message has beside its piece: the id, the names and types of the attributes.
const BESIDE: usize = 256;
/// Longest subject, in characters of ASCII.
const SUBJECT: usize = 99;

/// An SNS topic. Every message has the attributes `event_id`, `source` and `severity`, for filter
/// policies.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// The topic's ARN. If its name ends in `.fifo` it is a FIFO topic.
    topic: String,
    /// How the event is written, unless its route says so.
    #[serde(default)]
    format: Named,
    #[serde(flatten)]
    account: Account,
    #[serde(flatten)]
    connection: Connection,
}

struct Sns {
    url: Url,
    topic: String,
    format: &'static Format,
    section: String,
}

fn build(section: &Section) -> Result<Built, Problems> {
    let Settings { topic, format, account, connection } = super::read(section)?;
    let mut problems = account.mistakes(section);
    let is_arn = topic.starts_with("arn:") && topic.split(':').count() == 6;
    if !is_arn || topic.chars().any(|c| c.is_control() || c == ' ') {
        let problem = Problem::new(format!("{}.topic", section.key), "is no topic's ARN");
        problems.push(problem.help("such as arn:aws:sns:eu-central-1:123456789012:NAME"));
    }
    let Some(to) = account.url.clone().or_else(|| account.regional("sns")) else {
        return Err(problems);
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let client = account.open(section, &connection, "sns", &to)?;
    let (url, section_key) = (to.url().clone(), section.key.clone());
    let sns = Sns { url, topic, format: format.0, section: section_key };
    let limits = Limits {
        event_bytes: BATCH - BESIDE,
        batch_events: MESSAGES,
        batch_bytes: BATCH - MESSAGES * BESIDE,
        in_flight: 4,
        ordered: false,
    };
    Ok(super::built(section, client, sns, limits))
}

/// A line that may stand in a mail's header.
fn subject(event: &Shaped) -> String {
    let ascii = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    headline(event).chars().map(ascii).take(SUBJECT).collect()
}

impl Sns {
    fn form(&self, pieces: &[Piece]) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("Action", "PublishBatch").append_pair("Version", "2010-03-31");
        form.append_pair("TopicArn", &self.topic);
        for (index, piece) in pieces.iter().enumerate() {
            let entry = format!("PublishBatchRequestEntries.member.{}", index + 1);
            for (name, value) in self.entry(piece) {
                form.append_pair(&format!("{entry}.{name}"), &value);
            }
        }
        form.finish()
    }

    fn entry(&self, piece: &Piece) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(&piece.bytes);
        // Three lines and the message: so it was written by `encode`.
        let mut parts = text.splitn(4, '\n').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        let (severity, source, subject, message) = (next(), next(), next(), next());
        let id = piece.id.to_string();
        let mut pairs = vec![
            ("Id".to_owned(), id.clone()),
            ("Message".to_owned(), message),
            ("Subject".to_owned(), subject),
        ];
        if self.topic.ends_with(".fifo") {
            pairs.push(("MessageGroupId".to_owned(), piece.key()));
            pairs.push(("MessageDeduplicationId".to_owned(), id.clone()));
        }
        let attributes = [("event_id", id), ("source", source), ("severity", severity)];
        for (number, (name, value)) in (1..).zip(attributes) {
            let at = format!("MessageAttributes.entry.{number}");
            pairs.push((format!("{at}.Name"), name.to_owned()));
            pairs.push((format!("{at}.Value.DataType"), "String".to_owned()));
            pairs.push((format!("{at}.Value.StringValue"), value));
        }
        pairs
    }
}

impl Intake for Sns {
    fn encode(&self, event: &Shaped, room: usize) -> Option<Bytes> {
        super::text(event, self.format, room, |text| {
            let (severity, source) = (event.finding().severity, &event.event.source);
            let message = super::xml_safe(text);
            format!("{severity}\n{source}\n{}\n{message}", subject(event)).into_bytes()
        })
    }

    fn request(&self, pieces: &[Piece], _: Option<Timestamp>) -> Request {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        Request {
            method: Method::POST,
            url: self.url.clone(),
            headers: HeaderMap::from_iter([(CONTENT_TYPE, form)]),
            body: self.form(pieces).into(),
        }
    }

    fn taken(&self, answer: &Answer, pieces: &[Piece]) -> Option<Taken> {
        let text = String::from_utf8_lossy(&answer.body);
        if !text.contains("<PublishBatchResponse") {
            return None;
        }
        let id = codes::element(&text, "MessageId").map(str::to_owned);
        let list = |name| codes::element(&text, name).unwrap_or_default();
        let count = |list: &str| list.matches("<member").count();
        let (good, bad) = (list("Successful"), list("Failed"));
        let fault = |member: &str| {
            let at = |name| codes::element(member, name).unwrap_or_default();
            let index = super::piece_of(pieces, at("Id"))?;
            let otherwise = if at("SenderFault") == "true" { Cause::Refused } else { Cause::Down };
            Some((index, codes::of_piece(at("Code"), at("Message"), otherwise, &self.section)))
        };
        let faults = bad.split("</member>").filter_map(fault).collect();
        Some(Taken { id, told: count(good) + count(bad), failed: count(bad), faults })
    }
}
