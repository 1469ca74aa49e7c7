//! The settings that a preset asks for: their schema, and their values.
//!
//! Guarantees: every wrong value is told with its key and what is wanted; a secret comes as a
//! reference and is known as one, so that it is masked wherever it could show.

use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::http::Address;
use crate::core::config::{Problem, Problems, Secret, Section};

/// One setting.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Field {
    /// What it is and where to find it: the user's manual.
    about: String,
    /// What it holds.
    #[serde(default, rename = "type")]
    form: Form,
    /// May be left out.
    #[serde(default)]
    optional: bool,
    /// Its value when it is left out.
    #[serde(default)]
    default: Option<Value>,
    /// Its value in the sample section.
    #[serde(default)]
    sample: Option<Value>,
    /// What a text must look like, as a regular expression.
    #[serde(default)]
    pattern: Option<String>,
    /// The only values there are.
    #[serde(default)]
    choices: Vec<String>,
}

/// What a setting holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    /// A text.
    #[default]
    Text,
    /// A reference to a secret.
    Secret,
    /// An `http://` or `https://` address, which may be a secret.
    Address,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
}

/// All settings of a preset.
pub(super) type Fields = BTreeMap<String, Field>;

/// A value that was set.
pub(super) enum Set {
    Plain(Value),
    Secret(Secret),
    Address(Address),
}

/// What the user has set, defaults included.
pub(super) struct Values(BTreeMap<String, Set>);

impl Values {
    /// These values.
    pub fn of(values: BTreeMap<String, Set>) -> Self {
        Self(values)
    }

    /// The value of a field as a constant; its secret, too.
    pub fn constant(&self, name: &str) -> Option<Value> {
        Some(match self.0.get(name)? {
            Set::Plain(value) => value.clone(),
            Set::Secret(secret) => secret.expose().into(),
            Set::Address(address) => address.url().as_str().trim_end_matches('/').into(),
        })
    }

    /// The address of a field.
    pub fn address(&self, name: &str) -> Option<&Address> {
        match self.0.get(name)? {
            Set::Address(address) => Some(address),
            _ => None,
        }
    }

    /// All addresses.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.0.values().filter_map(|set| match set {
            Set::Address(address) => Some(address),
            _ => None,
        })
    }

    /// All secrets, with the names of their fields.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().filter_map(|(name, set)| match set {
            Set::Secret(secret) => Some((name.as_str(), secret)),
            _ => None,
        })
    }
}

impl Field {
    /// An address that must be set.
    pub fn address() -> Self {
        Self { form: Form::Address, ..Self::given() }
    }

    /// A field whose value is there.
    pub fn given() -> Self {
        let (optional, form) = (false, Form::Text);
        let sample = Some("given".into());
        let (about, choices) = (String::new(), Vec::new());
        Self { about, form, optional, default: None, sample, pattern: None, choices }
    }

    /// Whether it must be set.
    pub fn is_required(&self) -> bool {
        !self.optional && self.default.is_none()
    }

    /// Whether it has a value, whatever the user leaves out.
    pub fn is_always_set(&self) -> bool {
        self.is_required() || self.default.is_some()
    }

    /// Its part of the schema.
    pub fn schema(&self, generator: &mut SchemaGenerator) -> Value {
        let mut schema = match self.form {
            Form::Secret => Secret::json_schema(generator).to_value(),
            Form::Address => {
                let secret = Secret::json_schema(generator).to_value();
                json!({ "anyOf": [{ "type": "string" }, secret], "x-private-path": true })
            }
            Form::Text if !self.choices.is_empty() => json!({ "enum": self.choices }),
            Form::Text => json!({ "type": "string" }),
            Form::Integer => json!({ "type": "integer" }),
            Form::Boolean => json!({ "type": "boolean" }),
        };
        schema["description"] = self.about.clone().into();
        if let Some(default) = &self.default {
            schema["default"] = default.clone();
        }
        if let (Some(pattern), Form::Text) = (&self.pattern, self.form) {
            schema["pattern"] = pattern.clone().into();
        }
        schema
    }

    /// Its line of the sample section, if the sample has it.
    pub fn sample(&self, name: &str) -> Option<String> {
        let value = match (&self.sample, self.form) {
            (Some(sample), _) => sample.to_string(),
            (None, _) if !self.is_required() => return None,
            (None, Form::Secret) => "{ file = \"{{dir}}/key\" }".to_owned(),
            (None, Form::Address) => "\"{{peer}}\"".to_owned(),
            (None, _) => return None,
        };
        Some(format!("{name} = {value}\n"))
    }

    /// What is wrong with the field itself; presets are checked when they are read.
    pub fn mistakes(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(pattern) = &self.pattern
            && regex::Regex::new(pattern).is_err()
        {
            found.push(format!("fields.{name}.pattern is no regular expression"));
        }
        if self.is_required() && self.sample(name).is_none() {
            found.push(format!("fields.{name} must be set, so it needs a sample"));
        }
        if self.form == Form::Secret && self.default.is_some() {
            found.push(format!("fields.{name}: a secret has no default"));
        }
        if self.form == Form::Address && self.default.is_some() && self.sample.is_none() {
            found.push(format!("fields.{name}: an address with a default needs a sample, so that tests reach nobody"));
        }
        found
    }

    fn read(&self, key: &str, value: &Value) -> Result<Set, Problem> {
        let wrong = |wanted: &str| Problem::new(key, format!("must be {wanted}"));
        let told = |error: serde_json::Error| Problem::new(key, error.to_string());
        match self.form {
            Form::Secret => serde_json::from_value(value.clone()).map(Set::Secret).map_err(told),
            Form::Address => serde_json::from_value(value.clone()).map(Set::Address).map_err(told),
            Form::Text if value.is_string() => self.text(key, value),
            Form::Integer if value.is_i64() => Ok(Set::Plain(value.clone())),
            Form::Boolean if value.is_boolean() => Ok(Set::Plain(value.clone())),
            Form::Text => Err(wrong("text in quotes")),
            Form::Integer => Err(wrong("a whole number")),
            Form::Boolean => Err(wrong("true or false")),
        }
    }

    fn text(&self, key: &str, value: &Value) -> Result<Set, Problem> {
        let text = value.as_str().unwrap_or_default();
        if !self.choices.is_empty() && !self.choices.iter().any(|choice| choice == text) {
            return Err(Section::unknown_name(
                key,
                "choice",
                text,
                self.choices.iter().map(String::as_str),
            ));
        }
        let pattern = self.pattern.as_ref().and_then(|pattern| regex::Regex::new(pattern).ok());
        if pattern.is_some_and(|pattern| !pattern.is_match(text)) {
            let problem = Problem::new(key, format!("`{text}` does not look like this setting"));
            return Err(problem.help(self.about.clone()));
        }
        Ok(Set::Plain(value.clone()))
    }
}

/// The schema of a table with these fields.
pub(super) fn schema(fields: &Fields, generator: &mut SchemaGenerator) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|(name, field)| (name.clone(), field.schema(generator))).collect();
    let required: Vec<&String> =
        fields.iter().filter(|(_, field)| field.is_required()).map(|(name, _)| name).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// The values of a section; keys that are missing or unknown are told by its schema.
pub(super) fn read(fields: &Fields, section: &Section) -> Result<Values, Problems> {
    let (mut values, mut problems) = (BTreeMap::new(), Problems::new());
    for (name, field) in fields {
        let Some(value) = section.table.get(name).or(field.default.as_ref()) else { continue };
        match field.read(&format!("{}.{name}", section.key), value) {
            Ok(set) => drop(values.insert(name.clone(), set)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(Values(values)) } else { Err(problems) }
}
