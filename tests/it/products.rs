//! Other products' webhooks arrive as they were sent, through sources that are only settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::gateway::{Gateway, fixture, until};
use super::peer::Peer;

/// A source for each product, with the settings that are documented for it.
fn config(peer: &Peer, cases: &BTreeMap<String, Value>) -> String {
    let sources = cases.iter().map(|(name, case)| {
        let mut table = toml_table(&case["settings"]);
        table.push_str("type = \"json\"\n");
        format!("[sources.{name}]\n{table}")
    });
    let sources: String = sources.collect();
    format!(
        r#"{sources}
[unmatched]
sinks = ["out"]
[sinks.out]
type = "taegis"
url = "{}"
key = {{ env = "KEY" }}
"#,
        peer.url()
    )
}

/// Settings from JSON: strings, lists of strings, and one level of tables.
fn toml_table(settings: &Value) -> String {
    let inline = |value: &Value| match value {
        Value::Object(words) => {
            let pairs: Vec<String> =
                words.iter().map(|(word, step)| format!("\"{word}\" = {step}")).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        // A JSON string or list of strings is also TOML.
        other => other.to_string(),
    };
    let settings = settings.as_object().unwrap();
    settings.iter().map(|(key, value)| format!("{key} = {}\n", inline(value))).collect()
}

async fn started(config: &str) -> Gateway {
    let mut gateway = Gateway::prepared(config);
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    gateway
}

#[tokio::test]
async fn every_products_body_arrives_unchanged() {
    let cases: BTreeMap<String, Value> =
        serde_json::from_slice(&fixture("others-read.json")).unwrap();
    assert!(cases.len() >= 30, "bodies of at least thirty products");
    let peer = Peer::start().await;
    let gateway = started(&config(&peer, &cases)).await;
    for (name, case) in &cases {
        let body = fixture(&format!("others/{name}.json"));
        peer.forget();
        let path = format!("/webhook/{name}?wait=30s");
        let [id] = &gateway.post(&path, body.clone()).await.ids()[..] else {
            panic!("{name} is one event")
        };
        assert_eq!(peer.bodies(), [body], "{name}");
        let [line] = &gateway.told_of("delivered", "out", id)[..] else { panic!("{name}") };
        assert_eq!(line["severity"], case["says"]["severity"], "{name}");
    }
    gateway.finish().await;
}

/// Stops what it holds when dropped.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether `program` can be had: in CI it must be, elsewhere a test is skipped, loudly.
pub fn have(program: &str, package: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{program} is missing: install {package}");
        eprintln!("SKIPPED: {program} is missing; apt-get install {package}");
    }
    found
}

/// The Python of `tests/setup.sh`, if it has `module`; in CI it must.
pub fn python(module: &str) -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python3");
    let imported = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if imported.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(std::env::var_os("CI").is_none(), "Python's {module} is missing: run tests/setup.sh");
    eprintln!("SKIPPED: Python's {module} is missing; run tests/setup.sh");
    None
}

/// A port that was free a moment ago, for a program that cannot choose one itself.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn alertmanager(gateway: &Gateway, port: u16) -> Process {
    let config = format!(
        r#"
route: {{ receiver: gate, group_by: [alertname], group_wait: 0s, group_interval: 1s }}
receivers:
- name: gate
  webhook_configs:
  - url: {}/webhook/alertmanager
    send_resolved: true
"#,
        gateway.webhook
    );
    let file = gateway.path("am.yml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("prometheus-alertmanager");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.path={}", gateway.path("am").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--cluster.listen-address=")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Process(command.spawn().unwrap())
}

/// Post alerts to it as soon as it answers.
async fn fire(port: u16, alerts: Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://127.0.0.1:{port}/api/v2/alerts");
    until("Alertmanager takes an alert", async || {
        let request = client.post(&url).header("Content-Type", "application/json");
        let response = request.body(alerts.to_string()).send().await.ok()?;
        response.status().is_success().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_real_alertmanagers_webhooks_arrive_unchanged() {
    if !have("prometheus-alertmanager", "prometheus-alertmanager") {
        return;
    }
    let cases: BTreeMap<String, Value> =
        serde_json::from_slice(&fixture("others-read.json")).unwrap();
    let cases = cases.into_iter().filter(|(name, _)| name == "alertmanager").collect();
    let peer = Peer::start().await;
    let gateway = started(&config(&peer, &cases)).await;
    let port = free_port();
    let _running = alertmanager(&gateway, port);
    fire(
        port,
        serde_json::json!([{
            "labels": { "alertname": "RansomwareSuspected", "severity": "critical", "cluster": "nas-01" },
            "annotations": { "summary": "<b>\u{fc}ber</b> & \"quoted\" \u{2028}" },
        }]),
    )
    .await;
    let sent = peer.wait_for(1).await.remove(0);
    // What Alertmanager sent is what the log holds; what the peer got must be the same bytes.
    let body = sent.json();
    assert_eq!((&body["version"], &body["status"]), (&"4".into(), &"firing".into()), "{body}");
    assert_eq!(
        body["alerts"][0]["annotations"]["summary"],
        "<b>\u{fc}ber</b> & \"quoted\" \u{2028}"
    );
    // No byte more or less than came in. (It may be delivered before it is counted.)
    let (from, bytes) = ([("source", "alertmanager")], sent.body.len() as f64);
    gateway.until_metric("siemgate_ingress_bytes_total", &from, bytes).await;
    // Go's own writing, such as its escapes and the line end, would not survive a reading.
    assert!(
        sent.text().contains("\\u003cb\\u003e") && sent.body.ends_with(b"\n"),
        "{}",
        sent.text()
    );
    gateway.until_settled("out", "delivered", 1).await;
    let line = gateway.journal().into_iter().find(|line| line["message"] == "delivered").unwrap();
    assert_eq!((&line["severity"], &line["state"]), (&"critical".into(), &"firing".into()));
    gateway.finish().await;
}
