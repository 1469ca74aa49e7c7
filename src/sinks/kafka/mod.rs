//! Kafka, and what speaks its protocol (Event Hubs, Redpanda, MSK): each event a record of a topic,
//! acknowledged by all replicas that are in step.
//!
//! Guarantees: an event is delivered when its partition's leader has said that it is stored
//! (`acks=all`); events of one incident have one key, so one partition and their order; nothing is
//! queued here, so a batch that is cancelled is not sent later on its own account. With idempotence a
//! batch whose answer was lost is stored once (`sequence.rs`), as long as this sink lives: after a
//! restart or another configuration it may come twice.
//!
//! The protocol is spoken by our own hand: see the decision in ARCHITECTURE.md.

mod cluster;
mod codec;
mod link;
mod scram;
mod sequence;
mod verdict;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::socket::{Dial, Endpoint, Head, Message as Text};
use super::tls::Trust;
use super::{Built, Kind, Proof, joined, part, tally};
use crate::core::Timestamp;
use crate::core::config::{ByteSize, OneOrMany, Problem, Problems, Secret, Section, Span};
use crate::core::route::Shaped;
use crate::core::sink::{
    Cause, Class, Fault, Idempotency, Limits, Outcome, Piece, Preview, Probe, Reply, Sink,
};
use crate::formats::Named;
use cluster::{Batch, Cluster, Route};
use codec::Record;
use link::{Login, Sasl};
use scram::Hash;

/// Kafka in the table of sinks.
pub const KIND: Kind = Kind {
    name: "kafka",
    about: "Apache Kafka and what speaks its protocol, one record an event, acknowledged by all replicas in step",
    sample: r#"[sinks.events]
type = "kafka"
brokers = "tcp://{{host}}" # documents: brokers = "tls://kafka.example:9093"
topic = "security-alerts"
"#,
    class: Class::Siem,
    idempotency: Idempotency::None,
    formats: true,
    proof: Proof::Documented,
    proves: "that the leader of a partition and all replicas in step have the event. Read it back with `kcat -C -t TOPIC` or `kafka-console-consumer`.",
    success: (0, ""),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// Largest batch that producers send unless told otherwise; brokers take 48,588 bytes more.
const USUAL: u64 = 1_000_000;
/// The most that may be configured.
const MOST: u64 = 16 << 20;
/// What a record's key and headers take, and its batch.
const BESIDE: usize = 1_024;
/// The port of Kafka.
const PORT: u16 = 9_092;

/// Apache Kafka from 1.0 to 4, Redpanda, Amazon MSK, Confluent Cloud; Azure Event Hubs with
/// `brokers = "tls://NAMESPACE.servicebus.windows.net:9093"`, `sasl = "plain"`,
/// `user = "$ConnectionString"` and the connection string as `password`.
///
/// The topic must exist. A record has the event as its value, and the headers `event-id` and
/// `content-type`. OAUTHBEARER and Kerberos are not spoken.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// Brokers to ask for the others, one or a list: `"tcp://host:9092"`, or `"tls://host:9093"` for
    /// encrypted connections to all brokers; 9092 unless given. The cluster tells where the rest is, so
    /// what its brokers advertise must be reachable from here.
    brokers: OneOrMany<Endpoint>,
    /// The topic. Of Event Hubs: the hub.
    topic: String,
    /// What chooses the partition. With `incident` (usual) all events of one incident are in one
    /// partition, in order; with `event` each goes its own way.
    #[serde(default)]
    key: Key,
    /// Let brokers recognise a batch that comes again because its answer was lost. Switch it off for
    /// services that do not know it, or where the user may not do it; what was in doubt then comes
    /// twice.
    #[serde(default = "yes")]
    idempotence: bool,
    /// Compress batches.
    #[serde(default)]
    gzip: bool,
    /// How to log in: `plain`, `scram-sha-256` or `scram-sha-512`, with `user` and `password`. With
    /// `plain` the broker is shown the password, so use it with `tls://` alone.
    sasl: Option<Mechanism>,
    /// The user to log in as.
    user: Option<String>,
    /// That user's password.
    password: Option<Secret>,
    /// How long connecting to one broker may take, logging in included.
    #[serde(default = "ten_seconds")]
    connect_timeout: Span,
    /// How the event is written, unless its route says so.
    #[serde(default)]
    format: Named,
    /// Largest batch, and so largest event, key and headers included: 1,000,000 bytes unless set, which
    /// brokers take as they come (`message.max.bytes`, and a topic's `max.message.bytes`). Longer
    /// events are shortened as in `syslog`.
    max_bytes: Option<ByteSize>,
    #[serde(flatten)]
    trust: Trust,
}

/// What chooses the partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Key {
    /// The incident.
    #[default]
    Incident,
    /// The event's id.
    Event,
}

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Mechanism {
    /// The password as it is.
    #[serde(rename = "plain")]
    Plain,
    /// A proof of it.
    #[serde(rename = "scram-sha-256")]
    Scram256,
    /// A proof of it.
    #[serde(rename = "scram-sha-512")]
    Scram512,
}

fn yes() -> bool {
    true
}

fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

fn build(section: &Section) -> Result<Built, Problems> {
    let settings: Settings = super::read(section, &[part::<Trust>])?;
    let key = |name: &str| format!("{}.{name}", section.key);
    let mut problems = Problems::new();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !(1..=249).contains(&settings.topic.len()) || !settings.topic.chars().all(good) {
        let told = Problem::new(key("topic"), "is no name of a topic");
        problems.push(told.help("write 1 to 249 letters, digits, `.`, `_` and `-`"));
    }
    let size = settings.max_bytes.map_or(USUAL, |size| size.0);
    if !(4_096..=MOST).contains(&size) {
        let told = format!("must be 4KiB to {}", ByteSize(MOST));
        problems.push(Problem::new(key("max_bytes"), told));
    }
    let brokers = settings.brokers.as_slice().iter().map(|broker| broker.clone().or_port(PORT));
    let patience = settings.connect_timeout.0;
    let dial = Dial::build(section, "brokers", brokers.collect(), &settings.trust, patience);
    let login = login(section, &settings);
    problems.extend(dial.as_ref().err().into_iter().flatten().cloned());
    problems.extend(login.as_ref().err().cloned());
    let (Ok(dial), Ok(login), true) = (dial, login, problems.is_empty()) else {
        return Err(problems);
    };
    let most = usize::try_from(size).unwrap_or(usize::MAX);
    let event_bytes = most.saturating_sub(BESIDE);
    let limits = Limits {
        event_bytes,
        batch_events: 500,
        batch_bytes: event_bytes.max(1 << 20),
        in_flight: 1,
        // A key has one partition, and after a failure nothing else goes there in this batch.
        ordered: settings.key == Key::Incident,
    };
    let text = Text {
        head: Head::Plain,
        format: settings.format.0,
        framing: None,
        max_bytes: event_bytes,
    };
    let route = Route {
        section: section.key.clone(),
        dial,
        topic: settings.topic,
        login,
        idempotence: settings.idempotence,
    };
    let sink = Kafka {
        route,
        key: settings.key,
        gzip: settings.gzip,
        most,
        text,
        cluster: Mutex::default(),
    };
    Ok(Built::new(Arc::new(sink), limits))
}

fn login(section: &Section, settings: &Settings) -> Result<Option<Login>, Problem> {
    let told = |name: &str, message: &str, help: &str| {
        Err(Problem::new(format!("{}.{name}", section.key), message).help(help))
    };
    let Some(mechanism) = settings.sasl else {
        return match (&settings.user, &settings.password) {
            (None, None) => Ok(None),
            _ => told(
                "user",
                "needs sasl",
                "write sasl = \"scram-sha-512\", or what the brokers want",
            ),
        };
    };
    let way = match mechanism {
        Mechanism::Plain => Sasl::Plain,
        Mechanism::Scram256 => Sasl::Scram(Hash::Sha256),
        Mechanism::Scram512 => Sasl::Scram(Hash::Sha512),
    };
    match (&settings.user, &settings.password) {
        (Some(user), Some(password)) => {
            Ok(Some(Login { way, user: user.clone(), password: password.clone() }))
        }
        _ => told("sasl", "needs user and password", "add them"),
    }
}

struct Kafka {
    route: Route,
    key: Key,
    gzip: bool,
    /// Largest batch.
    most: usize,
    text: Text,
    cluster: Mutex<Cluster>,
}

/// Some pieces for one partition, by their numbers, with their records.
struct Chunk {
    partition: i32,
    pieces: Vec<usize>,
    bytes: usize,
}

impl Kafka {
    fn key(&self, piece: &Piece) -> String {
        match self.key {
            Key::Incident => piece.key(),
            Key::Event => piece.id.to_string(),
        }
    }

    /// The `index`th record of a batch.
    fn record(&self, piece: &Piece, index: usize) -> Vec<u8> {
        let (key, id) = (self.key(piece), piece.id.to_string());
        let kind = if piece.bytes.starts_with(b"{") { "application/json" } else { "text/plain" };
        let headers = [("event-id", &*id), ("content-type", kind)];
        codec::record(&Record { key: &key, value: &piece.bytes, headers: &headers }, index)
    }

    /// The pieces that are `wanted`, by partition, in order, each chunk within the largest batch.
    fn chunks(&self, pieces: &[Piece], wanted: &[usize], count: usize) -> VecDeque<Chunk> {
        let (mut chunks, mut open) = (VecDeque::new(), BTreeMap::<i32, Chunk>::new());
        for &index in wanted {
            let piece = &pieces[index];
            let at = codec::partition(self.key(piece).as_bytes(), count);
            let partition = i32::try_from(at).unwrap_or(0);
            let bytes = self.record(piece, index).len();
            let chunk = open.entry(partition).or_insert_with(|| empty(partition));
            if !chunk.pieces.is_empty() && codec::batch_size(chunk.bytes + bytes) > self.most {
                chunks.push_back(std::mem::replace(chunk, empty(partition)));
            }
            chunk.pieces.push(index);
            chunk.bytes += bytes;
        }
        chunks.extend(open.into_values());
        chunks
    }

    async fn published(&self, pieces: &[Piece], now: Timestamp) -> Result<Outcome, Fault> {
        let mut cluster = self.cluster.lock().await;
        let route = &self.route;
        let clock = tokio::time::Instant::now();
        cluster.may_send(clock)?;
        let topic = cluster.topic(route, clock).await?;
        let mut stuck: BTreeMap<i32, Fault> = BTreeMap::new();
        for partition in cluster.sequences.in_doubt() {
            if let Err(fault) = cluster.settle(route, &topic, partition).await {
                stuck.insert(partition, fault);
            }
        }
        cluster.identify(route).await?;
        let wanted: Vec<usize> =
            (0..pieces.len()).filter(|index| !cluster.sequences.knows(pieces[*index].id)).collect();
        let mut faults: Vec<Option<Fault>> = vec![None; pieces.len()];
        let mut reply = Reply::default();
        let mut chunks = self.chunks(pieces, &wanted, topic.leaders.len());
        while let Some(chunk) = chunks.pop_front() {
            if let Some(fault) = stuck.get(&chunk.partition) {
                chunk.pieces.iter().for_each(|index| faults[*index] = Some(fault.clone()));
                continue;
            }
            let batch = self.batch(&cluster, pieces, &chunk, now)?;
            match cluster.store(route, &topic, batch).await {
                Ok(offset) => reply.id = Some(format!("{}/{offset}", chunk.partition)),
                // Not all of them need be to blame.
                Err(fault) if is_theirs(fault.cause) && chunk.pieces.len() > 1 => {
                    let (left, right) = halves(chunk);
                    chunks.push_front(right);
                    chunks.push_front(left);
                }
                Err(fault) => {
                    chunk.pieces.iter().for_each(|index| faults[*index] = Some(fault.clone()));
                    if !is_theirs(fault.cause) {
                        stuck.insert(chunk.partition, fault);
                    }
                }
            }
        }
        Ok(tally(reply, faults))
    }

    fn batch(
        &self,
        cluster: &Cluster,
        pieces: &[Piece],
        chunk: &Chunk,
        now: Timestamp,
    ) -> Result<Batch, Fault> {
        let partition = chunk.partition;
        let chosen = || chunk.pieces.iter().map(|index| &pieces[*index]);
        let records: Vec<Vec<u8>> =
            chosen().enumerate().map(|(index, piece)| self.record(piece, index)).collect();
        let sender = cluster.sequences.sender(partition);
        let bytes = codec::batch(&records, sender, now.as_millisecond(), self.gzip)
            .map_err(|error| Fault::new(Cause::Down, format!("cannot compress: {error}")))?;
        Ok(Batch { partition, ids: chosen().map(|piece| piece.id).collect(), bytes })
    }
}

fn empty(partition: i32) -> Chunk {
    Chunk { partition, pieces: Vec::new(), bytes: 0 }
}

fn halves(mut chunk: Chunk) -> (Chunk, Chunk) {
    let pieces = chunk.pieces.split_off(chunk.pieces.len() / 2);
    let right = Chunk { partition: chunk.partition, pieces, bytes: 0 };
    (chunk, right)
}

/// Whether the events may be to blame, rather than the destination.
fn is_theirs(cause: Cause) -> bool {
    matches!(cause, Cause::TooLarge | Cause::Refused)
}

#[async_trait]
impl Sink for Kafka {
    fn encode(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault> {
        self.text.write(event, room)
    }

    async fn send(&self, pieces: &[Piece], now: Timestamp) -> Outcome {
        self.published(pieces, now).await.unwrap_or_else(Outcome::Failed)
    }

    fn preview(&self, pieces: &[Piece]) -> Option<Preview> {
        let key = |piece: &Piece| ("key".to_owned(), self.key(piece));
        Some(Preview {
            method: format!("produce {}", self.route.topic),
            url: self.route.dial.servers.first().map(ToString::to_string).unwrap_or_default(),
            headers: pieces.iter().map(key).collect(),
            body: joined(pieces),
            body_masked: false,
        })
    }

    async fn probe(&self, _: Timestamp) -> Result<Probe, Fault> {
        let mut cluster = self.cluster.lock().await;
        let clock = tokio::time::Instant::now();
        // Who sees the topic need not be allowed to write to it.
        cluster.forget();
        cluster.topic(&self.route, clock).await.map(|_| Probe::ReachableOnly)
    }

    async fn close(&self, deadline: Instant) {
        if let Ok(mut cluster) = tokio::time::timeout_at(deadline.into(), self.cluster.lock()).await
        {
            cluster.hang_up();
        }
    }
}
