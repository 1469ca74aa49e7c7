//! The doors: webhook ingress and the admin listener.
//!
//! Guarantees: nothing is answered with 2xx before the log has it; every body is read to its end;
//! listeners are bound before anything is promised. No delivery happens here, and no source, route
//! or sink is known by name.

pub mod admin;
mod admit;
mod auth;
pub mod body;
mod clock;
mod deliveries;
pub mod door;
mod events;
mod handshake;
mod holder;
pub mod ingress;
pub mod listen;
mod sender;
pub mod split;
mod store;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::{Server, Service};
use actix_web::http::ConnectionType;
use actix_web::web::{self, Data};
use actix_web::{App, HttpServer};

use self::admin::Admin;
use self::ingress::Ingress;

/// Idle connections are closed after this.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A request's head must arrive within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections per thread; more wait to be accepted.
const CONNECTIONS: usize = 10_000;
/// How long a stopping listener waits for requests under way.
const SHUTDOWN_SECONDS: u64 = 5;

/// The server of the webhook listeners. While `draining`, every answer ends its connection, so that
/// the sender comes back to whoever listens next.
pub fn webhooks(
    listeners: Vec<TcpListener>,
    ingress: Data<Ingress>,
    draining: Arc<AtomicBool>,
    workers: usize,
) -> std::io::Result<Server> {
    let mut server = HttpServer::new(move || {
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
    .workers(workers.max(1))
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(HEAD_TIMEOUT)
    .max_connections(CONNECTIONS)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .disable_signals();
    for listener in listeners {
        server = server.listen(listener)?;
    }
    Ok(server.run())
}

/// The server of the admin listener.
pub fn admin(listeners: Vec<TcpListener>, admin: Data<Admin>) -> std::io::Result<Server> {
    let mut server =
        HttpServer::new(move || App::new().app_data(admin.clone()).configure(admin::routes))
            .workers(1)
            .client_request_timeout(HEAD_TIMEOUT)
            .shutdown_timeout(1)
            .disable_signals();
    for listener in listeners {
        server = server.listen(listener)?;
    }
    Ok(server.run())
}
