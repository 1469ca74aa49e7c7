//! A sink over UDP: one datagram a message.
//!
//! Guarantees: best effort and nothing more. A datagram that cannot leave, or whose refusal (ICMP)
//! comes within a moment, is a fault; one that is lost on the way is lost, and nobody is told.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::endpoint::Endpoint;
use super::wire::resolve;
use crate::core::sink::{Cause, Fault};

/// How long a refusal is waited for: longer than a round trip in one site.
const REFUSAL: Duration = Duration::from_millis(10);

/// Send each message as a datagram to `to`.
pub async fn send(to: &Endpoint, messages: &[Bytes]) -> Result<(), Fault> {
    let socket = open(to).await.map_err(|error| fault(to, &error))?;
    for message in messages {
        socket.send(message).await.map_err(|error| fault(to, &error))?;
    }
    match timeout(REFUSAL, socket.recv(&mut [0; 16])).await {
        Ok(Err(error)) => Err(fault(to, &error)),
        // Silence, which is all that UDP offers.
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// Whether the name is known and there is a way; no more can be found out without sending.
pub async fn reach(to: &Endpoint) -> Result<(), Fault> {
    open(to).await.map(drop).map_err(|error| fault(to, &error))
}

/// A socket of its own for each batch: the name is looked up anew, and nothing is left behind.
async fn open(to: &Endpoint) -> io::Result<UdpSocket> {
    let address = resolve(to).await?.into_iter().next();
    let address = address.ok_or_else(|| io::Error::other("the name has no address"))?;
    let from: SocketAddr = match address.is_ipv4() {
        true => (Ipv4Addr::UNSPECIFIED, 0).into(),
        false => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from).await?;
    socket.connect(address).await?;
    Ok(socket)
}

fn fault(to: &Endpoint, error: &io::Error) -> Fault {
    let (cause, note) = match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::ConnectionRefused, _) => (
            Cause::Down,
            "nothing listens on this port; the datagrams are lost and will be sent again"
                .to_owned(),
        ),
        (_, Some(code)) if code == Errno::MSGSIZE.raw_os_error() => (
            Cause::TooLarge,
            "the datagram is too large for the network; lower max_bytes".to_owned(),
        ),
        _ => (Cause::Down, error.to_string()),
    };
    Fault::new(cause, format!("{to}: {note}"))
}
