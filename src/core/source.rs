//! The contract of a source: bytes in, a `Finding` out.
//!
//! Guarantees: decoding cannot fail and never changes the bytes. A source is not a listener: the
//! door (`http/`) hands it bodies, and knows it by the name of its `[sources.NAME]` section.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::Draft;
use super::finding::Finding;

/// Reads one product's bodies. Pure: no clock, no network, no failure.
pub trait Source: Send + Sync {
    /// What `body` says; everything unreadable is left unknown and named in `Finding::unknown`.
    fn decode(&self, body: &[u8]) -> Finding;
}

/// The configured sources by name: turns a stored event back into its finding.
#[derive(Clone, Default)]
pub struct Decoders(BTreeMap<Arc<str>, Arc<dyn Source>>);

impl Decoders {
    /// A table from source names to decoders.
    pub fn new(table: BTreeMap<Arc<str>, Arc<dyn Source>>) -> Self {
        Self(table)
    }

    /// The event's finding, decoded at most once while the event is in memory.
    ///
    /// An event of a source that is no longer configured is all unknown, so filters let it pass.
    pub fn finding<'e>(&self, event: &'e Draft) -> &'e Finding {
        event.decoded_by(|| match self.0.get(&event.source) {
            Some(source) => source.decode(&event.body),
            None => Finding { unknown: vec!["source"], ..Finding::default() },
        })
    }
}
