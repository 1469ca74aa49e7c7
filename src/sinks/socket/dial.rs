//! Connections for protocols that are answered: plain or encrypted, and what their end means.
//!
//! Guarantees: what is encrypted was verified by the sink's own rules; every failure names the
//! destination. A connection that waits for an answer is no place for `wire.rs`, which must look
//! whether anybody listens.

use std::io;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::endpoint::{Endpoint, Way};
use super::wire;
use crate::core::config::{Problem, Problems, Section};
use crate::core::sink::{Cause, Fault};
use crate::sinks::tls::{Tls, Trust};

/// A connection that can be read and written.
pub trait Talk: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Talk for T {}

/// A connection, encrypted or not.
pub type Line = Box<dyn Talk>;

/// How a sink reaches its servers.
pub struct Dial {
    /// Those that the configuration names, in order.
    pub servers: Vec<Endpoint>,
    tls: Option<Tls>,
    patience: Duration,
}

impl Dial {
    /// To the servers that `section` names in its key `key`: all encrypted, or none.
    pub fn build(
        section: &Section,
        key: &'static str,
        servers: Vec<Endpoint>,
        trust: &Trust,
        patience: Duration,
    ) -> Result<Self, Problems> {
        let told = |what: &str, help: &str| {
            vec![Problem::new(format!("{}.{key}", section.key), what).help(help)]
        };
        let Some(first) = servers.first() else {
            return Err(told("names no server", "write tls:// and a host with its port"));
        };
        let way = first.way;
        if way == Way::Udp {
            return Err(told(
                "must begin with tcp:// or tls://",
                "datagrams are for type = \"udp\"",
            ));
        }
        if servers.iter().any(|server| server.way != way) {
            return Err(told(
                "has tcp:// beside tls://",
                "what is encrypted for one server would be readable on the way to the next; write one of them",
            ));
        }
        let tls = super::tls_named(section, key, way, trust)?;
        Ok(Self { servers, tls, patience: patience.max(Duration::from_millis(100)) })
    }

    /// Whether connections are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// To `server`, by TCP alone.
    pub async fn tcp(&self, server: &Endpoint) -> io::Result<TcpStream> {
        wire::connect(server).await
    }

    /// The same connection, encrypted where the configuration says so.
    pub async fn secured(&self, stream: TcpStream, server: &Endpoint) -> io::Result<Line> {
        Ok(match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(secured(stream, server, tls).await?),
        })
    }

    /// `work` with `server`, if it ends in time.
    pub async fn in_time<T>(
        &self,
        server: &Endpoint,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        timeout(self.patience, work).await.unwrap_or_else(|_| {
            Err(Fault::new(Cause::Down, format!("{server}: no connection in time")))
        })
    }

    /// What it means that reading from `server`, or writing to it, failed.
    pub fn fault(&self, server: &Endpoint, error: &io::Error) -> Fault {
        fault(server, self.tls.as_ref(), error)
    }
}

/// `stream` encrypted, by the sink's own rules.
pub async fn secured(
    stream: TcpStream,
    to: &Endpoint,
    tls: &Tls,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(to.host.clone()).map_err(io::Error::other)?;
    TlsConnector::from(tls.config().clone()).connect(name, stream).await
}

/// What it means that a connection failed.
pub fn fault(to: &Endpoint, tls: Option<&Tls>, error: &io::Error) -> Fault {
    let fault = match tls {
        Some(tls) => tls.io_fault(error),
        None => Fault::new(Cause::Down, error.to_string()),
    };
    Fault { note: format!("{to}: {}", fault.note), ..fault }
}
