//! Reading the tables of a configuration, while their problems pile up.
//!
//! Guarantees: what cannot be read is told and left out, and the reading goes on, so that one look
//! shows every problem, each at its place.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::SECTIONS;
use crate::core::config::{Layers, Place, Problem, Problems, Section};

/// Collects problems while reading goes on.
pub(super) struct Reading {
    pub(super) problems: Problems,
}

impl Reading {
    pub(super) fn keep<T>(&mut self, read: Result<T, Problems>) -> Option<T> {
        read.map_err(|problems| self.problems.extend(problems)).ok()
    }

    pub(super) fn section<T: DeserializeOwned + JsonSchema>(
        &mut self,
        root: &mut Section,
        name: &str,
    ) -> Option<T> {
        let section = self.table(root, name);
        self.keep(section.read())
    }

    /// The top-level truth value `name`, false when it is absent.
    pub(super) fn flag(&mut self, root: &mut Section, name: &str) -> bool {
        let value = root.table.remove(name);
        if !matches!(value, None | Some(Value::Bool(_))) {
            self.problems.push(
                Problem::new(name, "must be true or false")
                    .help(format!("write {name} = true above the first [section] of a file")),
            );
        }
        value == Some(Value::Bool(true))
    }

    /// The table `name`, empty when it is absent (or wrong, which is reported).
    pub(super) fn table(&mut self, root: &mut Section, name: &str) -> Section {
        self.keep(root.take(name)).unwrap_or_else(|| Section::new(name, serde_json::Map::new()))
    }

    /// The named tables of `[sinks]` and the like.
    pub(super) fn named(&mut self, tables: Section) -> Vec<(Arc<str>, Section)> {
        let mut found = Vec::new();
        for (name, value) in tables.table {
            let key = format!("{}.{name}", tables.key);
            match value {
                Value::Object(_) if !is_name(&name) => self.problems.push(
                    Problem::new(key, format!("`{name}` cannot be a name"))
                        .help("use lower-case letters, digits, `-` and `_`"),
                ),
                Value::Object(table) => found.push((name.into(), Section::new(key, table))),
                _ => self.problems.push(Problem::no_table(key)),
            }
        }
        found
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    !name.is_empty() && name.len() <= 64 && name.chars().all(allowed)
}

/// Names with what was built for them; `None` where that failed, so that routes may still name it.
pub(super) type Named<T> = Vec<(Arc<str>, Option<T>)>;

pub(super) fn built<T>(named: Named<T>) -> Vec<T> {
    named.into_iter().filter_map(|(_, built)| built).collect()
}

pub(super) fn names<T>(named: &Named<T>) -> Vec<Arc<str>> {
    named.iter().map(|(name, _)| name.clone()).collect()
}

/// Both values, or the problems of both.
pub(super) fn both<A, B>(
    a: Result<A, Problems>,
    b: Result<B, Problems>,
) -> Result<(A, B), Problems> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(mut a), Err(b)) => {
            a.extend(b);
            Err(a)
        }
        (Err(problems), _) | (_, Err(problems)) => Err(problems),
    }
}

pub(super) fn placed(problems: Problems, layers: &Layers) -> Problems {
    let place = |problem: Problem| {
        let place = layers.place_of(&problem);
        let is_variable = matches!(place, Some(Place::Variable(_)));
        let meant = SECTIONS.iter().find(|name| problem.key.starts_with(&format!("{name}_")));
        match meant.filter(|_| is_variable) {
            Some(name) => {
                let key = problem.key[name.len()..].replacen('_', "__", 1);
                let meant = format!("SIEMGATE_{name}{key}").to_ascii_uppercase();
                problem.at(place).help(format!("two underscores stand between names: {meant}"))
            }
            None => problem.at(place),
        }
    };
    let mut problems: Problems = problems.into_iter().map(place).collect();
    problems.sort_by(|a, b| a.place.cmp(&b.place));
    problems
}
