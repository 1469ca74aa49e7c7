//! `?wait`: the answer tells how each sink stands, and never keeps a sender longer than asked.

use std::time::{Duration, Instant};

use super::gateway::Gateway;
use super::outages::started;
use super::peer::{Answer, Peer};

const OK: &str = r#"{"successCount":1}"#;

#[tokio::test]
async fn a_wait_ends_in_time_and_says_what_is_pending() {
    let peer = Peer::start().await;
    peer.always(Answer::new(503, "in maintenance"));
    let gateway = started(peer.port(), "").await;
    let asked = Instant::now();
    let told = gateway.post("/webhook?wait=700ms", "{\"n\":1}").await.json();
    assert!(asked.elapsed() >= Duration::from_millis(700));
    assert_eq!(told["settled"], false, "{told}");
    let deliveries = told["events"][0]["deliveries"].as_array().unwrap();
    let of = |sink: &str| deliveries.iter().find(|delivery| delivery["sink"] == sink).unwrap();
    assert_eq!(of("archive")["state"], "delivered", "{told}");
    let out = of("out");
    assert_eq!(
        (&out["state"], &out["status"], &out["cause"]),
        (&"pending".into(), &503.into(), &"down".into())
    );
    assert_eq!(out["reply"], "in maintenance");
    gateway.finish().await;
}

#[tokio::test]
async fn a_wait_that_cannot_be_read_is_no_reason_to_refuse_an_alert() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let gateway = started(peer.port(), "").await;
    for query in ["wait=", "wait=soon", "wait=-1s", "wait"] {
        let answer =
            gateway.post(&format!("/webhook?{query}"), format!("{{\"q\":\"{query}\"}}")).await;
        assert_eq!(answer.status, 200, "{query}");
        let told = answer.json();
        assert!(told["settled"].is_null(), "{query}: {told}");
        assert_eq!(told["note"].is_null(), query == "wait", "{query}: {told}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_wait_tells_of_a_dead_letter_and_its_reply() {
    let peer = Peer::start().await;
    peer.answer(|request| match request.text().contains("bad") {
        true => Answer::new(422, "field n is bad"),
        false => Answer::ok(OK),
    });
    let gateway = started(peer.port(), "").await;
    let sender = async { gateway.post("/webhook?wait=50s", "{\"n\":\"bad\"}").await.json() };
    let others = async { super::outages::until_dead(&gateway, 1).await };
    let (told, ()) = futures_util::future::join(sender, others).await;
    let deliveries = told["events"][0]["deliveries"].as_array().unwrap();
    let out = deliveries.iter().find(|delivery| delivery["sink"] == "out").unwrap();
    assert_eq!((&out["state"], &out["status"]), (&"dead".into(), &422.into()), "{told}");
    assert_eq!(out["reply"], "field n is bad");
    gateway.finish().await;
}

#[tokio::test]
async fn an_event_that_nobody_takes_is_stored_counted_and_settled_at_once() {
    let gateway = Gateway::start(
        r#"
[sources.superna]
type = "superna"
[routes.critical]
min_severity = "critical"
sinks = ["archive"]
[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
"#,
    )
    .await;
    let told = gateway.post("/webhook?wait=50s", "{\"severity\":\"WARNING\"}").await.json();
    assert_eq!(
        (&told["settled"], &told["events"][0]["deliveries"]),
        (&true.into(), &serde_json::json!([]))
    );
    let unrouted = gateway.metric("siemgate_events_unrouted_total", &[("source", "superna")]).await;
    assert_eq!(unrouted, Some(1.0));
    gateway.until_settled("archive", "filtered", 1).await;
    // A severity that nobody understands passes: filters fail open.
    gateway.post("/webhook?wait=50s", "{\"severity\":\"purple\"}").await.ids();
    assert_eq!(gateway.lines("events.ndjson"), ["{\"severity\":\"purple\"}"]);
    gateway.finish().await;
}
