//! A delivery's place: what is settled, in any order, and the ledger's terms.
//!
//! Guarantees: every position is counted once, under the first end it was given; the mark moves
//! only over settled positions; what is stored is consistent in itself, so that after a crash the
//! ledger still adds up. Pure: storing is `marks.rs`, reading is `reader.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Claim, End, Loss, Standing, Terms};
use crate::core::event::Position;

/// Settled ranges between the mark and what was handed out that are stored; the rest is delivered
/// again after a crash.
const STORED_RANGES: usize = 1_000;
/// The same beyond what was handed out, where nothing may be forgotten: no more is claimed.
pub(super) const AHEAD_RANGES: usize = 1_000;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    start: Position,
    pub mark: Position,
    /// The next position to hand out.
    pub next: Position,
    pub pinning: bool,
    /// A reader exists.
    pub taken: bool,
    /// Ends below the mark.
    below: Terms,
    /// Ends above the mark.
    over: Terms,
    /// Settled ranges above the mark: start, and end with how they ended.
    above: BTreeMap<u64, (u64, End)>,
    /// Claimed before their turn, and not settled yet: all are at or beyond `next`.
    claimed: BTreeSet<u64>,
    /// Expired before the reader came to them, settled already; told with its next page.
    pub gaps: VecDeque<Range<Position>>,
}

/// A cursor as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    start: Position,
    mark: Position,
    pinning: bool,
    terms: Terms,
    above: Vec<(u64, u64, End)>,
}

impl Cursor {
    pub fn new(start: Position) -> Self {
        Self {
            start,
            mark: start,
            next: start,
            pinning: true,
            taken: false,
            below: Terms::default(),
            over: Terms::default(),
            above: BTreeMap::new(),
            claimed: BTreeSet::new(),
            gaps: VecDeque::new(),
        }
    }

    /// What goes into the file.
    pub fn stored(&self) -> Stored {
        let below = self.above.range(..self.next.0).take(STORED_RANGES);
        let above = below.chain(self.above.range(self.next.0..).take(AHEAD_RANGES));
        Stored {
            start: self.start,
            mark: self.mark,
            pinning: self.pinning,
            terms: self.below,
            above: above.map(|(from, (to, end))| (*from, *to, *end)).collect(),
        }
    }

    /// A cursor as it was stored.
    pub fn restored(stored: &Stored) -> Self {
        let mut cursor = Self::new(stored.start);
        cursor.mark = stored.mark;
        cursor.next = stored.mark;
        cursor.pinning = stored.pinning;
        cursor.below = stored.terms;
        for (from, to, end) in &stored.above {
            cursor.settle(Position(*from)..Position(*to), *end);
        }
        cursor
    }

    /// A reader begins (again): what it had in hand before is handed out again.
    pub fn rewind(&mut self) {
        self.next = self.mark;
        self.claimed.clear();
        self.gaps.clear();
    }

    /// `position` is taken before its turn.
    pub fn claim(&mut self, position: Position) -> Claim {
        if position < self.next || self.is_out(position) {
            return Claim::Had;
        }
        if self.above.range(self.next.0..).count() + self.claimed.len() >= AHEAD_RANGES {
            return Claim::Full;
        }
        self.claimed.insert(position.0);
        Claim::Yes
    }

    /// Settled, or in somebody's hands before its turn.
    pub fn is_out(&self, position: Position) -> bool {
        self.claimed.contains(&position.0) || self.is_settled(position)
    }

    /// Everything below `next` has been handed out.
    pub fn hand_out(&mut self, next: Position) {
        self.next = self.next.max(next);
        if !self.claimed.is_empty() {
            self.claimed = self.claimed.split_off(&self.next.0);
        }
    }

    /// `position` ended so. Returns whether anything changed.
    pub fn done(&mut self, position: Position, end: End) -> bool {
        // Not handed out yet: nobody can have settled it.
        let claimed = self.claimed.remove(&position.0);
        (claimed || position < self.next) && self.settle(position..position.plus(1), end)
    }

    /// One past the highest position that this cursor proves to exist.
    pub fn reach(&self) -> Position {
        let above = self.above.last_key_value().map_or(0, |(_, (to, _))| *to);
        self.mark.max(Position(above))
    }

    pub fn is_settled(&self, position: Position) -> bool {
        let range = self.above.range(..=position.0).next_back();
        position < self.mark || range.is_some_and(|(_, (to, _))| position.0 < *to)
    }

    /// All of `positions` that are not settled yet ended so. Returns whether anything changed.
    pub fn settle(&mut self, positions: Range<Position>, end: End) -> bool {
        let mut at = positions.start.max(self.mark).0;
        let stop = positions.end.0;
        let before = self.total();
        while at < stop {
            let known = self.above.range(..=at).next_back().map(|(_, (to, _))| *to);
            if let Some(to) = known.filter(|to| *to > at) {
                at = to;
                continue;
            }
            let free = self.above.range(at..stop).next().map_or(stop, |(from, _)| *from);
            self.insert(at, free, end);
            at = free;
        }
        self.advance();
        self.total() != before
    }

    /// Insert a free range, joined with equal neighbours.
    fn insert(&mut self, mut from: u64, mut to: u64, end: End) {
        *self.over.of(end) += to - from;
        if let Some((left, (stop, kind))) = self.above.range(..from).next_back()
            && *stop == from
            && *kind == end
        {
            from = *left;
        }
        if let Some((stop, kind)) = self.above.get(&to).copied()
            && kind == end
        {
            self.above.remove(&to);
            to = stop;
        }
        self.above.insert(from, (to, end));
    }

    fn advance(&mut self) {
        while let Some((from, (to, end))) = self.above.first_key_value().map(|(a, b)| (*a, *b)) {
            if from != self.mark.0 {
                break;
            }
            self.above.remove(&from);
            *self.below.of(end) += to - from;
            *self.over.of(end) -= to - from;
            self.mark = Position(to);
        }
        self.hand_out(self.mark);
    }

    /// The same for all that nobody has claimed: what is in somebody's hands is theirs to settle.
    fn settle_unclaimed(&mut self, positions: Range<Position>, end: End) {
        let claimed: Vec<u64> =
            self.claimed.range(positions.start.0..positions.end.0).copied().collect();
        let mut from = positions.start;
        for position in claimed.into_iter().map(Position) {
            self.settle(from..position, end);
            from = position.plus(1);
        }
        self.settle(from..positions.end, end);
    }

    /// Positions from `next` on that are settled or claimed.
    fn ahead(&self) -> u64 {
        let next = self.next.0;
        let across = self.above.range(..next).next_back().map_or(0, |(_, (to, _))| *to);
        let beyond = self.above.range(next..).map(|(from, (to, _))| to - from);
        across.saturating_sub(next) + beyond.sum::<u64>() + self.claimed.len() as u64
    }

    fn total(&self) -> u64 {
        self.below.total() + self.over.total()
    }

    /// Retention freed everything below `oldest`: what was not handed out yet has expired. What
    /// is in the worker's hands stays its own to settle.
    pub fn expire_below(&mut self, oldest: Position) {
        if self.next >= oldest {
            return;
        }
        let gap = self.next..oldest;
        self.settle_unclaimed(gap.clone(), End::Expired);
        self.hand_out(oldest);
        match self.gaps.back_mut() {
            Some(last) if last.end == gap.start => last.end = gap.end,
            _ => self.gaps.push_back(gap),
        }
    }

    /// Settle a gap that was met while reading.
    pub fn lose(&mut self, positions: Range<Position>, loss: Loss) {
        let end = match loss {
            Loss::Expired => End::Expired,
            Loss::Damaged => End::Damaged,
        };
        self.settle_unclaimed(positions, end);
    }

    pub fn standing(&self) -> Standing {
        let mut terms = self.below;
        for end in End::ALL {
            *terms.of(end) += *self.over.clone().of(end);
        }
        let (start, mark, next, ahead) = (self.start, self.mark, self.next, self.ahead());
        Standing { start, mark, next, ahead, terms, pinning: self.pinning }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the obvious model: a map from position to its first end.
        #[test]
        fn settles_each_position_once_in_any_order(
            steps in proptest::collection::vec((0u64..60, 1u64..9, 0usize..5), 1..60)
        ) {
            let mut cursor = Cursor::new(Position(5));
            let mut model = BTreeMap::new();
            for (from, count, end) in steps {
                cursor.settle(Position(from)..Position(from + count), End::ALL[end]);
                for at in from.max(5)..from + count {
                    model.entry(at).or_insert(End::ALL[end]);
                }
                let mut terms = Terms::default();
                model.values().for_each(|end| *terms.of(*end) += 1);
                let mark = (5..).find(|at| !model.contains_key(at)).unwrap();
                prop_assert_eq!(cursor.standing().terms, terms);
                prop_assert_eq!(cursor.mark, Position(mark));
                for at in 0..80 {
                    prop_assert_eq!(cursor.is_settled(Position(at)), at < 5 || model.contains_key(&at));
                }
                let again = Cursor::restored(&cursor.stored());
                prop_assert_eq!(again.standing().terms, terms);
                prop_assert_eq!(again.mark, cursor.mark);
            }
        }
    }

    #[test]
    fn what_is_claimed_does_not_expire() {
        let mut cursor = Cursor::new(Position(0));
        cursor.next = Position(2);
        assert_eq!(cursor.claim(Position(5)), Claim::Yes);
        cursor.expire_below(Position(10));
        assert_eq!((cursor.standing().terms.expired, cursor.standing().ahead), (7, 0));
        assert!(cursor.done(Position(5), End::Delivered));
        (0..2).for_each(|at| assert!(cursor.done(Position(at), End::Delivered)));
        let standing = cursor.standing();
        assert_eq!((standing.mark, standing.terms.delivered), (Position(10), 3));
    }

    #[test]
    fn only_what_was_not_handed_out_expires() {
        let mut cursor = Cursor::new(Position(0));
        cursor.next = Position(4);
        cursor.settle(Position(1)..Position(2), End::Delivered);
        cursor.expire_below(Position(10));
        assert_eq!(cursor.standing().terms.expired, 6);
        assert_eq!(cursor.gaps, [Position(4)..Position(10)]);
        cursor.settle(Position(0)..Position(10), End::Dead);
        assert_eq!((cursor.standing().terms.dead, cursor.mark), (3, Position(10)));
    }
}
