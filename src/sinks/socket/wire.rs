//! One connection, plain or encrypted.
//!
//! Guarantees: a dead peer is noticed within some forty seconds, also where nothing is sent
//! (keep-alive) or acknowledged (user timeout); `look` tells a connection that the peer has closed,
//! into which a write would still succeed, and one that TLS has refused after the handshake.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::dial::secured;
use super::endpoint::Endpoint;
use crate::sinks::tls::Tls;

/// Bytes that our end holds at most: the less, the less is lost with a connection.
const SEND_BUFFER: usize = 256 << 10;
/// How long sent bytes may remain unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// How long a new connection is watched for a refusal. Receivers that know this side not close it
/// at once; with TLS 1.3 they refuse a certificate only after the handshake.
const REFUSAL: Duration = Duration::from_millis(50);
const TLS_REFUSAL: Duration = Duration::from_millis(500);
/// Reads of what a receiver says without being asked.
const READS: usize = 16;

/// An open connection.
pub enum Wire {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

/// How a connection looks.
#[derive(Debug)]
pub enum Look {
    /// Nothing speaks against it.
    Open,
    /// The peer has closed it.
    Closed,
    /// It broke, or TLS was refused.
    Broken(io::Error),
}

impl Wire {
    /// Connect, and wait a moment for a refusal.
    pub async fn dial(to: &Endpoint, tls: Option<&Tls>) -> io::Result<Self> {
        let stream = connect(to).await?;
        let (mut wire, patience) = match tls {
            None => (Self::Plain(stream), REFUSAL),
            Some(tls) => (Self::Tls(Box::new(secured(stream, to, tls).await?)), TLS_REFUSAL),
        };
        match timeout(patience, wire.read()).await {
            Ok(Ok(0)) => Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the connection was closed as soon as it was open; does the receiver allow this machine, and this way (TLS or not)?",
            )),
            Ok(Err(error)) => Err(error),
            // It talks, or it keeps quiet.
            Ok(Ok(_)) | Err(_) => Ok(wire),
        }
    }

    /// Write all of it and flush. Not to be used again if this is cancelled or fails.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Whether the peer still listens, as far as this side can know.
    pub async fn look(&mut self) -> Look {
        for _ in 0..READS {
            match SockRef::from(self.socket()).peek(&mut [MaybeUninit::uninit()]) {
                Ok(0) => return Look::Closed,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Look::Open,
                Err(error) => return Look::Broken(error),
            }
            // It is there; with TLS it may be nothing for us, such as a ticket.
            match timeout(REFUSAL, self.read()).await {
                Ok(Ok(0)) => return Look::Closed,
                Ok(Err(error)) => return Look::Broken(error),
                Ok(Ok(_)) | Err(_) => {}
            }
        }
        Look::Open
    }

    /// Say that nothing more comes.
    pub async fn close(&mut self) {
        // Unread bytes would make the end a reset, which takes with it what is on its way.
        let _ = self.look().await;
        let _ = match self {
            Self::Plain(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
        };
    }

    async fn read(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 1_024];
        match self {
            Self::Plain(stream) => stream.read(&mut bytes).await,
            Self::Tls(stream) => stream.read(&mut bytes).await,
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// To the first of the host's addresses that takes the connection.
pub async fn connect(to: &Endpoint) -> io::Result<TcpStream> {
    let mut failed = None;
    for address in resolve(to).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return set_up(stream),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| io::Error::other("the name has no address")))
}

/// The host's addresses.
pub async fn resolve(to: &Endpoint) -> io::Result<Vec<std::net::SocketAddr>> {
    let told = |error| io::Error::other(format!("cannot find the name {}: {error}", to.host));
    Ok(lookup_host(to.target()).await.map_err(told)?.collect())
}

fn set_up(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5))
        .with_retries(5);
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    Ok(stream)
}
