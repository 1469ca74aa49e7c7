//! `[heartbeat]`: a sign of life in the log, for a SIEM to miss.

use serde_json::Value;

use super::gateway::{Gateway, until};

const CONFIG: &str = r#"
[sources.superna]
type = "superna"
path = "/webhook"
[routes.all]
sinks = "archive"
[unmatched]
sinks = "archive"
[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
[sinks.pulse]
type = "file"
path = "{{dir}}/pulse.ndjson"
[heartbeat]
sinks = "pulse"
every = "2s"
"#;

/// The heartbeats that have arrived.
pub fn beats(gateway: &Gateway, file: &str) -> Vec<Value> {
    let read = |line: &String| serde_json::from_str::<Value>(line).ok();
    let notices = gateway.lines(file);
    notices.iter().filter_map(read).filter(|notice| notice["type"] == "heartbeat").collect()
}

/// Wait until `count` more have arrived: some seconds of the gateway's own time.
pub async fn until_beats(gateway: &Gateway, file: &str, count: usize) {
    let before = beats(gateway, file).len();
    until("heartbeats arrive", async || {
        (beats(gateway, file).len() >= before + count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_heartbeat_says_how_the_gateway_stands_and_stops_with_it() {
    let mut gateway = Gateway::start(CONFIG).await;
    gateway.post("/webhook?wait=30s", r#"{"severity":"CRITICAL"}"#).await.ids();
    until_beats(&gateway, "pulse.ndjson", 3).await;
    let all = beats(&gateway, "pulse.ndjson");
    let beat = all.last().unwrap();
    for (pointer, expected) in [
        ("/product", Value::from("siemgate")),
        ("/form", 1.into()),
        ("/version", env!("CARGO_PKG_VERSION").into()),
        ("/severity", "info".into()),
        ("/state", "running".into()),
        ("/every_seconds", 2.into()),
        ("/unaccounted", 0.into()),
        ("/log/undelivered_percent", 0.into()),
        ("/sinks/archive/state", "up".into()),
        ("/sinks/archive/lag", 0.into()),
        ("/open", serde_json::json!({})),
    ] {
        assert_eq!(beat.pointer(pointer), Some(&expected), "{pointer} of {beat}");
    }
    assert_ne!(beat["sinks"]["archive"]["last_success"], Value::Null, "{beat}");
    let hash = gateway.journal().into_iter().find(|line| line["message"] == "ready").unwrap();
    assert_eq!(beat["config"], hash["config"]);
    assert!(all.iter().all(|other| other["started"] == beat["started"]));
    let times: Vec<jiff::Timestamp> =
        all.iter().map(|beat| beat["time"].as_str().unwrap().parse().unwrap()).collect();
    let gaps = times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_millis());
    assert!(gaps.clone().all(|ms| ms >= 1_900), "{:?}", gaps.collect::<Vec<_>>());
    // Routes do not see it, and the catch-all neither.
    assert_eq!(gateway.lines("events.ndjson"), [r#"{"severity":"CRITICAL"}"#]);
    let stored = [("source", "siemgate")];
    let counted = gateway.metric("siemgate_ingress_events_total", &stored).await.unwrap();
    assert!(counted >= 3.0, "{counted}");
    gateway.stop().await;
    let last = beats(&gateway, "pulse.ndjson").len();
    // A start has one of its own, at once.
    gateway.launch().await;
    until_beats(&gateway, "pulse.ndjson", 1).await;
    let after = beats(&gateway, "pulse.ndjson")[last..].to_vec();
    assert!(after[0]["started"] != beat["started"], "none between stop and start: {after:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn heartbeats_begin_and_end_with_a_reload() {
    let gateway = Gateway::start(CONFIG).await;
    until_beats(&gateway, "pulse.ndjson", 1).await;
    let without = CONFIG.split("[heartbeat]").next().unwrap();
    gateway.configure("10-test.toml", without);
    let reloaded = gateway.cli(&["reload"]).await;
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    let last = beats(&gateway, "pulse.ndjson");
    // An alarm takes three seconds to come and go: a heartbeat would have been due.
    gateway.configure("20-alarms.toml", "[alarms]\nsinks = \"pulse\"\nevery = \"1s\"\n");
    gateway.cli(&["reload"]).await;
    for turn in ["open", "cleared"] {
        if turn == "open" {
            assert_eq!(gateway.post("/webhook", "{").await.status, 400);
        }
        until(turn, async || {
            let lines = gateway.lines("pulse.ndjson").join("\n");
            lines.contains(&format!(r#""state":"{turn}""#)).then_some(())
        })
        .await;
    }
    let ended = beats(&gateway, "pulse.ndjson");
    assert!(ended.len() <= last.len() + 1, "at most one was under way");
    gateway.configure("10-test.toml", CONFIG);
    until_beats(&gateway, "pulse.ndjson", 1).await;
    gateway.finish().await;
}
