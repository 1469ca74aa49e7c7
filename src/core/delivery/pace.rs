//! When a worker may send: backoff, breaker, parking, requests at once, and rate.
//!
//! Pure: every method takes `now` and, where chance is wanted, a `roll` in `0.0..1.0`, so that the
//! policies are tested without sleeping. It decides *when*; `batch.rs` decides *what*.

use std::time::Duration;

use tokio::time::Instant;

use crate::core::config::{InFlight, Rate};

/// Waits before a parked sink is tried again; the last one repeats.
const PARKED: [Duration; 4] = [
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(60),
];

/// A destination that says "busy" is never asked to wait for us longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// At most one unscheduled trial in this time, however many critical events arrive.
const EAGER: Duration = Duration::from_secs(1);

/// How the destination is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Send as much as the limits allow.
    Up,
    /// It asked for a pause.
    Busy { until: Instant },
    /// The breaker is open: one trial batch at a time, none before `until`.
    Down { until: Instant },
    /// Something is set up wrongly: a probe or one trial, none before `until`.
    Parked { until: Instant, tries: usize },
}

/// What may be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// Send a batch.
    Send,
    /// Send one batch to see whether the destination is back.
    Trial,
    /// Probe first; if that proves nothing, send one event as a trial.
    Probe,
    /// Nothing before this time.
    Until(Instant),
    /// Nothing until something that is in flight returns.
    Landing,
}

/// The settings of a pace.
#[derive(Clone, Debug)]
pub(super) struct PaceSettings {
    pub first: Duration,
    pub max: Duration,
    pub in_flight: InFlight,
    pub rate: Option<Rate>,
}

/// When one sink may be sent to.
#[derive(Debug)]
pub(super) struct Pace {
    settings: PaceSettings,
    health: Health,
    failures: u32,
    limit: usize,
    /// Successes since the limit last changed.
    run: usize,
    /// The rate's theoretical arrival time (GCRA).
    next_slot: Option<Instant>,
    last_eager: Option<Instant>,
}

impl Pace {
    pub fn new(settings: PaceSettings) -> Self {
        let limit = settings.in_flight.min;
        Self {
            settings,
            health: Health::Up,
            failures: 0,
            limit,
            run: 0,
            next_slot: None,
            last_eager: None,
        }
    }

    pub fn is_up(&self) -> bool {
        self.health == Health::Up
    }

    /// Down or parked.
    pub fn is_failing(&self) -> bool {
        matches!(self.health, Health::Down { .. } | Health::Parked { .. })
    }

    /// Index into `metrics::STATES`.
    pub fn state(&self) -> usize {
        match self.health {
            Health::Up => 0,
            Health::Busy { .. } => 1,
            Health::Down { .. } => 2,
            Health::Parked { .. } => 3,
        }
    }

    /// What may be done with `flying` requests under way.
    pub fn permit(&mut self, now: Instant, flying: usize) -> Permit {
        if let Health::Busy { until } = self.health
            && now >= until
        {
            self.health = Health::Up;
        }
        let wait = self.next_slot.filter(|slot| *slot > now);
        match self.health {
            Health::Up if flying >= self.limit => Permit::Landing,
            Health::Up => wait.map_or(Permit::Send, Permit::Until),
            Health::Busy { until } => Permit::Until(until),
            Health::Down { .. } | Health::Parked { .. } if flying > 0 => Permit::Landing,
            Health::Down { until } | Health::Parked { until, .. } if now < until => {
                Permit::Until(until)
            }
            Health::Down { .. } => Permit::Trial,
            Health::Parked { .. } => Permit::Probe,
        }
    }

    /// A batch of `events` leaves now: pay for it out of the rate.
    pub fn leave(&mut self, now: Instant, events: usize) {
        if let Some(rate) = self.settings.rate {
            let cost = rate.per.mul_f64(events as f64 / f64::from(rate.events));
            self.next_slot = Some(self.next_slot.map_or(now, |slot| slot.max(now)) + cost);
        }
    }

    /// The most events a batch may hold without exceeding one period of the rate.
    pub fn burst(&self) -> usize {
        self.settings.rate.map_or(usize::MAX, |rate| rate.events.max(1) as usize)
    }

    /// The destination took something.
    pub fn accepted(&mut self) {
        if !matches!(self.health, Health::Busy { .. }) {
            self.health = Health::Up;
        }
        self.failures = 0;
        self.run += 1;
        if self.run >= self.limit && self.limit < self.settings.in_flight.max {
            self.limit += 1;
            self.run = 0;
        }
    }

    /// It wants a pause: the longer of what it said and the backoff; fewer requests at once.
    pub fn busy(&mut self, now: Instant, wait: Option<Duration>, roll: f64) {
        let asked = wait.unwrap_or_default().min(LONGEST_WAIT);
        let until = now + asked.max(self.backoff(roll));
        self.slow_down();
        self.health = match self.health {
            Health::Parked { tries, .. } => Health::Parked { until, tries },
            _ => Health::Busy { until },
        };
    }

    /// It cannot be reached. Only what was sent while it counted as up, or as a trial, makes the
    /// wait longer: four requests that fail together are one failure.
    pub fn down(&mut self, now: Instant, trial: bool, roll: f64) {
        self.slow_down();
        if trial || self.is_up() {
            self.health = Health::Down { until: now + self.backoff(roll) };
        }
    }

    /// Something is set up wrongly.
    pub fn park(&mut self, now: Instant, trial: bool) {
        self.slow_down();
        let tries = match self.health {
            Health::Parked { .. } if !trial => return,
            Health::Parked { tries, .. } => tries + 1,
            _ => 0,
        };
        let wait = PARKED[tries.min(PARKED.len() - 1)];
        self.health = Health::Parked { until: now + wait, tries };
    }

    /// Something changed (a probe succeeded, the section or a secret is new): send at once.
    pub fn resume(&mut self) {
        self.health = Health::Up;
        self.failures = 0;
    }

    /// A critical event arrived: do not wait out the backoff, but not more than once a second.
    pub fn hurry(&mut self, now: Instant) {
        if self.last_eager.is_some_and(|last| now < last + EAGER) {
            return;
        }
        match &mut self.health {
            Health::Down { until } | Health::Parked { until, .. } if *until > now => {
                *until = now;
                self.last_eager = Some(now);
            }
            _ => {}
        }
    }

    fn slow_down(&mut self) {
        self.limit = (self.limit / 2).max(self.settings.in_flight.min);
        self.run = 0;
    }

    /// Full jitter: anywhere between nothing and a bound that doubles up to the maximum.
    fn backoff(&mut self, roll: f64) -> Duration {
        let doubled = self.settings.first.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.settings.max).mul_f64(roll.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pace(rate: Option<Rate>) -> Pace {
        Pace::new(PaceSettings {
            first: Duration::from_millis(500),
            max: Duration::from_secs(30),
            in_flight: InFlight { min: 1, max: 4 },
            rate,
        })
    }

    #[test]
    fn down_allows_one_trial_and_success_closes_the_breaker() {
        let (mut pace, now) = (pace(None), Instant::now());
        pace.down(now, false, 1.0);
        assert_eq!(pace.permit(now, 0), Permit::Until(now + Duration::from_millis(500)));
        let later = now + Duration::from_secs(1);
        assert_eq!(pace.permit(later, 0), Permit::Trial);
        assert_eq!(pace.permit(later, 1), Permit::Landing);
        pace.accepted();
        assert_eq!(pace.permit(later, 0), Permit::Send);
    }

    #[test]
    fn requests_that_fail_together_count_once() {
        let (mut pace, now) = (pace(None), Instant::now());
        (0..4).for_each(|_| pace.down(now, false, 1.0));
        assert_eq!(pace.health, Health::Down { until: now + Duration::from_millis(500) });
    }

    #[test]
    fn parked_waits_grow_to_a_minute() {
        let (mut pace, now) = (pace(None), Instant::now());
        let mut waits = Vec::new();
        pace.park(now, false);
        for _ in 0..5 {
            let Health::Parked { until, .. } = pace.health else { panic!("not parked") };
            waits.push((until - now).as_secs());
            pace.park(now, true);
        }
        assert_eq!(waits, [5, 10, 20, 60, 60]);
    }

    #[test]
    fn a_critical_event_hurries_a_trial_once_a_second() {
        let (mut pace, now) = (pace(None), Instant::now());
        pace.down(now, false, 1.0);
        pace.hurry(now);
        assert_eq!(pace.permit(now, 0), Permit::Trial);
        pace.down(now, true, 1.0);
        pace.hurry(now);
        assert!(matches!(pace.permit(now, 0), Permit::Until(_)));
    }

    #[test]
    fn in_flight_grows_slowly_and_halves() {
        let mut pace = pace(None);
        (0..100).for_each(|_| pace.accepted());
        assert_eq!(pace.limit, 4);
        pace.busy(Instant::now(), None, 0.5);
        assert_eq!(pace.limit, 2);
    }

    proptest! {
        /// Whatever happens, waits are bounded and the state always leads to a permit.
        #[test]
        fn waits_are_bounded(steps in prop::collection::vec((0u8..5, 0.0f64..1.0, 0u64..10_000), 1..200)) {
            let mut pace = pace(None);
            let mut now = Instant::now();
            for (step, roll, wait) in steps {
                match step {
                    0 => pace.accepted(),
                    1 => pace.busy(now, Some(Duration::from_secs(wait)), roll),
                    2 => pace.down(now, true, roll),
                    3 => pace.park(now, true),
                    _ => pace.hurry(now),
                }
                prop_assert!((1..=4).contains(&pace.limit));
                if let Permit::Until(until) = pace.permit(now, 0) {
                    prop_assert!(until - now <= LONGEST_WAIT);
                    now = until;
                }
                prop_assert!(!matches!(pace.permit(now, 0), Permit::Until(_) | Permit::Landing));
            }
        }

        /// Over any stretch the rate is kept, give or take one batch.
        #[test]
        fn the_rate_is_kept(batches in prop::collection::vec(1usize..50, 1..100)) {
            let mut pace = pace(Some(Rate { events: 50, per: Duration::from_secs(1) }));
            let start = Instant::now();
            let (mut now, mut sent) = (start, 0);
            for events in batches {
                if let Permit::Until(until) = pace.permit(now, 0) { now = until; }
                prop_assert!(sent as f64 <= 50.0 * (now - start).as_secs_f64() + 1.0);
                pace.leave(now, events);
                sent += events;
            }
        }
    }
}
