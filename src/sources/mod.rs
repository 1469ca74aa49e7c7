//! The sources: one decoder a product, and the table of all of them.
//!
//! Guarantees: the table is the only list; decoding never fails (see `core/source.rs`).

mod json;
mod superna;

use std::sync::Arc;

use schemars::Schema;

use crate::core::config::{Problems, Section};
use crate::core::source::Source;

/// One kind of source.
pub struct Kind {
    /// The `type` in `[sources.NAME]`.
    pub name: &'static str,
    /// One line for lists.
    pub about: &'static str,
    /// Whether duplicates are suppressed unless the section says otherwise.
    pub dedupe: bool,
    /// Its settings, without the keys of the door that all sources share.
    pub schema: fn() -> Schema,
    /// Build from its settings.
    pub build: fn(&Section) -> Result<Arc<dyn Source>, Problems>,
}

/// All kinds.
pub const KINDS: &[&Kind] = &[&superna::KIND, &json::KIND];

/// The kind called `name`.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|kind| kind.name == name)
}
