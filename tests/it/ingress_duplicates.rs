//! The same event twice is one event, and the second sender hears how the first one stands.

use super::gateway::{Gateway, Told, told};
use super::peer::{Answer, Peer};

fn config(peer: &Peer) -> String {
    format!(
        r#"
[sources.superna]
type = "superna"
[sources.other]
type = "json"
[routes.all]
sinks = ["out"]
[sinks.out]
type = "taegis"
url = "{}"
key = {{ env = "KEY" }}
"#,
        peer.url()
    )
}

async fn started(peer: &Peer) -> Gateway {
    peer.always(Answer::ok(r#"{"successCount":1}"#));
    let mut gateway = Gateway::prepared(&config(peer));
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    gateway
}

const BODY: &str = r#"{"id":"a","severity":"CRITICAL","state":"LOCKED_OUT"}"#;

/// The answer repeats the event `first`, and shows that it was delivered.
fn assert_repeats(answer: &Told, first: &str, state: &str) {
    let told = answer.json();
    assert_eq!((&told["accepted"], &told["duplicates"]), (&0.into(), &1.into()), "{told}");
    assert_eq!(told["events"][0]["duplicate_of"], first, "{told}");
    let delivery = &told["events"][0]["deliveries"][0];
    assert_eq!((&delivery["sink"], &delivery["state"]), (&"out".into(), &state.into()), "{told}");
}

#[tokio::test]
async fn a_repeated_body_is_answered_with_the_first_ones_deliveries() {
    let peer = Peer::start().await;
    let gateway = started(&peer).await;
    let first = gateway.post("/webhook/superna?wait=30s", BODY).await.ids().remove(0);
    let again = gateway.post("/webhook/superna", BODY).await;
    assert_repeats(&again, &first, "delivered");
    assert_eq!(again.json()["events"][0]["deliveries"][0]["successCount"], 1);
    // One byte makes another event: a later state of the same incident is none.
    gateway.post("/webhook/superna?wait=30s", format!("{BODY} ")).await.ids();
    assert_eq!(peer.requests().len(), 2);
    let labels = [("source", "superna")];
    assert_eq!(gateway.metric("siemgate_ingress_duplicates_total", &labels).await, Some(1.0));
    assert_eq!(gateway.metric("siemgate_ingress_events_total", &labels).await, Some(2.0));
    gateway.finish().await;
}

#[tokio::test]
async fn duplicates_are_known_after_a_restart_and_after_a_kill() {
    let peer = Peer::start().await;
    let mut gateway = started(&peer).await;
    let first = gateway.post("/webhook/superna?wait=30s", BODY).await.ids().remove(0);
    gateway.stop().await;
    gateway.launch().await;
    assert_repeats(&gateway.post("/webhook/superna", BODY).await, &first, "settled");
    gateway.kill();
    gateway.launch().await;
    let again = gateway.post("/webhook/superna?wait=30s", BODY).await;
    assert_eq!(again.json()["events"][0]["duplicate_of"], first.as_str(), "{again:?}");
    assert_eq!(again.json()["settled"], true, "nobody waits for what happened before: {again:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn of_many_at_once_exactly_one_is_stored() {
    let peer = Peer::start().await;
    let gateway = started(&peer).await;
    for round in 0..5 {
        let body = format!("{{\"severity\":\"CRITICAL\",\"round\":{round}}}");
        let posts = (0..16).map(|_| gateway.post("/webhook/superna?wait=30s", body.clone()));
        let answers = futures_util::future::join_all(posts).await;
        let mut ids: Vec<String> = answers.iter().flat_map(Told::ids).collect();
        ids.dedup();
        assert_eq!(ids.len(), 1, "everybody hears of the same event");
        let stored: u64 =
            answers.iter().map(|answer| answer.json()["accepted"].as_u64().unwrap()).sum();
        assert_eq!(stored, 1);
    }
    assert_eq!(peer.requests().len(), 5);
    gateway.finish().await;
}

#[tokio::test]
async fn the_senders_own_key_counts_more_than_the_body() {
    let peer = Peer::start().await;
    let gateway = started(&peer).await;
    for (source, header) in
        [("superna", "webhook-id"), ("superna", "Idempotency-Key"), ("other", "Idempotency-Key")]
    {
        let post = |key: &str, body: String| {
            let request = gateway.request(&format!("/webhook/{source}?wait=30s"));
            told(request.header(header, key.to_owned()).body(body))
        };
        let key = format!("{source}-{header}");
        let first = post(&key, format!("{{\"of\":\"{key}\"}}")).await.ids().remove(0);
        // A retry may differ in a time stamp and is the same event nevertheless.
        assert_repeats(&post(&key, "{\"of\":\"retry\"}".into()).await, &first, "delivered");
        // And the same body under another name is another event.
        let other = post(&format!("{key}-2"), format!("{{\"of\":\"{key}\"}}")).await;
        assert_eq!(other.json()["accepted"], 1, "{other:?}");
    }
    assert_eq!(peer.requests().len(), 6);
    gateway.finish().await;
}

#[tokio::test]
async fn a_batch_is_parted_into_new_and_known_events() {
    let peer = Peer::start().await;
    let gateway = started(&peer).await;
    let first = gateway.post("/webhook/superna?wait=30s", "{\"n\":1}").await.ids().remove(0);
    let batch = gateway.post("/webhook/superna?wait=30s", "[{\"n\":1},{\"n\":2},{\"n\":2}]").await;
    let told = batch.json();
    assert_eq!((&told["accepted"], &told["duplicates"]), (&1.into(), &2.into()), "{told}");
    assert_eq!(told["events"][0]["duplicate_of"], first, "{told}");
    assert_eq!(told["events"][2]["duplicate_of"], told["events"][1]["id"], "{told}");
    assert_eq!(peer.bodies(), ["{\"n\":1}", "{\"n\":2}"]);
    gateway.finish().await;
}

#[tokio::test]
async fn a_json_source_takes_equal_bodies_as_different_events() {
    let peer = Peer::start().await;
    let gateway = started(&peer).await;
    for _ in 0..3 {
        let answer = gateway.post("/webhook/other?wait=30s", "{\"ping\":1}").await;
        assert_eq!((answer.status, &answer.json()["accepted"]), (200, &1.into()));
    }
    assert_eq!(peer.requests().len(), 3);
    gateway.finish().await;
}
