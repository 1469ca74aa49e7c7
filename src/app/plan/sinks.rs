//! `[sinks.*]`: each built by its kind, with its pace, its guard and its pins.

use std::sync::Arc;

use super::SinkPlan;
use super::reading::{Named, Reading, both};
use crate::core::Timestamp;
use crate::core::config::{
    DeliverySettings, GuardSettings, LogSettings, Pins, Problem, Problems, Section, SinkPins,
    StartSetting,
};
use crate::core::delivery::GuardRules;
use crate::core::log::Start;
use crate::core::sink::Class;
use crate::sinks::{Catalogue, Entry};

/// What was pinned by hand. A record that cannot be used is no reason to stop: nothing is pinned.
pub(super) fn pins_of(log: Option<&LogSettings>) -> (Pins, Option<Problem>) {
    match log.map(Pins::read) {
        Some(Ok(pins)) => (pins, None),
        Some(Err(problem)) => (Pins::none(), Some(problem)),
        None => (Pins::none(), None),
    }
}

pub(super) fn sinks_of(
    reading: &mut Reading,
    root: &mut Section,
    pins: &Pins,
    catalogue: &Catalogue,
) -> Named<SinkPlan> {
    let tables = reading.table(root, "sinks");
    let tables = reading.named(tables);
    let now = Timestamp::now();
    let built = tables.into_iter().map(|(name, section)| {
        let section = section.pinned(SinkPins::new(pins.of(&name, now)));
        (name.clone(), reading.keep(sink_of(name, section, catalogue)))
    });
    built.collect()
}

fn sink_of(
    name: Arc<str>,
    mut section: Section,
    catalogue: &Catalogue,
) -> Result<SinkPlan, Problems> {
    let (fingerprint, pins) = (section.fingerprint(), section.pins().clone());
    let key = section.key.clone();
    let kind = section.take_text("type").map_err(|problem| {
        vec![problem.help("write type = \"…\"; `siemgate sinks` lists the kinds")]
    })?;
    let kind = catalogue.get(&kind)?.ok_or_else(|| {
        let problem =
            Section::unknown_name(format!("{key}.type"), "type of sink", &kind, catalogue.names());
        match problem.help.starts_with("known") {
            true => vec![problem.help("`siemgate sinks` lists the kinds")],
            false => vec![problem],
        }
    })?;
    let delivery = section.take("delivery").and_then(|section| section.read::<DeliverySettings>());
    let guard = guard_of(&mut section, &kind);
    let start = start_of(&mut section);
    let guards = is_read(kind.class()).then_some("guard");
    let section = section.beside(["type", "delivery", "start"].into_iter().chain(guards));
    let built = kind.build(&section).map_err(|problems| meant_for_delivery(&key, problems));
    let (((mut delivery, guard), start), built) = both(both(both(delivery, guard), start), built)?;
    delivery.rate = delivery.rate.or(built.rate);
    delivery.timeout = delivery.timeout.or(built.timeout);
    let fingerprint = mixed(fingerprint, kind.fingerprint());
    let backing = Vec::new();
    Ok(SinkPlan { name, kind, built, delivery, guard, backing, pins, start, fingerprint })
}

/// Whether people read what sinks of this class deliver.
fn is_read(class: Class) -> bool {
    matches!(class, Class::People | Class::Incident)
}

/// `[sinks.NAME.guard]`: only where people read.
fn guard_of(section: &mut Section, kind: &Entry) -> Result<Option<GuardRules>, Problems> {
    let asked = section.table.contains_key("guard");
    let guard = section.take("guard")?;
    let key = guard.key.clone();
    let rules = GuardRules::of(kind.class(), &guard.read::<GuardSettings>()?);
    if rules.is_none() && asked {
        let message = format!("a sink of type {} has no guard: it gets every event", kind.name());
        let help = "remove this table; guards are for sinks that write to people or open tickets";
        return Err(vec![Problem::new(key, message).help(help)]);
    }
    Ok(rules)
}

/// Changes when either changes.
fn mixed(mut section: [u8; 32], kind: [u8; 32]) -> [u8; 32] {
    section.iter_mut().zip(kind).for_each(|(byte, other)| *byte ^= other);
    section
}

/// A key of `[sinks.NAME.delivery]` that stands one table too high is told where it belongs.
fn meant_for_delivery(section: &str, mut problems: Problems) -> Problems {
    let schema = schemars::schema_for!(DeliverySettings).to_value();
    for problem in problems.iter_mut().filter(|p| p.message.starts_with("unknown key")) {
        let name = problem.key.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'));
        if name.is_some_and(|name| schema["properties"][name].is_object()) {
            problem.help = format!("it belongs below [{section}.delivery]");
        }
    }
    problems
}

/// `start = "now" | "24h" | "oldest"`; now unless set.
fn start_of(section: &mut Section) -> Result<Start, Problems> {
    let key = format!("{}.start", section.key);
    match section.table.remove("start") {
        None => Ok(Start::Now),
        Some(value) => {
            serde_json::from_value::<StartSetting>(value).map(|start| start.0).map_err(|error| {
                vec![
                    Problem::new(key, error.to_string())
                        .help("write \"now\", \"oldest\" or a time back such as \"24h\""),
                ]
            })
        }
    }
}
