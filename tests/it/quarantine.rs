//! What an allowed sender gets refused for is kept, listed, and can be replayed once mended.

use serde_json::Value;

use super::gateway::Gateway;

const CONFIG: &str = r#"
[sources.any]
type = "json"
[routes.all]
sinks = ["archive"]
[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
"#;

async fn listed(gateway: &Gateway) -> Vec<Value> {
    let printed = gateway.cli(&["quarantine", "list", "--json"]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let answer: Value = serde_json::from_str(&printed.out).unwrap();
    answer["letters"].as_array().unwrap().clone()
}

#[tokio::test]
async fn refused_bodies_are_listed_and_shown_as_they_came() {
    let gateway = Gateway::prepared(CONFIG);
    gateway.configure("20-limit.toml", "[server]\nbody_limit = \"1KiB\"\nevents_limit = 2\n");
    let mut gateway = gateway;
    gateway.launch().await;
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1_500));
    let refused = [
        ("{\"a\": tru}".to_owned(), 400, "malformed"),
        (large, 413, "too_large"),
        ("[{},{},{}]".to_owned(), 413, "too_many"),
    ];
    for (body, status, _) in &refused {
        assert_eq!(gateway.post("/webhook", body.clone()).await.status, *status);
    }
    let letters = listed(&gateway).await;
    assert_eq!(letters.len(), refused.len());
    for (letter, (body, _, reason)) in letters.iter().zip(&refused) {
        assert_eq!((&letter["source"], &letter["reason"]), (&"any".into(), &(*reason).into()));
        assert_eq!(letter["peer"], "127.0.0.1");
        let number = letter["number"].to_string();
        let shown = gateway.cli(&["quarantine", "show", &number]).await;
        let shown: Value = serde_json::from_str(&shown.out).unwrap();
        assert_eq!(shown["body"], body.as_str());
    }
    let text = gateway.cli(&["quarantine", "list"]).await.out;
    assert!(text.contains("column 10") && text.contains("3 open, 3 shown"), "{text}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_body_that_was_too_large_goes_through_once_the_limit_is_raised() {
    let gateway = Gateway::prepared(CONFIG);
    gateway.configure("20-limit.toml", "[server]\nbody_limit = \"1KiB\"\n");
    let mut gateway = gateway;
    gateway.launch().await;
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(1_500));
    assert_eq!(gateway.post("/webhook", body.clone()).await.status, 413);
    let number = listed(&gateway).await[0]["number"].to_string();
    let early = gateway.cli(&["quarantine", "replay", &number]).await;
    assert_eq!(early.code, Some(1), "{early:?}");
    assert!(early.err.contains("body_limit"), "{early:?}");
    gateway.stop().await;
    gateway.configure("20-limit.toml", "[server]\nbody_limit = \"4KiB\"\n");
    gateway.launch().await;
    let replayed = gateway.cli(&["quarantine", "replay", &number]).await;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    gateway.until_settled("archive", "delivered", 1).await;
    assert_eq!(gateway.lines("events.ndjson"), [body]);
    assert!(listed(&gateway).await.is_empty(), "replayed, so closed");
    let again = gateway.cli(&["quarantine", "replay", &number]).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_letter_survives_a_restart_and_can_be_dropped() {
    let mut gateway = Gateway::start(CONFIG).await;
    assert_eq!(gateway.post("/webhook", "{\"a\":").await.status, 400);
    gateway.kill();
    gateway.launch().await;
    let number = listed(&gateway).await[0]["number"].to_string();
    let malformed = gateway.cli(&["quarantine", "replay", &number]).await;
    assert_eq!(malformed.code, Some(1), "still malformed: {malformed:?}");
    assert_eq!(gateway.cli(&["quarantine", "drop", &number]).await.code, Some(0));
    assert!(listed(&gateway).await.is_empty());
    assert_eq!(gateway.cli(&["quarantine", "drop", &number]).await.code, Some(1));
    gateway.finish().await;
}

#[tokio::test]
async fn of_a_monstrous_body_only_the_beginning_is_kept() {
    let gateway = Gateway::prepared(CONFIG);
    gateway.configure("20-limit.toml", "[server]\nbody_limit = \"128KiB\"\n");
    let mut gateway = gateway;
    gateway.launch().await;
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(8 << 20));
    assert_eq!(gateway.post("/webhook", body).await.status, 413);
    let letter = &listed(&gateway).await[0];
    assert_eq!(letter["truncated"], true, "{letter}");
    assert!(letter["bytes"].as_u64().unwrap() <= 256 << 10, "{letter}");
    let replay = gateway.cli(&["quarantine", "replay", &letter["number"].to_string()]).await;
    assert!(replay.err.contains("only its beginning"), "{replay:?}");
    gateway.finish().await;
}
