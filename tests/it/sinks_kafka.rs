//! Kafka: against librdkafka's brokers and its consumer, which know nothing of our writer, what arrives,
//! where, and with which headers; and against a broker of our own what happens when things go wrong.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use siemgate::core::sink::{Cause, Outcome};
use siemgate::sinks::Built;

use super::broker::{Broker, Speaks};
use super::gateway::{Gateway, until};
use super::kafka_peer::LOGIN;
use super::products::{Process, python};
use super::proofs::proved;
use super::sinks::{build, built, delivered, encode, failed, now, send, sending, told};

/// Three brokers; their addresses first, then every record that a consumer reads. A line on the standard
/// input creates the topic.
const BROKERS: &str = r#"
import json, sys
from confluent_kafka import Consumer, Producer, TopicPartition
brokers = Producer({"test.mock.num.brokers": 3, "bootstrap.servers": "mock"})
at = [f"{b.host}:{b.port}" for b in brokers.list_topics(timeout=20).brokers.values()]
print(json.dumps(at), flush=True)
sys.stdin.readline()
brokers.produce("security-alerts", b"first")
brokers.flush(20)
parts = brokers.list_topics("security-alerts", timeout=20).topics["security-alerts"].partitions
consumer = Consumer({"bootstrap.servers": ",".join(at), "group.id": "g", "auto.offset.reset": "earliest", "check.crcs": True})
consumer.assign([TopicPartition("security-alerts", p, 0) for p in parts])
while True:
    m = consumer.poll(1)
    if m is not None and not m.error():
        text = lambda b: b.decode() if b is not None else None
        print(json.dumps({"partition": m.partition(), "key": text(m.key()), "value": text(m.value()),
            "headers": {k: text(v) for k, v in m.headers() or []}, "time": m.timestamp()[1]}), flush=True)
"#;

/// Running brokers.
struct Brokers {
    process: Process,
    input: ChildStdin,
    at: Vec<String>,
    read: Arc<Mutex<Vec<Value>>>,
}

impl Brokers {
    /// If they can be had.
    fn start() -> Option<Self> {
        let mut command = Command::new(python("confluent_kafka")?);
        command.args(["-c", BROKERS]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let at: Vec<String> = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let read: Arc<Mutex<Vec<Value>>> = Arc::default();
        let book = read.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                book.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Some(Self { process: Process(child), input, at, read })
    }

    fn create_topic(&mut self) {
        self.input.write_all(b"create\n").unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.0), signal).unwrap();
    }

    /// The records that the gateway sent, as soon as there are so many.
    async fn records(&self, count: usize) -> Vec<Value> {
        until(&format!("{count} records are read"), async || {
            let all = self.read.lock().unwrap().clone();
            let ours: Vec<Value> = all.into_iter().filter(|it| it["value"] != "first").collect();
            (ours.len() >= count).then_some(ours)
        })
        .await
    }

    async fn gateway(&self, more: &str) -> Gateway {
        let brokers: Vec<String> = self.at.iter().map(|at| format!("tcp://{at}")).collect();
        Gateway::start(&format!(
            "[sources.s]\ntype = \"json\"\nincident = \"incident\"\n[routes.all]\nsinks = \"events\"\n[sinks.events]\ntype = \"kafka\"\nbrokers = {brokers:?}\ntopic = \"security-alerts\"\n{more}\n"
        ))
        .await
    }
}

fn lines(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|n| format!("{{\"n\":{n},\"incident\":\"i{}\"}}\n", n % 7)).collect()
}

#[tokio::test]
async fn another_client_reads_every_event_with_its_key_and_headers() {
    const EVENTS: u64 = 1_500;
    for more in ["", "gzip = true"] {
        let Some(mut brokers) = Brokers::start() else { return };
        brokers.create_topic();
        brokers.records(0).await;
        let gateway = brokers.gateway(more).await;
        let mut ids = BTreeMap::new();
        for chunk in 0..3 {
            let numbers = chunk * 500..(chunk + 1) * 500;
            let posted = gateway.post("/webhook/s", lines(numbers.clone())).await;
            ids.extend(numbers.zip(posted.ids()));
        }
        gateway.until_settled("events", "delivered", EVENTS).await;
        let records = brokers.records(EVENTS as usize).await;
        assert_eq!(records.len(), EVENTS as usize, "each once");
        let mut places: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for record in &records {
            let body: Value = serde_json::from_str(record["value"].as_str().unwrap()).unwrap();
            let n = body["n"].as_u64().unwrap();
            assert_eq!(record["key"], body["incident"], "{record}");
            assert_eq!(record["headers"]["event-id"], *ids[&n], "{record}");
            assert_eq!(record["headers"]["content-type"], "application/json");
            assert!(record["time"].as_u64().unwrap() > 1_700_000_000_000, "{record}");
            let partition = record["partition"].as_u64().unwrap();
            let (place, before) =
                *places.entry(record["key"].as_str().unwrap()).or_insert((partition, n));
            assert_eq!(place, partition, "one incident, one partition");
            assert!(before <= n, "in order");
            places.insert(record["key"].as_str().unwrap(), (partition, n));
        }
        let used: std::collections::BTreeSet<u64> = places.values().map(|it| it.0).collect();
        assert!(used.len() > 1, "several partitions are in use: {places:?}");
        gateway.finish().await;
    }
    proved("kafka", "librdkafka's mock brokers");
}

#[tokio::test]
async fn without_a_topic_the_sink_is_parked_until_there_is_one() {
    let Some(mut brokers) = Brokers::start() else { return };
    let gateway = brokers.gateway("").await;
    assert_eq!(gateway.post("/webhook/s", lines(0..3)).await.status, 200);
    until("it is parked", async || {
        gateway
            .journal_text()
            .contains("UNKNOWN_TOPIC_OR_PARTITION: create the topic")
            .then_some(())
    })
    .await;
    brokers.create_topic();
    gateway.until_settled("events", "delivered", 3).await;
    assert_eq!(brokers.records(3).await.len(), 3);
    gateway.finish().await;
}

#[tokio::test]
async fn brokers_that_hang_are_down_until_they_go_on() {
    let Some(mut brokers) = Brokers::start() else { return };
    brokers.create_topic();
    let gateway = brokers.gateway("delivery = { timeout = \"1s\" }").await;
    assert_eq!(gateway.post("/webhook/s?wait=30s", lines(0..1)).await.json()["settled"], true);
    brokers.signal(Signal::STOP);
    assert_eq!(gateway.post("/webhook/s", lines(1..50)).await.status, 200);
    until("attempts fail", async || {
        let labels = [("sink", "events"), ("cause", "down")];
        let failed = gateway.metric("siemgate_delivery_attempts_total", &labels).await;
        failed.filter(|count| *count >= 2.0)
    })
    .await;
    brokers.signal(Signal::CONT);
    gateway.until_settled("events", "delivered", 50).await;
    // These brokers store what comes twice.
    let numbers = |records: Vec<Value>| -> std::collections::BTreeSet<u64> {
        let body =
            |it: &Value| serde_json::from_str::<Value>(it["value"].as_str().unwrap()).unwrap();
        records.iter().map(|it| body(it)["n"].as_u64().unwrap()).collect()
    };
    until("all are there", async || (numbers(brokers.records(0).await).len() == 50).then_some(()))
        .await;
    gateway.finish().await;
}

fn section(broker: &Broker, more: &str) -> String {
    let url = broker.url();
    format!("[sinks.k]\ntype = \"kafka\"\nbrokers = \"{url}\"\ntopic = \"t\"\n{more}\n")
}

async fn stand(more: &str) -> (Broker, Built) {
    let broker = Broker::start(Speaks::Kafka, 0).await;
    let sink = built(&section(&broker, more));
    (broker, sink)
}

fn sorted(broker: &Broker) -> Vec<String> {
    let text = |it: bytes::Bytes| String::from_utf8(it.to_vec()).unwrap();
    let mut all: Vec<String> = broker.messages().into_iter().map(text).collect();
    all.sort();
    all
}

#[tokio::test]
async fn a_batch_whose_answer_is_lost_is_stored_once() {
    for (more, times) in [("", 1), ("idempotence = false", 2)] {
        let (broker, sink) = stand(more).await;
        let bodies = ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"];
        let pieces: Vec<_> = bodies.iter().map(|body| encode(&sink, *body).unwrap()).collect();
        broker.order(|orders| orders.lose = 1);
        failed(sink.sink.send(&pieces, now()).await, Cause::Down);
        // The worker may bring them back in any company.
        let other = encode(&sink, "{\"n\":4}").unwrap();
        let [a, b, c] = &pieces[..] else { panic!() };
        delivered(sink.sink.send(&[b.clone(), other], now()).await);
        delivered(sink.sink.send(std::slice::from_ref(a), now()).await);
        delivered(sink.sink.send(std::slice::from_ref(c), now()).await);
        let all = sorted(&broker);
        for body in bodies {
            assert_eq!(all.iter().filter(|it| *it == body).count(), times, "{more}: {all:?}");
        }
        assert_eq!(all.iter().filter(|it| *it == "{\"n\":4}").count(), 1);
    }
}

#[tokio::test]
async fn a_cancelled_batch_is_neither_lost_nor_doubled() {
    let (broker, sink) = stand("").await;
    for round in 0..30u64 {
        let piece = encode(&sink, format!("{{\"n\":{}}}", 100 + round)).unwrap();
        let sent = sending(sink.sink.clone(), vec![piece.clone()]);
        // At another moment each time.
        tokio::time::sleep(Duration::from_micros(60 * round)).await;
        sent.abort();
        let _ = sent.await;
        delivered(sink.sink.send(&[piece], now()).await);
    }
    let expected: Vec<String> = (100..130).map(|n| format!("{{\"n\":{n}}}")).collect();
    assert_eq!(sorted(&broker), expected);
}

#[tokio::test]
async fn every_code_of_a_broker_has_its_cause() {
    let (broker, sink) = stand("").await;
    for (code, cause, words) in [
        (29, Cause::Setup, "TOPIC_AUTHORIZATION_FAILED: allow the user of sinks.k"),
        (10, Cause::TooLarge, "max.message.bytes"),
        (87, Cause::Refused, "INVALID_RECORD"),
        (6, Cause::Down, "NOT_LEADER"),
        (19, Cause::Down, "NOT_ENOUGH_REPLICAS"),
        (7, Cause::Down, "REQUEST_TIMED_OUT"),
        (59, Cause::Down, "UNKNOWN_PRODUCER_ID"),
        (89, Cause::Busy, "THROTTLING"),
        (-1, Cause::Down, "error -1"),
    ] {
        broker.order(|orders| orders.codes = [code].into());
        let piece = encode(&sink, format!("{{\"code\":{code}}}")).unwrap();
        let outcome = sink.sink.send(std::slice::from_ref(&piece), now()).await;
        let fault = match outcome {
            Outcome::Failed(fault) => fault,
            Outcome::Partly { faults, .. } => faults[0].1.clone(),
            other => panic!("{code}: {other:?}"),
        };
        assert_eq!(fault.cause, cause, "{code}: {fault:?}");
        assert!(fault.note.contains(words), "{code}: {fault:?}");
        delivered(sink.sink.send(&[piece], now()).await);
    }
    assert_eq!(sorted(&broker).len(), 9, "each once");
}

#[tokio::test]
async fn of_a_batch_only_what_is_too_large_is_told_so() {
    let (broker, sink) = stand("").await;
    broker.order(|orders| orders.most = Some(1_500));
    let big = json!({ "n": "big", "text": "x".repeat(2_000) }).to_string();
    let outcome = send(&sink, &["{\"n\":1}", &big, "{\"n\":2}"]).await;
    let Outcome::Partly { faults, .. } = outcome else { panic!("{outcome:?}") };
    let [(1, fault)] = &faults[..] else { panic!("{faults:?}") };
    assert_eq!(fault.cause, Cause::TooLarge);
    assert_eq!(sorted(&broker), ["{\"n\":1}", "{\"n\":2}"]);
}

#[tokio::test]
async fn a_quota_is_waited_for() {
    let (broker, sink) = stand("").await;
    broker.order(|orders| orders.throttle = 30_000);
    delivered(send(&sink, &["{\"n\":1}"]).await);
    let fault = failed(send(&sink, &["{\"n\":2}"]).await, Cause::Busy);
    assert!(fault.retry_after.is_some_and(|wait| wait > Duration::from_secs(20)), "{fault:?}");
}

/// Let in with the right secret; parked with the wrong one, which is not told.
#[tokio::test]
async fn every_way_to_log_in() {
    let dir = tempfile::tempdir().unwrap();
    let secret = |name: &str, value: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, value).unwrap();
        format!("password = {{ file = {file:?} }}")
    };
    let (right, wrong) = (secret("right", LOGIN.1), secret("wrong", "hidden-secret"));
    let broker = Broker::start(Speaks::Kafka, 0).await;
    broker.order(|orders| orders.login = true);
    for way in ["plain", "scram-sha-512"] {
        let sink = |password: &str| {
            built(&section(&broker, &format!("sasl = {way:?}\nuser = \"gate\"\n{password}")))
        };
        delivered(send(&sink(&right), &["{}"]).await);
        let fault = failed(send(&sink(&wrong), &["{}"]).await, Cause::Setup);
        assert!(fault.note.contains("SASL_AUTHENTICATION_FAILED: check sinks.k.user"), "{fault:?}");
        assert!(!fault.note.contains("hidden-secret"), "{fault:?}");
    }
    let other = section(&broker, &format!("sasl = \"scram-sha-256\"\nuser = \"gate\"\n{right}"));
    let fault = failed(send(&built(&other), &["{}"]).await, Cause::Setup);
    assert!(fault.note.contains("UNSUPPORTED_SASL_MECHANISM: check sinks.k.sasl"), "{fault:?}");
    let fault = failed(send(&built(&section(&broker, "")), &["{}"]).await, Cause::Down);
    assert!(fault.note.contains("demands TLS or a login"), "{fault:?}");
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let sink = |more: &str| format!("[sinks.k]\ntype = \"kafka\"\n{more}\n");
    for (more, words) in [
        ("brokers = []\ntopic = \"t\"", ".brokers: names no server"),
        ("brokers = \"tcp://a\"\ntopic = \"a b\"", ".topic: is no name of a topic"),
        ("brokers = \"tcp://a\"\ntopic = \"t\"\nuser = \"u\"", ".user: needs sasl"),
        (
            "brokers = \"tcp://a\"\ntopic = \"t\"\nsasl = \"plain\"",
            ".sasl: needs user and password",
        ),
        ("brokers = \"tcp://a\"\ntopic = \"t\"\nmax_bytes = \"1\"", ".max_bytes: must be 4KiB"),
        ("brokers = [\"tcp://a\", \"tls://b\"]\ntopic = \"t\"", "has tcp:// beside tls://"),
    ] {
        let problems = build(&sink(more)).err().map(told).unwrap_or_default();
        assert!(problems.contains(words), "`{words}` in {problems}");
    }
}
