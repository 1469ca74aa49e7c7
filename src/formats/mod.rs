//! How an event is written, independent of where it goes.
//!
//! Guarantees: pure functions over bytes. Not here: who chooses a format (`routes/`) and how the
//! bytes travel (`sinks/`).

pub mod lines;
