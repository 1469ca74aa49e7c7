//! Where mail goes: `smtp://host:port` or `smtps://host:port`.
//!
//! Guarantees: what is accepted has a known way and a host; there is no path, user or query, so nothing
//! of it is secret. It resolves no name.

use std::borrow::Cow;
use std::fmt;

use rustls::pki_types::ServerName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _};

/// A mail server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Encrypted from the first byte.
    pub implicit: bool,
    /// A name or an address, without brackets.
    pub host: String,
    port: Option<u16>,
}

impl Server {
    /// Host and port, to connect to; 587 for clients that log in and encrypt, 465 where that comes first.
    pub fn target(&self) -> (&str, u16) {
        (&self.host, self.port.unwrap_or(if self.implicit { 465 } else { 587 }))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let usage = "write smtp:// or smtps:// and a host, such as \"smtp://mail.example:587\"";
        let bad = |what: &str| format!("{what}; {usage}");
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("is no address"))?;
        let implicit = match scheme {
            "smtp" => false,
            "smtps" => true,
            _ => return Err(bad("begins with another word")),
        };
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
        Ok(Self { implicit, host: host.to_owned(), port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.implicit { "smtps" } else { "smtp" };
        match self.target() {
            (host, port) if host.contains(':') => write!(f, "{scheme}://[{host}]:{port}"),
            (host, port) => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Server {
    fn schema_name() -> Cow<'static, str> {
        "MailServer".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^smtps?://[^/?#@]+$",
            "examples": ["smtp://mail.example:587"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_the_usual_ports_and_mistakes_are_not_repeated() {
        for (text, whole) in [
            ("smtp://mail.example", "smtp://mail.example:587"),
            ("smtps://mail.example", "smtps://mail.example:465"),
            ("smtp://[::1]:25", "smtp://[::1]:25"),
        ] {
            assert_eq!(Server::parse(text).map(|it| it.to_string()), Ok(whole.to_owned()));
        }
        for text in [
            "hidden:25",
            "tcp://hidden:1",
            "smtp://",
            "smtp://hidden:0",
            "smtp://hidden:x",
            "smtp://u:hidden@h",
            "smtp://hidden/x",
            "smtp://[::1",
            "smtp://hid den",
        ] {
            let told = Server::parse(text).unwrap_err();
            assert!(told.contains("smtp://mail.example:587") && !told.contains("hid"), "{told}");
        }
    }
}
