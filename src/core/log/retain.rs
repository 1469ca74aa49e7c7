//! When a segment may be freed: one pure decision about the oldest.
//!
//! Guarantees: never frees what a pinning cursor has not passed, except by `DropOldest` when the
//! log is full and some delivery has had it; refuses only when the written limits leave no other
//! way. Time and disk space come in as values. It frees nothing itself (`files.rs`).

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::Timestamp;
use crate::core::event::Position;

/// What to do when the log is full of undelivered events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// The oldest events expire for the sinks that have not taken them, counted and alarmed;
    /// new events are refused only when every sink is stuck.
    #[default]
    DropOldest,
    /// Refuse new events with 503 at once.
    Refuse,
}

/// The written limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub keep: Duration,
    pub max_bytes: u64,
    pub min_free: u64,
    pub when_full: WhenFull,
}

/// The oldest segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Oldest {
    /// One past its last position.
    pub end: Position,
    /// When its newest event came, in microseconds.
    pub newest_us: i64,
}

/// What the decision depends on.
#[derive(Clone, Debug)]
pub(super) struct Situation<'a> {
    /// The oldest segment, unless it is the only one: the newest is never freed.
    pub oldest: Option<Oldest>,
    /// Marks of the cursors that pin the log.
    pub marks: &'a [Position],
    pub now: Timestamp,
    /// Bytes of the log on disk.
    pub bytes: u64,
    /// Bytes about to be added to them; 0 between appends.
    pub need: u64,
    /// Bytes free on the file system.
    pub free: u64,
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is to be freed, and what is needed fits.
    Fits,
    /// Free the oldest segment and ask again; its file must go if `unlink`.
    Free { unlink: bool },
    /// What is needed does not fit, for this reason.
    Refuse(String),
}

/// What to do now. Ask again after every `Free`.
pub(super) fn decide(policy: &Policy, now: &Situation<'_>) -> Step {
    let short = now.free < policy.min_free.saturating_add(now.need);
    let over = now.bytes + now.need > policy.max_bytes;
    let Some(oldest) = now.oldest else { return refuse(policy, now, short, over) };
    let passed = now.marks.iter().all(|mark| *mark >= oldest.end);
    if passed && (short || over || is_old(policy, now, &oldest)) {
        return Step::Free { unlink: short };
    }
    let some_had_it = now.marks.iter().any(|mark| *mark >= oldest.end);
    let full = now.need > 0 && (short || over);
    if full && policy.when_full == WhenFull::DropOldest && some_had_it {
        return Step::Free { unlink: short };
    }
    refuse(policy, now, short, over)
}

fn is_old(policy: &Policy, now: &Situation<'_>, oldest: &Oldest) -> bool {
    let age = now.now.as_microsecond().saturating_sub(oldest.newest_us);
    u128::try_from(age).is_ok_and(|age| age > policy.keep.as_micros())
}

fn refuse(policy: &Policy, now: &Situation<'_>, short: bool, over: bool) -> Step {
    if now.need == 0 {
        Step::Fits
    } else if over {
        Step::Refuse(format!("{} of log.max_bytes {} are used", now.bytes, policy.max_bytes))
    } else if short {
        let (free, least) = (now.free, policy.min_free);
        Step::Refuse(format!("{free} bytes are free on the disk, log.min_free is {least}"))
    } else {
        Step::Fits
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn policy(when_full: WhenFull) -> Policy {
        Policy { keep: Duration::from_secs(10), max_bytes: 100, min_free: 50, when_full }
    }

    fn situation(marks: &[Position]) -> Situation<'_> {
        let oldest = Some(Oldest { end: Position(10), newest_us: 0 });
        let now = Timestamp::from_second(5).unwrap();
        Situation { oldest, marks, now, bytes: 90, need: 0, free: 1_000 }
    }

    #[test]
    fn frees_what_all_have_passed_when_old_or_over() {
        let policy = policy(WhenFull::Refuse);
        let passed = [Position(10), Position(12)];
        let young = situation(&passed);
        assert_eq!(decide(&policy, &young), Step::Fits);
        let old = Situation { now: Timestamp::from_second(11).unwrap(), ..young.clone() };
        assert_eq!(decide(&policy, &old), Step::Free { unlink: false });
        let over = Situation { bytes: 101, ..young.clone() };
        assert_eq!(decide(&policy, &over), Step::Free { unlink: false });
        let short = Situation { free: 49, ..young };
        assert_eq!(decide(&policy, &short), Step::Free { unlink: true });
    }

    #[test]
    fn a_full_log_drops_only_what_some_delivery_had() {
        let some = [Position(10), Position(3)];
        let full = Situation { need: 20, ..situation(&some) };
        assert_eq!(decide(&policy(WhenFull::DropOldest), &full), Step::Free { unlink: false });
        assert!(matches!(decide(&policy(WhenFull::Refuse), &full), Step::Refuse(_)));
        let stuck = Situation { marks: &[Position(9), Position(3)], ..full };
        assert!(matches!(decide(&policy(WhenFull::DropOldest), &stuck), Step::Refuse(_)));
    }

    proptest! {
        #[test]
        fn never_frees_what_no_delivery_had(
            marks in proptest::collection::vec(0u64..10, 1..5),
            bytes in 0u64..300, need in 0u64..100, free in 0u64..200, now in 0i64..100,
        ) {
            let marks: Vec<_> = marks.into_iter().map(Position).collect();
            let now = Timestamp::from_second(now).unwrap();
            let s = Situation { bytes, need, free, now, ..situation(&marks) };
            for when_full in [WhenFull::DropOldest, WhenFull::Refuse] {
                let step = decide(&policy(when_full), &s);
                let freed = matches!(step, Step::Free { .. });
                prop_assert!(!freed);
                prop_assert!(need > 0 || step == Step::Fits);
            }
        }
    }
}
