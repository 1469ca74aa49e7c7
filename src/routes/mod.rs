//! The routing table: which sinks want an event.
