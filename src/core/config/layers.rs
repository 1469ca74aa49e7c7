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
use super::section::Section;

/// Environment variables of the command line, which are not configuration keys.
const RESERVED: [&str; 4] = ["config", "admin", "journal", "log_level"];

/// The merged configuration, with the texts it came from.
pub struct Layers {
    root: Map<String, Value>,
    files: Vec<(PathBuf, String)>,
}

impl Layers {
    /// Read the folder `dir` and the environment.
    pub fn read(dir: &Path) -> Result<Self, Problems> {
        let files = texts(dir)?;
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
        let figment = figment.merge(Env::prefixed("SIEMGATE_").ignore(&RESERVED).split("__"));
        let root = figment.extract::<Map<String, Value>>();
        let root = root.map_err(|error| vec![Problem::new("", error.to_string())])?;
        Ok(Self { root, files })
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

    /// Where `key` stands: the last file that has it, else the one that has its nearest parent.
    pub fn place(&self, key: &str) -> Option<Place> {
        let names: Vec<&str> = key.split('.').filter(|name| !name.is_empty()).collect();
        let depth = |(file, text): &(PathBuf, String)| {
            let (depth, offset) = deepest(text, &names)?;
            let line = text[..offset.min(text.len())].matches('\n').count() + 1;
            Some((depth, Place { file: file.clone(), line }))
        };
        // `max_by_key` returns the last of equals: the layer that wins.
        self.files.iter().filter_map(depth).max_by_key(|(depth, _)| *depth).map(|(_, place)| place)
    }
}

/// The files of a configuration folder, in name order, without editors' leftovers.
fn texts(dir: &Path) -> Result<Vec<(PathBuf, String)>, Problems> {
    let problem = |path: &Path, error: std::io::Error| {
        vec![
            Problem::new("", format!("cannot read {}: {error}", path.display()))
                .help("give the configuration folder with --config DIR"),
        ]
    };
    let entries = std::fs::read_dir(dir).map_err(|error| problem(dir, error))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().is_some_and(|name| is_layer(&name.to_string_lossy())))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| match std::fs::read_to_string(&path) {
            Ok(text) => Ok((path, text)),
            Err(error) => Err(problem(&path, error)),
        })
        .collect()
}

/// `*.toml`, but neither hidden files nor what editors and package tools leave behind (their
/// names end otherwise: `x.toml~`, `x.toml.swp`, `x.toml.rpmnew`).
pub fn is_layer(name: &str) -> bool {
    name.ends_with(".toml") && !name.starts_with(['.', '#'])
}

fn unparsable(file: &Path, text: &str, error: &toml_edit::TomlError) -> Problem {
    let offset = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text[..offset].matches('\n').count() + 1;
    let column = offset - text[..offset].rfind('\n').map_or(0, |at| at + 1) + 1;
    let shown = text.lines().nth(line - 1).unwrap_or_default();
    Problem::new("", format!("not valid TOML: {}", error.message()))
        .help(format!("{shown}\n    {}^", " ".repeat(column.saturating_sub(1))))
        .at(Some(Place { file: file.to_owned(), line }))
}

/// How many of `names` lead into `text`, and the offset of the last one found.
fn deepest(text: &str, names: &[&str]) -> Option<(usize, usize)> {
    let document = toml_edit::ImDocument::parse(text).ok()?;
    let mut table: &dyn toml_edit::TableLike = document.as_table();
    let mut found = None;
    for (index, name) in names.iter().enumerate() {
        let name = name.split('[').next().unwrap_or(name);
        let Some((key, item)) = table.get_key_value(name) else { break };
        // A table that exists only through its children has no span of its own: its key has.
        let span = key.span().or_else(|| item.span());
        found = Some((index + 1, span.map_or(0, |span| span.start)));
        match item.as_table_like() {
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
        let place = layers.place("log.keep").unwrap();
        assert_eq!((place.file.ends_with("20-b.toml"), place.line), (true, 2));
        assert_eq!(layers.place("log.keeep").unwrap().line, 1);
    }

    #[test]
    fn broken_toml_is_shown_with_its_line_and_a_caret() {
        let dir = folder(&[("10-a.toml", "[log]\nkeep = = 1\n")]);
        let problems = Layers::read(dir.path()).err().unwrap();
        let text = problems[0].to_string();
        assert!(text.contains("10-a.toml:2:") && text.contains("keep = = 1") && text.contains('^'));
    }
}
