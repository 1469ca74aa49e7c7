//! From a body to stored events and the answer about them.
//!
//! Guarantees: all fresh events of a request are appended as one group; duplicates are answered
//! with the event they repeat; a waiter is registered before the append, so it misses nothing;
//! counters move only after the append. It does not know who sent the body.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::web::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::deliveries::{self, DeliveryView};
use super::door::Door;
use super::ingress::{Ingress, Refused, Wait};
use crate::core::delivery::{Fates, Watch};
use crate::core::duplicates::{Claim, Ticket};
use crate::core::event::{Draft, DuplicateKey, Event, EventId, Position};
use crate::core::log::Refusal;
use crate::core::route::Choice;

/// The answer to an accepted request.
#[derive(Debug, Serialize)]
pub struct Accepted {
    /// Events stored by this request.
    accepted: usize,
    /// Events that repeat one stored before.
    duplicates: usize,
    /// With `?wait`: whether every sink has settled every event.
    #[serde(skip_serializing_if = "Option::is_none")]
    settled: Option<bool>,
    /// Something the sender should know.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// One entry an event, in the order of the request.
    events: Vec<EventView>,
}

#[derive(Debug, Serialize)]
struct EventView {
    id: EventId,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate_of: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<Vec<DeliveryView>>,
}

/// What is kept of an event while its draft belongs to the log.
struct Arrival {
    id: EventId,
    repeats: Option<EventId>,
    choice: Choice,
    bytes: usize,
    unknown: Vec<&'static str>,
}

impl Arrival {
    /// The id under which its deliveries are noted.
    fn stored_as(&self) -> EventId {
        self.repeats.unwrap_or(self.id)
    }
}

impl Ingress {
    /// Split, decode, deduplicate, store, answer.
    pub(super) async fn store(
        &self,
        door: &Door,
        body: Bytes,
        key: Option<Vec<u8>>,
        wait: Wait,
        sender: Option<IpAddr>,
    ) -> Result<Accepted, Refused> {
        let now = (self.engine.clock)();
        let pieces = self.pieces(door, &body, sender).await?;
        let draft = |piece| Draft::new(EventId::fresh(), now, door.source.clone(), piece);
        let mut drafts: Vec<Draft> = pieces.into_iter().map(draft).collect();
        let (known, ticket) = self.claim(door, &mut drafts, key.as_deref()).await;
        let (fresh, arrivals) = self.route(drafts, known);
        let watch = self.watch(&wait, &arrivals);
        self.append(door, fresh, ticket).await?;
        self.count(door, &arrivals);
        self.answer(arrivals, wait, watch).await
    }

    /// Give the drafts their duplicate keys and claim them; for each the event it repeats, if any.
    async fn claim(
        &self,
        door: &Door,
        drafts: &mut [Draft],
        key: Option<&[u8]>,
    ) -> (Vec<Option<EventId>>, Option<Ticket>) {
        // A sender that names its requests is believed; otherwise the body is the name, where wanted.
        if key.is_none() && !door.dedupe {
            return (vec![None; drafts.len()], None);
        }
        for (index, draft) in drafts.iter_mut().enumerate() {
            draft.key = Some(duplicate_key(&door.source, key, index, &draft.body));
        }
        let wanted: Vec<_> =
            drafts.iter().filter_map(|draft| Some((draft.key?, draft.id))).collect();
        loop {
            match self.duplicates.claim(&wanted, (self.engine.clock)()) {
                Claim::Ours(known, ticket) => return (known, Some(ticket)),
                // The other request is done when its sender goes, which shows as an error.
                Claim::Wait(mut pending) => while pending.changed().await.is_ok() {},
            }
        }
    }

    /// Ask the routing table, and part the fresh drafts from what is known already.
    fn route(&self, drafts: Vec<Draft>, known: Vec<Option<EventId>>) -> (Vec<Draft>, Vec<Arrival>) {
        let select = self.engine.rules.load().select.clone();
        let (mut fresh, mut arrivals) =
            (Vec::with_capacity(drafts.len()), Vec::with_capacity(drafts.len()));
        for (draft, repeats) in drafts.into_iter().zip(known) {
            let choice = select.choose(&draft);
            let (id, bytes, unknown) =
                (draft.id, draft.body.len(), draft.finding().unknown.clone());
            arrivals.push(Arrival { id, repeats, choice, bytes, unknown });
            if repeats.is_none() {
                fresh.push(draft);
            }
        }
        (fresh, arrivals)
    }

    fn watch(&self, wait: &Wait, arrivals: &[Arrival]) -> Option<Watch> {
        wait.limit?;
        let ids: Vec<EventId> = arrivals.iter().map(Arrival::stored_as).collect();
        self.engine.fates.watch(&ids)
    }

    async fn append(
        &self,
        door: &Door,
        fresh: Vec<Draft>,
        ticket: Option<Ticket>,
    ) -> Result<(), Refused> {
        if fresh.is_empty() {
            return Ok(());
        }
        let spare: Vec<_> = fresh.iter().map(|d| (d.id, d.received, d.body.clone())).collect();
        match self.engine.log.append(fresh).await {
            Ok(_) => {
                if let Some(ticket) = ticket {
                    ticket.stored((self.engine.clock)());
                }
                Ok(())
            }
            Err(refusal) => {
                let events = spare.len();
                let lost_disk = matches!(refusal, Refusal::Full(_) | Refusal::Poisoned(_));
                let from_memory =
                    spare.into_iter().filter(|_| lost_disk).filter(|(id, received, body)| {
                        let draft = Draft::new(*id, *received, door.source.clone(), body.clone());
                        (self.spill)(Arc::new(Event { position: Position(0), draft }))
                    });
                let from_memory = from_memory.count();
                tracing::error!(source = %door.source, events, from_memory, error = %refusal, "not stored");
                Err(refused_by_log(&refusal))
            }
        }
    }

    fn count(&self, door: &Door, arrivals: &[Arrival]) {
        let metrics = &self.engine.metrics;
        self.heard.note(&door.source, (self.engine.clock)());
        for arrival in arrivals {
            if arrival.repeats.is_some() {
                metrics.duplicate(&door.source);
                continue;
            }
            metrics.accepted(&door.source, arrival.bytes);
            for field in &arrival.unknown {
                metrics.unknown_value(&door.source, field);
            }
            for (route, trouble) in arrival.choice.troubles() {
                metrics.route_trouble(route, *trouble);
            }
            if arrival.choice.is_empty() {
                metrics.unrouted(&door.source);
                tracing::warn!(id = %arrival.id, source = %door.source, "no route takes this event; add [unmatched] sinks = [...]");
            }
        }
    }

    /// For each arrival the sinks that had settled it before: fates do not survive a restart,
    /// so nobody would tell those who wait for a duplicate.
    async fn past(&self, arrivals: &[Arrival]) -> Vec<Vec<Arc<str>>> {
        let mut past = Vec::with_capacity(arrivals.len());
        for arrival in arrivals {
            past.push(match arrival.repeats {
                Some(first) => deliveries::past(&self.engine, first, &arrival.choice).await,
                None => Vec::new(),
            });
        }
        past
    }

    async fn answer(
        &self,
        arrivals: Vec<Arrival>,
        wait: Wait,
        watch: Option<Watch>,
    ) -> Result<Accepted, Refused> {
        let mut note = wait.note;
        let settled = match (wait.limit, watch) {
            (Some(limit), Some(watch)) => {
                let past = self.past(&arrivals).await;
                let all = |fates: &Fates| {
                    arrivals.iter().zip(&past).all(|(arrival, past)| {
                        deliveries::settled(fates, arrival.stored_as(), &arrival.choice, past)
                    })
                };
                Some(tokio::time::timeout(limit, watch.until(all)).await.is_ok())
            }
            (Some(_), None) => {
                note = Some("too many requests are waiting; this one did not".to_owned());
                None
            }
            _ => None,
        };
        let (total, repeated) =
            (arrivals.len(), arrivals.iter().filter(|a| a.repeats.is_some()).count());
        let mut events = Vec::with_capacity(total);
        for arrival in arrivals {
            let deliveries = match arrival.repeats {
                Some(first) => Some(deliveries::of_stored(&self.engine, first).await),
                None => {
                    settled.map(|_| deliveries::of(&self.engine.fates, arrival.id, &arrival.choice))
                }
            };
            events.push(EventView {
                id: arrival.stored_as(),
                duplicate_of: arrival.repeats,
                deliveries,
            });
        }
        Ok(Accepted { accepted: total - repeated, duplicates: repeated, settled, note, events })
    }
}

fn refused_by_log(refusal: &Refusal) -> Refused {
    let seconds = match refusal {
        Refusal::TooLarge { .. } => return Refused::new(413, "too_large", refusal.to_string()),
        Refusal::Busy => 1,
        Refusal::Poisoned(_) | Refusal::Closed => 5,
        Refusal::Full(_) => 30,
    };
    Refused::new(503, "log", format!("not stored: {refusal}")).later(seconds)
}

/// 16 bytes that name an event: from the sender's key where there is one, else from the body.
fn duplicate_key(source: &str, key: Option<&[u8]>, index: usize, body: &[u8]) -> DuplicateKey {
    let mut hash = Sha256::new();
    hash.update((source.len() as u64).to_le_bytes());
    hash.update(source);
    match key {
        Some(key) => {
            hash.update(b"key");
            hash.update((index as u64).to_le_bytes());
            hash.update(key);
        }
        None => {
            hash.update(b"body");
            hash.update(body);
        }
    }
    let mut short = DuplicateKey::default();
    short.copy_from_slice(&hash.finalize()[..16]);
    short
}
