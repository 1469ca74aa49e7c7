//! A section: one table of the merged configuration, and its checked reading into a typed struct.
//!
//! Guarantees: everything that is wrong with a section is reported at once: unknown keys with the
//! nearest known name (taken from the settings' JSON Schema), missing ones, and every bad value
//! with its full key. It does not merge layers and does not know files.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::pins::SinkPins;
use super::problem::{Problem, Problems};
use super::secret::Secret;
use super::{keys, values};

/// A table of the configuration with its dotted key.
#[derive(Clone, Debug)]
pub struct Section {
    /// Such as `sinks.soc`.
    pub key: String,
    /// Its values, merged over all layers.
    pub table: Map<String, Value>,
    /// Keys that other readers of the same table take: not known here, but what a misspelt key
    /// may have been meant to be.
    others: Vec<String>,
    /// Certificates that were accepted by hand: of a sink's section only.
    pins: Arc<SinkPins>,
}

impl Section {
    /// A section called `key`.
    pub fn new(key: impl Into<String>, table: Map<String, Value>) -> Self {
        Self { key: key.into(), table, others: Vec::new(), pins: Arc::default() }
    }

    /// The same with what TLS may accept beside its rules.
    #[must_use]
    pub fn pinned(self, pins: Arc<SinkPins>) -> Self {
        Self { pins, ..self }
    }

    /// What TLS may accept beside its rules.
    pub fn pins(&self) -> &Arc<SinkPins> {
        &self.pins
    }

    /// The same, with the names of keys that others have taken out of it.
    #[must_use]
    pub fn beside(mut self, others: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.others.extend(others.into_iter().map(Into::into));
        self
    }

    /// What is wrong with its keys, held against `schema`: for settings that are no Rust type.
    pub fn mistakes(&self, schema: &Value) -> Problems {
        let mut problems = keys::check(&self.key, &Value::Object(self.table.clone()), schema);
        self.look_beside(&mut problems);
        problems
    }

    /// Read into `T`, or say everything that is wrong.
    pub fn read<T: DeserializeOwned + JsonSchema>(&self) -> Result<T, Problems> {
        let schema = schemars::schema_for!(T).to_value();
        let value = Value::Object(self.table.clone());
        let mut problems = keys::check(&self.key, &value, &schema);
        self.look_beside(&mut problems);
        values::read(&self.key, value, problems)
    }

    /// Better advice for a key that is nearer to one of another reader of this table.
    fn look_beside(&self, problems: &mut Problems) {
        for problem in problems {
            let name = problem.key.strip_prefix(&self.key).and_then(|rest| rest.strip_prefix('.'));
            let near =
                name.and_then(|name| keys::nearest(name, self.others.iter().map(String::as_str)));
            if let Some(near) = near.filter(|_| !problem.help.starts_with("did you mean")) {
                problem.help = format!("did you mean `{near}`?");
            } else if !self.others.is_empty()
                && name.is_some_and(|name| !name.contains('.'))
                && problem.help.starts_with("known here: ")
            {
                problem.help = format!("{}, {}", problem.help, self.others.join(", "));
            }
        }
    }

    /// Take `name` out as a table of its own (empty when absent).
    pub fn take(&mut self, name: &str) -> Result<Section, Problems> {
        let key =
            if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) };
        match self.table.remove(name) {
            None => Ok(Section::new(key, Map::new())),
            Some(Value::Object(table)) => Ok(Section::new(key, table)),
            Some(_) => Err(vec![Problem::no_table(key)]),
        }
    }

    /// A digest of the section, of every secret and file it refers to, and of its pins: equal digests
    /// mean that what was built from the section need not be built again.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(Value::Object(self.table.clone()).to_string());
        self.table.iter().for_each(|(name, value)| add_references(name, value, &mut hash));
        for pin in self.pins.pins() {
            hash.update(format!("{} {}", pin.fingerprint, pin.until));
        }
        hash.finalize().into()
    }

    /// Split off the keys that `T` knows: a section that several readers share.
    pub fn split<T: JsonSchema>(self) -> (Section, Section) {
        let schema = schemars::schema_for!(T).to_value();
        let known = schema.get("properties").and_then(Value::as_object);
        let is_known = |name: &String| known.is_some_and(|known| known.contains_key(name));
        let (taken, rest) = self.table.into_iter().partition(|(name, _)| is_known(name));
        let others = known.into_iter().flat_map(|known| known.keys().cloned());
        let rest = Section::new(self.key.clone(), rest).beside(others).pinned(self.pins.clone());
        (Section::new(self.key, taken).pinned(self.pins), rest)
    }

    /// Take the string `name` out; a problem when it is missing or something else.
    pub fn take_text(&mut self, name: &str) -> Result<String, Problem> {
        let key = format!("{}.{name}", self.key);
        match self.table.remove(name) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(Problem::new(key, "must be text in quotes")),
            None => Err(Problem::new(key, format!("`{name}` is missing"))),
        }
    }
}

/// Add what `value` refers to: a secret, or the content of a file (`ca_file` and the like).
fn add_references(name: &str, value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(table) => match serde_json::from_value::<Secret>(value.clone()) {
            Ok(secret) => hash.update(secret.expose()),
            Err(_) => table.iter().for_each(|(name, value)| add_references(name, value, hash)),
        },
        Value::Array(items) => items.iter().for_each(|item| add_references(name, item, hash)),
        Value::String(path) if name.ends_with("_file") => {
            // A file that cannot be read is reported when the sink is built.
            hash.update(std::fs::read(path).unwrap_or_default());
        }
        _ => {}
    }
}

impl Section {
    /// The problem of `name` being none of the `known` names of a `what`.
    pub fn unknown_name<'n>(
        key: impl Into<String>,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'n str> + Clone,
    ) -> Problem {
        let problem = Problem::new(key, format!("there is no {what} `{name}`"));
        match keys::nearest(name, known.clone()) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem.help(format!("known: {}", known.collect::<Vec<_>>().join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Outer {
        address: String,
        inner: Option<Inner>,
    }
    #[derive(Debug, Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Inner {
        timeout: u32,
    }

    fn section(value: Value) -> Section {
        Section::new("sinks.x", value.as_object().cloned().unwrap_or_default())
    }

    #[test]
    fn every_unknown_key_is_named_with_its_neighbour() {
        let read = section(
            json!({ "address": "a", "adress": 1, "inner": { "timeout": 1, "tiemout": 2 } }),
        );
        let problems = read.read::<Outer>().unwrap_err();
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 2, "{text:?}");
        assert!(text[0].contains("sinks.x.adress") && text[0].contains("did you mean `address`?"));
        assert!(text[1].contains("sinks.x.inner.tiemout") && text[1].contains("`timeout`"));
    }

    #[test]
    fn a_key_meant_for_another_reader_of_the_table_is_named() {
        let own = section(json!({ "address": "a", "strat": "now" })).beside(["start"]);
        let problems = own.read::<Outer>().unwrap_err();
        assert!(problems[0].to_string().contains("did you mean `start`?"), "{problems:?}");
    }

    #[test]
    fn a_bad_value_has_its_full_key() {
        let read = section(json!({ "address": "a", "inner": { "timeout": "soon" } }));
        let problems = read.read::<Outer>().unwrap_err();
        assert_eq!(problems[0].key, "sinks.x.inner.timeout");
    }
}
