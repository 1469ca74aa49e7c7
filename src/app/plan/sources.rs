//! `[sources.*]`: each with its decoder and its door.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SourcePlan;
use super::reading::{Named, Reading, both};
use crate::core::alarms::INTERNAL;
use crate::core::config::{Problem, Problems, Section, SourceDoor};
use crate::http::door::Door;
use crate::sources;

pub(super) fn sources_of(reading: &mut Reading, root: &mut Section) -> Named<SourcePlan> {
    let before = reading.problems.len();
    let tables = reading.table(root, "sources");
    let tables = reading.named(tables);
    if tables.is_empty() && reading.problems.len() == before {
        reading.problems.push(
            Problem::new("sources", "there is no source")
                .help("add [sources.superna] with type = \"superna\""),
        );
    }
    let mut paths = BTreeMap::new();
    let mut found = Vec::new();
    for (name, section) in tables {
        if *name == *INTERNAL {
            let message = format!("`{name}` cannot be the name of a source");
            let help = "alarms and heartbeats of the gateway itself have it; take another";
            reading.problems.push(Problem::new(section.key, message).help(help));
            continue;
        }
        let source = source_of(name.clone(), section);
        let source = reading.keep(source);
        if let Some((_, Some(path))) = &source
            && let Some(other) = paths.insert(path.clone(), name.clone())
        {
            let message = format!("{path} is already the path of source {other}");
            reading.problems.push(Problem::new(format!("sources.{name}.path"), message));
        }
        found.push((name, source.map(|(plan, _)| plan)));
    }
    found
}

fn source_of(
    name: Arc<str>,
    mut section: Section,
) -> Result<(SourcePlan, Option<String>), Problems> {
    let key = section.key.clone();
    let kind = section.take_text("type").map_err(|problem| {
        vec![problem.help(format!(
            "write type = \"{}\" (or another of: {})",
            sources::KINDS[0].name,
            kinds(sources::KINDS.iter().map(|k| k.name))
        ))]
    })?;
    let kind = sources::kind(&kind).ok_or_else(|| {
        let known = sources::KINDS.iter().map(|kind| kind.name);
        vec![Section::unknown_name(format!("{key}.type"), "type of source", &kind, known)]
    })?;
    let (door, own) = section.split::<SourceDoor>();
    let (door, source) = (door.read::<SourceDoor>(), (kind.build)(&own));
    let (door, decoder) = both(door, source)?;
    if let Some(path) = door.path.as_ref().filter(|path| !path.starts_with('/') || path.len() < 2) {
        return Err(vec![Problem::new(
            format!("{key}.path"),
            format!("`{path}` must begin with `/` and name something"),
        )]);
    }
    if door.expect_every.is_some_and(|every| every.0.is_zero()) {
        return Err(vec![
            Problem::new(format!("{key}.expect_every"), "must be longer than 0s")
                .help("leave it out if nothing is known of how often the source sends"),
        ]);
    }
    let path = door.path.clone();
    let door = Arc::new(Door::new(&key, name.clone(), door, kind.dedupe)?);
    Ok((SourcePlan { name, kind, door, decoder }, path))
}

fn kinds<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
