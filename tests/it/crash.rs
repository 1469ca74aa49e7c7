//! Killed under load, with destinations that fail in every way they can: nothing acknowledged is
//! missing anywhere.
//!
//! Several senders post while the process is killed or stopped at moments that a seed chooses, the
//! configuration is rewritten, and of its sinks one flaps, one is slow, one refuses the token for a
//! while, one will not have some events. `SIEMGATE_KILLS` says how often (20 unless set; `make soak`
//! has more), `SIEMGATE_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::gateway::{Gateway, told, until};
use super::peer::{Answer, Peer, Request};

const SENDERS: usize = 6;
/// Every sink; the first five lead to the peer.
const SINKS: [&str; 6] = ["steady", "flapping", "slow", "locked", "picky", "archive"];
/// What `picky` will not have.
const POISON: &str = r#""poison":true"#;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The configuration, in one of its two versions.
fn config(peer: &Peer, version: usize) -> String {
    let mut text = String::from(
        "[log]\nsegment_bytes = \"1MiB\"\n[sources.superna]\ntype = \"superna\"\npath = \"/webhook\"\n[sinks.archive]\ntype = \"file\"\npath = \"{{dir}}/events.ndjson\"\nrotate_bytes = \"1GiB\"\n",
    );
    text += &format!("[routes.all]\nsinks = {SINKS:?}\n");
    for sink in &SINKS[..5] {
        // Another number, so that every second reload replaces the sink under way.
        let in_flight = 4 + version % 2;
        text += &format!(
            "[sinks.{sink}]\ntype = \"standard_webhook\"\nurl = \"{}/{sink}\"\nsecret = {{ env = \"SECRET\" }}\n[sinks.{sink}.delivery]\nin_flight = {in_flight}\nretry = {{ first = \"20ms\", max = \"200ms\" }}\n",
            peer.url()
        );
    }
    text
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
        let poison = number % 29 == 7;
        let body = format!(
            r#"{{"severity":"CRITICAL","state":"LOCKED_OUT","poison":{poison},"n":{number},"pad":"{pad}"}}"#
        );
        self.attempted.lock().unwrap().insert(body.clone());
        body
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }
}

/// What one destination took: of each idempotency key the body, and how often it came.
type Seen = BTreeMap<String, (String, usize)>;

/// What the destinations took, by sink.
#[derive(Default)]
struct Took(Mutex<BTreeMap<String, Seen>>);

impl Took {
    fn note(&self, sink: &str, request: &Request) {
        let key = request.header("webhook-id").unwrap().to_owned();
        let mut took = self.0.lock().unwrap();
        let seen = took.entry(sink.to_owned()).or_default();
        let (body, times) = seen.entry(key).or_insert_with(|| (request.text(), 0));
        assert_eq!(*body, request.text(), "one key of {sink}, two bodies");
        *times += 1;
    }
}

/// How the destinations behave; `moods` is turned by the faults.
fn destinations(took: &Arc<Took>, mood: &Arc<AtomicUsize>) -> impl Fn(&Request) -> Answer + use<> {
    let (took, mood) = (took.clone(), mood.clone());
    move |request| {
        let sink = request.path.trim_start_matches('/').to_owned();
        let mood = mood.load(Ordering::Relaxed);
        let refused = match &*sink {
            "flapping" => match mood % 5 {
                1 => Some(Answer::new(503, "later")),
                2 => Some(Answer::reset()),
                3 => Some(Answer::new(429, "").header("retry-after", "1")),
                _ => None,
            },
            "locked" if mood % 6 < 3 => Some(Answer::new(401, "who are you?")),
            "picky" if request.text().contains(POISON) => Some(Answer::new(400, "not this")),
            _ => None,
        };
        refused.unwrap_or_else(|| {
            took.note(&sink, request);
            let slow = sink == "slow";
            Answer::ok("").after(Duration::from_millis(if slow { 5 } else { 0 }))
        })
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

/// One of the faults that the process is given before it is killed.
async fn disturb(gateway: &Gateway, peer: &Peer, fault: usize, mood: &AtomicUsize) {
    let signal = |signal| {
        let pid = Pid::from_raw(i32::try_from(gateway.process()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    };
    mood.fetch_add(1, Ordering::Relaxed);
    match fault % 4 {
        0 => gateway.configure("10-test.toml", &config(peer, fault / 4)),
        1 => {
            gateway.configure("10-test.toml", &config(peer, fault / 4 + 1));
            signal(Signal::HUP);
        }
        // Suspended for as long as a snapshot takes.
        2 => {
            signal(Signal::STOP);
            tokio::time::sleep(Duration::from_millis(fault as u64 % 50)).await;
            signal(Signal::CONT);
        }
        // Killed while it is stopped.
        _ => signal(Signal::STOP),
    }
}

/// Load, and in the middle of it a fault and a kill, each after some further acknowledgements.
async fn killed_under_load(
    gateway: &mut Gateway,
    peer: &Peer,
    sent: &Sent,
    mood: &AtomicUsize,
    chance: &mut fastrand::Rng,
) {
    let (stop, url) = (AtomicBool::new(false), format!("{}/webhook", gateway.webhook));
    let acknowledged = async |more: usize| {
        let enough = sent.count() + more;
        until("enough is acknowledged", async || (sent.count() >= enough).then_some(())).await;
    };
    let senders = futures_util::future::join_all((0..SENDERS).map(|_| send(&url, sent, &stop)));
    let killing = async {
        acknowledged(chance.usize(1..40)).await;
        let fault = chance.usize(..1_000);
        disturb(gateway, peer, fault, mood).await;
        if fault % 4 != 3 {
            acknowledged(chance.usize(1..40)).await;
        }
        gateway.kill();
        stop.store(true, Ordering::Relaxed);
    };
    futures_util::future::join(senders, killing).await;
}

async fn shown(gateway: &Gateway, path: &str) -> serde_json::Value {
    told(gateway.over_socket(reqwest::Method::GET, path)).await.json()
}

/// The bodies of all dead letters of `sink`.
async fn dead(gateway: &Gateway, sink: &str) -> BTreeSet<String> {
    let (mut bodies, mut from) = (BTreeSet::new(), 0);
    loop {
        let page =
            shown(gateway, &format!("/api/v1/dead?sink={sink}&from={from}&limit=1000")).await;
        let letters = page["letters"].as_array().unwrap().clone();
        let Some(last) = letters.last() else { return bodies };
        from = last["number"].as_u64().unwrap() + 1;
        for letter in &letters {
            let one = shown(gateway, &format!("/api/v1/dead/{}", letter["number"])).await;
            bodies.insert(one["body"].as_str().unwrap().to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_missing_at_any_sink_after_kills_and_worse() {
    let (kills, seed) =
        (setting("SIEMGATE_KILLS", 20), setting("SIEMGATE_SEED", fastrand::u64(..)));
    println!("SIEMGATE_SEED={seed} SIEMGATE_KILLS={kills}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let (peer, sent, started) = (Peer::start().await, Sent::default(), Instant::now());
    let (took, mood) = (Arc::new(Took::default()), Arc::new(AtomicUsize::new(0)));
    peer.answer(destinations(&took, &mood));
    let mut gateway = Gateway::prepared(&config(&peer, 0));
    gateway.set_env("SECRET", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    for _ in 0..kills {
        gateway.launch().await;
        killed_under_load(&mut gateway, &peer, &sent, &mood, &mut chance).await;
        // What is asserted is kept elsewhere; the peer's own record would only grow.
        peer.forget();
    }
    mood.store(4, Ordering::Relaxed);
    gateway.launch().await;
    for sink in SINKS {
        drained(&gateway, sink).await;
    }
    fresh_events_flow(&gateway, &sent, &took).await;
    let refused = dead(&gateway, "picky").await;
    for sink in SINKS {
        let (came, distinct) = match sink {
            "archive" => {
                let lines = gateway.lines("events.ndjson");
                (lines.len(), lines.into_iter().collect::<BTreeSet<_>>())
            }
            _ => {
                let seen = took.0.lock().unwrap()[sink].clone();
                let bodies: BTreeSet<_> = seen.values().map(|(body, _)| body.clone()).collect();
                // Whoever goes by the key sees every event once.
                assert_eq!(bodies.len(), seen.len(), "an event has two keys at {sink}");
                (seen.values().map(|(_, times)| times).sum(), bodies)
            }
        };
        let has = |body: &&String| {
            distinct.contains(*body) || (sink == "picky" && refused.contains(*body))
        };
        let acknowledged = sent.acknowledged.lock().unwrap().clone();
        let missing = acknowledged.iter().filter(|body| !has(body)).count();
        assert_eq!(missing, 0, "acknowledged and missing at {sink}");
        let attempted = sent.attempted.lock().unwrap().clone();
        let invented = distinct.iter().filter(|body| !attempted.contains(*body)).count();
        assert_eq!(invented, 0, "nobody sent this, but {sink} has it");
        println!(
            "{sink}: {} acknowledged, {} distinct, {came} came, {:?}",
            acknowledged.len(),
            distinct.len(),
            started.elapsed()
        );
    }
    assert!(refused.iter().all(|body| body.contains(POISON)), "only what was refused is dead");
    for sink in ["steady", "flapping", "slow", "locked", "archive"] {
        assert_eq!(dead(&gateway, sink).await.len(), 0, "dead letters of {sink}");
    }
    gateway.finish().await;
}

/// Wait until nothing waits for `sink`, as long as that becomes less.
async fn drained(gateway: &Gateway, sink: &str) {
    let labels = [("sink", sink)];
    let lag = async || gateway.metric("siemgate_delivery_lag_events", &labels).await.unwrap();
    let mut left = lag().await;
    while left > 0.0 {
        left = until("a backlog shrinks", async || {
            let now = lag().await;
            (now < left).then_some(now)
        })
        .await;
    }
}

/// After all of it a new event arrives everywhere at once.
async fn fresh_events_flow(gateway: &Gateway, sent: &Sent, took: &Took) {
    let body = loop {
        let body = sent.body();
        if !body.contains(POISON) {
            break body;
        }
    };
    let begun = Instant::now();
    assert_eq!(gateway.post("/webhook", body.clone()).await.status, 200);
    sent.acknowledged.lock().unwrap().insert(body.clone());
    for sink in &SINKS[..5] {
        until("a fresh event arrives", async || {
            let took = took.0.lock().unwrap();
            took[*sink].values().any(|(came, _)| *came == body).then_some(())
        })
        .await;
    }
    println!("a fresh event was everywhere after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5), "a fresh event took {:?}", begun.elapsed());
}
