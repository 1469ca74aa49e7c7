//! The layers of the configuration: `config.d/*.toml` in name order, then the environment.
//!
//! Guarantees: later layers win, tables merge and lists are replaced whole; editors' leftovers are
//! ignored; every file that cannot be parsed is reported with its line. The only file that names
//! figment. It does not know what the keys mean.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::problem::{Place, Problem, Problems};
use super::rows;
use super::safety;
use super::section::Section;

/// What the environment's keys begin with.
const PREFIX: &str = "SIEMGATE_";

/// Environment variables of the command line, without [`PREFIX`]: not configuration keys.
pub const RESERVED: [&str; 3] = ["config", "log_level", "socket"];

/// The merged configuration, with the texts it came from.
pub struct Layers {
    root: Map<String, Value>,
    files: Vec<(PathBuf, String)>,
    variables: Vec<Variable>,
}

/// An environment variable that sets a key.
struct Variable {
    name: String,
    /// The names that lead to the key.
    path: Vec<String>,
}

impl Layers {
    /// Read the folder `dir` and the environment.
    pub fn read(dir: &Path) -> Result<Self, Problems> {
        Self::of(texts(dir)?)
    }

    /// Merge the texts of `files` and the environment.
    pub(crate) fn of(files: Vec<(PathBuf, String)>) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let mut figment = Figment::new();
        for (file, text) in &files {
            match toml_edit::ImDocument::parse(text.as_str()) {
                Ok(_) => figment = figment.merge(Toml::string(text)),
                Err(error) => problems.push(unparsable(file, text, &error)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let told = |error: figment::Error| vec![Problem::new("", error.to_string())];
        let env = environment(&figment.extract::<Value>().map_err(told)?);
        let variables = env.iter().map(|(key, _)| Variable::of(key.as_str())).collect();
        let root = figment.merge(env).extract::<Map<String, Value>>().map_err(told)?;
        Ok(Self { root, files, variables })
    }

    /// The top-level tables and values.
    pub fn root(&self) -> Section {
        Section::new("", self.root.clone())
    }

    /// A short fingerprint of the effective values.
    pub fn hash(&self) -> String {
        let text = Value::Object(self.root.clone()).to_string();
        Sha256::digest(text.as_bytes())[..6].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The files that were read, in order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(file, _)| file.as_path())
    }

    /// Where the problem stands: at its key, or below it in a value of several lines.
    pub fn place_of(&self, problem: &Problem) -> Option<Place> {
        let mut place = self.place(&problem.key)?;
        if let (Some(row), Place::Line { file, line }) = (problem.row, &mut place) {
            let text = self.files.iter().find(|(known, _)| known == file).map(|(_, text)| text);
            *line += text.map_or(0, |text| rows::lines_down(text, &problem.key, row));
        }
        Some(place)
    }

    /// Where `key` was set: by the last layer that has it, else by the last that has its nearest
    /// parent.
    pub fn place(&self, key: &str) -> Option<Place> {
        let names: Vec<&str> = key.split('.').filter(|name| !name.is_empty()).collect();
        let in_file = |(file, text): &(PathBuf, String)| {
            let (depth, offset) = deepest(text, &names)?;
            Some(((depth, 1), Place::Line { file: file.clone(), line: line_at(text, offset) }))
        };
        let in_variable = |variable: &Variable| {
            let rank = variable.leads_to(&names)?;
            Some((rank, Place::Variable(variable.name.clone())))
        };
        let files = self.files.iter().filter_map(in_file);
        let found = files.chain(self.variables.iter().filter_map(in_variable));
        // `max_by_key` returns the last of equals: the layer that wins.
        found.max_by_key(|(rank, _)| *rank).map(|(_, place)| place)
    }

    /// What is allowed but should be put right: secret files that everybody can read.
    pub fn warnings(&self) -> Problems {
        let mut found = Problems::new();
        safety::open_secrets("", &Value::Object(self.root.clone()), &mut found);
        found
    }

    /// Where exactly `key` was set, if any layer has it.
    pub fn origin(&self, key: &str) -> Option<Place> {
        let names: Vec<&str> = key.split('.').collect();
        let in_file = |(_, text): &(PathBuf, String)| {
            deepest(text, &names).is_some_and(|(depth, _)| depth == names.len())
        };
        let in_variable =
            |variable: &Variable| variable.leads_to(&names).is_some_and(|(d, _)| d == names.len());
        (self.files.iter().any(in_file) || self.variables.iter().any(in_variable))
            .then(|| self.place(key))
            .flatten()
    }
}

impl Variable {
    fn of(key: &str) -> Self {
        let name = format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase());
        Self { name, path: key.split('.').map(str::to_owned).collect() }
    }

    /// How many of `names` it shares, and whether it wins (2) against a file that shares as many,
    /// because it sets that key, or loses (0), because it sets one below it.
    fn leads_to(&self, names: &[&str]) -> Option<(usize, u8)> {
        let plain = names.iter().map(|name| name.split('[').next().unwrap_or(name));
        let depth = self.path.iter().zip(plain).take_while(|(a, b)| a == b).count();
        (depth > 0).then_some((depth, if depth == self.path.len() { 2 } else { 0 }))
    }
}

/// The environment's layer: all that begins with [`PREFIX`], but for what is reserved and what the
/// files name as the place of a secret.
fn environment(files: &Value) -> Env {
    let mut ignored: Vec<String> = RESERVED.map(str::to_owned).into();
    secret_variables(files, &mut ignored);
    let ignored: Vec<&str> = ignored.iter().map(String::as_str).collect();
    Env::prefixed(PREFIX).ignore(&ignored).split("__")
}

/// The names, without the prefix, of variables in references such as `{ env = "SIEMGATE_KEY" }`.
fn secret_variables(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(table) => {
            let name = table.get("env").and_then(Value::as_str);
            let name = name.and_then(|name| name.strip_prefix(PREFIX));
            found.extend(name.filter(|_| table.len() == 1).map(str::to_lowercase));
            table.values().for_each(|value| secret_variables(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| secret_variables(item, found)),
        _ => {}
    }
}

/// The files of a configuration folder, in name order, without editors' leftovers.
fn texts(dir: &Path) -> Result<Vec<(PathBuf, String)>, Problems> {
    let problem = |error: std::io::Error| {
        vec![
            Problem::new("", format!("cannot read the folder {}: {error}", dir.display()))
                .help("give the configuration folder with --config DIR"),
        ]
    };
    let mut problems: Problems = safety::folder(dir).map_err(problem)?.into_iter().collect();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .map_err(problem)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().is_some_and(|name| is_layer(&name.to_string_lossy())))
        .collect();
    paths.sort();
    let mut texts = Vec::new();
    for path in paths {
        match safety::read(&path) {
            Ok(text) => texts.push((path, text)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(texts) } else { Err(problems) }
}

/// `*.toml`, but neither hidden files nor what editors and package tools leave behind (their
/// names end otherwise: `x.toml~`, `x.toml.swp`, `x.toml.rpmnew`).
pub fn is_layer(name: &str) -> bool {
    name.ends_with(".toml") && !name.starts_with(['.', '#'])
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn unparsable(file: &Path, text: &str, error: &toml_edit::TomlError) -> Problem {
    let offset = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = line_at(text, offset);
    let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let column = text[start..offset].chars().count();
    let shown = text.lines().nth(line - 1).unwrap_or_default();
    let message = match error.message().trim() {
        // What the parser says of control characters in comments.
        "" => "a character that cannot stand here".to_owned(),
        message => message.replace('\n', "; "),
    };
    Problem::new("", format!("not valid TOML: {message}"))
        .help(format!("{shown}\n    {}^{}", " ".repeat(column), advice(&message, shown)))
        .at(Some(Place::Line { file: file.to_owned(), line }))
}

/// What is usually meant by a line that the parser does not understand.
fn advice(message: &str, line: &str) -> &'static str {
    match message {
        _ if line.contains(['“', '”', '„', '‘', '’']) => {
            "\n    use straight quotes (\"), not typographic ones"
        }
        _ if message.contains("table header; duplicate key") => {
            "\n    a table stands once in a file: put all its keys below the first"
        }
        _ if message.contains("duplicate key") => "\n    a key stands once: remove one of the two",
        _ if message.contains("basic string") => "\n    a text ends with the quote it began with",
        _ if message.contains("expected newline") || message.contains("invalid string") => {
            "\n    write key = value, a text in quotes: key = \"30d\""
        }
        _ if message.contains("invalid array") => "\n    commas stand between the values of a list",
        _ => "",
    }
}

/// How many of `names` lead into `text`, and the offset of the last one found.
fn deepest(text: &str, names: &[&str]) -> Option<(usize, usize)> {
    let document = toml_edit::ImDocument::parse(text).ok()?;
    let mut table: &dyn toml_edit::TableLike = document.as_table();
    let mut found = None;
    for (index, name) in names.iter().enumerate() {
        let (name, position) = name.split_once('[').unwrap_or((name, ""));
        let Some((key, item)) = table.get_key_value(name) else { break };
        // A table that exists only through its children has no span of its own: its key has.
        let span = key.span().or_else(|| item.span());
        let listed = position.trim_end_matches(']').parse().ok();
        let listed = listed.and_then(|at: usize| item.as_array()?.get(at));
        let span = listed.and_then(toml_edit::Value::span).or(span);
        found = Some((index + 1, span.map_or(0, |span| span.start)));
        let inner = listed.and_then(toml_edit::Value::as_inline_table);
        match inner.map(|table| table as &dyn toml_edit::TableLike).or(item.as_table_like()) {
            Some(inner) => table = inner,
            None => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn later_files_win_and_leftovers_are_ignored() {
        let dir = folder(&[
            ("10-a.toml", "[log]\nkeep = \"1d\"\ndir = \"a\"\n"),
            ("20-b.toml", "[log]\nkeep = \"2d\"\n"),
            ("30-c.toml~", "not toml"),
            (".40-d.toml", "not toml"),
        ]);
        let layers = Layers::read(dir.path()).unwrap();
        assert_eq!(layers.root().table["log"]["keep"], "2d");
        assert_eq!(layers.root().table["log"]["dir"], "a");
        let line = |key: &str| match layers.place(key) {
            Some(Place::Line { file, line }) => (file.ends_with("20-b.toml"), line),
            other => panic!("{key}: {other:?}"),
        };
        assert_eq!(line("log.keep"), (true, 2));
        assert_eq!(line("log.keeep"), (true, 1));
        assert_eq!(layers.origin("log.keeep"), None);
    }

    #[test]
    fn items_of_a_list_have_lines_of_their_own() {
        let dir = folder(&[("10-a.toml", "[a]\nb = [\n  1,\n  { c = 2 },\n]\n")]);
        let layers = Layers::read(dir.path()).unwrap();
        for (key, expected) in [("a.b", 2), ("a.b[0]", 3), ("a.b[1].c", 4), ("a.b[7]", 2)] {
            let place = layers.place(key).unwrap().to_string();
            assert!(place.ends_with(&format!(":{expected}")), "{key}: {place}");
        }
    }

    #[test]
    fn a_variable_wins_where_it_sets_the_key() {
        let variable = Variable::of("log.keep");
        assert_eq!(variable.name, "SIEMGATE_LOG__KEEP");
        assert_eq!(variable.leads_to(&["log", "keep"]), Some((2, 2)));
        assert_eq!(variable.leads_to(&["log", "dir"]), Some((1, 0)));
        assert_eq!(variable.leads_to(&["server"]), None);
        let mut found = Vec::new();
        let files = serde_json::json!({ "sinks": { "x": { "key": { "env": "SIEMGATE_KEY" } } } });
        secret_variables(&files, &mut found);
        assert_eq!(found, ["key"]);
    }

    #[test]
    fn broken_toml_is_shown_with_its_line_and_a_caret() {
        let dir = folder(&[("10-a.toml", "[log]\nkeep = = 1\n")]);
        let problems = Layers::read(dir.path()).err().unwrap();
        let text = problems[0].to_string();
        assert!(text.contains("10-a.toml:2:") && text.contains("keep = = 1") && text.contains('^'));
    }
}
