//! A real Prometheus scrapes a real gateway that is broken in every way there is an alert for: the
//! right alerts fire and clear again, and every panel of every dashboard has data.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use serde_json::Value;

use super::dashboards::{BOARDS, RULES, alerts, board, expressions, panels, read};
use super::gateway::{Gateway, until};
use super::ingress_tls::self_signed_for;
use super::peer::{Answer, Peer};
use super::products::{free_port, have};
use super::prometheus::Prometheus;

/// How long alerts may take to clear and panels to fill: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);
const OK: &str = r#"{"successCount":1}"#;

/// An alert, and the labels that it must have.
type Wanted = (&'static str, &'static [(&'static str, &'static str)]);

/// Everything that can be wrong at the same time.
const TOGETHER: [Wanted; 17] = [
    ("SiemgateSinkParked", &[("sink", "out")]),
    ("SiemgateSinkBehind", &[("sink", "far")]),
    ("SiemgateEventsLost", &[("sink", "impatient"), ("outcome", "expired")]),
    ("SiemgateLedgerOff", &[("sink", "stand-in")]),
    ("SiemgateDeadLettersGrowing", &[("sink", "out")]),
    ("SiemgateDeadLettersWaiting", &[("sink", "out")]),
    ("SiemgateUnrouted", &[("source", "stray")]),
    ("SiemgateUnknownValues", &[("source", "superna"), ("field", "severity")]),
    ("SiemgateRouteErrors", &[("route", "numbers")]),
    ("SiemgateReloadFailed", &[]),
    ("SiemgateLogFilling", &[]),
    ("SiemgateLogAlmostFull", &[]),
    ("SiemgateQuarantine", &[("source", "superna")]),
    ("SiemgateRefused", &[("source", "superna"), ("reason", "malformed")]),
    ("SiemgateSourceSilent", &[("source", "quiet")]),
    ("SiemgateHandshakesFail", &[("listener", "webhook"), ("reason", "plain")]),
    ("SiemgateCertificateExpiring", &[("listener", "webhook")]),
];

/// `out` and `far` at their ports; `impatient` gives up after a second.
fn config(admin: u16, out: &Peer, far: u16) -> String {
    format!(
        r#"
allow_unrouted = true
[server]
admin = "127.0.0.1:{admin}"
drain = "3s"
[server.tls]
listen = "127.0.0.1:0"
cert_file = "{{{{dir}}}}/cert.pem"
key_file = "{{{{dir}}}}/key.pem"
[log]
max_bytes = "4MiB"
segment_bytes = "1MiB"
[sources.superna]
type = "superna"
path = "/webhook"
[sources.quiet]
type = "json"
expect_every = "10s"
[sources.stray]
type = "json"
[routes.all]
sources = ["superna", "quiet"]
sinks = ["archive", "out", "far", "impatient"]
[routes.numbers]
sources = ["superna"]
when = "to_int!(.n) < 0"
sinks = ["archive"]
[sinks.archive]
type = "file"
path = "{{{{dir}}}}/events.ndjson"
[sinks.out]
type = "taegis"
url = "{}/in"
key = {{ env = "KEY" }}
[sinks.out.delivery]
retry = {{ first = "50ms", max = "500ms" }}
[sinks.far]
type = "taegis"
url = "http://127.0.0.1:{far}/in"
key = {{ env = "KEY" }}
[sinks.far.delivery]
retry = {{ first = "50ms", max = "500ms" }}
[sinks.impatient]
type = "taegis"
url = "http://127.0.0.1:{far}/in"
key = {{ env = "KEY" }}
[sinks.impatient.delivery]
retry = {{ first = "50ms", max = "500ms" }}
max_age = "1s"
"#,
        out.url()
    )
}

/// The gateway under test, all that it talks to, and who watches.
struct Stage {
    gateway: Gateway,
    out: Peer,
    far: Option<Peer>,
    far_port: u16,
    /// Shows a ledger that does not add up, which no sound gateway can be made to do.
    stand_in: Peer,
    prometheus: Prometheus,
    posted: usize,
}

impl Stage {
    async fn set() -> Self {
        let (out, far, stand_in) = (Peer::start().await, Peer::start().await, Peer::start().await);
        let far_port = far.port();
        out.answer(|request| match request.text().contains("bad") {
            true => Answer::new(400, "no such field"),
            false => Answer::ok(OK),
        });
        far.always(Answer::ok(OK));
        let mut gateway = Gateway::prepared(&config(free_port(), &out, far_port));
        gateway.set_env("KEY", "k");
        certify(&gateway, 90);
        gateway.launch().await;
        ledger(&stand_in, 0);
        let prometheus = Prometheus::start(&gateway, &[stand_in.url()], &read(RULES)).await;
        Self { gateway, out, far: Some(far), far_port, stand_in, prometheus, posted: 0 }
    }

    /// A good event of about `bytes` bytes.
    async fn post(&mut self, bytes: usize) {
        self.posted += 1;
        let (n, pad) = (self.posted, "x".repeat(bytes));
        let body = format!(r#"{{"n":{n},"severity":"WARNING","state":"WARNING","pad":"{pad}"}}"#);
        self.gateway.post("/webhook", body).await.ids();
    }

    /// The source from which something is expected says something.
    async fn greet(&self) {
        self.gateway.post("/webhook/quiet", "{}").await.ids();
    }

    /// Wait until each of `wanted` has fired.
    async fn until_fired(&self, wanted: &[Wanted]) {
        for (name, labels) in wanted {
            let what = format!("{name} {labels:?} fires");
            until(&what, async || self.prometheus.has_fired(name, labels).await.then_some(()))
                .await;
        }
    }

    /// Wait until no alert is pending or firing any more.
    async fn until_quiet(&self) {
        let mut left = BTreeSet::new();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // No faster than a sink takes them: a flood would fill the log that is to empty.
            let lag = self.gateway.metric("siemgate_delivery_lag_events", &[("sink", "out")]).await;
            if lag == Some(0.0) {
                self.greet().await;
            }
            left = self.prometheus.active().await;
            if left.is_empty() {
                return;
            }
        }
        panic!("does not clear: {left:#?}");
    }

    /// Wait until every panel, for each of the sinks, `has` enough of its expressions with data.
    async fn until_shown(&mut self, sinks: &[&str], has: fn(&[bool]) -> bool) {
        let mut empty = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // Rates are of what happens meanwhile.
            self.post(10).await;
            self.greet().await;
            empty = self.without_data(sinks, has).await;
            if empty.is_empty() {
                return;
            }
        }
        panic!("without data: {empty:#?}");
    }

    async fn without_data(&self, sinks: &[&str], has: fn(&[bool]) -> bool) -> Vec<String> {
        let mut empty = Vec::new();
        for name in BOARDS {
            let board = board(name);
            for (panel, sink) in
                panels(&board).into_iter().flat_map(|panel| sinks.iter().map(move |s| (panel, s)))
            {
                let mut found = Vec::new();
                for expression in expressions(panel) {
                    let data = self.prometheus.panel(expression, &self.gateway.admin, sink).await;
                    found.push(data.iter().any(|sample| sample.value.is_finite()));
                }
                if !has(&found) {
                    empty.push(format!("{name}: {} ({sink}): {found:?}", panel["title"]));
                }
            }
        }
        empty
    }

    // ---- Breaking ------------------------------------------------------------------------------

    async fn break_everything(&mut self) {
        self.far.take().unwrap().stop().await;
        ledger(&self.stand_in, 1);
        certify(&self.gateway, 3);
        let reloaded = self.gateway.cli(&["reload"]).await;
        assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
        let secure = self.gateway.secure.strip_prefix("https://").unwrap();
        let mut plain = tokio::net::TcpStream::connect(secure).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        self.gateway.configure("90-wrong.toml", "[sinks.out]\nno_such_key = 1\n");
        assert_eq!(self.gateway.post("/webhook", "{").await.status, 400);
        self.gateway.post("/webhook/stray", "{}").await.ids();
        let odd = r#"{"n":"many","severity":"PURPLE","state":"WARNING"}"#;
        self.gateway.post("/webhook", odd).await.ids();
        let bad = r#"{"n":0,"id":"bad","severity":"WARNING","state":"WARNING"}"#;
        self.gateway.post("/webhook", bad).await.ids();
        until("a refused event is a dead letter", async || {
            self.post(10).await;
            (self.gateway.settled("out", "dead").await > 0).then_some(())
        })
        .await;
        self.out.always(Answer::new(401, ""));
        self.post(10).await;
        self.gateway.until_state("out", "parked").await;
        until("the log is full of what `far` has not had", async || {
            self.post(60_000).await;
            let value = async |name| self.gateway.metric(name, &[]).await;
            (value("siemgate_log_held_bytes").await == value("siemgate_log_limit_bytes").await)
                .then_some(())
        })
        .await;
    }

    async fn mend_everything(&mut self) {
        ledger(&self.stand_in, 0);
        certify(&self.gateway, 90);
        let far = Peer::start_at(self.far_port).await;
        far.always(Answer::ok(OK));
        self.far = Some(far);
        self.out.always(Answer::ok(OK));
        // Any change of its section lets a parked sink try at once.
        self.gateway.configure("90-wrong.toml", "[sinks.out.delivery]\nrate = \"1000/s\"\n");
        self.gateway.until_metric("siemgate_config_last_reload_successful", &[], 1.0).await;
        self.gateway.until_state("out", "up").await;
        for letters in ["dead", "quarantine"] {
            let listed = self.gateway.cli(&[letters, "list", "--json"]).await;
            let listed: Value = serde_json::from_str(&listed.out).unwrap();
            for letter in listed["letters"].as_array().unwrap() {
                let number = letter["number"].to_string();
                let dropped = self.gateway.cli(&[letters, "drop", &number]).await;
                assert_eq!(dropped.code, Some(0), "{letter}: {dropped:?}");
            }
        }
    }

    /// The folder of the log vanishes under the running gateway, as when a mount fails.
    async fn lose_the_disk(&mut self) {
        self.far.take().unwrap().stop().await;
        let (log, away) = (self.gateway.path("data/log"), self.gateway.path("data/away"));
        std::fs::rename(&log, &away).unwrap();
        self.until_fired(&[("SiemgateLogPoisoned", &[])]).await;
        let ended = self.gateway.ended().await;
        assert_eq!(ended.code(), Some(74), "{}", self.gateway.journal_text());
        self.until_fired(&[("SiemgateAbsent", &[])]).await;
        std::fs::rename(&away, &log).unwrap();
    }

    /// The oldest segment's header is overwritten, and the log is to leave most of the disk free.
    async fn damage_the_log(&mut self) {
        let mut segments: Vec<_> = std::fs::read_dir(self.gateway.path("data/log"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "seg"))
            .collect();
        segments.sort();
        let mut bytes = std::fs::read(&segments[0]).unwrap();
        bytes[..4096].fill(0xa5);
        std::fs::write(&segments[0], bytes).unwrap();
        let free = self.prometheus.query("max_over_time(siemgate_log_disk_free_bytes[1m])").await;
        let free = free[0].value;
        let reserve = format!("[log]\nmin_free = \"{}B\"\n", (free * 0.88) as u64);
        self.gateway.configure("80-reserve.toml", &reserve);
    }

    /// Start, and wait until Prometheus has seen it.
    async fn launch(&mut self) {
        self.gateway.launch().await;
        let started = self.gateway.metric("process_start_time_seconds", &[]).await.unwrap();
        until("Prometheus has seen the start", async || {
            let seen = self.prometheus.query("process_start_time_seconds").await;
            seen.iter().any(|sample| (sample.value - started).abs() < 0.01).then_some(())
        })
        .await;
    }
}

/// Write a certificate for the webhook listener that is valid for so many days.
fn certify(gateway: &Gateway, days: i64) {
    let (certificate, key) = self_signed_for("localhost", days * 86_400);
    std::fs::write(gateway.path("cert.pem"), certificate).unwrap();
    std::fs::write(gateway.path("key.pem"), key).unwrap();
}

/// Let the stand-in's ledger be off by so much.
fn ledger(peer: &Peer, off: u64) {
    let name = "siemgate_delivery_unaccounted_events";
    peer.always(Answer::ok(format!("# TYPE {name} gauge\n{name}{{sink=\"stand-in\"}} {off}\n")));
}

#[tokio::test]
async fn every_alert_fires_and_clears_and_every_panel_has_data() {
    if !have("prometheus", "prometheus") {
        return;
    }
    let mut stage = Stage::set().await;
    let sinks = ["archive", "out", "far", "impatient"];

    // All is well: no alert, and no panel is empty, if not all of them have something to show.
    stage.post(10).await;
    stage.greet().await;
    for sink in sinks {
        stage.gateway.until_settled(sink, "delivered", 2).await;
    }
    stage.until_shown(&sinks, |found| found.contains(&true)).await;
    assert_eq!(stage.prometheus.active().await, BTreeSet::new(), "all is well");
    stage.prometheus.forget();

    // Everything is broken: every alert fires, and every expression has data.
    stage.break_everything().await;
    stage.until_fired(&TOGETHER).await;
    let expected: BTreeSet<String> = TOGETHER.iter().map(|(name, _)| (*name).into()).collect();
    assert_eq!(stage.prometheus.fired().await, expected, "these and no others");
    stage.until_shown(&["archive"], |found| !found.contains(&false)).await;
    stage.mend_everything().await;
    stage.until_quiet().await;

    // The disk fails, the process ends, starts with damage, and again and again.
    stage.lose_the_disk().await;
    stage.damage_the_log().await;
    stage.launch().await;
    stage.until_fired(&[("SiemgateLogDamaged", &[]), ("SiemgateDiskShort", &[])]).await;
    stage.gateway.configure("80-reserve.toml", "");
    let far = Peer::start_at(stage.far_port).await;
    far.always(Answer::ok(OK));
    stage.far = Some(far);
    for _ in 0..3 {
        stage.gateway.stop().await;
        stage.launch().await;
    }
    stage.until_fired(&[("SiemgateRestarting", &[])]).await;
    stage.until_quiet().await;

    let all: BTreeSet<String> = alerts().into_iter().map(|(name, _)| name).collect();
    assert_eq!(stage.prometheus.fired().await, all, "each of our alerts fired");
    stage.gateway.finish().await;
}
