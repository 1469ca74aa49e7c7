//! What a product's answer means, as a preset says it.
//!
//! Guarantees: a pure function of the answer; what the preset does not mention keeps the default
//! verdict; a success whose body says otherwise is no delivery; where the answer names one event or
//! lists all of them, only those that were not taken are at fault.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::aws::codes;
use super::super::http::{Answer, cause};
use crate::core::sink::{Cause, Fault, Outcome, Reply};

/// `[reply]`: only what differs from the default verdict.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rules {
    /// What every success looks like. Any 2xx unless set.
    ok: Option<Matching>,
    /// Answers that mean: it has been taken, also where their status says otherwise.
    delivered: Vec<Matching>,
    busy: Vec<Matching>,
    down: Vec<Matching>,
    setup: Vec<Matching>,
    too_large: Vec<Matching>,
    refused: Vec<Matching>,
    /// Where the destination's own id for what it took stands: a JSON pointer, or a header's name.
    receipt: Option<String>,
    /// Where the count of what it took stands: a JSON pointer.
    count: Option<String>,
    /// A list with a result for every event.
    items: Option<Items>,
    /// Whose error codes stand in refusals and items: they go before the status.
    errors: Option<Errors>,
    /// What the product answers to a good request.
    sample: Sample,
}

/// An answer that means success: the preset is tested with it.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    status: u16,
    /// `{{items}}` stands for the results of all events.
    body: String,
    /// The result of one event.
    item: String,
}

impl Default for Sample {
    fn default() -> Self {
        Self { status: 200, body: "{}".into(), item: String::new() }
    }
}

/// What an answer must have; all that is named.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Matching {
    /// One of these statuses.
    status: Option<Statuses>,
    /// At each JSON pointer (a bare name is an outermost key) one of these values.
    json: Map<String, Value>,
    /// This text somewhere in the body, in any case.
    text: Option<String>,
    /// Where the answer says which event it means: a JSON pointer to its number, from 0. Those
    /// before it were taken, those after it were not looked at.
    item: Option<String>,
    /// What to do about it, for people.
    help: Option<String>,
}

/// One status, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Statuses {
    One(u16),
    Many(Vec<u16>),
}

impl Statuses {
    fn has(&self, status: u16) -> bool {
        match self {
            Self::One(one) => *one == status,
            Self::Many(many) => many.contains(&status),
        }
    }
}

/// A vendor whose services share their error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Errors {
    /// Amazon's: `src/sinks/aws/codes.rs`.
    Aws,
}

/// Results in the order of the events.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Items {
    /// Where the list stands.
    list: String,
    /// Where in an item its status stands; `*` is whatever key there is.
    #[serde(default)]
    status: String,
    /// Where in an item that was not taken its error code stands, where items have no status.
    #[serde(default)]
    code: String,
    /// Where in an item the reason stands.
    #[serde(default)]
    why: String,
    /// Statuses that mean: taken. 2xx unless set.
    #[serde(default)]
    ok: Vec<u16>,
}

impl Rules {
    /// What `answer` to a request of `sent` events means; `default` is the default verdict.
    pub fn judge(&self, answer: &Answer, default: Result<Reply, Fault>, sent: usize) -> Outcome {
        let body = Body::of(answer);
        for (cause, rules) in self.failures() {
            if let Some(rule) = rules.iter().find(|rule| rule.holds(answer, &body)) {
                return rule.fault(cause, answer, &body, default, sent);
            }
        }
        if self.delivered.iter().any(|rule| rule.holds(answer, &body)) {
            return Outcome::Delivered(self.told(answer, &body));
        }
        match default {
            Err(fault) if self.errors == Some(Errors::Aws) && answer.status >= 300 => {
                Outcome::Failed(codes::corrected(answer, fault, ""))
            }
            Err(fault) => Outcome::Failed(fault),
            Ok(_) => self.taken(answer, &body, sent),
        }
    }

    /// What is wrong with the rules themselves.
    pub fn mistake(&self) -> Option<&'static str> {
        let items = self.items.as_ref()?;
        match (items.status.is_empty(), items.code.is_empty()) {
            (true, true) => Some("reply.items needs `status` or `code`"),
            (false, false) => Some("reply.items has either `status` or `code`"),
            (true, false) if self.errors.is_none() => {
                Some("reply.items.code needs reply.errors: whose codes they are")
            }
            _ => None,
        }
    }

    /// The sample, with results for a thousand events.
    pub fn success(&self) -> (u16, String) {
        let Sample { status, body, item } = &self.sample;
        (*status, body.replace("{{items}}", &vec![item.as_str(); 1_000].join(",")))
    }

    fn failures(&self) -> [(Cause, &[Matching]); 5] {
        [
            (Cause::Busy, &self.busy),
            (Cause::Setup, &self.setup),
            (Cause::TooLarge, &self.too_large),
            (Cause::Refused, &self.refused),
            (Cause::Down, &self.down),
        ]
    }

    /// A status that says yes: does the rest say so too?
    fn taken(&self, answer: &Answer, body: &Body, sent: usize) -> Outcome {
        let reply = self.told(answer, body);
        if let Some(ok) = &self.ok
            && !ok.holds(answer, body)
        {
            return Outcome::Failed(unlike(answer, body, ok).with_reply(reply));
        }
        match (&self.items, reply.accepted) {
            (Some(items), _) => items.judge(body, reply, sent),
            (None, Some(count)) if count < sent as u64 => {
                // Which ones it does not say: the worker finds out by sending fewer.
                let note = format!("it took {count} of {sent}; its reply may say why");
                Outcome::Failed(Fault::new(Cause::Refused, note).with_reply(reply))
            }
            _ => Outcome::Delivered(reply),
        }
    }

    fn told(&self, answer: &Answer, body: &Body) -> Reply {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let id = self.receipt.as_ref().and_then(|place| match place.starts_with('/') {
            true => body.at(place).map(text),
            false => answer.header(place).map(str::to_owned),
        });
        let id = id.map(|id| id.chars().take(200).collect());
        let accepted = self.count.as_ref().and_then(|place| count(body.at(place)?));
        Reply { id, accepted, ..answer.reply() }
    }
}

/// A number, also where it is written as a text: 64 bits do not fit into JSON's numbers everywhere.
fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// A success that does not look like the product's.
fn unlike(answer: &Answer, body: &Body, ok: &Matching) -> Fault {
    let status = answer.status;
    if !ok.json.is_empty() && body.json.is_none() {
        let note = format!(
            "{status}: the reply is not JSON, so something else than the product answered (a proxy, a portal); check the address"
        );
        return Fault::new(Cause::Setup, note);
    }
    Fault::new(Cause::Refused, format!("{status}, but the reply does not say that it was taken"))
}

/// An answer's body, read once.
struct Body {
    json: Option<Value>,
    text: String,
}

impl Body {
    fn of(answer: &Answer) -> Self {
        // Lossy, because a proxy's page may be in any encoding and JSON's syntax is ASCII.
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        Self { json: serde_json::from_str(&text).ok(), text }
    }

    fn at(&self, place: &str) -> Option<&Value> {
        found(self.json.as_ref()?, place)
    }
}

/// The value at a JSON pointer, in which `*` is the only key there is; a bare name is a key.
fn found<'v>(value: &'v Value, place: &str) -> Option<&'v Value> {
    let Some(steps) = place.strip_prefix('/') else { return value.get(place) };
    steps.split('/').try_fold(value, |value, step| match value {
        Value::Object(table) if step == "*" => table.values().next(),
        Value::Object(table) => table.get(step),
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

impl Matching {
    fn holds(&self, answer: &Answer, body: &Body) -> bool {
        let status = self.status.as_ref().is_none_or(|known| known.has(answer.status));
        let text = self
            .text
            .as_ref()
            .is_none_or(|text| body.text.to_ascii_lowercase().contains(&text.to_ascii_lowercase()));
        let json = self.json.iter().all(|(place, wanted)| {
            body.at(place).is_some_and(|value| match wanted {
                Value::Array(any) => any.contains(value),
                one => one == value,
            })
        });
        status && text && json
    }

    fn fault(
        &self,
        cause: Cause,
        answer: &Answer,
        body: &Body,
        default: Result<Reply, Fault>,
        sent: usize,
    ) -> Outcome {
        let wait = default.err().and_then(|fault| fault.retry_after);
        let told = self.help.as_deref().unwrap_or_else(|| meaning(cause));
        let note = format!("{}: {told}", answer.status);
        let fault = Fault::new(cause, note).with_reply(answer.reply()).with_wait(wait);
        let item = self.item.as_ref().and_then(|place| body.at(place)?.as_u64());
        match item.and_then(|item| usize::try_from(item).ok()).filter(|item| *item < sent) {
            Some(item) if sent > 1 => {
                let later = Fault::new(Cause::Busy, "not looked at, because of one before it");
                let mut faults = vec![(item, fault)];
                faults.extend((item + 1..sent).map(|index| (index, later.clone())));
                Outcome::Partly { reply: answer.reply(), faults }
            }
            _ => Outcome::Failed(fault),
        }
    }
}

fn meaning(cause: Cause) -> &'static str {
    match cause {
        Cause::Busy => "the destination asks to slow down",
        Cause::Down => "the destination is in trouble",
        Cause::Setup => {
            "the destination says that something is set up wrongly; its reply says what"
        }
        Cause::TooLarge => "too large for the destination",
        Cause::Refused => "the destination refuses these bytes; its reply says why",
    }
}

impl Items {
    fn judge(&self, body: &Body, reply: Reply, sent: usize) -> Outcome {
        let Some(items) = body.at(&self.list).and_then(Value::as_array) else {
            let note = "the reply lists no results, so something else than the product answered (a proxy, a portal); check the address";
            return Outcome::Failed(Fault::new(Cause::Setup, note).with_reply(reply));
        };
        let faults: Vec<(usize, Fault)> = (0..sent)
            .filter_map(|index| Some((index, self.fault(items.get(index), &reply)?)))
            .collect();
        match faults.len() {
            0 => Outcome::Delivered(reply),
            // All for one reason that is not the events': the batch as a whole.
            all if all == sent && faults.iter().all(|(_, fault)| fault.cause != Cause::Refused) => {
                let worst = faults.into_iter().map(|(_, fault)| fault).next();
                Outcome::Failed(worst.unwrap_or_else(|| Fault::new(Cause::Down, "no result")))
            }
            _ => Outcome::Partly { reply, faults },
        }
    }

    fn fault(&self, item: Option<&Value>, reply: &Reply) -> Option<Fault> {
        let Some(item) = item else {
            return Some(Fault::new(Cause::Down, "the reply has no result for this event"));
        };
        let text = |place: &str| found(item, place).and_then(Value::as_str);
        if !self.code.is_empty() {
            let why = if self.why.is_empty() { None } else { text(&self.why) };
            let code = text(&self.code)?;
            let fault = codes::of_piece(code, why.unwrap_or_default(), Cause::Refused, "");
            return Some(fault.with_reply(reply.clone()));
        }
        let status = found(item, &self.status).and_then(Value::as_u64).unwrap_or_default();
        let status = u16::try_from(status).unwrap_or_default();
        let taken = match self.ok.is_empty() {
            true => (200..300).contains(&status),
            false => self.ok.contains(&status),
        };
        if taken {
            return None;
        }
        let why = found(item, &self.why).filter(|_| !self.why.is_empty());
        let why = why.map_or_else(String::new, |why| {
            let text = why.as_str().map_or_else(|| why.to_string(), str::to_owned);
            format!(": {}", super::hole::cut(&text, Some(200)))
        });
        let reply = Reply { status: Some(status), ..reply.clone() };
        Some(Fault::new(cause(status, false), format!("{status}{why}")).with_reply(reply))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderMap;

    use super::super::file::File;
    use super::*;

    /// What the shipped preset `name` makes of an answer to `sent` events.
    fn judged(name: &str, status: u16, body: &str, sent: usize) -> Outcome {
        let root = env!("CARGO_MANIFEST_DIR");
        let path = format!("{root}/src/sinks/presets/{name}.toml");
        let file: File = toml_edit::de::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let body = body.to_owned().into();
        let answer = Answer { status, headers: HeaderMap::new(), body, excerpt: String::new() };
        let default = match status {
            200..300 => Ok(answer.reply()),
            _ => Err(Fault::new(cause(status, false), "by its status")),
        };
        file.reply.judge(&answer, default, sent)
    }

    fn faults(outcome: Outcome) -> Vec<(usize, Cause)> {
        match outcome {
            Outcome::Partly { faults, .. } => {
                faults.into_iter().map(|(index, fault)| (index, fault.cause)).collect()
            }
            other => panic!("not partly: {other:?}"),
        }
    }

    fn failed(outcome: Outcome) -> Cause {
        match outcome {
            Outcome::Failed(fault) => fault.cause,
            other => panic!("not failed: {other:?}"),
        }
    }

    #[test]
    fn splunk_names_the_event_at_fault_and_has_not_looked_at_the_later_ones() {
        let body = r#"{"text":"Invalid data format","code":6,"invalid-event-number":1}"#;
        let wanted = [(1, Cause::Refused), (2, Cause::Busy), (3, Cause::Busy)];
        assert_eq!(faults(judged("splunk_hec", 400, body, 4)), wanted);
        assert_eq!(failed(judged("splunk_hec", 400, body, 1)), Cause::Refused);
        let index = r#"{"text":"Incorrect index","code":7,"invalid-event-number":0}"#;
        assert_eq!(failed(judged("splunk_hec", 400, index, 4)), Cause::Setup);
        let odd = r#"{"code":6,"invalid-event-number":99}"#;
        assert_eq!(failed(judged("splunk_hec", 400, odd, 4)), Cause::Refused);
    }

    /// Every code that a collector has, but for those of a success.
    #[test]
    fn every_code_of_splunk_has_its_cause() {
        for (codes, status, cause) in [
            (&[1, 4][..], 403, Cause::Setup),
            (&[2, 3], 401, Cause::Setup),
            (&[5, 6, 12, 13, 15], 400, Cause::Refused),
            (&[7, 10, 11, 14, 16, 21, 22], 400, Cause::Setup),
            (&[8], 500, Cause::Down),
            (&[9, 18, 19, 20, 23], 503, Cause::Busy),
            (&[26, 27], 429, Cause::Busy),
        ] {
            for code in codes {
                let body = format!(r#"{{"text":"x","code":{code}}}"#);
                assert_eq!(failed(judged("splunk_hec", status, &body, 1)), cause, "{code}");
            }
        }
        for code in [0, 24, 25] {
            let body = format!(r#"{{"text":"x","code":{code}}}"#);
            let outcome = judged("splunk_hec", 200, &body, 3);
            assert!(matches!(outcome, Outcome::Delivered(_)), "{code}: {outcome:?}");
        }
    }

    fn items(statuses: &[u16]) -> String {
        let item = |status: &u16| {
            format!(r#"{{"create":{{"status":{status},"error":{{"reason":"why {status}"}}}}}}"#)
        };
        let items: Vec<String> = statuses.iter().map(item).collect();
        format!(r#"{{"errors":true,"items":[{}]}}"#, items.join(","))
    }

    #[test]
    fn kinesis_and_eventbridge_name_events_by_place_and_code() {
        let kinesis = r#"{"FailedRecordCount":2,"Records":[{"SequenceNumber":"1","ShardId":"s"},{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"m"},{"ErrorCode":"InternalFailure","ErrorMessage":"m"}]}"#;
        let wanted = [(1, Cause::Busy), (2, Cause::Down)];
        assert_eq!(faults(judged("kinesis", 200, kinesis, 3)), wanted);
        let bridge = r#"{"FailedEntryCount":2,"Entries":[{"ErrorCode":"MalformedDetail","ErrorMessage":"m"},{"EventId":"e"},{"ErrorCode":"ThrottlingException","ErrorMessage":"m"}]}"#;
        let wanted = [(0, Cause::Refused), (2, Cause::Busy)];
        assert_eq!(faults(judged("eventbridge", 200, bridge, 3)), wanted);
        let short = r#"{"FailedEntryCount":0,"Entries":[{"EventId":"e"}]}"#;
        assert_eq!(faults(judged("eventbridge", 200, short, 2)), [(1, Cause::Down)]);
        for (body, wanted) in [
            (r#"{"__type":"ResourceNotFoundException","message":"m"}"#, Cause::Setup),
            (r#"{"__type":"AccessDeniedException"}"#, Cause::Setup),
            (r#"{"__type":"ProvisionedThroughputExceededException"}"#, Cause::Busy),
            (r#"{"__type":"ValidationException"}"#, Cause::Refused),
            ("{}", Cause::Refused),
        ] {
            assert_eq!(failed(judged("kinesis", 400, body, 3)), wanted, "{body}");
        }
    }

    #[test]
    fn elasticsearch_answers_for_every_event() {
        let outcome = judged("elasticsearch", 200, &items(&[201, 409, 429, 400, 404]), 5);
        let wanted = [(2, Cause::Busy), (3, Cause::Refused), (4, Cause::Setup)];
        assert_eq!(faults(outcome), wanted);
        assert!(matches!(judged("opensearch", 200, &items(&[201, 409]), 2), Outcome::Delivered(_)));
        assert_eq!(failed(judged("elasticsearch", 200, &items(&[429, 429]), 2)), Cause::Busy);
        // An event without a result is not delivered.
        assert_eq!(faults(judged("elasticsearch", 200, &items(&[201]), 2)), [(1, Cause::Down)]);
        assert_eq!(failed(judged("elasticsearch", 200, "{}", 2)), Cause::Refused);
        assert_eq!(failed(judged("elasticsearch", 200, "ok", 2)), Cause::Setup);
    }

    #[test]
    fn logzio_counts_the_lines_that_it_has_not_taken() {
        let counts = |bad: u32| {
            let body = format!(
                r#"{{"malformedLines":{bad},"oversizedLines":0,"successfulLines":2,"emptyLogLines":1}}"#
            );
            judged("logzio", 400, &body, 3)
        };
        assert!(matches!(counts(0), Outcome::Delivered(_)));
        assert_eq!(failed(counts(1)), Cause::Refused);
        assert_eq!(failed(judged("logzio", 400, "no token", 3)), Cause::Refused);
    }

    #[test]
    fn a_success_that_says_otherwise_is_none() {
        for (name, status, body, cause) in [
            ("sentinelone", 200, r#"{"status":"error/server/backoff"}"#, Cause::Busy),
            ("sentinelone", 200, r#"{"status":"error/client/badParam"}"#, Cause::Refused),
            ("wazuh", 200, r#"{"error":1}"#, Cause::Refused),
            ("cortex_xdr_alerts", 200, r#"{"reply":{"err_code":500}}"#, Cause::Refused),
            ("cortex_xdr_alerts", 200, "hello", Cause::Setup),
            ("loki", 260, "", Cause::Setup),
        ] {
            assert_eq!(failed(judged(name, status, body, 2)), cause, "{name}: {body}");
        }
        let known = r#"{"failed":true,"existing_container_id":7}"#;
        assert!(matches!(judged("splunk_soar", 400, known, 1), Outcome::Delivered(_)));
    }

    proptest! {
        /// Each event is delivered or has a fault, by its own result, whatever the mixture.
        #[test]
        fn no_event_takes_anothers_result(statuses in prop::collection::vec(
            prop_oneof![Just(200u16), Just(201), Just(409), Just(429), Just(400), Just(503)], 1..40), more in 0usize..3) {
            let sent = statuses.len() + more;
            let bad: Vec<usize> = (0..sent)
                .filter(|index| !matches!(statuses.get(*index), Some(200 | 201 | 409)))
                .collect();
            match judged("elasticsearch", 200, &items(&statuses), sent) {
                Outcome::Delivered(_) => prop_assert!(bad.is_empty()),
                Outcome::Failed(_) => prop_assert_eq!(bad.len(), sent),
                Outcome::Partly { faults, .. } => {
                    let found: Vec<usize> = faults.into_iter().map(|(index, _)| index).collect();
                    prop_assert_eq!(found, bad);
                }
            }
        }
    }
}
