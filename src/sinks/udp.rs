//! A plain UDP socket: each event a datagram, without a header.
//!
//! Guarantees and limits are those of `socket/datagram.rs`: best effort.

use schemars::JsonSchema;
use serde::Deserialize;

use super::socket::{self, Endpoint, Head, Message, Way};
use super::{Built, Kind, Proof};
use crate::core::config::{ByteSize, Problem, Problems, Section};
use crate::core::sink::{Class, Idempotency};
use crate::formats::Named;

/// UDP in the table of sinks.
pub const KIND: Kind = Kind {
    name: "udp",
    about: "A UDP socket, one datagram an event: JSON, CEF, LEEF or CSV",
    sample: r#"[sinks.collector]
type = "udp"
address = "udp://{{host}}"
"#,
    class: Class::Siem,
    idempotency: Idempotency::None,
    formats: true,
    proof: Proof::RealServer("syslog-ng and rsyslog"),
    proves: "that a datagram left. Whether it arrived shows at the receiver only.",
    success: (0, ""),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// Datagrams without a header. Best effort: what is lost on the way stays lost, and only a port
/// where nothing listens is noticed. Where it may be TCP or TLS, use those.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// `"udp://host:port"`.
    address: Endpoint,
    /// How the event is written, unless its route says so.
    #[serde(default)]
    format: Named,
    /// Longest datagram; 8 KiB unless set, 65,507 bytes at most. Above some 1,400 bytes networks
    /// split it, and lose it whole when they lose a part. Longer ones are shortened as in `syslog`.
    max_bytes: Option<ByteSize>,
}

fn build(section: &Section) -> Result<Built, Problems> {
    let settings: Settings = section.read()?;
    let key = format!("{}.address", section.key);
    let to = settings.address;
    if to.way != Way::Udp {
        return Err(vec![
            Problem::new(key, "must begin with udp://")
                .help("connections are made by type = \"tcp\""),
        ]);
    }
    if to.port().is_none() {
        return Err(vec![
            Problem::new(key, "has no port")
                .help(format!("write {to}:5140, with the collector's port")),
        ]);
    }
    let max_bytes = socket::size(section, to.way, settings.max_bytes, 8 << 10)
        .map_err(|problem| vec![problem])?;
    let message =
        Message { head: Head::Plain, format: settings.format.0, framing: None, max_bytes };
    socket::datagrams(section, to, message, Vec::new())
}
