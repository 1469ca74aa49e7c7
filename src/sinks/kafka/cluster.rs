//! A cluster as a producer sees it: who leads the topic's partitions, connections to them, and the
//! sequences of what was sent.
//!
//! Guarantees: one batch a partition is under way, and what is in doubt is settled before anything
//! else; a batch is in doubt from before its first byte leaves until it is answered, so also when the
//! caller is cancelled. A connection that failed is not used again. It retries nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::codec::{self, INIT_PRODUCER_ID, METADATA, Metadata, PRODUCE, Stored};
use super::link::{Link, Login};
use super::sequence::{Doubt, Sequences};
use super::verdict::{self, DUPLICATE};
use crate::core::event::EventId;
use crate::core::sink::{Cause, Fault};
use crate::sinks::socket::{Dial, Endpoint};

/// How long what a cluster says of a topic is believed.
const BELIEVED: Duration = Duration::from_secs(300);
/// How long a broker may wait for its replicas, in milliseconds.
const REPLICAS: i32 = 15_000;

/// How to reach it.
pub struct Route {
    /// The sink's dotted key, for advice.
    pub section: String,
    pub dial: Dial,
    pub topic: String,
    pub login: Option<Login>,
    pub idempotence: bool,
}

impl Route {
    async fn open(&self, broker: &Endpoint) -> Result<Link, Fault> {
        let open = Link::open(&self.dial, broker, self.login.as_ref(), &self.section);
        self.dial.in_time(broker, open).await
    }

    fn fault(&self, code: i16) -> Fault {
        verdict::fault(code, &self.section)
    }

    fn odd(&self, error: &io::Error) -> Fault {
        let note = format!(
            "an answer cannot be read ({error}); does {}.brokers name Kafka?",
            self.section
        );
        Fault::new(Cause::Down, note)
    }
}

/// What is known and open.
#[derive(Default)]
pub struct Cluster {
    pub sequences: Sequences,
    known: Option<(Arc<Metadata>, Instant)>,
    first: Option<Link>,
    server: usize,
    links: BTreeMap<i32, Link>,
    muted: Option<Instant>,
}

/// A batch for one partition.
pub struct Batch {
    pub partition: i32,
    pub ids: Vec<EventId>,
    pub bytes: Vec<u8>,
}

impl Cluster {
    /// Let go of every connection.
    pub fn hang_up(&mut self) {
        self.links.clear();
        self.first = None;
    }

    /// Ask anew what the cluster says of the topic.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// A broker that does not listen for a while is busy.
    pub fn may_send(&mut self, now: Instant) -> Result<(), Fault> {
        match self.muted.take_if(|until| *until <= now).or(self.muted) {
            Some(until) if until > now => {
                let fault = Fault::new(Cause::Busy, "its quota is used up, and it asked to wait");
                Err(fault.with_wait(Some(until - now)))
            }
            _ => Ok(()),
        }
    }

    /// Ask any of the servers that the configuration names.
    async fn ask_any(
        &mut self,
        route: &Route,
        api: codec::Api,
        question: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let servers = &route.dial.servers;
        let mut failed: Option<Fault> = None;
        for turn in 0..servers.len() {
            let at = (self.server + turn) % servers.len();
            let broker = &servers[at];
            // A kept connection may have been closed since; what is asked here may be asked again.
            if let Some(mut link) = self.first.take().filter(|link| turn == 0 && link.is_fresh()) {
                let asked = async { link.ask(api, question).await.map_err(|it| route.odd(&it)) };
                if let Ok(answer) = route.dial.in_time(broker, asked).await {
                    self.first = Some(link);
                    return Ok(answer);
                }
            }
            let asked = async {
                let mut link = route.open(broker).await?;
                let asked = link.ask(api, question).await;
                let answer = asked.map_err(|error| route.dial.fault(broker, &error))?;
                Ok((link, answer))
            };
            match route.dial.in_time(broker, asked).await {
                Ok((link, answer)) => {
                    (self.first, self.server) = (Some(link), at);
                    return Ok(answer);
                }
                // What a setting is to blame for is told before what may pass.
                Err(fault) if failed.as_ref().is_none_or(|it| it.cause != Cause::Setup) => {
                    failed = Some(fault);
                }
                Err(_) => {}
            }
        }
        let none = || Fault::new(Cause::Setup, format!("{}.brokers is empty", route.section));
        Err(failed.unwrap_or_else(none))
    }

    /// What the cluster says of the topic.
    pub async fn topic(&mut self, route: &Route, now: Instant) -> Result<Arc<Metadata>, Fault> {
        if let Some((known, since)) = &self.known
            && now.duration_since(*since) < BELIEVED
        {
            return Ok(known.clone());
        }
        self.known = None;
        let answer = self.ask_any(route, METADATA, &codec::metadata(&route.topic)).await?;
        let read = codec::read_metadata(&answer, &route.topic);
        let read = Arc::new(read.map_err(|error| route.odd(&error))?);
        match (read.error, read.leaders.len()) {
            (0, 1..) => {
                self.known = Some((read.clone(), now));
                Ok(read)
            }
            (0, 0) => Err(Fault::new(Cause::Down, "the topic has no partitions yet")),
            (code, _) => Err(route.fault(code)),
        }
    }

    /// A producer's number, where sequences are used and there is none.
    pub async fn identify(&mut self, route: &Route) -> Result<(), Fault> {
        if !route.idempotence || !self.sequences.need_producer() {
            return Ok(());
        }
        let answer = self.ask_any(route, INIT_PRODUCER_ID, &codec::init_producer_id()).await?;
        match codec::read_producer_id(&answer).map_err(|error| route.odd(&error))? {
            (0, id, epoch) => {
                self.sequences.begin(id, epoch);
                Ok(())
            }
            (code, ..) => Err(route.fault(code)),
        }
    }

    /// A connection to the leader of `partition`, taken out of its place.
    async fn leader(
        &mut self,
        route: &Route,
        topic: &Metadata,
        partition: i32,
    ) -> Result<(i32, Endpoint, Link), Fault> {
        let at = usize::try_from(partition).unwrap_or(usize::MAX);
        let node = topic.leaders.get(at).copied().unwrap_or(-1);
        let broker = topic.brokers.iter().find(|broker| broker.node == node);
        let beside = route.dial.servers.first().zip(broker);
        let Some(broker) = beside.and_then(|(first, it)| first.beside(&it.host, it.port)) else {
            self.known = None;
            return Err(Fault::new(Cause::Down, format!("partition {partition} has no leader")));
        };
        if let Some(link) = self.links.remove(&node).filter(Link::is_fresh) {
            return Ok((node, broker, link));
        }
        match route.open(&broker).await {
            Ok(link) => Ok((node, broker, link)),
            Err(fault) => {
                self.known = None;
                Err(self.advertised(route, &broker, fault))
            }
        }
    }

    /// Brokers tell under which name they want to be reached, which may be wrong from here.
    fn advertised(&self, route: &Route, broker: &Endpoint, fault: Fault) -> Fault {
        match route.dial.servers.contains(broker) {
            true => fault,
            false => {
                let note = format!(
                    "{}; so the broker advertises itself (its advertised.listeners)",
                    fault.note
                );
                Fault { note, ..fault }
            }
        }
    }

    /// Send what is in doubt for `partition` again, as it was.
    pub async fn settle(
        &mut self,
        route: &Route,
        topic: &Metadata,
        partition: i32,
    ) -> Result<(), Fault> {
        let Some(Doubt { bytes, .. }) = self.sequences.doubt(partition).cloned() else {
            return Ok(());
        };
        let leader = self.leader(route, topic, partition).await?;
        let stored = self.produce(route, partition, leader, &bytes).await?;
        match stored.error {
            0 | DUPLICATE => self.sequences.is_stored(partition, false),
            code if verdict::ends_sequence(code) => self.sequences.give_up(),
            code if verdict::is_certain(code) => self.sequences.is_not_stored(partition),
            code => return Err(route.fault(code)),
        }
        Ok(())
    }

    /// Store `batch`; its offset.
    pub async fn store(
        &mut self,
        route: &Route,
        topic: &Metadata,
        batch: Batch,
    ) -> Result<i64, Fault> {
        let Batch { partition, ids, bytes } = batch;
        let leader = self.leader(route, topic, partition).await?;
        self.sequences.sent(partition, Doubt { ids, bytes: bytes.clone() });
        let stored = self.produce(route, partition, leader, &bytes).await?;
        match stored.error {
            0 | DUPLICATE => {
                self.sequences.is_stored(partition, true);
                return Ok(stored.offset);
            }
            code if verdict::ends_sequence(code) => self.sequences.give_up(),
            code if verdict::is_certain(code) => self.sequences.is_not_stored(partition),
            _ => {}
        }
        Err(route.fault(stored.error))
    }

    async fn produce(
        &mut self,
        route: &Route,
        partition: i32,
        (node, broker, mut link): (i32, Endpoint, Link),
        batch: &[u8],
    ) -> Result<Stored, Fault> {
        let question = codec::produce(&route.topic, partition, batch, REPLICAS);
        let answer = link.ask(PRODUCE, &question).await.map_err(|error| {
            self.known = None;
            route.dial.fault(&broker, &error)
        })?;
        let stored = codec::read_produce(&answer).map_err(|error| route.odd(&error))?;
        self.links.insert(node, link);
        if stored.throttled > 0 {
            let wait =
                Duration::from_millis(u64::from(stored.throttled.unsigned_abs()).min(60_000));
            self.muted = Some(Instant::now() + wait);
        }
        if !matches!(stored.error, 0 | DUPLICATE) {
            // Another may lead now.
            self.known = None;
        }
        Ok(stored)
    }
}
