//! The policy against what it promises, for any course of events and any clock.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::core::alarms::Cause;

const EVERY: u64 = 100;
const LIMITS: Limits =
    Limits { every: Duration::from_secs(EVERY), remind: Duration::from_secs(10 * EVERY) };

fn at(up: u64, wall: i64) -> Now {
    Now { up: Duration::from_secs(up), wall: Timestamp::from_second(wall).unwrap() }
}

fn sighting(cause: Cause, holds: bool, total: u64) -> Sighting {
    let (title, note) = ("t".into(), String::new());
    Sighting { key: Key::new(cause, "x"), holds, total, title, note }
}

/// What is told at `up`, and it is told.
fn turns(policy: &mut Policy, up: u64, sightings: &[Sighting]) -> Vec<(Cause, Turn, u64)> {
    let now = at(up, up.cast_signed());
    let due = policy.look(&LIMITS, now, sightings);
    due.iter().for_each(|alarm| policy.told(alarm, now));
    due.iter().map(|alarm| (alarm.key.cause, alarm.turn, alarm.count)).collect()
}

#[test]
fn a_state_is_told_at_once_reminded_of_and_cleared_when_it_has_been_gone_for_a_minute() {
    let mut policy = Policy::default();
    let parked = [sighting(Cause::Parked, true, 0)];
    let fine = [sighting(Cause::Parked, false, 0)];
    assert_eq!(turns(&mut policy, 0, &fine), []);
    assert_eq!(turns(&mut policy, 1, &parked), [(Cause::Parked, Turn::Open, 1)]);
    for up in 2..1_001 {
        assert_eq!(turns(&mut policy, up, &parked), [], "at {up}");
    }
    assert_eq!(turns(&mut policy, 1_001, &parked), [(Cause::Parked, Turn::Open, 0)]);
    assert_eq!(turns(&mut policy, 1_060, &fine), []);
    assert_eq!(turns(&mut policy, 1_061, &fine), [(Cause::Parked, Turn::Cleared, 0)]);
    assert_eq!(turns(&mut policy, 1_062, &fine), []);
    assert_eq!(policy.open().count(), 0);
}

#[test]
fn what_happens_again_and_again_is_told_once_an_interval_with_its_count() {
    let mut policy = Policy::default();
    let mut told = Vec::new();
    for up in 0..350 {
        // Once a second until 249.
        let refused = [sighting(Cause::Refused, false, up.min(250))];
        told.extend(turns(&mut policy, up, &refused).into_iter().map(|(_, turn, n)| (up, turn, n)));
    }
    let expected = [(1, Turn::Open, 1), (101, Turn::Open, 100), (201, Turn::Open, 100)];
    assert_eq!(told[..3], expected);
    assert_eq!(told[3..], [(301, Turn::Open, 49)], "what came after is told an interval later");
    let quiet = [sighting(Cause::Refused, false, 250)];
    assert_eq!(turns(&mut policy, 350, &quiet), [(Cause::Refused, Turn::Cleared, 0)]);
}

#[test]
fn a_sink_that_is_removed_while_it_is_parked_is_cleared() {
    let mut policy = Policy::default();
    turns(&mut policy, 0, &[sighting(Cause::Parked, true, 0)]);
    assert_eq!(turns(&mut policy, 59, &[]), []);
    assert_eq!(turns(&mut policy, 60, &[]), [(Cause::Parked, Turn::Cleared, 0)]);
}

#[test]
fn what_was_not_told_stays_due() {
    let mut policy = Policy::default();
    let parked = [sighting(Cause::Parked, true, 0)];
    for up in 0..500 {
        assert_eq!(policy.look(&LIMITS, at(up, 0), &parked).len(), 1, "at {up}");
    }
    // And is never cleared, as nobody knows of it.
    for up in 500..1_000 {
        assert!(policy.look(&LIMITS, at(up, 0), &[]).is_empty(), "at {up}");
    }
    assert!(policy.known.is_empty());
}

#[test]
fn what_was_told_late_keeps_its_distance_too() {
    let mut policy = Policy::default();
    let refused = |total| [sighting(Cause::Refused, false, total)];
    assert_eq!(policy.look(&LIMITS, at(0, 0), &refused(1)).len(), 1, "and nobody hears it");
    assert_eq!(turns(&mut policy, 150, &refused(1)), [(Cause::Refused, Turn::Open, 1)]);
    assert_eq!(turns(&mut policy, 151, &refused(1)), [(Cause::Refused, Turn::Cleared, 0)]);
    assert_eq!(turns(&mut policy, 201, &refused(1)), []);
    assert_eq!(turns(&mut policy, 249, &refused(2)), []);
    assert_eq!(turns(&mut policy, 250, &refused(2)), [(Cause::Refused, Turn::Open, 1)]);
}

#[test]
fn the_ledger_may_be_out_of_step_for_a_moment() {
    let mut policy = Policy::default();
    let odd = [sighting(Cause::Ledger, true, 0)];
    assert_eq!(turns(&mut policy, 0, &odd), []);
    assert_eq!(turns(&mut policy, 59, &odd), []);
    assert_eq!(turns(&mut policy, 60, &odd), [(Cause::Ledger, Turn::Open, 1)]);
}

#[test]
fn after_a_restart_what_is_still_there_is_no_news_and_what_is_gone_is_cleared() {
    let key = |cause| (Key::new(cause, "x"), Timestamp::UNIX_EPOCH);
    let open = [key(Cause::Parked), key(Cause::DeadLetters), key(Cause::Refused)];
    let mut policy = Policy::restored(open, at(0, 1_000));
    let now = [sighting(Cause::DeadLetters, true, 3), sighting(Cause::Parked, false, 0)];
    for up in 0..60 {
        assert_eq!(turns(&mut policy, up, &now), [], "at {up}");
    }
    assert_eq!(turns(&mut policy, 60, &now), [(Cause::Parked, Turn::Cleared, 0)]);
    let more = [sighting(Cause::DeadLetters, true, 5)];
    let told = turns(&mut policy, 100, &more);
    assert_eq!(told, [(Cause::DeadLetters, Turn::Open, 2), (Cause::Refused, Turn::Cleared, 0)]);
    let since = policy.open().map(|(_, since)| since).next();
    assert_eq!(since, Some(Timestamp::UNIX_EPOCH), "it began before the restart");
}

#[test]
fn there_is_room_for_so_many_and_no_more() {
    let mut policy = Policy::default();
    let all: Vec<Sighting> = (0..2 * MOST)
        .map(|n| Sighting {
            key: Key::new(Cause::Refused, n.to_string()),
            ..sighting(Cause::Refused, false, 1)
        })
        .collect();
    assert_eq!(policy.look(&LIMITS, at(0, 0), &all).len(), MOST);
    assert_eq!((policy.known.len(), policy.left_out()), (MOST, MOST as u64));
    let restored = all.iter().map(|seen| (seen.key.clone(), Timestamp::UNIX_EPOCH));
    assert_eq!(Policy::restored(restored, at(0, 0)).open().count(), MOST);
}

/// One second: whether the parked state holds, how many refusals come, whether what is due can be
/// told, and how far the wall clock jumps.
type Second = (bool, u64, bool, i64);

fn seconds() -> impl Strategy<Value = Vec<Second>> {
    // Stretches, so that states last and intervals pass.
    let stretch = (
        any::<bool>(),
        prop_oneof![3 => Just(0u64), 1 => 1u64..4],
        prop::bool::weighted(0.9),
        prop_oneof![3 => Just(0i64), 1 => -1_000_000i64..1_000_000],
        1usize..150,
    );
    prop::collection::vec(stretch, 1..25).prop_map(|stretches| {
        let second = |(holds, refused, heard, jump, length): (bool, u64, bool, i64, usize)| {
            (0..length).map(move |n| (holds, refused, heard, if n == 0 { jump } else { 0 }))
        };
        stretches.into_iter().flat_map(second).collect()
    })
}

/// Everything that is told over a course of seconds: when, which, and what.
fn course(seconds: &[Second], jumps: bool) -> Vec<(u64, Cause, Turn, u64)> {
    let (mut policy, mut told) = (Policy::default(), Vec::new());
    let (mut total, mut wall) = (0, 1_700_000_000i64);
    for (up, (holds, refused, heard, jump)) in seconds.iter().enumerate() {
        total += refused;
        wall += 1 + if jumps { *jump } else { 0 };
        let now = at(up as u64, wall);
        let seen = [sighting(Cause::Parked, *holds, 0), sighting(Cause::Refused, false, total)];
        for alarm in policy.look(&LIMITS, now, &seen) {
            if *heard {
                policy.told(&alarm, now);
                told.push((up as u64, alarm.key.cause, alarm.turn, alarm.count));
            }
        }
    }
    told
}

fn of(told: &[(u64, Cause, Turn, u64)], cause: Cause) -> Vec<(u64, Turn)> {
    let is_it = |(_, of, ..): &&(u64, Cause, Turn, u64)| *of == cause;
    told.iter().filter(is_it).map(|(up, _, turn, _)| (*up, *turn)).collect()
}

proptest! {
    /// Never more than one in an interval, and an end only after a beginning.
    #[test]
    fn alarms_keep_their_distance_and_an_end_follows_a_beginning(seconds in seconds()) {
        let told = course(&seconds, true);
        for cause in [Cause::Parked, Cause::Refused] {
            let (mut open, mut last) = (false, None);
            for (up, turn) in of(&told, cause) {
                match turn {
                    Turn::Open => {
                        let distance = last.map(|last| up - last);
                        prop_assert!(distance.is_none_or(|d| d >= EVERY), "{cause:?} {distance:?}");
                        (open, last) = (true, Some(up));
                    }
                    Turn::Cleared => prop_assert!(std::mem::take(&mut open), "{cause:?} at {up}"),
                }
            }
        }
    }

    /// What lasts, or keeps happening, is told within an interval of the moment it could be.
    #[test]
    fn nothing_that_lasts_is_silent_for_longer_than_an_interval(seconds in seconds()) {
        let told = course(&seconds, true);
        let parked = of(&told, Cause::Parked);
        let mut waited = 0;
        for (up, (holds, _, heard, _)) in seconds.iter().enumerate() {
            let before = parked.iter().rfind(|(at, _)| *at <= up as u64);
            let open = before.is_some_and(|(_, turn)| *turn == Turn::Open);
            waited = if *holds && *heard && !open { waited + 1 } else { 0 };
            prop_assert!(waited <= EVERY, "parked and untold since {waited} s at {up}");
        }
    }

    /// Everything that happened is in the counts of what was told, or still to be told.
    #[test]
    fn counts_add_up(seconds in seconds()) {
        let all: Vec<Second> =
            seconds.iter().map(|(holds, refused, _, jump)| (*holds, *refused, true, *jump)).collect();
        let told = course(&all, true);
        let refusals: Vec<_> = told.iter().filter(|(_, cause, ..)| *cause == Cause::Refused).collect();
        let counted: u64 = refusals.iter().map(|(.., count)| count).sum();
        let last = refusals.last().map_or(0, |(up, ..)| *up as usize);
        let until = |end: usize| all[..end.min(all.len())].iter().map(|(_, n, ..)| n).sum::<u64>();
        prop_assert!(counted <= until(all.len()));
        if !refusals.is_empty() {
            prop_assert_eq!(counted, until(last + 1));
        }
    }

    /// The wall clock may do what it likes.
    #[test]
    fn steps_of_the_clock_change_nothing(seconds in seconds()) {
        prop_assert_eq!(course(&seconds, true), course(&seconds, false));
    }

    /// Once all is quiet, nothing stays open and nothing stays known.
    #[test]
    fn everything_ends(seconds in seconds()) {
        let quiet = std::iter::repeat_n((false, 0, true, 0), 4 * EVERY as usize);
        let all: Vec<Second> = seconds.into_iter().chain(quiet).collect();
        let told = course(&all, true);
        let mut last: BTreeMap<&str, Turn> = BTreeMap::new();
        for (_, cause, turn, _) in &told {
            last.insert(cause.as_str(), *turn);
        }
        prop_assert!(last.values().all(|turn| *turn == Turn::Cleared), "{told:?}");
    }
}
