//! An event as a JSON document of somebody's schema (ECS, OCSF, UDM), and how it is made to fit.
//!
//! Guarantees: one line, valid JSON, nothing empty in it; foreign text stands in values only, without
//! control characters; the event itself is in it, unchanged, as one text. Too long, it gives up, in
//! this order and no more than it must: of the original what `raw` gives up; the original; then,
//! step by step, items of lists and ends of texts. Addresses of pages are whole or missing. What was
//! given up is named by pointers in `siemgate_shortened`, where the schema has a place for it.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::facts::Facts;
use super::{shorten, text};
use crate::core::route::Shaped;

/// Most pointers that are told; beyond that, that it was cut everywhere.
const TOLD: usize = 8;

/// How much of an event there is room for.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Items of a list: one at least.
    items: usize,
    /// Bytes of a text.
    bytes: usize,
}

/// From what there is at all to what must stay. Lists of hundreds of names are in the original.
const STEPS: [Most; 5] = [
    Most { items: 100, bytes: 4_000 },
    Most { items: 20, bytes: 1_000 },
    Most { items: 5, bytes: 400 },
    Most { items: 1, bytes: 100 },
    Most { items: 1, bytes: 40 },
];

impl Most {
    /// `text` as it may stand in a document; nothing where nothing is left.
    pub fn text(self, text: &str) -> Option<String> {
        self.within(text, self.bytes)
    }

    /// The same for a field that takes at most so many bytes.
    pub fn within(self, text: &str, most: usize) -> Option<String> {
        let shown: String = text.trim().chars().map(text::shown).collect();
        let kept = text::cut(shown.trim(), most.min(self.bytes)).trim_end();
        (!kept.is_empty()).then(|| kept.to_owned())
    }

    /// `text` whole or not at all: half an address leads nowhere.
    pub fn whole(self, text: &str) -> Option<String> {
        let fits = text.len() <= self.bytes && !text.chars().any(text::is_control);
        (fits && !text.is_empty()).then(|| text.to_owned())
    }

    /// The first items, each once.
    pub fn texts<'t>(self, list: impl IntoIterator<Item = &'t str>) -> Vec<String> {
        let mut kept = Vec::new();
        for item in list {
            if kept.len() == self.items {
                break;
            }
            kept.extend(self.text(item).filter(|item| !kept.contains(item)));
        }
        kept
    }

    /// How many items of a list.
    pub fn items(self) -> usize {
        self.items
    }
}

/// A schema.
pub struct Schema {
    /// The document of an event, all but the original. What is null or empty is left out.
    pub build: fn(&Facts<'_>, Most) -> Value,
    /// Where the original stands.
    pub original: &'static [&'static str],
    /// Where `siemgate_shortened` stands.
    pub mark: &'static [&'static str],
}

impl Schema {
    /// `event` in at most `room` bytes.
    pub fn write(&self, event: &Shaped, room: usize) -> Option<Bytes> {
        let facts = Facts::of(event);
        let [first, ..] = STEPS;
        let whole = full((self.build)(&facts, first));
        let original = String::from_utf8_lossy(&event.body);
        let line = self.line(&whole, Some(&original), &[]);
        if line.len() <= room {
            return Some(line.into());
        }
        let over = line.len() - room;
        let line = self.with_less(event, &whole, room, original.len().saturating_sub(over));
        let line = line.or_else(|| self.without(&facts, &whole, room))?;
        Some(line.into())
    }

    /// With an original of about `wanted` bytes, shortened as `raw` is.
    fn with_less(
        &self,
        event: &Shaped,
        whole: &Value,
        room: usize,
        wanted: usize,
    ) -> Option<String> {
        let told = [pointer(self.original)];
        let mut wanted = wanted;
        // Quotes and what names the cuts take room, too.
        for _ in 0..4 {
            let shorter = shorten::json(&event.body, wanted)?;
            let line = self.line(whole, Some(&shorter), &told);
            if line.len() <= room {
                return Some(line);
            }
            wanted = wanted.checked_sub(line.len() - room)?;
        }
        None
    }

    /// Without the original, and with less and less of the rest.
    fn without(&self, facts: &Facts<'_>, whole: &Value, room: usize) -> Option<String> {
        STEPS.iter().find_map(|most| {
            let document = full((self.build)(facts, *most));
            let mut told = vec![pointer(self.original)];
            differences(whole, &document, "", &mut told);
            let line = self.line(&document, None, &told);
            (line.len() <= room).then_some(line)
        })
    }

    fn line(&self, document: &Value, original: Option<&str>, told: &[String]) -> String {
        let mut document = document.clone();
        if let Some(original) = original {
            set(&mut document, self.original, original.into());
        }
        if told.len() > TOLD {
            set(&mut document, self.mark, json!(["/"]));
        } else if !told.is_empty() {
            set(&mut document, self.mark, told.into());
        }
        unbroken(&document)
    }
}

/// `value` on one line. Outside strings JSON has no such characters, inside it may name them.
pub fn unbroken(value: &Value) -> String {
    let written = value.to_string();
    if !written.contains(text::is_control) {
        return written;
    }
    let mut line = String::with_capacity(written.len() + 16);
    for c in written.chars() {
        match text::is_control(c) {
            // All of them are in the first plane: four digits.
            true => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => line.push(c),
        }
    }
    line
}

/// `value` without what is null or empty.
fn full(value: Value) -> Value {
    match value {
        Value::Object(table) => {
            let kept = table.into_iter().map(|(key, value)| (key, full(value)));
            Value::Object(kept.filter(|(_, value)| !is_empty(value)).collect())
        }
        Value::Array(items) => items.into_iter().map(full).filter(|item| !is_empty(item)).collect(),
        plain => plain,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(table) => table.is_empty(),
        _ => false,
    }
}

fn set(document: &mut Value, path: &[&str], value: Value) {
    let Value::Object(table) = document else { return };
    match path {
        [] => {}
        [last] => drop(table.insert((*last).to_owned(), value)),
        [first, rest @ ..] => {
            let below = table.entry(*first).or_insert_with(|| Map::new().into());
            set(below, rest, value);
        }
    }
}

fn pointer(path: &[&str]) -> String {
    path.iter().fold(String::new(), |pointer, key| format!("{pointer}/{key}"))
}

/// The pointers to what `less` has not, or has otherwise. Keys are ours: nothing in them is special.
fn differences(whole: &Value, less: &Value, path: &str, told: &mut Vec<String>) {
    match (whole, less) {
        (Value::Object(whole), Value::Object(less)) => {
            for (key, value) in whole {
                let path = format!("{path}/{key}");
                match less.get(key) {
                    Some(other) => differences(value, other, &path, told),
                    None => told.push(path),
                }
            }
        }
        (Value::Array(whole), Value::Array(less)) if whole.len() == less.len() => {
            for (index, (value, other)) in whole.iter().zip(less).enumerate() {
                differences(value, other, &format!("{path}/{index}"), told);
            }
        }
        (whole, less) if whole != less => told.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(any(test, fuzzing))]
pub(super) mod schemas;
#[cfg(test)]
mod tests;
