//! HTTP over TLS connections: what `actix_web::HttpServer` does for plain ones.
//!
//! Guarantees: the same limits and the same orderly stop as on a plain listener. It exists because
//! the handshake is ours (`tls/accept.rs`): what fails in it must be told, and what it proved must
//! reach the request.

use std::fmt::Debug;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol, Request, Response};
use actix_server::Server;
use actix_service::{
    IntoServiceFactory, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config,
};
use actix_web::body::MessageBody;
use actix_web::dev::AppConfig;
use tokio::net::TcpStream;

use super::tls::{Names, Stream, Tls};

/// Limits of a server.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub workers: usize,
    /// Connections per thread; more wait to be accepted.
    pub connections: usize,
    pub keep_alive: Duration,
    /// A request's head must arrive within this time.
    pub head: Duration,
    /// How long a stopping server waits for requests under way.
    pub stop_seconds: u64,
}

/// A server that speaks TLS on `listeners` and hands requests to what `app` makes.
pub(super) fn secure<F, I, S, B>(
    listeners: Vec<TcpListener>,
    tls: &Arc<Tls>,
    limits: Limits,
    app: F,
) -> std::io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error>,
    S::InitError: Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as actix_service::Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let mut builder = Server::build()
        .workers(limits.workers.max(1))
        .max_concurrent_connections(limits.connections)
        .shutdown_timeout(limits.stop_seconds)
        .disable_signals();
    let ending = builder.graceful_shutdown_signal();
    for listener in listeners {
        let (tls, app, ending) = (tls.clone(), app.clone(), ending.clone());
        builder = builder.listen("tls", listener, move || {
            let (tls, ending) = (tls.clone(), ending.clone());
            let requests = app().into_factory().map_err(|error| error.into().error_response());
            let http = HttpService::build()
                .graceful_shutdown_signal(move || {
                    let ending = ending.clone();
                    async move { ending.notified().await }
                })
                .keep_alive(limits.keep_alive)
                .client_request_timeout(limits.head)
                .secure()
                .on_connect_ext(|connection: &Stream, with| Names::remember(connection, with))
                .finish(map_config(requests, |()| AppConfig::default()));
            fn_service(move |stream: TcpStream| {
                let tls = tls.clone();
                async move {
                    let (stream, peer) = tls.accept(stream).await.map_err(DispatchError::Io)?;
                    Ok((stream, Protocol::Http1, Some(peer)))
                }
            })
            .and_then(http)
        })?;
    }
    Ok(builder.run())
}
