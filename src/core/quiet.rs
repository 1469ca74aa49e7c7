//! How often one thing is told: a rule that fails on every event, or a sender that knocks every
//! second, must not fill the journal.
//!
//! Guarantees: the first word at once, then one in [`EVERY`], with the number that was left out.
//! Counting in metrics is not affected.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two words.
const EVERY: Duration = Duration::from_secs(30);

/// When it spoke last, and how often it has been silent since.
#[derive(Debug, Default)]
pub struct Quiet(Mutex<(Option<Instant>, u64)>);

impl Quiet {
    /// Whether to speak now; if so, how often it was silent before.
    pub fn speaks(&self) -> Option<u64> {
        self.speaks_at(Instant::now())
    }

    fn speaks_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.is_some_and(|last| now.duration_since(last) < EVERY) {
            state.1 += 1;
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_speaks_at_once_and_then_seldom() {
        let (quiet, start) = (Quiet::default(), Instant::now());
        assert_eq!(quiet.speaks_at(start), Some(0));
        assert_eq!(quiet.speaks_at(start + EVERY / 3), None);
        assert_eq!(quiet.speaks_at(start + EVERY / 2), None);
        assert_eq!(quiet.speaks_at(start + EVERY), Some(2));
        assert_eq!(quiet.speaks_at(start + EVERY * 2), Some(0));
    }
}
