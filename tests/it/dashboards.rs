//! Dashboards, alert rules and runbook agree with each other and with the metrics.
//!
//! That they are also true of a running gateway is in `dashboards_live.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use siemgate::core::metrics::{REFUSALS, TLS_FAILURES};

use super::products::have;
use super::reference_metrics::documented;

/// The dashboards, without `.json`.
pub const BOARDS: [&str; 2] = ["siemgate-overview", "siemgate-sink"];
pub const RULES: &str = "dashboards/siemgate-alerts.yml";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

pub fn board(name: &str) -> Value {
    serde_json::from_str(&read(&format!("dashboards/{name}.json"))).unwrap()
}

/// The names of all alerts, in order, each with the lines of its rule.
pub fn alerts() -> Vec<(String, String)> {
    let rules = read(RULES);
    let blocks = rules.split("- alert: ").skip(1);
    let alert = |block: &str| (block.lines().next().unwrap().to_owned(), block.to_owned());
    blocks.map(alert).collect()
}

/// The panels that ask something.
pub fn panels(board: &Value) -> Vec<&Value> {
    let all = board["panels"].as_array().unwrap().iter();
    all.filter(|panel| panel["type"] != "row").collect()
}

/// The expressions of a panel.
pub fn expressions(panel: &Value) -> Vec<&str> {
    let targets = panel["targets"].as_array().unwrap().iter();
    targets.map(|target| target["expr"].as_str().unwrap()).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn every_alert_has_an_entry_in_the_runbook_and_every_entry_an_alert() {
    let runbook = read("docs/runbook.md");
    let entries: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let alerts = alerts();
    let names: Vec<&str> = alerts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(entries, names, "the runbook has the alerts, in their order");
    for (name, rule) in &alerts {
        let anchor = format!("runbook: docs/runbook.md#{}\n", name.to_lowercase());
        assert!(rule.contains(&anchor), "{name} does not name its entry");
        for part in ["severity: ", "summary: ", "description: "] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
        let (_, entry) = runbook.split_once(&format!("## {name}\n")).unwrap();
        let entry = entry.split("\n## ").next().unwrap();
        for part in ["**It means**", "**Look**", "**Do**"] {
            assert!(entry.contains(part), "the entry of {name} has no {part}");
        }
    }
}

#[test]
fn the_runbook_knows_every_reason_for_a_refusal() {
    let runbook = read("docs/runbook.md");
    let known = |alert: &str, reasons: &[&str]| {
        let (_, entry) = runbook.split_once(&format!("## {alert}\n")).unwrap();
        let entry = entry.split("\n## ").next().unwrap();
        for reason in reasons {
            let told = entry.contains(&format!("`{reason}`"));
            assert!(told, "{alert}: nothing says what to do about {reason}");
        }
    };
    known("SiemgateRefused", &REFUSALS);
    known("SiemgateHandshakesFail", &TLS_FAILURES);
}

#[test]
fn every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_clears() {
    let cases = read("dashboards/siemgate-alerts.test.yml");
    for (name, _) in alerts() {
        let asked = format!("alertname: {name}\n");
        let answers: Vec<&str> = cases.split(&asked).skip(1).collect();
        let (quiet, firing): (Vec<&str>, Vec<&str>) =
            answers.iter().partition(|answer| answer.trim_start().starts_with("exp_alerts: []"));
        assert!(!firing.is_empty() && !quiet.is_empty(), "{name} has no such cases");
    }
    if !have("promtool", "prometheus") {
        return;
    }
    for (what, file) in [("check", "siemgate-alerts.yml"), ("test", "siemgate-alerts.test.yml")] {
        let mut promtool = Command::new("promtool");
        promtool.args([what, "rules", file]).current_dir(root().join("dashboards"));
        let output = promtool.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "config", "prometheus-scrape.yml"]);
    let output = promtool.current_dir(root().join("dashboards")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// Names of families in an expression, without what a histogram adds to them.
fn families(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_part(c));
    let ours = words.filter(|word| {
        (word.starts_with("siemgate_") && *word != "siemgate_sink") || word.starts_with("process_")
    });
    let known = documented();
    let whole = |word: &str| {
        let parts = ["_bucket", "_sum", "_count"].iter();
        let mut shorter = parts.filter_map(|part| word.strip_suffix(part));
        shorter.find(|name| known.contains(*name)).unwrap_or(word).to_owned()
    };
    ours.map(whole).collect()
}

#[test]
fn dashboards_and_rules_ask_only_for_families_that_exist_and_invent_no_data() {
    let known = documented();
    let mut asked = BTreeSet::new();
    let mut check = |place: &str, expression: &str| {
        let missing: Vec<_> = families(expression).difference(&known).cloned().collect();
        assert!(missing.is_empty(), "{place} asks for {missing:?}");
        // A panel without data must look like one.
        assert!(!expression.contains("vector("), "{place} invents data: {expression}");
        asked.extend(families(expression));
    };
    for name in BOARDS {
        let board = board(name);
        for panel in panels(&board) {
            for expression in expressions(panel) {
                check(&format!("{name}: {}", panel["title"]), expression);
            }
        }
    }
    for (name, rule) in alerts() {
        check(&name, rule.split("labels:").next().unwrap());
    }
    let unused: Vec<_> = known.difference(&asked).collect();
    assert!(unused.is_empty(), "nothing shows {unused:?}");
}

#[test]
fn every_panel_tells_what_it_shows_and_has_a_place_of_its_own() {
    for name in BOARDS {
        let board = board(name);
        let mut ids = BTreeSet::new();
        let mut taken: BTreeMap<(u64, u64), &Value> = BTreeMap::new();
        for panel in board["panels"].as_array().unwrap() {
            let title = &panel["title"];
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {title} has no own id");
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{name}: {title} is too wide");
            for (x, y) in (at("x")..at("x") + at("w"))
                .flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
            {
                let other = taken.insert((x, y), title);
                assert!(other.is_none(), "{name}: {title} lies on {other:?}");
            }
        }
        for panel in panels(&board) {
            let (title, defaults) = (&panel["title"], &panel["fieldConfig"]["defaults"]);
            let about = panel["description"].as_str().unwrap();
            assert!(about.ends_with('.'), "{name}: {title} says nothing of itself");
            // A table's columns have units of their own, and a state is a word.
            let mixed = panel["type"] == "table" || panel["type"] == "state-timeline";
            assert!(mixed || defaults["unit"].is_string(), "{name}: {title} has no unit");
            let source = &panel["datasource"]["uid"];
            assert_eq!(source, "${datasource}", "{name}: {title} has a fixed data source");
        }
        let links = board["links"].as_array().unwrap();
        assert!(links.iter().any(|link| link["tags"][0] == board["tags"][0]), "{name}");
    }
}

/// The folder into which `tests/setup.sh` puts Grafana's types and a compiler for them.
fn types() -> Option<PathBuf> {
    let folder = root().join("target/grafana");
    if folder.join("node_modules/.bin/tsc").exists() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "Grafana's types are missing: tests/setup.sh");
    eprintln!("SKIPPED: Grafana's types are missing; run tests/setup.sh");
    None
}

fn compile(folder: &Path, file: &str, text: &str) -> Output {
    fs::write(folder.join(file), text).unwrap();
    let mut tsc = Command::new("node_modules/.bin/tsc");
    tsc.args(["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022"]);
    tsc.args(["--module", "nodenext", "--moduleResolution", "nodenext", file]);
    tsc.current_dir(folder).output().unwrap()
}

#[test]
fn the_dashboards_are_what_grafanas_own_types_allow() {
    let Some(folder) = types() else { return };
    fs::copy(root().join("tests/grafana/panels.ts"), folder.join("panels.ts")).unwrap();
    let mut text = "import type { Board } from './panels';\n".to_owned();
    for name in BOARDS {
        let json = read(&format!("dashboards/{name}.json"));
        let _ = writeln!(text, "export const {}: Board = {json};", name.replace('-', "_"));
    }
    let output = compile(&folder, "boards.ts", &text);
    assert!(output.status.success(), "{}", said(&output));
    // The check itself works: each of these is noticed.
    let mistakes = [
        ("\"colorMode\": \"background\"", "\"colorMode\": \"bakground\""),
        ("\"graphMode\"", "\"grafMode\""),
        ("\"drawStyle\": \"bars\"", "\"drawStyle\": \"barz\""),
        ("\"expr\"", "\"exp\""),
        ("\"description\": \"Whether", "\"about\": \"Whether"),
        ("\"w\": 3", "\"w\": \"3\""),
        ("\"type\": \"stat\"", "\"type\": \"state\""),
    ];
    let mut wrong = "import type { Board } from './panels';\n".to_owned();
    for (index, (right, mistake)) in mistakes.iter().enumerate() {
        let json = read("dashboards/siemgate-overview.json");
        assert!(json.contains(right), "{right}");
        let json = json.replacen(right, mistake, 1);
        let _ = writeln!(wrong, "/*{index}*/ export const b{index}: Board = {json};");
    }
    let told = said(&compile(&folder, "mistakes.ts", &wrong));
    let lines: Vec<&str> = wrong.lines().collect();
    let noticed: BTreeSet<usize> = told
        .lines()
        .filter_map(|line| line.strip_prefix("mistakes.ts(")?.split(',').next()?.parse().ok())
        .map(|line: usize| lines[..line].iter().filter(|line| line.starts_with("/*")).count() - 1)
        .collect();
    assert_eq!(noticed, (0..mistakes.len()).collect(), "{told}");
}

#[test]
fn the_dashboards_have_the_newest_schema_that_grafana_knows() {
    let Some(folder) = types() else { return };
    let program = "import { defaultDashboard } from '@grafana/schema';\
                   console.log(defaultDashboard.schemaVersion)";
    let mut node = Command::new("node");
    node.args(["--input-type=module", "-e", program]).current_dir(folder);
    let newest = said(&node.output().unwrap());
    for name in BOARDS {
        assert_eq!(board(name)["schemaVersion"].to_string(), newest.trim(), "{name}");
    }
}
