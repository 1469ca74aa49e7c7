//! Amazon CloudWatch Logs, by `PutLogEvents`.
//!
//! Guarantees: at most 10,000 events and 1 MiB in a request, each with the 26 bytes that the service
//! adds; in the order of their times, over 24 hours at most; no time that the service drops silently
//! (older than 14 days, more than two hours ahead): such an event is dated to the edge of that, and
//! its message keeps its own. What the answer calls too old, too new or expired is at fault, the
//! rest is delivered.

use bytes::Bytes;
use jiff::SignedDuration;
use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::http::{Answer, Connection, Request};
use super::super::{Built, Kind, Proof};
use super::{Account, Intake, Taken};
use crate::core::Timestamp;
use crate::core::config::{Problem, Problems, Section};
use crate::core::route::{Format, Shaped};
use crate::core::sink::{Cause, Class, Fault, Idempotency, Limits, Piece};
use crate::formats::Named;

/// CloudWatch Logs in the table of sinks.
pub const KIND: Kind = Kind {
    name: "cloudwatch_logs",
    about: "Amazon CloudWatch Logs",
    sample: r#"[sinks.cloudwatch]
type = "cloudwatch_logs"
group = "/superna/events"
region = "eu-central-1"
access_key = { file = "{{dir}}/key" }
secret_key = { file = "{{dir}}/key" }
url = "{{peer}}" # documents: # url = "…": that of the region unless set
"#,
    class: Class::Siem,
    idempotency: Idempotency::None,
    formats: true,
    proof: Proof::Documented,
    proves: "that CloudWatch has stored the event. Create the log group and the stream first: until they exist the \
             sink is parked. The key needs logs:PutLogEvents on the stream. \
             `aws logs tail GROUP --since 1h` shows it",
    success: (200, "{}"),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// Most events of a request.
const EVENTS: usize = 10_000;
/// What messages and what is added to each may have together.
const BATCH: usize = 1 << 20;
/// What the service counts for an event beside its message. What an encoded event has beside its
/// message is more than that, so counting encoded bytes never counts too little.
const ADDED: usize = 26;
const START: &str = "{\"timestamp\":";
/// The longest that one request may cover.
const SPAN: i64 = 24 * 3_600_000;
/// What the service takes, with some minutes to spare for clocks.
const PAST: SignedDuration = SignedDuration::from_mins(14 * 24 * 60 - 10);
const FUTURE: SignedDuration = SignedDuration::from_mins(110);

/// A stream of CloudWatch Logs. Group and stream must exist.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// The log group.
    group: String,
    /// The log stream in it.
    #[serde(default = "siemgate")]
    stream: String,
    /// How the event is written, unless its route says so.
    #[serde(default)]
    format: Named,
    #[serde(flatten)]
    account: Account,
    #[serde(flatten)]
    connection: Connection,
}

fn siemgate() -> String {
    "siemgate".into()
}

struct Logs {
    url: Url,
    before: String,
    format: &'static Format,
}

fn build(section: &Section) -> Result<Built, Problems> {
    let Settings { group, stream, format, account, connection } = super::read(section)?;
    let mut problems = account.mistakes(section);
    for (name, value, odd) in
        [("group", &group, &[' ', ':', '*'][..]), ("stream", &stream, &[':', '*'])]
    {
        let good = !value.is_empty() && !value.contains(odd) && !value.contains(char::is_control);
        if !good || value.chars().count() > 512 {
            problems.push(Problem::new(format!("{}.{name}", section.key), "cannot be its name"));
        }
    }
    let Some(to) = account.url.clone().or_else(|| account.regional("logs")) else {
        return Err(problems);
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let client = account.open(section, &connection, "logs", &to)?;
    let named = json!({ "logGroupName": group, "logStreamName": stream }).to_string();
    let before = format!("{},\"logEvents\":[", named.trim_end_matches('}'));
    let logs = Logs { url: to.url().clone(), before, format: format.0 };
    let limits = Limits {
        event_bytes: BATCH - ADDED,
        batch_events: EVENTS,
        batch_bytes: BATCH,
        in_flight: 4,
        ordered: false,
    };
    Ok(super::built(section, client, logs, limits))
}

/// When `event` happened; when it arrived, where its product's clock cannot be believed.
fn time(event: &Shaped) -> i64 {
    let received = event.event.received;
    let near = |time: &Timestamp| (-PAST..=FUTURE).contains(&time.duration_since(received));
    event.finding().time.filter(near).unwrap_or(received).as_millisecond().max(0)
}

/// The time that `encode` has put into a piece, and what follows it.
fn dated(piece: &Piece) -> (i64, &[u8]) {
    let rest = piece.bytes.strip_prefix(START.as_bytes()).unwrap_or_default();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let time = std::str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse().ok());
    (time.unwrap_or_default(), &rest[digits..])
}

/// The pieces that one request may hold, in the order of their times; then those that must wait.
fn order(pieces: &[Piece]) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|index| dated(&pieces[*index]).0);
    let first = order.first().map_or(0, |index| dated(&pieces[*index]).0);
    order.into_iter().partition(|index| dated(&pieces[*index]).0 - first < SPAN)
}

/// The nearest time to `time` that the service keeps.
fn kept(time: i64, now: Option<Timestamp>) -> i64 {
    let Some(now) = now else { return time };
    let edge = |by| now.saturating_add(by).map_or(time, Timestamp::as_millisecond);
    time.clamp(edge(-PAST), edge(FUTURE))
}

impl Intake for Logs {
    fn encode(&self, event: &Shaped, room: usize) -> Option<Bytes> {
        let time = time(event);
        super::text(event, self.format, room, |text| {
            let message = if text.is_empty() { " " } else { text };
            format!("{START}{time},\"message\":{}}}", Value::from(message)).into_bytes()
        })
    }

    fn request(&self, pieces: &[Piece], now: Option<Timestamp>) -> Request {
        let mut body = self.before.as_bytes().to_vec();
        for (number, index) in order(pieces).0.into_iter().enumerate() {
            let (time, rest) = dated(&pieces[index]);
            let comma = if number > 0 { "," } else { "" };
            body.extend_from_slice(format!("{comma}{START}{}", kept(time, now)).as_bytes());
            body.extend_from_slice(rest);
        }
        body.extend_from_slice(b"]}");
        super::call(&self.url, "1.1", "Logs_20140328.PutLogEvents", body.into())
    }

    fn taken(&self, answer: &Answer, pieces: &[Piece]) -> Option<Taken> {
        let body = super::json(answer).filter(Value::is_object)?;
        let (sent, waiting) = order(pieces);
        let rejected = body.get("rejectedLogEventsInfo");
        let number = |name: &str| {
            let number = rejected?.get(name)?.as_u64()?;
            usize::try_from(number).ok()
        };
        let old = number("tooOldLogEventEndIndex").unwrap_or(0);
        let expired = number("expiredLogEventEndIndex").unwrap_or(0);
        let new = number("tooNewLogEventStartIndex").unwrap_or(usize::MAX);
        let why = |place: usize| match place {
            place if place < expired => Some("older than the log group keeps events"),
            place if place < old => Some("older than 14 days"),
            place if place >= new => Some("more than two hours in the future; check the clocks"),
            _ => None,
        };
        let refused = |(place, index): (usize, &usize)| {
            let note = format!("CloudWatch did not keep it: {}", why(place)?);
            Some((*index, Fault::new(Cause::Refused, note)))
        };
        let mut faults: Vec<_> = sent.iter().enumerate().filter_map(refused).collect();
        let note = "not sent with the others: a request covers 24 hours";
        faults.extend(waiting.into_iter().map(|index| (index, Fault::new(Cause::Busy, note))));
        Some(Taken { id: None, told: pieces.len(), failed: faults.len(), faults })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderMap;

    use super::*;
    use crate::core::event::EventId;
    use crate::formats::RAW;

    fn piece(time: i64) -> Piece {
        let bytes = format!("{START}{time},\"message\":\"{time}\"}}").into();
        Piece { id: EventId::fresh(), incident: None, ended: false, bytes }
    }

    fn logs() -> Logs {
        let url = "https://logs.example".parse().unwrap();
        Logs { url, before: "{\"logEvents\":[".into(), format: &RAW }
    }

    fn events(pieces: &[Piece], now: Timestamp) -> Vec<(i64, i64)> {
        let body: Value = serde_json::from_slice(&logs().request(pieces, Some(now)).body).unwrap();
        let one = |event: &Value| {
            let own = event["message"].as_str().unwrap().parse().unwrap();
            (event["timestamp"].as_i64().unwrap(), own)
        };
        body["logEvents"].as_array().unwrap().iter().map(one).collect()
    }

    fn answer(body: &str) -> Answer {
        let (headers, body) = (HeaderMap::new(), Bytes::from(body.to_owned()));
        Answer { status: 200, headers, body, excerpt: String::new() }
    }

    #[test]
    fn what_was_rejected_is_named_by_its_place_in_the_order_of_times() {
        let pieces = [piece(4_000), piece(1_000), piece(3_000), piece(2_000)];
        let told = r#"{"rejectedLogEventsInfo":{"tooNewLogEventStartIndex":3,"tooOldLogEventEndIndex":2,"expiredLogEventEndIndex":1}}"#;
        let taken = logs().taken(&answer(told), &pieces).unwrap();
        let mut at: Vec<usize> = taken.faults.iter().map(|(index, _)| *index).collect();
        at.sort_unstable();
        assert_eq!(at, [0, 1, 3]);
        assert!(taken.faults.iter().all(|(_, fault)| fault.cause == Cause::Refused));
        assert!(logs().taken(&answer("{}"), &pieces).unwrap().faults.is_empty());
        assert!(logs().taken(&answer("ok"), &pieces).is_none());
    }

    proptest! {
        /// Of any times: in order, over a day at most, within what is kept, and nothing lost.
        #[test]
        fn a_request_is_what_the_service_takes(times in prop::collection::vec(0i64..3_000_000_000, 1..30)) {
            let now: Timestamp = "1970-01-25T00:00:00Z".parse().unwrap();
            let pieces: Vec<Piece> = times.iter().map(|time| piece(*time)).collect();
            let events = events(&pieces, now);
            let (oldest, newest) = (now.as_millisecond() - 14 * 86_400_000, now.as_millisecond() + 7_200_000);
            prop_assert!(events.iter().all(|(time, _)| (oldest..=newest).contains(time)));
            prop_assert!(events.is_sorted_by_key(|(time, _)| *time));
            prop_assert!(events.last().unwrap().0 - events[0].0 <= SPAN);
            let waiting = logs().taken(&answer("{}"), &pieces).unwrap().faults;
            prop_assert!(waiting.iter().all(|(_, fault)| fault.cause == Cause::Busy));
            let mut all: Vec<i64> = events.iter().map(|(_, own)| *own).collect();
            all.extend(waiting.iter().map(|(index, _)| times[*index]));
            all.sort_unstable();
            let mut wanted = times;
            wanted.sort_unstable();
            prop_assert_eq!(all, wanted);
        }
    }
}
