//! This run of the gateway, by a name that nobody else has.
//!
//! Guarantees: what a sink sends carries the name, and a door that sees its own refuses: an event
//! never goes round in a circle of one. Longer circles are not seen: another gateway passes events on
//! under its own name.

use std::sync::LazyLock;

use super::event::EventId;

/// The header that carries the name.
pub const HEADER: &str = "siemgate-hop";

/// The name.
pub fn id() -> &'static str {
    static ID: LazyLock<String> = LazyLock::new(|| EventId::fresh().to_string());
    &ID
}
