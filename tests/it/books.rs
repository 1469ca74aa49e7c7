//! `siemgate ledger` and `siemgate report`: the books, as people ask for them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use siemgate::core::delivery::ledgers;
use siemgate::core::event::Position;
use siemgate::core::log::sim::{Fault as DiskFault, SimDisk, Trouble};
use siemgate::core::log::{FilesLog, MemoryLog, Options};
use siemgate::core::receipts::{Receipt, Receipts, What};
use siemgate::core::sink::{Cause, Fault, Outcome, Reply};

use super::gateway::{Gateway, until};
use super::outages::{post, started};
use super::peer::{Answer, Peer};
use super::scripted::{Stage, limits, ok};

const OK: &str = r#"{"successCount":1}"#;

#[tokio::test]
async fn a_ledger_that_adds_up_is_a_success() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let gateway = started(peer.port(), "").await;
    post(&gateway, 0..7).await;
    gateway.until_settled("out", "delivered", 7).await;
    let printed = gateway.cli(&["ledger"]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let line = "out: head 7 - start 0 = 7 delivered + 0 dead + 0 filtered + 0 expired + 0 damaged + 0 queued; difference 0";
    assert!(printed.out.lines().any(|said| said == line), "{printed:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_ledger_that_does_not_add_up_is_a_failure() {
    // No gateway does that: one is played.
    let peer = Peer::start().await;
    let ledger = json!({
        "sink": "soc", "head": 10, "start": 2, "delivered": 7, "dead": 0, "filtered": 0,
        "expired": 0, "damaged": 0, "queued": 0, "difference": 1,
    });
    peer.always(Answer::ok(json!({ "sinks": [ledger], "without_worker": [] }).to_string()));
    let mut gateway =
        Gateway::prepared("allow_unrouted = true\n[sources.superna]\ntype = \"superna\"\n");
    gateway.admin = peer.url();
    let printed = gateway.cli(&["ledger"]).await;
    assert_eq!(printed.code, Some(1), "{printed:?}");
    assert!(printed.out.contains("difference 1") && printed.err.contains("soc"), "{printed:?}");
    assert!(peer.requests().len() > 1, "a difference is looked at again before it is believed");
}

#[tokio::test]
async fn a_report_counts_what_was_scripted() {
    let peer = Peer::start().await;
    let gateway = started(peer.port(), "batch = { events = 1 }").await;
    peer.always(Answer::new(503, "no"));
    post(&gateway, 0..1).await;
    let of = |cause| [("sink", "out"), ("cause", cause)];
    gateway.until_metric_above("siemgate_delivery_attempts_total", &of("down"), 1.0).await;
    peer.always(Answer::ok(OK));
    gateway.until_settled("out", "delivered", 1).await;
    post(&gateway, 1..4).await;
    assert_eq!(gateway.cli(&["send"]).await.code, Some(0));
    gateway.until_settled("out", "delivered", 5).await;
    let downs = gateway.metric("siemgate_delivery_attempts_total", &of("down")).await.unwrap();
    let report = until("all receipts are written", async || {
        let printed = gateway.cli(&["report", "--since", "1h", "--format", "json"]).await;
        assert_eq!(printed.code, Some(0), "{printed:?}");
        let report: Value = serde_json::from_str(&printed.out).unwrap();
        (report["report"]["sinks"]["out"]["delivered"] == 5).then_some(report)
    })
    .await;
    let (source, sinks) = (&report["report"]["sources"]["superna"], &report["report"]["sinks"]);
    assert_eq!(source["events"], 5, "{report:#}");
    let out = &sinks["out"];
    assert_eq!(out["attempts"], json!({ "ok": 5, "down": downs as u64 }), "{report:#}");
    assert_eq!((&out["dead"], &out["queued"], &out["timed"]), (&0.into(), &0.into(), &5.into()));
    assert_eq!(sinks["archive"]["delivered"], 5);
    let (p50, p99) = (out["p50_ms"].as_f64().unwrap(), out["p99_ms"].as_f64().unwrap());
    assert!(0.0 < p50 && p50 <= p99 && p99 < 60_000.0, "{p50} {p99}");
    let drill = out["last_drill"].as_str().unwrap();
    assert!(drill >= report["report"]["since"].as_str().unwrap(), "{report:#}");
    let text = gateway.cli(&["report"]).await.out;
    assert!(text.contains("Received") && text.contains("superna"), "{text}");
    let page = gateway.cli(&["report", "--format", "html"]).await.out;
    assert!(page.starts_with("<!doctype html>") && page.contains("<td>superna</td>"), "{page}");
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("href="));
    // Nothing came in the last millisecond.
    let none = gateway.cli(&["report", "--since", "1ms", "--format", "json"]).await.out;
    let none: Value = serde_json::from_str(&none).unwrap();
    assert_eq!(
        (&none["report"]["sources"], &none["report"]["sinks"]["out"]["delivered"]),
        (&json!({}), &0.into())
    );
    assert!(
        none["report"]["sinks"]["out"]["last_drill"].is_string(),
        "drills are older, and still told"
    );
    gateway.finish().await;
}

/// A receipts' log on a disk that a test can break.
fn kept(disk: &SimDisk) -> Arc<FilesLog> {
    let options = Options { min_free: 0, index: Some(Receipt::marks), ..Options::default() };
    FilesLog::open(Arc::new(disk.clone()), options).unwrap().0
}

/// Everything that is in the receipts.
async fn all(receipts: &Receipts) -> Vec<Receipt> {
    let mut all = Vec::new();
    receipts.about(None, 0..u64::MAX, |receipt| all.push(receipt)).await.unwrap();
    all
}

#[tokio::test]
async fn a_broken_or_full_receipts_disk_touches_no_delivery() {
    for trouble in [Trouble::Full, Trouble::Broken] {
        let disk = SimDisk::new();
        let log = kept(&disk);
        let at = disk.operations() + 1;
        disk.fail(Some(DiskFault { at, trouble, sticky: true }));
        let memory = Arc::new(MemoryLog::new(64 << 20));
        let stage =
            Stage::keeping(memory, limits(10), "{}", |metrics| Receipts::kept_in(log, metrics))
                .await;
        stage.append((0..100).map(|n| n.to_string())).await;
        stage.settled().await;
        assert_eq!(stage.sink.took().len(), 100, "{trouble:?}");
        until("what could not be kept is counted", async || {
            let text = String::from_utf8(stage.render()).unwrap();
            (super::gateway::sample(&text, "siemgate_receipts_dropped_total", &[]) > Some(0.0))
                .then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn one_batch_is_one_receipt_and_names_what_was_not_taken() {
    let disk = SimDisk::new();
    let log = kept(&disk);
    let memory = Arc::new(MemoryLog::new(64 << 20));
    let stage = Stage::keeping(memory, limits(100), r#"{"batch":{"wait":"1s"}}"#, |metrics| {
        Receipts::kept_in(log, metrics)
    })
    .await;
    stage.sink.answers(|bodies, _| {
        let bad = bodies.iter().position(|body| body == "42" && bodies.len() > 1);
        match bad {
            Some(index) => Outcome::Partly {
                reply: Reply { status: Some(207), ..Reply::default() },
                faults: vec![(index, Fault::new(Cause::Refused, "42 is bad"))],
            },
            None => ok(),
        }
    });
    stage.append((0..100).map(|n| n.to_string())).await;
    stage.until("the whole batch was sent", |stage| !stage.sink.attempts().is_empty()).await;
    let receipts = stage.engine.receipts.clone();
    let receipts = until("the first receipt is written", async || {
        let all = all(&receipts).await;
        (!all.is_empty()).then_some(all)
    })
    .await;
    let What::Attempt(attempt) = &receipts[0].entry.what else { panic!("{receipts:?}") };
    assert_eq!(attempt.size(), 100, "one record a batch: {attempt:?}");
    assert_eq!(attempt.events.len(), 1);
    assert_eq!(
        (attempt.events[0].positions.hull(), attempt.events[0].positions.count()),
        (0..100, 100)
    );
    let [fault] = &attempt.faults[..] else { panic!("{attempt:?}") };
    assert_eq!(
        (fault.positions.numbers().collect::<Vec<_>>(), &*fault.note),
        (vec![42], "42 is bad")
    );
    assert_eq!(attempt.taken().count(), 99);
    let bytes = serde_json::to_vec(&receipts[0].entry).unwrap().len();
    assert!(bytes < 500, "a hundred events in {bytes} bytes");
    stage.delivery.finish(Duration::from_secs(60)).await;
    assert!(ledgers(&stage.engine).iter().all(|l| l.difference == 0 && l.head == Position(100)));
}
