//! Explain: which keys decided, and the bytes that the wire really gets.

use std::io::Read;

use bytes::Bytes;
use serde_json::{Value, json};
use siemgate::sinks::{Catalogue, Entry};

use super::destination::{Destination, Way};
use reqwest::Method;

use super::gateway::{Gateway, Told, fixture, told, until};
use super::sinks::{KEY, files, write_secrets};
use super::sinks_conformance::success;

const SOURCE: &str = "[sources.superna]\ntype = \"superna\"\npath = \"/webhook\"\n";

/// What `explain` says that a sink would be sent.
fn explained(sink: &Value) -> Bytes {
    match (sink["text"].as_str(), sink["hex"].as_str()) {
        (Some(text), None) => Bytes::copy_from_slice(text.as_bytes()),
        (None, Some(hex)) => {
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            if !bytes.starts_with(&[0x1f, 0x8b]) {
                return bytes.into();
            }
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
            plain.into()
        }
        _ => panic!("text or hex: {sink}"),
    }
}

/// Everything that arrived at the destination of `kind`, as soon as it is so many bytes.
async fn arrived(kind: &Entry, gateway: &Gateway, at: &Destination, bytes: usize) -> Bytes {
    match &at.way {
        Way::Http(peer) => {
            let bodies = peer.bodies().into_iter().filter(|body| !body.is_empty());
            bodies.collect::<Vec<_>>().concat().into()
        }
        Way::Mail(mailbox) => mailbox.mails().concat().into(),
        // On sockets bytes are delivered when they are on their way. Frames and all.
        Way::Socket(receiver) => {
            let all = until("the bytes have come", async || {
                Some(receiver.came().concat()).filter(|came| came.len() >= bytes)
            });
            all.await.into()
        }
        Way::Broker(broker) => broker.messages().concat().into(),
        Way::Folder => {
            let files = files(&gateway.path("out")).into_iter().map(|(_, bytes)| bytes);
            files.collect::<Vec<_>>().concat().into()
        }
        Way::Nowhere if kind.name() == "stdout" => {
            std::fs::read(gateway.path("stdout")).unwrap().into()
        }
        Way::Nowhere => panic!("say here where the bytes of a sink of kind {} arrive", kind.name()),
    }
}

#[tokio::test]
async fn explains_bytes_are_those_of_the_wire_for_every_kind() {
    let bodies = [
        fixture("superna-critical-locked-out.json"),
        b"{ \"severity\" :\t\"CRITICAL\",\r\n \"files\": [\"b\xff\xe9.doc\", \"two  blanks\"] }\n"
            .to_vec(),
    ];
    for kind in Catalogue::default().all().unwrap() {
        for body in &bodies {
            let at = Destination::of(&kind).await;
            if let Way::Http(peer) = &at.way {
                peer.always(success(&kind));
            }
            let sample = kind.sample_with(&at.url(), "{{dir}}/out");
            let name = sample.split("[sinks.").nth(1).unwrap().split([']', '.']).next().unwrap();
            let routes = format!("[routes.all]\nsinks = \"{name}\"\n");
            let mut gateway = Gateway::prepared(&[SOURCE, &routes, &sample].concat());
            std::fs::create_dir(gateway.path("out")).unwrap();
            write_secrets(&gateway.path("out"));
            gateway.launch().await;
            let posted = gateway.post("/webhook?wait=30s", body.clone()).await;
            assert_eq!(posted.json()["settled"], true, "{}: {posted:?}", kind.name());
            let [id] = &posted.ids()[..] else { panic!("not one event") };

            let told = gateway.cli(&["explain", id, "--json"]).await;
            assert_eq!(told.code, Some(0), "{}: {told:?}", kind.name());
            let event = &serde_json::from_str::<Value>(&told.out).unwrap()["events"][0];
            assert_eq!(event["id"], **id);
            let [sink] = &event["sinks"].as_array().unwrap()[..] else { panic!("{event}") };
            assert_eq!((&sink["sink"], &sink["kind"]), (&name.into(), &kind.name().into()));
            let explained = explained(sink);
            let arrived = arrived(&kind, &gateway, &at, explained.len()).await;
            // A key that stands in the body is the one thing that is not told.
            let masked = sink["request"]["body_masked"] == true;
            let arrived = if masked { without_key(&arrived) } else { arrived };
            assert_eq!(explained, arrived, "{}: {sink}", kind.name());
            assert!(!told.out.contains(KEY), "{}: {}", kind.name(), told.out);
            if matches!(at.way, Way::Socket(_) | Way::Broker(_)) {
                assert_eq!(sink["request"]["url"], at.url(), "{sink}");
            }
            let Way::Http(peer) = &at.way else {
                gateway.finish().await;
                continue;
            };
            if let [request] = &peer.requests()[..] {
                assert_eq!(sink["request"]["method"], *request.method, "{sink}");
                for header in sink["request"]["headers"].as_array().unwrap() {
                    let sent = request.header(header[0].as_str().unwrap()).unwrap();
                    assert!(header[1] == *sent || header[1] == "***", "{header} is not {sent}");
                }
            }
            gateway.finish().await;
        }
    }
}

fn without_key(body: &[u8]) -> Bytes {
    let quoted = Value::from(KEY).to_string();
    let text = String::from_utf8(body.to_vec()).unwrap();
    text.replace(&quoted[1..quoted.len() - 1], "***").into()
}

const ROUTES: &str = r#"
[routes.crit]
min_severity = "critical"
clusters = ["prod-*"]
sinks = "archive"
[routes.lock]
min_severity = "low"
states = ["locked_out"]
except = { users = ["CORP\\lab-*"], min_severity = "low" }
sinks = "archive"
[unmatched]
sinks = "rest"
[sinks.archive]
type = "file"
path = "{{dir}}/archive.ndjson"
[sinks.rest]
type = "file"
path = "{{dir}}/rest.ndjson"
"#;

#[tokio::test]
async fn a_file_is_explained_without_a_gateway() {
    let gateway = Gateway::prepared(&[SOURCE, ROUTES].concat());
    let body =
        r#"{"severity":"WARNING","state":"ODD ONE","userName":"CORP\\lab-7","nes":["prod-1"]}"#;
    std::fs::write(gateway.path("event.json"), body).unwrap();
    let told = gateway.cli(&["explain", "event.json"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    for says in [
        "severity           medium",
        "state              odd_one",
        "route crit: leaves it (archive)\n  min_severity = critical: false, the event has medium\n  clusters = prod-*: true, the event has prod-1",
        "route lock: leaves it",
        "  states = locked_out: true, the event has `odd_one`, which is not known (passes)",
        "  except min_severity = low: true, the event has medium",
        "  except users = CORP\\lab-*: true, the event has CORP\\lab-7",
        "route unmatched: takes it (rest)",
        "missing or not understood: state",
        "sink rest (file) by route unmatched:",
    ] {
        assert!(told.out.contains(says), "{says} is not in {}", told.out);
    }
    assert!(told.out.ends_with(&format!("{body}\n")), "{}", told.out);
    let nothing = gateway.cli(&["explain", "-"]).await;
    assert!(nothing.code == Some(1) && nothing.err.contains("the body is empty"), "{nothing:?}");
    let missing = gateway.cli(&["explain", "none.json"]).await;
    assert!(missing.code == Some(1) && missing.err.contains("none.json"), "{missing:?}");
    assert!(!gateway.path("data").exists() && !gateway.path("rest.ndjson").exists());
}

async fn ask(gateway: &Gateway, query: &str, body: impl Into<Bytes>) -> Told {
    let request = gateway.over_socket(Method::POST, &format!("/api/v1/explain{query}"));
    told(request.body(body.into())).await
}

#[tokio::test]
async fn the_gateway_explains_by_the_rules_in_force_and_keeps_nothing() {
    let other = "[sources.other]\ntype = \"json\"\n[server]\nbody_limit = \"1KiB\"\n";
    let gateway = Gateway::start(&[SOURCE, ROUTES, other].concat()).await;
    let body = json!([{ "severity": "CRITICAL", "state": "LOCKED_OUT" }, { "severity": "INFO" }]);
    let answer = ask(&gateway, "?source=superna", body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let events = &answer.json()["events"];
    assert_eq!(events.as_array().unwrap().len(), 2);
    assert_eq!(events[0]["sinks"][0]["sink"], "archive", "{events:#}");
    assert_eq!(events[0]["sinks"][0]["route"], "lock");
    assert_eq!(events[0]["finding"]["reported_severity"], "critical");
    assert_eq!(events[1]["sinks"][0]["sink"], "rest");
    let verdict = &events[1]["routes"][0]["keys"][0];
    assert_eq!(
        *verdict,
        json!({ "key": "min_severity", "wanted": "critical", "seen": "info", "holds": false })
    );

    let crit = "[routes.crit]\nclusters = \"*\"\n[routes.lock]\nstates = \"resolved\"\n";
    gateway.configure("20-more.toml", crit);
    let reloaded = gateway.steer("/-/reload").await;
    assert_eq!(reloaded.status, 200, "{reloaded:?}");
    let answer = ask(&gateway, "?source=superna", body.to_string()).await.json();
    assert_eq!(answer["events"][0]["sinks"][0]["sink"], "rest", "{answer:#}");

    for (query, body, status, says) in [
        ("", "{}", 400, "other, superna"),
        ("?source=none", "{}", 400, "there is no source `none`"),
        ("?source=other", "{", 400, "line 1"),
        ("?id=01a20916-446d-7783-a557-c6f7f2f2a41c", "", 404, "no event"),
        ("?source=other", &" ".repeat(1_025), 413, "1KiB"),
    ] {
        let refused = ask(&gateway, query, body.to_owned()).await;
        assert_eq!(refused.status, status, "{refused:?}");
        assert!(refused.text.contains(says), "{says}: {refused:?}");
    }
    let page = gateway.over_socket(Method::POST, "/api/v1/explain");
    let page = page.header("Origin", "http://evil.example").body("{}");
    assert_eq!(told(page).await.status, 403);
    assert_eq!(gateway.metric("siemgate_log_head_position", &[]).await, Some(0.0));
    assert_eq!(gateway.lines("archive.ndjson"), Vec::<String>::new());
    gateway.finish().await;
}
