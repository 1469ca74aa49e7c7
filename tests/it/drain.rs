//! A gateway that is told to stop finishes what it has begun, with the door open.

use std::time::Duration;

use super::gateway::{Gateway, until};
use super::outages::{body, distinct, post, started};
use super::peer::{Answer, Peer};

const OK: &str = r#"{"successCount":1}"#;

fn slow(peer: &Peer, delay: u64) {
    peer.always(Answer::ok(OK).after(Duration::from_millis(delay)));
}

#[tokio::test]
async fn a_draining_gateway_takes_webhooks_finishes_flights_and_loses_nothing() {
    let peer = Peer::start().await;
    slow(&peer, 700);
    let mut gateway = started(peer.port(), "in_flight = 1").await;
    post(&gateway, 0..40).await;
    peer.wait_for(1).await;
    gateway.ask_to_stop();
    until("it is draining", async || (gateway.get("/readyz").await.status == 503).then_some(()))
        .await;
    assert!(gateway.get("/readyz").await.text.contains("draining"));
    assert_eq!(gateway.get("/healthz").await.status, 200, "it is alive");
    // The log still works, so the door is still open.
    post(&gateway, 40..50).await;
    assert!(gateway.ended().await.success());
    let during = peer.bodies();
    assert!((2..50).contains(&during.len()), "{} went out while draining", during.len());
    assert_eq!(during, (0..during.len()).map(body).collect::<Vec<_>>());

    peer.always(Answer::ok(OK));
    gateway.launch().await;
    let left = 50 - during.len() as u64;
    until("the rest is delivered", async || {
        (gateway.settled("out", "delivered").await >= left).then_some(())
    })
    .await;
    let all = peer.bodies();
    // What was in flight when the limit passed may come twice; nothing else does.
    assert!(all.len() <= 51, "{} requests for 50 events", all.len());
    let mut distinct: Vec<_> = all;
    distinct.dedup();
    assert_eq!(distinct, (0..50).map(body).collect::<Vec<_>>());
    assert_eq!(gateway.lines("events.ndjson"), (0..50).map(body).collect::<Vec<_>>());
    gateway.finish().await;
}

#[tokio::test]
async fn what_is_in_flight_when_it_is_told_to_stop_is_delivered_once() {
    let peer = Peer::start().await;
    slow(&peer, 1_500);
    let mut gateway = started(peer.port(), "in_flight = 4").await;
    post(&gateway, 0..4).await;
    peer.wait_for(4).await;
    gateway.ask_to_stop();
    assert!(gateway.ended().await.success());
    assert_eq!(peer.requests().len(), 4);
    gateway.launch().await;
    post(&gateway, 4..5).await;
    gateway.until_settled("out", "delivered", 1).await;
    assert_eq!(peer.requests().len(), 5, "nothing was sent again");
    gateway.finish().await;
}

#[tokio::test]
async fn a_sink_that_does_not_answer_cannot_hold_up_the_stop() {
    let peer = Peer::start().await;
    peer.always(Answer::hang());
    let mut gateway = Gateway::prepared(&format!(
        r#"
[server]
drain = "1s"
[sources.superna]
type = "superna"
path = "/webhook"
[routes.all]
sinks = ["out"]
[sinks.out]
type = "taegis"
url = "{}"
key = {{ env = "KEY" }}
"#,
        peer.url()
    ));
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    post(&gateway, 0..10).await;
    peer.wait_for(1).await;
    let asked = std::time::Instant::now();
    gateway.ask_to_stop();
    assert!(gateway.ended().await.success());
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "its timeout is 30 s: {:?}",
        asked.elapsed()
    );
    peer.forget();
    peer.always(Answer::ok(OK));
    gateway.launch().await;
    gateway.until_settled("out", "delivered", 10).await;
    assert_eq!(distinct(&peer), (0..10).map(body).collect::<Vec<_>>());
    gateway.finish().await;
}
