//! The webhook door: a request in, a durable event, an honest answer.
//!
//! Guarantees: 200 only after stable storage, for all events of the request or none; what an
//! allowed sender gets refused for is kept in the quarantine; every body is read to its end. The
//! steps are in `accept`, in order. It does not deliver: the workers read the log.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use arc_swap::ArcSwap;

use super::auth::Slowdown;
use super::body::{self, Body, BodyError, Budget};
use super::deliveries;
use super::door::{Door, Doors};
use super::handshake::{self, Greeting};
use super::sender;
use super::split::{self, Malformed};
use super::store::Accepted;
use crate::core::config::{ServerSettings, Span};
use crate::core::delivery::Engine;
use crate::core::duplicates::Duplicates;
use crate::core::event::{Draft, Event, EventId, Position};
use crate::core::heard::Heard;
use crate::core::instance;
use crate::core::letters::{Letters, QuarantineNote};
use crate::core::log::Refusal;

/// Label of requests that lead to no source.
const NOWHERE: &str = "none";

/// Takes an event that the log could not, to be delivered from memory; returns whether any sink
/// took it.
pub type Spill = Arc<dyn Fn(Arc<Event>) -> bool + Send + Sync>;

/// Everything the webhook listeners share.
pub struct Ingress {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The sources' doors; replaced as one.
    pub doors: ArcSwap<Doors>,
    /// The duplicate window.
    pub duplicates: Arc<Duplicates>,
    /// When each source was last heard.
    pub heard: Arc<Heard>,
    /// What was refused at the door.
    pub quarantine: Arc<Letters<QuarantineNote>>,
    /// Bodies in memory.
    pub budget: Budget,
    /// Who failed to authenticate lately.
    pub slowdown: Mutex<Slowdown>,
    /// Limits.
    pub settings: ArcSwap<ServerSettings>,
    /// The way out when the log cannot take an event.
    pub spill: Spill,
}

/// Why a request is refused: the whole answer.
#[derive(Debug)]
pub struct Refused {
    status: u16,
    reason: &'static str,
    error: String,
    retry_after: Option<u32>,
    challenge: Option<&'static str>,
    close: bool,
}

impl Refused {
    pub(super) fn new(status: u16, reason: &'static str, error: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            error: error.into(),
            retry_after: None,
            challenge: None,
            close: false,
        }
    }

    pub(super) fn later(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// How the sender may authenticate, for those that wait to be asked.
    pub(super) fn challenge(mut self, challenge: Option<&'static str>) -> Self {
        self.challenge = challenge;
        self
    }

    /// The connection ends with the answer.
    pub(super) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    fn response(&self) -> HttpResponse {
        let status = actix_web::http::StatusCode::from_u16(self.status).unwrap_or_default();
        let mut response = HttpResponseBuilder::new(status);
        if let Some(seconds) = self.retry_after {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if let Some(challenge) = self.challenge {
            response.insert_header((WWW_AUTHENTICATE, challenge));
        }
        if self.close {
            response.force_close();
        }
        response.json(serde_json::json!({ "error": self.error, "reason": self.reason }))
    }
}

/// The handler of every request on the webhook listeners.
pub async fn webhook(
    request: HttpRequest,
    payload: web::Payload,
    ingress: web::Data<Ingress>,
) -> HttpResponse {
    let started = Instant::now();
    let mut payload = payload.into_inner();
    let doors = ingress.doors.load_full();
    let Some(door) = doors.at(request.path()) else {
        body::drain(&mut payload).await;
        ingress.engine.metrics.refused(NOWHERE, "unknown_source");
        let hint = format!("nothing listens here; webhooks go to {}", doors.paths().join(", "));
        return Refused::new(404, "unknown_source", hint).response();
    };
    if request.method() != Method::POST {
        body::drain(&mut payload).await;
        let hint = serde_json::json!({ "error": "webhooks arrive by POST", "reason": "method" });
        return HttpResponse::MethodNotAllowed().insert_header((ALLOW, "POST")).json(hint);
    }
    let source = door.source.clone();
    let response = match accept(&ingress, door, &request, payload).await {
        Ok(answer) => answer,
        Err(refused) => {
            ingress.engine.metrics.refused(&source, refused.reason);
            tracing::warn!(%source, reason = refused.reason, status = refused.status, error = %refused.error, "refused at the door");
            refused.response()
        }
    };
    ingress.engine.metrics.answered(&source, started.elapsed());
    response
}

/// The main road, step by step.
async fn accept(
    ingress: &Ingress,
    door: &Door,
    request: &HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, Refused> {
    if request.headers().get(instance::HEADER).is_some_and(|hop| *hop == *instance::id()) {
        body::drain(&mut payload).await;
        let error = "this gateway sent this event itself: one of its sinks leads back to it";
        return Err(Refused::new(508, "loop", error));
    }
    let sender = sender::of(request, &ingress.settings.load().trusted_proxies);
    let admitted = ingress.admit(door, request, payload, sender).await?;
    let body = ingress.body(door, admitted.read, sender).await?;
    if let Some(greeting) = handshake::recognise(door.handshakes(), request.headers(), &body.bytes)
    {
        return ingress.greet(door, greeting, body.bytes.clone(), sender).await;
    }
    let wait = Wait::asked(request.query_string());
    let key = admitted.key.or_else(|| header_key(request));
    let accepted = ingress.store(door, body.bytes.clone(), key, wait, sender).await?;
    Ok(HttpResponse::Ok().json(accepted))
}

/// The sender's own idempotency key.
fn header_key(request: &HttpRequest) -> Option<Vec<u8>> {
    let headers = request.headers();
    let value = headers.get("webhook-id").or_else(|| headers.get("idempotency-key"))?;
    Some(value.as_bytes().to_vec())
}

/// How long the sender wants to wait for deliveries.
#[derive(Default)]
pub(super) struct Wait {
    pub limit: Option<Duration>,
    pub note: Option<String>,
}

impl Wait {
    fn asked(query: &str) -> Self {
        let asked = query.split('&').find_map(|pair| pair.strip_prefix("wait="));
        let Some(asked) = asked else { return Self::default() };
        match asked.parse::<Span>() {
            Ok(span) => Self { limit: Some(span.0.min(deliveries::LONGEST)), note: None },
            // A wait we cannot read is no reason to refuse an alert.
            Err(error) => Self { limit: None, note: Some(format!("wait: {error}")) },
        }
    }
}

impl Ingress {
    /// The body that was read; one that is too large goes to the quarantine.
    async fn body(
        &self,
        door: &Door,
        read: Result<Body, BodyError>,
        sender: Option<IpAddr>,
    ) -> Result<Body, Refused> {
        match read {
            Ok(body) => Ok(body),
            Err(BodyError::TooLarge { kept, truncated }) => {
                let error = format!(
                    "the body is larger than {}; send less at once or raise server.body_limit",
                    self.settings.load().body_limit
                );
                let refused = Refused::new(413, "too_large", error);
                Err(self.quarantined(door, kept, truncated, sender, refused).await)
            }
            Err(BodyError::Broken(error)) => Err(Refused::new(400, "malformed", error)),
            Err(BodyError::Busy) => {
                Err(Refused::new(503, "busy", "too many bodies at once; try again").later(1))
            }
            Err(BodyError::Late) => {
                Err(Refused::new(408, "timeout", "the body did not arrive in time"))
            }
        }
    }

    /// The events of a body; what is not a set of events goes to the quarantine.
    pub(super) async fn pieces(
        &self,
        door: &Door,
        body: &Bytes,
        sender: Option<IpAddr>,
    ) -> Result<Vec<Bytes>, Refused> {
        match split::split(body, self.settings.load().events_limit) {
            Ok(pieces) => Ok(pieces),
            Err(error) => {
                let (status, reason) = match error {
                    Malformed::TooMany { .. } => (413, "too_many"),
                    _ => (400, "malformed"),
                };
                let refused = Refused::new(status, reason, error.to_string());
                Err(self.quarantined(door, body.clone(), false, sender, refused).await)
            }
        }
    }

    pub(super) async fn quarantined(
        &self,
        door: &Door,
        body: Bytes,
        truncated: bool,
        sender: Option<IpAddr>,
        refused: Refused,
    ) -> Refused {
        let kept =
            self.keep(door, body, truncated, sender, refused.reason, refused.error.clone()).await;
        if let Err(error) = kept {
            tracing::error!(source = %door.source, %error, "a refused body could not be quarantined");
        }
        refused
    }

    /// Put a body into the quarantine; durable when this returns its number.
    async fn keep(
        &self,
        door: &Door,
        body: Bytes,
        truncated: bool,
        sender: Option<IpAddr>,
        reason: &str,
        detail: String,
    ) -> Result<Position, Refusal> {
        let note = QuarantineNote {
            source: door.source.clone(),
            reason: reason.into(),
            detail,
            peer: sender.map(|ip| ip.to_string()).unwrap_or_default(),
            truncated,
        };
        let draft = Draft::new(EventId::fresh(), (self.engine.clock)(), door.source.clone(), body);
        self.quarantine.keep(&draft, &note).await
    }

    /// Answer a greeting. One that a person must act on is kept before it is answered.
    async fn greet(
        &self,
        door: &Door,
        greeting: Greeting,
        body: Bytes,
        sender: Option<IpAddr>,
    ) -> Result<HttpResponse, Refused> {
        let (source, kind) = (&door.source, greeting.kind());
        let answer = match greeting {
            Greeting::Sns(advice) => {
                let kept = self.keep(door, body, false, sender, "handshake", advice.clone()).await;
                let number = kept.map_err(|refusal| {
                    Refused::new(503, "log", format!("not kept: {refusal}")).later(30)
                })?;
                tracing::warn!(%source, advice, "a greeting waits for a person; see: siemgate quarantine show {number}");
                serde_json::json!({ "accepted": 0, "handshake": kind, "quarantined": number })
            }
            Greeting::Slack(challenge) => serde_json::json!({ "challenge": challenge }),
            Greeting::Github => serde_json::json!({ "accepted": 0, "handshake": kind }),
        };
        self.engine.metrics.handshake(source, kind);
        tracing::info!(%source, kind = kind.as_str(), "a greeting was answered; it is no event");
        Ok(HttpResponse::Ok().json(answer))
    }

    /// Take a quarantined body through the door again, as its source's own sender would.
    pub async fn replay(&self, source: &str, body: Bytes) -> Result<Accepted, String> {
        let doors = self.doors.load_full();
        let door = doors.at(&format!("{}/{source}", super::door::WEBHOOK));
        let door = door.ok_or_else(|| format!("source {source} is not configured any more"))?;
        let settings = self.settings.load();
        if body.len() as u64 > settings.body_limit.0 {
            return Err(format!("still larger than server.body_limit ({})", settings.body_limit));
        }
        split::split(&body, settings.events_limit).map_err(|error| error.to_string())?;
        self.store(door, body, None, Wait::default(), None).await.map_err(|refused| refused.error)
    }
}
