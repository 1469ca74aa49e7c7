//! All that a delivery worker knows of routing: which sinks want an event, and in what shape.
//!
//! The table itself is in `routes/`; `app` builds it and hands it over behind these two traits.

use std::sync::Arc;

use bytes::Bytes;

use super::event::{Draft, Event};
use super::finding::Finding;
use super::sink::Fault;

/// The name of a route (`[routes.NAME]`; `unmatched` for the catch-all).
pub type RouteId = Arc<str>;

/// Which sinks want an event, each with the first route (in name order) that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    picks: Arc<[(Arc<str>, RouteId)]>,
    troubles: Arc<[(RouteId, Trouble)]>,
}

/// What was wrong with a rule on one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It had no answer, so the route took the event.
    Failed,
    /// It took longer than any rule should.
    Slow,
}

impl Choice {
    /// A choice of `(sink, route)` pairs; each sink at most once.
    pub fn new(picks: Vec<(Arc<str>, RouteId)>) -> Self {
        Self { picks: picks.into(), troubles: Arc::default() }
    }

    /// The same with what was wrong with rules. Whoever asks first counts it: the door.
    #[must_use]
    pub fn with_troubles(mut self, troubles: Vec<(RouteId, Trouble)>) -> Self {
        self.troubles = troubles.into();
        self
    }

    /// What was wrong with rules on this event.
    pub fn troubles(&self) -> &[(RouteId, Trouble)] {
        &self.troubles
    }

    /// The route that shapes the event for `sink`, if the sink wants it at all.
    pub fn route_for(&self, sink: &str) -> Option<&RouteId> {
        self.picks.iter().find(|(name, _)| &**name == sink).map(|(_, route)| route)
    }

    /// The chosen sinks.
    pub fn sinks(&self) -> impl Iterator<Item = &Arc<str>> {
        self.picks.iter().map(|(sink, _)| sink)
    }

    /// The sinks with their routes.
    pub fn picks(&self) -> impl Iterator<Item = (&Arc<str>, &RouteId)> {
        self.picks.iter().map(|(sink, route)| (sink, route))
    }

    /// No sink wants it.
    pub fn is_empty(&self) -> bool {
        self.picks.is_empty()
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
    /// The event it was made from.
    pub event: Arc<Event>,
    /// What to send.
    pub body: Bytes,
    /// How the route wants it written, where it says so: goes before the sink's own format.
    pub format: Option<&'static Format>,
    /// What the shaped body says, where that is another.
    finding: Option<Arc<Finding>>,
}

impl Shaped {
    /// The event as it was received.
    pub fn unshaped(event: Arc<Event>) -> Self {
        Self { body: event.body.clone(), event, format: None, finding: None }
    }

    /// The same with another body, and what that body says: formats never read what a transform
    /// has taken out.
    #[must_use]
    pub fn with_body(mut self, body: Bytes, finding: Finding) -> Self {
        (self.body, self.finding) = (body, Some(Arc::new(finding)));
        self
    }

    /// The same in the format that the route asks for.
    #[must_use]
    pub fn in_format(self, format: Option<&'static Format>) -> Self {
        Self { format, ..self }
    }

    /// What `body` says.
    pub fn finding(&self) -> &Finding {
        self.finding.as_deref().unwrap_or_else(|| self.event.finding())
    }
}

/// How an event is written: one entry of the table in `formats/`.
#[derive(Debug)]
pub struct Format {
    /// The word in `format = "…"`.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Pure. One event on one line, without a line break, in at most so many bytes; shortened in
    /// the format's written order. `None` when it cannot be made to fit.
    pub write: fn(&Shaped, usize) -> Option<Bytes>,
}
