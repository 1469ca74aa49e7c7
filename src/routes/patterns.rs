//! Patterns for names: `*` stands for anything, case does not matter.
//!
//! Guarantees: every other character stands for itself, so that `CORP\\lab-*` and `a?b` need no
//! escapes; matching takes time in proportion to pattern times name at worst. Not regular
//! expressions.

use wildmatch::WildMatchPattern;

use crate::core::config::OneOrMany;

/// One pattern. The matcher's second wildcard is given a character that no name has.
#[derive(Debug)]
pub(super) struct Pattern(WildMatchPattern<'*', '\0'>);

impl Pattern {
    /// Compile `text`.
    pub fn new(text: &str) -> Self {
        Self(WildMatchPattern::new_case_insensitive(text.trim()))
    }

    /// Whether the whole of `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        self.0.matches(name)
    }
}

/// The patterns of one key.
#[derive(Debug)]
pub(super) struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Compile all of `texts`.
    pub fn new(texts: &OneOrMany<String>) -> Self {
        Self(texts.as_slice().iter().map(|text| Pattern::new(text)).collect())
    }

    /// The patterns as written.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|pattern| pattern.0.to_string())
    }

    /// Whether any of `names` matches any pattern.
    pub fn match_any<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> bool {
        names.any(|name| self.0.iter().any(|pattern| pattern.matches(name)))
    }
}
