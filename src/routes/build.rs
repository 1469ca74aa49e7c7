//! From `[routes.NAME]` and `[unmatched]` to routes, or to everything that is wrong with them.
//!
//! Guarantees: problems of all routes are reported together, each with its key. Whether a correct
//! table is also a sensible one is for `warnings.rs`.

use std::sync::Arc;

use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::core::config::{OneOrMany, Problem, Problems, Section};
use crate::core::quiet::Quiet;
use crate::core::route::Format;

use super::keys::{Keys, Test};
use super::patterns::Pattern;
use super::program::{Compiled as Program, Filter, Transform};
use super::{ALARMS, HEARTBEAT, Route, UNMATCHED};

/// The names that routes may use.
#[derive(Clone, Copy)]
pub(super) struct Names<'n> {
    /// Of `[sources.NAME]`.
    pub sources: &'n [Arc<str>],
    /// Of `[sinks.NAME]`.
    pub sinks: &'n [Arc<str>],
    /// The formats there are.
    pub formats: &'static [&'static Format],
}

/// What a route has beside its native keys and `except`, and all that `[unmatched]` has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Ends {
    /// Sinks that get the events: one name or a list.
    #[serde(default = "none")]
    sinks: OneOrMany<String>,
    /// How these sinks write the event, whatever their own `format` says: `"raw"`, `"cef"`, `"ecs"`,
    /// `"ocsf"` and others, see docs/formats.md. Files and standard output write such lines, too. Not
    /// for sinks whose destination knows one form only, such as `taegis`. It reads what a
    /// `transform` of the route leaves.
    format: Option<String>,
}

/// Missing sinks are reported together with everything else that is wrong.
fn none() -> OneOrMany<String> {
    OneOrMany::Many(Vec::new())
}

/// The programs of a route.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Programs {
    /// A question about the event in VRL, asked when all other keys hold: true takes the event,
    /// such as `length(array(.files) ?? []) > 0`. It cannot change the event. If it fails, or the
    /// body is not JSON or larger than 1 MiB, the route takes the event.
    when: Option<String>,
    /// A program in VRL that changes the event for the sinks of this route, such as
    /// `del(.internal)`. What it leaves, an object, is sent as JSON with sorted keys and without
    /// spaces. If it fails or aborts, or the body is not JSON or larger than 1 MiB, the event
    /// becomes a dead letter; it is never sent unchanged. Severity, state and the other facts that
    /// routes go by remain those of the event as it was received; a `format` writes the facts that
    /// the transform leaves.
    transform: Option<String>,
}

/// Where a route ends: its sinks, and how they write.
type Ended = (Vec<Arc<str>>, Option<&'static Format>);

/// The programs, compiled.
type Compiled = (Option<Filter>, Option<Transform>);

/// Keys that the design has and this version has not.
const LATER: [&str; 1] = ["follow"];

/// The JSON Schema of one `[routes.NAME]`.
pub fn schema() -> Schema {
    let mut schema = schemars::schema_for!(Keys);
    let ends = schemars::schema_for!(Ends).to_value();
    let programs = schemars::schema_for!(Programs).to_value();
    let object = schema.ensure_object();
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        let keys = properties.clone();
        for key in ["when", "transform"] {
            properties.insert(key.into(), programs["properties"][key].clone());
        }
        for key in ["sinks", "format"] {
            properties.insert(key.into(), ends["properties"][key].clone());
        }
        properties.insert(
            "except".into(),
            json!({
                "description": "Events that the route leaves although its own keys hold: those \
                    for which all of these keys hold too.",
                "type": "object", "additionalProperties": false, "properties": keys,
            }),
        );
    }
    object.insert("title".into(), "Route".into());
    object.insert("required".into(), json!(["sinks"]));
    schema
}

/// All routes in name order, with what their programs are warned about.
pub(super) fn routes(
    section: &Section,
    names: Names<'_>,
) -> Result<(Vec<Route>, Problems), Problems> {
    let mut routes = Vec::new();
    let mut problems = Problems::new();
    let mut warnings = Problems::new();
    for (name, value) in &section.table {
        match table(format!("{}.{name}", section.key), value).and_then(|of| route(name, of, names))
        {
            Ok((route, noted)) => {
                routes.push(route);
                warnings.extend(noted);
            }
            Err(found) => problems.extend(found),
        }
    }
    // Whatever order the configuration's maps have.
    routes.sort_by(|a, b| a.name.cmp(&b.name));
    if problems.is_empty() { Ok((routes, warnings)) } else { Err(problems) }
}

/// The catch-all; `None` when the section is absent or empty.
pub(super) fn unmatched(section: &Section, names: Names<'_>) -> Result<Option<Route>, Problems> {
    if section.table.is_empty() {
        return Ok(None);
    }
    let (sinks, format) = ends(section, names)?;
    Ok(Some(Route {
        name: UNMATCHED.into(),
        only: Test::default(),
        except: None,
        when: None,
        transform: None,
        sinks,
        format,
        plain: true,
        idle: false,
        quiet: Quiet::default(),
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

fn route(name: &str, section: Section, names: Names<'_>) -> Result<(Route, Problems), Problems> {
    let mut problems = wrong_name(&section.key, name);
    let (only, mut rest) = section.split::<Keys>();
    problems.extend(unknown_keys(&mut rest));
    let only = conditions(&only, names.sources);
    let except = rest.take("except").and_then(|except| conditions(&except, names.sources));
    let (programs, rest) = rest.split::<Programs>();
    let (programs, ends) = (compiled(&programs), ends(&rest, names));
    let (only, except, ((when, transform), noted), (sinks, format)) =
        match (only, except, programs, ends) {
            (Ok(only), Ok(except), Ok(programs), Ok(sinks)) if problems.is_empty() => {
                (only, except, programs, sinks)
            }
            (only, except, programs, sinks) => {
                let more = [only.err(), except.err(), programs.err(), sinks.err()];
                problems.extend(more.into_iter().flatten().flatten());
                return Err(problems);
            }
        };
    // An `except` without keys would hold for everything: it excludes nothing instead.
    let excludes = except.0 != Keys::default();
    let route = Route {
        name: name.into(),
        plain: !excludes && when.is_none() && only.0 == Keys::default(),
        idle: excludes && only.0 == except.0,
        only: only.1,
        except: excludes.then_some(except.1),
        when,
        transform,
        sinks,
        format,
        quiet: Quiet::default(),
    };
    Ok((route, noted))
}

/// `when` and `transform`, with what they are warned about.
fn compiled(section: &Section) -> Result<(Compiled, Problems), Problems> {
    let read: Programs = section.read()?;
    let key = |name: &str| format!("{}.{name}", section.key);
    let when = read.when.map(|source| Filter::compile(&key("when"), &source)).transpose();
    let transform =
        read.transform.map(|source| Transform::compile(&key("transform"), &source)).transpose();
    match (when, transform) {
        (Ok(when), Ok(transform)) => {
            let (when, mut warnings) = when.map_or((None, Problems::new()), Program::parts);
            let (transform, more) = transform.map_or((None, Problems::new()), Program::parts);
            warnings.extend(more);
            Ok(((when, transform), warnings))
        }
        (when, transform) => {
            Err([when.err(), transform.err()].into_iter().flatten().flatten().collect())
        }
    }
}

/// The keys of a route or of its `except`, as written and compiled.
fn conditions(section: &Section, sources: &[Arc<str>]) -> Result<(Keys, Test), Problems> {
    let keys: Keys = section.read()?;
    let mut problems = unknown_sources(&section.key, &keys, sources);
    match Test::new(&section.key, &keys) {
        Ok(test) if problems.is_empty() => Ok((keys, test)),
        test => {
            problems.extend(test.err().into_iter().flatten());
            Err(problems)
        }
    }
}

fn wrong_name(key: &str, name: &str) -> Problems {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let help = match name {
        UNMATCHED => "events that no route takes go to [unmatched], a section of its own",
        ALARMS => "alarms of the gateway itself go where [alarms] says, a section of its own",
        HEARTBEAT => "heartbeats go where [heartbeat] says, a section of its own",
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
    let exists = |text: &String| {
        let pattern = Pattern::new(text);
        sources.iter().any(|name| pattern.matches(name))
    };
    let known = sources.iter().map(|name| &**name);
    let unknown = wanted.iter().filter(|text| !exists(text));
    let key = format!("{key}.sources");
    unknown.map(|text| Section::unknown_name(key.as_str(), "source", text, known.clone())).collect()
}

/// The sinks by their configured names, each once, and the format for them.
fn ends(section: &Section, names: Names<'_>) -> Result<Ended, Problems> {
    let read: Ends = section.read()?;
    let sinks = named_sinks(&section.key, read.sinks.as_slice(), names.sinks);
    let format = format(section, read.format.as_deref(), names.formats);
    match (sinks, format) {
        (Ok(sinks), Ok(format)) => Ok((sinks, format)),
        (sinks, format) => Err(sinks.err().into_iter().flatten().chain(format.err()).collect()),
    }
}

/// The configured sinks with the `names` that section `key` gives, each once.
pub fn named_sinks(
    section: &str,
    names: &[String],
    sinks: &[Arc<str>],
) -> Result<Vec<Arc<str>>, Problems> {
    let key = format!("{section}.sinks");
    let mut found: Vec<Arc<str>> = Vec::new();
    let mut problems = Problems::new();
    for name in names {
        match sinks.iter().find(|sink| ***sink == **name) {
            Some(sink) if found.contains(sink) => {}
            Some(sink) => found.push(Arc::clone(sink)),
            None => {
                let known = sinks.iter().map(|name| &**name);
                problems.push(Section::unknown_name(key.as_str(), "sink", name, known));
            }
        }
    }
    if found.is_empty() && problems.is_empty() {
        let help = "name at least one, such as sinks = [\"archive\"]";
        problems.push(Problem::new(key, "names no sink").help(help));
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

fn format(
    section: &Section,
    name: Option<&str>,
    formats: &'static [&'static Format],
) -> Result<Option<&'static Format>, Problem> {
    let Some(name) = name else { return Ok(None) };
    let known = formats.iter().map(|format| format.name);
    let key = format!("{}.format", section.key);
    let found = formats.iter().find(|format| format.name == name);
    found
        .map(|format| Some(*format))
        .ok_or_else(|| Section::unknown_name(key, "format", name, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_every_key_and_resolves() {
        let schema = schema().to_value();
        for key in ["sinks", "except", "min_severity", "users", "client_ips"] {
            assert!(schema["properties"][key].is_object(), "{key}");
        }
        assert!(schema["properties"]["except"]["properties"]["states"].is_object());
        let text = schema.to_string();
        for part in text.split("\"#/$defs/").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            assert!(schema["$defs"][name].is_object(), "{name}");
        }
    }
}
