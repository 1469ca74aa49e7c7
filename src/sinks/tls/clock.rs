//! Whether this machine's clock is right, by what destinations say the time is.
//!
//! Guarantees: a hint for messages and nothing else; no decision rests on it. It is the only state
//! that sinks share, because the clock is what they share: one that still gets answers can tell what
//! is wrong with one that does not.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::core::Timestamp;

/// Servers' clocks differ by seconds, and answers take some: less than this says nothing.
const SLACK: i64 = 300;

/// The last time that a destination told, and when that was, by a clock that nobody sets.
static TOLD: Mutex<Option<(Timestamp, Instant)>> = Mutex::new(None);

/// A destination said that it is `time` now.
pub fn witness(time: Timestamp) {
    *TOLD.lock().unwrap_or_else(PoisonError::into_inner) = Some((time, Instant::now()));
}

/// The time by the last destination that told one; `None` when that was `now`, more or less, or
/// nobody ever told.
pub fn other(now: Timestamp) -> Option<Timestamp> {
    let told = *TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let (time, at) = told?;
    differs(time, at.elapsed(), now)
}

fn differs(told: Timestamp, since: Duration, now: Timestamp) -> Option<Timestamp> {
    let there = told.checked_add(since).ok()?;
    ((there.as_second() - now.as_second()).abs() >= SLACK).then_some(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_doubted_only_when_it_differs_by_much() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let since = Duration::from_secs(1_000);
        assert_eq!(differs(at(10_000), since, at(11_010)), None);
        assert_eq!(differs(at(10_000), since, at(25_400)), Some(at(11_000)));
        assert_eq!(differs(at(10_000), since, at(2_000)), Some(at(11_000)));
    }
}
