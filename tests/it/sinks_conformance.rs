//! What every kind of sink must do, for all kinds in the table. A kind that is added there is
//! tested here without a line of its own.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use siemgate::core::event::EventId;
use siemgate::core::sink::{Cause, Class, Fault, Outcome, Piece};
use siemgate::sinks::{Built, Catalogue, Entry};
use tempfile::TempDir;

use crate::broker::{Broker, Speaks};
use crate::destination::{Destination, Way, is_broker, is_datagram, is_http, is_stream};
use crate::peer::{Answer, Peer};
use crate::receiver::Receiver;
use crate::sinks::{
    KEY, build, built, delivered, encode, event, failed, files, folder, now, section, sending, told,
};

/// Everything in the catalogue.
fn kinds() -> Vec<Entry> {
    Catalogue::default().all().map_err(told).unwrap()
}

/// What the destination answers to a good request.
pub fn success(kind: &Entry) -> Answer {
    let (status, body) = kind.success();
    Answer::new(status, body)
}

/// A sink made from its kind's sample, with something to deliver to.
struct Stand {
    kind: Entry,
    at: Destination,
    built: Built,
}

impl Stand {
    async fn of(kind: Entry) -> Self {
        let at = Destination::of(&kind).await;
        let built = built(&sample(&kind, &at.url(), &at.dir));
        Self { kind, at, built }
    }

    /// Send as a worker would: within the limits.
    async fn deliver(&self, pieces: &[Piece]) -> Result<(), Fault> {
        let mut left = pieces;
        while !left.is_empty() {
            let (mut count, mut bytes) = (1, left[0].bytes.len());
            while count < left.len().min(self.built.limits.batch_events) {
                bytes += left[count].bytes.len();
                if bytes > self.built.limits.batch_bytes {
                    break;
                }
                count += 1;
            }
            match self.built.sink.send(&left[..count], now()).await {
                Outcome::Delivered(_) => left = &left[count..],
                Outcome::Failed(fault) => return Err(fault),
                partly => panic!("{}: {partly:?}", self.kind.name()),
            }
        }
        Ok(())
    }

    async fn one(&self) -> Outcome {
        let piece = encode(&self.built, r#"{"a":1}"#).unwrap();
        self.built.sink.send(&[piece], now()).await
    }

    /// Everything that arrived, as soon as it has all of these texts.
    async fn arrived(&self, texts: &[String]) -> Vec<Bytes> {
        let all = |arrived: &[Bytes]| {
            let text = text(arrived);
            texts.iter().all(|wanted| text.contains(wanted))
        };
        self.at.arrived(all).await.unwrap()
    }
}

fn sample(kind: &Entry, peer: &str, dir: &TempDir) -> String {
    kind.sample_with(peer, &dir.path().display().to_string())
}

/// All that arrived as one text to search in.
fn text(arrived: &[Bytes]) -> String {
    arrived.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect()
}

#[test]
fn the_table_is_in_order() {
    let kinds = kinds();
    let mut names: Vec<_> = kinds.iter().map(Entry::name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), kinds.len(), "two kinds have one name");
    for kind in &kinds {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(kind.name().chars().all(plain), "{}", kind.name());
        assert!(!kind.about().is_empty() && !kind.about().ends_with('.'), "{}", kind.name());
        let schema = kind.schema().to_value();
        for (name, setting) in schema["properties"].as_object().into_iter().flatten() {
            let manual = setting.get("description").and_then(Value::as_str);
            assert!(
                manual.is_some_and(|text| text.len() > 10),
                "{}.{name} is not explained",
                kind.name()
            );
        }
    }
}

#[test]
fn samples_build_with_sane_limits() {
    for kind in kinds() {
        let dir = folder();
        let toml = sample(&kind, "http://127.0.0.1:9", &dir);
        assert_eq!(section(&toml).0.name(), kind.name());
        let limits = built(&toml).limits;
        assert!(limits.event_bytes >= 1 && limits.batch_bytes >= 1, "{}: {limits:?}", kind.name());
        assert!(limits.batch_events >= 1 && limits.in_flight >= 1, "{}: {limits:?}", kind.name());
        assert_eq!(files(dir.path()), [], "{}: building leaves no trace", kind.name());
    }
}

#[test]
fn missing_and_unknown_keys_are_named() {
    for kind in kinds() {
        let dir = folder();
        let (_, section) = section(&sample(&kind, "http://127.0.0.1:9", &dir));
        let schema = kind.schema().to_value();
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let mut lacking = section.clone();
            lacking
                .table
                .remove(key)
                .unwrap_or_else(|| panic!("{}: the sample lacks {key}", kind.name()));
            let problems = kind.build(&lacking).err().map(told).unwrap_or_default();
            assert!(
                problems.contains(&format!("`{key}`")),
                "{} without {key}: {problems}",
                kind.name()
            );
        }
        let mut odd = section.clone();
        odd.table.insert("zzyzx".into(), json!(1));
        let problems = kind.build(&odd).err().map(told).unwrap_or_default();
        assert!(problems.contains("`zzyzx`"), "{}: {problems}", kind.name());
    }
}

/// Bodies as doors accept them: valid JSON with everything that breaks framings.
fn bodies() -> impl Strategy<Value = Vec<String>> {
    let text = prop_oneof![
        Just(String::new()),
        any::<String>(),
        "[\u{0}-\u{1f}\u{7f}\u{2028}\"\\\\]{0,20}",
        Just("ä€🦀\r\n".to_owned()),
    ];
    let leaf = prop_oneof![
        text.prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(Value::Null)
    ];
    let value = leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    });
    let value = prop_oneof![40 => value, 1 => Just(Value::from("x".repeat(1 << 20)))];
    let body = (value, any::<bool>(), 0usize..3).prop_map(|(value, pretty, deep)| {
        let value = match pretty {
            true => serde_json::to_string_pretty(&value).unwrap(),
            false => value.to_string(),
        };
        // Deeper than any tree that a parser would build.
        let (open, close) = ("[ ".repeat(deep * 500), "]\r\n".repeat(deep * 500));
        let marker = EventId::fresh();
        format!("{{\"marker\":\"{marker}\" ,\r\n \"value\":{open}{value}{close}}}")
    });
    prop::collection::vec(body, 1..30)
}

fn marker(body: &str) -> String {
    body.split('"').nth(3).unwrap().to_owned()
}

/// What tells an event in what arrives, whole and by a word: people do not get the body, but its id.
fn marks(kind: &Entry, piece: &Piece, body: &str) -> (String, String) {
    match kind.class() {
        Class::People | Class::Incident => (piece.id.to_string(), piece.id.to_string()),
        // Inside a text or as base64 it looks different, so what was encoded is looked for.
        Class::Siem | Class::Archive
            if !text(std::slice::from_ref(&piece.bytes)).contains(body) =>
        {
            let encoded = String::from_utf8_lossy(piece.bytes.trim_ascii());
            let encoded = encoded.trim_end_matches('\0').to_owned();
            let marker =
                if encoded.contains(&marker(body)) { marker(body) } else { encoded.clone() };
            (encoded, marker)
        }
        Class::Siem | Class::Archive => (body.to_owned(), marker(body)),
    }
}

/// Whether the destination wants forms, mails, lines of text or protobuf instead of JSON.
fn is_no_json(stand: &Stand, pieces: &[Piece]) -> bool {
    let is_line =
        |piece: &Piece| piece.bytes.starts_with(b"CEF:") || piece.bytes.starts_with(b"LEEF:");
    let format = &stand.kind.schema().to_value()["properties"]["format"]["default"];
    let is_mail = matches!(stand.at.way, Way::Mail(_));
    if is_mail || pieces.first().is_some_and(is_line) || !(format.is_null() || format == "raw") {
        return true;
    }
    let preview = stand.built.sink.preview(&pieces[..pieces.len().min(1)]);
    let headers = preview.map(|preview| preview.headers).unwrap_or_default();
    let other = |value: &str| value.contains("form") || value.contains("protobuf");
    headers.iter().any(|(name, value)| name == "content-type" && other(value))
}

#[test]
fn every_event_arrives_once_whole_and_valid() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for kind in kinds() {
        let stand = runtime.block_on(Stand::of(kind.clone()));
        if !stand.at.can_look() {
            continue;
        }
        let mut runner =
            TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
        let ran = runner.run(&bodies(), |bodies| {
            stand.at.forget();
            runtime.block_on(all_arrive(&stand, &bodies));
            Ok(())
        });
        assert_eq!(ran, Ok(()), "{}", kind.name());
    }
}

async fn all_arrive(stand: &Stand, bodies: &[String]) {
    let name = stand.kind.name();
    let (mut pieces, mut expected) = (Vec::new(), Vec::new());
    for body in bodies {
        match encode(&stand.built, body.clone()) {
            Ok(piece) => {
                expected.push(marks(&stand.kind, &piece, body).1);
                pieces.push(piece);
            }
            Err(fault) => {
                assert_eq!(fault.cause, Cause::TooLarge, "{name}");
                assert!(body.len() > stand.built.limits.event_bytes / 2, "{name}: {fault:?}");
            }
        }
    }
    stand.deliver(&pieces).await.unwrap();
    let arrived = stand.arrived(&expected).await;
    let text = text(&arrived);
    for marker in expected {
        assert_eq!(text.matches(&marker).count(), 1, "{name}: {marker}");
    }
    for bytes in arrived.iter().filter(|_| !is_no_json(stand, &pieces)) {
        let values =
            serde_json::Deserializer::from_slice(stand.at.json(bytes)).into_iter::<IgnoredAny>();
        assert!(values.into_iter().all(|value| value.is_ok()), "{name} sends invalid JSON");
    }
}

#[tokio::test]
async fn encode_keeps_to_the_room_and_repeats_itself() {
    for kind in kinds() {
        let stand = Stand::of(kind.clone()).await;
        for body in [
            r#""""#.to_owned(),
            r#"{"a":"ä€🦀"}"#.to_owned(),
            json!({ "a": "x".repeat(100_000) }).to_string(),
        ] {
            let event = event(body.clone());
            for room in [0, 1, 8, 64, 200, 4_096, 100_000, 100_010, 100_100, 1 << 20] {
                match stand.built.sink.encode(&event, room) {
                    Ok(bytes) => {
                        assert!(bytes.len() <= room, "{}: {} in {room}", kind.name(), bytes.len());
                        assert_eq!(
                            Ok(bytes),
                            stand.built.sink.encode(&event, room),
                            "{}",
                            kind.name()
                        );
                    }
                    Err(fault) => assert_eq!(fault.cause, Cause::TooLarge, "{}", kind.name()),
                }
            }
        }
    }
}

/// The cause table of ARCHITECTURE.md, as answers.
fn verdicts() -> Vec<(Answer, Cause, Option<u64>)> {
    let plain = |status| Answer::new(status, "{}");
    let page = "<!DOCTYPE html><html><body>Sign in to continue</body></html>";
    // Conformance runs at `now()`: this is two minutes later.
    let date = "Sat, 31 Jan 2026 12:02:00 GMT";
    let mut table = Vec::new();
    let groups: [(&[u16], Cause); 5] = [
        (&[300, 301, 302, 303, 304, 307, 308, 401, 403, 404, 405, 407, 410, 501], Cause::Setup),
        (&[408, 500, 502, 503, 504, 507, 520, 599], Cause::Down),
        (&[425, 429], Cause::Busy),
        (&[413], Cause::TooLarge),
        (&[400, 402, 406, 409, 411, 415, 422, 431, 451, 499], Cause::Refused),
    ];
    for (statuses, cause) in groups {
        table.extend(statuses.iter().map(|status| (plain(*status), cause, None)));
    }
    for status in [429, 503] {
        table.push((plain(status).header("Retry-After", "7"), Cause::Busy, Some(7)));
        table.push((plain(status).header("Retry-After", date), Cause::Busy, Some(120)));
        table.push((plain(status).header("Retry-After", "999999"), Cause::Busy, Some(3_600)));
    }
    table.push((plain(429).header("Retry-After", "later"), Cause::Busy, None));
    table.push((plain(503).header("Retry-After", "later"), Cause::Down, None));
    table.push((plain(500).header("Retry-After", "7"), Cause::Down, Some(7)));
    table.push((Answer::ok(page).header("Content-Type", "text/html"), Cause::Setup, None));
    table.push((Answer::new(403, page).broken(), Cause::Setup, None));
    table.push((Answer::ok(page).broken(), Cause::Down, None));
    table.push((Answer::reset(), Cause::Down, None));
    table
}

#[tokio::test]
async fn every_answer_has_its_cause() {
    for kind in kinds().into_iter().filter(is_http) {
        let stand = Stand::of(kind.clone()).await;
        for (answer, cause, wait) in verdicts() {
            stand.at.peer().always(answer.clone());
            let outcome = stand.one().await;
            let Outcome::Failed(fault) = outcome else {
                panic!("{}: {answer:?}: {outcome:?}", kind.name())
            };
            assert_eq!(fault.cause, cause, "{}: {answer:?}: {fault:?}", kind.name());
            assert_eq!(
                fault.retry_after,
                wait.map(Duration::from_secs),
                "{}: {answer:?}",
                kind.name()
            );
            assert!(fault.note.len() > 10, "{}: {fault:?}", kind.name());
            if fault.cause == Cause::Setup {
                assert!(fault.note.contains("sinks."), "where to look? {}: {fault:?}", kind.name());
            }
        }
        stand.at.peer().always(success(&kind));
        delivered(stand.one().await);
        let Stand { at, built, .. } = stand;
        at.stop().await;
        let piece = encode(&built, "{}").unwrap();
        failed(built.sink.send(&[piece], now()).await, Cause::Down);
    }
}

#[tokio::test]
async fn redirects_are_never_followed() {
    for kind in kinds().into_iter().filter(is_http) {
        let (stand, elsewhere) = (Stand::of(kind.clone()).await, Peer::start().await);
        for status in [301, 302, 303, 307, 308] {
            let to = format!("{}/hidden-place", elsewhere.url());
            stand.at.peer().always(Answer::new(status, "").header("Location", &to));
            let fault = failed(stand.one().await, Cause::Setup);
            assert!(
                fault.note.contains(&elsewhere.url()) && !fault.note.contains("hidden"),
                "{fault:?}"
            );
            let _ = stand.built.sink.probe(now()).await;
        }
        assert_eq!(elsewhere.requests().len(), 0, "{}", kind.name());
    }
}

#[tokio::test]
async fn secrets_show_up_nowhere() {
    let quoted = Value::from(KEY).to_string();
    let quoted = &quoted[1..quoted.len() - 1];
    for kind in kinds().into_iter().filter(is_http) {
        let stand = Stand::of(kind.clone()).await;
        for status in [200, 204, 302, 400, 401, 403, 413, 429, 500, 503] {
            stand.at.peer().answer(move |request| {
                let raw = format!("{request:?} {:?}", request.headers);
                let echo = json!({ "you sent": request.headers, "to": request.path, "raw": raw });
                let plain: String = request
                    .headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {value}\n"))
                    .collect();
                let body = if status == 400 { plain + &request.path } else { echo.to_string() };
                Answer::new(status, if status == 204 { String::new() } else { body })
            });
            let told = format!("{:?} {:?}", stand.one().await, stand.built.sink.probe(now()).await);
            assert!(!told.contains(KEY) && !told.contains(quoted), "{}: {told}", kind.name());
        }
        let (_, section) = section(&sample(&kind, "http://127.0.0.1:9", &stand.at.dir));
        assert!(!format!("{section:?}").contains("hunter2"), "{}", kind.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_and_cancelled_sends_neither_lose_nor_mix() {
    for kind in kinds() {
        let stand = Stand::of(kind.clone()).await;
        if !stand.at.can_look() {
            continue;
        }
        if let Way::Http(peer) = &stand.at.way {
            peer.always(success(&kind).after(Duration::from_millis(100)));
        }
        let count = stand.built.limits.batch_events.min(20);
        let pad = (stand.built.limits.event_bytes / 2).min(5_000);
        let batch = |_| -> (Vec<Piece>, Vec<String>) {
            let body =
                |_| json!({ "marker": EventId::fresh(), "pad": "x".repeat(pad) }).to_string();
            let one = |body: String| (encode(&stand.built, body.clone()).unwrap(), body);
            (0..count).map(body).map(one).unzip()
        };
        let batches: Vec<_> = (0..8).map(batch).collect();
        let start = |(pieces, _): &(Vec<Piece>, Vec<String>)| {
            sending(stand.built.sink.clone(), pieces.clone())
        };
        let mut sends: Vec<_> = batches.iter().map(start).collect();
        tokio::time::sleep(Duration::from_millis(if is_http(&kind) { 50 } else { 0 })).await;
        let cancelled = sends.remove(3);
        cancelled.abort();
        for send in sends {
            delivered(send.await.unwrap());
        }
        // And one more, which must not be touched by what the cancelled one left.
        let after = batch(0);
        delivered(start(&after).await.unwrap());
        let told = |(pieces, bodies): &(Vec<Piece>, Vec<String>)| -> Vec<(String, String)> {
            let pairs = pieces.iter().zip(bodies);
            pairs.map(|(piece, body)| marks(&kind, piece, body)).collect()
        };
        let batches: Vec<_> = batches.iter().chain([&after]).map(told).collect();
        let wanted = [&batches[..3], &batches[4..]].concat().concat();
        let wanted: Vec<String> = wanted.into_iter().map(|(whole, _)| whole).collect();
        let text = text(&stand.arrived(&wanted).await);
        for (index, batch) in batches.iter().enumerate() {
            for (body, mark) in batch {
                let times = text.matches(body).count();
                let good = match index {
                    3 => times <= 1 || is_stream(&kind),
                    // Of a connection that broke nobody knows what was read.
                    _ => times == 1 || (times > 1 && is_stream(&kind)),
                };
                assert!(good, "{}: batch {index}: {times}", kind.name());
                assert_eq!(text.matches(mark).count(), times, "{}: torn", kind.name());
            }
        }
    }
}

#[tokio::test]
async fn probes_deliver_nothing() {
    for kind in kinds() {
        let Stand { at, built, .. } = Stand::of(kind.clone()).await;
        let probe = built.sink.probe(now()).await;
        assert!(probe.is_ok(), "{}: {probe:?}", kind.name());
        let arrived = at.arrived(|_| true).await;
        // No events: an empty list of them at most.
        let all: Vec<Bytes> = arrived.into_iter().flatten().collect();
        assert!(all.iter().all(|bytes| matches!(&bytes[..], b"" | b"[]")), "{}", kind.name());
        if let Way::Http(peer) = &at.way {
            let requests = peer.requests();
            let mut posts = requests.iter().filter(|request| request.method == "POST");
            assert!(posts.all(|post| &post.body[..] == b"[]"), "{}", kind.name());
        }
        let _dir = at.stop().await;
        if is_http(&kind) || is_stream(&kind) || is_broker(&kind) {
            let probe = built.sink.probe(now()).await;
            assert!(
                matches!(&probe, Err(fault) if fault.cause == Cause::Down),
                "{}: {probe:?}",
                kind.name()
            );
        }
    }
}

/// Whatever way a destination has gone, that is told as down, with its place, and ends by itself.
#[tokio::test]
async fn a_destination_that_is_gone_is_down_until_it_is_back() {
    let is_socket = |kind: &Entry| is_stream(kind) || is_datagram(kind) || is_broker(kind);
    for kind in kinds().into_iter().filter(is_socket) {
        let Stand { at, built, .. } = Stand::of(kind.clone()).await;
        let url = at.url();
        let piece = encode(&built, "{\"first\":1}").unwrap();
        delivered(built.sink.send(&[piece], now()).await);
        at.arrived(|arrived| !arrived.is_empty()).await;
        at.stop().await;
        let piece = encode(&built, "{\"second\":2}").unwrap();
        let fault = failed(built.sink.send(std::slice::from_ref(&piece), now()).await, Cause::Down);
        assert!(fault.note.contains(&url), "{}: {fault:?}", kind.name());
        let port = url.rsplit(':').next().unwrap().parse().unwrap();
        if let Some(speaks) = Speaks::of(&kind) {
            let back = Broker::start(speaks, port).await;
            delivered(built.sink.send(&[piece], now()).await);
            assert_eq!(back.messages(), ["{\"second\":2}"], "{}", kind.name());
        } else if is_stream(&kind) {
            let back = Receiver::tcp_at(port).await;
            delivered(built.sink.send(std::slice::from_ref(&piece), now()).await);
            let came = back.wait_for(2).await;
            let has = |mark: &str| text(&came).contains(mark);
            assert!(has("second") || has(&piece.id.to_string()), "{}: {came:?}", kind.name());
        }
    }
}

#[tokio::test]
async fn bad_addresses_are_refused_without_being_repeated() {
    let web = ["ftp://hidden.example", "hidden", "http://a:hidden@b", "http://h/../hidden"];
    let sockets =
        ["x://hid den:1", "x://a:hidden@b:1", "x://h/hidden:1", "x://hidden:0", "x://hidden:x"];
    for kind in kinds() {
        let bads = match &kind {
            kind if is_http(kind) => &web[..],
            kind if is_stream(kind) || is_datagram(kind) || is_broker(kind) => &sockets[..],
            _ => continue,
        };
        let dir = folder();
        for bad in bads {
            let problems = build(&sample(&kind, bad, &dir)).err().map(told).unwrap_or_default();
            assert!(
                problems.contains("sinks.") && !problems.contains("hidden"),
                "{}: {bad}: {problems}",
                kind.name()
            );
        }
    }
}
