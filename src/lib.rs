//! siemgate: a durable gateway from security products' webhooks to SIEM, XDR, SOAR and ticket
//! systems.
//!
//! The map, in the direction data flows:
//!
//! * [`http`] the doors: webhook ingress, admin API, metrics and health;
//! * [`sources`] read a product's bodies into a [`core::finding::Finding`];
//! * [`core`] the engine: events, the durable log, delivery, configuration, metrics;
//! * [`routes`] the routing table: which sinks want an event;
//! * [`formats`] how an event is written;
//! * [`sinks`] the destinations, one file a kind;
//! * [`app`] the composition root; [`cli`] the command line.
//!
//! ARCHITECTURE.md has the picture, the invariants and the decisions.

pub mod app;
pub mod cli;
pub mod core;
pub mod formats;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod http;
pub mod routes;
pub mod sinks;
pub mod sources;
