//! Bisection: groups of items that were not taken while others were.
//!
//! Guarantees: every suspect belongs to exactly one group; a group that is not taken is halved,
//! left half first; a single that is not taken is struck only if something else was accepted since
//! its last strike, so that an outage can never condemn it. Pure: it sends and counts nothing.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A single that was struck is tried again after this time even if nothing else was accepted:
/// there may be no other traffic, and the destination may be back.
const UNPROVEN: Duration = Duration::from_secs(30);

/// One group, its sequence numbers ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    seqs: Vec<u64>,
    /// Goes when the worker has accepted more than this…
    after: u64,
    /// … or at this time, whichever comes first.
    not_before: Option<Instant>,
}

/// All groups of one worker.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    groups: VecDeque<Group>,
}

impl Suspects {
    /// A new group, to be sent as a whole first.
    pub fn accuse(&mut self, mut seqs: Vec<u64>) {
        seqs.sort_unstable();
        if !seqs.is_empty() {
            self.groups.push_back(Group { seqs, after: 0, not_before: None });
        }
    }

    /// A batch that was not taken: its halves go next, the left one first, after `wait`.
    pub fn halve(&mut self, mut seqs: Vec<u64>, wait: Option<Instant>) {
        seqs.sort_unstable();
        let right = seqs.split_off(seqs.len().div_ceil(2));
        for seqs in [right, seqs].into_iter().filter(|seqs| !seqs.is_empty()) {
            let after = if wait.is_some() { u64::MAX } else { 0 };
            self.groups.push_front(Group { seqs, after, not_before: wait });
        }
    }

    /// A single that was not taken: again when more than `accepted` have been, or after a while.
    pub fn again(&mut self, seq: u64, accepted: u64, now: Instant) {
        let not_before = Some(now + UNPROVEN);
        self.groups.push_back(Group { seqs: vec![seq], after: accepted, not_before });
    }

    /// Take the first group that may go now.
    pub fn next(&mut self, accepted: u64, now: Instant) -> Option<Vec<u64>> {
        let may = |g: &Group| accepted > g.after || g.not_before.is_none_or(|at| at <= now);
        let index = self.groups.iter().position(may)?;
        self.groups.remove(index).map(|group| group.seqs)
    }

    /// Put back what could not leave (its incident is in flight): it waits for the next acceptance
    /// or a moment.
    pub fn postpone(&mut self, seqs: Vec<u64>, accepted: u64, now: Instant) {
        if !seqs.is_empty() {
            let not_before = Some(now + Duration::from_millis(200));
            self.groups.push_back(Group { seqs, after: accepted, not_before });
        }
    }

    /// When the next group may go, if time alone decides.
    pub fn wake(&self) -> Option<Instant> {
        self.groups.iter().filter_map(|group| group.not_before).min()
    }

    /// Acquit all: their sequence numbers, for release.
    pub fn clear(&mut self) -> Vec<u64> {
        self.groups.drain(..).flat_map(|group| group.seqs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_single_waits_for_someone_else_to_be_accepted() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        suspects.again(7, 3, now);
        assert_eq!(suspects.next(3, now), None);
        assert_eq!(suspects.next(4, now), Some(vec![7]));
        suspects.again(7, 4, now);
        assert_eq!(suspects.next(4, now + UNPROVEN), Some(vec![7]));
    }

    proptest! {
        /// Bisecting finds exactly the poison, whatever and however many they are.
        #[test]
        fn bisection_finds_the_poison(size in 1u64..200, poison in prop::collection::btree_set(0u64..200, 0..5)) {
            let (mut suspects, now) = (Suspects::default(), Instant::now());
            suspects.accuse((0..size).collect());
            let (mut found, mut delivered, mut sends) = (vec![], vec![], 0);
            while let Some(group) = suspects.next(0, now) {
                sends += 1;
                let bad = group.iter().any(|seq| poison.contains(seq));
                match group.as_slice() {
                    [single] if bad => found.push(*single),
                    _ if bad => suspects.halve(group, None),
                    _ => delivered.extend(group),
                }
            }
            let expected: Vec<u64> = poison.iter().copied().filter(|p| *p < size).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(found.len() + delivered.len(), size as usize);
            prop_assert!(sends <= 1 + expected.len() * 2 * 9);
        }
    }
}
