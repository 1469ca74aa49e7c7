//! A destination that speaks HTTP, as four pure functions.
//!
//! Guarantees: a kind built on this cannot forget to check a status, because it is handed the
//! default verdict and sees the body of successes only; it cannot follow redirects, retry or wait.
//! Use it where a preset cannot say it (signing, per-item verdicts, odd framing).

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use sha2::{Digest, Sha256};

use super::verdict::verdict;
use super::{Answer, Http};
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
            None => self.api.request(pieces),
            Some(lookup) => match self.looked_up(lookup, pieces, &id, now).await {
                Next::Send(request) => request,
                Next::Done(outcome) => return outcome,
            },
        };
        let answer = match self.ask(|| request.clone(), &id, now).await {
            Ok(answer) => answer,
            Err(fault) => return Outcome::Failed(fault),
        };
        match verdict(&answer, &self.http.advice, now) {
            Ok(reply) => self.api.accepted(&answer, reply, pieces.len()),
            Err(fault) => self.api.refused(&answer, fault, pieces.len()),
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
        self.http.exchange(request).await
    }
}

/// A name for these events together, which is the same when they are sent again.
fn delivery_id(pieces: &[Piece]) -> String {
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
