//! Presets: a destination that speaks HTTP, as data.
//!
//! Guarantees: a preset is checked whole when it is read, and compiled once for every sink that uses
//! it; what it writes is valid JSON within the vendor's limits; what it does not say about answers
//! keeps the safe default. It holds no code: what needs some is an [`HttpApi`] of its own.

mod ack;
mod api;
mod ended;
mod fields;
mod file;
mod frame;
#[cfg(any(test, fuzzing))]
pub(in crate::sinks) mod fuzz;
mod hole;
mod inline;
mod markup;
mod reply;
mod room;
mod template;
mod view;
mod ways;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use schemars::{Schema, SchemaGenerator, schema_for};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::http::{Connection, EXCHANGE, Http};
use super::show::{self, Reading, Shown};
use super::{Built, part};
use crate::core::config::{Place, Problem, Problems, Section};
use crate::core::route::Format;
use crate::core::sink::{Class, Idempotency, Limits};
use crate::formats::Named;
pub(in crate::sinks) use inline::KIND;
pub(in crate::sinks) use markup::Markup;

use api::Compiled;
use fields::{Field, Values};
use file::File;

/// Bytes of a request where the vendor names no limit.
const BYTES: u64 = 1_000_000;
/// Events of a request where the vendor names no limit.
const EVENTS: usize = 500;

/// Requests at once where the vendor says nothing.
const IN_FLIGHT: usize = 4;

/// One preset, read and checked.
pub struct Preset {
    file: File,
    fingerprint: [u8; 32],
}

/// What the user may set for every preset, beside its own fields.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Common {
    /// Compress request bodies. As the product likes it unless set.
    gzip: Option<bool>,
}

/// What the user may set where the event itself is sent, and in more than one form.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Written {
    /// How the event is written, unless its route says so: docs/formats.md. As the product likes it
    /// unless set, mostly the event's own JSON.
    format: Option<Named>,
}

impl Preset {
    /// Read the text of a file; `place` names it in problems.
    pub fn read(place: &Path, text: &str) -> Result<Self, Problems> {
        let file: File = toml_edit::de::from_str(text)
            .map_err(|error| vec![mistake(place, text, error.span(), error.message())])?;
        let preset = Self { file, fingerprint: Sha256::digest(text).into() };
        let mistakes = preset.mistakes();
        match mistakes.is_empty() {
            true => Ok(preset),
            false => Err(mistakes.iter().map(|told| mistake(place, text, None, told)).collect()),
        }
    }

    /// The `type` in `[sinks.NAME]`.
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// One line for lists.
    pub fn about(&self) -> &str {
        &self.file.about
    }

    /// What it is for.
    pub fn class(&self) -> Class {
        self.file.class
    }

    /// Whether a repeated delivery is recognised.
    pub fn idempotency(&self) -> Idempotency {
        self.file.idempotency
    }

    /// The only formats that the product takes, none where it wants the original; else all.
    pub fn forms(&self) -> Option<Vec<&'static str>> {
        match (self.file.limits.whole, &self.file.body.formats[..]) {
            (true, _) => Some(Vec::new()),
            (false, []) => None,
            (false, some) => Some(some.iter().map(|named| named.0.name).collect()),
        }
    }

    /// Whether there is a choice, and it would show in what is sent.
    fn has_choice(&self) -> bool {
        let body = &self.file.body;
        let is_sent =
            body.frame == frame::Form::Lines || body.event.to_string().contains("{{@body");
        is_sent && self.forms().is_none_or(|forms| forms.len() > 1)
    }

    /// Whether some of its facts could not be verified.
    pub fn is_unverified(&self) -> bool {
        self.file.unverified
    }

    /// What a delivery proves.
    pub fn proves(&self) -> &str {
        &self.file.proves
    }

    /// What to do in the product first.
    pub fn setup(&self) -> &str {
        &self.file.setup
    }

    /// What the product answers to a good request of at most a thousand events.
    pub fn success(&self) -> (u16, String) {
        self.file.reply.success()
    }

    /// Changes with every change of the file.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The page it was built from.
    pub fn docs(&self) -> &str {
        &self.file.docs
    }

    /// A complete section, with `{{peer}}` and `{{dir}}` for a base address and a folder.
    pub fn sample(&self) -> String {
        let name = &self.file.name;
        let lines = self.file.fields.iter().filter_map(|(name, field)| field.sample(name));
        format!("[sinks.{name}]\ntype = \"{name}\"\n{}", lines.collect::<String>())
    }

    /// A complete section for documents, with `{{dir}}` for a folder with secrets.
    pub fn example(&self) -> String {
        let name = &self.file.name;
        let lines = self.file.fields.iter().filter_map(|(name, field)| field.example(name));
        format!("[sinks.{name}]\ntype = \"{name}\"\n{}", lines.collect::<String>())
    }

    /// The schema of its settings.
    pub fn schema(&self) -> Schema {
        let mut generator = SchemaGenerator::default();
        let mut schema = fields::schema(&self.file.fields, &mut generator);
        for part in [schema_for!(Connection).to_value(), schema_for!(Common).to_value()] {
            merge(&mut schema, part);
        }
        if self.has_choice() {
            merge(&mut schema, schema_for!(Written).to_value());
        }
        if show::is_read(self.file.class) {
            merge(&mut schema, schema_for!(Reading).to_value());
        }
        for (name, definition) in generator.take_definitions(true) {
            schema["$defs"][name] = definition;
        }
        schema["description"] = self.file.about.clone().into();
        Schema::try_from(schema).unwrap_or_default()
    }

    /// Build a sink from its section.
    pub fn build(&self, section: &Section) -> Result<Built, Problems> {
        let mut problems = section.mistakes(&self.schema().to_value());
        problems.extend(part::<Connection>(section));
        problems.extend(part::<Common>(section));
        problems.extend(part::<Reading>(section));
        problems.extend(part::<Written>(section));
        let values = fields::read(&self.file.fields, section);
        match values {
            Ok(values) if problems.is_empty() => self.with(section, values),
            Ok(_) => Err(problems),
            Err(found) => {
                for problem in found {
                    if problems.iter().all(|known| known.key != problem.key) {
                        problems.push(problem);
                    }
                }
                Err(problems)
            }
        }
    }

    fn with(&self, section: &Section, values: Values) -> Result<Built, Problems> {
        let (connection, _) = section.clone().split::<Connection>();
        let connection: Connection = connection.read()?;
        let (common, _) = section.clone().split::<Common>();
        let common: Common = common.read()?;
        let (reading, _) = section.clone().split::<Reading>();
        let shown = Shown::of(self.file.class, reading.read()?);
        let gzip = common.gzip.unwrap_or(self.file.request.gzip);
        let format = self.format(section)?;
        let told = |wrong: String| vec![Problem::new(section.key.clone(), wrong)];
        let auth = ways::auth(&self.file.request.auth.0, &values, &section.key)?;
        let api = Compiled::new(&self.file, &values, auth, gzip, shown, format).map_err(told)?;
        let to: Vec<_> = values.addresses().collect();
        let secrets: Vec<_> = values.secrets().map(|(_, secret)| secret).collect();
        let client = Http::to_all(section, self.credential(&values), &connection, &to, &secrets)?;
        let (limits, timeout) = (self.limits(&api), api.patience().map(|wait| wait + EXCHANGE));
        Ok(Built::new(Arc::new(super::http::ApiSink::new(client, api)), limits)
            .with_rate(self.file.limits.rate)
            .with_timeout(timeout))
    }

    /// The format that the section asks for.
    fn format(&self, section: &Section) -> Result<Option<&'static Format>, Problems> {
        let (written, _) = section.clone().split::<Written>();
        let Some(Named(format)) = written.read::<Written>()?.format else { return Ok(None) };
        match self.forms() {
            Some(forms) if !forms.contains(&format.name) => {
                let told = format!("{} takes {} only", self.file.name, forms.join(", "));
                Err(vec![Problem::new(format!("{}.format", section.key), told)])
            }
            _ => Ok(Some(format)),
        }
    }

    /// The field that people look at first when the credentials are wrong.
    fn credential(&self, values: &Values) -> String {
        let first = values.secrets().map(|(name, _)| name.to_owned()).next();
        first.unwrap_or_else(|| "url".to_owned())
    }

    fn limits(&self, api: &Compiled) -> Limits {
        let known = &self.file.limits;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let events = match self.file.body.frame {
            frame::Form::Single | frame::Form::Pairs => 1,
            _ => known.events.unwrap_or(EVENTS),
        };
        let request = size(known.bytes.map_or(BYTES, |bytes| bytes.0));
        let request =
            request.saturating_sub(api.frame().overhead() + events * api.frame().between());
        let event = known.event_bytes.map_or(request, |bytes| size(bytes.0)).min(request);
        Limits {
            event_bytes: event,
            batch_events: events,
            batch_bytes: request,
            in_flight: match (&self.file.ack, api.patience()) {
                (Some(ack), Some(_)) => ack.in_flight,
                _ => known.in_flight.unwrap_or(IN_FLIGHT),
            },
            ordered: false,
        }
    }

    /// Everything that is wrong with the file, whatever a user sets.
    fn mistakes(&self) -> Vec<String> {
        let file = &self.file;
        let mut found: Vec<String> = file
            .fields
            .iter()
            .flat_map(|(name, field)| field.mistakes(name, &file.fields))
            .collect();
        found.extend(no_name(&file.name));
        for name in file.fields.keys().filter(|name| is_taken(name)) {
            found.push(format!("fields.{name}: every sink has a key of this name already"));
        }
        let first = ways::names(&file.request.url).next().map(|(name, _)| name);
        let is_address =
            first.and_then(|name| file.fields.get(name)).is_some_and(Field::is_address);
        if !is_address || !file.request.url.starts_with("{{") {
            found.push("request.url must begin with a field that is an address".into());
        }
        found.extend(file.reply.mistake().map(str::to_owned));
        let own = file.body.format.map_or("raw", |named| named.0.name);
        if self.forms().is_some_and(|forms| !forms.is_empty() && !forms.contains(&own)) {
            found.push(format!("body.formats must have body.format, which is {own}"));
        }
        // All fields set, then all that may be left out left out.
        for all in [true, false] {
            if let Err(wrong) = Compiled::check(file, all)
                && !found.contains(&wrong)
            {
                found.push(wrong);
            }
        }
        found
    }
}

/// What is wrong with the name of a preset, if it cannot be one.
pub(super) fn no_name(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_good = !name.is_empty() && name.chars().all(plain);
    (!is_good).then(|| format!("`{name}` cannot be a name: use a-z, 0-9 and _"))
}

/// What is wrong with the text of the file `place`, at the line where `span` begins.
pub(super) fn mistake(place: &Path, text: &str, span: Option<Range<usize>>, told: &str) -> Problem {
    // What the parser says of control characters in comments.
    let told =
        if told.is_empty() { "not valid TOML: a character that cannot stand here" } else { told };
    let start = span.map_or(0, |span| span.start);
    let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
    let at = Place::Line { file: place.to_owned(), line };
    Problem::new("", told.replace('\n', "; ")).at(Some(at))
}

fn is_taken(name: &str) -> bool {
    let has = |schema: Schema| schema.to_value()["properties"].get(name).is_some();
    matches!(name, "type" | "delivery" | "guard" | "start" | "format")
        || has(schema_for!(Connection))
        || has(schema_for!(Common))
        || has(schema_for!(Reading))
}

/// Add the keys and definitions of `part`.
fn merge(schema: &mut Value, part: Value) {
    for place in ["properties", "$defs"] {
        if let Some(Value::Object(keys)) = part.get(place).cloned() {
            if schema[place].is_null() {
                schema[place] = json!({});
            }
            if let Some(table) = schema[place].as_object_mut() {
                table.extend(keys);
            }
        }
    }
}
