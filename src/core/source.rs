//! The contract of a source: bytes in, a `Finding` out.
//!
//! Guarantees: decoding cannot fail and never changes the bytes. A source is not a listener: the
//! door (`http/`) hands it bodies, and knows it by the name of its `[sources.NAME]` section.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::alarms::INTERNAL;
use super::event::Draft;
use super::finding::Finding;

/// Reads one product's bodies. Pure: no clock, no network, no failure.
pub trait Source: Send + Sync {
    /// What `body` says; everything unreadable is left unknown and named in `Finding::unknown`.
    fn decode(&self, body: &[u8]) -> Finding;

    /// The outermost keys of `body` that `decode` makes nothing of, for people who look for what a
    /// product has added. Bounded; none where a source cannot tell.
    fn unread(&self, body: &[u8]) -> Vec<String> {
        let _ = body;
        Vec::new()
    }

    /// The words that its findings can have; none where anything may come.
    fn words(&self) -> Words {
        Words::default()
    }
}

/// What a source is known to say, in its own normalised words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Words {
    /// States.
    pub states: &'static [&'static str],
    /// Those of the states that end an incident, so that their severity is always info.
    pub ended: &'static [&'static str],
    /// Categories.
    pub categories: &'static [&'static str],
}

/// The configured sources by name: turns a stored event back into its finding.
#[derive(Clone, Default)]
pub struct Decoders(BTreeMap<Arc<str>, Arc<dyn Source>>);

impl Decoders {
    /// A table from source names to decoders.
    pub fn new(table: BTreeMap<Arc<str>, Arc<dyn Source>>) -> Self {
        Self(table)
    }

    /// Every source with its words; the internal one is none of those that routes are for.
    pub fn words(&self) -> impl Iterator<Item = (&Arc<str>, Words)> {
        let senders = self.0.iter().filter(|(name, _)| ***name != *INTERNAL);
        senders.map(|(name, source)| (name, source.words()))
    }

    /// The event's finding, decoded at most once while the event is in memory.
    ///
    /// An event of a source that is no longer configured is all unknown, so filters let it pass.
    pub fn finding<'e>(&self, event: &'e Draft) -> &'e Finding {
        event.decoded_by(|| self.decode(&event.source, &event.body))
    }

    /// What the decoder of `source` reads in a body.
    pub fn decode(&self, source: &str, body: &[u8]) -> Finding {
        match self.0.get(source) {
            Some(source) => source.decode(body),
            None => Finding { unknown: vec!["source"], ..Finding::default() },
        }
    }
}
