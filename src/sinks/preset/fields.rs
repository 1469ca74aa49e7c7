//! The settings that a preset asks for: their schema, and their values.
//!
//! Guarantees: every wrong value is told with its key and what is wanted; a secret comes as a
//! reference and is known as one, so that it is masked wherever it could show.

use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::http::Address;
use super::template::{Part, parts};
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
    /// Its value when it is left out. A text may name other fields: `https://intake.{{site}}`.
    #[serde(default)]
    default: Option<Value>,
    /// Its value in the sample section, which tests use.
    #[serde(default)]
    sample: Option<Value>,
    /// Its value in the documents' section; `https://siem.example` for an address unless set.
    #[serde(default)]
    example: Option<Value>,
    /// What a text must look like, as a regular expression.
    #[serde(default)]
    pattern: Option<String>,
    /// The only values there are.
    #[serde(default)]
    choices: Choices,
}

/// The values of a choice.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Choices {
    /// `["a", "b"]`: as they are.
    Names(Vec<String>),
    /// `{ a = "x", b = "y" }`: what each stands for. `{ a = { host = "x", scope = "y" } }`: the same for
    /// several places, named `{{field.host}}` and `{{field.scope}}`.
    Meanings(BTreeMap<String, Meaning>),
}

/// What a choice stands for.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Meaning {
    One(String),
    Several(BTreeMap<String, String>),
}

impl Default for Choices {
    fn default() -> Self {
        Self::Names(Vec::new())
    }
}

impl Choices {
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Names(names) => names.iter().map(String::as_str).collect(),
            Self::Meanings(table) => table.keys().map(String::as_str).collect(),
        }
    }

    /// What `chosen` stands for: in place of the field, or in places behind its name.
    fn meanings(&self, field: &str, chosen: &str) -> Vec<(String, String)> {
        match self {
            Self::Names(_) => Vec::new(),
            Self::Meanings(table) => match table.get(chosen) {
                None => Vec::new(),
                Some(Meaning::One(text)) => vec![(field.to_owned(), text.clone())],
                Some(Meaning::Several(texts)) => {
                    let place = |(name, text): (&String, &String)| {
                        (format!("{field}.{name}"), text.clone())
                    };
                    texts.iter().map(place).collect()
                }
            },
        }
    }

    /// Whether every choice has a meaning called `part`.
    fn have(&self, part: &str) -> bool {
        let has = |meaning: &Meaning| match meaning {
            Meaning::One(_) => false,
            Meaning::Several(texts) => texts.contains_key(part),
        };
        matches!(self, Self::Meanings(table) if table.values().all(has))
    }
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

    /// Whether what `name` holds must not be shown.
    pub fn is_private(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Set::Secret(_) | Set::Address(_)))
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
        let (about, choices) = (String::new(), Choices::default());
        let (default, example, pattern) = (None, None, None);
        Self { about, form, optional, default, sample, example, pattern, choices }
    }

    /// Whether it holds an address.
    pub fn is_address(&self) -> bool {
        self.form == Form::Address
    }

    /// Its default, if that names other fields.
    fn template(&self) -> Option<&str> {
        self.default.as_ref()?.as_str().filter(|text| text.contains("{{"))
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
            Form::Text if !self.choices.names().is_empty() => {
                json!({ "enum": self.choices.names() })
            }
            Form::Text => json!({ "type": "string" }),
            Form::Integer => json!({ "type": "integer" }),
            Form::Boolean => json!({ "type": "boolean" }),
        };
        schema["description"] = self.about.clone().into();
        match (&self.default, self.template()) {
            (_, Some(template)) => {
                let plain = template.replace("{{", "").replace("}}", "");
                schema["description"] = format!("{} `{plain}` unless set.", self.about).into();
            }
            (Some(default), None) => schema["default"] = default.clone(),
            (None, None) => {}
        }
        if let (Some(pattern), Form::Text) = (&self.pattern, self.form) {
            schema["pattern"] = pattern.clone().into();
        }
        schema
    }

    /// Its line of the sample section, if the sample has it.
    pub fn sample(&self, name: &str) -> Option<String> {
        let value = match (&self.sample, self.form) {
            (Some(sample), _) => toml(sample),
            (None, _) if !self.is_required() => return None,
            (None, Form::Secret) => "{ file = \"{{dir}}/key\" }".to_owned(),
            (None, Form::Address) => "\"{{peer}}\"".to_owned(),
            (None, _) => return None,
        };
        Some(format!("{name} = {value}\n"))
    }

    /// Its line of the documents' section: what must be set, and what has an example.
    pub fn example(&self, name: &str) -> Option<String> {
        let value = match (&self.example, &self.sample, self.form) {
            (Some(example), ..) => toml(example),
            (None, ..) if !self.is_required() => return None,
            (None, _, Form::Secret) => format!("{{ file = \"{{{{dir}}}}/{name}\" }}"),
            (None, None, Form::Address) => "\"https://siem.example\"".to_owned(),
            (None, Some(sample), Form::Address) => {
                toml(sample).replace("{{peer}}", "https://siem.example")
            }
            (None, Some(sample), _) => toml(sample),
            (None, None, _) => return None,
        };
        Some(format!("{name} = {value}\n"))
    }

    /// What is wrong with the field itself; presets are checked when they are read.
    pub fn mistakes(&self, name: &str, fields: &Fields) -> Vec<String> {
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
        let known = |other: &str| match named(fields, other) {
            Some(field) if field.template().is_none() => Ok(Some(Value::from("x"))),
            _ => Err(()),
        };
        if let Some(template) = self.template()
            && let Err(wrong) = parts(template, &known)
        {
            found.push(format!("fields.{name}.default: {wrong} that is set by itself"));
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
        let choices = self.choices.names();
        if !choices.is_empty() && !choices.contains(&text) {
            return Err(Section::unknown_name(key, "choice", text, choices.into_iter()));
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

/// The field that `name` names: itself, or what its choices stand for (`cloud.login`).
pub(super) fn named<'f>(fields: &'f Fields, name: &str) -> Option<&'f Field> {
    fields.get(name).or_else(|| {
        let (name, part) = name.split_once('.')?;
        fields.get(name).filter(|field| field.choices.have(part))
    })
}

/// The values of a section; keys that are missing or unknown are told by its schema.
pub(super) fn read(fields: &Fields, section: &Section) -> Result<Values, Problems> {
    let (mut values, mut problems) = (Values(BTreeMap::new()), Problems::new());
    let is_later =
        |name: &str, field: &Field| field.template().is_some() && section.table.get(name).is_none();
    // Defaults that name other fields come when those are known.
    for later in [false, true] {
        for (name, field) in fields.iter().filter(|(name, field)| is_later(name, field) == later) {
            let default = match later {
                true => field.composed(&values),
                false => field.default.clone(),
            };
            let Some(value) = section.table.get(name).cloned().or(default) else { continue };
            match field.read(&format!("{}.{name}", section.key), &value) {
                Ok(set) => values.insert(name, field, set),
                Err(problem) => problems.push(problem),
            }
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

impl Values {
    fn insert(&mut self, name: &str, field: &Field, set: Set) {
        let chosen = match &set {
            Set::Plain(Value::String(text)) => field.choices.meanings(name, text),
            _ => Vec::new(),
        };
        self.0.insert(name.to_owned(), set);
        self.0.extend(chosen.into_iter().map(|(name, text)| (name, Set::Plain(text.into()))));
    }
}

impl Field {
    /// Its default with the values of the fields that it names.
    fn composed(&self, values: &Values) -> Option<Value> {
        let lookup = |name: &str| Ok(values.constant(name));
        let parts = parts(self.template()?, &lookup).ok()??;
        let words = parts.iter().map(|part| match part {
            Part::Words(words) => Some(words.as_str()),
            Part::Hole(_) => None,
        });
        words.collect::<Option<String>>().map(Value::from)
    }
}

/// A value as TOML, in one line.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let pairs: Vec<String> =
                table.iter().map(|(name, value)| format!("{name} = {}", toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        // JSON's texts, numbers and flat lists are TOML's.
        plain => plain.to_string(),
    }
}
