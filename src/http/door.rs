//! Who may post where: the doors of the configured sources.
//!
//! Guarantees: the sender's address is always checked, and a token when the source asks for one,
//! in constant time; `/webhook/NAME` always leads to source NAME. It reads no body.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::HeaderMap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::sender;
use crate::core::config::{Handshake, SourceDoor};

/// Where webhooks arrive unless a source has a path of its own.
pub const WEBHOOK: &str = "/webhook";

/// One source's door.
pub struct Door {
    /// The source's name.
    pub source: Arc<str>,
    /// Answer repeated bodies as duplicates.
    pub dedupe: bool,
    settings: SourceDoor,
}

/// Why a sender is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Its address is not in `allow`.
    Sender,
    /// No valid token.
    Token,
}

impl Door {
    /// The door of `source`.
    pub fn new(source: Arc<str>, settings: SourceDoor, dedupe: bool) -> Self {
        Self { source, dedupe: settings.dedupe.unwrap_or(dedupe), settings }
    }

    /// The header and token that let a sender in, for our own test events.
    pub fn token(&self) -> Option<(&str, &str)> {
        self.settings.auth.first().map(|way| (way.header.as_str(), way.secret.expose()))
    }

    /// The greetings that are answered here.
    pub fn handshakes(&self) -> &[Handshake] {
        &self.settings.handshakes
    }

    /// How often at least the source sends something, if that is known.
    pub fn expect_every(&self) -> Option<Duration> {
        self.settings.expect_every.map(|every| every.0)
    }

    /// May this sender post?
    pub fn admits(&self, sender: Option<IpAddr>, headers: &HeaderMap) -> Result<(), Closed> {
        if !sender.is_some_and(|ip| sender::within(&self.settings.allow, ip)) {
            return Err(Closed::Sender);
        }
        if self.settings.auth.is_empty() {
            return Ok(());
        }
        let valid = self.settings.auth.iter().fold(false, |valid, way| {
            let given = headers.get(&way.header).map(|value| value.as_bytes());
            valid | given.is_some_and(|given| same(given, way.secret.expose().as_bytes()))
        });
        if valid { Ok(()) } else { Err(Closed::Token) }
    }
}

/// Equal, in a time that depends on neither content nor common prefix.
fn same(a: &[u8], b: &[u8]) -> bool {
    Sha256::digest(a).ct_eq(&Sha256::digest(b)).into()
}

/// All doors, by path.
#[derive(Default)]
pub struct Doors {
    by_path: BTreeMap<String, Arc<Door>>,
}

impl Doors {
    /// Doors by the paths of their sources. A source without a path gets `/webhook` if it is the
    /// only candidate for it.
    pub fn new(doors: Vec<Arc<Door>>) -> Self {
        let mut by_path = BTreeMap::new();
        for door in &doors {
            by_path.insert(format!("{WEBHOOK}/{}", door.source), door.clone());
            if let Some(path) = &door.settings.path {
                by_path.insert(path.trim_end_matches('/').to_owned(), door.clone());
            }
        }
        if let [only] = doors.as_slice() {
            by_path.entry(WEBHOOK.to_owned()).or_insert_with(|| only.clone());
        }
        Self { by_path }
    }

    /// The door at `path`.
    pub fn at(&self, path: &str) -> Option<&Arc<Door>> {
        self.by_path.get(path.trim_end_matches('/'))
    }

    /// All paths, for the hint of a 404.
    pub fn paths(&self) -> Vec<&str> {
        self.by_path.keys().map(String::as_str).collect()
    }
}
