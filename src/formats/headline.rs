//! An event in one line for people.
//!
//! Guarantees: at most [`MOST`] characters, on one line, made of words that are the same for all events
//! of a sort, a cluster's name and a count: no user, address or file name.

use super::facts::Facts;
use super::text;
use crate::core::alarms::INTERNAL;
use crate::core::finding::Severity;
use crate::core::route::Shaped;

/// Longest headline, in characters: what the tightest vendor takes as an alert's message.
pub const MOST: usize = 130;
/// Longest name of a cluster in it.
const CLUSTER: usize = 40;

/// Such as `Critical: ransomware event, locked out on prod-8, 3 files`.
pub fn headline(event: &Shaped) -> String {
    let (facts, finding) = (Facts::of(event), event.finding());
    // The gateway's own events are about the gateway, so their titles name nobody.
    if let (INTERNAL, Some(title)) = (facts.source, &finding.title) {
        return one_line(title, MOST);
    }
    let lead = match (finding.ended, finding.severity) {
        (true, _) => "Ended".to_owned(),
        (false, Severity::Unknown) => "Unknown severity".to_owned(),
        (false, severity) => capital(severity.as_str()),
    };
    let drill = if finding.simulated { "Simulated: " } else { "" };
    let cluster = finding.clusters.first().map(|name| format!(" on {}", one_line(name, CLUSTER)));
    let files = finding.file_count.map(|count| match count {
        1 => ", 1 file".to_owned(),
        count => format!(", {count} files"),
    });
    let words = format!(
        "{drill}{lead}: {}{}{}",
        facts.name().to_lowercase(),
        cluster.unwrap_or_default(),
        files.unwrap_or_default()
    );
    one_line(&words, MOST)
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn one_line(words: &str, most: usize) -> String {
    words.trim().chars().map(text::shown).take(most).collect()
}
