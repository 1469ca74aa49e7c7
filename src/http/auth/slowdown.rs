//! Slow answers for those who guess: how long a refusal is held back.
//!
//! Guarantees: only a refusal is ever held back, so a sender with the right secret is never slowed,
//! whoever else posts from its address; a refusal waits at most [`LONGEST`]; the table of addresses
//! and the number of held answers are bounded; a minute without a failure forgets everything. Pure:
//! time comes in as `now`. It bounds guessing over few connections; against many only a long secret
//! helps.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Failures that cost nothing: a wrong setting somewhere is mended without waiting.
const FREE: u32 = 8;
/// The first wait; it doubles with every failure.
const FIRST: Duration = Duration::from_millis(50);
/// The longest.
const LONGEST: Duration = Duration::from_secs(3);
/// More failures than this count as this many, so that a minute forgets any number.
const MOST: u32 = 60;
/// One failure is forgotten in this time.
const FORGET: Duration = Duration::from_secs(1);
/// Answers held back at once for one address, and over all.
const HELD: (u32, usize) = (16, 512);
/// Most addresses remembered; the least guilty goes first.
const ADDRESSES: usize = 4_096;

/// What to do with a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Answer after so long, and say so with [`Slowdown::answered`].
    Hold(Duration),
    /// Too many are held: answer at once and close the connection.
    Close,
}

/// Who failed lately.
#[derive(Debug, Default)]
pub struct Slowdown {
    addresses: HashMap<IpAddr, Failures>,
    held: usize,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    at: Instant,
    held: u32,
}

impl Failures {
    /// How many are not forgotten yet.
    fn left(&self, now: Instant) -> u32 {
        let past = now.saturating_duration_since(self.at).as_secs() / FORGET.as_secs();
        self.count.saturating_sub(u32::try_from(past).unwrap_or(u32::MAX))
    }
}

impl Slowdown {
    /// A request from `sender` was refused for its credentials.
    pub fn failed(&mut self, sender: IpAddr, now: Instant) -> Refusal {
        let address = network(sender);
        self.make_room(address, now);
        let failures =
            self.addresses.entry(address).or_insert(Failures { count: 0, at: now, held: 0 });
        failures.count = (failures.left(now) + 1).min(MOST);
        failures.at = failures.at.max(now);
        let wait = wait(failures.count);
        if wait.is_zero() {
            return Refusal::Hold(wait);
        }
        if failures.held >= HELD.0 || self.held >= HELD.1 {
            return Refusal::Close;
        }
        failures.held += 1;
        self.held += 1;
        Refusal::Hold(wait)
    }

    /// An answer that was held back for longer than no time is given.
    pub fn answered(&mut self, sender: IpAddr) {
        if let Some(failures) = self.addresses.get_mut(&network(sender)) {
            failures.held = failures.held.saturating_sub(1);
            self.held = self.held.saturating_sub(1);
        }
    }

    /// Forget those who have been quiet, and if that is not enough the least guilty.
    fn make_room(&mut self, wanted: IpAddr, now: Instant) {
        if self.addresses.len() < ADDRESSES || self.addresses.contains_key(&wanted) {
            return;
        }
        self.addresses.retain(|_, failures| failures.left(now) > 0 || failures.held > 0);
        if self.addresses.len() >= ADDRESSES {
            let idle = self.addresses.iter().filter(|(_, failures)| failures.held == 0);
            let least = idle.min_by_key(|(_, failures)| failures.left(now)).map(|(ip, _)| *ip);
            least.map(|ip| self.addresses.remove(&ip));
        }
    }
}

fn wait(failures: u32) -> Duration {
    match failures.checked_sub(FREE) {
        None | Some(0) => Duration::ZERO,
        Some(over) => FIRST.saturating_mul(1 << (over - 1).min(16)).min(LONGEST),
    }
}

/// What one customer of a provider has: an IPv4 address, or a /64 of IPv6.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[test]
    fn waits_grow_and_a_minute_forgets() {
        let (mut slow, start) = (Slowdown::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..200 {
            let Refusal::Hold(wait) = slow.failed(ip(1), start) else { panic!() };
            waits.push(wait);
            if !wait.is_zero() {
                slow.answered(ip(1));
            }
        }
        assert!(waits[..8].iter().all(Duration::is_zero) && waits.is_sorted());
        assert_eq!((waits[8], waits[9], waits[199]), (FIRST, 2 * FIRST, LONGEST));
        assert_eq!(slow.failed(ip(2), start), Refusal::Hold(Duration::ZERO), "a neighbour");
        let later = start + Duration::from_secs(60);
        assert_eq!(slow.failed(ip(1), later), Refusal::Hold(Duration::ZERO));
    }

    #[test]
    fn neighbours_in_one_network_count_together_and_clocks_may_go_back() {
        let (mut slow, now) = (Slowdown::default(), Instant::now());
        let early = now.checked_sub(Duration::from_secs(5)).unwrap();
        for n in 0..20 {
            let ip: IpAddr = format!("2001:db8::{n:x}").parse().unwrap();
            let at = if n % 2 == 0 { now } else { early };
            let held = slow.failed(ip, at);
            assert_eq!(held == Refusal::Hold(Duration::ZERO), n < 8, "{n}: {held:?}");
        }
        assert_eq!(slow.addresses.len(), 1);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Fail(u32),
        Answer,
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0u32..6).prop_map(Step::Fail),
            1 => (0u32..6_000).prop_map(Step::Fail),
            2 => Just(Step::Answer),
            1 => (0u64..90_000).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn everything_stays_bounded(steps in prop::collection::vec(step(), 0..400)) {
            let (mut slow, mut now, mut held) = (Slowdown::default(), Instant::now(), Vec::new());
            for step in steps {
                match step {
                    Step::Fail(n) => match slow.failed(ip(n), now) {
                        Refusal::Hold(wait) if wait.is_zero() => {}
                        Refusal::Hold(wait) => {
                            prop_assert!(wait <= LONGEST);
                            held.push(ip(n));
                        }
                        Refusal::Close => {
                            let of_it = held.iter().filter(|held| **held == ip(n)).count();
                            prop_assert!(of_it as u32 == HELD.0 || held.len() == HELD.1);
                        }
                    },
                    Step::Answer => if let Some(ip) = held.pop() { slow.answered(ip) },
                    Step::Pass(ms) => now += Duration::from_millis(ms),
                }
                prop_assert_eq!(slow.held, held.len());
                prop_assert!(slow.held <= HELD.1 && slow.addresses.len() <= ADDRESSES);
            }
            held.into_iter().for_each(|ip| slow.answered(ip));
            // Whatever happened: a minute later the first failure costs nothing again.
            for n in 0..6 {
                prop_assert_eq!(slow.failed(ip(n), now + Duration::from_secs(60)), Refusal::Hold(Duration::ZERO));
            }
        }
    }

    #[test]
    fn the_table_forgets_the_least_guilty_first() {
        let (mut slow, now) = (Slowdown::default(), Instant::now());
        for _ in 0..10 {
            slow.failed(ip(0), now);
        }
        for n in 1..3 * ADDRESSES as u32 {
            slow.failed(ip(n), now);
        }
        assert_eq!(slow.addresses.len(), ADDRESSES);
        assert!(slow.addresses.contains_key(&ip(0)), "the one who guesses is remembered");
    }
}
