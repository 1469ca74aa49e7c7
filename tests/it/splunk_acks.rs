//! Splunk's indexer acknowledgement: what Splunk has taken is delivered when it says that it is indexed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use siemgate::core::config::Problems;
use siemgate::core::sink::{Cause, Outcome};
use siemgate::sinks::Built;

use super::gateway::{Gateway, until};
use super::peer::{Answer, Peer, Request};
use super::sinks::{delivered, encode, failed, folder, now, send, sending, told};

/// What a collector with acknowledgement remembers.
#[derive(Default)]
struct Memory {
    /// The next id of each channel: they count from 0.
    next: BTreeMap<String, u64>,
    /// Channel and id of what is indexed and not yet told: a yes is given once.
    indexed: BTreeSet<(String, u64)>,
    /// Channel and id of what was taken and is not indexed.
    taken: Vec<(String, u64)>,
    /// Index nothing.
    withheld: bool,
}

/// A collector whose token has indexer acknowledgement enabled.
#[derive(Clone)]
struct Splunk {
    peer: Arc<Peer>,
    memory: Arc<Mutex<Memory>>,
}

impl Splunk {
    async fn start() -> Self {
        let (peer, memory) = (Arc::new(Peer::start().await), Arc::new(Mutex::default()));
        let book = Arc::clone(&memory);
        peer.answer(move |request| answer(&mut book.lock().unwrap(), request));
        Self { peer, memory }
    }

    /// Index from now on, and what has been taken.
    fn index(&self) {
        let mut memory = self.memory.lock().unwrap();
        memory.withheld = false;
        let taken = std::mem::take(&mut memory.taken);
        memory.indexed.extend(taken);
    }

    fn withhold(&self) {
        self.memory.lock().unwrap().withheld = true;
    }

    /// What was in memory is gone, and ids begin anew.
    fn restart(&self) {
        *self.memory.lock().unwrap() = Memory::default();
    }

    /// The deliveries, by their channels.
    fn deliveries(&self) -> Vec<(String, String)> {
        let all = self.peer.requests().into_iter();
        let data = all.filter(|request| request.path == "/services/collector/event");
        data.map(|request| (channel(&request), String::from_utf8_lossy(&request.plain()).into()))
            .collect()
    }

    fn questions(&self) -> Vec<Request> {
        let all = self.peer.requests().into_iter();
        all.filter(|request| request.path == "/services/collector/ack").collect()
    }
}

fn channel(request: &Request) -> String {
    request.header("x-splunk-request-channel").unwrap_or_default().to_owned()
}

fn answer(memory: &mut Memory, request: &Request) -> Answer {
    let channel = channel(request);
    if request.method == "GET" {
        return Answer::ok(r#"{"text":"HEC is healthy","code":17}"#);
    }
    if channel.len() != 36 {
        return Answer::new(400, r#"{"text":"Data channel is missing","code":10}"#);
    }
    if request.path.ends_with("/ack") {
        let asked = request.json()["acks"].as_array().unwrap().clone();
        let told = asked.iter().map(|id| {
            let key = (channel.clone(), id.as_u64().unwrap());
            (id.to_string(), Value::from(memory.indexed.remove(&key)))
        });
        return Answer::ok(json!({ "acks": told.collect::<serde_json::Map<_, _>>() }).to_string());
    }
    let next = memory.next.entry(channel.clone()).or_default();
    let id = *next;
    *next += 1;
    match memory.withheld {
        true => memory.taken.push((channel, id)),
        false => drop(memory.indexed.insert((channel, id))),
    }
    Answer::ok(json!({ "text": "Success", "code": 0, "ackId": id }).to_string())
}

/// A gateway whose only sink asks this collector for acknowledgements.
async fn started(splunk: &Splunk, more: &str) -> Gateway {
    let mut gateway = Gateway::prepared(&format!(
        r#"
[sources.s]
type = "json"
[routes.all]
sinks = ["splunk"]
[sinks.splunk]
type = "splunk_hec"
url = "{}"
token = {{ env = "KEY" }}
ack = true
{more}
[sinks.splunk.delivery]
batch = {{ events = 1 }}
in_flight = 2
retry = {{ first = "50ms", max = "200ms" }}
"#,
        splunk.peer.url()
    ));
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    gateway
}

#[tokio::test]
async fn an_event_is_delivered_when_it_is_acknowledged_and_not_before() {
    let splunk = Splunk::start().await;
    splunk.withhold();
    let gateway = started(&splunk, "").await;
    let waited = gateway.post("/webhook/s?wait=1s", r#"{"n":1}"#).await;
    assert_eq!(waited.json()["settled"], false, "{waited:?}");
    // It has been asked more than once, and every answer was no.
    until("it is asked again", async || (splunk.questions().len() >= 3).then_some(())).await;
    assert_eq!(gateway.settled("splunk", "delivered").await, 0);
    splunk.index();
    gateway.until_settled("splunk", "delivered", 1).await;
    let deliveries = splunk.deliveries();
    assert_eq!(deliveries.len(), 1, "sent once");
    assert!(splunk.questions().iter().all(|question| channel(question) == deliveries[0].0));
    // What was confirmed leaves its channel to the next.
    gateway.post("/webhook/s", r#"{"n":2}"#).await;
    gateway.until_settled("splunk", "delivered", 2).await;
    assert_eq!(splunk.deliveries()[1].0, deliveries[0].0);
    gateway.finish().await;
}

/// After a restart ids are given again. The yes for another event must not confirm what was lost.
#[tokio::test]
async fn what_splunk_loses_in_a_restart_is_sent_again() {
    let splunk = Splunk::start().await;
    splunk.withhold();
    let gateway = started(&splunk, "ack_wait = 3").await;
    gateway.post("/webhook/s", r#"{"n":"lost"}"#).await;
    until("it has been asked about", async || (!splunk.questions().is_empty()).then_some(())).await;
    splunk.restart();
    gateway.post("/webhook/s", r#"{"n":"other"}"#).await;
    gateway.until_settled("splunk", "delivered", 2).await;
    let deliveries = splunk.deliveries();
    let of = |word: &str| -> Vec<String> {
        let of = deliveries.iter().filter(|(_, body)| body.contains(word));
        of.map(|(channel, _)| channel.clone()).collect()
    };
    let (lost, other) = (of("lost"), of("other"));
    assert_eq!((lost.len(), other.len()), (2, 1), "{deliveries:?}");
    assert!(!other.contains(&lost[0]) && lost[0] != lost[1], "a spoiled channel: {deliveries:?}");
    let journal = gateway.journal_text();
    assert!(journal.contains("not acknowledged within 3 s"), "{journal}");
    gateway.finish().await;
}

fn build(url: &str, more: &str) -> Result<Built, Problems> {
    let dir = folder();
    let key = dir.path().join("key");
    super::sinks::build(&format!(
        "[sinks.splunk]\ntype = \"splunk_hec\"\nurl = \"{url}\"\ntoken = {{ file = {key:?} }}\n{more}\n"
    ))
}

fn made(url: &str, more: &str) -> Built {
    build(url, more).map_err(told).unwrap()
}

#[tokio::test]
async fn an_acknowledgement_that_never_comes_is_down_and_one_that_comes_late_is_not() {
    let splunk = Splunk::start().await;
    splunk.withhold();
    let sink = made(&splunk.peer.url(), "ack = true\nack_wait = 1");
    let fault = failed(send(&sink, &["{}"]).await, Cause::Down);
    assert!(fault.note.contains("sticky sessions"), "{fault:?}");
    let late = sending(sink.sink.clone(), vec![encode(&sink, "{}").unwrap()]);
    until("it is asked", async || (splunk.questions().len() >= 3).then_some(())).await;
    splunk.index();
    assert_eq!(delivered(late.await.unwrap()).id.as_deref(), Some("0"));
}

#[tokio::test]
async fn each_side_without_the_other_is_told_with_what_to_write() {
    let splunk = Splunk::start().await;
    let sink = made(&splunk.peer.url(), "");
    let fault = failed(send(&sink, &["{}"]).await, Cause::Setup);
    assert!(fault.note.contains("write ack = true"), "{fault:?}");
    // Acknowledgement is off at the token: no id, or code 14.
    let sink = made(&splunk.peer.url(), "ack = true");
    splunk.peer.always(Answer::ok(r#"{"text":"Success","code":0}"#));
    let fault = failed(send(&sink, &["{}"]).await, Cause::Setup);
    assert!(fault.note.contains("off in sinks.splunk"), "{fault:?}");
    splunk.peer.always(Answer::new(400, r#"{"text":"ACK is disabled","code":14}"#));
    let fault = failed(send(&sink, &["{}"]).await, Cause::Setup);
    assert!(fault.note.contains("write ack = false"), "{fault:?}");
    let told = build("http://h", "ack = true\nack_wait = 0").err().map(told).unwrap_or_default();
    assert!(told.contains("ack_wait must be 1 to 3600 seconds"), "{told}");
}

/// A question that is refused ends the wait at once, and never makes a dead letter of the event.
#[tokio::test]
async fn a_refused_question_is_setup_and_trouble_on_the_way_is_not() {
    let splunk = Splunk::start().await;
    let sink = made(&splunk.peer.url(), "ack = true");
    let asked = Arc::new(Mutex::new(0));
    let (memory, count) = (splunk.memory.clone(), asked.clone());
    splunk.peer.answer(move |request| {
        let mut count = count.lock().unwrap();
        *count += usize::from(request.path.ends_with("/ack"));
        match (*count, request.path.ends_with("/ack")) {
            (1, true) => Answer::reset(),
            (2, true) => Answer::new(503, r#"{"text":"Server is busy","code":9}"#),
            _ => answer(&mut memory.lock().unwrap(), request),
        }
    });
    delivered(send(&sink, &["{}"]).await);
    assert_eq!(*asked.lock().unwrap(), 3);
    for (status, body) in [(400, r#"{"text":"Invalid data channel","code":11}"#), (404, "{}")] {
        splunk.peer.answer(move |request| match request.path.ends_with("/ack") {
            true => Answer::new(status, body),
            false => Answer::ok(r#"{"text":"Success","code":0,"ackId":7}"#),
        });
        let fault = failed(send(&sink, &["{}"]).await, Cause::Setup);
        assert!(fault.note.contains("taken, but"), "{fault:?}");
    }
}

/// Of a batch with a bad event those before it may be indexed, but nothing says so.
#[tokio::test]
async fn what_stands_before_a_bad_event_is_not_delivered_without_an_acknowledgement() {
    let peer = Peer::start().await;
    peer.always(Answer::new(
        400,
        r#"{"text":"Invalid data format","code":6,"invalid-event-number":1}"#,
    ));
    for (ack, wanted) in [(false, vec![1, 2]), (true, vec![0, 1, 2])] {
        let sink = made(&peer.url(), &format!("ack = {ack}"));
        let pieces: Vec<_> = ["1", "2", "3"].map(|n| encode(&sink, n).unwrap()).into();
        let Outcome::Partly { faults, .. } = sink.sink.send(&pieces, now()).await else {
            panic!("not partly")
        };
        let of: Vec<usize> = faults.iter().map(|(index, _)| *index).collect();
        assert_eq!(of, wanted, "ack = {ack}");
        let refused = faults.iter().filter(|(_, fault)| fault.cause == Cause::Refused);
        assert_eq!(refused.map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
    }
}
