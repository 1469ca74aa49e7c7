//! The sources: one decoder a product, and the table of all of them.
//!
//! Guarantees: the table is the only list; decoding never fails (see `core/source.rs`).

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod json;
mod siemgate;
mod superna;
mod time;
mod unread;

use std::sync::Arc;

use schemars::Schema;

use crate::core::config::{Problems, Section};
use crate::core::source::Source;

pub use siemgate::internal;

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

/// Longest title, in characters.
const TITLE: usize = 200;

/// `text` as a title: white space and control characters (also those that change the direction of
/// writing, which can make a file name read as another) become single spaces.
fn one_line(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2066}'..='\u{2069}')
    };
    let mut line = String::with_capacity(text.len().min(4 * TITLE));
    for word in text.split(|c: char| c.is_whitespace() || hidden(c)).filter(|word| !word.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if let Some((end, _)) =
        line.char_indices().nth(TITLE - 1).filter(|_| line.chars().nth(TITLE).is_some())
    {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// Whether `link` may be shown as a link: nothing but a web page.
fn web_link(link: &str) -> bool {
    let starts = |scheme: &str| {
        link.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    starts("https://") || starts("http://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_name() {
        assert!(kind("superna").is_some_and(|kind| kind.dedupe));
        assert!(kind("json").is_some_and(|kind| !kind.dedupe));
        assert!(kind("xml").is_none());
    }

    #[test]
    fn titles_are_cut_between_characters() {
        assert_eq!(one_line(" a\r\n\tb\u{202e}c "), "a b c");
        assert_eq!(one_line(&"é".repeat(TITLE)), "é".repeat(TITLE));
        let cut = one_line(&"é".repeat(TITLE + 1));
        assert!(cut.ends_with('…') && cut.chars().count() == TITLE);
    }
}
