//! OTLP: what is written in either encoding is what the published schemas say, and what a receiver rejects
//! is not delivered. The referee is code that is generated from those schemas.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use siemgate::core::route::Shaped;
use siemgate::core::sink::{Cause, Piece};
use siemgate::sinks::Built;

use crate::gateway::Gateway;
use crate::peer::{Answer, Peer};
use crate::people::event_at;
use crate::products::python;
use crate::sinks::{built, delivered, encode, failed, now};

fn config(url: &str, more: &str) -> String {
    format!("[sinks.otel]\ntype = \"otlp\"\nurl = \"{url}\"\n{more}")
}

/// Ask the referee; `None` where it is not installed.
fn referee(arguments: &[&str], input: &str) -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp/referee.py");
    let mut child = Command::new(python("opentelemetry.proto")?)
        .arg(script)
        .args(arguments)
        .env("PYTHONUTF8", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the referee reads it");
    Some(String::from_utf8(output.stdout).unwrap())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The body of the request for `events`.
fn body(sink: &Built, events: &[Shaped]) -> Bytes {
    let piece = |event: &Shaped| {
        let bytes = sink.sink.encode(event, sink.limits.event_bytes).unwrap();
        Piece::of(&event.event, bytes)
    };
    let pieces: Vec<Piece> = events.iter().map(piece).collect();
    sink.sink.preview(&pieces).unwrap().body
}

/// What the referee reads in both encodings; they must be the same.
fn read(events: &[Shaped]) -> Option<Value> {
    let [protobuf, json] = ["protobuf", "json"].map(|encoding| {
        let sink =
            built(&config("http://h", &format!("gzip = false\nencoding = \"{encoding}\"\n")));
        body(&sink, events)
    });
    let input = format!("{}\n{}\n", hex(&protobuf), String::from_utf8(json.to_vec()).unwrap());
    let told: Value = serde_json::from_str(&referee(&["request"], &input)?).unwrap();
    assert_eq!(told["protobuf"], told["json"], "both encodings say the same");
    assert_eq!(told["same_bytes"], true, "{told}");
    Some(told["protobuf"].clone())
}

#[test]
fn the_published_schemas_read_what_is_written() {
    let alert = json!({
        "id": "inc-77", "severity": "CRITICAL", "state": "LOCKED_OUT", "userName": "CORP\\jdoe", "files": ["/ifs/ä🦀"],
        "detected": 1_764_572_400_000u64,
    });
    let other = json!({ "severity": "Warning", "padding": "x".repeat(70_000) });
    let events = [event_at(&alert, now()), event_at(&other, now())];
    let Some(told) = read(&events) else { return };
    let resource = &told["resourceLogs"][0];
    assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "siemgate");
    assert_eq!(resource["scopeLogs"][0]["scope"]["name"], "siemgate");
    let records = resource["scopeLogs"][0]["logRecords"].as_array().unwrap();
    assert_eq!(records.len(), 2);
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    assert_eq!(
        records[0],
        json!({
            "timeUnixNano": "1764572400000000000",
            "observedTimeUnixNano": "1769860800000000000",
            "severityNumber": "SEVERITY_NUMBER_FATAL",
            "severityText": "critical",
            "eventName": "superna.event",
            "body": { "stringValue": alert.to_string() },
            "attributes": [
                text("event.id", &events[0].event.id.to_string()),
                text("event.source", "superna"),
                text("event.incident", "inc-77"),
                text("event.state", "locked_out"),
            ],
        })
    );
    assert_eq!(records[1]["body"]["stringValue"], other.to_string());
    assert_eq!(records[1]["severityNumber"], "SEVERITY_NUMBER_WARN");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_an_event_holds_both_encodings_are_read(
        texts in prop::collection::vec(any::<String>(), 1..8),
        long in 0usize..40_000,
    ) {
        let bodies: Vec<Value> = texts.iter().map(|text| {
            json!({ "id": text, "severity": text, "state": text, "a": "ä".repeat(long), "b": text })
        }).collect();
        let events: Vec<Shaped> = bodies.iter().map(|body| event_at(body, now())).collect();
        if let Some(told) = read(&events) {
            for (body, record) in bodies.iter().zip(told["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap()) {
                prop_assert_eq!(&record["body"]["stringValue"], &body.to_string());
            }
        }
    }
}

#[tokio::test]
async fn what_a_receiver_rejects_is_not_delivered() {
    let peer = Peer::start().await;
    for encoding in ["protobuf", "json"] {
        let sink = built(&config(&peer.url(), &format!("encoding = \"{encoding}\"\n")));
        let pieces = ["{}", "{}"].map(|body| encode(&sink, body).unwrap());
        let Some(rejected) = referee(&["reply", "1", "too old"], "") else { return };
        let Some(warned) = referee(&["reply", "0", "deprecated"], "") else { return };
        let bytes = |hex: &str| -> Vec<u8> {
            let hex = hex.trim();
            (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect()
        };
        let rejects: [Bytes; 2] = [
            bytes(&rejected).into(),
            r#"{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"too old"}}"#.into(),
        ];
        for reject in rejects {
            peer.always(Answer::ok(reject));
            let fault = failed(sink.sink.send(&pieces, now()).await, Cause::Refused);
            assert!(fault.note.contains("rejected 1 of 2"), "{fault:?}");
            let reply = fault.reply.unwrap();
            assert!(reply.accepted == Some(1) && reply.excerpt.contains("too old"), "{reply:?}");
        }
        for good in [Bytes::new(), bytes(&warned).into(), "{}".into()] {
            peer.always(Answer::ok(good));
            assert_eq!(delivered(sink.sink.send(&pieces, now()).await).accepted, Some(2));
        }
        for strange in ["OK", "[]x", "welcome to the portal"] {
            peer.always(Answer::ok(strange));
            let fault = failed(sink.sink.send(&pieces, now()).await, Cause::Setup);
            assert!(fault.note.contains("check sinks.otel.url"), "{strange}: {fault:?}");
        }
        let sent = peer.requests().pop().unwrap();
        let content =
            if encoding == "json" { "application/json" } else { "application/x-protobuf" };
        assert_eq!((&*sent.path, sent.header("content-type")), ("/v1/logs", Some(content)));
    }
}

/// One record that is always rejected neither stops the others nor is lost without a word.
#[tokio::test]
async fn a_rejected_record_becomes_a_dead_letter_and_the_others_arrive() {
    let peer = Peer::start().await;
    peer.answer(|request| {
        let bad = request.body.windows(8).any(|bytes| bytes == b"poisoned");
        match bad {
            // partial_success { rejected_log_records: 1 }
            true => Answer::ok(&b"\x0a\x02\x08\x01"[..]),
            false => Answer::ok(""),
        }
    });
    let mut gateway = Gateway::prepared(&format!(
        "[sources.superna]\ntype = \"superna\"\npath = \"/webhook\"\n[routes.all]\nsinks = [\"otel\"]\n{}",
        config(&peer.url(), "gzip = false\n")
    ));
    gateway.launch().await;
    gateway.post("/webhook", r#"{"severity":"CRITICAL","id":"poisoned"}"#).await.ids();
    for number in 0..3 {
        let body = format!(r#"{{"severity":"Warning","id":"good-{number}"}}"#);
        gateway.post("/webhook", body).await.ids();
    }
    gateway.until_settled("otel", "dead", 1).await;
    gateway.until_settled("otel", "delivered", 3).await;
    gateway.finish().await;
}
