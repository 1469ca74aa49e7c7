//! A plain TCP or TLS socket: each event a message, without a header.
//!
//! Guarantees and limits are those of `socket/stream.rs`: whole messages in order, and no
//! acknowledgement.

use schemars::JsonSchema;
use serde::Deserialize;

use super::socket::{self, Connection, Endpoint, Head, Message, Way};
use super::{Built, Kind, Proof};
use crate::core::config::{ByteSize, Problem, Problems, Section};
use crate::core::sink::{Class, Idempotency};
use crate::formats::Named;

/// TCP in the table of sinks.
pub const KIND: Kind = Kind {
    name: "tcp",
    about: "A TCP or TLS socket, one message an event: JSON, CEF, LEEF or CSV",
    sample: r#"[sinks.collector]
type = "tcp"
address = "tcp://{{host}}"
framing = "lf"
"#,
    class: Class::Siem,
    idempotency: Idempotency::None,
    formats: true,
    proof: Proof::RealServer("syslog-ng and rsyslog"),
    proves: "that the bytes left and that somebody holds the connection. TCP confirms no event: look at the receiver.",
    success: (0, ""),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// A plain socket, for collectors that take lines or counted messages without a syslog header
/// (Logstash, Fluentd, Vector and the like). TCP acknowledges nothing: see `resend`.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// `"tcp://host:port"` or `"tls://host:port"`.
    address: Endpoint,
    /// How the event is written, unless its route says so.
    #[serde(default)]
    format: Named,
    /// Longest message, frame not included; 64 KiB unless set. Longer ones are shortened as in
    /// `syslog`.
    max_bytes: Option<ByteSize>,
    #[serde(flatten)]
    connection: Connection,
}

fn build(section: &Section) -> Result<Built, Problems> {
    let settings: Settings = socket::read(section)?;
    let key = format!("{}.address", section.key);
    let to = settings.address;
    if to.way == Way::Udp {
        return Err(vec![
            Problem::new(key, "must begin with tcp:// or tls://")
                .help("datagrams are sent by type = \"udp\""),
        ]);
    }
    if to.port().is_none() {
        return Err(vec![
            Problem::new(key, "has no port")
                .help(format!("write {to}:5140, with the collector's port")),
        ]);
    }
    let max_bytes = socket::size(section, to.way, settings.max_bytes, 64 << 10)
        .map_err(|problem| vec![problem])?;
    let message =
        Message { head: Head::Plain, format: settings.format.0, framing: None, max_bytes };
    socket::connected(section, to, settings.connection, message, Vec::new())
}
