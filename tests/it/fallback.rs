//! `fallback`: while a sink takes nothing, another gets its events too, and the first loses none.

use super::gateway::{Gateway, until};
use super::outages::{body, distinct, post};
use super::peer::{Answer, Peer};

const OK: &str = r#"{"successCount":1}"#;

/// Everything goes to `first`; `second` has no route of its own.
fn prepared(first: u16, second: u16, keys: &str) -> Gateway {
    let sink = |name: &str, port: u16, keys: &str| {
        format!(
            r#"
[sinks.{name}]
type = "taegis"
url = "http://127.0.0.1:{port}/in"
key = {{ env = "KEY" }}
[sinks.{name}.delivery]
retry = {{ first = "50ms", max = "200ms" }}
{keys}
"#
        )
    };
    let mut gateway = Gateway::prepared(&format!(
        r#"
[sources.superna]
type = "superna"
path = "/webhook"
[heartbeat]
sinks = ["first"]
every = "2s"
[routes.all]
sinks = ["first"]
{}{}"#,
        sink("first", first, keys),
        sink("second", second, "")
    ));
    gateway.set_env("KEY", "k");
    gateway
}

fn posts(peer: &Peer) -> usize {
    peer.requests().iter().filter(|request| request.method == "POST").count()
}

async fn stood_in(gateway: &Gateway) -> Option<f64> {
    let labels = [("sink", "second"), ("reason", "fallback")];
    gateway.metric("siemgate_delivery_additional_total", &labels).await
}

#[tokio::test]
async fn while_a_sink_is_parked_another_gets_its_events_and_it_loses_none() {
    let (first, second) = (Peer::start().await, Peer::start().await);
    first.always(Answer::new(401, r#"{"error":"bad key"}"#));
    second.always(Answer::ok(OK));
    let mut gateway = prepared(first.port(), second.port(), r#"fallback = "second""#);
    gateway.launch().await;
    post(&gateway, 0..10).await;
    gateway.until_state("first", "parked").await;
    until("the other has them", async || (posts(&second) >= 10).then_some(())).await;
    assert_eq!(distinct(&second), (0..10).map(body).collect::<Vec<_>>());
    until("they are counted", async || (stood_in(&gateway).await == Some(10.0)).then_some(()))
        .await;
    assert_eq!(gateway.settled("second", "delivered").await, 0, "that is its own ledger's");
    // Neither a restart nor what comes after it brings anything twice.
    gateway.stop().await;
    gateway.launch().await;
    gateway.until_state("first", "parked").await;
    post(&gateway, 10..13).await;
    until("the other has these, too", async || (posts(&second) >= 13).then_some(())).await;
    assert_eq!(distinct(&second), (0..13).map(body).collect::<Vec<_>>());
    assert_eq!(posts(&second), 13, "each came once, and no heartbeat came");
    // The first gets all of them when it is mended, and then alone what is new.
    first.forget();
    first.always(Answer::ok(OK));
    until("the first has them", async || {
        let beats = |text: &String| text.contains("heartbeat");
        let events = distinct(&first).iter().filter(|text| !beats(text)).count();
        (events == 13).then_some(())
    })
    .await;
    until("nobody stands in", async || {
        let text = gateway.journal_text();
        text.contains("no longer stands in").then_some(())
    })
    .await;
    post(&gateway, 13..14).await;
    until("the first has the new one", async || distinct(&first).contains(&body(13)).then_some(()))
        .await;
    assert_eq!(posts(&second), 13);
    gateway.finish().await;
}

#[tokio::test]
async fn a_sink_that_is_down_is_waited_for() {
    let (first, second) = (Peer::start().await, Peer::start().await);
    first.always(Answer::new(503, "later"));
    second.always(Answer::ok(OK));
    let keys = "fallback = \"second\"\nfallback_after = \"3s\"";
    let mut gateway = prepared(first.port(), second.port(), keys);
    gateway.launch().await;
    let since = std::time::Instant::now();
    post(&gateway, 0..3).await;
    until("the other has them", async || (posts(&second) >= 3).then_some(())).await;
    let took = since.elapsed();
    assert!(took.as_secs() >= 3, "it stood in after {took:?}");
    first.always(Answer::ok(OK));
    gateway.finish().await;
}

#[tokio::test]
async fn circles_and_unknown_names_are_refused_at_load() {
    let cases = [
        (r#"fallback = "first""#, "goes in a circle: first -> first"),
        (r#"fallback = "secnd""#, "second"),
        (r#"fallback_after = "5m""#, "there is no fallback"),
    ];
    for (keys, told) in cases {
        let gateway = prepared(1, 2, keys);
        let checked = gateway.cli(&["check"]).await;
        assert_eq!(checked.code, Some(78), "{checked:?}");
        assert!(checked.err.contains(told), "{keys}: {checked:?}");
    }
    let gateway = prepared(1, 2, r#"fallback = "second""#);
    gateway.configure("20-circle.toml", "[sinks.second.delivery]\nfallback = \"first\"\n");
    let checked = gateway.cli(&["check"]).await;
    assert!(checked.err.contains("circle: second -> first -> second"), "{checked:?}");
    gateway.configure("20-circle.toml", "");
    let checked = gateway.cli(&["check"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(!checked.out.contains("gets no events"), "{checked:?}");
}
