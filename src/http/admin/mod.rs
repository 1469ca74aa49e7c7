//! The admin side: who may ask, metrics, health; the rest is in the files beside it.
//!
//! Guarantees: `/metrics`, `/healthz` and `/readyz` only read, and say nothing of any event; all else
//! answers to whoever may open the Unix socket, or has the token, and then only to a Host that is one
//! of ours and to no web page (an Origin header is refused), so that a browser on this machine cannot
//! be used against it. A wrong token is slowed like a wrong webhook's.

mod books;
mod dead;
mod letters;
mod replay;
mod steer;

use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, ORIGIN, WWW_AUTHENTICATE};
use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use futures_util::future::BoxFuture;
use serde_json::json;

use super::auth;
use super::events;
use super::ingress::Ingress;
use crate::core::config::Problems;
use crate::core::delivery::{Engine, Extra};
use crate::core::event::Event;
use crate::core::log::LogError;
use crate::core::metrics::Facts;
use crate::core::recent::Recent;

/// Hands an event to the worker of a sink: `None` without such a sink, false when it is full.
pub type Offer = Arc<dyn Fn(&str, Extra) -> Option<bool> + Send + Sync>;

/// Reads the configuration again: what changed, or every problem.
pub type Reload =
    Arc<dyn Fn() -> BoxFuture<'static, Result<serde_json::Value, Problems>> + Send + Sync>;

/// What to explain.
pub enum Asked {
    /// A body as a sender would post it, to this source (or to the only one).
    Body {
        /// Name of the source.
        source: Option<String>,
        /// The body.
        body: web::Bytes,
    },
    /// An event of the log.
    Event(Arc<Event>),
}

/// Says what becomes of an event, or why it is none.
pub type Explain = Arc<dyn Fn(Asked) -> Result<serde_json::Value, String> + Send + Sync>;

/// Gives an event another body, or says why it cannot.
pub type Mend = Box<dyn Fn(&Event) -> Result<web::Bytes, String> + Send + Sync>;

/// Compiles the program of a replay.
pub type Fix = Arc<dyn Fn(&str) -> Result<Mend, Problems> + Send + Sync>;

/// What the admin listener serves from.
pub struct Admin {
    /// The webhook side, for replays from the quarantine.
    pub ingress: Data<Ingress>,
    /// The way to the workers.
    pub offer: Offer,
    /// Whether people read what a sink delivers: old events reach them only on purpose.
    pub guarded: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Why the gateway is not ready, if it is not.
    pub not_ready: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// Reload.
    pub reload: Reload,
    /// Explain.
    pub explain: Explain,
    /// Compile a fix.
    pub fix: Fix,
    /// The newest lines of the journal.
    pub recent: Recent,
    /// Names and addresses, with the port, that the listener at `server.admin` may be called by.
    pub hosts: Vec<String>,
    /// Its address.
    pub address: SocketAddr,
    /// Where to ask instead of there.
    pub instead: String,
}

impl Admin {
    /// Whether `host` is one of ours. On an address that stands for all of the machine's, any of
    /// these will do: a page that was lured here comes by a name.
    fn is_called(&self, host: &str) -> bool {
        let numeric = || host.parse::<SocketAddr>().ok();
        self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
            || (self.address.ip().is_unspecified()
                && numeric().is_some_and(|called| called.port() == self.address.port()))
    }

    fn engine(&self) -> &Engine {
        &self.ingress.engine
    }
}

/// The routes of a listener that everybody may ask.
pub fn open_routes(config: &mut web::ServiceConfig) {
    read_only(config);
    config.default_service(web::to(nothing_else));
}

fn read_only(config: &mut web::ServiceConfig) {
    config
        .route("/metrics", web::get().to(metrics))
        .route("/healthz", web::get().to(healthz))
        .route("/readyz", web::get().to(readyz));
}

/// The routes of the admin listener and its socket.
pub fn routes(config: &mut web::ServiceConfig) {
    read_only(config);
    config
        .configure(steer::routes)
        .configure(events::routes)
        .configure(dead::routes)
        .configure(letters::routes)
        .configure(replay::routes)
        .configure(books::routes)
        .default_service(web::to(nothing));
}

/// An answer or a refusal.
pub(super) type Answer = Result<HttpResponse, Told>;

/// A refusal, with what to tell.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(super) struct Told {
    status: StatusCode,
    error: String,
}

impl ResponseError for Told {
    fn status_code(&self) -> StatusCode {
        self.status
    }
    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"siemgate\""));
        }
        response.json(json!({ "error": self.error }))
    }
}

pub(super) fn told(status: u16, error: impl std::fmt::Display) -> Told {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Told { status, error: error.to_string() }
}

pub(super) fn unreadable(error: LogError) -> Told {
    told(500, error)
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Through the Unix socket: the file system has judged.
    Socket,
    /// From anywhere.
    Network,
}

/// Refuse what may not see events or steer.
pub(super) async fn guard(request: &HttpRequest, admin: &Admin) -> Result<(), Told> {
    if request.headers().contains_key(ORIGIN) {
        return Err(told(403, "requests from web pages are refused"));
    }
    if request.app_data() == Some(&Access::Socket) {
        return Ok(());
    }
    let host = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let host = host.unwrap_or_default();
    if !admin.is_called(host) {
        let known = admin.hosts.join(" or ");
        let error = format!("Host `{host}` is not this listener; call it by {known}");
        return Err(told(403, error));
    }
    let settings = admin.ingress.settings.load_full();
    let Some(token) = &settings.admin_token else {
        return Err(told(403, format!("{}; or set server.admin_token", admin.instead)));
    };
    if auth::has_bearer(request.headers(), token) {
        return Ok(());
    }
    let slowed = match request.peer_addr() {
        Some(peer) => admin.ingress.hold(peer.ip()).await,
        None => false,
    };
    match slowed {
        true => Err(told(429, "too many wrong tokens from this address; try again later")),
        false => {
            let error =
                "the token is missing or wrong: send Authorization: Bearer with server.admin_token";
            Err(told(401, format!("{error}; {}", admin.instead)))
        }
    }
}

async fn nothing() -> Answer {
    Err(told(
        404,
        "nothing here; see /metrics, /healthz, /readyz, /api/v1/events, /api/v1/ledger, /api/v1/report, /api/v1/dead, /api/v1/quarantine",
    ))
}

async fn nothing_else() -> Answer {
    Err(told(404, "nothing here but /metrics, /healthz and /readyz"))
}

async fn metrics(admin: Data<Admin>) -> impl Responder {
    let engine = admin.engine();
    let now = (engine.clock)();
    let text = engine.metrics.render(&Facts {
        log: &engine.log.stats(),
        dead: &engine.dead.counts(),
        quarantine: &admin.ingress.quarantine.counts(),
        silences: &admin.ingress.heard.silences(now),
        now,
    });
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}

async fn healthz() -> impl Responder {
    HttpResponse::Ok().json(json!({ "status": "alive" }))
}

async fn readyz(admin: Data<Admin>) -> impl Responder {
    match (admin.not_ready)() {
        None => HttpResponse::Ok().json(json!({ "status": "ready" })),
        Some(reason) => HttpResponse::ServiceUnavailable()
            .json(json!({ "status": "not ready", "reason": reason })),
    }
}

/// What a handler of its own is given.
pub(super) type Guarded = (HttpRequest, Data<Admin>);
