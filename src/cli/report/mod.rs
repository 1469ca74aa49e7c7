//! `siemgate report`: what came in and went out over a time, for people who were not there.
//!
//! Guarantees: figures are the gateway's, nothing is computed here; the three forms say the same;
//! the page has no script, loads nothing, and prints on paper.

mod page;

use std::path::Path;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::admin::Admin;
use super::explain::text;
use super::when::When;
use super::{Exit, block_on, failed, print};
use crate::core::config::Span;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// From when on: 24h, 7d, 2026-01-31T07:00:00Z.
    #[arg(long, default_value = "7d", value_name = "TIME")]
    since: When,
    /// How it is written; `html` is one page that can be printed or mailed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
    Html,
}

pub(super) fn run(config: &Path, arguments: &Arguments) -> Exit {
    let answer = block_on(async {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let query = query.append_pair("since", &arguments.since.to_string()).finish();
        Admin::of(config)?.get(&format!("/api/v1/report?{query}")).await
    });
    let answer = match answer {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    if !answer["report"].is_object() {
        return failed("this gateway makes no report: is it of another version?");
    }
    print(
        match arguments.format {
            Format::Text => plain(&Told::of(&answer)),
            Format::Json => format!("{answer:#}\n"),
            Format::Html => page::page(&Told::of(&answer)),
        }
        .as_bytes(),
    )
}

/// A report in words and cells, the same for every form.
struct Told {
    title: String,
    /// What limits the figures.
    notes: Vec<String>,
    tables: Vec<Table>,
}

/// A table of the report.
struct Table {
    title: &'static str,
    /// What is said where there is no row.
    empty: &'static str,
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// Names of attempts' results, in the order of their columns.
const CAUSES: [&str; 6] = ["ok", "busy", "down", "setup", "too_large", "refused"];

impl Told {
    fn of(answer: &Value) -> Self {
        let report = &answer["report"];
        let period = format!("{} to {}", minute(&report["since"]), minute(&report["until"]));
        Self {
            title: format!("siemgate report, {period}"),
            notes: notes(answer),
            tables: vec![received(report), delivered(report), attempts(report), ledger(answer)],
        }
    }
}

fn notes(answer: &Value) -> Vec<String> {
    let report = &answer["report"];
    let mut notes = vec![
        format!(
            "siemgate {}, configuration {}. Times are UTC.",
            text(&answer["version"]),
            text(&answer["config"])
        ),
        "p50 and p99: half, and 99 of 100, of the events that came and were delivered in this time were delivered that soon after they were accepted.".to_owned(),
    ];
    if report["cut"] == true {
        notes.push(format!(
            "More events came than are counted: what came before {} is left out.",
            minute(&report["first_event"])
        ));
    }
    match (answer["receipts"] == true, report["receipts_since"].as_str()) {
        (false, _) => {
            notes.push("No receipts are kept, so deliveries and attempts are not known.".into())
        }
        (true, None) => notes.push("There are no receipts yet: nothing was attempted.".into()),
        (true, Some(since)) if since > report["since"].as_str().unwrap_or_default() => {
            notes.push(format!(
                "The oldest receipt is from {}: what was attempted before it is not counted.",
                minute(&report["receipts_since"])
            ));
        }
        _ => {}
    }
    notes
}

fn received(report: &Value) -> Table {
    let rows = entries(&report["sources"])
        .map(|(source, of)| vec![source.clone(), number(&of["events"]), number(&of["bytes"])]);
    Table {
        title: "Received",
        empty: "Nothing was received.",
        heads: vec!["source", "events", "bytes"],
        rows: rows.collect(),
    }
}

fn delivered(report: &Value) -> Table {
    let rows = entries(&report["sinks"]).map(|(sink, of)| {
        vec![
            sink.clone(),
            number(&of["delivered"]),
            time(&of["p50_ms"]),
            time(&of["p99_ms"]),
            number(&of["dead"]),
            number(&of["replayed"]),
            number(&of["expired"]),
            number(&of["damaged"]),
            number(&of["queued"]),
            minute(&of["last_drill"]),
        ]
    });
    Table {
        title: "Delivered",
        empty: "No sink.",
        heads: vec![
            "sink",
            "delivered",
            "p50",
            "p99",
            "dead",
            "replayed",
            "expired",
            "damaged",
            "waiting now",
            "last drill",
        ],
        rows: rows.collect(),
    }
}

fn attempts(report: &Value) -> Table {
    let rows = entries(&report["sinks"]).map(|(sink, of)| {
        let counts = CAUSES.map(|cause| match &of["attempts"][cause] {
            Value::Null => "0".to_owned(),
            count => number(count),
        });
        [sink.clone()].into_iter().chain(counts).collect()
    });
    Table {
        title: "Attempts, by what became of them",
        empty: "No sink.",
        heads: ["sink"].into_iter().chain(CAUSES).collect(),
        rows: rows.collect(),
    }
}

fn ledger(answer: &Value) -> Table {
    let rows = answer["ledger"].as_array().into_iter().flatten().map(|of| {
        let names =
            ["head", "start", "delivered", "dead", "filtered", "expired", "damaged", "queued"];
        let cells = names.map(|name| number(&of[name]));
        let mut row = vec![text(&of["sink"])];
        row.extend(cells);
        row.push(text(&of["difference"]));
        row
    });
    Table {
        title: "The ledger now, since each sink began",
        empty: "No sink.",
        heads: vec![
            "sink",
            "head",
            "start",
            "delivered",
            "dead",
            "filtered",
            "expired",
            "damaged",
            "queued",
            "difference",
        ],
        rows: rows.collect(),
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// A count, with spaces between thousands.
fn number(value: &Value) -> String {
    let Some(count) = value.as_u64() else { return "-".into() };
    let digits = count.to_string();
    let grouped = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    grouped.collect::<Vec<_>>().join("\u{202f}")
}

/// Milliseconds as people say them.
fn time(value: &Value) -> String {
    match value.as_f64() {
        None => "-".into(),
        Some(ms) if ms < 1_000.0 => format!("{ms:.1} ms"),
        Some(ms) if ms < 600_000.0 => format!("{:.1} s", ms / 1_000.0),
        Some(ms) => Span(std::time::Duration::from_secs((ms / 60_000.0) as u64 * 60)).to_string(),
    }
}

/// A moment to the minute.
fn minute(value: &Value) -> String {
    match value.as_str().and_then(|at| at.parse::<crate::core::Timestamp>().ok()) {
        Some(at) => at.strftime("%Y-%m-%d %H:%M").to_string(),
        None => "-".into(),
    }
}

fn plain(told: &Told) -> String {
    let mut out = format!("{}\n", told.title);
    told.notes.iter().for_each(|note| out.push_str(&format!("{note}\n")));
    for table in &told.tables {
        out.push_str(&format!("\n{}\n", table.title));
        if table.rows.is_empty() {
            out.push_str(&format!("  {}\n", table.empty));
            continue;
        }
        let heads: Vec<String> = table.heads.iter().map(|head| (*head).to_owned()).collect();
        let width = |column: usize| {
            let cells = [&heads].into_iter().chain(&table.rows);
            cells.map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        for row in [&heads].into_iter().chain(&table.rows) {
            let cells = row.iter().zip(&widths).enumerate().map(|(nth, (cell, width))| match nth {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            out.push_str(&format!("  {}\n", cells.collect::<Vec<_>>().join("  ")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_read_well() {
        assert_eq!(number(&json!(1_234_567)), "1\u{202f}234\u{202f}567");
        assert_eq!([number(&json!(7)), number(&json!(null))], ["7", "-"]);
        assert_eq!(time(&json!(12.34)), "12.3 ms");
        assert_eq!(time(&json!(61_000.0)), "61.0 s");
        assert_eq!(minute(&json!("2026-01-31T07:00:59Z")), "2026-01-31 07:00");
    }
}
