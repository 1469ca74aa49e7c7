//! Reload: people edit `config.d` on a running gateway, rightly and wrongly, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::gateway::{Gateway, until};
use super::peer::{Answer, Peer};

const OK: &str = r#"{"successCount":1}"#;

const BASE: &str = r#"
[sources.superna]
type = "superna"
path = "/webhook"
[sinks.archive]
type = "file"
path = "{{dir}}/archive.ndjson"
start = "oldest"
[routes.all]
sinks = ["archive"]
"#;

/// A drop-in for one more sink and its route.
fn drop_in(name: &str, peer: &Peer, more: &str) -> String {
    format!(
        "[sinks.{name}]\ntype = \"taegis\"\nurl = \"{}/{name}\"\nkey = {{ file = \"{{{{dir}}}}/key\" }}\n{more}\n[routes.to-{name}]\nsinks = [\"{name}\"]\n",
        peer.url()
    )
}

async fn started() -> (Gateway, Peer) {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let mut gateway = Gateway::prepared(BASE);
    std::fs::write(gateway.path("key"), "first-key\n").unwrap();
    gateway.launch().await;
    (gateway, peer)
}

fn write(gateway: &Gateway, file: &str, text: &str) {
    gateway.configure(file, &text.replace("{{dir}}", &gateway.path("").display().to_string()));
}

/// A reload asked for over the API: the answer's status and body.
async fn reload(gateway: &Gateway) -> (u16, serde_json::Value) {
    let told = gateway.steer("/-/reload").await;
    (told.status, told.json())
}

fn event(number: usize) -> String {
    format!(r#"{{"severity":"CRITICAL","state":"LOCKED_OUT","id":"e-{number}","n":{number}}}"#)
}

#[tokio::test]
async fn dropping_a_file_adds_a_sink_and_its_route_within_two_seconds() {
    let (gateway, peer) = started().await;
    gateway.post("/webhook", event(1)).await;
    let dropped = Instant::now();
    write(&gateway, "50-sophos.toml", &drop_in("sophos", &peer, ""));
    until("the sink is there", async || {
        gateway.metric("siemgate_delivery_lag_events", &[("sink", "sophos")]).await
    })
    .await;
    // Generous only because the machine may be busy; the gateway itself waits 0.3 s.
    assert!(dropped.elapsed() < Duration::from_secs(4), "{:?}", dropped.elapsed());
    let told = gateway.post("/webhook?wait=10s", event(2)).await;
    assert!(told.text.contains("\"successCount\":1"), "{}", told.text);
    let bodies = peer.bodies();
    assert_eq!(bodies, [event(2)], "a new sink starts now");
    assert_eq!(gateway.metric("siemgate_config_last_reload_successful", &[]).await, Some(1.0));
    gateway.finish().await;
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_says_so() {
    let (gateway, peer) = started().await;
    write(&gateway, "50-sophos.toml", &drop_in("sophos", &peer, "adress = \"x\""));
    gateway.until_metric("siemgate_config_last_reload_successful", &[], 0.0).await;
    let (status, answer) = reload(&gateway).await;
    assert_eq!(status, 422);
    let problem = answer["problems"][0].as_str().unwrap();
    assert!(problem.contains("50-sophos.toml:5") && problem.contains("adress"), "{problem}");
    assert!(gateway.journal_text().contains("configuration not reloaded"));
    assert_eq!(gateway.metric("siemgate_delivery_lag_events", &[("sink", "sophos")]).await, None);
    assert_eq!(gateway.post("/webhook", event(1)).await.status, 200);
    write(&gateway, "50-sophos.toml", &drop_in("sophos", &peer, ""));
    gateway.until_metric("siemgate_config_last_reload_successful", &[], 1.0).await;
    gateway.finish().await;
}

#[tokio::test]
async fn untouched_sinks_keep_running_and_changed_ones_go_on_from_their_mark() {
    let (gateway, peer) = started().await;
    write(&gateway, "50-a.toml", &drop_in("a", &peer, ""));
    assert_eq!(reload(&gateway).await.1["added"], serde_json::json!(["a"]));
    // The destination is gone while it is changed: what waits belongs to the sink, not the worker.
    peer.always(Answer::new(503, "later"));
    for number in 0..20 {
        gateway.post("/webhook", event(number)).await;
    }
    write(&gateway, "50-a.toml", &drop_in("a", &peer, "delivery = { timeout = \"9s\" }"));
    let (_, change) = reload(&gateway).await;
    assert_eq!(change["changed"], serde_json::json!(["a"]));
    assert_eq!(change["kept"], 1);
    peer.always(Answer::ok(OK));
    gateway.until_settled("a", "delivered", 20).await;
    // The same section again: nothing is touched.
    let (_, change) = reload(&gateway).await;
    assert_eq!((&change["changed"], &change["kept"]), (&serde_json::json!([]), &2.into()));
    // A secret's file is part of the section.
    std::fs::write(gateway.path("key"), "second-key\n").unwrap();
    assert_eq!(reload(&gateway).await.1["changed"], serde_json::json!(["a"]));
    peer.forget();
    gateway.post("/webhook?wait=10s", event(99)).await;
    assert_eq!(peer.requests()[0].header("authorization"), Some("Bearer second-key"));
    gateway.finish().await;
}

#[tokio::test]
async fn a_removed_sink_keeps_its_cursor_until_it_is_forgotten() {
    let (gateway, peer) = started().await;
    let file = drop_in("a", &peer, "");
    write(&gateway, "50-a.toml", &file);
    reload(&gateway).await;
    gateway.post("/webhook?wait=10s", event(1)).await;
    write(&gateway, "50-a.toml", "");
    assert_eq!(reload(&gateway).await.1["removed"], serde_json::json!(["a"]));
    write(&gateway, "50-a.toml", &file);
    // It was away while this came, and no route gave it away.
    assert_eq!(reload(&gateway).await.1["added"], serde_json::json!(["a"]));
    gateway.post("/webhook?wait=10s", event(2)).await;
    assert_eq!(peer.bodies(), [event(1), event(2)], "nothing twice");
    write(&gateway, "50-a.toml", "");
    reload(&gateway).await;
    let forget = "/api/v1/sinks/a/forget";
    let told = gateway.steer(forget).await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(gateway.steer(forget).await.status, 404);
    gateway.finish().await;
}

#[tokio::test]
async fn sighup_reloads_and_what_needs_a_restart_is_named() {
    let (gateway, _peer) = started().await;
    write(&gateway, "60-log.toml", "[log]\nkeep = \"5d\"\n");
    let process = rustix::process::Pid::from_raw(gateway.process() as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::HUP).unwrap();
    until("it is reloaded", async || gateway.journal_text().contains("\"reloaded\"").then_some(()))
        .await;
    assert_eq!(reload(&gateway).await.1["needs_restart"], serde_json::json!(["log"]));
    gateway.finish().await;
}

/// What the metrics and the journal say of a sink that is stuck.
async fn story(gateway: &Gateway, sink: &str) -> String {
    let label = format!("sink=\"{sink}\"");
    let of_sink = |text: String| -> Vec<String> {
        text.lines()
            .filter(|l| l.contains(&label) && !l.contains("_bucket"))
            .map(str::to_owned)
            .collect()
    };
    let metrics = of_sink(gateway.metrics().await);
    let journal = gateway.journal_text();
    let told: Vec<&str> = journal.lines().filter(|line| !line.contains("\"delivered\"")).collect();
    format!("{metrics:#?}\n{:#?}", &told[told.len().saturating_sub(40)..])
}

/// Random edits under load: every event reaches, once or more, exactly the sinks that the
/// configuration gave it at some moment around its arrival; no request fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_edits_under_load_lose_nothing() {
    let edits: usize =
        std::env::var("SIEMGATE_EDITS").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
    let (gateway, peer) = started().await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..3)
        .map(|client| {
            let (url, stop, sent) = (gateway.webhook.clone(), stop.clone(), sent.clone());
            tokio::spawn(async move {
                let (http, mut acknowledged) = (reqwest::Client::new(), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    let at = Instant::now();
                    let answer =
                        http.post(format!("{url}/webhook")).body(event(number)).send().await;
                    assert_eq!(answer.unwrap().status(), 200, "client {client}, event {number}");
                    acknowledged.push((number, at, Instant::now()));
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                acknowledged
            })
        })
        .collect();
    // Which sinks were there when, as far as the reloads' answers prove it.
    let mut present: BTreeMap<String, Vec<(Instant, Option<Instant>)>> = BTreeMap::new();
    let mut files: BTreeSet<String> = BTreeSet::new();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..edits {
        let name = format!("s{}", random.u8(0..6));
        let file = format!("50-{name}.toml");
        let before = Instant::now();
        match random.u8(0..6) {
            0 => {
                write(&gateway, "99-broken.toml", "[sinks.broken]\ntype = \"nothing\"\n");
                assert_eq!(reload(&gateway).await.0, 422);
                write(&gateway, "99-broken.toml", "");
            }
            1 => {
                // As `install` and editors do: a key file is never half written.
                std::fs::write(gateway.path("key.new"), format!("key-{}\n", random.u32(..)))
                    .unwrap();
                std::fs::rename(gateway.path("key.new"), gateway.path("key")).unwrap();
            }
            2 if files.contains(&name) => {
                write(&gateway, &file, "");
                files.remove(&name);
                // It may be gone from here on.
                if let Some((_, end)) = present.get_mut(&name).and_then(|times| times.last_mut()) {
                    *end = Some(before);
                }
            }
            _ => {
                let timeout = format!("delivery = {{ timeout = \"{}s\" }}", random.u8(5..20));
                write(&gateway, &file, &drop_in(&name, &peer, &timeout));
            }
        }
        let (status, answer) = reload(&gateway).await;
        assert_eq!(status, 200, "{answer}");
        // A reload by the file watch may have come first: look at what is there, not at who did it.
        if std::fs::read_to_string(gateway.path("config.d").join(&file))
            .is_ok_and(|t| !t.is_empty())
            && files.insert(name.clone())
        {
            present.entry(name).or_default().push((Instant::now(), None));
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for client in load {
        acknowledged.extend(client.await.unwrap());
    }
    assert!(acknowledged.len() > edits, "there was no load");
    for sink in files.iter().map(String::as_str).chain(["archive"]) {
        let empty = until("nothing is left", async || {
            let lag = gateway.metric("siemgate_delivery_lag_events", &[("sink", sink)]).await;
            (lag == Some(0.0)).then_some(())
        });
        let empty = tokio::time::timeout(Duration::from_secs(50), empty).await;
        assert!(empty.is_ok(), "{sink} is stuck: {}", story(&gateway, sink).await);
        let ledger =
            gateway.metric("siemgate_delivery_unaccounted_events", &[("sink", sink)]).await;
        assert_eq!(ledger, Some(0.0), "{sink}");
    }
    let archived: BTreeSet<String> = gateway.lines("archive.ndjson").into_iter().collect();
    for (number, ..) in &acknowledged {
        assert!(archived.contains(&event(*number)), "event {number} is not in the archive");
    }
    let arrived: BTreeSet<(String, String)> = peer
        .requests()
        .iter()
        .filter(|request| request.method == "POST")
        .map(|request| (request.path.trim_start_matches('/').to_owned(), request.text()))
        .collect();
    let mut expected = 0;
    for (sink, times) in &present {
        for (start, end) in times {
            for (number, sent, answered) in &acknowledged {
                if sent > start && end.is_none_or(|end| *answered < end) {
                    expected += 1;
                    let wanted = (sink.clone(), event(*number));
                    assert!(arrived.contains(&wanted), "event {number} did not reach {sink}");
                }
            }
        }
    }
    assert!(expected > 0, "no sink was ever there under load");
    gateway.finish().await;
}
