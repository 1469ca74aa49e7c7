//! docs/metrics.md is rendered from the families themselves.
//!
//! The test fails when the two differ; `make docs` (or UPDATE_DOCS=1) writes the document anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use siemgate::core::Timestamp;
use siemgate::core::metrics::{Family, Metrics};

use super::reference::is_kept;

const DOCUMENT: &str = "docs/metrics.md";

const INTRODUCTION: &str = "\
# Metrics

<!-- Written by `make docs` from src/core/metrics. Change that. -->

`GET /metrics` on the admin listener answers in Prometheus' text form with these families and no
others. Renaming one is a breaking change. Labels come from the configuration (names of sources, routes
and sinks) or from closed lists, so their number is bounded; none names an event, a user or a file.
Counters of configured sources and sinks are there at 0 from the first scrape on. Ages, lags and the
ledger are worked out when they are scraped, so something that is stuck shows as a growing number.

[dashboards](../dashboards/README.md) has panels and alert rules for them, and
[runbook.md](runbook.md) says what to do about an alert.
";

/// The groups of families: what their names begin with, and a title.
const GROUPS: [(&[&str], &str); 6] = [
    (
        &["siemgate_ingress_", "siemgate_source_", "siemgate_quarantine_"],
        "What comes in, and what is refused",
    ),
    (&["siemgate_tls_"], "TLS of the listeners"),
    (
        &["siemgate_events_", "siemgate_unknown_", "siemgate_route_"],
        "What is understood and routed",
    ),
    (
        &[
            "siemgate_delivery_",
            "siemgate_event_",
            "siemgate_dead_",
            "siemgate_sink_",
            "siemgate_receipts_",
        ],
        "What is delivered",
    ),
    (&["siemgate_log_"], "The log"),
    (&["siemgate_build_", "siemgate_config_", "siemgate_alarms_", "process_"], "The program"),
];

fn reference(families: &[Family]) -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut left = families.len();
    for (prefixes, title) in GROUPS {
        let _ = write!(text, "\n## {title}\n\n| family | type | labels | |\n|---|---|---|---|\n");
        let is_in =
            |family: &&Family| prefixes.iter().any(|prefix| family.name.starts_with(prefix));
        for Family { name, kind, labels, help } in families.iter().filter(is_in) {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
            left -= 1;
        }
    }
    assert_eq!(left, 0, "every family belongs to one of the groups");
    text
}

/// The names of all documented families.
pub fn documented() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned()).collect()
}

#[test]
fn the_reference_of_metrics_says_what_the_families_say() {
    let metrics = Metrics::new(Timestamp::UNIX_EPOCH).unwrap();
    is_kept(DOCUMENT, &reference(metrics.families()));
}
