//! A destination's address: kept as written, checked when the configuration is read.
//!
//! Guarantees: what is in the file is what goes on the wire, byte for byte; the path and query of
//! an address may be a secret (many webhooks are), so only scheme and host are ever shown. It is
//! never assembled from regions or tenants: vendors hand out whole addresses.

use std::borrow::Cow;
use std::fmt;

use reqwest::Url;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _};

use crate::core::config::Secret;

/// Shorter paths are no secrets, and masking them would blacken innocent replies.
const SECRET_FROM: usize = 8;

/// An `http://` or `https://` address: a string, or a reference to a secret.
#[derive(Clone)]
pub struct Address {
    url: Url,
}

impl Address {
    /// Where requests go.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The same host and port, without path and query.
    #[must_use]
    pub fn host(&self) -> Self {
        let mut url = self.url.clone();
        url.set_path("");
        url.set_query(None);
        Self { url }
    }

    /// Whether it is an `https://` address.
    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Host and port.
    pub fn place(&self) -> Option<(String, u16)> {
        Some((self.url.host_str()?.to_owned(), self.url.port_or_known_default()?))
    }

    /// The parts that may be secret, to be masked in replies: an echo may leave the query out.
    pub fn private(&self) -> impl Iterator<Item = &str> {
        let whole = tail(self.url.as_str());
        [Some(whole), Some(self.url.path()), self.url.query()]
            .into_iter()
            .flatten()
            .filter(|part| part.len() >= SECRET_FROM)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let has = |scheme: &str| {
            text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        };
        if !has("https://") && !has("http://") {
            return Err("must begin with https:// or http:// and name a host".into());
        }
        let url = Url::parse(text).map_err(|error| format!("is not an address: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("must begin with https:// or http:// and name a host".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "must not hold a user or password; use the sink's own keys for those".into()
            );
        }
        if url.fragment().is_some() {
            return Err("must not have a `#…` part: it is never sent".into());
        }
        let (sent, written) = (tail(url.as_str()), tail(text));
        if sent != written && sent.strip_prefix('/') != Some(written) {
            return Err("has a path or query that would be sent differently: percent-encode its special characters and write it without `.` and `..`".into());
        }
        Ok(Self { url })
    }
}

/// Path and query of an absolute address.
fn tail(text: &str) -> &str {
    let host = text.find("://").map_or(0, |at| at + 3);
    let path = text[host..].find(['/', '?', '#', '\\']).map_or(text.len(), |at| host + at);
    &text[path..]
}

/// The part of an address that may be shown: scheme, host and port.
pub fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({}/…)", shown(&self.url))
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Self::parse(&text),
            other if !other.is_object() => {
                Err("must be an address in quotes, or a reference to a secret that holds one"
                    .into())
            }
            reference => {
                let secret =
                    serde_json::from_value::<Secret>(reference).map_err(D::Error::custom)?;
                Self::parse(secret.expose())
            }
        }
        .map_err(D::Error::custom)
    }
}

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let reference = generator.subschema_for::<Secret>();
        json_schema!({
            "description": "An http:// or https:// address, or a reference to a secret that holds one.",
            "anyOf": [{ "type": "string", "examples": ["https://siem.example/ingest"] }, reference],
            // Only scheme and host may be shown.
            "x-private-path": true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_sent() {
        for text in [
            "https://h.example/http-endpoint/v1/a%2Fb?x=1&y=%7B%7D",
            "http://127.0.0.1:1/a//b/",
            "https://h.example",
            "https://h.example?x",
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(
                tail(address.url().as_str()).trim_start_matches('/'),
                tail(text).trim_start_matches('/')
            );
        }
    }

    #[test]
    fn what_would_change_is_refused_without_repeating_it() {
        for text in [
            "ftp://h/hidden-path",
            "h.example/hidden-path",
            "https://user:hidden-path@h/",
            "https://h/a/../hidden-path",
            "https://h/hidden-path#x",
            "https://h/hidden-path{x}",
            "https://h/hidden-\npath",
            "https:\\\\h\\hidden-path",
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(!error.contains("hidden"), "{text}: {error}");
        }
    }

    #[test]
    fn debug_shows_the_host_only() {
        let address = Address::parse("https://h.example:8443/hidden-path?hidden").unwrap();
        assert_eq!(format!("{address:?}"), "Address(https://h.example:8443/…)");
    }
}
