//! The request that closes what an earlier one opened.
//!
//! Guarantees: its address holds nothing of an event but the incident's key and the event's id, which
//! have no meaning in an address; whether a piece ends its incident was decided when it was encoded.

use reqwest::{Method, Url};

use super::api::{Lookup, encoded};
use super::file::{self, File};
use super::frame::Form;
use super::hole::What;
use super::template::{Node, Part, parts};
use crate::core::sink::Piece;

/// `[ended]`, compiled.
pub(super) struct Ended {
    pub method: Method,
    /// What is sent.
    pub event: Node,
    url: Vec<Part>,
    /// Where an address that cannot be made goes: there is none, it was tried when it was compiled.
    base: Url,
}

impl Ended {
    pub fn new(
        file: &File,
        ended: &file::Ended,
        event: Node,
        fields: Lookup<'_>,
        is_address: &dyn Fn(&str) -> bool,
    ) -> Result<Self, String> {
        if file.body.frame != Form::Single {
            return Err("ended: only with body.frame = \"single\"".into());
        }
        let method = Method::from_bytes(ended.method.as_bytes())
            .map_err(|_| "ended.method is no method".to_owned())?;
        let lookup = |name: &str| encoded(fields(name)?, is_address(name));
        let url = parts(&ended.url, &lookup)?
            .ok_or("ended.url depends on a field that may be left out")?;
        for part in &url {
            if let Part::Hole(hole) = part
                && !matches!(hole.what, What::Key | What::Id)
            {
                return Err(
                    "ended.url: only fields, {{@incident.key}} and {{@id}} can stand here".into()
                );
            }
        }
        let base = address(&url, "key", "id");
        let base = base.parse().map_err(|error| format!("ended.url is no address: {error}"))?;
        Ok(Self { method, event, url, base })
    }

    /// Where `piece` goes.
    pub fn url(&self, piece: &Piece) -> Url {
        let url = address(&self.url, &piece.key(), &piece.id.to_string());
        url.parse().unwrap_or_else(|_| self.base.clone())
    }
}

fn address(parts: &[Part], key: &str, id: &str) -> String {
    let words = parts.iter().map(|part| match part {
        Part::Words(words) => words.as_str(),
        Part::Hole(hole) if matches!(hole.what, What::Key) => key,
        Part::Hole(_) => id,
    });
    words.collect()
}
