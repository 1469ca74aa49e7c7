//! A destination that speaks HTTP, as four pure functions.
//!
//! Guarantees: a kind built on this cannot forget to check a status, because it is handed the
//! default verdict and sees the body of successes only; it cannot follow redirects, retry or wait.
//! Use it where a preset cannot say it (signing, per-item verdicts, odd framing).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::verdict::verdict;
use super::{Acks, Answer, EXCHANGE, Http};
use crate::core::Timestamp;
use crate::core::route::Shaped;
use crate::core::sink::{Cause, Fault, Outcome, Piece, Preview, Probe, Reply, Sink};
use crate::sinks::auth::Auth;

/// One request.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The whole address.
    pub url: Url,
    /// Headers, beside those that every request has. Mark credentials as sensitive.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What one product makes of events and replies. No function waits or touches the network.
pub trait HttpApi: Send + Sync + 'static {
    /// One event in the product's form; the same contract as `Sink::encode`.
    fn encode(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault>;

    /// Several encoded events as one request.
    fn request(&self, pieces: &[Piece]) -> Request;

    /// The same at a time, where what may be said depends on it.
    fn request_at(&self, pieces: &[Piece], now: Timestamp) -> Request {
        let _ = now;
        self.request(pieces)
    }

    /// What must be known before anything is written: a request that changes nothing. Events of one
    /// incident are never in flight together, so nobody writes in between.
    fn lookup(&self, pieces: &[Piece]) -> Option<Request> {
        let _ = pieces;
        None
    }

    /// What follows from the answer to [`HttpApi::lookup`], which has a success status.
    fn after(&self, pieces: &[Piece], answer: &Answer) -> Next {
        let _ = answer;
        Next::Send(self.request(pieces))
    }

    /// A reply with a success status to a request of `sent` events: what it really says.
    fn accepted(&self, answer: &Answer, reply: Reply, sent: usize) -> Outcome {
        let _ = (answer, sent);
        Outcome::Delivered(reply)
    }

    /// A refusal of the default verdict: what it really says. May only know better, never forget it.
    fn refused(&self, answer: &Answer, fault: Fault, sent: usize) -> Outcome {
        let _ = (answer, sent);
        Outcome::Failed(fault)
    }

    /// How the destination confirms later what it has taken, where its answer alone is no delivery.
    fn acks(&self) -> Option<&Acks> {
        None
    }

    /// What an answer says of each piece, where it names them; the default verdict is given.
    fn judged(&self, answer: &Answer, verdict: Result<Reply, Fault>, pieces: &[Piece]) -> Outcome {
        match verdict {
            Ok(reply) => self.accepted(answer, reply, pieces.len()),
            Err(fault) => self.refused(answer, fault, pieces.len()),
        }
    }

    /// How requests prove who sends them, where that is more than a header of `request`.
    fn auth(&self) -> &Auth {
        &Auth::None
    }

    /// A request that delivers nothing.
    fn probe(&self) -> Request;

    /// What an answer to the probe proves. Any answer at all proves that something is there.
    fn probed(&self, answer: &Answer, verdict: Result<Reply, Fault>) -> Result<Probe, Fault> {
        let _ = (answer, verdict);
        Ok(Probe::ReachableOnly)
    }
}

/// What follows from a lookup.
pub enum Next {
    /// This request.
    Send(Request),
    /// Nothing more.
    Done(Outcome),
}

/// A sink made of a client and an [`HttpApi`].
pub struct ApiSink<A> {
    http: Http,
    api: A,
}

impl<A: HttpApi> ApiSink<A> {
    /// A sink that speaks `api` over `http`.
    pub fn new(http: Http, api: A) -> Self {
        Self { http, api }
    }
}

#[async_trait]
impl<A: HttpApi> Sink for ApiSink<A> {
    fn encode(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault> {
        let bytes = self.api.encode(event, room)?;
        match bytes.len() <= room {
            true => Ok(bytes),
            false => Err(Fault::new(
                Cause::TooLarge,
                format!("the event needs {} bytes and there is room for {room}", bytes.len()),
            )),
        }
    }

    async fn send(&self, pieces: &[Piece], now: Timestamp) -> Outcome {
        self.http.masks.outcome(self.tried(pieces, now).await)
    }

    fn preview(&self, pieces: &[Piece]) -> Option<Preview> {
        let mut request = self.api.request(pieces);
        for name in self.api.auth().headers() {
            let mut hidden = HeaderValue::from_static("***");
            hidden.set_sensitive(true);
            request.headers.insert(name, hidden);
        }
        Some(self.http.preview(request))
    }

    fn reaches(&self) -> Vec<(String, u16)> {
        self.http.to.clone()
    }

    async fn probe(&self, now: Timestamp) -> Result<Probe, Fault> {
        let answer = self.ask(|| self.api.probe(), "probe", now).await?;
        self.api.probed(&answer, verdict(&answer, &self.http.advice, now))
    }

    async fn close(&self, _: Instant) {
        // Nothing is buffered, and the pool goes with the client.
    }
}

impl<A: HttpApi> ApiSink<A> {
    async fn tried(&self, pieces: &[Piece], now: Timestamp) -> Outcome {
        let id = delivery_id(pieces);
        let request = match self.api.lookup(pieces) {
            None => self.api.request_at(pieces, now),
            Some(lookup) => match self.looked_up(lookup, pieces, &id, now).await {
                Next::Send(request) => request,
                Next::Done(outcome) => return outcome,
            },
        };
        match self.api.acks() {
            None => match self.ask(|| request.clone(), &id, now).await {
                Ok(answer) => self.judged(&answer, pieces, now),
                Err(fault) => Outcome::Failed(fault),
            },
            Some(acks) => self.acknowledged(acks, request, pieces, &id, now).await,
        }
    }

    fn judged(&self, answer: &Answer, pieces: &[Piece], now: Timestamp) -> Outcome {
        self.api.judged(answer, verdict(answer, &self.http.advice, now), pieces)
    }

    /// Send in a channel of its own, and ask until the destination confirms it.
    async fn acknowledged(
        &self,
        acks: &Acks,
        mut request: Request,
        pieces: &[Piece],
        id: &str,
        now: Timestamp,
    ) -> Outcome {
        let channel = match acks.take() {
            Ok(channel) => channel,
            Err(fault) => return Outcome::Failed(fault),
        };
        request.headers.insert(acks.channel.clone(), channel.clone());
        let answer = match self.ask(|| request.clone(), id, now).await {
            Ok(answer) => answer,
            Err(fault) => return Outcome::Failed(fault),
        };
        let reply = match self.judged(&answer, pieces, now) {
            Outcome::Delivered(reply) => reply,
            Outcome::Partly { reply, faults } => return unconfirmed(reply, faults, pieces.len()),
            failed => return failed,
        };
        let Some(ack) = acks.id(&answer) else {
            let section = &self.http.advice.section;
            let note = format!(
                "{}: the answer has no id to ask about: acknowledgement is off at the destination; switch it on there, or off in {section}",
                answer.status
            );
            return Outcome::Failed(Fault::new(Cause::Setup, note).with_reply(reply));
        };
        let confirmed = self.confirmed(acks, &ack, &channel, id, now);
        match tokio::time::timeout(acks.patience, confirmed).await {
            Ok(Ok(())) => {
                acks.give_back(channel);
                Outcome::Delivered(reply)
            }
            Ok(Err(fault)) => Outcome::Failed(fault),
            Err(_) => Outcome::Failed(acks.missing(&ack).with_reply(reply)),
        }
    }

    /// Ask until it is confirmed. An answer that cannot become a yes ends it; trouble on the way does not.
    async fn confirmed(
        &self,
        acks: &Acks,
        ack: &Value,
        channel: &HeaderValue,
        id: &str,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let mut question = acks.question(ack);
        question.headers.insert(acks.channel.clone(), channel.clone());
        let mut wait = Duration::ZERO;
        loop {
            wait = acks.wait(wait);
            tokio::time::sleep(wait).await;
            let Ok(answer) = self.ask(|| question.clone(), id, now).await else { continue };
            match verdict(&answer, &self.http.advice, now) {
                Ok(_) if acks.confirms(&answer, ack) => return Ok(()),
                Err(fault) if matches!(fault.cause, Cause::Setup | Cause::Refused) => {
                    let note = format!(
                        "taken, but the question whether it is indexed is refused: {}",
                        fault.note
                    );
                    return Err(Fault { cause: Cause::Setup, note, ..fault });
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    async fn looked_up(&self, lookup: Request, pieces: &[Piece], id: &str, now: Timestamp) -> Next {
        let answer = match self.ask(|| lookup.clone(), id, now).await {
            Ok(answer) => answer,
            Err(fault) => return Next::Done(Outcome::Failed(fault)),
        };
        match verdict(&answer, &self.http.advice, now) {
            Ok(_) => self.api.after(pieces, &answer),
            Err(fault) => Next::Done(self.api.refused(&answer, fault, pieces.len())),
        }
    }

    /// One exchange; a second one only where credentials that were fetched have run out early.
    async fn ask(
        &self,
        request: impl Fn() -> Request,
        id: &str,
        now: Timestamp,
    ) -> Result<Answer, Fault> {
        let answer = self.exchange(request(), id, now).await?;
        match answer.status {
            401 if self.api.auth().renew(now).await => self.exchange(request(), id, now).await,
            _ => Ok(answer),
        }
    }

    async fn exchange(
        &self,
        mut request: Request,
        id: &str,
        now: Timestamp,
    ) -> Result<Answer, Fault> {
        self.api.auth().authorize(&self.http, &mut request, id, now).await?;
        let exchange = self.http.exchange(request);
        match self.api.acks() {
            // The worker sees to it.
            None => exchange.await,
            Some(_) => tokio::time::timeout(EXCHANGE, exchange).await.unwrap_or_else(|_| {
                let note = format!("no answer within {} s", EXCHANGE.as_secs());
                Err(Fault::new(Cause::Down, note))
            }),
        }
    }
}

/// What is not at fault was taken, but nothing will ever confirm it: that is sent again.
fn unconfirmed(reply: Reply, faults: Vec<(usize, Fault)>, sent: usize) -> Outcome {
    let mut all: BTreeMap<usize, Fault> = (0..sent)
        .map(|index| {
            (index, Fault::new(Cause::Busy, "nothing confirms it, because of another one"))
        })
        .collect();
    all.extend(faults);
    Outcome::Partly { reply, faults: all.into_iter().collect() }
}

/// A name for these events together, which is the same when they are sent again.
pub fn delivery_id(pieces: &[Piece]) -> String {
    match pieces {
        [piece] => piece.id.to_string(),
        pieces => {
            let mut hash = Sha256::new();
            pieces.iter().for_each(|piece| hash.update(piece.id.as_bytes()));
            let hash = hash.finalize();
            hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()
        }
    }
}
