//! What Superna's words mean: severity, state, category, simulated attacks.
//!
//! Guarantees: a word that is not known is never taken for a known one; what is uncertain errs
//! towards a real, unresolved attack. Comments say what is documented and what is a guess.

use std::borrow::Cow;

use crate::core::finding::{Severity, State, normalise};
use crate::core::source::Words;

use super::keys::squashed;

/// States that the product's documents name; `locked_out` is the only one whose spelling in a
/// webhook is documented. Each is a word of its own: none is folded into another, so that a
/// route's `states` can name what the product's own screens show.
const STATES: [&str; 13] = [
    "locked_out",
    "delayed_lockout",
    "warning",
    "access_restored",
    "monitor",
    "monitor_only",
    "monitoring",
    "learning",
    "error",
    "resolved",
    "unresolved",
    "archived",
    "auto_archived",
];

/// States that end an incident: what follows is an update, whatever severity it repeats.
const ENDED: [&str; 4] = ["access_restored", "resolved", "archived", "auto_archived"];

/// Every category that `category` gives.
const CATEGORIES: [&str; 4] = ["ransomware", "auditor", "activity_report", "test"];

/// All that a finding can say.
pub(super) const WORDS: Words = Words { states: &STATES, ended: &ENDED, categories: &CATEGORIES };

/// The state that `word` names.
pub(super) fn state(word: Option<String>) -> State {
    let Some(word) = word else { return State::Missing };
    let letters = squashed(&word);
    let known = STATES.iter().find(|state| squashed_eq(state, &letters));
    match known {
        Some(state) => State::Known(Cow::Borrowed(state)),
        None => State::Unknown(normalise(&word)),
    }
}

/// Compares without building: `LockedOut`, `LOCKED OUT` and `locked_out` are one.
fn squashed_eq(known: &str, letters: &[u8]) -> bool {
    known.bytes().filter(|byte| *byte != b'_').eq(letters.iter().copied())
}

/// The severity to act on: an update that ends an incident is never a new alarm.
pub(super) fn effective(reported: Severity, state: &State) -> Severity {
    if ended(state) { Severity::Info } else { reported }
}

/// Whether the state ends the incident.
pub(super) fn ended(state: &State) -> bool {
    ENDED.contains(&state.as_str())
}

/// What kind of webhook it is. `kind` is the body's own word for it, if it has one.
///
/// Facts: ransomware events are the main kind; Easy Auditor and Active Auditor events come
/// through the same webhook; so do user activity reports; `rsw` and `ea` are the product's short
/// names in its REST interface. Guesses: all keys and the longer words. Therefore whatever looks
/// like a detection and does not say otherwise is `ransomware`.
pub(super) fn category(
    kind: Option<&str>,
    event_source: Option<&str>,
    seen: Seen,
) -> Option<&'static str> {
    let named = kind.into_iter().chain(event_source).find_map(named_category);
    match named {
        Some(category) => Some(category),
        None if seen.report => Some("activity_report"),
        None if seen.detection => Some("ransomware"),
        None => None,
    }
}

/// Which groups of keys a body has.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// A source, a time, files, signal strengths: what a detection carries.
    pub detection: bool,
    /// A user activity report.
    pub report: bool,
}

fn named_category(word: &str) -> Option<&'static str> {
    Some(match normalise(word).as_str() {
        "rsw" | "ransomware" | "ransomware_defender" => "ransomware",
        "ea"
        | "auditor"
        | "easy_auditor"
        | "active_auditor"
        | "mass_delete"
        | "mass_copy"
        | "data_loss_prevention"
        | "dlp" => "auditor",
        "activity_report" | "user_activity_report" => "activity_report",
        "test" | "test_event" | "test_alert" => "test",
        _ => return None,
    })
}

/// The Security Guard of this installation: a daily, real attack by a dedicated account on a
/// dedicated share, which the product reports like any other.
#[derive(Debug)]
pub(super) struct Guard {
    /// The account's names; without one nothing is taken for the guard.
    pub users: Vec<String>,
    /// Name of the share.
    pub share: String,
    /// Name of the bucket.
    pub bucket: String,
}

impl Guard {
    /// Whether this is the guard's doing: its account, its share, and nothing else. One foreign
    /// share makes it an attack, because an intruder may use the guard's account too.
    pub fn caused(&self, user: Option<&str>, shares: &[String], buckets: &[String]) -> bool {
        let by_guard = |user| self.users.iter().any(|own| same(own, user));
        let on_guard = || {
            shares.iter().all(|share| same(share_name(share), &self.share))
                && buckets.iter().all(|bucket| same(bucket_name(bucket), &self.bucket))
        };
        user.is_some_and(by_guard) && !(shares.is_empty() && buckets.is_empty()) && on_guard()
    }
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

/// `share`, or the middle of `cluster:share:zone`.
fn share_name(share: &str) -> &str {
    let mut parts = share.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(name), Some(_), None) => name,
        _ => share,
    }
}

/// `bucket`, or the end of `namespace/bucket`.
fn bucket_name(bucket: &str) -> &str {
    bucket.split_once('/').map_or(bucket, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_known_in_every_spelling() {
        for known in STATES {
            let words = [
                known.to_owned(),
                known.to_uppercase(),
                known.replace('_', " "),
                known.replace('_', "-"),
                known.replace('_', ""),
                format!(" {known} "),
            ];
            for word in words {
                assert_eq!(state(Some(word.clone())), State::Known(known.into()), "{word}");
            }
        }
        assert_eq!(state(Some("On Fire".into())), State::Unknown("on_fire".into()));
        assert_eq!(state(None), State::Missing);
    }

    #[test]
    fn what_ends_an_incident_is_information() {
        for word in ENDED {
            assert_eq!(effective(Severity::Critical, &State::Known(word.into())), Severity::Info);
        }
        let unresolved = State::Known("unresolved".into());
        assert_eq!(effective(Severity::Critical, &unresolved), Severity::Critical);
        assert_eq!(effective(Severity::Unknown, &State::Missing), Severity::Unknown);
    }

    #[test]
    fn categories_are_told_apart_and_default_to_ransomware() {
        let some = Seen { detection: true, report: false };
        assert_eq!(category(None, Some("ISILON_CLUSTER"), some), Some("ransomware"));
        assert_eq!(category(Some("System"), None, some), Some("ransomware"));
        assert_eq!(category(Some("EA"), Some("ISILON_CLUSTER"), some), Some("auditor"));
        assert_eq!(category(Some("Mass Delete"), None, some), Some("auditor"));
        assert_eq!(category(Some("test-event"), None, some), Some("test"));
        assert_eq!(
            category(None, None, Seen { detection: true, report: true }),
            Some("activity_report")
        );
        assert_eq!(category(Some("?"), None, Seen { detection: false, report: false }), None);
    }

    #[test]
    fn only_the_guard_on_its_own_share_is_simulated() {
        let guard = Guard {
            users: vec!["AD\\guard".into()],
            share: "guardshare".into(),
            bucket: "gb".into(),
        };
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let caused = |user, shares, buckets| guard.caused(user, &list(shares), &list(buckets));
        let user = Some("ad\\GUARD");
        assert!(caused(user, &["c1:GuardShare:System", "guardshare"], &[]));
        assert!(caused(user, &[], &["ns/gb", "gb"]));
        assert!(!caused(user, &["c1:guardshare:System", "c1:finance:System"], &[]));
        assert!(!caused(user, &["guardshare"], &["ns/other"]));
        assert!(!caused(user, &["guardshare:other:System"], &[]));
        assert!(!caused(user, &[], &[]));
        assert!(!caused(Some("AD\\jdoe"), &["guardshare"], &[]));
        assert!(!caused(None, &["guardshare"], &[]));
        let nobody = Guard { users: vec![], share: "guardshare".into(), bucket: "gb".into() };
        assert!(!nobody.caused(user, &list(&["guardshare"]), &[]));
    }
}
