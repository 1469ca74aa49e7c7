//! `[routes.*]` and `[unmatched]`: the routing table, and what it would let go nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reading::{Named, Reading, names};
use super::{SinkPlan, SourcePlan};
use crate::core::alarms::INTERNAL;
use crate::core::config::{Problem, Problems, Section};
use crate::core::source::Decoders;
use crate::formats::FORMATS;
use crate::routes::{Gap, Table, UNMATCHED};
use crate::sources;

pub(super) fn table_of(
    reading: &mut Reading,
    root: &mut Section,
    sources: &Named<SourcePlan>,
    sinks: &Named<SinkPlan>,
) -> Option<Table> {
    let routes = reading.table(root, "routes");
    let unmatched = reading.table(root, "unmatched");
    let mut decoders: BTreeMap<_, _> = sources
        .iter()
        .filter_map(|(name, plan)| Some((name.clone(), plan.as_ref()?.decoder.clone())))
        .collect();
    decoders.insert(INTERNAL.into(), sources::internal());
    let decoders = Decoders::new(decoders);
    let (sources, names) = (names(sources), names(sinks));
    let table = Table::build(&routes, &unmatched, &sources, &names, &FORMATS, decoders);
    let table = reading.keep(table)?;
    reading.problems.extend(formless(&table, sinks));
    Some(table)
}

/// Formats for sinks whose destination knows one form only.
fn formless(table: &Table, sinks: &Named<SinkPlan>) -> Problems {
    let mut problems = Problems::new();
    for (route, format, names) in table.formats() {
        let plans = sinks.iter().filter(|(name, _)| names.contains(name));
        let fixed = plans.filter_map(|(name, plan)| Some((name, &plan.as_ref()?.kind)));
        for (name, kind) in fixed {
            let Some(forms) = kind.forms() else { continue };
            if forms.contains(&format.name) {
                continue;
            }
            let section = if &**route == UNMATCHED {
                UNMATCHED.to_owned()
            } else {
                format!("routes.{route}")
            };
            let known = if forms.is_empty() { "one form".to_owned() } else { forms.join(", ") };
            let what = format!(
                "sink `{name}` cannot write {}: {} knows {known} only",
                format.name,
                kind.name()
            );
            problems.push(
                Problem::new(format!("{section}.format"), what)
                    .help("give that sink a route of its own without `format`"),
            );
        }
    }
    problems
}

/// What would let critical events go nowhere. Nobody means that, and nobody would notice.
pub(super) fn unrouted(sinks: &[Arc<str>], coverage: &[Gap]) -> Option<Problem> {
    if sinks.is_empty() {
        let help = "add one (`siemgate sinks` lists the kinds), such as [sinks.archive] with type = \"file\"; or write allow_unrouted = true above the first [section] of a file";
        return Some(
            Problem::new("sinks", "there is no sink: every event would go nowhere").help(help),
        );
    }
    let lost: Vec<String> = coverage
        .iter()
        .filter(|gap| gap.loses_critical())
        .map(|gap| format!("\n      {gap}"))
        .collect();
    (!lost.is_empty()).then(|| {
        Problem::new("routes", format!("critical events would go nowhere:{}", lost.concat()))
            .help("add a route that takes them, or [unmatched] with sinks = [\"NAME\"]; if it is meant, write allow_unrouted = true above the first [section] of a file")
    })
}
