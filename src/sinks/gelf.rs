//! GELF over UDP, TCP or TLS.
//!
//! Guarantees: over connections those of `socket/stream.rs`, a null byte ending each message and nothing
//! compressed, as GELF demands there; over UDP those of `socket/datagram.rs` and `socket/chunks.rs`. No
//! message is longer than the chunks it may have.

use schemars::JsonSchema;
use serde::Deserialize;

use super::socket::{self, Chunks, Connection, Endpoint, Framing, Head, Message, Packing, Way};
use super::{Built, Kind, Proof};
use crate::core::config::{ByteSize, Problem, Problems, Section};
use crate::core::sink::{Class, Idempotency};
use crate::formats;

/// GELF in the table of sinks.
pub const KIND: Kind = Kind {
    name: "gelf",
    about: "Graylog and others that read GELF, over UDP, TCP or TLS",
    sample: r#"[sinks.graylog]
type = "gelf"
address = "tcp://{{host}}" # documents: address = "tls://graylog.example:12201"
"#,
    class: Class::Siem,
    idempotency: Idempotency::None,
    formats: false,
    proof: Proof::UnverifiedFacts,
    proves: "that the bytes left, over TCP or TLS also that somebody holds the connection. GELF confirms nothing there: search in \
             Graylog for _event_id. Over HTTP (`graylog_http`) the input says that it has the message.",
    success: (0, ""),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// Graylog: System, Inputs, launch a GELF TCP input (with TLS), or GELF UDP; Logstash, Fluentd and Vector
/// have such inputs too. `graylog_http` confirms each event and is the better way where it is open.
///
/// `full_message` holds the original as text, `level` the severity as syslog has it, and what the gateway
/// has read stands in `_severity`, `_state`, `_user`, `_client_ips`, `_clusters`, `_shares`, `_files`,
/// `_incident` and others. GELF acknowledges nothing over sockets: see `resend`, and over UDP what is lost
/// on the way stays lost.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// `"udp://host:12201"`, `"tcp://host:12201"` or `"tls://host:12201"`; this port unless given.
    address: Endpoint,
    /// Longest message, before it is compressed; 64 KiB unless set, and over UDP no more than 128 chunks
    /// hold. Of a longer one first the original is shortened, and then left out, which `_shortened`
    /// says; then the rest as in `syslog`.
    max_bytes: Option<ByteSize>,
    /// Largest datagram of udp://; 1,420 bytes unless set, which networks seldom split. A longer message
    /// is sent in chunks, and one lost chunk loses it. In a network of your own 8 KB are usual.
    chunk_size: Option<ByteSize>,
    /// Compression of udp://: `"none"` unless set, `"gzip"` or `"zlib"`, which Graylog reads too; other
    /// receivers may not. It makes fewer chunks.
    compression: Option<Packing>,
    #[serde(flatten)]
    connection: Connection,
}

/// The port of Graylog's inputs.
const PORT: u16 = 12_201;
/// Longest message unless set; under every input's usual limit.
const USUAL: u64 = 64 << 10;
/// What no network splits, with its headers.
const CHUNK: u64 = 1_420;
/// Datagrams that may be configured: each must hold something, and IPv4 has a limit.
const CHUNKS: std::ops::RangeInclusive<u64> = 512..=65_507;

fn build(section: &Section) -> Result<Built, Problems> {
    let settings: Settings = socket::read(section)?;
    let way = settings.address.way;
    let mut problems = contradictions(section, &settings);
    let size = settings.chunk_size.map_or(CHUNK, |size| size.0);
    if !CHUNKS.contains(&size) {
        let told = format!("must be {} to {}", ByteSize(*CHUNKS.start()), ByteSize(*CHUNKS.end()));
        problems.push(Problem::new(format!("{}.chunk_size", section.key), told));
        return Err(problems);
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let chunks = Chunks { size, packing: settings.compression.unwrap_or_default() };
    let most = if way == Way::Udp { chunks.longest() as u64 } else { socket::MOST_BYTES };
    let max_bytes = socket::size_within(section, settings.max_bytes, USUAL.min(most), most);
    problems.extend(max_bytes.as_ref().err().cloned());
    let (Ok(max_bytes), true) = (max_bytes, problems.is_empty()) else { return Err(problems) };
    let framing = Some(Framing::Nul);
    let message = Message { head: Head::Plain, format: &formats::GELF, framing, max_bytes };
    let to = settings.address.or_port(PORT);
    match way {
        Way::Udp => socket::chunked(section, to, message, chunks),
        _ => socket::connected(section, to, settings.connection, message, Vec::new()),
    }
}

/// Keys that mean nothing to the way that was chosen.
fn contradictions(section: &Section, settings: &Settings) -> Problems {
    if settings.address.way == Way::Udp {
        return socket::meaningless(section);
    }
    let set = [
        ("chunk_size", settings.chunk_size.is_some()),
        ("compression", settings.compression.is_some_and(|packing| packing != Packing::None)),
    ];
    let told = |(name, _): (&str, bool)| {
        Problem::new(format!("{}.{name}", section.key), "is for udp:// only")
            .help("remove it: GELF has neither chunks nor compression over a connection")
    };
    set.into_iter().filter(|(_, set)| *set).map(told).collect()
}
