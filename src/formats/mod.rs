//! How an event is written, independent of where it goes.
//!
//! Guarantees: pure functions; whatever an event holds, what is written is one line in valid UTF-8
//! or the event's own bytes, without a line break, within the room there is, and a value can neither
//! end its field nor begin another. The table is the only list: a sink or a route names one of it.
//! A format reads the shaped event (`Shaped::finding` and `body`), so what a transform took out of
//! it stays out. Not here: who chooses a format and how the bytes travel (`sinks/`).

pub mod asff;
mod cef;
mod cloudevents;
mod csv;
mod document;
mod ecs;
mod facts;
mod fields;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gelf;
pub mod headline;
mod leef;
pub mod lines;
mod ocsf;
#[cfg(any(test, fuzzing))]
mod parsers;
pub mod rfc3164;
pub mod rfc5424;
pub mod scales;
pub mod shorten;
mod text;
mod udm;

use std::borrow::Cow;

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::core::route::{Format, Shaped};

/// The event as it is: JSON on one line.
pub static RAW: Format = Format {
    name: "raw",
    about: "the event's own JSON on one line. Too long, its longest lists are cut, then its longest texts; `siemgate_shortened` then names them",
    write: raw,
};

/// All formats, in the order of the reference.
pub static FORMATS: [&Format; 12] = [
    &RAW,
    &cef::FORMAT,
    &leef::FORMAT,
    &leef::TABS,
    &csv::FORMAT,
    &gelf::FORMAT,
    &ecs::FORMAT,
    &ocsf::FORMAT,
    &ocsf::NEWER,
    &udm::FORMAT,
    &asff::FORMAT,
    &cloudevents::FORMAT,
];

pub use gelf::FORMAT as GELF;

/// The format called `name`.
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.into_iter().find(|format| format.name == name)
}

fn raw(event: &Shaped, room: usize) -> Option<Bytes> {
    let line = lines::line(&event.body);
    let line = line.slice(..line.len() - 1);
    if line.len() <= room { Some(line) } else { shorten::json(&line, room).map(Bytes::from) }
}

/// A format as a setting.
#[derive(Clone, Copy, Debug)]
pub struct Named(pub &'static Format);

impl Default for Named {
    fn default() -> Self {
        Self(&RAW)
    }
}

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        format(&name).map(Self).ok_or_else(|| {
            let known: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
            D::Error::custom(format!("`{name}` is no format; known: {}", known.join(", ")))
        })
    }
}

impl JsonSchema for Named {
    fn schema_name() -> Cow<'static, str> {
        "Format".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let option = |format: &&Format| json!({ "type": "string", "const": format.name, "description": format.about });
        let options: Vec<Value> = FORMATS.iter().map(option).collect();
        json_schema!({ "description": "How the event is written, unless its route says so.", "oneOf": options })
    }
}

#[cfg(test)]
mod tests;
