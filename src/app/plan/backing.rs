//! `fallback`: which sinks stand in for which.
//!
//! Guarantees: a sink stands in only for sinks that do not stand in for it, by however many steps; a
//! name that no sink has is told with those that are meant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::SinkPlan;
use super::reading::{Named, names};
use crate::core::config::{Problem, Problems, Section};
use crate::core::delivery::Backing;

/// How long a sink must be down, unless set.
const AFTER: Duration = Duration::from_secs(300);

/// Tell every sink for which others it stands in.
pub(super) fn backed(sinks: &mut Named<SinkPlan>) -> Problems {
    let known = names(sinks);
    let wanted: BTreeMap<Arc<str>, (String, Duration)> = sinks
        .iter()
        .filter_map(|(name, plan)| Some((name.clone(), wish(plan.as_ref()?)?)))
        .collect();
    let mut problems = Problems::new();
    for (name, (fallback, after)) in &wanted {
        let key = format!("sinks.{name}.delivery.fallback");
        if !known.iter().any(|known| **known == **fallback) {
            let known = known.iter().map(|name| &**name);
            problems.push(Section::unknown_name(key, "sink", fallback, known));
        } else if let Some(circle) = circle(name, &wanted) {
            let message = format!("goes in a circle: {circle}");
            problems.push(Problem::new(key, message).help("let the last of them stand alone"));
        } else if let Some((_, Some(sink))) =
            sinks.iter_mut().find(|(known, _)| **known == **fallback)
        {
            let backing = Backing { sink: name.clone(), after: *after };
            // Another wish is another worker.
            let wish = Sha256::digest(format!("{name} {after:?}"));
            sink.fingerprint.iter_mut().zip(wish).for_each(|(byte, other)| *byte ^= other);
            sink.backing.push(backing);
        }
    }
    problems.extend(without_fallback(sinks));
    problems
}

fn wish(plan: &SinkPlan) -> Option<(String, Duration)> {
    let fallback = plan.delivery.fallback.clone()?;
    Some((fallback, plan.delivery.fallback_after.map_or(AFTER, |span| span.0)))
}

/// The way from `name` back to itself, if there is one.
fn circle(name: &str, wanted: &BTreeMap<Arc<str>, (String, Duration)>) -> Option<String> {
    let mut way = vec![name];
    let mut at = name;
    while let Some((next, _)) = wanted.get(at) {
        way.push(next);
        if next == name {
            return Some(way.join(" -> "));
        }
        if way.len() > wanted.len() {
            return None;
        }
        at = next;
    }
    None
}

/// Sinks that say after what time, and not where to.
fn without_fallback(sinks: &Named<SinkPlan>) -> Problems {
    let plans = sinks.iter().filter_map(|(_, plan)| plan.as_ref());
    let lone =
        plans.filter(|p| p.delivery.fallback.is_none() && p.delivery.fallback_after.is_some());
    let problem = |plan: &SinkPlan| {
        let key = format!("sinks.{}.delivery.fallback_after", plan.name);
        Problem::new(key, "there is no fallback")
            .help("add fallback = \"SINK\", or remove this key")
    };
    lone.map(problem).collect()
}
