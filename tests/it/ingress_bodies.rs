//! What may be in a request: one event or several, compressed, chunked, large, or nonsense.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::gateway::{Gateway, told};
use super::peer::Peer;
use super::wire::{Wire, post};

const LIMITS: &str = r#"
[server]
body_limit = "256KiB"
events_limit = 5
"#;

/// A gateway that hands every body, untouched, to `peer`.
async fn started(peer: &Peer) -> Gateway {
    let gateway = Gateway::prepared(&format!(
        r#"
[sources.any]
type = "json"
[routes.all]
sinks = ["out"]
[sinks.out]
type = "taegis"
url = "{}"
key = {{ file = "{{{{dir}}}}/key" }}
[sinks.out.delivery]
in_flight = 1
"#,
        peer.url()
    ));
    gateway.configure("20-limits.toml", LIMITS);
    std::fs::write(gateway.path("key"), "k").unwrap();
    let mut gateway = gateway;
    gateway.launch().await;
    gateway
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_compressed_body_is_stored_and_delivered_as_it_was_before() {
    let peer = Peer::start().await;
    let gateway = started(&peer).await;
    let body = format!("{{ \"text\" : \"{}\" }}\n", "abc ".repeat(10_000));
    let request = gateway.request("/webhook?wait=30s").header("Content-Encoding", "gzip");
    told(request.body(gzip(body.as_bytes()))).await.ids();
    assert_eq!(peer.wait_for(1).await[0].body, body);
    let broken = gateway.request("/webhook").header("Content-Encoding", "gzip").body("{\"a\":1}");
    assert_eq!(told(broken).await.status, 400);
    let strange = gateway.request("/webhook").header("Content-Encoding", "br").body("{\"a\":1}");
    let answer = told(strange).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text.contains("br") && answer.text.contains("gzip"), "{answer:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_bomb_is_refused_by_its_decompressed_size() {
    let peer = Peer::start().await;
    let gateway = started(&peer).await;
    let bomb = gzip(format!("{{\"zeros\":\"{}\"}}", "0".repeat(50 << 20)).as_bytes());
    assert!(bomb.len() < 100 << 10, "the bomb is small on the wire");
    let request = gateway.request("/webhook").header("Content-Encoding", "gzip").body(bomb);
    let answer = told(request).await;
    assert_eq!(answer.status, 413);
    assert!(answer.text.contains("256KiB"), "{answer:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn arrays_and_lines_are_several_events_in_order_each_with_its_own_bytes() {
    let peer = Peer::start().await;
    let gateway = started(&peer).await;
    let array = "[ {\"n\": 1.0, \"s\":\"],[\"} ,\n\t{\"n\":2}, {\"n\":3} ]";
    let ids = gateway.post("/webhook?wait=30s", array).await.ids();
    assert_eq!(ids.len(), 3);
    let lines = "{\"n\":4}\r\n\r\n  {\"n\" :5}\n{\"n\":6}";
    assert_eq!(gateway.post("/webhook?wait=30s", lines).await.ids().len(), 3);
    let bodies: Vec<String> = peer.requests().iter().map(|request| request.text()).collect();
    let expected = [
        "{\"n\": 1.0, \"s\":\"],[\"}",
        "{\"n\":2}",
        "{\"n\":3}",
        "{\"n\":4}",
        "{\"n\" :5}",
        "{\"n\":6}",
    ];
    assert_eq!(bodies, expected);
    let mut sorted = ids.clone();
    sorted.sort();
    assert_eq!(sorted, ids, "ids are in the order of the events");
    gateway.finish().await;
}

#[tokio::test]
async fn a_request_is_taken_whole_or_not_at_all() {
    let peer = Peer::start().await;
    let gateway = started(&peer).await;
    for (body, status) in [
        ("[{\"n\":1},{\"n\":2},3]", 400),
        ("{\"n\":1}\n{\"n\":2}\n{\"n\":", 400),
        ("[{\"n\":1},{\"n\":2},{},{},{},{}]", 413),
        ("{}\n{}\n{}\n{}\n{}\n{}\n", 413),
    ] {
        let answer = gateway.post("/webhook", body).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        if status == 413 {
            assert!(answer.text.contains("more than 5 events"), "{answer:?}");
        }
    }
    assert_eq!(gateway.metric("siemgate_log_head_position", &[]).await, Some(0.0));
    assert!(peer.requests().is_empty());
    gateway.post("/webhook?wait=30s", "[{},{},{},{},{}]").await.ids();
    assert_eq!(peer.requests().len(), 5, "the limit itself is allowed");
    gateway.finish().await;
}

#[tokio::test]
async fn what_is_no_event_is_refused_with_its_place() {
    let peer = Peer::start().await;
    let gateway = started(&peer).await;
    for (body, says) in [
        ("{\n  \"a\": tru }", "line 2, column 11"),
        ("{\"a\":1", "line 1"),
        ("", "empty"),
        (" \n\t", "empty"),
        ("[]", "empty"),
        ("42", "number"),
        ("\"text\"", "string"),
        ("null", "null"),
        ("[[]]", "list"),
    ] {
        let answer = gateway.post("/webhook", body).await;
        assert_eq!(answer.status, 400, "{body:?}: {answer:?}");
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(says), "{body:?}: {error}");
    }
    let labels = [("source", "any"), ("reason", "malformed")];
    assert_eq!(gateway.metric("siemgate_ingress_refused_total", &labels).await, Some(9.0));
    gateway.finish().await;
}

#[tokio::test]
async fn a_chunked_body_is_an_event_like_any_other() {
    let peer = Peer::start().await;
    let gateway = started(&peer).await;
    let mut wire = Wire::open(&gateway.webhook).await;
    let (status, _) = wire
        .exchange(
            "POST /webhook?wait=30s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
             4\r\n{\"a\"\r\n1;x=y\r\n:\r\n3\r\n 1}\r\n0\r\n\r\n",
        )
        .await;
    assert_eq!(status, 200);
    assert_eq!(peer.wait_for(1).await[0].body, "{\"a\": 1}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_connection_survives_refused_bodies_of_any_size() {
    let peer = Peer::start().await;
    let gateway = started(&peer).await;
    let mut wire = Wire::open(&gateway.webhook).await;
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(3 << 20));
    let just_over = format!("{{\"a\":\"{}\"}}", "x".repeat(256 << 10));
    for (path, body, expected) in [
        ("/webhook", large.as_str(), 413),
        ("/webhook", just_over.as_str(), 413),
        ("/nowhere", &large, 404),
        ("/webhook", "{\"broken", 400),
        ("/webhook?wait=30s", "{\"n\":1}", 200),
    ] {
        let (status, text) = wire.exchange(post(path, body.as_bytes())).await;
        assert_eq!(status, expected, "{path}: {text}");
    }
    let put = format!(
        "PUT /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{large}",
        large.len()
    );
    assert_eq!(wire.exchange(put).await.0, 405);
    assert_eq!(wire.exchange(post("/webhook?wait=30s", b"{\"n\":2}")).await.0, 200);
    assert_eq!(peer.bodies(), ["{\"n\":1}", "{\"n\":2}"]);
    gateway.finish().await;
}
