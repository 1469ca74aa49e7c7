//! What guards keep from people, and what they never keep.

use super::*;
use proptest::prelude::*;

fn rules(settings: &str, class: Class) -> GuardRules {
    GuardRules::of(class, &serde_json::from_str(settings).unwrap()).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn finding(incident: &str, ended: bool) -> Finding {
    Finding { incident: Some(incident.into()), ended, ..Finding::default() }
}

fn news(finding: &Finding, received: Timestamp) -> News<'_> {
    News { id: EventId::fresh(), source: "s", received, finding }
}

fn judged(guard: &mut Guard, incident: &str, ended: bool, received: i64, now: i64) -> Ruling {
    let finding = finding(incident, ended);
    guard.judge(news(&finding, at(received)), &"r".into(), at(now))
}

#[test]
fn updates_are_not_new_and_the_hour_frees_places() {
    let mut guard = Guard::new(rules(r#"{"new_per_hour":2}"#, Class::Incident));
    assert_eq!(judged(&mut guard, "a", false, 0, 0), Ruling::Tell);
    assert_eq!(judged(&mut guard, "b", false, 0, 0), Ruling::Tell);
    assert_eq!(judged(&mut guard, "c", false, 1, 1), Ruling::Hold(Why::Storm));
    assert_eq!(judged(&mut guard, "a", true, 2, 2), Ruling::Tell);
    assert_eq!(judged(&mut guard, "c", false, 3_599, 3_599), Ruling::Hold(Why::Storm));
    assert_eq!(judged(&mut guard, "c", false, 3_600, 3_600), Ruling::Tell);
    assert!(guard.follows(&finding("a", false), EventId::fresh()).is_some());
    assert!(guard.follows(&finding("d", false), EventId::fresh()).is_none());
}

#[test]
fn an_end_arrives_however_late_where_it_closes_what_was_opened() {
    let late = 2 * 86_400;
    let mut tickets = Guard::new(rules("{}", Class::Incident));
    assert_eq!(judged(&mut tickets, "a", false, 0, 0), Ruling::Tell);
    assert_eq!(judged(&mut tickets, "a", false, 0, late), Ruling::Hold(Why::Stale));
    assert_eq!(judged(&mut tickets, "a", true, 0, late), Ruling::Tell);
    assert_eq!(judged(&mut tickets, "z", true, 0, late), Ruling::Hold(Why::Stale));
    let mut chat = Guard::new(rules("{}", Class::People));
    assert_eq!(judged(&mut chat, "a", false, 0, 0), Ruling::Tell);
    assert_eq!(judged(&mut chat, "a", true, 0, 3_601), Ruling::Hold(Why::Stale));
    assert!(chat.follows(&finding("a", false), EventId::fresh()).is_none());
}

#[test]
fn drills_reach_people_only_where_that_is_asked_for() {
    let drill = Finding { simulated: true, ..Finding::default() };
    for (settings, ruling) in [("{}", Ruling::Leave), (r#"{"simulated":true}"#, Ruling::Tell)] {
        let mut guard = Guard::new(rules(settings, Class::People));
        assert_eq!(guard.judge(news(&drill, at(0)), &"r".into(), at(0)), ruling);
    }
    let none = serde_json::from_str("{}").unwrap();
    assert!(GuardRules::of(Class::Siem, &none).is_none());
}

#[test]
fn what_was_settled_before_a_restart_counts() {
    let mut guard = Guard::new(rules(r#"{"new_per_hour":1}"#, Class::Incident));
    let (old, young) = (finding("old", false), finding("young", false));
    guard.recall(news(&old, at(0)), &"r".into(), at(5_000));
    guard.recall(news(&young, at(4_000)), &"r".into(), at(5_000));
    assert_eq!(judged(&mut guard, "new", false, 5_000, 5_000), Ruling::Hold(Why::Storm));
    for incident in ["old", "young"] {
        assert_eq!(judged(&mut guard, incident, false, 5_000, 5_000), Ruling::Tell);
    }
}

#[test]
fn a_storm_has_one_name_and_says_how_bad_it_is() {
    let mut guard = Guard::new(rules(r#"{"digest_every":"10m"}"#, Class::People));
    let now = Instant::now();
    let bad = Finding { severity: Severity::Critical, ..finding("x", false) };
    guard.hold(Why::Storm, Some(Position(1)), news(&bad, at(0)), now);
    guard.hold(Why::Storm, Some(Position(2)), news(&finding("y", false), at(60)), now);
    assert!(guard.digest(now + Duration::from_secs(59), at(59), false).is_none());
    let first = guard.digest(now + FIRST, at(60), false).unwrap();
    assert_eq!(first.positions, [Position(1), Position(2)]);
    let title = first.finding.title.unwrap();
    assert!(title.starts_with("Storm: 2 more events since 2023-11-14 22:13 UTC"), "{title}");
    assert!(title.ends_with("1 critical, 1 unknown"), "{title}");
    assert_eq!(first.finding.severity, Severity::Critical);
    guard.hold(Why::Storm, Some(Position(3)), news(&bad, at(70)), now);
    assert!(guard.digest(now + FIRST, at(130), false).is_none(), "not again at once");
    let second = guard.digest(now + Duration::from_secs(600), at(670), false).unwrap();
    assert_eq!(second.finding.incident, first.finding.incident);
    guard.hold(Why::Storm, Some(Position(4)), news(&bad, at(9_000)), now);
    let other = guard.digest(now, at(9_000), true).unwrap();
    assert_ne!(other.finding.incident, second.finding.incident, "another storm");
}

proptest! {
    /// Whatever comes: no more new incidents in any hour than allowed, nothing is forgotten, and
    /// every held position is in exactly one digest.
    #[test]
    fn nothing_is_lost_and_nobody_is_buried(
        events in prop::collection::vec((0u8..30, 0i64..600, prop::bool::ANY, 0i64..8_000), 1..200),
        limit in 1usize..6,
    ) {
        let mut guard = Guard::new(rules(&format!(r#"{{"new_per_hour":{limit}}}"#), Class::People));
        let (mut now, mut opened, mut held, mut digested) = (0, Vec::new(), Vec::new(), Vec::new());
        let mut known = BTreeSet::new();
        let start = Instant::now();
        for (index, (incident, later, ended, age)) in events.into_iter().enumerate() {
            now += later;
            let key = format!("i{incident}");
            let position = Position(index as u64);
            match judged(&mut guard, &key, ended, now - age, now) {
                Ruling::Tell if known.insert(key) => opened.push(now),
                Ruling::Tell => {}
                Ruling::Leave => prop_assert!(false, "no drill"),
                Ruling::Hold(why) => {
                    prop_assert_eq!(why == Why::Stale, age > 3_600);
                    guard.hold(why, Some(position), news(&finding("x", false), at(now)), start);
                    held.push(position);
                }
            }
            while index % 7 == 0 && let Some(digest) = guard.digest(start, at(now), true) {
                digested.extend(digest.positions);
            }
        }
        while let Some(digest) = guard.digest(start, at(now), true) {
            digested.extend(digest.positions);
        }
        digested.sort();
        prop_assert_eq!(digested, held);
        prop_assert_eq!(guard.held(), 0);
        for (index, first) in opened.iter().enumerate() {
            let within = opened[index..].iter().take_while(|at| *at - first < 3_600).count();
            prop_assert!(within <= limit, "{within} within an hour");
        }
    }
}
