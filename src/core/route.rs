//! All that a delivery worker knows of routing: which sinks want an event, and in what shape.
//!
//! The table itself is in `routes/`; `app` builds it and hands it over behind these two traits.

use std::sync::Arc;

use bytes::Bytes;

use super::event::{Draft, Event};
use super::sink::Fault;

/// The name of a route (`[routes.NAME]`; `unmatched` for the catch-all).
pub type RouteId = Arc<str>;

/// Which sinks want an event, each with the first route (in name order) that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice(Arc<[(Arc<str>, RouteId)]>);

impl Choice {
    /// A choice of `(sink, route)` pairs; each sink at most once.
    pub fn new(picks: Vec<(Arc<str>, RouteId)>) -> Self {
        Self(picks.into())
    }

    /// The route that shapes the event for `sink`, if the sink wants it at all.
    pub fn route_for(&self, sink: &str) -> Option<&RouteId> {
        self.0.iter().find(|(name, _)| &**name == sink).map(|(_, route)| route)
    }

    /// The chosen sinks.
    pub fn sinks(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map(|(sink, _)| sink)
    }

    /// No sink wants it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Chooses the sinks of an event: pure, and evaluated once per event and table generation.
pub trait Select: Send + Sync {
    /// Which sinks want it. Decodes the event's finding if that has not been done yet.
    fn choose(&self, event: &Draft) -> Choice;
}

/// Gives an event the form its route asks for.
pub trait Shape: Send + Sync {
    /// The shaped event, or why it cannot be shaped (which dead-letters it: the unshaped body is
    /// never sent instead).
    fn shape(&self, event: &Arc<Event>, route: &RouteId) -> Result<Shaped, Fault>;
}

/// An event as its route wants it written. `body` equals the stored bytes unless shaped.
#[derive(Clone, Debug)]
pub struct Shaped {
    /// The event it was made from, with its finding.
    pub event: Arc<Event>,
    /// What to send.
    pub body: Bytes,
}
