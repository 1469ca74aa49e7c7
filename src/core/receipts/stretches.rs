//! A set of numbers as stretches: what one batch, or one sink's history, is made of.
//!
//! Guarantees: sorted, disjoint, none empty, neighbours joined; a number is counted once however
//! often it is added. Adding at the end, which is nearly always, costs nothing.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// See the module. As JSON: `[[first, one past the last], …]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stretches(Vec<(u64, u64)>);

impl Stretches {
    /// Add one number.
    pub fn add(&mut self, number: u64) {
        self.join(number..number.saturating_add(1));
    }

    /// Add all of `numbers`.
    pub fn join(&mut self, numbers: Range<u64>) {
        if numbers.is_empty() {
            return;
        }
        let (mut start, mut end) = (numbers.start, numbers.end);
        // Those that touch or overlap become one with it.
        let first = self.0.partition_point(|known| known.1 < start);
        let last = first + self.0[first..].partition_point(|known| known.0 <= end);
        if let (Some(low), Some(high)) = (self.0.get(first), self.0.get(last.saturating_sub(1)))
            && first < last
        {
            (start, end) = (start.min(low.0), end.max(high.1));
        }
        self.0.splice(first..last, [(start, end)]);
    }

    /// Whether `number` is in it.
    pub fn has(&self, number: u64) -> bool {
        let after = self.0.partition_point(|known| known.1 <= number);
        self.0.get(after).is_some_and(|known| known.0 <= number)
    }

    /// How many numbers.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(start, end)| end.saturating_sub(*start)).sum()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// From the first to one past the last; empty for an empty set.
    pub fn hull(&self) -> Range<u64> {
        let first = self.0.first().map_or(0, |known| known.0);
        first..self.0.last().map_or(first, |known| known.1)
    }

    /// The stretches, in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(start, end)| *start..*end)
    }

    /// Every number, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.iter().flatten()
    }
}

impl FromIterator<u64> for Stretches {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        let mut all = Self::default();
        numbers.into_iter().for_each(|number| all.add(number));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_is_what_was_added(added in prop::collection::vec((0u64..60, 0u64..6), 0..40)) {
            let (mut all, mut naive) = (Stretches::default(), BTreeSet::new());
            for (start, length) in added {
                all.join(start..start + length);
                naive.extend(start..start + length);
            }
            prop_assert_eq!(all.numbers().collect::<Vec<_>>(), naive.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(all.count(), naive.len() as u64);
            for number in 0..70 {
                prop_assert_eq!(all.has(number), naive.contains(&number));
            }
            let gaps = all.0.windows(2).all(|pair| pair[0].1 < pair[1].0);
            prop_assert!(gaps, "neighbours are joined: {:?}", all);
        }
    }
}
