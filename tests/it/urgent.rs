//! Urgent first: a critical event does not wait behind a backlog, and nothing else changes.

use std::time::{Duration, Instant};

use serde_json::Value;
use siemgate::core::Timestamp;
use siemgate::core::event::{Draft, EventId};
use siemgate::core::log::{FilesLog, Log, Options};

use super::gateway::{Gateway, until};
use super::peer::{Answer, Peer};

const OK: &str = r#"{"successCount":1}"#;
/// The promise.
const SOON: Duration = Duration::from_secs(2);
/// The same right after a start, when the incidents of the backlog must be read first: less than a
/// second where the program is optimised and the machine is its own.
const AFTER_A_START: Duration = Duration::from_secs(5);
const QUEUED: usize = 100_000;

fn config(port: u16) -> String {
    format!(
        r#"
[sources.superna]
type = "superna"
path = "/webhook"
[routes.all]
sinks = ["slow"]
[sinks.slow]
type = "taegis"
start = "oldest"
url = "http://127.0.0.1:{port}/in"
key = {{ env = "KEY" }}
[sinks.slow.delivery]
in_flight = 1
retry = {{ first = "50ms", max = "500ms" }}
"#
    )
}

fn prepared(port: u16) -> Gateway {
    let mut gateway = Gateway::prepared(&config(port));
    gateway.set_env("KEY", "k");
    gateway
}

/// Answers 20 requests a second, one at a time: the backlog would take more than an hour.
fn slow(peer: &Peer) {
    peer.always(Answer::ok(OK).after(Duration::from_millis(50)));
}

fn warning(number: usize) -> String {
    format!(
        r#"{{"id":"w-{number}","severity":"WARNING","state":"WARNING","userName":"u{number}"}}"#
    )
}

fn critical(id: &str, n: usize) -> String {
    format!(r#"{{"id":"{id}","severity":"CRITICAL","state":"CRITICAL","n":{n}}}"#)
}

/// Put these into the log of a gateway that does not run, as its ingress would.
async fn fill(gateway: &Gateway, bodies: impl Iterator<Item = String>) {
    let (log, _) = FilesLog::open_dir(&gateway.path("data/log"), Options::default()).unwrap();
    let drafts: Vec<Draft> = bodies
        .map(|body| Draft::new(EventId::fresh(), Timestamp::now(), "superna".into(), body.into()))
        .collect();
    let mut drafts = drafts.into_iter();
    loop {
        let group: Vec<Draft> = drafts.by_ref().take(5_000).collect();
        if group.is_empty() {
            break;
        }
        log.append(group).await.unwrap();
    }
    log.close().await.unwrap();
}

/// Posts of the events called `id`, as they came, by their `n`.
fn came(peer: &Peer, id: &str) -> Vec<u64> {
    let posts = peer.requests().into_iter().filter(|request| request.method == "POST");
    let bodies: Vec<Value> = posts.map(|request| request.json()).collect();
    let of = bodies.iter().filter(|body| body["id"] == id);
    of.map(|body| body["n"].as_u64().unwrap()).collect()
}

/// Post a critical event and say how long it took to arrive.
async fn arrives(gateway: &Gateway, peer: &Peer, id: &str) -> Duration {
    let since = Instant::now();
    gateway.post("/webhook", critical(id, 0)).await.ids();
    until(&format!("{id} arrives"), async || (!came(peer, id).is_empty()).then_some(())).await;
    since.elapsed()
}

async fn lag(gateway: &Gateway) -> f64 {
    gateway.metric("siemgate_delivery_lag_events", &[("sink", "slow")]).await.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_critical_event_passes_a_hundred_thousand_queued_warnings() {
    let peer = Peer::start().await;
    let port = peer.port();
    peer.stop().await;
    let mut gateway = prepared(port);
    gateway.launch().await;
    // An outage, in which a hundred thousand warnings come.
    for first in (0..QUEUED).step_by(1_000) {
        let lines: Vec<String> = (first..first + 1_000).map(warning).collect();
        assert_eq!(gateway.post("/webhook", lines.join("\n")).await.ids().len(), 1_000);
    }
    assert_eq!(lag(&gateway).await, QUEUED as f64);
    let peer = Peer::start_at(port).await;
    slow(&peer);
    until("the backlog flows", async || (peer.requests().len() > 10).then_some(())).await;
    let took = arrives(&gateway, &peer, "fresh").await;
    let queued = lag(&gateway).await;
    println!("a fresh critical event passed {queued} queued events in {took:?}");
    assert!(took < SOON, "it took {took:?}");
    assert!(queued > 90_000.0, "there was no backlog to pass: {queued}");

    // The same after a kill: the backlog is on disk, and nobody has looked at it yet.
    until("the cursor is stored", async || {
        let settled = gateway.settled("slow", "delivered").await;
        (settled > 20).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    gateway.kill();
    gateway.launch().await;
    let took = arrives(&gateway, &peer, "fresher").await;
    println!("after a restart another one did in {took:?}");
    assert!(took < AFTER_A_START, "after a restart it took {took:?}");
    assert_eq!(came(&peer, "fresh"), [0], "what went first was not sent again");
    let unaccounted = [("sink", "slow")];
    let unaccounted = gateway.metric("siemgate_delivery_unaccounted_events", &unaccounted).await;
    assert_eq!(unaccounted, Some(0.0));
    let urgent = gateway.metric("siemgate_delivery_urgent_total", &[("sink", "slow")]).await;
    assert_eq!(urgent, Some(1.0));
    gateway.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_keeps_its_order_and_every_event_ends_once() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK).after(Duration::from_millis(2)));
    let mut gateway = prepared(peer.port());
    // Each incident begins with a warning, becomes critical, and calms down again.
    let update = |incident: usize, n: usize, severity: &str| {
        format!(r#"{{"id":"i-{incident}","severity":"{severity}","state":"{severity}","n":{n}}}"#)
    };
    let bodies = (0..4_000).map(|number| match number {
        3_000..3_020 => update(number - 3_000, 0, "WARNING"),
        3_500..3_520 => update(number - 3_500, 1, "CRITICAL"),
        3_600..3_620 => update(number - 3_600, 2, "WARNING"),
        3_900..3_910 => update(number - 3_900, 3, "CRITICAL"),
        _ => warning(number),
    });
    fill(&gateway, bodies).await;
    gateway.launch().await;
    gateway.until_settled("slow", "delivered", 4_000).await;
    let ids: Vec<String> = peer
        .requests()
        .iter()
        .filter(|request| request.method == "POST")
        .map(|request| request.json()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 4_000, "each came once");
    for incident in 0..20 {
        let expected: &[u64] = if incident < 10 { &[0, 1, 2, 3] } else { &[0, 1, 2] };
        assert_eq!(came(&peer, &format!("i-{incident}")), expected, "incident {incident}");
    }
    let last = ids.iter().position(|id| id == "i-19").unwrap();
    assert!(last < 2_500, "the incidents went first: the last began as number {last}");
    gateway.finish().await;
}
