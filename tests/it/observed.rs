//! Metrics and health, and who may ask for what on the admin listener.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::gateway::Gateway;
use super::outages::{post, started};
use super::peer::{Answer, Peer};
use super::products::have;
use super::reference_metrics::documented;
use super::wire::Wire;

fn families(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|rest| rest.split(' ').next().unwrap().to_owned()).collect()
}

/// A gateway that has seen a delivery, a refusal at each side, a duplicate and a fault.
async fn eventful(peer: &Peer) -> Gateway {
    peer.answer(|request| match request.text().contains("bad") {
        true => Answer::new(400, ""),
        false => Answer::ok(r#"{"successCount":1}"#),
    });
    let gateway = started(peer.port(), "").await;
    post(&gateway, 0..5).await;
    gateway.post("/webhook", "{\"n\":\"bad\"}").await.ids();
    // Refused first, and accepted after it: the order in which a refusal is believed.
    let refused = [("sink", "out"), ("cause", "refused")];
    gateway.until_metric("siemgate_delivery_attempts_total", &refused, 1.0).await;
    gateway.post("/webhook?wait=30s", "{\"n\":\"good\",\"severity\":\"purple\"}").await.ids();
    gateway.post("/webhook", "{\"n\":\"good\",\"severity\":\"purple\"}").await.ids();
    gateway.post("/webhook", "{").await;
    gateway.until_settled("out", "dead", 1).await;
    gateway
}

#[tokio::test]
async fn the_metrics_are_exactly_the_promised_families_from_the_first_scrape_on() {
    let peer = Peer::start().await;
    let fresh = started(peer.port(), "").await;
    let mut expected = documented();
    // Those of TLS come with it: see `ingress_tls.rs`.
    expected.retain(|name| !name.starts_with("siemgate_tls_"));
    assert_eq!(families(&fresh.metrics().await), expected, "before any event");
    fresh.finish().await;
    let gateway = eventful(&peer).await;
    assert_eq!(families(&gateway.metrics().await), expected, "after all kinds of events");
    for (name, labels, value) in [
        ("ingress_events_total", &[("source", "superna")][..], 7.0),
        ("ingress_duplicates_total", &[("source", "superna")], 1.0),
        ("ingress_refused_total", &[("source", "superna"), ("reason", "malformed")], 1.0),
        ("quarantine_letters", &[("source", "superna")], 1.0),
        ("source_expected_every_seconds", &[("source", "superna")], 86_400.0),
        ("sink_info", &[("sink", "out"), ("kind", "taegis"), ("class", "siem")], 1.0),
        ("unknown_values_total", &[("source", "superna"), ("field", "severity")], 2.0),
        ("log_head_position", &[], 7.0),
        ("delivery_events_total", &[("sink", "out"), ("outcome", "delivered")], 6.0),
        ("delivery_attempts_total", &[("sink", "out"), ("cause", "ok")], 6.0),
        ("delivery_attempts_total", &[("sink", "out"), ("cause", "refused")], 1.0),
        ("delivery_batch_events_count", &[("sink", "out")], 7.0),
        ("event_seconds_count", &[("sink", "out")], 6.0),
        ("dead_letters", &[("sink", "out")], 1.0),
        ("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0),
    ] {
        let found = gateway.metric(&format!("siemgate_{name}"), labels).await;
        assert_eq!(found, Some(value), "{name} {labels:?}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_source_was_last_heard_when_it_last_sent_something_also_after_a_restart() {
    let peer = Peer::start().await;
    let mut gateway = started(peer.port(), "").await;
    let from = [("source", "superna")];
    let last = "siemgate_source_last_event_timestamp_seconds";
    assert_eq!(gateway.metric(last, &from).await, Some(0.0), "it never sent anything");
    post(&gateway, 0..1).await;
    let heard = gateway.metric(last, &from).await.unwrap();
    let silent = gateway.metric("siemgate_source_silent_seconds", &from).await.unwrap();
    assert!(heard > 1e9 && silent < 60.0, "{heard} {silent}");
    gateway.stop().await;
    gateway.launch().await;
    let again = gateway.metric(last, &from).await.unwrap();
    assert!((again - heard).abs() < 1.0, "{again}, not {heard}");
    gateway.configure("20-more.toml", "[sources.superna]\nexpect_every = \"1h\"\n");
    gateway.until_metric("siemgate_source_expected_every_seconds", &from, 3_600.0).await;
    assert_eq!(gateway.metric(last, &from).await, Some(again), "a reload forgets nothing");
    gateway.finish().await;
}

#[tokio::test]
async fn the_process_shows_its_memory_time_and_files() {
    let peer = Peer::start().await;
    let gateway = started(peer.port(), "").await;
    let value = async |name: &str| gateway.metric(name, &[]).await.unwrap();
    assert!(value("process_resident_memory_bytes").await > 1e6);
    assert!(value("process_start_time_seconds").await > 1e9);
    assert!(value("process_open_fds").await > 5.0);
    assert!(value("process_open_fds").await < value("process_max_fds").await);
    let used = value("process_cpu_seconds_total").await;
    assert!((0.0..60.0).contains(&used), "{used}");
    gateway.finish().await;
}

#[tokio::test]
async fn promtool_finds_nothing_to_say() {
    if !have("promtool", "prometheus") {
        return;
    }
    let peer = Peer::start().await;
    let gateway = eventful(&peer).await;
    let mut promtool = Command::new("promtool");
    promtool
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = promtool.spawn().unwrap();
    running.stdin.take().unwrap().write_all(gateway.metrics().await.as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    gateway.finish().await;
}

#[tokio::test]
async fn health_and_readiness_are_told_apart() {
    let peer = Peer::start().await;
    let gateway = started(peer.port(), "").await;
    let (health, ready) = (gateway.get("/healthz").await, gateway.get("/readyz").await);
    assert_eq!((health.status, ready.status), (200, 200));
    assert_eq!(
        (&health.json()["status"], &ready.json()["status"]),
        (&"alive".into(), &"ready".into())
    );
    let lost = gateway.get("/helthz").await;
    assert!(lost.status == 404 && lost.text.contains("/healthz"), "{lost:?}");
    // That a draining gateway is not ready is in `drain.rs`.
    gateway.finish().await;
}

#[tokio::test]
async fn a_web_page_cannot_use_the_admin_listener() {
    let peer = Peer::start().await;
    let gateway = eventful(&peer).await;
    std::fs::write(gateway.path("token"), "open-sesame").unwrap();
    gateway.configure("90-token.toml", "[server]\nadmin_token = { file = \"{{dir}}/token\" }\n");
    assert_eq!(gateway.cli(&["reload"]).await.code, Some(0));
    let token = "Authorization: Bearer open-sesame\r\n";
    let port = gateway.admin.rsplit(':').next().unwrap();
    let own = format!("127.0.0.1:{port}");
    let localhost = format!("localhost:{port}");
    let ask = async |method: &str, path: &str, headers: &str| {
        let request =
            format!("{method} {path} HTTP/1.1\r\n{token}{headers}Content-Length: 0\r\n\r\n");
        Wire::open(&gateway.admin).await.exchange(request).await
    };
    for (path, method) in [
        ("/api/v1/dead", "GET"),
        ("/api/v1/dead/0", "GET"),
        ("/api/v1/quarantine", "GET"),
        ("/api/v1/quarantine/0", "GET"),
        ("/api/v1/dead/replay", "POST"),
        ("/api/v1/dead/0/replay", "POST"),
        ("/api/v1/dead/0/drop", "POST"),
        ("/api/v1/quarantine/0/replay", "POST"),
        ("/api/v1/quarantine/0/drop", "POST"),
    ] {
        for headers in [
            "Host: attacker.example\r\n".to_owned(),
            format!("Host: attacker.example:{port}\r\n"),
            format!("Host: {own}\r\nOrigin: http://attacker.example\r\n"),
            format!("Host: {own}\r\nOrigin: null\r\n"),
        ] {
            let (status, text) = ask(method, path, &headers).await;
            assert_eq!(status, 403, "{method} {path} with {headers}: {text}");
        }
    }
    for host in [own, localhost] {
        let (status, text) = ask("GET", "/api/v1/dead", &format!("Host: {host}\r\n")).await;
        assert!(status == 200 && text.contains("\"open\":1"), "{host}: {status} {text}");
    }
    // Scrapers come by any name; they only read numbers.
    assert_eq!(ask("GET", "/metrics", "Host: gateway.example\r\n").await.0, 200);
    gateway.finish().await;
}
