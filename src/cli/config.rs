//! `siemgate config`: what holds and why, and the schema for editors.
//!
//! Guarantees: touches nothing, asks no running gateway, prints no secret. What `show` prints as
//! text is TOML again. Whether it is good is for `check`.

use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Exit, print, tell_problems};
use crate::app::{Setting, effective, schema};
use crate::core::config::Place;
use crate::sinks::Catalogue;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print every setting that holds, defaults included; secrets and private addresses masked.
    Show {
        /// Say where each value comes from: a file's line, an environment variable, or a default.
        #[arg(long)]
        origin: bool,
        /// Print JSON, with origins.
        #[arg(long)]
        json: bool,
    },
    /// Print a JSON Schema (draft 2020-12) of the configuration, for editors.
    Schema,
}

pub(super) fn run(config: &Path, command: &Command) -> Exit {
    match command {
        Command::Schema => match Catalogue::of(config).and_then(|sinks| sinks.all()) {
            Ok(sinks) => print(format!("{:#}\n", schema(&sinks)).as_bytes()),
            Err(problems) => {
                tell_problems(&problems);
                Exit::Config
            }
        },
        Command::Show { origin, json } => match effective(config) {
            Ok(settings) if *json => print(format!("{:#}\n", machine(&settings)).as_bytes()),
            Ok(settings) => print(people(&settings, *origin).as_bytes()),
            Err(problems) => {
                tell_problems(&problems);
                Exit::Config
            }
        },
    }
}

fn machine(settings: &[Setting]) -> Value {
    let one = |setting: &Setting| {
        let mut facts = json!({ "key": setting.path.join("."), "value": setting.value });
        let more = match &setting.origin {
            None => json!({ "origin": "default" }),
            Some(Place::Line { file, line }) => {
                json!({ "origin": "file", "file": file, "line": line })
            }
            Some(Place::Variable(name)) => json!({ "origin": "environment", "variable": name }),
        };
        if let (Value::Object(facts), Value::Object(more)) = (&mut facts, more) {
            facts.extend(more);
        }
        facts
    };
    settings.iter().map(one).collect()
}

pub(super) fn people(settings: &[Setting], origin: bool) -> String {
    let (mut text, mut section) = (String::new(), String::new());
    for setting in settings {
        let (table, key) = setting.path.split_at(depth(&setting.path));
        if section != table.join(".") {
            section = table.join(".");
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}[{}]\n", dotted(table)));
        }
        let line = format!("{} = {}", dotted(key), toml(&setting.value));
        match origin {
            true => text.push_str(&format!("{line:<50}  # {}\n", told(setting))),
            false => text.push_str(&format!("{line}\n")),
        }
    }
    text
}

fn told(setting: &Setting) -> String {
    setting.origin.as_ref().map_or_else(|| "default".to_owned(), ToString::to_string)
}

/// How many names belong to the table's heading: `[server]`, `[sinks.soc]`.
fn depth(path: &[String]) -> usize {
    let named = matches!(path[0].as_str(), "sources" | "routes" | "sinks");
    (if named { 2 } else { 1 }).min(path.len() - 1)
}

fn dotted(names: &[String]) -> String {
    names.iter().map(|name| key(name)).collect::<Vec<_>>().join(".")
}

fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match !name.is_empty() && name.chars().all(bare) {
        true => name.to_owned(),
        false => Value::from(name).to_string(),
    }
}

/// A value as TOML; its texts are written as JSON's are.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        Value::Object(table) => {
            let keys = table.iter().map(|(name, value)| format!("{} = {}", key(name), toml(value)));
            format!("{{ {} }}", keys.collect::<Vec<_>>().join(", "))
        }
        plain => plain.to_string(),
    }
}
