//! A log that is full of undelivered events: refused at once, or the oldest expire, as configured.

use super::gateway::{Gateway, until};
use super::peer::{Answer, Peer};

const OK: &str = r#"{"successCount":1}"#;

/// `neighbour` is a second sink, which works.
async fn started(port: u16, when_full: &str, neighbour: bool) -> Gateway {
    let sinks = if neighbour { r#""out", "archive""# } else { r#""out""# };
    let mut gateway = Gateway::prepared(&format!(
        r#"
[log]
max_bytes = "4MiB"
segment_bytes = "1MiB"
when_full = "{when_full}"
[sources.superna]
type = "superna"
path = "/webhook"
[routes.all]
sinks = [{sinks}]
[sinks.archive]
type = "file"
path = "{{{{dir}}}}/events.ndjson"
[sinks.out]
type = "taegis"
url = "http://127.0.0.1:{port}/in"
key = {{ env = "KEY" }}
[sinks.out.delivery]
retry = {{ first = "50ms", max = "300ms" }}
"#
    ));
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    gateway
}

/// A body of about 64 KiB.
fn body(number: usize) -> String {
    format!("{{\"n\":{number},\"severity\":\"WARNING\",\"pad\":\"{}\"}}", "x".repeat(64_000))
}

#[tokio::test]
async fn a_full_log_that_may_drop_nothing_refuses_until_there_is_room() {
    let peer = Peer::start().await;
    let port = peer.port();
    peer.stop().await;
    let gateway = started(port, "refuse", true).await;
    let mut accepted = 0;
    let refused = loop {
        let answer = gateway.post("/webhook", body(accepted)).await;
        if answer.status != 200 {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 100, "4 MiB cannot hold so many");
    };
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.headers["retry-after"], "30");
    assert!(refused.text.contains("log.max_bytes"), "{refused:?}");
    assert!(accepted >= 20, "{accepted}");
    let bytes = async |name: &str| gateway.metric(&format!("siemgate_log_{name}"), &[]).await;
    let limit = bytes("limit_bytes").await;
    assert_eq!((bytes("held_bytes").await, limit), (limit, Some(f64::from(4 << 20))));
    assert_eq!(bytes("disk_reserve_bytes").await, Some(f64::from(1 << 20)));
    assert!(bytes("disk_free_bytes").await > Some(f64::from(1 << 20)));
    let listed = gateway.cli(&["quarantine", "list"]).await;
    assert!(listed.out.contains("0 open"), "the sender keeps it and tries again: {listed:?}");
    let peer = Peer::start_at(port).await;
    peer.always(Answer::ok(OK));
    gateway.until_metric("siemgate_delivery_lag_events", &[("sink", "out")], 0.0).await;
    // What is kept for replay only is not held.
    gateway.until_metric("siemgate_log_held_bytes", &[], 0.0).await;
    let bodies = peer.bodies();
    assert!((0..accepted).all(|n| bodies.iter().any(|came| **came == *body(n).as_bytes())));
    until("there is room again", async || {
        (gateway.post("/webhook", body(1_000)).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(gateway.settled("out", "expired").await, 0);
    gateway.finish().await;
}

#[tokio::test]
async fn a_full_log_that_may_drop_takes_the_new_and_counts_the_old_as_expired() {
    let peer = Peer::start().await;
    let port = peer.port();
    peer.stop().await;
    let gateway = started(port, "drop_oldest", true).await;
    for number in 0..250 {
        gateway.post("/webhook", body(number)).await.ids();
    }
    let expired = async || gateway.settled("out", "expired").await;
    until("the oldest have expired", async || (expired().await > 0).then_some(())).await;
    let told = gateway.journal_text();
    assert!(told.contains("expired undelivered"), "alarmed while it happens, not afterwards");
    assert!(gateway.metric("siemgate_log_bytes", &[]).await.unwrap() <= f64::from(4 << 20));
    let peer = Peer::start_at(port).await;
    peer.always(Answer::ok(OK));
    gateway.until_metric("siemgate_delivery_lag_events", &[("sink", "out")], 0.0).await;
    let (delivered, expired) = (gateway.settled("out", "delivered").await, expired().await);
    assert_eq!(delivered + expired, 250, "every event is one or the other");
    let bodies = peer.bodies();
    assert!(bodies.iter().any(|came| **came == *body(249).as_bytes()), "the newest arrived");
    assert_eq!(gateway.lines("events.ndjson"), (0..250).map(body).collect::<Vec<_>>());
    gateway.finish().await;
}
