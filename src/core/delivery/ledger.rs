//! The ledger of every sink as an equation: `head - start = ends + queued`.
//!
//! Guarantees: all terms of one sink are from one moment, the one in which its worker last published
//! them; `queued` is the worker's own count and never the remainder, so that the difference can be
//! other than 0. It decides nothing.

use std::sync::Arc;

use serde::Serialize;

use super::Engine;
use crate::core::event::Position;
use crate::core::log::Terms;
use crate::core::metrics::SinkMetrics;

/// One sink's ledger.
#[derive(Debug, Serialize)]
pub struct Ledger {
    /// The sink.
    pub sink: Arc<str>,
    /// The end of the log.
    pub head: Position,
    /// Where the delivery began.
    pub start: Position,
    /// Events by how they ended.
    #[serde(flatten)]
    pub terms: Terms,
    /// Events that wait or are in flight.
    pub queued: u64,
    /// `head - start` without all of these: anything but 0 is a bug.
    pub difference: i64,
}

/// The ledgers of all sinks that have a worker, by name.
pub fn ledgers(engine: &Engine) -> Vec<Ledger> {
    let sinks = engine.metrics.sinks().into_iter();
    sinks
        .map(|(sink, metrics)| {
            let vitals = metrics.vitals();
            // Read after the worker published: never behind what it has read.
            let head = engine.log.head().borrow().next;
            Ledger {
                sink,
                head,
                start: vitals.start,
                terms: vitals.terms,
                queued: vitals.lag(head),
                difference: SinkMetrics::unaccounted(&vitals),
            }
        })
        .collect()
}
