//! Little happens, and clocks are wrong: no event is stuck or lost, and no timer sticks.
//!
//! The engine runs on virtual time, by a wall clock of its own that a test may set. Suspending is tried
//! on the real program.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use siemgate::core::Timestamp;
use siemgate::core::config::GuardSettings;
use siemgate::core::delivery::GuardRules;
use siemgate::core::log::End;
use siemgate::core::sink::{Cause, Class, Fault, Outcome};

use super::gateway::{Gateway, until};
use super::outages::body;
use super::peer::{Answer, Peer};
use super::scripted::{Stage, limits, ok};

const HOUR: u64 = 3_600;
const YEAR: i64 = 365 * 86_400;

thread_local! {
    static BEGAN: Cell<Option<tokio::time::Instant>> = const { Cell::new(None) };
    /// Seconds by which somebody has set the clock.
    static SET: Cell<i64> = const { Cell::new(0) };
}

/// Follows virtual time. Every test has a thread, so every test has a clock.
fn clock() -> Timestamp {
    let now = tokio::time::Instant::now();
    let began = BEGAN.get().unwrap_or(now);
    BEGAN.set(Some(began));
    let noon = Timestamp::from_second(1_795_000_000 + SET.get()).unwrap();
    noon + (now - began)
}

/// Set the clock to so many seconds from what it should be.
fn set_clock(seconds: i64) {
    SET.set(seconds);
}

async fn hours(count: u64) {
    tokio::time::sleep(Duration::from_secs(count * HOUR)).await;
}

async fn stage(settings: &str) -> Stage {
    Stage::timed(limits(10), settings, None, clock).await
}

async fn for_people(settings: &str) -> Stage {
    let settings: GuardSettings = serde_json::from_str(settings).unwrap();
    let rules = GuardRules::of(Class::People, &settings);
    Stage::timed(limits(1), "{}", rules, clock).await
}

fn fails(cause: Cause) -> Outcome {
    Outcome::Failed(Fault::new(cause, "no"))
}

/// A new event arrives within a second of now.
async fn arrives(stage: &Stage, body: &str) {
    let now = tokio::time::Instant::now();
    stage.append([body]).await;
    stage.until(body, |stage| stage.sink.took().iter().any(|took| took == body)).await;
    assert!(now.elapsed() < Duration::from_secs(1), "{body} took {:?}", now.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_event_an_hour_for_a_week_is_one_attempt_an_hour_at_once() {
    let stage = stage(r#"{"rate":"1/h","max_age":"1h"}"#).await;
    for hour in 0..7 * 24 {
        arrives(&stage, &format!("event {hour}")).await;
        hours(1).await;
    }
    stage.settled().await;
    assert_eq!(stage.sink.attempts().len(), 7 * 24, "nothing is sent twice, or for nothing");
    assert_eq!(stage.ended(End::Delivered), 7 * 24);
}

#[tokio::test(start_paused = true)]
async fn after_a_month_of_nothing_an_event_arrives_at_once() {
    let stage = stage("{}").await;
    arrives(&stage, "first").await;
    hours(30 * 24).await;
    arrives(&stage, "second").await;
    assert_eq!(stage.sink.attempts().len(), 2);
    stage.settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_was_wrong_for_a_week_is_tried_until_it_is_right() {
    for cause in [Cause::Setup, Cause::Down, Cause::Busy] {
        let stage = stage("{}").await;
        stage.sink.answers(move |_, _| fails(cause));
        stage.append(["waits"]).await;
        hours(7 * 24).await;
        let tries = stage.sink.attempts().len();
        stage.sink.answers(|_, _| ok());
        let now = tokio::time::Instant::now();
        stage.settled().await;
        assert!(now.elapsed() < Duration::from_secs(61), "{cause:?}: {:?}", now.elapsed());
        // A minute, or half of thirty seconds on the average.
        assert!((10_000..50_000).contains(&tries), "{cause:?}: {tries} in a week");
        assert_eq!(stage.sink.took(), ["waits"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_makes_no_event_too_old_that_is_not() {
    for jump in [10 * YEAR, -10 * YEAR] {
        set_clock(0);
        let stage = stage(r#"{"max_age":"1h"}"#).await;
        stage.sink.answers(|_, _| fails(Cause::Down));
        stage.append(["before"]).await;
        stage.until("it is waiting", |stage| !stage.sink.attempts().is_empty()).await;
        set_clock(jump);
        stage.append(["after"]).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        set_clock(0);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(stage.ended(End::Expired), 0, "after a jump by {jump} s");
        stage.sink.answers(|_, _| ok());
        stage.settled().await;
        assert_eq!(stage.sink.took().len(), 2);
        // What is really too old still expires.
        stage.sink.answers(|_, _| fails(Cause::Down));
        stage.append(["old"]).await;
        hours(2).await;
        assert_eq!(stage.ended(End::Expired), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_shortens_and_lengthens_no_wait() {
    for (cause, longest) in [(Cause::Setup, 61), (Cause::Down, 31), (Cause::Busy, 31)] {
        for jumps in [[10 * YEAR, 0], [-10 * YEAR, 0]] {
            set_clock(0);
            let stage = stage(r#"{"rate":"10/s"}"#).await;
            stage.sink.answers(move |_, _| fails(cause));
            stage.append(["waits"]).await;
            for jump in jumps {
                set_clock(jump);
                let before = stage.sink.attempts().len();
                tokio::time::sleep(Duration::from_secs(600)).await;
                let tries = stage.sink.attempts().len() - before;
                assert!((9..300).contains(&tries), "{cause:?}: {tries} after a jump to {jump}");
            }
            stage.sink.answers(|_, _| ok());
            let now = tokio::time::Instant::now();
            stage.settled().await;
            let took = now.elapsed();
            assert!(took < Duration::from_secs(longest), "{cause:?}: back after {took:?}");
            // The rate holds, and no more than that.
            let now = tokio::time::Instant::now();
            stage.append((0..100).map(|n| format!("event {n}"))).await;
            stage.settled().await;
            let took = now.elapsed().as_secs();
            assert!((8..=11).contains(&took), "a hundred at 10/s took {took} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn people_are_told_again_an_hour_after_a_storm_whatever_the_clock_was() {
    for jump in [10 * YEAR, -10 * YEAR] {
        set_clock(jump);
        let stage = for_people(r#"{"new_per_hour":2,"digest_every":"10m"}"#).await;
        stage.append(["a: 1", "b: 1", "c: 1"]).await;
        stage.settled().await;
        assert_eq!(stage.sink.took().len(), 3, "two, and the storm");
        set_clock(0);
        tokio::time::sleep(Duration::from_secs(HOUR + 1)).await;
        arrives(&stage, "d: 1").await;
        stage.settled().await;
    }
}

/// The story of an event at one sink.
async fn story(gateway: &Gateway, id: &str, sink: &str) -> Value {
    let shown = gateway.cli(&["events", "show", id, "--json"]).await;
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    let sinks = shown["sinks"].as_array().unwrap();
    sinks.iter().find(|at| at["sink"] == sink).unwrap().clone()
}

const SUSPENDED: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_gateway_goes_on_with_what_was_in_flight_and_what_was_waiting() {
    let (slow, flaky) = (Peer::start().await, Peer::start().await);
    slow.always(Answer::ok("").after(SUSPENDED / 2));
    flaky.always(Answer::new(503, "later"));
    let mut text = String::from(
        "[sources.superna]\ntype = \"superna\"\npath = \"/webhook\"\n[routes.all]\nsinks = [\"slow\", \"flaky\"]\n",
    );
    for (name, peer) in [("slow", &slow), ("flaky", &flaky)] {
        text += &format!(
            "[sinks.{name}]\ntype = \"standard_webhook\"\nurl = \"{}/\"\nsecret = {{ env = \"SECRET\" }}\n[sinks.{name}.delivery]\nretry = {{ first = \"3s\", max = \"3s\" }}\n",
            peer.url()
        );
    }
    let mut gateway = Gateway::prepared(&text);
    gateway.set_env("SECRET", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    gateway.launch().await;
    let id = gateway.post("/webhook", body(1)).await.ids().remove(0);
    slow.wait_for(1).await;
    gateway.until_state("flaky", "down").await;
    let process = Pid::from_raw(i32::try_from(gateway.process()).unwrap()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    flaky.always(Answer::ok(""));
    // The answer comes, and the wait ends, while nobody is there.
    tokio::time::sleep(SUSPENDED).await;
    kill_process(process, Signal::CONT).unwrap();
    let resumed = Instant::now();
    gateway.until_settled("slow", "delivered", 1).await;
    gateway.until_settled("flaky", "delivered", 1).await;
    let took = resumed.elapsed();
    println!("both were delivered {took:?} after {SUSPENDED:?} of suspension");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let (slow_story, flaky_story) = until("the receipts are kept", async || {
        let (slow, flaky) =
            (story(&gateway, &id, "slow").await, story(&gateway, &id, "flaky").await);
        let all = |at: &Value| at["steps"].as_array().unwrap().last().cloned();
        let ended = |at: &Value| all(at).is_some_and(|step| step["end"] == "delivered");
        (ended(&slow) && ended(&flaky)).then_some((slow, flaky))
    })
    .await;
    let steps = |at: &Value| -> Vec<(u64, u64)> {
        let steps = at["steps"].as_array().unwrap();
        let of =
            |step: &Value| Some((step["attempt"].as_u64()?, step["reply"]["status"].as_u64()?));
        steps.iter().filter_map(of).collect()
    };
    assert_eq!(steps(&slow_story), [(1, 200)], "in flight, and sent once: {slow_story}");
    let told = steps(&flaky_story);
    assert_eq!(told.last().map(|(_, status)| *status), Some(200), "{flaky_story}");
    let refused = told.iter().filter(|(_, status)| *status == 503).count();
    assert_eq!(refused + 1, told.len(), "{flaky_story}");
    let attempts: Vec<u64> = told.iter().map(|(attempt, _)| *attempt).collect();
    assert_eq!(attempts, (1..=told.len() as u64).collect::<Vec<_>>(), "each has its receipt");
    assert_eq!((slow.requests().len(), flaky.requests().len()), (1, told.len()));
    let ms = slow_story["steps"][0]["ms"].as_f64().unwrap();
    assert!(ms > SUSPENDED.as_secs_f64() * 500.0, "it was in flight for {ms} ms");
    gateway.finish().await;
}
