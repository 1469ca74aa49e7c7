//! From `[routes.NAME]` and `[unmatched]` to routes, or to everything that is wrong with them.
//!
//! Guarantees: problems of all routes are reported together, each with its key. Whether a correct
//! table is also a sensible one is for `warnings.rs`.

use std::sync::Arc;

use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::core::config::{OneOrMany, Problem, Problems, Section};

use super::keys::{Keys, Test, is_pattern};
use super::{Route, UNMATCHED};

/// The names that routes may use.
#[derive(Clone, Copy)]
pub(super) struct Names<'n> {
    /// Of `[sources.NAME]`.
    pub sources: &'n [Arc<str>],
    /// Of `[sinks.NAME]`.
    pub sinks: &'n [Arc<str>],
}

/// What a route has beside its native keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Ends {
    /// Sinks that get the events: one name or a list.
    sinks: OneOrMany<String>,
    /// Events that the route leaves although its own keys hold: those for which all of these
    /// keys hold too.
    #[serde(default)]
    except: Option<Keys>,
}

/// `[unmatched]`: where events go that no route took.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Unmatched {
    /// Sinks that get them: one name or a list.
    sinks: OneOrMany<String>,
}

/// Keys that the design has and this version has not.
const LATER: [&str; 3] = ["when", "transform", "format"];

/// The JSON Schema of one `[routes.NAME]`.
pub fn schema() -> Schema {
    let mut schema = schemars::schema_for!(Ends);
    let keys = schemars::schema_for!(Keys).to_value();
    let own = keys.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let all = schema.ensure_object().get_mut("properties").and_then(Value::as_object_mut);
    all.into_iter().for_each(|all| all.extend(own.clone()));
    schema
}

/// All routes in name order.
pub(super) fn routes(section: &Section, names: Names<'_>) -> Result<Vec<Route>, Problems> {
    let mut routes = Vec::new();
    let mut problems = Problems::new();
    for (name, value) in &section.table {
        match table(format!("{}.{name}", section.key), value).and_then(|of| route(name, of, names))
        {
            Ok(route) => routes.push(route),
            Err(found) => problems.extend(found),
        }
    }
    // Whatever order the configuration's maps have.
    routes.sort_by(|a, b| a.name.cmp(&b.name));
    if problems.is_empty() { Ok(routes) } else { Err(problems) }
}

/// The catch-all; `None` when the section is absent or empty.
pub(super) fn unmatched(section: &Section, names: Names<'_>) -> Result<Option<Route>, Problems> {
    if section.table.is_empty() {
        return Ok(None);
    }
    let read: Unmatched = section.read()?;
    let sinks = sinks(&section.key, &read.sinks, names.sinks)?;
    Ok(Some(Route {
        name: UNMATCHED.into(),
        only: Test::default(),
        except: None,
        sinks,
        plain: true,
        idle: false,
    }))
}

fn table(key: String, value: &Value) -> Result<Section, Problems> {
    match value {
        Value::Object(table) => Ok(Section::new(key, table.clone())),
        _ => Err(vec![
            Problem::new(key, "must be a table").help("write [routes.NAME] and the keys below it"),
        ]),
    }
}

fn route(name: &str, section: Section, names: Names<'_>) -> Result<Route, Problems> {
    let mut problems = wrong_name(&section.key, name);
    let key = section.key.clone();
    let (keys, mut rest) = section.split::<Keys>();
    problems.extend(unknown_keys(&mut rest));
    let keys: Option<Keys> = keys.read().map_err(|found| problems.extend(found)).ok();
    let ends: Option<Ends> = rest.read().map_err(|found| problems.extend(found)).ok();
    let except_key = format!("{key}.except");
    let (mut only, mut except, mut into) = (None, None, None);
    if let Some(keys) = &keys {
        problems.extend(unknown_sources(&key, keys, names.sources));
        only = Test::new(&key, keys).map_err(|found| problems.extend(found)).ok();
    }
    if let Some(ends) = &ends {
        into = sinks(&key, &ends.sinks, names.sinks).map_err(|found| problems.extend(found)).ok();
        if let Some(keys) = &ends.except {
            problems.extend(unknown_sources(&except_key, keys, names.sources));
            except = Test::new(&except_key, keys).map_err(|found| problems.extend(found)).ok();
        }
    }
    let (Some(only), Some(keys), Some(ends), Some(sinks), true) =
        (only, keys, ends, into, problems.is_empty())
    else {
        return Err(problems);
    };
    let none = Keys::default();
    let excluded = ends.except.as_ref().filter(|except| **except != none);
    Ok(Route {
        name: name.into(),
        only,
        // An `except` without keys would hold for everything: it excludes nothing instead.
        except: except.filter(|_| excluded.is_some()),
        sinks,
        plain: keys == none && excluded.is_none(),
        idle: excluded == Some(&keys),
    })
}

fn wrong_name(key: &str, name: &str) -> Problems {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let help = match name {
        UNMATCHED => "events that no route takes go to [unmatched], a section of its own",
        _ if name.is_empty() || !name.chars().all(allowed) => {
            "use lower-case letters, digits, `-` and `_`"
        }
        _ => return Problems::new(),
    };
    vec![Problem::new(key, format!("`{name}` cannot be the name of a route")).help(help)]
}

/// Take the unknown keys out and report them.
fn unknown_keys(rest: &mut Section) -> Problems {
    let schema = schema().to_value();
    let known = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let table = std::mem::take(&mut rest.table);
    let (kept, unknown): (Map<_, _>, Map<_, _>) =
        table.into_iter().partition(|(name, _)| known.contains_key(name));
    rest.table = kept;
    unknown
        .keys()
        .map(|name| unknown_key(&rest.key, name, known.keys().map(String::as_str)))
        .collect()
}

fn unknown_key<'n>(key: &str, name: &str, known: impl Iterator<Item = &'n str> + Clone) -> Problem {
    let path = format!("{key}.{name}");
    if LATER.contains(&name) {
        return Problem::new(path, format!("`{name}` is not available in this version"))
            .help("remove it; the native keys, such as `min_severity` and `users`, are available");
    }
    Section::unknown_name(path, "key", name, known)
}

/// Plain names must be configured sources; a pattern must match one.
fn unknown_sources(key: &str, keys: &Keys, sources: &[Arc<str>]) -> Problems {
    let wanted = keys.sources.as_ref().map_or(&[][..], OneOrMany::as_slice);
    let known = || sources.iter().map(|name| &**name);
    let test =
        |text: &str| wildmatch::WildMatchPattern::<'*', '\0'>::new_case_insensitive(text.trim());
    let unknown = wanted.iter().filter(|text| {
        let pattern = test(text);
        !known().any(|name| pattern.matches(name))
    });
    let what = |text: &str| if is_pattern(text) { "source that matches" } else { "source" };
    unknown
        .map(|text| Section::unknown_name(format!("{key}.sources"), what(text), text, known()))
        .collect()
}

/// The sinks by their configured names, each once.
fn sinks(
    key: &str,
    wanted: &OneOrMany<String>,
    sinks: &[Arc<str>],
) -> Result<Vec<Arc<str>>, Problems> {
    let key = format!("{key}.sinks");
    if wanted.as_slice().is_empty() {
        return Err(vec![
            Problem::new(key, "names no sink").help("name at least one, such as [\"archive\"]"),
        ]);
    }
    let mut found: Vec<Arc<str>> = Vec::new();
    let mut problems = Problems::new();
    for name in wanted.as_slice() {
        match sinks.iter().find(|sink| ***sink == **name) {
            Some(sink) if found.contains(sink) => {}
            Some(sink) => found.push(Arc::clone(sink)),
            None => {
                let known = sinks.iter().map(|name| &**name);
                problems.push(Section::unknown_name(key.as_str(), "sink", name, known));
            }
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}
