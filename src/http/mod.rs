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
pub mod ingress;
mod sender;
pub mod split;
mod store;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::Server;
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

/// Bind `addresses`; a second loopback address that the machine does not have is left out.
pub fn bind(addresses: &[SocketAddr]) -> std::io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(listener) => listeners.push(listener),
            // Machines without IPv6 still serve the default pair of loopback addresses.
            Err(error)
                if address.is_ipv6()
                    && address.ip().is_loopback()
                    && !listeners.is_empty()
                    && no_ipv6(&error) => {}
            Err(error) => {
                let hint = match error.kind() {
                    std::io::ErrorKind::AddrInUse => " (another program holds this port)",
                    std::io::ErrorKind::PermissionDenied => " (ports below 1024 need rights)",
                    _ => "",
                };
                return Err(std::io::Error::new(
                    error.kind(),
                    format!("cannot listen on {address}: {error}{hint}"),
                ));
            }
        }
    }
    Ok(listeners)
}

fn no_ipv6(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::AddrNotAvailable | std::io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(97)
}

/// The server of the webhook listeners.
pub fn webhooks(
    listeners: Vec<TcpListener>,
    ingress: Data<Ingress>,
    workers: usize,
) -> std::io::Result<Server> {
    let mut server = HttpServer::new(move || {
        App::new().app_data(ingress.clone()).default_service(web::to(ingress::webhook))
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
