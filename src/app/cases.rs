//! Test cases for a configuration: events, and what is expected to become of them.
//!
//! Guarantees: a case is judged by what `explain` says, so by the code that delivers; every broken
//! expectation of every case is told, with what was expected and what came; a case that cannot be
//! read is a problem with its file and line, never a case that passes. Nothing is sent.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use toml_edit::{ImDocument, Item};

use super::explain::{Explainer, Explanation, Sent};
use crate::core::config::{Place, Problem, Problems, Section};
use crate::core::finding::{Severity, normalise};

/// One `[[case]]`: an event, and what is expected. What is not named is not looked at.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// What it shows, in a few words.
    name: String,
    /// The source that the event is from; needed only where several are configured.
    source: Option<String>,
    /// The event, as the product posts it.
    event: Option<String>,
    /// Or a file that holds it, relative to the file of the case.
    fixture: Option<PathBuf>,
    /// The routes that take it, all of them, in any order; `unmatched` for the catch-all.
    routes: Option<Vec<String>>,
    /// The sinks that get it, all of them, in any order.
    sinks: Option<Vec<String>>,
    /// Its severity, in any spelling.
    severity: Option<String>,
    /// Its state, in any spelling.
    state: Option<String>,
    /// Its category.
    category: Option<String>,
    /// What a sink would send, to the byte: `bytes.NAME = '…'`.
    #[serde(default)]
    bytes: std::collections::BTreeMap<String, String>,
    /// What a sink never sees: `{ sink = "NAME", fields = ["/user"] }`, one or a list of them.
    #[serde(default)]
    absent: Vec<Absent>,
}

/// Fields that what a sink would be sent does not have.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Absent {
    /// The sink.
    sink: String,
    /// JSON pointers, such as `/user` or `/files/0`.
    fields: Vec<String>,
}

/// A case, ready to run.
pub struct Case {
    expected: Expected,
    body: Bytes,
    place: Place,
}

/// How a case went.
pub struct Verdict {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// Every expectation that was not met; none when it passed.
    pub failures: Vec<String>,
}

/// All cases in the `*.toml` of `dir`, in name order, or everything that is wrong with them.
pub fn read(dir: &Path) -> Result<Vec<Case>, Problems> {
    let unreadable = |error: std::io::Error| {
        vec![Problem::new("", format!("cannot read {}: {error}", dir.display()))]
    };
    let entries = std::fs::read_dir(dir).map_err(unreadable)?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| crate::core::config::is_layer(&name_of(path)))
        .collect();
    files.sort();
    let (mut cases, mut problems) = (Vec::new(), Problems::new());
    for file in files {
        match read_file(&file) {
            Ok(found) => cases.extend(found),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(cases) } else { Err(problems) }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read_file(file: &Path) -> Result<Vec<Case>, Problems> {
    let at = |line| Place::Line { file: file.to_owned(), line };
    let told = |line, message: String| vec![Problem::new("", message).at(Some(at(line)))];
    let text = std::fs::read_to_string(file).map_err(|error| told(1, error.to_string()))?;
    let document = ImDocument::parse(text.as_str()).map_err(|error| {
        told(line(&text, error.span().map(|span| span.start)), error.message().to_owned())
    })?;
    let (mut cases, mut problems) = (Vec::new(), Problems::new());
    for (name, item) in document.iter() {
        let Some(tables) = item.as_array_of_tables().filter(|_| name == "case") else {
            let problem = Section::unknown_name(name, "key", name, ["case"].into_iter());
            problems.push(problem.help("a file of cases has [[case]] tables only").at(Some(at(1))));
            continue;
        };
        for table in tables {
            let place = at(line(&text, table.span().map(|span| span.start)));
            let table = table.iter().map(|(name, item)| (name.to_owned(), json(item))).collect();
            match read_case(file, &place, table) {
                Ok(case) => cases.push(case),
                Err(found) => {
                    problems.extend(found.into_iter().map(|it| it.at(Some(place.clone()))));
                }
            }
        }
    }
    if problems.is_empty() { Ok(cases) } else { Err(problems) }
}

fn line(text: &str, offset: Option<usize>) -> usize {
    text[..offset.unwrap_or(0).min(text.len())].matches('\n').count() + 1
}

fn read_case(file: &Path, place: &Place, mut table: Map<String, Value>) -> Result<Case, Problems> {
    // One of them needs no brackets.
    if let Some(one) = table.get_mut("absent").filter(|absent| absent.is_object()) {
        *one = Value::Array(vec![one.take()]);
    }
    let expected: Expected = Section::new("case", table).read()?;
    let body = match (&expected.event, &expected.fixture) {
        (Some(event), None) => Bytes::from(event.clone()),
        (None, Some(fixture)) => {
            let path = file.with_file_name("").join(fixture);
            let read = std::fs::read(&path).map_err(|error| {
                vec![Problem::new("case.fixture", format!("{}: {error}", path.display()))]
            });
            read?.into()
        }
        _ => {
            let help = "write event = '{…}', or fixture = \"FILE\"";
            return Err(vec![Problem::new("case", "needs one event").help(help)]);
        }
    };
    let fields = expected.absent.iter().flat_map(|absent| &absent.fields);
    let wrong: Problems = fields
        .filter(|field| !field.starts_with('/'))
        .map(|field| {
            Problem::new("case.absent.fields", format!("`{field}` is not a JSON pointer"))
                .help(format!("write \"/{field}\""))
        })
        .collect();
    match wrong.is_empty() {
        true => Ok(Case { expected, body, place: place.clone() }),
        false => Err(wrong),
    }
}

/// TOML as JSON; a time becomes its text.
fn json(item: &Item) -> Value {
    match item {
        Item::None => Value::Null,
        Item::Value(value) => json_value(value),
        Item::Table(table) => {
            table.iter().map(|(name, item)| (name.to_owned(), json(item))).collect()
        }
        Item::ArrayOfTables(tables) => {
            tables.iter().map(|table| json(&Item::Table(table.clone()))).collect()
        }
    }
}

fn json_value(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => text.value().as_str().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        toml_edit::Value::Float(number) => (*number.value()).into(),
        toml_edit::Value::Boolean(flag) => (*flag.value()).into(),
        toml_edit::Value::Datetime(time) => time.value().to_string().into(),
        toml_edit::Value::Array(items) => items.iter().map(json_value).collect(),
        toml_edit::Value::InlineTable(table) => {
            table.iter().map(|(name, value)| (name.to_owned(), json_value(value))).collect()
        }
    }
}

impl Case {
    /// Run it on a configuration.
    pub fn run(self, explainer: &Explainer) -> Verdict {
        let events = explainer.body(self.expected.source.as_deref(), &self.body);
        let failures = match events.as_deref() {
            Ok([event]) => {
                let mut failures = self.expected.unknown_names(explainer);
                failures.extend(self.expected.failures(event));
                failures
            }
            Ok(events) => {
                vec![format!("the body holds {} events; write a case for each", events.len())]
            }
            Err(error) => vec![error.clone()],
        };
        Verdict { name: self.expected.name, place: self.place, failures }
    }
}

impl Expected {
    /// A misspelt name would let `absent` pass for ever.
    fn unknown_names(&self, explainer: &Explainer) -> Vec<String> {
        let sinks = self.absent.iter().map(|absent| &absent.sink);
        let sinks = sinks.chain(self.bytes.keys()).chain(self.sinks.iter().flatten());
        let known = explainer.sinks();
        let mut told: Vec<String> = sinks
            .filter(|sink| known.iter().all(|known| known != sink))
            .map(|sink| {
                let known = known.iter().copied();
                Section::unknown_name("", "sink", sink, known).to_string()
            })
            .collect();
        told.dedup();
        told
    }

    fn failures(&self, event: &Explanation) -> Vec<String> {
        let mut failures = Vec::new();
        let taken = event.routes.iter().filter(|answer| answer.takes);
        failures.extend(set("routes", &self.routes, taken.map(|answer| &*answer.route)));
        failures.extend(set("sinks", &self.sinks, event.sinks.iter().map(|sent| &*sent.sink)));
        failures.extend(self.facts(event));
        for (sink, expected) in &self.bytes {
            failures.extend(sent(event, sink).map_or_else(Some, |sent| other(sent, expected)));
        }
        self.absent.iter().for_each(|absent| failures.extend(absent.failures(event)));
        failures
    }

    fn facts(&self, event: &Explanation) -> Vec<String> {
        let finding = &event.finding;
        let severity = self.severity.as_ref().map(|text| match Severity::read(text) {
            Some(known) => known.as_str().to_owned(),
            None => normalise(text),
        });
        let facts = [
            ("severity", severity, finding.severity.as_str()),
            ("state", self.state.as_deref().map(normalise), finding.state.as_str()),
            ("category", self.category.clone(), finding.category.as_deref().unwrap_or("none")),
        ];
        let differs = |(name, expected, got): (&str, Option<String>, &str)| {
            expected.filter(|expected| *expected != got).map(|it| expected_got(name, &it, got))
        };
        facts.into_iter().filter_map(differs).collect()
    }
}

impl Absent {
    fn failures(&self, event: &Explanation) -> Vec<String> {
        // A sink that gets nothing sees nothing.
        let Some(sent) = event.sinks.iter().find(|sent| *sent.sink == self.sink) else {
            return Vec::new();
        };
        let Some(written) = &sent.written else { return Vec::new() };
        let text = written.text.as_deref().unwrap_or_default();
        let Ok(value) = serde_json::from_str::<Value>(text) else {
            return vec![format!("absent: what sink {} would be sent is not JSON", self.sink)];
        };
        let seen = self.fields.iter().filter_map(|field| Some((field, value.pointer(field)?)));
        seen.map(|(field, value)| format!("sink {} would see {field}: {value}", self.sink))
            .collect()
    }
}

fn expected_got(what: &str, expected: &str, got: &str) -> String {
    format!("{what}\n      expected {expected}\n      got      {got}")
}

fn set<'n>(
    what: &str,
    expected: &Option<Vec<String>>,
    got: impl Iterator<Item = &'n str>,
) -> Option<String> {
    let expected: BTreeSet<&str> = expected.as_ref()?.iter().map(String::as_str).collect();
    let got: BTreeSet<&str> = got.collect();
    let listed = |names: &BTreeSet<&str>| match names.is_empty() {
        true => "none".to_owned(),
        false => names.iter().copied().collect::<Vec<_>>().join(", "),
    };
    (expected != got).then(|| expected_got(what, &listed(&expected), &listed(&got)))
}

fn sent<'e>(event: &'e Explanation, sink: &str) -> Result<&'e Sent, String> {
    let found = event.sinks.iter().find(|sent| *sent.sink == *sink);
    found.ok_or_else(|| format!("bytes.{sink}: the sink does not get the event"))
}

fn other(sent: &Sent, expected: &str) -> Option<String> {
    let what = format!("bytes.{}", sent.sink);
    let got = match (&sent.written, &sent.dead) {
        (Some(written), _) => written.text.as_deref().or(written.hex.as_deref()),
        (None, dead) => dead.as_deref(),
    };
    let got = got.unwrap_or("nothing");
    (got != expected).then(|| expected_got(&what, &format!("{expected:?}"), &format!("{got:?}")))
}
