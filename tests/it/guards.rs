//! What keeps people from being buried, through the front door.

use serde_json::{Value, json};

use super::gateway::{Gateway, told, until};
use super::peer::{Answer, Peer, Request};

/// A chat and an archive, both given everything.
const CONFIG: &str = r#"
[sources.superna]
type = "superna"
path = "/webhook"
[routes.all]
sinks = ["chat", "archive"]
[sinks.chat]
type = "slack"
url = "{{peer}}/services/T/B/x"
[sinks.chat.delivery]
rate = "1000/s"
retry = { first = "10ms", max = "50ms" }
[sinks.archive]
type = "file"
path = "{{dir}}/archive.ndjson"
"#;

fn alarm(incident: &str, state: &str) -> Value {
    json!({ "id": incident, "severity": "CRITICAL", "state": state, "userName": "CORP\\u", "nes": ["prod"] })
}

/// A gateway with `more` in its configuration, and the chat's peer.
async fn gateway(more: &str) -> (Gateway, Peer) {
    let peer = Peer::start().await;
    peer.always(Answer::ok("ok"));
    let gateway = Gateway::start(&[&CONFIG.replace("{{peer}}", &peer.url()), more].concat()).await;
    (gateway, peer)
}

async fn post(gateway: &Gateway, event: &Value) -> Value {
    let posted = gateway.post("/webhook", event.to_string()).await;
    assert_eq!(posted.status, 200, "{posted:?}");
    posted.json()
}

/// The headlines that the chat got.
fn headlines(peer: &Peer) -> Vec<String> {
    let text = |request: &Request| request.json()["text"].as_str().unwrap().to_owned();
    peer.requests().iter().map(text).collect()
}

async fn balanced(gateway: &Gateway) {
    for sink in ["chat", "archive"] {
        gateway.until_metric("siemgate_delivery_lag_events", &[("sink", sink)], 0.0).await;
        gateway.until_metric("siemgate_delivery_unaccounted_events", &[("sink", sink)], 0.0).await;
    }
}

#[tokio::test]
async fn a_storm_is_one_message_with_counts_and_the_archive_gets_all() {
    let guard = "[sinks.chat.guard]\nnew_per_hour = 2\ndigest_every = \"300ms\"\n";
    let (gateway, peer) = gateway(guard).await;
    for incident in 0..5 {
        post(&gateway, &alarm(&format!("i{incident}"), "LOCKED_OUT")).await;
    }
    // An update of a known incident is told by itself.
    post(&gateway, &alarm("i0", "ACCESS_RESTORED")).await;
    let all = until("the storm is told", async || {
        Some(headlines(&peer))
            .filter(|texts| texts.iter().any(|text| text.contains("3 more events")))
    })
    .await;
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(
        all.iter().any(|text| text.starts_with("Storm: ") && text.ends_with("3 critical")),
        "{all:?}"
    );
    assert!(all.iter().any(|text| text.starts_with("Ended: ")), "{all:?}");
    gateway.until_settled("archive", "delivered", 6).await;
    gateway.until_settled("chat", "filtered", 3).await;
    gateway.until_settled("chat", "delivered", 3).await;
    let storm = [("sink", "chat"), ("reason", "storm")];
    gateway.until_metric("siemgate_delivery_held_total", &storm, 3.0).await;
    balanced(&gateway).await;
    gateway.finish().await;
}

#[tokio::test]
async fn what_is_held_back_survives_a_crash_and_is_told_before_the_end() {
    let (mut gateway, peer) = gateway("[sinks.chat.guard]\nnew_per_hour = 1\n").await;
    for incident in 0..4 {
        post(&gateway, &alarm(&format!("i{incident}"), "LOCKED_OUT")).await;
    }
    let storm = [("sink", "chat"), ("reason", "storm")];
    gateway.until_metric("siemgate_delivery_held_total", &storm, 3.0).await;
    gateway.until_settled("chat", "delivered", 1).await;
    gateway.until_metric("siemgate_delivery_lag_events", &[("sink", "chat")], 3.0).await;
    gateway.until_metric("siemgate_delivery_unaccounted_events", &[("sink", "chat")], 0.0).await;
    // The cursor is stored within 200 ms; what comes after it would only be told twice.
    until("the cursor is stored", async || {
        let stored = std::fs::read_to_string(gateway.path("data/log/cursors")).ok()?;
        stored.contains("\"delivered\":1").then_some(())
    })
    .await;
    gateway.kill();
    gateway.launch().await;
    gateway.until_metric("siemgate_delivery_held_total", &storm, 3.0).await;
    gateway.stop().await;
    let all = headlines(&peer);
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[1].starts_with("Storm: 3 more events"), "{all:?}");
    gateway.launch().await;
    balanced(&gateway).await;
    assert_eq!(headlines(&peer).len(), 2);
    gateway.finish().await;
}

#[tokio::test]
async fn after_an_outage_old_news_is_one_message() {
    let guard = "[sinks.chat.guard]\nstale_after = \"400ms\"\ndigest_every = \"0s\"\n";
    let (gateway, peer) = gateway(guard).await;
    peer.always(Answer::new(500, "{}"));
    let events =
        json!([alarm("a", "LOCKED_OUT"), alarm("b", "LOCKED_OUT"), alarm("c", "LOCKED_OUT")]);
    post(&gateway, &events).await;
    let stale = [("sink", "chat"), ("reason", "stale")];
    gateway.until_metric("siemgate_delivery_held_total", &stale, 3.0).await;
    gateway.until_settled("archive", "delivered", 3).await;
    peer.forget();
    peer.always(Answer::ok("ok"));
    gateway.until_settled("chat", "filtered", 3).await;
    let delivered = headlines(&peer).pop().unwrap();
    assert!(delivered.starts_with("Late: 3 events older than 400ms"), "{delivered}");
    post(&gateway, &alarm("d", "LOCKED_OUT")).await;
    gateway.until_settled("chat", "delivered", 1).await;
    balanced(&gateway).await;
    gateway.finish().await;
}

#[tokio::test]
async fn drills_reach_people_only_where_that_is_asked_for() {
    let (gateway, peer) = gateway("").await;
    let sent = gateway.cli(&["send", "--wait", "20s"]).await;
    assert!(sent.out.contains("filtered") && sent.out.contains("simulated = true"), "{sent:?}");
    gateway.until_settled("archive", "delivered", 1).await;
    assert_eq!(peer.requests().len(), 0);
    balanced(&gateway).await;
    gateway.configure("20-drills.toml", "[sinks.chat.guard]\nsimulated = true\n");
    let reloaded = gateway.cli(&["reload"]).await;
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    let sent = gateway.cli(&["send", "--wait", "20s"]).await;
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert!(headlines(&peer)[0].starts_with("Simulated: "), "{:?}", headlines(&peer));
    gateway.finish().await;
}

const PAGER: &str = r#"
[sources.superna]
type = "superna"
path = "/webhook"
[routes.crit]
min_severity = "critical"
sinks = ["pager"]
[unmatched]
sinks = ["archive"]
[sinks.pager]
type = "pagerduty"
url = "{{peer}}"
routing_key = { env = "KEY" }
[sinks.archive]
type = "file"
path = "{{dir}}/archive.ndjson"
"#;

#[tokio::test]
async fn updates_follow_what_opened_the_incident_also_after_a_restart() {
    let peer = Peer::start().await;
    peer.always(Answer::new(202, r#"{"status":"success"}"#));
    let mut gateway = Gateway::prepared(&PAGER.replace("{{peer}}", &peer.url()));
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    for incident in ["a", "b"] {
        post(&gateway, &alarm(incident, "LOCKED_OUT")).await;
    }
    gateway.until_settled("pager", "delivered", 2).await;
    // An end is information, so no route gives it to the pager.
    post(&gateway, &alarm("a", "ACCESS_RESTORED")).await;
    post(&gateway, &alarm("unknown", "ACCESS_RESTORED")).await;
    gateway.until_settled("pager", "delivered", 3).await;
    gateway.until_settled("pager", "filtered", 1).await;
    gateway.stop().await;
    gateway.launch().await;
    post(&gateway, &alarm("b", "ACCESS_RESTORED")).await;
    gateway.until_settled("pager", "delivered", 1).await;
    let action = |request: &Request| {
        let body = request.json();
        format!(
            "{} {}",
            body["event_action"].as_str().unwrap(),
            body["dedup_key"].as_str().unwrap()
        )
    };
    let actions: Vec<String> = peer.requests().iter().map(action).collect();
    let mut opened = actions[..2].to_vec();
    opened.sort();
    assert_eq!(opened, ["trigger a", "trigger b"]);
    assert_eq!(actions[2..], ["resolve a", "resolve b"]);
    gateway.until_settled("archive", "delivered", 1).await;
    gateway.finish().await;
}

#[tokio::test]
async fn without_follow_an_update_goes_where_the_routes_say() {
    let peer = Peer::start().await;
    peer.always(Answer::new(202, r#"{"status":"success"}"#));
    let config = PAGER.replace("{{peer}}", &peer.url()) + "[sinks.pager.guard]\nfollow = false\n";
    let mut gateway = Gateway::prepared(&config);
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    post(&gateway, &alarm("a", "LOCKED_OUT")).await;
    post(&gateway, &alarm("a", "ACCESS_RESTORED")).await;
    gateway.until_settled("pager", "filtered", 1).await;
    gateway.until_settled("pager", "delivered", 1).await;
    gateway.finish().await;
}

#[tokio::test]
async fn an_event_that_comes_round_again_is_refused_at_the_door() {
    let (gateway, peer) = gateway("").await;
    post(&gateway, &alarm("a", "LOCKED_OUT")).await;
    let [request] = &peer.wait_for(1).await[..] else { panic!("not one request") };
    let hop = request.header("siemgate-hop").unwrap().to_owned();
    let post = |hop: &str| {
        let again = gateway.request("/webhook").header("siemgate-hop", hop);
        told(again.body(alarm("b", "LOCKED_OUT").to_string()))
    };
    let refused = post(&hop).await;
    assert_eq!(refused.status, 508, "{refused:?}");
    assert!(refused.text.contains("leads back to it"), "{refused:?}");
    gateway.until_metric("siemgate_log_head_position", &[], 1.0).await;
    let passed = post("another").await;
    assert_eq!(passed.status, 200, "{passed:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_replay_reaches_people_only_on_purpose() {
    let (gateway, peer) = gateway("").await;
    peer.answer(|request| match request.text().contains("odd") {
        true => Answer::new(400, "invalid_blocks"),
        false => Answer::ok("ok"),
    });
    post(&gateway, &alarm("a", "ODD ONE")).await;
    post(&gateway, &alarm("b", "LOCKED_OUT")).await;
    gateway.until_settled("chat", "dead", 1).await;
    peer.forget();
    peer.always(Answer::ok("ok"));
    for arguments in [&["dead", "replay", "0"][..], &["dead", "replay", "--all"]] {
        let withheld = gateway.cli(arguments).await;
        let said = format!("{withheld:?}");
        assert!(said.contains("--notify") && said.contains("people"), "{said}");
    }
    assert_eq!(peer.requests().len(), 0);
    let replayed = gateway.cli(&["dead", "replay", "0", "--notify"]).await;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    peer.wait_for(1).await;
    gateway.finish().await;
}
