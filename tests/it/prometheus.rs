//! A real Prometheus that scrapes what a test names, on a free port, for as long as it is held.
//!
//! Our alert rules are evaluated with all times shortened by one factor, so that an alert that waits
//! for a quarter of an hour can be seen to fire and to clear.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::gateway::{Gateway, until};
use super::products::{Process, free_port};

/// A minute of the rules lasts 600 ms here.
const FACTOR: f64 = 100.0;
/// Four scrapes: what Grafana puts for `$__rate_interval`, with room for a busy machine.
const RATE: &str = "3s";

/// A series and its newest value.
#[derive(Debug)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

pub struct Prometheus {
    _process: Process,
    client: reqwest::Client,
    url: String,
    /// What fired before is not looked at.
    since: Instant,
}

/// `rules` with every length of time divided by [`FACTOR`]: durations, and the seconds that a
/// `*_seconds` metric is compared with.
fn hastened(rules: &str) -> String {
    let lines = rules.lines().map(|line| {
        let code = line.trim_start();
        let is_time = code.starts_with("for:") || code.contains("m]") || code.contains("offset");
        let mut words = Vec::new();
        let mut after_seconds = false;
        for word in line.split(' ') {
            let inner = word.trim_end_matches(|c| "])".contains(c));
            let from = inner.rfind('[').map_or(0, |at| at + 1);
            let (before, time) = inner.split_at(from);
            let end = &word[inner.len()..];
            words.push(match milliseconds(time).filter(|_| is_time) {
                Some(ms) => format!("{before}{}ms{end}", (ms / FACTOR).round()),
                None if after_seconds && word.parse::<f64>().is_ok() => {
                    (word.parse::<f64>().unwrap() / FACTOR).to_string()
                }
                None => word.to_owned(),
            });
            after_seconds = word.ends_with("_seconds") || (word == ">" && after_seconds);
        }
        words.join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What a duration such as `15m` lasts.
fn milliseconds(duration: &str) -> Option<f64> {
    let (number, unit) = duration.split_at(duration.len().checked_sub(1)?);
    let unit = match unit {
        "s" => 1_000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| number * unit)
}

impl Prometheus {
    /// Scrape the gateway's admin listener and `others`, each as a target of the job `siemgate`, and
    /// evaluate `rules`. Its files are in the gateway's folder.
    pub async fn start(gateway: &Gateway, others: &[String], rules: &str) -> Self {
        let targets: Vec<String> = [&gateway.admin].into_iter().chain(others).map(target).collect();
        let config = format!(
            "global: {{ scrape_interval: 250ms, evaluation_interval: 250ms }}\n\
             rule_files: [rules.yml]\n\
             scrape_configs:\n- job_name: siemgate\n  static_configs: [{{ targets: {targets:?} }}]\n"
        );
        let file = gateway.path("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        std::fs::write(gateway.path("rules.yml"), hastened(rules)).unwrap();
        let port = free_port();
        let journal = std::fs::File::create(gateway.path("prometheus.journal")).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", gateway.path("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(journal);
        let process = Process(command.spawn().unwrap());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://127.0.0.1:{port}/api/v1");
        let prometheus = Self { _process: process, client, url, since: Instant::now() };
        until("Prometheus scrapes the gateway", async || {
            let up = prometheus.try_query("min(up{job=\"siemgate\"}) == 1").await?;
            (!up.is_empty()).then_some(())
        })
        .await;
        prometheus
    }

    async fn try_query(&self, expression: &str) -> Option<Vec<Sample>> {
        let request = self.client.post(format!("{}/query", self.url));
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        let answer = request.body(format!("query={}", escaped(expression))).send().await;
        let body: Value = serde_json::from_slice(&answer.ok()?.bytes().await.ok()?).ok()?;
        assert_eq!(body["status"], "success", "{expression}: {body}");
        let sample = |found: &Value| Sample {
            labels: serde_json::from_value(found["metric"].clone()).unwrap(),
            value: found["value"][1].as_str().unwrap().parse().unwrap(),
        };
        Some(body["data"]["result"].as_array().unwrap().iter().map(sample).collect())
    }

    /// The answer to an expression, now.
    pub async fn query(&self, expression: &str) -> Vec<Sample> {
        self.try_query(expression).await.expect("Prometheus answers")
    }

    /// The answer to a panel's expression, with Grafana's variables replaced.
    pub async fn panel(&self, expression: &str, gateway: &str, sink: &str) -> Vec<Sample> {
        let values = [
            ("$instance", target(gateway)),
            ("$sink", sink.into()),
            ("$__rate_interval", RATE.into()),
        ];
        let replace = |text: String, (name, value): &(&str, String)| text.replace(name, value);
        let expression = values.iter().fold(expression.to_owned(), replace);
        assert!(!expression.contains('$'), "a variable that this test does not know: {expression}");
        self.query(&expression).await
    }

    /// Begin here to remember which alerts have fired. (A Prometheus that has just started, and knows
    /// nothing yet, takes everything for absent.)
    pub fn forget(&mut self) {
        self.since = Instant::now();
    }

    /// The alerts that have fired.
    async fn ever(&self) -> Vec<Sample> {
        let window = self.since.elapsed().as_millis().max(1);
        self.query(&format!("max_over_time(ALERTS{{alertstate=\"firing\"}}[{window}ms])")).await
    }

    /// The alerts that are pending or firing: names, and labels.
    pub async fn active(&self) -> BTreeSet<String> {
        let found = self.query("ALERTS").await;
        found.into_iter().map(|alert| format!("{:?}", alert.labels)).collect()
    }

    /// Whether an alert with (at least) these labels has fired. Some last for seconds.
    pub async fn has_fired(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        let named = ("alertname", name);
        let wanted = labels.iter().chain([&named]);
        let is_it = |alert: &Sample| {
            wanted.clone().all(|(key, value)| alert.labels.get(*key).is_some_and(|v| v == value))
        };
        self.ever().await.iter().any(is_it)
    }

    /// The names of all alerts that have fired.
    pub async fn fired(&self) -> BTreeSet<String> {
        self.ever().await.into_iter().map(|alert| alert.labels["alertname"].clone()).collect()
    }
}

/// As a value in a form.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// An address without its scheme.
fn target(url: impl AsRef<str>) -> String {
    url.as_ref().trim_start_matches("http://").to_owned()
}

#[test]
fn only_times_are_hastened() {
    let rules = "  expr: >-\n    siemgate_x_seconds > 300\n    unless on (sink) siemgate_y == 1\n  \
                 expr: increase(siemgate_z_total[15m]) > 0\n  or (x offset 15m)\n  for: 2m\n  within 15m > 300\n";
    assert_eq!(
        hastened(rules),
        "  expr: >-\n    siemgate_x_seconds > 3\n    unless on (sink) siemgate_y == 1\n  \
         expr: increase(siemgate_z_total[9000ms]) > 0\n  or (x offset 9000ms)\n  for: 1200ms\n  within 15m > 300"
    );
}
