//! The delivery worker's decisions: the cause table, both guards, order and the ledger.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use siemgate::core::Timestamp;
use siemgate::core::delivery::ledgers;
use siemgate::core::event::{Draft, Event, EventId, Position};
use siemgate::core::log::{
    Claim, End, Head, Item, Limit, Log, LogError, MemoryLog, Page, Reader, Refusal, Standing,
    Start, Stats,
};
use siemgate::core::metrics::SinkMetrics;
use siemgate::core::sink::{Cause, Fault, Outcome, Probe, Reply};
use tokio::sync::watch;

use crate::scripted::{Stage, limits, ok};

fn fault(cause: Cause, status: u16) -> Fault {
    let reply =
        Reply { status: Some(status), excerpt: format!("says {status}"), ..Reply::default() };
    Fault::new(cause, format!("{status}")).with_reply(reply)
}

fn fails(cause: Cause, status: u16) -> Outcome {
    Outcome::Failed(fault(cause, status))
}

fn numbered(range: Range<u32>) -> impl Iterator<Item = String> {
    range.map(|n| format!("event {n}"))
}

fn has_poison(bodies: &[String]) -> bool {
    bodies.iter().any(|body| body.contains("poison"))
}

#[tokio::test(start_paused = true)]
async fn one_refused_event_among_a_thousand_is_found_and_buried_with_the_reply() {
    let stage = Stage::new(100).await;
    stage.sink.answers(
        |bodies, _| {
            if has_poison(bodies) { fails(Cause::Refused, 400) } else { ok() }
        },
    );
    stage.append(numbered(0..600)).await;
    stage.append(["poison"]).await;
    stage.append(numbered(601..1_000)).await;
    stage.settled().await;
    assert_eq!(stage.sink.took().len(), 999);
    assert_eq!(stage.dead_bodies().await, ["poison"]);
    let letter = &stage.engine.dead.list(Position(0), None, 1).await.unwrap()[0];
    assert_eq!(letter.note.reply.as_ref().unwrap().excerpt, "says 400");
    let took = stage.sink.attempts().last().unwrap().0;
    assert!(took < Duration::from_secs(30), "the sink was stopped for {took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_gets_a_403_or_a_500_does_not_stop_the_sink() {
    for (cause, status) in [(Cause::Setup, 403), (Cause::Down, 500)] {
        let stage = Stage::new(50).await;
        stage
            .sink
            .answers(move |bodies, _| if has_poison(bodies) { fails(cause, status) } else { ok() });
        stage.append(numbered(0..20)).await;
        stage.append(["poison"]).await;
        stage.append(numbered(21..200)).await;
        stage.until("all but the odd one are delivered", |s| s.sink.took().len() == 199).await;
        let took = stage.sink.attempts().last().unwrap().0;
        assert!(took < Duration::from_secs(120), "{status}: the sink was stopped for {took:?}");
        // Later traffic is the proof that it is the event and not the destination.
        for n in 0..20 {
            stage.append([format!("later {n}")]).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        stage.settled().await;
        assert_eq!(stage.dead_bodies().await, ["poison"], "{status}");
        assert_eq!(stage.sink.took().len(), 219);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_setting_parks_and_dead_letters_nothing() {
    let stage = Stage::new(10).await;
    stage.sink.answers(|_, _| fails(Cause::Refused, 400));
    stage.append(numbered(0..500)).await;
    stage.until("parked", |s| s.vitals().state == 3).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let attempts = stage.sink.attempts().len();
    assert!(attempts < 200, "hammered {attempts} times in an hour");
    assert_eq!((stage.dead(), stage.sink.took().len()), (0, 0));
    stage.sink.answers(|_, _| ok());
    stage.settled().await;
    assert_eq!((stage.dead(), stage.sink.took().len()), (0, 500));
}

#[tokio::test(start_paused = true)]
async fn a_lone_refused_event_is_buried_if_these_settings_have_worked_and_kept_if_not() {
    let stage = Stage::new(10).await;
    stage.sink.answers(
        |bodies, _| {
            if has_poison(bodies) { fails(Cause::Refused, 422) } else { ok() }
        },
    );
    stage.append(["poison"]).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((stage.dead(), stage.vitals().in_hand, stage.vitals().state), (0, 1, 3));
    stage.append(["good"]).await;
    stage.settled().await;
    assert_eq!(stage.dead(), 1);
    stage.append(["poison again"]).await;
    stage.settled().await;
    assert_eq!(stage.dead(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_loses_and_condemns_nothing() {
    let stage = Stage::new(100).await;
    stage.sink.answers(|_, now| {
        if now < Duration::from_secs(6 * 3_600) { fails(Cause::Down, 503) } else { ok() }
    });
    stage.append(numbered(0..1_500)).await;
    stage.settled().await;
    assert_eq!((stage.dead(), stage.sink.took().len()), (0, 1_500));
    let late = stage.sink.attempts().last().unwrap().0 - Duration::from_secs(6 * 3_600);
    assert!(late < Duration::from_secs(120), "recovered {late:?} after the destination");
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_fails_by_chance_condemns_nothing() {
    let stage = Stage::new(1).await;
    let chance = std::sync::Mutex::new(fastrand::Rng::with_seed(1));
    stage.sink.answers(
        move |_, _| {
            if chance.lock().unwrap().bool() { fails(Cause::Down, 502) } else { ok() }
        },
    );
    for thousand in 0..3 {
        stage.append(numbered(thousand * 1_000..(thousand + 1) * 1_000)).await;
        stage.settled().await;
    }
    assert_eq!((stage.dead(), stage.sink.took().len()), (0, 3_000));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_parks_until_it_is_valid_again() {
    let stage = Stage::new(1).await;
    let revoked = |now: Duration| now < Duration::from_secs(1_000);
    stage.sink.answers(move |_, now| if revoked(now) { fails(Cause::Setup, 401) } else { ok() });
    stage.append(numbered(0..20)).await;
    stage.until("parked", |s| s.vitals().state == 3).await;
    stage.settled().await;
    assert_eq!((stage.dead(), stage.sink.took().len()), (0, 20));
    let tries = stage.sink.attempts().iter().filter(|(at, _)| revoked(*at)).count();
    assert!((5..60).contains(&tries), "{tries} tries in 1000 s");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_proves_acceptance_ends_the_parking() {
    let stage = Stage::new(1).await;
    stage.sink.answers(
        |_, now| {
            if now < Duration::from_secs(1) { fails(Cause::Setup, 401) } else { ok() }
        },
    );
    stage.sink.probes(Err(fault(Cause::Setup, 401)));
    stage.append(["a"]).await;
    stage.until("parked", |s| s.vitals().state == 3).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(stage.sink.attempts().len(), 1, "events are not used as probes");
    stage.sink.probes(Ok(Probe::Accepted));
    stage.settled().await;
    assert_eq!(stage.sink.took(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_waited_for() {
    let stage = Stage::new(10).await;
    stage.sink.answers(|_, now| {
        if now < Duration::from_secs(100) {
            Outcome::Failed(fault(Cause::Busy, 429).with_wait(Some(Duration::from_secs(120))))
        } else {
            ok()
        }
    });
    stage.append(numbered(0..30)).await;
    stage.settled().await;
    let times: Vec<u64> = stage.sink.attempts().iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!(times.iter().filter(|at| **at < 120).count(), 1, "{times:?}");
    assert_eq!(stage.dead(), 0);
}

#[tokio::test(start_paused = true)]
async fn too_large_batches_are_cut_and_a_too_large_event_is_buried() {
    let stage = Stage::new(64).await;
    stage.sink.answers(|bodies, _| {
        let bytes: usize = bodies.iter().map(String::len).sum();
        if bytes > 40 { fails(Cause::TooLarge, 413) } else { ok() }
    });
    stage.append(numbered(0..100)).await;
    stage.append(["x".repeat(50)]).await;
    stage.append(numbered(101..200)).await;
    stage.settled().await;
    assert_eq!((stage.dead(), stage.sink.took().len()), (1, 199));
}

#[tokio::test(start_paused = true)]
async fn what_a_reply_names_is_refused_and_nothing_else() {
    let stage = Stage::new(10).await;
    stage.sink.answers(|bodies, _| {
        let bad = bodies.iter().enumerate().filter(|(_, body)| body.contains("poison"));
        let faults: Vec<_> = bad.map(|(at, _)| (at, fault(Cause::Refused, 400))).collect();
        if faults.is_empty() { ok() } else { Outcome::Partly { reply: Reply::default(), faults } }
    });
    stage.append(["a", "poison", "b", "poison too", "c"]).await;
    stage.settled().await;
    assert_eq!((stage.dead(), stage.sink.took()), (2, vec!["a".into(), "b".into(), "c".into()]));
    assert!(stage.sink.attempts().len() <= 5);
}

#[tokio::test(start_paused = true)]
async fn a_critical_event_does_not_wait_for_the_backoff() {
    let stage = Stage::new(10).await;
    stage.sink.answers(|_, now| {
        if now < Duration::from_secs(1_000) { fails(Cause::Down, 500) } else { ok() }
    });
    stage.append(["a"]).await;
    tokio::time::sleep(Duration::from_secs(1_001)).await;
    let before = stage.sink.attempts().len();
    stage.append(["urgent!"]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(stage.sink.attempts().len() > before || stage.sink.took().len() == 2);
    stage.settled().await;
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_kept_and_old_events_expire() {
    let log = Arc::new(MemoryLog::new(64 << 20));
    let stage = Stage::with(log, limits(50), r#"{ "rate": "10/s" }"#).await;
    stage.append(numbered(0..100)).await;
    stage.settled().await;
    assert!(stage.sink.attempts().last().unwrap().0 >= Duration::from_secs(8));

    let log = Arc::new(MemoryLog::new(64 << 20));
    let stage = Stage::with(log, limits(50), r#"{ "max_age": "1ms" }"#).await;
    stage.sink.answers(|_, _| fails(Cause::Down, 500));
    stage.append(numbered(0..10)).await;
    // Age is wall time, which virtual time does not move.
    std::thread::yield_now();
    stage.settled().await;
    assert_eq!((stage.ended(End::Expired), stage.dead()), (10, 0));
}

/// A log whose readers swallow one event: the worker never hears of it.
struct Forgetful(Arc<dyn Log>);

struct ForgetfulReader(Box<dyn Reader>, Option<Position>);

#[async_trait]
impl Log for Forgetful {
    async fn append(&self, group: Vec<Draft>) -> Result<Range<Position>, Refusal> {
        self.0.append(group).await
    }
    async fn open(&self, delivery: &str, from: Start) -> Result<Box<dyn Reader>, LogError> {
        let reader = self.0.open(delivery, from).await?;
        Ok(Box::new(ForgetfulReader(reader, Some(Position(3)))))
    }
    async fn detach(&self, delivery: &str) -> Result<(), LogError> {
        self.0.detach(delivery).await
    }
    async fn forget(&self, delivery: &str) -> Result<(), LogError> {
        self.0.forget(delivery).await
    }
    async fn read(&self, from: Position, max: Limit) -> Result<Page, LogError> {
        self.0.read(from, max).await
    }
    async fn since(&self, time: Timestamp) -> Result<Position, LogError> {
        self.0.since(time).await
    }
    async fn find(&self, id: EventId) -> Result<Option<Arc<Event>>, LogError> {
        self.0.find(id).await
    }
    fn head(&self) -> watch::Receiver<Head> {
        self.0.head()
    }
    fn stats(&self) -> Stats {
        self.0.stats()
    }
    async fn alive(&self) -> Result<(), Refusal> {
        self.0.alive().await
    }
    async fn close(&self) -> Result<(), LogError> {
        self.0.close().await
    }
}

#[async_trait]
impl Reader for ForgetfulReader {
    async fn next(&mut self, max: Limit) -> Result<Page, LogError> {
        let mut page = self.0.next(max).await?;
        let skipped = self.1;
        page.items.retain(|item| !matches!(item, Item::Event(e) if Some(e.position) == skipped));
        Ok(page)
    }
    fn done(&mut self, position: Position, end: End) {
        self.0.done(position, end);
    }
    fn claim(&mut self, position: Position) -> Claim {
        self.0.claim(position)
    }
    fn is_taken(&self, position: Position) -> bool {
        self.0.is_taken(position)
    }
    fn standing(&self) -> Standing {
        self.0.standing()
    }
    async fn flush(&mut self) -> Result<(), LogError> {
        self.0.flush().await
    }
}

#[tokio::test(start_paused = true)]
async fn the_ledger_shows_an_event_that_was_skipped() {
    let log = Arc::new(Forgetful(Arc::new(MemoryLog::new(64 << 20))));
    let stage = Stage::with(log, limits(10), "{}").await;
    stage.append(numbered(0..10)).await;
    stage.until("the rest is delivered", |s| s.sink.took().len() == 9).await;
    stage.until("the books are published", |s| s.vitals().settled == 9).await;
    assert_eq!(SinkMetrics::unaccounted(&stage.vitals()), 1);
    let [ledger] = &ledgers(&stage.engine)[..] else { panic!("one sink, one ledger") };
    assert_eq!((ledger.difference, ledger.terms.delivered, ledger.queued), (1, 9, 0));
}

#[tokio::test(start_paused = true)]
async fn draining_delivers_what_can_be_and_leaves_the_rest() {
    let stage = Stage::new(10).await;
    stage.append(numbered(0..95)).await;
    let (sink, log) = (stage.sink.clone(), stage.engine.log.clone());
    stage.delivery.finish(Duration::from_secs(60)).await;
    assert_eq!(sink.took().len(), 95);
    let standing = log.stats().deliveries[0].1;
    assert_eq!((standing.mark, standing.terms.delivered), (Position(95), 95));
}

/// One step of a destination's life.
#[derive(Clone, Debug)]
enum Mood {
    Well,
    Sick(Cause, u16),
    Flapping,
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        Just(Mood::Well),
        Just(Mood::Flapping),
        Just(Mood::Sick(Cause::Down, 500)),
        Just(Mood::Sick(Cause::Busy, 429)),
        Just(Mood::Sick(Cause::Setup, 401)),
        Just(Mood::Sick(Cause::Refused, 400)),
        Just(Mood::Sick(Cause::TooLarge, 413)),
    ]
}

/// A destination that goes through these, one after the other, and is well in the end.
fn lives(moods: &[(Mood, u64)]) -> impl Fn(&[String], Duration) -> Outcome + Send + 'static {
    let ages = moods.iter().scan(0, |end, (mood, seconds)| {
        *end += seconds;
        Some((mood.clone(), Duration::from_secs(*end)))
    });
    let ages: Vec<(Mood, Duration)> = ages.collect();
    move |_, now| match ages.iter().find(|(_, until)| now < *until).map(|(mood, _)| mood) {
        None | Some(Mood::Well) => ok(),
        Some(Mood::Sick(cause, status)) => fails(*cause, *status),
        Some(Mood::Flapping) if now.as_millis() / 700 % 2 == 0 => ok(),
        Some(Mood::Flapping) => fails(Cause::Down, 502),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// With a window of a few events, so that critical ones are taken before their turn: each event
    /// still ends once, incidents stay in order, and the ledger adds up all the way.
    #[test]
    fn what_is_urgent_ends_once_and_in_order(
        moods in prop::collection::vec((mood(), 1u64..60), 0..6),
        events in prop::collection::vec((0u8..4, any::<bool>(), 0u8..8), 1..120),
        batch in 1usize..6,
        window in 10usize..200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let log = Arc::new(MemoryLog::new(64 << 20));
            let stage = Stage::narrow(log, limits(batch), "{}", window).await;
            stage.sink.answers(lives(&moods));
            let bodies: Vec<String> = events.iter().enumerate().map(|(n, (incident, keyed, kind))| {
                let mark = match kind { 0 | 1 => "!", _ => "" };
                let unwanted = if *kind == 7 { "-" } else { "" };
                if *keyed { format!("{unwanted}i{incident}: {n}{mark}") } else { format!("{unwanted}{n}{mark}") }
            }).collect();
            for part in bodies.chunks(40) {
                stage.append(part.to_vec()).await;
                tokio::time::sleep(Duration::from_millis(30)).await;
                assert_eq!(SinkMetrics::unaccounted(&stage.vitals()), 0);
            }
            stage.settled().await;
            let (took, dead) = (stage.sink.took(), stage.dead_bodies().await);
            let mut all: Vec<&String> = took.iter().chain(&dead).collect();
            all.sort();
            let mut wanted: Vec<&String> = bodies.iter().filter(|b| !b.starts_with('-')).collect();
            wanted.sort();
            assert_eq!(all, wanted);
            for incident in 0..4 {
                let of = |list: &[String]| -> Vec<String> {
                    list.iter().filter(|b| b.starts_with(&format!("i{incident}:"))).cloned().collect()
                };
                let buried = of(&dead);
                let kept: Vec<String> = of(&bodies).into_iter().filter(|b| !buried.contains(b)).collect();
                assert_eq!(of(&took), kept);
            }
        });
    }

    /// Whatever a destination goes through, in the end every event is delivered or in the dead
    /// letters, each exactly once, incidents in order, and the ledger adds up.
    #[test]
    fn every_event_ends_once(
        moods in prop::collection::vec((mood(), 1u64..400), 1..12),
        events in prop::collection::vec((0u8..6, any::<bool>()), 1..150),
        batch in 1usize..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let stage = Stage::new(batch).await;
            stage.sink.answers(lives(&moods));
            let bodies: Vec<String> = events.iter().enumerate()
                .map(|(n, (incident, keyed))| if *keyed { format!("i{incident}: {n}") } else { format!("{n}") })
                .collect();
            stage.append(bodies.clone()).await;
            stage.settled().await;
            let (took, dead) = (stage.sink.took(), stage.dead_bodies().await);
            let mut all: Vec<String> = took.iter().chain(&dead).cloned().collect();
            all.sort();
            let mut expected = bodies.clone();
            expected.sort();
            assert_eq!(all, expected);
            for incident in 0..6 {
                let of = |list: &[String]| -> Vec<String> {
                    list.iter().filter(|b| b.starts_with(&format!("i{incident}:"))).cloned().collect()
                };
                let (sent, wanted) = (of(&took), of(&bodies));
                let mut rest = wanted.iter();
                assert!(sent.iter().all(|body| rest.any(|w| w == body)), "incident {incident}: {sent:?}");
            }
        });
    }
}
