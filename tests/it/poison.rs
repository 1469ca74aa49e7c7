//! One odd event must not stop a sink, and one wrong setting must not bury a backlog.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::gateway::Gateway;
use super::outages::{body, post, started, until_dead};
use super::peer::{Answer, Peer, Request};

const OK: &str = r#"{"successCount":1}"#;
const POISON: &str = r#""n":500}"#;

fn is_poison(request: &Request) -> bool {
    request.text().ends_with(POISON)
}

/// The open dead letters, as the command lists them.
async fn dead(gateway: &Gateway) -> Vec<Value> {
    let printed = gateway.cli(&["dead", "list", "--json"]).await;
    let answer: Value = serde_json::from_str(&printed.out).unwrap();
    answer["letters"].as_array().unwrap().clone()
}

/// Notes when the peer took an event, to see for how long it got none.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<Instant>>>);

impl Taken {
    fn answer(&self) -> Answer {
        self.0.lock().unwrap().push(Instant::now());
        Answer::ok(OK)
    }

    fn longest_pause(&self) -> Duration {
        let times = self.0.lock().unwrap();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// A thousand events with one that always gets `reply`: 999 arrive, one is a dead letter.
async fn one_among_a_thousand(reply: Answer) -> (Gateway, Vec<Value>) {
    let peer = Peer::start().await;
    let taken = Taken::default();
    let noted = taken.clone();
    peer.answer(move |request| if is_poison(request) { reply.clone() } else { noted.answer() });
    let gateway = started(peer.port(), "").await;
    for batch in 0..10 {
        post(&gateway, batch * 100..batch * 100 + 100).await;
    }
    gateway.until_settled("out", "delivered", 999).await;
    let pause = taken.longest_pause();
    assert!(pause < Duration::from_secs(15), "the sink was stopped for {pause:?}");
    // Life goes on: what comes later is the proof that the destination is well.
    until_dead(&gateway, 1).await;
    let delivered: std::collections::BTreeSet<String> =
        peer.requests().iter().filter(|request| !is_poison(request)).map(Request::text).collect();
    assert!((0..1_000).filter(|n| *n != 500).all(|n| delivered.contains(&body(n))));
    let letters = dead(&gateway).await;
    (gateway, letters)
}

#[tokio::test]
async fn an_event_that_is_refused_among_a_thousand_is_one_dead_letter_with_the_reply() {
    let reply = Answer::new(400, r#"{"error":"field n must not be 500"}"#);
    let (gateway, letters) = one_among_a_thousand(reply).await;
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((&letter["sink"], &letter["cause"]), (&"out".into(), &"refused".into()));
    assert_eq!(letter["reply"]["status"], 400, "{letter}");
    assert!(letter["reply"].to_string().contains("must not be 500"), "{letter}");
    assert_eq!(gateway.metric("siemgate_dead_letters", &[("sink", "out")]).await, Some(1.0));
    gateway.finish().await;
}

#[tokio::test]
async fn an_event_that_breaks_the_destination_does_not_stop_the_others() {
    let (gateway, letters) = one_among_a_thousand(Answer::new(500, "stack trace")).await;
    assert_eq!((&letters[0]["cause"], letters.len()), (&"down".into(), 1), "{letters:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn an_event_that_a_filter_forbids_does_not_park_the_others() {
    let (gateway, letters) = one_among_a_thousand(Answer::new(403, "blocked by policy")).await;
    assert_eq!((&letters[0]["cause"], letters.len()), (&"setup".into(), 1), "{letters:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn an_event_that_is_too_large_is_a_dead_letter_and_a_batch_is_cut() {
    let peer = Peer::start().await;
    peer.answer(|request| match request.body.len() {
        // Ten events of 100 bytes fit; the large one never does.
        0..=1_100 => {
            let count = request.body.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()).count();
            Answer::ok(format!("{{\"successCount\":{count}}}"))
        }
        _ => Answer::new(413, "too large"),
    });
    let gateway = started(peer.port(), "batch = { wait = \"300ms\" }").await;
    let mut gateway = gateway;
    gateway.stop().await;
    gateway.configure("20-batch.toml", "[sinks.out]\nbatch_events = 100\n");
    gateway.launch().await;
    let pad = "x".repeat(60);
    let small: Vec<String> = (0..40).map(|n| format!("{{\"pad\":\"{pad}\",\"n\":{n}}}")).collect();
    let large = format!("{{\"pad\":\"{}\",\"n\":\"large\"}}", "x".repeat(3_000));
    gateway
        .post(
            "/webhook",
            [small[..20].join("\n"), large.clone(), small[20..].join("\n")].join("\n"),
        )
        .await
        .ids();
    gateway.until_settled("out", "delivered", 40).await;
    until_dead(&gateway, 1).await;
    let letters = dead(&gateway).await;
    assert_eq!(
        (&letters[0]["cause"], &letters[0]["bytes"]),
        (&"too_large".into(), &large.len().into()),
        "{letters:?}"
    );
    let mut taken: Vec<String> = Vec::new();
    for request in peer.requests().iter().filter(|request| request.body.len() <= 1_100) {
        let text = request.text();
        taken.extend(text.lines().filter(|line| line.contains("pad")).map(str::to_owned));
    }
    taken.sort();
    let mut expected = small.clone();
    expected.sort();
    assert_eq!(taken, expected, "each small one once, and whole");
    gateway.finish().await;
}

#[tokio::test]
async fn when_everything_is_refused_nothing_is_buried_and_everything_arrives_later() {
    let peer = Peer::start().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    peer.answer(move |request| {
        counted.fetch_add(usize::from(request.method == "POST"), Ordering::Relaxed);
        Answer::new(400, "unknown tenant")
    });
    let gateway = started(peer.port(), "").await;
    post(&gateway, 0..100).await;
    gateway.until_state("out", "parked").await;
    let tried = tries.load(Ordering::Relaxed);
    assert!((10..=14).contains(&tried), "parked after about ten: {tried}");
    assert!(gateway.journal_text().contains("looks like a wrong setting"));
    assert_eq!(gateway.settled("out", "dead").await, 0);
    assert_eq!(
        gateway.metric("siemgate_delivery_lag_events", &[("sink", "out")]).await,
        Some(100.0)
    );
    peer.always(Answer::ok(OK));
    gateway.until_settled("out", "delivered", 100).await;
    gateway.until_state("out", "up").await;
    assert_eq!(gateway.settled("out", "dead").await, 0);
    assert!(dead(&gateway).await.is_empty());
    gateway.finish().await;
}

#[tokio::test]
async fn a_count_below_what_was_sent_is_no_delivery() {
    let peer = Peer::start().await;
    peer.answer(|request| {
        let taken = u8::from(!is_poison(request));
        Answer::ok(format!("{{\"successCount\":{taken}}}"))
    });
    let gateway = started(peer.port(), "").await;
    post(&gateway, 499..501).await;
    until_dead(&gateway, 1).await;
    assert!(dead(&gateway).await[0]["note"].as_str().unwrap().contains("accepted 0 of 1"));
    gateway.finish().await;
}
