//! An event in words, for people: one fact a line.
//!
//! Guarantees: only what may be shown (`show.rs`), in a fixed order; no fact can end its line or
//! begin another; lists and texts are bounded.

use std::fmt::Write;

use super::preset::Markup;
use super::show::{Detail, Shown};
use crate::core::finding::State;
use crate::core::route::Shaped;

/// Most items of a list.
const ITEMS: usize = 10;
/// Longest fact or item, in characters.
const FACT: usize = 300;

/// The facts of `event`, each with its name, and without a meaning in `markup`.
pub fn lines(event: &Shaped, shown: &Shown, markup: Markup) -> String {
    let finding = event.finding();
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "{name}: {value}");
        }
    };
    let plain = |text: &str| markup.disarm(&one_line(text)).into_owned();
    let list = |items: &[String]| list(items, plain);
    let text = |value: &Option<String>| value.as_deref().map(plain).unwrap_or_default();
    line("Severity", finding.severity.as_str());
    line("Severity by the product", finding.reported_severity.as_str());
    if finding.state != State::Missing {
        line("State", &plain(finding.state.as_str()));
    }
    if finding.simulated {
        line("Simulated", "yes, a drill or a test");
    }
    line("Clusters", &list(&finding.clusters));
    line("Number of files", &finding.file_count.map(|n| n.to_string()).unwrap_or_default());
    if shown.has(Detail::Title) {
        line("Title", &text(&finding.title));
    }
    if shown.has(Detail::User) {
        line("User", &text(&finding.user));
    }
    for (detail, name, items) in [
        (Detail::Addresses, "Addresses", &*finding.client_ips),
        (Detail::Shares, "Shares", &*finding.shares),
        (Detail::Files, "Files", &*finding.files),
    ] {
        if shown.has(detail) {
            line(name, &list(items));
        }
    }
    let happened = finding.time.unwrap_or(event.event.received);
    line("Happened", &format!("{happened:.0}"));
    let page = finding.link.as_deref().map(one_line).unwrap_or_default();
    line("Page", &markup.address(&page));
    line("Event", &format!("{} ({})", event.event.id, event.event.source));
    out
}

fn list(items: &[String], plain: impl Fn(&str) -> String) -> String {
    let shown: Vec<String> = items.iter().take(ITEMS).map(|item| plain(item)).collect();
    match items.len().checked_sub(ITEMS) {
        None | Some(0) => shown.join(", "),
        Some(_) => format!("{}, … ({} in all)", shown.join(", "), items.len()),
    }
}

/// `text` on one line, cut, without what steers terminals or the direction of writing.
pub fn one_line(text: &str) -> String {
    let kept = |c: char| match c {
        c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => Some(' '),
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
        c => Some(c),
    };
    text.chars().take(FACT).filter_map(kept).collect()
}
