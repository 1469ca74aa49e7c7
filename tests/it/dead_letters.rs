//! What a destination refused is in the hands of a person: list, show, replay, drop.

use serde_json::Value;

use super::gateway::{Gateway, Printed, until};
use super::outages::{post, started, until_dead};
use super::peer::{Answer, Peer};

const OK: &str = r#"{"successCount":1}"#;

/// A peer that refuses what says so.
async fn strict() -> Peer {
    let peer = Peer::start().await;
    peer.answer(|request| match request.text().contains("bad") {
        true => Answer::new(422, r#"{"error":"bad is bad"}"#),
        false => Answer::ok(OK),
    });
    peer
}

fn json(printed: &Printed) -> Value {
    assert_eq!(printed.code, Some(0), "{printed:?}");
    serde_json::from_str(&printed.out).unwrap()
}

/// Post three events that are refused.
async fn refused_thrice(gateway: &Gateway) -> Vec<String> {
    let bad = "{\"n\":\"bad one\"}\n{\"n\":\"bad two\"}\n{\"n\":\"bad three\"}";
    let ids = gateway.post("/webhook", bad).await.ids();
    until_dead(gateway, 3).await;
    ids
}

async fn open(gateway: &Gateway) -> Vec<Value> {
    let answer = json(&gateway.cli(&["dead", "list", "--json", "--sink", "out"]).await);
    answer["letters"].as_array().unwrap().clone()
}

#[tokio::test]
async fn dead_letters_are_listed_shown_replayed_and_dropped() {
    let peer = strict().await;
    let gateway = started(peer.port(), "in_flight = 1").await;
    let ids = refused_thrice(&gateway).await;
    let letters = open(&gateway).await;
    let listed: Vec<&str> = letters.iter().map(|letter| letter["id"].as_str().unwrap()).collect();
    assert_eq!(listed, ids);
    let numbers: Vec<String> = letters.iter().map(|letter| letter["number"].to_string()).collect();
    let shown = json(&gateway.cli(&["dead", "show", &numbers[1]]).await);
    assert_eq!(shown["body"], "{\"n\":\"bad two\"}");
    assert_eq!((&shown["cause"], &shown["reply"]["status"]), (&"refused".into(), &422.into()));
    assert!(shown["reply"].to_string().contains("bad is bad"), "{shown}");
    let text = gateway.cli(&["dead", "list"]).await.out;
    assert!(text.contains(&ids[2]) && text.contains("3 open, 3 shown"), "{text}");

    gateway.until_metric("siemgate_delivery_lag_events", &[("sink", "out")], 0.0).await;
    peer.forget();
    peer.always(Answer::ok(OK));
    json(&gateway.cli(&["dead", "replay", &numbers[0]]).await);
    assert_eq!(peer.wait_for(1).await[0].body, "{\"n\":\"bad one\"}");
    gateway.until_metric("siemgate_dead_letters", &[("sink", "out")], 2.0).await;
    json(&gateway.cli(&["dead", "drop", &numbers[1]]).await);
    let left = open(&gateway).await;
    assert_eq!((left.len(), &left[0]["id"]), (1, &ids[2].as_str().into()));
    for command in ["show", "replay", "drop"] {
        let gone = gateway.cli(&["dead", command, &numbers[1]]).await;
        assert_eq!(gone.code, Some(1), "{gone:?}");
        assert!(gone.err.contains("no open letter"), "{gone:?}");
    }
    // A replay is outside the ledger: the event ended as dead, and that is what is counted.
    assert_eq!(gateway.settled("out", "dead").await, 3);
    let good = gateway.metric("siemgate_log_head_position", &[]).await.unwrap() as u64 - 3;
    gateway.until_settled("out", "delivered", good).await;
    gateway.finish().await;
}

#[tokio::test]
async fn all_letters_of_a_sink_are_replayed_at_once_also_after_a_kill() {
    let peer = strict().await;
    let mut gateway = started(peer.port(), "in_flight = 1").await;
    let ids = refused_thrice(&gateway).await;
    gateway.kill();
    gateway.launch().await;
    // What the killed process had not yet marked as done is refused, and buried, once more.
    let letters = open(&gateway).await;
    for id in &ids {
        assert!(letters.iter().any(|letter| letter["id"] == **id), "{id} is lost: {letters:?}");
    }
    gateway.until_metric("siemgate_delivery_lag_events", &[("sink", "out")], 0.0).await;
    peer.forget();
    peer.always(Answer::ok(OK));
    let other = json(&gateway.cli(&["dead", "replay", "--all", "--sink", "archive"]).await);
    assert_eq!(other["replaying"], 0, "{other}");
    let all = json(&gateway.cli(&["dead", "replay", "--all", "--sink", "out"]).await);
    assert!(all["replaying"].as_u64().unwrap() >= 3, "{all}");
    gateway.until_metric("siemgate_dead_letters", &[("sink", "out")], 0.0).await;
    let came: std::collections::BTreeSet<String> =
        peer.requests().iter().map(|request| request.text()).collect();
    for body in ["{\"n\":\"bad one\"}", "{\"n\":\"bad two\"}", "{\"n\":\"bad three\"}"] {
        assert!(came.contains(body), "{body} in {came:?}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_replay_that_is_refused_again_stays_one_letter() {
    let peer = strict().await;
    let gateway = started(peer.port(), "in_flight = 1").await;
    refused_thrice(&gateway).await;
    let number = open(&gateway).await[0]["number"].to_string();
    json(&gateway.cli(&["dead", "replay", &number]).await);
    let mut good = 0;
    until("the old letter is replaced by a new one", async || {
        // Others must be accepted before a refusal is believed.
        good += 1;
        post(&gateway, good..good + 1).await;
        let open = open(&gateway).await;
        let replaced = open.iter().all(|letter| letter["number"] != number);
        (replaced && open.len() == 3).then_some(())
    })
    .await;
    gateway.finish().await;
}

#[tokio::test]
async fn those_that_are_meant_are_replayed_as_a_program_changes_them() {
    let peer = strict().await;
    let gateway = started(peer.port(), "in_flight = 1").await;
    refused_thrice(&gateway).await;
    let number = |letter: &Value| letter["number"].as_u64().unwrap();
    let letters: Vec<u64> = open(&gateway).await.iter().map(number).collect();
    let all = |more: &[&str]| {
        let arguments: Vec<String> =
            ["dead", "replay", "--all"].iter().chain(more).map(|word| word.to_string()).collect();
        arguments
    };
    let ask = async |more: &[&str]| {
        let arguments = all(more);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        gateway.cli(&words).await
    };
    // The filters; a dry run sends nothing.
    for (filters, count) in [
        (&["--cause", "refused"][..], 3),
        (&["--cause", "too_large"], 0),
        (&["--source", "superna", "--limit", "2"], 2),
        (&["--source", "other"], 0),
        (&["--since", "1h"], 3),
        (&["--until", "1h"], 0),
    ] {
        let dry = json(&ask(&[filters, &["--dry-run"]].concat()).await);
        assert_eq!(dry["would_replay"], count, "{filters:?}: {dry}");
    }
    // A program that does not compile is told, and one that fails leaves the letter as it is.
    let wrong = ask(&["--fix", ".n = nothing("]).await;
    assert!(wrong.code == Some(1) && wrong.err.contains("program is not used"), "{wrong:?}");
    let fails = json(&ask(&["--fix", ". = 1", "--dry-run"]).await);
    assert_eq!(fails["failed"].as_array().map(Vec::len), Some(3), "{fails}");
    let program = r#".n = replace(string!(.n), "bad", "good")"#;
    let dry = json(&ask(&["--fix", program, "--limit", "1", "--dry-run"]).await);
    assert_eq!(dry["letters"][0]["fixed"], r#"{"n":"good one"}"#, "{dry}");
    assert_eq!(open(&gateway).await.len(), 3);

    peer.forget();
    let sent = json(&ask(&["--fix", program, "--limit", "2"]).await);
    assert_eq!(sent["replaying"], 2, "{sent}");
    gateway.until_metric("siemgate_dead_letters", &[("sink", "out")], 1.0).await;
    let mut came: Vec<String> = peer.requests().iter().map(|request| request.text()).collect();
    came.sort();
    assert_eq!(came, [r#"{"n":"good one"}"#, r#"{"n":"good two"}"#]);
    let labels = [("sink", "out"), ("reason", "replayed")];
    gateway.until_metric("siemgate_delivery_additional_total", &labels, 2.0).await;

    // What is refused again says how it was changed, and which letter has the body as it was.
    let last = letters[2].to_string();
    let still = r#".n = "still bad""#;
    json(&gateway.cli(&["dead", "replay", &last, "--fix", still]).await);
    let mut good = 0;
    let letter = until("the new letter", async || {
        good += 1;
        post(&gateway, good..good + 1).await;
        open(&gateway).await.into_iter().find(|letter| letter["fixed"].is_object())
    })
    .await;
    assert_eq!(
        (&letter["fixed"]["of"], &letter["fixed"]["program"]),
        (&letters[2].into(), &still.into())
    );
    let shown = json(&gateway.cli(&["dead", "show", &letter["number"].to_string()]).await);
    assert_eq!(shown["body"], r#"{"n":"still bad"}"#, "{shown}");
    gateway.finish().await;
}
