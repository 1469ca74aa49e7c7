//! Who has a mail already, and for whom it is worth waiting.
//!
//! A server may take a mail for some recipients and ask to come back for others. Those who have it must
//! not get it again, and one full mailbox must not keep every later alert from everybody else.
//!
//! Guarantees: pure but for its lock; a recipient who is put off is waited for once, for [`PATIENCE`],
//! and then no more until it takes a mail again; bounded. It dies with the process.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::core::Timestamp;
use crate::core::event::EventId;

/// How long everybody else waits for one.
const PATIENCE: Duration = Duration::from_secs(60);
/// Mails that are remembered.
const MAILS: usize = 64;

/// The recipients of one sink, by their place in its list.
#[derive(Debug, Default)]
pub struct Recipients(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    begun: VecDeque<Begun>,
    given_up: BTreeSet<usize>,
}

#[derive(Debug)]
struct Begun {
    mail: EventId,
    since: Timestamp,
    have: BTreeSet<usize>,
}

impl Recipients {
    /// Who has `mail` already.
    pub fn have(&self, mail: EventId) -> BTreeSet<usize> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = state.begun.iter().find(|begun| begun.mail == mail);
        begun.map(|begun| begun.have.clone()).unwrap_or_default()
    }

    /// Those of `took` have it now, and those of `later` were put off: whether to wait for them.
    pub fn waits(&self, mail: EventId, took: &[usize], later: &[usize], now: Timestamp) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.given_up.retain(|one| !took.contains(one));
        let place = state.begun.iter().position(|begun| begun.mail == mail);
        let begun = place.and_then(|place| state.begun.remove(place));
        let mut begun = begun.unwrap_or_else(|| Begun { mail, since: now, have: BTreeSet::new() });
        begun.have.extend(took);
        if later.iter().all(|one| state.given_up.contains(one)) {
            return false;
        }
        // A clock that was set back has no say.
        let end = begun.since.checked_add(PATIENCE).unwrap_or(begun.since);
        if !(begun.since..end).contains(&now) {
            state.given_up.extend(later);
            return false;
        }
        if state.begun.len() == MAILS {
            state.begun.pop_front();
        }
        state.begun.push_back(begun);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_is_put_off_is_waited_for_once() {
        let (recipients, now) = (Recipients::default(), Timestamp::UNIX_EPOCH);
        let (first, second) = (EventId::fresh(), EventId::fresh());
        assert!(recipients.waits(first, &[0], &[1], now));
        assert_eq!(recipients.have(first), BTreeSet::from([0]));
        assert!(recipients.waits(first, &[], &[1], now + PATIENCE / 2));
        assert!(!recipients.waits(first, &[], &[1], now + PATIENCE), "patience has an end");
        assert!(recipients.have(first).is_empty(), "it is forgotten");
        assert!(!recipients.waits(second, &[0], &[1], now + PATIENCE), "nobody waits again");
        assert!(!recipients.waits(second, &[0, 1], &[], now + PATIENCE));
        assert!(recipients.waits(first, &[0], &[1], now + PATIENCE), "it took one in between");
        for _ in 0..MAILS * 2 {
            recipients.waits(EventId::fresh(), &[0], &[1], now);
        }
        assert_eq!(recipients.0.lock().unwrap().begun.len(), MAILS);
    }
}
