//! The admin side: metrics, health, dead letters, the quarantine, explanations, the journal.
//!
//! Guarantees: `/metrics`, `/healthz` and `/readyz` only read, and say nothing of any event; all else
//! answers to whoever may open the Unix socket, or has the token, and then only to a Host that is one
//! of ours and to no web page (an Origin header is refused), so that a browser on this machine cannot
//! be used against it. A wrong token is slowed like a wrong webhook's.

use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, ORIGIN, WWW_AUTHENTICATE};
use actix_web::web::{self, Data, Json, Query};
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::auth;
use super::body::{self, BodyError};
use super::events;
use super::ingress::Ingress;
use crate::core::config::Problems;
use crate::core::delivery::{Engine, Extra};
use crate::core::event::{Event, EventId, Position};
use crate::core::letters::{Labelled, Letter, Letters};
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
        .route("/-/reload", web::post().to(reload))
        .route("/api/v1/sinks/{name}/forget", web::post().to(sink_forget))
        .route("/api/v1/explain", web::post().to(explain))
        .route("/api/v1/journal", web::get().to(journal))
        .configure(events::routes)
        .route("/api/v1/dead", web::get().to(dead_list))
        .route("/api/v1/dead/replay", web::post().to(dead_replay_all))
        .route("/api/v1/dead/{number}", web::get().to(dead_show))
        .route("/api/v1/dead/{number}/replay", web::post().to(dead_replay))
        .route("/api/v1/dead/{number}/drop", web::post().to(dead_drop))
        .route("/api/v1/quarantine", web::get().to(quarantine_list))
        .route("/api/v1/quarantine/{number}", web::get().to(quarantine_show))
        .route("/api/v1/quarantine/{number}/replay", web::post().to(quarantine_replay))
        .route("/api/v1/quarantine/{number}/drop", web::post().to(quarantine_drop))
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
        "nothing here; see /metrics, /healthz, /readyz, /api/v1/dead, /api/v1/quarantine",
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

/// Which letters to list or replay.
#[derive(Debug, Deserialize)]
struct Selection {
    /// Only this sink's dead letters.
    sink: Option<String>,
    /// Only this source's quarantined bodies.
    source: Option<String>,
    /// From this number on.
    #[serde(default)]
    from: Position,
    /// At most so many, 1,000 at the most.
    limit: Option<usize>,
    /// Replay to people, too.
    #[serde(default)]
    notify: bool,
}

/// How to replay one letter.
#[derive(Debug, Deserialize)]
struct Purpose {
    /// Although people read what its sink delivers.
    #[serde(default)]
    notify: bool,
}

impl Selection {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(100).min(1_000)
    }
    fn label(&self) -> Option<&str> {
        self.sink.as_deref().or(self.source.as_deref())
    }
}

/// A letter as the API shows it; the body only where one letter is asked for.
#[derive(Serialize)]
struct View<'l, N> {
    number: Position,
    id: EventId,
    source: &'l str,
    received: crate::core::Timestamp,
    bytes: usize,
    #[serde(flatten)]
    note: &'l N,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<std::borrow::Cow<'l, str>>,
}

fn view<N>(letter: &Letter<N>, with_body: bool) -> View<'_, N> {
    View {
        number: letter.number,
        id: letter.event.id,
        source: &letter.event.source,
        received: letter.event.received,
        bytes: letter.event.body.len(),
        note: &letter.note,
        body: with_body.then(|| String::from_utf8_lossy(&letter.event.body)),
    }
}

async fn list<N>(letters: &Letters<N>, selection: &Selection) -> Answer
where
    N: Labelled + Serialize + serde::de::DeserializeOwned,
{
    let all = letters.list(selection.from, selection.label(), selection.limit()).await;
    let all = all.map_err(unreadable)?;
    let open: u64 = letters.counts().values().sum();
    let shown: Vec<_> = all.iter().map(|letter| view(letter, false)).collect();
    Ok(HttpResponse::Ok().json(json!({ "open": open, "letters": shown })))
}

async fn one<N>(letters: &Letters<N>, number: u64) -> Result<Letter<N>, Told>
where
    N: Labelled + Serialize + serde::de::DeserializeOwned,
{
    let found = letters.get(Position(number)).await.map_err(unreadable)?;
    found.ok_or_else(|| told(404, format!("there is no open letter {number}")))
}

async fn close<N>(letters: &Letters<N>, number: u64, how: &str, admin: &Admin) -> Answer
where
    N: Labelled + Serialize + serde::de::DeserializeOwned,
{
    let now = (admin.engine().clock)();
    match letters.settle(Position(number), how, now).await {
        Ok(true) => Ok(HttpResponse::Ok().json(json!({ how: number }))),
        Ok(false) => Err(told(404, format!("there is no open letter {number}"))),
        Err(refusal) => Err(told(503, refusal)),
    }
}

type Guarded = (HttpRequest, Data<Admin>);

async fn reload((request, admin): Guarded) -> Answer {
    guard(&request, &admin).await?;
    match (admin.reload)().await {
        Ok(change) => Ok(HttpResponse::Ok().json(change)),
        Err(problems) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let error = "the configuration is not used; the one before stays in force";
            Ok(HttpResponse::UnprocessableEntity()
                .json(json!({ "error": error, "problems": problems })))
        }
    }
}

async fn journal(request: HttpRequest, admin: Data<Admin>) -> Answer {
    guard(&request, &admin).await?;
    let text = admin.recent.text();
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text))
}

/// What to explain: the body as from this source, or the stored event with this id.
#[derive(Debug, Deserialize)]
struct Question {
    source: Option<String>,
    id: Option<EventId>,
}

async fn explain(
    (request, admin): Guarded,
    question: Query<Question>,
    payload: web::Payload,
) -> Answer {
    guard(&request, &admin).await?;
    let Question { source, id } = question.into_inner();
    // Holds the body's share of the budget until it is explained.
    let mut read = None;
    let asked = match id {
        Some(id) => {
            let found = admin.engine().log.find(id).await.map_err(unreadable)?;
            Asked::Event(found.ok_or_else(|| told(404, format!("the log has no event {id}")))?)
        }
        None => {
            let body = read.insert(read_body(&request, &admin, payload).await?).bytes.clone();
            Asked::Body { source, body }
        }
    };
    let answer = (admin.explain)(asked).map_err(|error| told(400, error))?;
    Ok(HttpResponse::Ok().json(answer))
}

/// Bounded and paid for like a webhook's.
async fn read_body(
    request: &HttpRequest,
    admin: &Admin,
    payload: web::Payload,
) -> Result<body::Body, Told> {
    let (ingress, settings) = (&admin.ingress, admin.ingress.settings.load_full());
    let limit = usize::try_from(settings.body_limit.0).unwrap_or(usize::MAX);
    let timeout = settings.body_timeout.0;
    let read =
        body::read(request, &mut payload.into_inner(), limit, timeout, &ingress.budget).await;
    read.map_err(|error| match error {
        BodyError::TooLarge { .. } => {
            told(413, format!("the body is larger than {}", settings.body_limit))
        }
        BodyError::Broken(error) => told(400, error),
        BodyError::Busy => told(503, "too many bodies at once; try again"),
        BodyError::Late => told(408, "the body did not arrive in time"),
    })
}

/// Delete the cursor of a sink that is not configured any more.
async fn sink_forget((request, admin): Guarded, name: web::Path<String>) -> Answer {
    guard(&request, &admin).await?;
    let log = &admin.engine().log;
    if !log.stats().deliveries.iter().any(|(known, _)| *known == **name) {
        return Err(told(404, format!("there is no cursor of a sink `{name}`")));
    }
    match log.forget(&name).await {
        Ok(()) => Ok(HttpResponse::Ok().json(json!({ "forgotten": *name }))),
        Err(LogError::Taken(_)) => Err(told(
            409,
            format!("sink `{name}` is configured; remove it from the configuration first"),
        )),
        Err(error) => Err(unreadable(error)),
    }
}

async fn dead_list(
    request: HttpRequest,
    admin: Data<Admin>,
    selection: Query<Selection>,
) -> Answer {
    guard(&request, &admin).await?;
    list(&admin.engine().dead, &selection).await
}

async fn dead_show(request: HttpRequest, admin: Data<Admin>, number: web::Path<u64>) -> Answer {
    guard(&request, &admin).await?;
    let letter = one(&admin.engine().dead, *number).await?;
    Ok(HttpResponse::Ok().json(Json(view(&letter, true))))
}

async fn dead_replay(
    (request, admin): Guarded,
    number: web::Path<u64>,
    purpose: Query<Purpose>,
) -> Answer {
    guard(&request, &admin).await?;
    let letter = one(&admin.engine().dead, *number).await?;
    let sink = letter.note.sink.clone();
    if (admin.guarded)(&sink) && !purpose.notify {
        let error = format!(
            "sink {sink} writes to people or opens tickets; to replay to them all the same, add --notify (notify=true)"
        );
        return Err(told(409, error));
    }
    match (admin.offer)(&sink, Extra::Replay { letter: letter.number, event: letter.event }) {
        Some(true) => Ok(HttpResponse::Accepted().json(json!({ "replaying": 1 }))),
        Some(false) => Err(told(503, format!("sink {sink} has enough to replay; try again later"))),
        None => Err(told(409, format!("sink {sink} is not configured any more"))),
    }
}

async fn dead_replay_all((request, admin): Guarded, selection: Query<Selection>) -> Answer {
    guard(&request, &admin).await?;
    let dead = &admin.engine().dead;
    let letters = dead.list(selection.from, selection.label(), selection.limit()).await;
    let (mut replaying, mut left, mut withheld) = (0, 0, 0);
    for letter in letters.map_err(unreadable)? {
        let sink = letter.note.sink.clone();
        if (admin.guarded)(&sink) && !selection.notify {
            withheld += 1;
            continue;
        }
        match (admin.offer)(&sink, Extra::Replay { letter: letter.number, event: letter.event }) {
            Some(true) => replaying += 1,
            _ => left += 1,
        }
    }
    let mut answer = json!({ "replaying": replaying, "left": left });
    if withheld > 0 {
        answer["withheld"] = withheld.into();
        answer["note"] =
            "people read what these sinks deliver: --notify (notify=true) replays to them, too"
                .into();
    }
    Ok(HttpResponse::Accepted().json(answer))
}

async fn dead_drop((request, admin): Guarded, number: web::Path<u64>) -> Answer {
    guard(&request, &admin).await?;
    close(&admin.engine().dead, *number, "dropped", &admin).await
}

async fn quarantine_list(
    request: HttpRequest,
    admin: Data<Admin>,
    selection: Query<Selection>,
) -> Answer {
    guard(&request, &admin).await?;
    list(&admin.ingress.quarantine, &selection).await
}

async fn quarantine_show(
    request: HttpRequest,
    admin: Data<Admin>,
    number: web::Path<u64>,
) -> Answer {
    guard(&request, &admin).await?;
    let letter = one(&admin.ingress.quarantine, *number).await?;
    Ok(HttpResponse::Ok().json(Json(view(&letter, true))))
}

async fn quarantine_replay((request, admin): Guarded, number: web::Path<u64>) -> Answer {
    guard(&request, &admin).await?;
    let letter = one(&admin.ingress.quarantine, *number).await?;
    if letter.note.truncated {
        return Err(told(409, "only its beginning was kept; it cannot be replayed"));
    }
    let stored = admin.ingress.replay(&letter.note.source, letter.event.body.clone()).await;
    let accepted = stored.map_err(|error| told(409, error))?;
    close(&admin.ingress.quarantine, *number, "replayed", &admin).await?;
    Ok(HttpResponse::Ok().json(accepted))
}

async fn quarantine_drop((request, admin): Guarded, number: web::Path<u64>) -> Answer {
    guard(&request, &admin).await?;
    close(&admin.ingress.quarantine, *number, "dropped", &admin).await
}
