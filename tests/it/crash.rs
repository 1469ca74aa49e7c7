//! Killed twenty times under load: nothing acknowledged is missing at either sink.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::gateway::{Gateway, until};
use super::peer::{Answer, Peer};

const KILLS: usize = 20;
const SENDERS: usize = 6;

fn config(peer: &Peer) -> String {
    format!(
        r#"
[log]
segment_bytes = "1MiB"
[sources.superna]
type = "superna"
path = "/webhook"
[routes.all]
sinks = ["out", "archive"]
[sinks.archive]
type = "file"
path = "{{{{dir}}}}/events.ndjson"
rotate_bytes = "1GiB"
[sinks.out]
type = "taegis"
url = "{}"
key = {{ env = "KEY" }}
[sinks.out.delivery]
in_flight = 4
retry = {{ first = "20ms", max = "200ms" }}
"#,
        peer.url()
    )
}

/// What the senders know: every body they sent, and whether it was acknowledged.
#[derive(Default)]
struct Sent {
    next: AtomicUsize,
    acknowledged: Mutex<BTreeSet<String>>,
    attempted: Mutex<BTreeSet<String>>,
}

impl Sent {
    /// Bodies of changing size, so that writes are torn at many places; each is like no other.
    fn body(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let pad = "\u{e4}".repeat(number * 37 % 1_500);
        let body =
            format!(r#"{{"severity":"CRITICAL","state":"LOCKED_OUT","n":{number},"pad":"{pad}"}}"#);
        self.attempted.lock().unwrap().insert(body.clone());
        body
    }
}

/// Post until told to stop; an error is what a killed gateway looks like from outside.
async fn send(url: &str, sent: &Sent, stop: &AtomicBool) {
    let client =
        reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
    while !stop.load(Ordering::Relaxed) {
        let bodies: Vec<String> =
            (0..1 + sent.next.load(Ordering::Relaxed) % 3).map(|_| sent.body()).collect();
        let answer = client.post(url).body(bodies.join("\n")).send().await;
        match answer {
            Ok(answer) if answer.status() == 200 => {
                sent.acknowledged.lock().unwrap().extend(bodies);
            }
            Ok(answer) => panic!("a running gateway answered {}", answer.status()),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Load, and in the middle of it a kill: after at least `more` further acknowledgements.
async fn killed_under_load(gateway: &mut Gateway, sent: &Sent, more: usize) {
    let (stop, url) = (AtomicBool::new(false), format!("{}/webhook", gateway.webhook));
    let enough = sent.acknowledged.lock().unwrap().len() + more;
    let senders = futures_util::future::join_all((0..SENDERS).map(|_| send(&url, sent, &stop)));
    let killing = async {
        until("enough is acknowledged", async || {
            (sent.acknowledged.lock().unwrap().len() >= enough).then_some(())
        })
        .await;
        gateway.kill();
        stop.store(true, Ordering::Relaxed);
    };
    futures_util::future::join(senders, killing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_missing_at_either_sink_after_twenty_kills() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(r#"{"successCount":1}"#));
    let mut gateway = Gateway::prepared(&config(&peer));
    gateway.set_env("KEY", "k");
    let sent = Sent::default();
    let started = Instant::now();
    for kill in 0..KILLS {
        gateway.launch().await;
        killed_under_load(&mut gateway, &sent, 20 + kill * 13 % 80).await;
    }
    gateway.launch().await;
    for sink in ["out", "archive"] {
        gateway.until_metric("siemgate_delivery_lag_events", &[("sink", sink)], 0.0).await;
    }
    let acknowledged = sent.acknowledged.lock().unwrap().clone();
    let attempted = sent.attempted.lock().unwrap().clone();
    let at_peer: Vec<String> = peer.requests().iter().map(|request| request.text()).collect();
    let (events, took) = (acknowledged.len(), started.elapsed());
    for (name, came) in [("the peer", at_peer), ("the file", gateway.lines("events.ndjson"))] {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        came.iter().for_each(|body| *counts.entry(body).or_default() += 1);
        let missing = acknowledged.iter().filter(|body| !counts.contains_key(body.as_str()));
        assert_eq!(missing.count(), 0, "acknowledged and missing at {name}");
        let invented = counts.keys().filter(|body| !attempted.contains(**body));
        assert_eq!(invented.count(), 0, "nobody sent this, but {name} has it");
        println!(
            "{name}: {events} acknowledged, {} distinct, {} came, {took:?}",
            counts.len(),
            came.len()
        );
    }
    gateway.finish().await;
}
