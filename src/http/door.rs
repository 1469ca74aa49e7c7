//! Who may post where: the doors of the configured sources.
//!
//! Guarantees: the sender's address is always checked, and one of the ways of `auth` when the
//! source has any; `/webhook/NAME` always leads to source NAME. It reads no body.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::auth::Ways;
use super::sender;
use crate::core::config::{Handshake, Problems, SourceDoor};

/// Where webhooks arrive unless a source has a path of its own.
pub const WEBHOOK: &str = "/webhook";

/// One source's door.
pub struct Door {
    /// The source's name.
    pub source: Arc<str>,
    /// Answer repeated bodies as duplicates.
    pub dedupe: bool,
    /// How senders prove who they are.
    pub ways: Ways,
    settings: SourceDoor,
}

impl Door {
    /// The door of `source`, whose section is `key`.
    pub fn new(
        key: &str,
        source: Arc<str>,
        mut settings: SourceDoor,
        dedupe: bool,
    ) -> Result<Self, Problems> {
        let ways = Ways::new(&format!("{key}.auth"), std::mem::take(&mut settings.auth))?;
        Ok(Self { source, dedupe: settings.dedupe.unwrap_or(dedupe), ways, settings })
    }

    /// The greetings that are answered here.
    pub fn handshakes(&self) -> &[Handshake] {
        &self.settings.handshakes
    }

    /// How often at least the source sends something, if that is known.
    pub fn expect_every(&self) -> Option<Duration> {
        self.settings.expect_every.map(|every| every.0)
    }

    /// Whether a sender at this address may post at all.
    pub fn allows(&self, sender: Option<IpAddr>) -> bool {
        sender.is_some_and(|ip| sender::within(&self.settings.allow, ip))
    }
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
