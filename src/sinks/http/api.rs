//! A destination that speaks HTTP, as four pure functions.
//!
//! Guarantees: a kind built on this cannot forget to check a status, because it is handed the
//! default verdict and sees the body of successes only; it cannot follow redirects, retry or wait.
//! Use it where a preset cannot say it (signing, per-item verdicts, odd framing).

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};

use super::verdict::verdict;
use super::{Answer, Http};
use crate::core::Timestamp;
use crate::core::route::Shaped;
use crate::core::sink::{Cause, Fault, Outcome, Piece, Preview, Probe, Reply, Sink};

/// One request.
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

    /// A reply with a success status to a request of `sent` events: what it really says.
    fn accepted(&self, answer: &Answer, reply: Reply, sent: usize) -> Outcome {
        let _ = (answer, sent);
        Outcome::Delivered(reply)
    }

    /// A request that delivers nothing.
    fn probe(&self) -> Request;

    /// What an answer to the probe proves. Any answer at all proves that something is there.
    fn probed(&self, answer: &Answer, verdict: Result<Reply, Fault>) -> Result<Probe, Fault> {
        let _ = (answer, verdict);
        Ok(Probe::ReachableOnly)
    }
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
        let answer = match self.http.exchange(self.api.request(pieces)).await {
            Ok(answer) => answer,
            Err(fault) => return Outcome::Failed(fault),
        };
        match verdict(&answer, &self.http.advice, now) {
            Ok(reply) => self.api.accepted(&answer, reply, pieces.len()),
            Err(fault) => Outcome::Failed(fault),
        }
    }

    fn preview(&self, pieces: &[Piece]) -> Option<Preview> {
        Some(self.http.preview(self.api.request(pieces)))
    }

    async fn probe(&self, now: Timestamp) -> Result<Probe, Fault> {
        let answer = self.http.exchange(self.api.probe()).await?;
        self.api.probed(&answer, verdict(&answer, &self.http.advice, now))
    }

    async fn close(&self, _: Instant) {
        // Nothing is buffered, and the pool goes with the client.
    }
}
