//! What is known of every attempt afterwards: `siemgate events`, through the front door.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::gateway::{Gateway, until};
use super::outages::{body, post, started, until_dead};
use super::peer::{Answer, Peer};

const OK: &str = r#"{"successCount":1}"#;
const SECRET: &str = "sekrit-0123456789";

/// The story of an event, as JSON.
async fn story(gateway: &Gateway, id: &str) -> Value {
    let shown = gateway.cli(&["events", "show", id, "--json"]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    serde_json::from_str(&shown.out).unwrap()
}

/// The story at one sink, once it has so many steps.
async fn at_sink(gateway: &Gateway, id: &str, sink: &str, steps: usize) -> Value {
    until(&format!("{sink} has {steps} steps"), async || {
        let story = story(gateway, id).await;
        let at = story["sinks"].as_array().unwrap().iter().find(|at| at["sink"] == sink)?.clone();
        (at["steps"].as_array().unwrap().len() >= steps).then_some(at)
    })
    .await
}

/// The files of the receipts' log.
fn files(gateway: &Gateway, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(gateway.path("data/receipts")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_string_lossy().ends_with(end)).collect()
}

async fn one(gateway: &Gateway, body: &str) -> String {
    gateway.post("/webhook", body.to_owned()).await.ids().remove(0)
}

#[tokio::test]
async fn a_timeline_tells_of_failure_and_success_also_after_a_crash_and_of_no_secret() {
    let peer = Peer::start().await;
    let failing = std::sync::atomic::AtomicUsize::new(0);
    peer.answer(move |request| {
        let echo = request.header("authorization").unwrap_or_default().to_owned();
        match failing.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Answer::new(503, format!("in maintenance, {echo}")),
            _ => Answer::ok(format!(r#"{{"successCount":1,"echo":"{echo}"}}"#)),
        }
    });
    let mut gateway = started(peer.port(), "").await;
    gateway.stop().await;
    gateway.set_env("KEY", SECRET);
    gateway.launch().await;
    let id = one(&gateway, &body(1)).await;
    let before = at_sink(&gateway, &id, "out", 2).await;
    at_sink(&gateway, &id, "archive", 1).await;
    gateway.kill();
    gateway.launch().await;
    let after = at_sink(&gateway, &id, "out", 2).await;
    assert_eq!(after["steps"], before["steps"], "a crash changes nothing that is on disk");
    let steps = after["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{after}");
    assert_eq!((&after["state"], &after["route"]), (&"delivered".into(), &"all".into()));
    assert_eq!((&steps[0]["attempt"], &steps[0]["cause"]), (&1.into(), &"down".into()));
    assert_eq!(steps[0]["reply"]["status"], 503);
    assert!(steps[0]["reply"]["excerpt"].as_str().unwrap().contains("in maintenance"));
    assert!(steps[0]["ms"].as_f64().unwrap() > 0.0 && steps[0]["end"].is_null());
    assert_eq!((&steps[1]["attempt"], &steps[1]["end"]), (&2.into(), &"delivered".into()));
    assert_eq!(
        (&steps[1]["reply"]["status"], &steps[1]["reply"]["accepted"]),
        (&200.into(), &1.into())
    );
    assert!(steps[0]["at"].as_str() < steps[1]["at"].as_str());
    let shown = gateway.cli(&["events", "show", &id]).await.out;
    for said in [
        "severity medium",
        "route all: takes it",
        "sink archive by route all: delivered",
        "attempt 1: down, 503",
        "attempt 2: delivered, 200, successCount 1",
        "in maintenance, Bearer ***",
    ] {
        assert!(shown.contains(said), "{said} is not in {shown}");
    }
    gateway.stop().await;
    let bytes: Vec<u8> =
        files(&gateway, "").into_iter().flat_map(|f| fs::read(f).unwrap()).collect();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("in maintenance, Bearer ***"), "the receipts are in these files");
    assert!(!text.contains(SECRET) && !shown.contains(SECRET));
    gateway.finish().await;
}

#[tokio::test]
async fn a_timeline_tells_of_a_dead_letter_and_of_its_replay() {
    let peer = Peer::start().await;
    peer.answer(|request| match request.text().contains("poison") {
        true => Answer::new(422, "field n is bad"),
        false => Answer::ok(OK),
    });
    let gateway = started(peer.port(), "").await;
    let id = one(&gateway, r#"{"severity":"WARNING","state":"WARNING","n":"poison"}"#).await;
    until_dead(&gateway, 1).await;
    let at = at_sink(&gateway, &id, "out", 2).await;
    assert_eq!(
        (&at["state"], &at["letter"], &at["letter_open"]),
        (&"dead".into(), &0.into(), &true.into())
    );
    assert_eq!(at["steps"][0]["cause"], "refused", "{at}");
    assert_eq!(at["steps"][0]["reply"]["excerpt"], "field n is bad");
    let shown = gateway.cli(&["events", "show", &id]).await.out;
    assert!(shown.contains("dead letter 0 is open: `siemgate dead show 0`"), "{shown}");
    peer.always(Answer::ok(OK));
    assert_eq!(gateway.cli(&["dead", "replay", "0"]).await.code, Some(0));
    let at = at_sink(&gateway, &id, "out", 3).await;
    assert_eq!((&at["state"], &at["letter_open"]), (&"delivered".into(), &false.into()), "{at}");
    let shown = gateway.cli(&["events", "show", &id]).await.out;
    assert!(shown.contains("(dead letter 0 again): delivered"), "{shown}");
    let report = gateway.cli(&["report", "--format", "json"]).await.out;
    let report: Value = serde_json::from_str(&report).unwrap();
    let out = &report["report"]["sinks"]["out"];
    assert_eq!((&out["dead"], &out["replayed"]), (&1.into(), &1.into()), "{report:#}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_change_of_the_configuration_is_noted_beside_what_was_done_under_the_one_before() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let gateway = started(peer.port(), "").await;
    let id = one(&gateway, &body(1)).await;
    let at = at_sink(&gateway, &id, "out", 1).await;
    let config = at["steps"][0]["config"].as_str().unwrap().to_owned();
    assert_eq!(story(&gateway, &id).await["config"], *config);
    assert!(!gateway.cli(&["events", "show", &id]).await.out.contains("another was in force"));
    gateway.configure(
        "20-more.toml",
        "[routes.none]\nmin_severity = \"critical\"\nsinks = [\"archive\"]\n",
    );
    assert_eq!(gateway.cli(&["reload"]).await.code, Some(0));
    assert_ne!(story(&gateway, &id).await["config"], *config);
    let shown = gateway.cli(&["events", "show", &id]).await.out;
    assert!(shown.contains("another was in force"), "{shown}");
    assert!(shown.contains(&format!("(configuration {config})")), "{shown}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_list_has_what_was_asked_for_and_says_how_to_go_on() {
    let peer = Peer::start().await;
    peer.answer(|request| match request.text().contains("CRITICAL") {
        true => Answer::new(503, "no"),
        false => Answer::ok(OK),
    });
    let config = format!(
        r#"
[sources.superna]
type = "superna"
path = "/webhook"
[sources.other]
type = "json"
path = "/other"
[sources.other.paths]
severity = "level"
[routes.all]
sinks = ["archive"]
[routes.some]
sources = ["superna"]
sinks = ["out"]
[sinks.archive]
type = "file"
path = "{{{{dir}}}}/events.ndjson"
[sinks.out]
type = "taegis"
url = "http://127.0.0.1:{}/in"
key = {{ env = "KEY" }}
"#,
        peer.port()
    );
    let config = config.replace("[sources.other.paths]\nseverity = \"level\"\n", "");
    let mut gateway = Gateway::prepared(&config);
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(one(&gateway, &body(number)).await);
    }
    gateway.until_settled("out", "delivered", 5).await;
    let critical = r#"{"severity":"CRITICAL","state":"LOCKED_OUT","n":1}"#;
    let stuck = one(&gateway, critical).await;
    let other = gateway.post("/other", r#"{"level":"low"}"#).await.ids().remove(0);
    gateway.until_settled("archive", "delivered", 7).await;
    let listed = async |arguments: &[&str]| {
        let mut all = vec!["events", "list", "--json"];
        all.extend(arguments);
        let printed = gateway.cli(&all).await;
        assert_eq!(printed.code, Some(0), "{printed:?}");
        let told: Value = serde_json::from_str(&printed.out).unwrap();
        let events = told["events"].as_array().unwrap();
        let ids: Vec<String> =
            events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
        (ids, told["before"].clone())
    };
    let newest: Vec<String> =
        [&other, &stuck].into_iter().chain(ids.iter().rev()).cloned().collect();
    assert_eq!(listed(&[]).await, (newest.clone(), Value::Null));
    let (first, before) = listed(&["--limit", "3"]).await;
    assert_eq!(first, newest[..3]);
    let (rest, end) = listed(&["--before", &before.to_string()]).await;
    assert_eq!((&rest[..], end), (&newest[3..], Value::Null), "nothing twice, nothing left out");
    assert_eq!(listed(&["--source", "other"]).await.0, std::slice::from_ref(&other));
    assert_eq!(listed(&["--severity", "critical"]).await.0, std::slice::from_ref(&stuck));
    assert_eq!(listed(&["--sink", "out"]).await.0, newest[1..]);
    assert_eq!(listed(&["--sink", "out", "--end", "delivered"]).await.0, newest[2..]);
    assert_eq!(
        listed(&["--sink", "out", "--end", "filtered"]).await.0,
        [] as [String; 0],
        "it waits behind the stuck one"
    );
    assert_eq!(listed(&["--end", "pending"]).await.0, std::slice::from_ref(&stuck));
    assert_eq!(listed(&["--since", "1h"]).await.0, newest);
    assert_eq!(listed(&["--until", "1h"]).await.0, [] as [String; 0]);
    let text = gateway.cli(&["events", "list", "--severity", "critical"]).await.out;
    assert!(text.contains("LOCKED_OUT".to_lowercase().as_str()), "{text}");
    assert!(text.contains("archive delivered, out pending"), "{text}");
    peer.always(Answer::ok(OK));
    gateway.until_settled("out", "delivered", 6).await;
    let of_out = ["--sink", "out", "--end", "filtered"];
    until("the other one is filtered", async || {
        (listed(&of_out).await.0 == [other.clone()]).then_some(())
    })
    .await;
    assert_eq!(gateway.cli(&["events", "list", "--end", "lost"]).await.code, Some(2));
    assert_eq!(gateway.cli(&["events", "list", "--since", "soon"]).await.code, Some(2));
    let told = gateway.get("/api/v1/events").await;
    assert_eq!(told.status, 403, "not without the socket or the token");
    gateway.finish().await;
}

#[tokio::test]
async fn a_tail_follows_what_arrives() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let gateway = started(peer.port(), "").await;
    let old = one(&gateway, &body(1)).await;
    let following = gateway.cli(&["events", "tail", "--count", "2", "--json"]);
    let posting = async {
        let mut number = 10;
        // When it begins to follow nobody tells: events are posted until it has seen enough.
        loop {
            number += 1;
            one(&gateway, &body(number)).await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let printed = tokio::select! {
        printed = following => printed,
        () = posting => unreachable!(),
    };
    let seen: Vec<Value> =
        printed.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((printed.code, seen.len()), (Some(0), 2), "{printed:?}");
    assert!(seen.iter().all(|event| event["id"] != *old && event["sinks"]["out"].is_string()));
    gateway.finish().await;
}

#[tokio::test]
async fn receipts_have_their_own_limit_and_deliveries_do_not_notice() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let more = "batch = { events = 1 }\n[receipts]\nmax_bytes = \"64KiB\"";
    let gateway = started(peer.port(), more).await;
    let first = one(&gateway, &body(0)).await;
    for round in 1..5 {
        post(&gateway, round * 100..round * 100 + 100).await;
    }
    gateway.until_settled("out", "delivered", 401).await;
    let last = one(&gateway, &body(1_000)).await;
    at_sink(&gateway, &last, "out", 1).await;
    let bytes: u64 = files(&gateway, ".seg").iter().map(|f| fs::metadata(f).unwrap().len()).sum();
    assert!((1..=64 << 10).contains(&bytes), "{bytes} bytes");
    let at = story(&gateway, &first).await;
    let out = at["sinks"].as_array().unwrap().iter().find(|at| at["sink"] == "out").unwrap();
    assert_eq!((&out["state"], out["steps"].as_array().unwrap().len()), (&"delivered".into(), 0));
    assert_eq!(gateway.metric("siemgate_receipts_dropped_total", &[]).await, Some(0.0));
    gateway.finish().await;
}

#[tokio::test]
async fn receipts_that_cannot_be_kept_keep_no_gateway_from_delivering() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let mut gateway = started(peer.port(), "").await;
    gateway.stop().await;
    fs::write(gateway.path("blocked"), "a file where a folder should be").unwrap();
    gateway.configure("20-receipts.toml", "[receipts]\ndir = \"{{dir}}/blocked/receipts\"\n");
    gateway.launch().await;
    let id = one(&gateway, &body(1)).await;
    gateway.until_settled("out", "delivered", 1).await;
    let told = gateway.journal().into_iter().find(|line| line["level"] == "ERROR").unwrap();
    assert!(told["message"].as_str().unwrap().contains("no receipts are kept"), "{told}");
    let shown = gateway.cli(&["events", "show", &id]).await.out;
    assert!(shown.contains("no receipts are kept") && shown.contains("out: delivered"), "{shown}");
    gateway.finish().await;
}

#[tokio::test]
async fn an_index_that_is_missing_or_damaged_is_made_anew() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let mut gateway = started(peer.port(), "").await;
    let id = one(&gateway, &body(1)).await;
    at_sink(&gateway, &id, "out", 1).await;
    gateway.stop().await;
    let sealed = files(&gateway, ".seg.index");
    assert_eq!(sealed.len(), 1, "one sealed segment, one index");
    let verified = gateway.cli(&["log", "verify"]).await;
    assert!(verified.code == Some(0) && !verified.out.contains("not ours"), "{verified:?}");
    let written = fs::read(&sealed[0]).unwrap();
    for damage in [None, Some(&b"{}"[..]), Some(&written[..written.len() - 3])] {
        match damage {
            None => fs::remove_file(&sealed[0]).unwrap(),
            Some(bytes) => fs::write(&sealed[0], bytes).unwrap(),
        }
        gateway.launch().await;
        assert_eq!(fs::read(&sealed[0]).unwrap(), written);
        let at = at_sink(&gateway, &id, "out", 1).await;
        assert_eq!(at["steps"][0]["end"], "delivered");
        gateway.stop().await;
    }
    gateway.finish().await;
}
