//! A destination that is down, closed, busy or silent: nothing is lost, and nobody else waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::gateway::{Gateway, until};
use super::peer::{Answer, Peer};

const OK: &str = r#"{"successCount":1}"#;

/// A gateway that gives everything to the sink `out` at `port` and to the file of `archive`.
pub async fn started(port: u16, delivery: &str) -> Gateway {
    let mut gateway = Gateway::prepared(&format!(
        r#"
[sources.superna]
type = "superna"
path = "/webhook"
expect_every = "24h"
[routes.all]
sinks = ["out", "archive"]
[sinks.archive]
type = "file"
path = "{{{{dir}}}}/events.ndjson"
[sinks.out]
type = "taegis"
url = "http://127.0.0.1:{port}/in"
key = {{ env = "KEY" }}
[sinks.out.delivery]
retry = {{ first = "50ms", max = "500ms" }}
{delivery}
"#
    ));
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    gateway
}

/// A body that is like no other, of medium severity: it may not cut a wait short.
pub fn body(number: usize) -> String {
    format!(r#"{{"severity":"WARNING","state":"WARNING","id":"i-{number}","n":{number}}}"#)
}

/// Post the bodies with these numbers, as one request.
pub async fn post(gateway: &Gateway, numbers: std::ops::Range<usize>) {
    let lines: Vec<String> = numbers.clone().map(body).collect();
    let ids = gateway.post("/webhook", lines.join("\n")).await.ids();
    assert_eq!(ids.len(), numbers.len());
}

/// Wait until so many events are dead letters of `out`. A refused event is buried only when another
/// one is accepted after it, so good ones are sent until that has happened.
pub async fn until_dead(gateway: &Gateway, count: u64) {
    let mut number = 1_000_000;
    until("the dead letters are written", async || {
        number += 1;
        post(gateway, number..number + 1).await;
        (gateway.settled("out", "dead").await >= count).then_some(())
    })
    .await;
    assert_eq!(gateway.settled("out", "dead").await, count);
}

/// Everything that came to the peer, without repetitions, in the order of the numbers.
pub fn distinct(peer: &Peer) -> Vec<String> {
    let posted = peer.requests().into_iter().filter(|request| request.method == "POST");
    let mut bodies: Vec<String> = posted.map(|request| request.text()).collect();
    bodies.sort_by_key(|body| (body.len(), body.clone()));
    bodies.dedup();
    bodies
}

#[tokio::test]
async fn a_sink_that_was_down_all_the_time_gets_everything_and_its_neighbour_saw_no_delay() {
    let peer = Peer::start().await;
    let port = peer.port();
    peer.stop().await;
    let mut gateway = started(port, "").await;
    for batch in 0..20 {
        post(&gateway, batch * 10..batch * 10 + 10).await;
        // The neighbour has each of them while the other sink is down.
        gateway.until_settled("archive", "delivered", (batch as u64 + 1) * 10).await;
    }
    let slowest = [("sink", "archive"), ("le", "5")];
    let quick = gateway.metric("siemgate_event_seconds_bucket", &slowest).await;
    assert_eq!(quick, Some(200.0), "every event was in the archive within 5 s");
    assert_eq!(gateway.lines("events.ndjson"), (0..200).map(body).collect::<Vec<_>>());
    gateway.until_state("out", "down").await;
    assert_eq!(
        gateway.metric("siemgate_delivery_lag_events", &[("sink", "out")]).await,
        Some(200.0)
    );
    // Down for the whole run: it comes back only after the gateway has been stopped and started.
    gateway.stop().await;
    let peer = Peer::start_at(port).await;
    peer.always(Answer::ok(OK));
    gateway.launch().await;
    gateway.until_settled("out", "delivered", 200).await;
    assert_eq!(distinct(&peer), (0..200).map(body).collect::<Vec<_>>());
    assert_eq!(peer.requests().len(), 200, "each came once");
    assert_eq!(gateway.lines("events.ndjson").len(), 200, "and the archive got nothing again");
    gateway.finish().await;
}

#[tokio::test]
async fn a_key_that_is_refused_for_a_while_parks_the_sink_and_loses_nothing() {
    let peer = Peer::start().await;
    peer.always(Answer::new(401, r#"{"error":"bad key"}"#));
    let gateway = started(peer.port(), "in_flight = 4").await;
    post(&gateway, 0..30).await;
    gateway.until_state("out", "parked").await;
    gateway.until_settled("archive", "delivered", 30).await;
    assert_eq!(gateway.settled("out", "dead").await, 0);
    let setup = [("sink", "out"), ("cause", "setup")];
    let tries = gateway.metric("siemgate_delivery_attempts_total", &setup).await.unwrap();
    assert!((1.0..10.0).contains(&tries), "parked means quiet: {tries} attempts");
    let told = gateway.journal_text();
    assert!(
        told.contains("parked") && told.contains("sinks.out.key"),
        "loudly, and with what to do"
    );
    peer.always(Answer::ok(OK));
    gateway.until_settled("out", "delivered", 30).await;
    gateway.until_state("out", "up").await;
    assert_eq!(gateway.settled("out", "dead").await, 0);
    assert_eq!(distinct(&peer).len(), 30);
    gateway.finish().await;
}

#[tokio::test]
async fn a_critical_event_does_not_wait_for_the_next_try() {
    let peer = Peer::start().await;
    peer.always(Answer::new(401, ""));
    let gateway = started(peer.port(), "").await;
    post(&gateway, 0..1).await;
    gateway.until_state("out", "parked").await;
    peer.always(Answer::ok(OK));
    let critical = r#"{"severity":"CRITICAL","state":"LOCKED_OUT"}"#;
    let posted = Instant::now();
    gateway.post("/webhook?wait=30s", critical).await.ids();
    // A parked sink is tried again after 5 s; a critical event is not kept for so long.
    assert!(posted.elapsed() < Duration::from_secs(4), "{:?}", posted.elapsed());
    gateway.finish().await;
}

#[tokio::test]
async fn a_busy_sink_is_left_alone_for_as_long_as_it_asks() {
    let peer = Peer::start().await;
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let noted = times.clone();
    peer.answer(move |_| {
        let mut times = noted.lock().unwrap();
        times.push(Instant::now());
        match times.len() {
            1 => Answer::new(429, "slow down").header("Retry-After", "2"),
            _ => Answer::ok(OK),
        }
    });
    let gateway = started(peer.port(), "").await;
    post(&gateway, 0..3).await;
    gateway.until_state("out", "busy").await;
    gateway.until_settled("out", "delivered", 3).await;
    let times = times.lock().unwrap().clone();
    assert_eq!(times.len(), 4);
    let pause = times[1] - times[0];
    assert!(pause >= Duration::from_millis(1_950), "came back after {pause:?}");
    assert_eq!(peer.bodies()[0], peer.bodies()[1], "with the same bytes");
    gateway.finish().await;
}

#[tokio::test]
async fn a_silent_sink_is_given_up_after_the_timeout_and_tried_again() {
    let peer = Peer::start().await;
    peer.always(Answer::hang());
    let gateway = started(peer.port(), "timeout = \"300ms\"").await;
    post(&gateway, 0..3).await;
    peer.wait_for(2).await;
    gateway.until_state("out", "down").await;
    assert!(gateway.journal_text().contains("no answer within 0.3 s"));
    peer.always(Answer::ok(OK));
    gateway.until_settled("out", "delivered", 3).await;
    assert_eq!(distinct(&peer), (0..3).map(body).collect::<Vec<_>>());
    gateway.finish().await;
}

/// Every event but each fourth fails at first, each in its own way, and none more than twice: an
/// event that keeps failing while others are taken is a matter of `poison.rs`.
#[tokio::test]
async fn a_flapping_sink_gets_everything_whatever_it_answers_in_between() {
    let peer = Peer::start().await;
    // By body: in which way it fails, and how often it has come before.
    let seen: Mutex<HashMap<Vec<u8>, (usize, usize)>> = Mutex::default();
    peer.answer(move |request| {
        let mut seen = seen.lock().unwrap();
        let way = seen.len() % 4;
        let known = seen.entry(request.body.to_vec());
        match *known.and_modify(|(_, before)| *before += 1).or_insert((way, 0)) {
            (0, 0) => Answer::reset(),
            (1, 0) => Answer::new(503, "later"),
            (1, 1) => Answer::new(502, "<html>proxy</html>"),
            (2, 0) => Answer::ok(OK).broken(),
            _ => Answer::ok(OK),
        }
    });
    let gateway = started(peer.port(), "in_flight = { min = 2, max = 4 }").await;
    post(&gateway, 0..60).await;
    gateway.until_settled("out", "delivered", 60).await;
    assert_eq!(distinct(&peer), (0..60).map(body).collect::<Vec<_>>());
    assert_eq!(gateway.settled("out", "dead").await, 0);
    gateway.finish().await;
}

#[tokio::test]
async fn a_rate_is_kept() {
    let peer = Peer::start().await;
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let noted = times.clone();
    peer.answer(move |_| {
        noted.lock().unwrap().push(Instant::now());
        Answer::ok(OK)
    });
    let gateway = started(peer.port(), "rate = \"20/s\"\nin_flight = 4").await;
    post(&gateway, 0..41).await;
    gateway.until_settled("out", "delivered", 41).await;
    let times = times.lock().unwrap().clone();
    let took = times[40] - times[0];
    assert!(took >= Duration::from_millis(1_900), "40 more events at 20/s took {took:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn events_that_become_too_old_expire_and_are_counted() {
    let peer = Peer::start().await;
    let port = peer.port();
    peer.stop().await;
    let gateway = started(port, "max_age = \"2s\"").await;
    post(&gateway, 0..5).await;
    gateway.until_settled("out", "expired", 5).await;
    assert_eq!(gateway.metric("siemgate_delivery_lag_events", &[("sink", "out")]).await, Some(0.0));
    gateway.until_settled("archive", "delivered", 5).await;
    let peer = Peer::start_at(port).await;
    peer.always(Answer::ok(OK));
    until("a young event is delivered", async || {
        let critical = format!(r#"{{"severity":"CRITICAL","at":"{:?}"}}"#, Instant::now());
        gateway.post("/webhook?wait=1s", critical).await.ids();
        (gateway.settled("out", "delivered").await > 0).then_some(())
    })
    .await;
    assert!(peer.bodies().iter().all(|body| body.starts_with(br#"{"severity":"CRITICAL""#)));
    gateway.finish().await;
}
