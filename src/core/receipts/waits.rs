//! How long many things took: counts in buckets that are 1.6 % wide, so that percentiles of millions
//! fit into a few kilobytes.
//!
//! Guarantees: a percentile is at most 1/64 above the time that really has that rank, and never
//! below it.

/// Buckets of a power of two.
const FINE: u64 = 64;

/// See the module. Times are microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Waits {
    counts: Vec<u64>,
    total: u64,
}

impl Waits {
    pub fn add(&mut self, us: u64) {
        let at = bucket(us);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
        self.total += 1;
    }

    pub fn count(&self) -> u64 {
        self.total
    }

    /// The time that `percent` of all kept within; `None` without any.
    pub fn within(&self, percent: u64) -> Option<u64> {
        let rank = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(largest(at))
    }
}

/// Times below 64 have buckets of their own; then 64 buckets between two powers of two.
fn bucket(us: u64) -> usize {
    if us < FINE {
        return us as usize;
    }
    let power = u64::from(us.ilog2()) - 6;
    (FINE * (power + 1) + ((us >> power) - FINE)) as usize
}

/// The largest time of a bucket.
fn largest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < FINE {
        return bucket;
    }
    let (power, fine) = (bucket / FINE - 1, bucket % FINE);
    ((FINE + fine + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn percentiles_are_close_and_never_too_small(
            mut times in prop::collection::vec(0u64..1 << 40, 1..300),
            percent in 1u64..=100,
        ) {
            let mut waits = Waits::default();
            times.iter().for_each(|us| waits.add(*us));
            times.sort_unstable();
            let rank = (times.len() as u64 * percent).div_ceil(100) as usize;
            let (real, told) = (times[rank - 1], waits.within(percent).unwrap());
            prop_assert!(told >= real && told - real <= real / 64, "{} for {}", told, real);
        }
    }

    #[test]
    fn without_any_there_is_no_percentile() {
        assert_eq!(Waits::default().within(50), None);
    }
}
