//! One connection's handshake.
//!
//! Guarantees: it ends in [`LIMIT`]; one that fails is counted and told, now and then; whoever sends
//! plain HTTP is told so in plain HTTP; a port that is only knocked at is not worth a line.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::Extensions;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Tls;
use super::clients::REFUSED;
use super::told::{self, Reason};
use crate::core::Timestamp;
use crate::core::certificate::Certificate;

/// A handshake must end within this time.
const LIMIT: Duration = Duration::from_secs(10);
/// The first byte of every TLS connection.
const HANDSHAKE: u8 = 22;

/// A connection after its handshake.
pub type Stream = TlsStream<TcpStream>;

/// Names (subjectAltName) of the certificate that a connection's client has shown; it was verified.
#[derive(Clone, Debug, Default)]
pub struct Names(pub Vec<String>);

impl Names {
    /// Remember them with the connection.
    pub fn remember(connection: &Stream, with: &mut Extensions) {
        let certificates = connection.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(|all| Certificate::read(all.first()?));
        if let Some(certificate) = certificate {
            with.insert(Self(certificate.names));
        }
    }

    /// Those of the connection that `data` belongs to.
    pub fn of(data: Option<&Self>) -> &[String] {
        data.map_or(&[], |names| &names.0)
    }
}

impl Tls {
    /// Begin TLS on a connection.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(Stream, SocketAddr)> {
        let peer = stream.peer_addr()?;
        match tokio::time::timeout(LIMIT, self.handshake(stream, peer)).await {
            Ok(done) => done.map(|stream| (stream, peer)),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        }
    }

    async fn handshake(&self, mut stream: TcpStream, peer: SocketAddr) -> io::Result<Stream> {
        let mut first = [0];
        if stream.peek(&mut first).await? > 0 && first[0] != HANDSHAKE {
            self.tell(
                peer,
                Reason::Plain,
                "it speaks no TLS; its address for this gateway must begin with https://",
            );
            let body = "{\"error\":\"this port speaks TLS: use https://\",\"reason\":\"plain\"}\n";
            let answer = format!(
                "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            // What was sent must be read, or the answer may be lost with it.
            let mut sent = tokio::io::AsyncReadExt::take(stream, 1 << 20);
            tokio::io::copy(&mut sent, &mut tokio::io::sink()).await?;
            return Err(ErrorKind::InvalidData.into());
        }
        let material = self.material.load_full();
        let acceptor = TlsAcceptor::from(material.config.clone());
        let accepting = async {
            let accepted = acceptor.accept(stream).await;
            (accepted, REFUSED.with(RefCell::take))
        };
        let (accepted, refused) = REFUSED.scope(RefCell::default(), accepting).await;
        accepted.inspect_err(|error| {
            if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
                let (reason, text) =
                    told::failure(error, &material, refused.as_ref(), Timestamp::now());
                self.tell(peer, reason, &text);
            }
        })
    }

    fn tell(&self, peer: SocketAddr, reason: Reason, text: &str) {
        self.metrics.handshake_failed(self.name, reason.as_str());
        if let Some(untold) = self.quiet[reason as usize].speaks() {
            let sender = peer.ip().to_canonical();
            tracing::warn!(listener = self.name, %sender, reason = reason.as_str(), untold, "no TLS with a sender: {text}");
        }
    }
}
