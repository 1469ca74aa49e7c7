//! Sockets for sinks: one message an event over UDP, TCP or TLS, with what every such kind shares.
//!
//! Guarantees: what is encoded is what goes over the wire, frame included; a connection is used by
//! one batch at a time; every failure comes back as a [`Fault`] that names the destination. It
//! knows no vendor.

mod chunks;
mod datagram;
mod dial;
mod endpoint;
mod message;
mod stream;
mod window;
mod wire;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use chunks::{Chunks, Packing};
pub use dial::{Dial, Line};
pub use endpoint::{Endpoint, Way};
pub use message::{Framing, Head, Message};

use super::tls::{Tls, Trust};
use super::{Built, part};
use crate::core::Timestamp;
use crate::core::config::{ByteSize, Problem, Problems, Section, Span};
use crate::core::route::Shaped;
use crate::core::sink::{Fault, Limits, Outcome, Piece, Preview, Probe, Reply, Sink};
use stream::{Route, Stream};

/// Largest datagram of IPv4.
const DATAGRAM: u64 = 65_507;
/// Largest message that may be configured for a connection.
pub const MOST_BYTES: u64 = 16 << 20;
/// Smallest: what every receiver of syslog must take.
const LEAST_BYTES: u64 = 480;
/// Room for the text, at least, beside the header.
const TEXT: usize = 256;

/// How to use a connection: keys of every sink that has one.
#[derive(Deserialize, JsonSchema)]
pub struct Connection {
    /// How the receiver finds the end of a message in the stream.
    framing: Option<Framing>,
    /// How long connecting may take.
    #[serde(default = "ten_seconds")]
    connect_timeout: Span,
    /// TCP does not tell what the receiver has read. When a connection breaks, the messages of so
    /// long before are sent again on the next one (at most the last 8 MiB); when the receiver closes
    /// it in order, those of the last 10 s. The receiver may then have them twice, and after several
    /// such ends up to three times more. The journal and `siemgate send --wait` say how many were
    /// sent again. They are kept in memory: should the gateway itself end at that moment, they are
    /// lost. A receiver that closes several connections in a row within two seconds is taken for one
    /// that refuses what it is sent (a wrong `framing`, for instance), and the sink is parked. `"0s"`
    /// never sends twice, may lose what a receiver had not read when it went, and suspects nobody.
    #[serde(default = "a_minute")]
    resend: Span,
    #[serde(flatten)]
    trust: Trust,
}

fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

fn a_minute() -> Span {
    Span(Duration::from_secs(60))
}

/// Read settings that include a flattened [`Connection`].
pub fn read<T: DeserializeOwned + JsonSchema>(section: &Section) -> Result<T, Problems> {
    super::read(section, &[part::<Trust>, part::<Connection>])
}

/// The size limit of `section`, or what is wrong with it.
pub fn size(
    section: &Section,
    way: Way,
    set: Option<ByteSize>,
    usual: u64,
) -> Result<usize, Problem> {
    size_within(section, set, usual, if way == Way::Udp { DATAGRAM } else { MOST_BYTES })
}

/// The same where `most` is known.
pub fn size_within(
    section: &Section,
    set: Option<ByteSize>,
    usual: u64,
    most: u64,
) -> Result<usize, Problem> {
    let size = set.map_or(usual, |size| size.0);
    match (LEAST_BYTES..=most).contains(&size) {
        true => Ok(usize::try_from(size).unwrap_or(usize::MAX)),
        false => Err(Problem::new(
            format!("{}.max_bytes", section.key),
            format!("must be {} to {}", ByteSize(LEAST_BYTES), ByteSize(most)),
        )),
    }
}

/// A connection to `to` for messages as `head`, `format` and `max_bytes` of `message` say.
pub fn connected(
    section: &Section,
    to: Endpoint,
    connection: Connection,
    mut message: Message,
    secrets: Vec<String>,
) -> Result<Built, Problems> {
    message.framing = connection.framing.or(message.framing).or(Some(Framing::Octet));
    let tls = tls(section, to.way, &connection.trust)?;
    roomy(section, &message)?;
    let route = Route {
        section: section.key.clone(),
        to,
        tls,
        connect_timeout: connection.connect_timeout.0.max(Duration::from_millis(100)),
        resend: connection.resend.0,
    };
    Ok(built(Transport::Stream(Stream::new(route)), message, secrets))
}

/// Datagrams to `to`. `connection` is what the section says of connections: nothing.
pub fn datagrams(
    section: &Section,
    to: Endpoint,
    message: Message,
    secrets: Vec<String>,
) -> Result<Built, Problems> {
    roomy(section, &message)?;
    Ok(built(Transport::Datagram(to, None), Message { framing: None, ..message }, secrets))
}

/// The same for messages that may take several datagrams each.
pub fn chunked(
    section: &Section,
    to: Endpoint,
    message: Message,
    chunks: Chunks,
) -> Result<Built, Problems> {
    roomy(section, &message)?;
    let transport = Transport::Datagram(to, Some(chunks));
    Ok(built(transport, Message { framing: None, ..message }, Vec::new()))
}

/// Whether `key` says how to use a connection, so that it means nothing to datagrams.
pub fn is_of_connections(key: &str) -> bool {
    schemars::schema_for!(Connection).to_value()["properties"].get(key).is_some()
}

/// Keys of connections that mean nothing to datagrams.
pub fn meaningless(section: &Section) -> Problems {
    let (set, _) = section.clone().split::<Connection>();
    let told = |name: &String| {
        Problem::new(format!("{}.{name}", section.key), "has no meaning for udp://")
            .help("remove it, or write tcp:// or tls:// in the address")
    };
    set.table.keys().map(told).collect()
}

fn tls(section: &Section, way: Way, trust: &Trust) -> Result<Option<Tls>, Problems> {
    tls_named(section, "address", way, trust)
}

fn tls_named(
    section: &Section,
    address: &'static str,
    way: Way,
    trust: &Trust,
) -> Result<Option<Tls>, Problems> {
    if way == Way::Tls {
        return Tls::build(section, trust, address).map(Some);
    }
    match trust.needs_tls() {
        None => Ok(None),
        Some(name) => Err(vec![
            Problem::new(format!("{}.{name}", section.key), "has no meaning without TLS")
                .help(format!("write tls:// in {address}, or remove it")),
        ]),
    }
}

/// A header that leaves no room for an event is a mistake.
fn roomy(section: &Section, message: &Message) -> Result<(), Problems> {
    let head = message.head.longest();
    if message.max_bytes >= head + TEXT {
        return Ok(());
    }
    let told = format!("leaves no room: the header may take {head} bytes");
    let help = format!("write at least {}, or shorten hostname or structured_data", head + TEXT);
    Err(vec![Problem::new(format!("{}.max_bytes", section.key), told).help(help)])
}

fn built(transport: Transport, message: Message, secrets: Vec<String>) -> Built {
    let event_bytes = message.longest();
    let limits = Limits {
        event_bytes,
        batch_events: 200,
        batch_bytes: event_bytes.max(256 << 10),
        // One connection, one writer. Datagrams may overtake each other.
        in_flight: 1,
        ordered: matches!(transport, Transport::Stream(_)),
    };
    Built::new(std::sync::Arc::new(Socket { transport, message, secrets }), limits)
}

enum Transport {
    Stream(Stream),
    /// Each message in one, unless it is cut into chunks.
    Datagram(Endpoint, Option<Chunks>),
}

struct Socket {
    transport: Transport,
    message: Message,
    /// What structured data holds of secrets, as it stands in the header.
    secrets: Vec<String>,
}

impl Socket {
    fn to(&self) -> &Endpoint {
        match &self.transport {
            Transport::Stream(stream) => stream.to(),
            Transport::Datagram(to, _) => to,
        }
    }

    /// What goes over the wire for each piece.
    fn wire(&self, pieces: &[Piece]) -> Vec<Bytes> {
        let messages = pieces.iter().map(|piece| &piece.bytes);
        match &self.transport {
            Transport::Datagram(_, Some(chunks)) => messages.flat_map(|it| chunks.of(it)).collect(),
            _ => messages.cloned().collect(),
        }
    }
}

#[async_trait]
impl Sink for Socket {
    fn encode(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault> {
        self.message.write(event, room)
    }

    async fn send(&self, pieces: &[Piece], _: Timestamp) -> Outcome {
        let messages = self.wire(pieces);
        let sent = match &self.transport {
            Transport::Stream(stream) => stream.send(&messages).await,
            Transport::Datagram(to, _) => {
                datagram::send(to, &messages).await.map(|()| Reply::default())
            }
        };
        sent.map_or_else(Outcome::Failed, Outcome::Delivered)
    }

    fn preview(&self, pieces: &[Piece]) -> Option<Preview> {
        let plain = Bytes::from(self.wire(pieces).concat());
        let mut shown = plain.clone();
        for secret in &self.secrets {
            shown = without(&shown, secret.as_bytes());
        }
        Some(Preview {
            method: "send".into(),
            url: self.to().to_string(),
            headers: Vec::new(),
            body_masked: shown != plain,
            body: shown,
        })
    }

    async fn probe(&self, _: Timestamp) -> Result<Probe, Fault> {
        match &self.transport {
            Transport::Stream(stream) => stream.reach().await.map(|()| Probe::ReachableOnly),
            Transport::Datagram(to, _) => datagram::reach(to).await.map(|()| Probe::Unknown),
        }
    }

    async fn close(&self, deadline: Instant) {
        if let Transport::Stream(stream) = &self.transport {
            stream.close(deadline).await;
        }
    }
}

/// `bytes` with `***` for every `secret`.
fn without(bytes: &Bytes, secret: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(secret) && !secret.is_empty() {
            out.extend_from_slice(b"***");
            at += secret.len();
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out.into()
}
