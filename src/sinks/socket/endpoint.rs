//! Where a socket leads: `tcp://host:port`, `tls://host:port` or `udp://host:port`.
//!
//! Guarantees: what is accepted has a known way, a host and, where there is no usual one, a port;
//! there is no path, user or query, so nothing of it is secret. It resolves no name.

use std::borrow::Cow;
use std::fmt;

use rustls::pki_types::ServerName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _};

/// The way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One datagram a message.
    Udp,
    /// A connection.
    Tcp,
    /// An encrypted connection.
    Tls,
}

impl Way {
    fn scheme(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// A destination's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The way.
    pub way: Way,
    /// A name or an address, without brackets.
    pub host: String,
    port: Option<u16>,
}

impl Endpoint {
    /// The port, if one was given.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The same with a port where none was given.
    #[must_use]
    pub fn or_port(self, port: u16) -> Self {
        Self { port: self.port.or(Some(port)), ..self }
    }

    /// Host and port, to connect to.
    pub fn target(&self) -> (&str, u16) {
        (&self.host, self.port.unwrap_or_default())
    }

    /// Another host of the same destination, if it has a good name.
    pub fn beside(&self, host: &str, port: u16) -> Option<Self> {
        ServerName::try_from(host).ok().filter(|_| port > 0)?;
        Some(Self { way: self.way, host: host.to_owned(), port: Some(port) })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let usage = "write tcp://, tls:// or udp:// and a host with its port, such as \"tls://siem.example:6514\"";
        let bad = |what: &str| format!("{what}; {usage}");
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("is no address"))?;
        let ways = [Way::Udp, Way::Tcp, Way::Tls];
        let way = ways.into_iter().find(|way| way.scheme() == scheme);
        let way = way.ok_or_else(|| bad("begins with another word"))?;
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(|| bad("lacks a bracket"))?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let port = match port {
            "" => None,
            port => {
                let number = port.strip_prefix(':').and_then(|port| port.parse().ok());
                Some(number.filter(|port| *port > 0).ok_or_else(|| bad("has no good port"))?)
            }
        };
        // The same names that certificates may have: addresses, and words with dots.
        ServerName::try_from(host).map_err(|_| bad("has no good host"))?;
        Ok(Self { way, host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, scheme) = (&self.host, self.way.scheme());
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]")?,
            false => write!(f, "{scheme}://{host}")?,
        }
        self.port.iter().try_for_each(|port| write!(f, ":{port}"))
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Endpoint {
    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(udp|tcp|tls)://[^/?#@]+$",
            "examples": ["tls://siem.example:6514"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        for text in
            ["udp://127.0.0.1:514", "tcp://[::1]:1", "tls://siem.example", "tcp://a_b:65535"]
        {
            assert_eq!(Endpoint::parse(text).map(|it| it.to_string()), Ok(text.to_owned()));
        }
        let endpoint = Endpoint::parse("tls://h").map(|it| it.or_port(6_514));
        assert_eq!(endpoint.as_ref().map(Endpoint::target), Ok(("h", 6_514)));
    }

    #[test]
    fn what_is_none_is_told_and_not_repeated() {
        for text in [
            "hidden:514",
            "http://hidden:1",
            "tcp://",
            "tcp://:514",
            "tcp://hidden:0",
            "tcp://hidden:x",
            "tcp://hidden:65536",
            "tcp://[::1",
            "tcp://u:hidden@h:1",
            "tcp://hidden/x:1",
            "tcp://hid den:1",
        ] {
            let told = Endpoint::parse(text).unwrap_err();
            assert!(
                told.contains("tls://siem.example:6514") && !told.contains("hid"),
                "{text}: {told}"
            );
        }
    }
}
