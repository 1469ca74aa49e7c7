//! `siemgate replay`: a stretch of the log, delivered once more.

use std::time::Duration;

use serde_json::Value;

use super::gateway::{Gateway, Printed, until};
use super::outages::{body, distinct, post, started};
use super::peer::{Answer, Peer};

const OK: &str = r#"{"successCount":1}"#;

fn json(printed: &Printed) -> Value {
    assert_eq!(printed.code, Some(0), "{printed:?}");
    serde_json::from_str(&printed.out).unwrap()
}

async fn replay(gateway: &Gateway, more: &[&str]) -> Printed {
    let arguments = ["replay", "--sink", "out", "--since", "1h"];
    gateway.cli(&[&arguments[..], more].concat()).await
}

async fn replayed(gateway: &Gateway) -> f64 {
    let labels = [("sink", "out"), ("reason", "replayed")];
    gateway.metric("siemgate_delivery_additional_total", &labels).await.unwrap()
}

async fn ended(gateway: &Gateway, number: u64) -> Value {
    until("the replay has ended", async || {
        let list = json(&gateway.cli(&["replay", "list"]).await);
        let ended = list["ended"].as_array().unwrap().clone();
        ended.into_iter().find(|replay| replay["number"] == number)
    })
    .await
}

#[tokio::test]
async fn a_dry_run_counts_and_go_sends_beside_the_ledger() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let gateway = started(peer.port(), "max_age = \"1h\"").await;
    post(&gateway, 0..10).await;
    gateway.post("/webhook", r#"{"severity":"CRITICAL","id":"c"}"#).await.ids();
    gateway.until_settled("out", "delivered", 11).await;
    peer.forget();
    let dry = json(&replay(&gateway, &[]).await);
    assert_eq!((&dry["events"], &dry["by_route"]["all"]), (&11.into(), &11.into()), "{dry}");
    assert_eq!((&dry["by_severity"]["critical"], &dry["go"]), (&1.into(), &false.into()), "{dry}");
    assert!(dry["first"].is_string() && dry["last"].as_str() > dry["first"].as_str(), "{dry}");
    let list = json(&gateway.cli(&["replay", "list"]).await);
    assert_eq!(list["replays"].as_array().unwrap().len(), 0, "{list}");

    let going = json(&replay(&gateway, &["--go", "--route", "all"]).await);
    assert_eq!((&going["events"], &going["replay"]), (&11.into(), &1.into()), "{going}");
    let end = ended(&gateway, 1).await;
    assert_eq!(end["terms"]["delivered"], 11, "{end}");
    assert_eq!(distinct(&peer).len(), 11);
    assert_eq!(peer.requests().len(), 11, "the dry run sent nothing");
    assert_eq!(replayed(&gateway).await, 11.0);
    assert_eq!(gateway.settled("out", "delivered").await, 11);

    for (arguments, told) in [
        (&["replay", "--sink", "none", "--since", "1h"][..], "no sink none"),
        (&["replay", "--sink", "out", "--since", "yesterday"], "is no time"),
        (&["replay", "--sink", "out", "--since", "2030-01-01T00:00:00Z"], "holds nothing"),
        (&["replay", "--sink", "out", "--since", "1h", "--route", "x", "--go"], "none of these"),
        (&["replay", "cancel", "7"], "no replay 7"),
        (&["replay", "--since", "1h"], "--sink"),
    ] {
        let refused = gateway.cli(arguments).await;
        assert!(
            refused.code != Some(0) && refused.err.contains(told),
            "{arguments:?}: {refused:?}"
        );
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_replay_goes_on_after_a_kill_and_new_events_do_not_wait_for_it() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let mut gateway = started(peer.port(), "in_flight = 1").await;
    post(&gateway, 0..300).await;
    gateway.until_settled("out", "delivered", 300).await;
    peer.forget();
    peer.always(Answer::ok(OK).after(Duration::from_millis(10)));
    json(&replay(&gateway, &["--go"]).await);
    until("a part is replayed", async || (replayed(&gateway).await >= 150.0).then_some(())).await;
    // The newest event passes what is still to be replayed.
    post(&gateway, 300..301).await;
    until("it arrives", async || distinct(&peer).contains(&body(300)).then_some(())).await;
    assert!(replayed(&gateway).await < 290.0, "the replay was over already");
    tokio::time::sleep(Duration::from_millis(300)).await;
    gateway.kill();
    gateway.launch().await;
    ended(&gateway, 1).await;
    assert_eq!(distinct(&peer), (0..301).map(body).collect::<Vec<_>>());
    let requests = peer.requests().len();
    assert!(requests < 380, "it began anew: {requests} requests");
    gateway.finish().await;
}

#[tokio::test]
async fn a_replay_can_be_cancelled() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let gateway = started(peer.port(), "in_flight = 1").await;
    post(&gateway, 0..400).await;
    gateway.until_settled("out", "delivered", 400).await;
    peer.always(Answer::ok(OK).after(Duration::from_millis(20)));
    json(&replay(&gateway, &["--go"]).await);
    until("a part is replayed", async || (replayed(&gateway).await >= 5.0).then_some(())).await;
    json(&gateway.cli(&["replay", "cancel", "1"]).await);
    let list = json(&gateway.cli(&["replay", "list"]).await);
    assert_eq!(list["replays"].as_array().unwrap().len(), 0, "{list}");
    until("what was in hand is gone", async || {
        gateway.journal_text().contains("the replay was cancelled").then_some(())
    })
    .await;
    assert!(replayed(&gateway).await < 390.0, "it went on");
    gateway.finish().await;
}

#[tokio::test]
async fn people_are_told_of_old_events_only_on_purpose() {
    let peer = Peer::start().await;
    peer.always(Answer::ok("ok"));
    let gateway = Gateway::start(&format!(
        r#"
[sources.superna]
type = "superna"
path = "/webhook"
[routes.all]
sinks = ["chat"]
[sinks.chat]
type = "slack"
url = "{}/services/T/B/x"
"#,
        peer.url()
    ))
    .await;
    post(&gateway, 0..2).await;
    gateway.until_settled("chat", "delivered", 2).await;
    let arguments = ["replay", "--sink", "chat", "--since", "1h", "--go"];
    let refused = gateway.cli(&arguments).await;
    assert!(refused.code == Some(1) && refused.err.contains("--notify"), "{refused:?}");
    json(&gateway.cli(&[&arguments[..], &["--notify"]].concat()).await);
    let end = ended(&gateway, 1).await;
    assert_eq!(end["terms"]["delivered"], 2, "{end}");
    gateway.finish().await;
}
