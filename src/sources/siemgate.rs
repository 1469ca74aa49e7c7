//! The internal source: what the gateway says of itself, read like what any product says.
//!
//! Guarantees: a notice of a later form that cannot be read is unknown, and so passes every filter.
//! It is no kind: nobody can configure it, and no door leads to it.

use std::sync::Arc;

use crate::core::alarms::Notice;
use crate::core::finding::Finding;
use crate::core::source::{Source, Words};

/// The decoder of alarms and heartbeats.
pub fn internal() -> Arc<dyn Source> {
    Arc::new(Internal)
}

struct Internal;

impl Source for Internal {
    fn decode(&self, body: &[u8]) -> Finding {
        let unread = || Finding { unknown: vec!["body"], ..Finding::default() };
        Notice::read(body).map_or_else(unread, Notice::finding)
    }

    fn words(&self) -> Words {
        Words { states: &["open", "cleared", "running"], ended: &["cleared"], categories: &[] }
    }
}
