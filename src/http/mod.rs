//! The doors: webhook ingress and the admin listener.
//!
//! Guarantees: nothing is answered with 2xx before the log has it; every body is read to its end;
//! listeners are bound before anything is promised. No delivery happens here, and no source, route
//! or sink is known by name.

pub mod admin;
mod admit;
mod auth;
pub mod body;
mod deliveries;
pub mod door;
mod events;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod handshake;
mod holder;
pub mod ingress;
pub mod listen;
mod sender;
mod serve;
pub mod socket;
pub mod split;
mod standing;
mod store;
pub mod tls;

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_http::{Request, Response};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Server};
use actix_web::http::ConnectionType;
use actix_web::web::{self, Data};
use actix_web::{App, HttpServer};

use self::admin::{Access, Admin};
use self::ingress::Ingress;
use self::serve::Limits;
use self::tls::Tls;

/// Idle connections are closed after this.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A request's head must arrive within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections per thread; more wait to be accepted.
const CONNECTIONS: usize = 10_000;
/// How long a stopping listener waits for requests under way.
const SHUTDOWN_SECONDS: u64 = 5;

/// Listeners of one kind: without TLS, and with.
pub struct Listeners {
    /// Without.
    pub plain: Vec<TcpListener>,
    /// With.
    pub secure: Vec<TcpListener>,
    /// The TLS of these.
    pub tls: Option<Arc<Tls>>,
}

impl Listeners {
    /// With TLS if there is any.
    pub fn one(listeners: Vec<TcpListener>, tls: Option<Arc<Tls>>) -> Self {
        match tls {
            Some(_) => Self { plain: Vec::new(), secure: listeners, tls },
            None => Self { plain: listeners, secure: Vec::new(), tls },
        }
    }
}

/// The servers of the webhook listeners. While `draining`, every answer ends its connection, so that
/// the sender comes back to whoever listens next.
pub fn webhooks(
    listeners: Listeners,
    ingress: Data<Ingress>,
    draining: Arc<AtomicBool>,
    workers: usize,
) -> std::io::Result<Vec<Server>> {
    let limits = Limits {
        workers: workers.max(1),
        connections: CONNECTIONS,
        keep_alive: KEEP_ALIVE,
        head: HEAD_TIMEOUT,
        stop_seconds: SHUTDOWN_SECONDS,
    };
    serve(listeners, limits, move || {
        let draining = draining.clone();
        App::new()
            .app_data(ingress.clone())
            .wrap_fn(move |request, service| {
                let (draining, answer) = (draining.clone(), service.call(request));
                async move {
                    let mut answer = answer.await?;
                    if draining.load(Ordering::Relaxed) {
                        answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
                    }
                    Ok(answer)
                }
            })
            .default_service(web::to(ingress::webhook))
    })
}

/// Limits of everything but webhooks.
const ADMIN: Limits = Limits {
    workers: 1,
    connections: 1_000,
    keep_alive: KEEP_ALIVE,
    head: HEAD_TIMEOUT,
    stop_seconds: 1,
};

/// The servers of the admin listener.
pub fn admin(listeners: Listeners, admin: Data<Admin>) -> std::io::Result<Vec<Server>> {
    serve(listeners, ADMIN, move || {
        App::new().app_data(admin.clone()).app_data(Access::Network).configure(admin::routes)
    })
}

/// The servers of the listener that everybody may ask for metrics and health.
pub fn metrics(listeners: Listeners, admin: Data<Admin>) -> std::io::Result<Vec<Server>> {
    serve(listeners, ADMIN, move || {
        App::new().app_data(admin.clone()).configure(admin::open_routes)
    })
}

/// The server of the admin's Unix socket.
pub fn admin_socket(socket: UnixListener, admin: Data<Admin>) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new().app_data(admin.clone()).app_data(Access::Socket).configure(admin::routes)
    });
    let server = server
        .workers(ADMIN.workers)
        .keep_alive(ADMIN.keep_alive)
        .client_request_timeout(ADMIN.head)
        .max_connections(ADMIN.connections)
        .shutdown_timeout(ADMIN.stop_seconds)
        .disable_signals()
        .listen_uds(socket)?;
    Ok(server.run())
}

fn serve<F, I, S, B>(listeners: Listeners, limits: Limits, app: F) -> std::io::Result<Vec<Server>>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error>,
    S::InitError: std::fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let mut servers = Vec::new();
    if !listeners.plain.is_empty() {
        let mut server = HttpServer::new(app.clone())
            .workers(limits.workers)
            .keep_alive(limits.keep_alive)
            .client_request_timeout(limits.head)
            .max_connections(limits.connections)
            .shutdown_timeout(limits.stop_seconds)
            .disable_signals();
        for listener in listeners.plain {
            server = server.listen(listener)?;
        }
        servers.push(server.run());
    }
    if let Some(tls) = listeners.tls.filter(|_| !listeners.secure.is_empty()) {
        servers.push(serve::secure(listeners.secure, &tls, limits, app)?);
    }
    Ok(servers)
}
