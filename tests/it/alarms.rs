//! `[alarms]`: each cause raised and cleared by what really causes it, told to sinks of the gateway
//! itself. The policy's own properties are in `src/core/alarms/policy`.

use serde_json::Value;

use super::gateway::{Gateway, until};
use super::heartbeat::until_beats;
use super::outages::body;
use super::peer::{Answer, Peer};

const OK: &str = r#"{"successCount":1}"#;

/// Everything goes to `out`, a taegis sink at `port`, and to `archive`. Alarms go to `out` and `desk`;
/// heartbeats go to `desk`, so that a test can tell the gateway's time.
fn config(port: u16, more: &str) -> String {
    format!(
        r#"
[sources.superna]
type = "superna"
path = "/webhook"
dedupe = false
[routes.all]
sinks = ["out", "archive"]
[sinks.archive]
type = "file"
path = "{{{{dir}}}}/events.ndjson"
[sinks.desk]
type = "file"
path = "{{{{dir}}}}/desk.ndjson"
[sinks.out]
type = "taegis"
url = "http://127.0.0.1:{port}/in"
key = {{ env = "KEY" }}
[sinks.out.delivery]
retry = {{ first = "50ms", max = "300ms" }}
[alarms]
sinks = ["out", "desk"]
every = "2s"
[heartbeat]
sinks = ["desk"]
every = "1s"
{more}
"#
    )
}

async fn started(port: u16, more: &str) -> Gateway {
    let mut gateway = Gateway::prepared(&config(port, more));
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    gateway
}

/// The alarms at the desk; what a crash has delivered twice is there once.
fn alarms(gateway: &Gateway) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    for line in gateway.lines("desk.ndjson") {
        let notice: Option<Value> = serde_json::from_str(&line).ok();
        let fresh = |notice: &Value| notice["type"] == "alarm" && !found.contains(notice);
        found.extend(notice.filter(fresh));
    }
    found
}

/// Those of one name, such as `parked:out`.
fn of(gateway: &Gateway, name: &str) -> Vec<Value> {
    let end = format!(":{name}");
    let is_it = |alarm: &Value| alarm["incident"].as_str().unwrap().ends_with(&end);
    alarms(gateway).into_iter().filter(is_it).collect()
}

fn states(alarms: &[Value]) -> Vec<&str> {
    alarms.iter().map(|alarm| alarm["state"].as_str().unwrap()).collect()
}

/// Wait for the first alarm of this name that is `open` or `cleared`.
async fn until_alarm(gateway: &Gateway, name: &str, state: &str) -> Value {
    until(&format!("{name} is {state}"), async || {
        of(gateway, name).into_iter().find(|alarm| alarm["state"] == state)
    })
    .await
}

/// The alarm was raised once and cleared once, as one incident.
fn raised_and_cleared_once(gateway: &Gateway, name: &str, severity: &str) {
    let all = of(gateway, name);
    assert_eq!(states(&all), ["open", "cleared"], "{name}: {all:?}");
    let [open, cleared] = &all[..] else { panic!() };
    assert_eq!((&open["severity"], &cleared["severity"]), (&severity.into(), &"info".into()));
    assert_eq!(cleared["alarm_severity"], severity);
    assert_eq!(open["incident"], cleared["incident"]);
    assert_eq!(open["since"], cleared["since"]);
    let name = name.to_owned();
    assert!(open["open"].get(&name).is_some() && cleared["open"].get(&name).is_none());
}

fn told_in_journal(gateway: &Gateway, start: &str) -> usize {
    let is_it = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with(start));
    gateway.journal().iter().filter(|line| is_it(line)).count()
}

#[tokio::test]
async fn a_parked_sink_is_told_to_the_others_and_never_to_itself() {
    let peer = Peer::start().await;
    peer.always(Answer::new(401, "who are you"));
    let gateway = started(peer.port(), "").await;
    gateway.post("/webhook", body(1)).await.ids();
    let open = until_alarm(&gateway, "parked:out", "open").await;
    assert_eq!((&open["sink"], &open["subject"]), (&"out".into(), &"out".into()), "{open}");
    assert!(open["note"].as_str().unwrap().starts_with("401: "), "{open}");
    assert!(open["title"].as_str().unwrap().contains("`out` is parked"), "{open}");
    // What lasts is told once, however long.
    until_beats(&gateway, "desk.ndjson", 4).await;
    peer.always(Answer::ok(OK));
    until_alarm(&gateway, "parked:out", "cleared").await;
    raised_and_cleared_once(&gateway, "parked:out", "critical");
    gateway.until_metric("siemgate_delivery_lag_events", &[("sink", "out")], 0.0).await;
    let about_itself = |body: &bytes::Bytes| String::from_utf8_lossy(body).contains("parked");
    assert!(!peer.bodies().iter().any(about_itself), "{:?}", peer.bodies());
    let told = gateway.metric("siemgate_alarms_total", &[("cause", "parked")]).await;
    assert_eq!(told, Some(1.0));
    // Nothing of this went where routes lead.
    assert_eq!(gateway.lines("events.ndjson"), [body(1)]);
    gateway.finish().await;
}

#[tokio::test]
async fn an_alarm_that_has_no_sink_but_its_own_goes_nowhere_and_is_told_once() {
    let peer = Peer::start().await;
    peer.always(Answer::new(403, "no"));
    let alone = "[alarms]\nsinks = \"out\"\nevery = \"1s\"\n";
    let gateway = Gateway::prepared(&config(peer.port(), ""));
    let mut gateway = gateway;
    gateway.configure("20-alone.toml", alone);
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    let checked = gateway.cli(&["check"]).await;
    let gap = "coverage: alarms about sink out: no sink, as it is the only one of [alarms]";
    assert!(checked.out.contains(gap), "{checked:?}");
    assert!(checked.out.contains("  alarms -> out\n  heartbeat -> desk\n"), "{checked:?}");
    gateway.post("/webhook", body(1)).await.ids();
    let start = "alarm that no sink is told of";
    until("it is in the journal", async || (told_in_journal(&gateway, start) > 0).then_some(()))
        .await;
    until_beats(&gateway, "desk.ndjson", 3).await;
    assert_eq!(told_in_journal(&gateway, start), 1);
    assert_eq!(gateway.metric("siemgate_alarms_total", &[("cause", "parked")]).await, Some(0.0));
    // As soon as there is somebody to tell, it is told.
    gateway.configure("20-alone.toml", "[alarms]\nsinks = [\"out\", \"desk\"]\nevery = \"1s\"\n");
    until_alarm(&gateway, "parked:out", "open").await;
    peer.always(Answer::ok(OK));
    until_alarm(&gateway, "parked:out", "cleared").await;
    raised_and_cleared_once(&gateway, "parked:out", "critical");
    gateway.finish().await;
}

#[tokio::test]
async fn what_is_refused_at_the_door_is_told_once_an_interval_with_its_count() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let auth = r#"
[sources.guarded]
type = "json"
auth = [{ header = "X-Token", secret = { env = "KEY" } }]
[sources.far]
type = "json"
allow = ["192.0.2.1"]
"#;
    let gateway = started(peer.port(), auth).await;
    let mut sent = 0;
    // A refusal all the time, until an alarm was told three times.
    until("three alarms", async || {
        for _ in 0..10 {
            assert_eq!(gateway.post("/webhook/guarded", "{}").await.status, 401);
            assert_eq!(gateway.post("/webhook/far", "{}").await.status, 403);
            sent += 1;
        }
        (of(&gateway, "refused:guarded/token").len() >= 3).then_some(())
    })
    .await;
    until_alarm(&gateway, "refused:guarded/token", "cleared").await;
    let all = of(&gateway, "refused:guarded/token");
    let counted: u64 = all.iter().map(|alarm| alarm["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, sent, "{all:?}");
    let time = |alarm: &Value| alarm["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let opens: Vec<_> = all.iter().filter(|alarm| alarm["state"] == "open").map(time).collect();
    let gaps: Vec<_> =
        opens.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_millis()).collect();
    assert!(gaps.iter().all(|ms| *ms >= 1_990), "{gaps:?}");
    assert!(of(&gateway, "refused:far/sender").is_empty(), "strangers are no alarm");
    // The sink that speaks HTTP got the same, byte for byte.
    gateway.until_metric("siemgate_delivery_lag_events", &[("sink", "out")], 0.0).await;
    let came: Vec<Value> = peer.requests().iter().map(|request| request.json()).collect();
    assert!(all.iter().all(|alarm| came.contains(alarm)), "{came:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_body_in_the_quarantine_is_told_until_somebody_has_seen_to_it() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let gateway = started(peer.port(), "").await;
    assert_eq!(gateway.post("/webhook", "{").await.status, 400);
    until_alarm(&gateway, "quarantine:superna", "open").await;
    until_alarm(&gateway, "refused:superna/malformed", "cleared").await;
    raised_and_cleared_once(&gateway, "refused:superna/malformed", "high");
    assert_eq!(states(&of(&gateway, "quarantine:superna")), ["open"], "it is still there");
    let dropped = gateway.cli(&["quarantine", "drop", "0"]).await;
    assert_eq!(dropped.code, Some(0), "{dropped:?}");
    until_alarm(&gateway, "quarantine:superna", "cleared").await;
    raised_and_cleared_once(&gateway, "quarantine:superna", "medium");
    gateway.finish().await;
}

#[tokio::test]
async fn dead_letters_are_told_and_those_of_alarms_are_not() {
    let peer = Peer::start().await;
    peer.answer(|request| match request.text() {
        text if text.contains("poison") || text.contains("guarded") => Answer::new(400, "no"),
        _ => Answer::ok(OK),
    });
    let auth = r#"
[sources.guarded]
type = "json"
auth = [{ header = "X-Token", secret = { env = "KEY" } }]
"#;
    let gateway = started(peer.port(), auth).await;
    // The peer will not have the alarm about this.
    assert_eq!(gateway.post("/webhook/guarded", "{}").await.status, 401);
    until_alarm(&gateway, "refused:guarded/token", "open").await;
    let labels = [("sink", "out")];
    let mut number = 0;
    let mut next = || {
        number += 1;
        body(number)
    };
    // A refused event is buried when another is accepted after it.
    until("the alarm is a dead letter", async || {
        gateway.post("/webhook?wait=10s", next()).await.ids();
        gateway.metric("siemgate_dead_letters", &labels).await.filter(|count| *count >= 1.0)
    })
    .await;
    until_alarm(&gateway, "refused:guarded/token", "cleared").await;
    until_beats(&gateway, "desk.ndjson", 3).await;
    assert!(of(&gateway, "dead_letters:out").is_empty(), "an alarm raises no other");
    assert!(of(&gateway, "unrouted:siemgate").is_empty() && of(&gateway, "late:out").is_empty());
    gateway.post("/webhook", r#"{"n":"poison"}"#).await.ids();
    until("the event is a dead letter", async || {
        gateway.post("/webhook?wait=10s", next()).await.ids();
        of(&gateway, "dead_letters:out").into_iter().next()
    })
    .await;
    let listed = gateway.cli(&["dead", "list", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    for letter in listed["letters"].as_array().unwrap() {
        gateway.cli(&["dead", "drop", &letter["number"].to_string()]).await;
    }
    until_alarm(&gateway, "dead_letters:out", "cleared").await;
    raised_and_cleared_once(&gateway, "dead_letters:out", "high");
    gateway.finish().await;
}

#[tokio::test]
async fn a_silent_source_is_told_and_heartbeats_do_not_hide_it() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let mut gateway = started(peer.port(), "").await;
    gateway.configure("20-expect.toml", "[sources.superna]\nexpect_every = \"2s\"\n");
    until_alarm(&gateway, "silent:superna", "open").await;
    gateway.configure("20-expect.toml", "[sources.superna]\nexpect_every = \"6s\"\n");
    until("it is reloaded", async || (told_in_journal(&gateway, "reloaded") >= 2).then_some(()))
        .await;
    gateway.post("/webhook?wait=30s", body(1)).await.ids();
    until_alarm(&gateway, "silent:superna", "cleared").await;
    raised_and_cleared_once(&gateway, "silent:superna", "high");
    // Longer than the new limit, then another process: it knows from the log.
    until("it is silent again", async || {
        (states(&of(&gateway, "silent:superna")).len() == 3).then_some(())
    })
    .await;
    gateway.configure("20-expect.toml", "[sources.superna]\nexpect_every = \"7s\"\n");
    gateway.stop().await;
    gateway.configure("30-calm.toml", "[alarms]\nevery = \"1h\"\n");
    gateway.launch().await;
    until_beats(&gateway, "desk.ndjson", 4).await;
    assert_eq!(of(&gateway, "silent:superna").len(), 3, "told already, and still so");
    gateway.configure("30-calm.toml", "");
    gateway.post("/webhook?wait=30s", body(2)).await.ids();
    until("it is over", async || (of(&gateway, "silent:superna").len() == 4).then_some(())).await;
    assert_eq!(states(&of(&gateway, "silent:superna")), ["open", "cleared", "open", "cleared"]);
    gateway.finish().await;
}

#[tokio::test]
async fn silence_is_measured_from_the_last_event_of_an_earlier_run() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let mut gateway = started(peer.port(), "").await;
    gateway.post("/webhook?wait=30s", body(1)).await.ids();
    until_beats(&gateway, "desk.ndjson", 7).await;
    gateway.stop().await;
    gateway.configure("20-expect.toml", "[sources.superna]\nexpect_every = \"6s\"\n");
    gateway.launch().await;
    let alarm = until_alarm(&gateway, "silent:superna", "open").await;
    let beats = super::heartbeat::beats(&gateway, "desk.ndjson");
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let after = time(&alarm["time"]).duration_since(time(&beats.last().unwrap()["started"]));
    assert!(after.as_secs() < 5, "told {after:?} after the start, as if silence began with it");
    gateway.finish().await;
}

#[tokio::test]
async fn a_log_that_fills_is_told_in_steps_also_when_it_takes_nothing_more() {
    let peer = Peer::start().await;
    let port = peer.port();
    peer.stop().await;
    let small = "[log]\nmax_bytes = \"4MiB\"\nsegment_bytes = \"1MiB\"\nwhen_full = \"refuse\"\n";
    let gateway = started(port, small).await;
    let large = |n: usize| {
        format!("{{\"n\":{n},\"severity\":\"WARNING\",\"pad\":\"{}\"}}", "x".repeat(64_000))
    };
    let mut number = 0;
    until("it is full", async || {
        number += 1;
        (gateway.post("/webhook", large(number)).await.status == 503).then_some(())
    })
    .await;
    for step in ["50", "75", "90"] {
        until_alarm(&gateway, &format!("log_filling:{step}"), "open").await;
    }
    // This one cannot have come by the log.
    until_alarm(&gateway, "refused:superna/log", "open").await;
    let peer = Peer::start_at(port).await;
    peer.always(Answer::ok(OK));
    for (step, severity) in [("50", "medium"), ("75", "high"), ("90", "critical")] {
        let name = format!("log_filling:{step}");
        until_alarm(&gateway, &name, "cleared").await;
        raised_and_cleared_once(&gateway, &name, severity);
    }
    gateway.finish().await;
}

#[tokio::test]
async fn events_that_expire_and_events_that_wait_too_long_are_told() {
    let peer = Peer::start().await;
    let port = peer.port();
    peer.stop().await;
    let small = "late = \"1s\"\n[log]\nmax_bytes = \"4MiB\"\nsegment_bytes = \"1MiB\"\n";
    let config = config(port, "").replace("every = \"2s\"\n", "every = \"2s\"\nlate = \"1s\"\n");
    let mut gateway = Gateway::prepared(&config);
    gateway.configure("20-small.toml", small.split_once('\n').unwrap().1);
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    gateway.post("/webhook", body(1)).await.ids();
    let late = until_alarm(&gateway, "late:out", "open").await;
    assert!(!late["note"].as_str().unwrap().is_empty(), "{late}");
    let pad = "x".repeat(64_000);
    for n in 0..250 {
        gateway
            .post("/webhook", format!("{{\"n\":{n},\"severity\":\"WARNING\",\"p\":\"{pad}\"}}"))
            .await
            .ids();
    }
    until_alarm(&gateway, "expired:out", "open").await;
    until_alarm(&gateway, "expired:out", "cleared").await;
    let peer = Peer::start_at(port).await;
    peer.always(Answer::ok(OK));
    until_alarm(&gateway, "late:out", "cleared").await;
    raised_and_cleared_once(&gateway, "late:out", "high");
    let all = of(&gateway, "expired:out");
    let counted: u64 = all.iter().map(|alarm| alarm["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, gateway.settled("out", "expired").await);
    gateway.finish().await;
}

#[tokio::test]
async fn a_disk_that_runs_short_is_told_although_the_log_takes_nothing() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let mut gateway = Gateway::prepared(&config(peer.port(), ""));
    gateway.set_env("KEY", "k");
    gateway.configure("20-short.toml", "[log]\nmin_free = \"1000TiB\"\n");
    gateway.launch().await;
    until_alarm(&gateway, "disk_full", "open").await;
    assert_eq!(gateway.post("/webhook", body(1)).await.status, 503);
    until_alarm(&gateway, "refused:superna/log", "open").await;
    assert_eq!(of(&gateway, "disk_full")[0]["severity"], "critical");
    gateway.finish().await;
}

#[tokio::test]
async fn a_log_whose_disk_fails_is_told_before_the_gateway_ends() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let small = "[log]\nmax_bytes = \"64MiB\"\nsegment_bytes = \"1MiB\"\n";
    let mut gateway = started(peer.port(), small).await;
    gateway.post("/webhook?wait=30s", body(1)).await.ids();
    std::fs::rename(gateway.path("data/log"), gateway.path("data/gone")).unwrap();
    let pad = "x".repeat(64_000);
    until("no segment can be begun", async || {
        let answer = gateway.post("/webhook", format!("{{\"p\":\"{pad}\"}}")).await;
        (answer.status == 503).then_some(())
    })
    .await;
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(74), "{}", gateway.journal_text());
    let alarm = until_alarm(&gateway, "log_failed", "open").await;
    assert_eq!(alarm["severity"], "critical");
    gateway.finish().await;
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_told_until_it_can() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let gateway = started(peer.port(), "").await;
    gateway.configure("50-bad.toml", "[sinks.archive]\nptah = \"x\"\n");
    let alarm = until_alarm(&gateway, "reload", "open").await;
    let note = alarm["note"].as_str().unwrap();
    assert!(note.contains("50-bad.toml:2") && note.contains("ptah"), "{note}");
    assert_eq!(note.lines().count(), 1, "nothing of the file itself: {note}");
    gateway.configure("50-bad.toml", "");
    until_alarm(&gateway, "reload", "cleared").await;
    raised_and_cleared_once(&gateway, "reload", "high");
    gateway.finish().await;
}

#[tokio::test]
async fn what_routes_and_decoders_make_nothing_of_is_told() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let mut gateway =
        Gateway::prepared(&format!("allow_unrouted = true\n{}", config(peer.port(), "")));
    gateway.set_env("KEY", "k");
    gateway.configure(
        "20-routes.toml",
        "[routes.all]\nmin_severity = \"high\"\nwhen = '.n == 1 || to_int!(.n) > 5'\n",
    );
    gateway.launch().await;
    gateway.post("/webhook", r#"{"severity":"WARNING","state":"WARNING","n":1}"#).await.ids();
    until_alarm(&gateway, "unrouted:superna", "open").await;
    gateway.post("/webhook", r#"{"severity":"purple","state":"WARNING","n":1}"#).await.ids();
    until_alarm(&gateway, "unknown:superna/severity", "open").await;
    gateway.post("/webhook", r#"{"severity":"CRITICAL","state":"WARNING","n":[]}"#).await.ids();
    until_alarm(&gateway, "rule:all", "open").await;
    for (name, severity) in [
        ("unrouted:superna", "high"),
        ("unknown:superna/severity", "medium"),
        ("rule:all", "medium"),
    ] {
        until_alarm(&gateway, name, "cleared").await;
        raised_and_cleared_once(&gateway, name, severity);
    }
    gateway.finish().await;
}

#[tokio::test]
async fn an_alarm_waits_for_a_sink_that_is_dead_over_a_power_cut_and_ends_after_it() {
    let peer = Peer::start().await;
    let port = peer.port();
    peer.stop().await;
    let mut gateway = started(port, "").await;
    assert_eq!(gateway.post("/webhook", "{").await.status, 400);
    let told = until_alarm(&gateway, "quarantine:superna", "open").await;
    gateway.kill();
    gateway.launch().await;
    // Known from the log: neither told again, nor forgotten.
    until_beats(&gateway, "desk.ndjson", 4).await;
    assert_eq!(of(&gateway, "quarantine:superna"), std::slice::from_ref(&told));
    let peer = Peer::start_at(port).await;
    peer.always(Answer::ok(OK));
    until("the alarm arrives", async || {
        peer.requests().iter().any(|request| request.json() == told).then_some(())
    })
    .await;
    gateway.cli(&["quarantine", "drop", "0"]).await;
    let cleared = until_alarm(&gateway, "quarantine:superna", "cleared").await;
    assert_eq!(cleared["incident"], told["incident"]);
    gateway.finish().await;
}

#[tokio::test]
async fn an_alarm_is_explained_like_any_event() {
    let peer = Peer::start().await;
    peer.always(Answer::new(401, "no"));
    let gateway = started(peer.port(), "").await;
    gateway.post("/webhook", body(1)).await.ids();
    let alarm = until_alarm(&gateway, "parked:out", "open").await;
    std::fs::write(gateway.path("alarm.json"), alarm.to_string()).unwrap();
    let explained = gateway.cli(&["explain", "--source", "siemgate", "--json", "alarm.json"]).await;
    let explained: Value = serde_json::from_str(&explained.out).unwrap_or_default();
    let event = &explained["events"][0];
    assert_eq!(event["finding"]["severity"], "critical", "{explained}");
    assert_eq!(event["finding"]["category"], "parked");
    assert_eq!(event["finding"]["incident"], alarm["incident"]);
    let [route] = &event["routes"].as_array().unwrap()[..] else { panic!("{event}") };
    assert_eq!(
        (&route["route"], &route["sinks"]),
        (&"alarms".into(), &serde_json::json!(["desk"]))
    );
    assert_eq!(gateway.post("/webhook/siemgate", "{}").await.status, 404, "no door leads there");
    gateway.finish().await;
}
