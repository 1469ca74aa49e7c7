//! Plain sockets: each event a message over TCP or TLS, or a datagram, without a header.
//!
//! Guarantees and limits are those of `socket/stream.rs` (whole messages in order, and no
//! acknowledgement) and of `socket/datagram.rs` (best effort).

use schemars::JsonSchema;
use serde::Deserialize;

use super::socket::{self, Connection, Endpoint, Head, Message, Way};
use super::{Built, Kind, syslog};
use crate::core::config::{ByteSize, Problem, Problems, Section};
use crate::formats::Named;

/// TCP in the table of sinks.
pub const TCP: Kind = Kind {
    name: "tcp",
    about: "A TCP or TLS socket, one message an event: JSON, CEF, LEEF or CSV",
    sample: r#"[sinks.collector]
type = "tcp"
address = "tcp://{{host}}"
framing = "lf"
"#,
    proves: "that the bytes left and that somebody holds the connection. TCP confirms no event: look at the receiver.",
    schema: || schemars::schema_for!(Tcp),
    build: tcp,
    ..syslog::KIND
};

/// UDP in the table of sinks.
pub const UDP: Kind = Kind {
    name: "udp",
    about: "A UDP socket, one datagram an event: JSON, CEF, LEEF or CSV",
    sample: r#"[sinks.collector]
type = "udp"
address = "udp://{{host}}"
"#,
    proves: "that a datagram left. Whether it arrived shows at the receiver only.",
    schema: || schemars::schema_for!(Udp),
    build: udp,
    ..syslog::KIND
};

/// A plain socket, for collectors that take lines or counted messages without a syslog header
/// (Logstash, Fluentd, Vector and the like). TCP acknowledges nothing: see `resend`.
#[derive(Deserialize, JsonSchema)]
struct Tcp {
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

/// Datagrams without a header. Best effort: what is lost on the way stays lost, and only a port
/// where nothing listens is noticed. Where it may be TCP or TLS, use those.
#[derive(Deserialize, JsonSchema)]
struct Udp {
    /// `"udp://host:port"`.
    address: Endpoint,
    /// How the event is written, unless its route says so.
    #[serde(default)]
    format: Named,
    /// Longest datagram; 8 KiB unless set, 65,507 bytes at most. Above some 1,400 bytes networks
    /// split it, and lose it whole when they lose a part. Longer ones are shortened as in `syslog`.
    max_bytes: Option<ByteSize>,
}

fn tcp(section: &Section) -> Result<Built, Problems> {
    let settings: Tcp = socket::read(section)?;
    let to = settings.address;
    if to.way == Way::Udp {
        return Err(elsewhere(section, "tcp:// or tls://", "datagrams are sent by type = \"udp\""));
    }
    let message = message(section, &to, settings.format, settings.max_bytes, 64 << 10)?;
    socket::connected(section, to, settings.connection, message, Vec::new())
}

fn udp(section: &Section) -> Result<Built, Problems> {
    let settings: Udp = section.read()?;
    let to = settings.address;
    if to.way != Way::Udp {
        return Err(elsewhere(section, "udp://", "connections are made by type = \"tcp\""));
    }
    let message = message(section, &to, settings.format, settings.max_bytes, 8 << 10)?;
    socket::datagrams(section, to, message, Vec::new())
}

fn elsewhere(section: &Section, ways: &str, help: &str) -> Problems {
    let key = format!("{}.address", section.key);
    vec![Problem::new(key, format!("must begin with {ways}")).help(help)]
}

/// An event without a header. There is no usual port for these.
fn message(
    section: &Section,
    to: &Endpoint,
    format: Named,
    set: Option<ByteSize>,
    usual: u64,
) -> Result<Message, Problems> {
    if to.port().is_none() {
        let problem = Problem::new(format!("{}.address", section.key), "has no port");
        return Err(vec![problem.help(format!("write {to}:5140, with the collector's port"))]);
    }
    let max_bytes = socket::size(section, to.way, set, usual).map_err(|problem| vec![problem])?;
    Ok(Message { head: Head::Plain, format: format.0, framing: None, max_bytes })
}
