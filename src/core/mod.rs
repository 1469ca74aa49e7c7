//! The engine: events, the durable log, delivery, configuration and metrics.
//!
//! It guarantees the promises listed in ARCHITECTURE.md. It is not aware of any source, route,
//! format or sink by name, and it speaks no HTTP: those folders depend on this one, never the
//! other way round.

pub mod alarms;
pub mod certificate;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod duplicates;
pub mod event;
pub mod finding;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod heard;
pub mod instance;
pub mod letters;
pub mod log;
pub mod metrics;
pub mod pem;
pub mod quiet;
pub mod receipts;
pub mod recent;
pub mod replays;
pub mod route;
pub mod sink;
pub mod source;
pub mod texts;

/// A point in time, always UTC. One re-export, so that the time library is named once.
pub use jiff::Timestamp;
