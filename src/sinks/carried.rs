//! A product that is reached over a socket, as data: a kind that speaks sockets, with what this product
//! wants of it, and the product's own words.
//!
//! Guarantees: a file is checked whole when it is read; what it sets are defaults, so the user may set
//! every key of the kind, and whatever that kind promises holds. It adds no behaviour.

use std::path::Path;

use schemars::Schema;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::preset::{mistake, no_name};
use super::socket::Endpoint;
use super::{Built, Kind, plain, socket, syslog};
use crate::core::config::{Problems, Section};
use crate::core::sink::Class;

/// The kinds that may carry a product.
const CARRIERS: [&Kind; 3] = [&syslog::KIND, &plain::TCP, &plain::UDP];

/// One product, read and checked.
pub struct Carried {
    file: File,
    kind: &'static Kind,
    fingerprint: [u8; 32],
}

/// Its file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The `type` in `[sinks.NAME]`.
    name: String,
    /// One line for lists.
    about: String,
    /// The page it was built from.
    #[serde(default)]
    docs: String,
    /// What it is for.
    class: Class,
    /// Some facts could not be verified; they are settings with safe defaults.
    #[serde(default)]
    unverified: bool,
    /// What to do in the product first.
    #[serde(default)]
    setup: String,
    /// What a delivery proves, and where the product then shows the event.
    #[serde(default)]
    proves: String,
    carrier: Carrier,
}

/// `[carrier]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Carrier {
    /// `syslog`, `tcp` or `udp`.
    kind: String,
    /// What its address looks like, for documents.
    address: String,
    /// The kind's settings where the product wants others than the kind's own defaults.
    #[serde(default)]
    defaults: Map<String, Value>,
}

impl Carried {
    /// Whether the text of a file is of this sort.
    pub fn is_meant(text: &str) -> bool {
        text.parse::<toml_edit::DocumentMut>().is_ok_and(|file| file.contains_key("carrier"))
    }

    /// Read the text of a file; `place` names it in problems.
    pub fn read(place: &Path, text: &str) -> Result<Self, Problems> {
        let file: File = toml_edit::de::from_str(text)
            .map_err(|error| vec![mistake(place, text, error.span(), error.message())])?;
        let told = |wrong: String| vec![mistake(place, text, None, &wrong)];
        if let Some(wrong) = no_name(&file.name) {
            return Err(told(wrong));
        }
        let name = &file.carrier.kind;
        let Some(kind) = CARRIERS.into_iter().find(|kind| kind.name == name) else {
            let known = CARRIERS.map(|kind| kind.name).join(", ");
            return Err(told(format!("carrier.kind: `{name}` is none of {known}")));
        };
        if let Err(wrong) = Endpoint::deserialize(Value::from(file.carrier.address.as_str())) {
            return Err(told(format!("carrier.address: {wrong}")));
        }
        let carried = Self { file, kind, fingerprint: Sha256::digest(text).into() };
        match carried.build(&carried.tried()) {
            Ok(_) => Ok(carried),
            Err(problems) => Err(told(format!("carrier.defaults: {}", problems[0]))),
        }
    }

    /// A section as short as possible, without TLS, which may need files.
    fn tried(&self) -> Section {
        let address = format!("{}://localhost:514", self.way());
        let table = Map::from_iter([("address".to_owned(), address.into())]);
        Section::new(format!("sinks.{}", self.file.name), table)
    }

    fn way(&self) -> &'static str {
        if self.kind.name == plain::UDP.name { "udp" } else { "tcp" }
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

    /// The kind that carries it.
    pub fn kind(&self) -> &'static Kind {
        self.kind
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

    /// The page it was built from.
    pub fn docs(&self) -> &str {
        &self.file.docs
    }

    /// Changes with every change of the file.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// A complete section, with `{{host}}` for a host and its port.
    pub fn sample(&self) -> String {
        self.section(&format!("{}://{{{{host}}}}", self.way()))
    }

    /// A complete section for documents.
    pub fn example(&self) -> String {
        self.section(&self.file.carrier.address)
    }

    fn section(&self, address: &str) -> String {
        let name = &self.file.name;
        format!("[sinks.{name}]\ntype = \"{name}\"\naddress = \"{address}\"\n")
    }

    /// The schema of its settings: the kind's, with other defaults.
    pub fn schema(&self) -> Schema {
        let mut schema = (self.kind.schema)().to_value();
        for (name, default) in &self.file.carrier.defaults {
            schema["properties"][name]["default"] = default.clone();
        }
        schema["description"] = self.file.about.clone().into();
        Schema::try_from(schema).unwrap_or_default()
    }

    /// Build a sink from its section.
    pub fn build(&self, section: &Section) -> Result<Built, Problems> {
        let mut section = section.clone();
        let address = section.table.get("address").and_then(Value::as_str).unwrap_or_default();
        let is_datagram = address.starts_with("udp://");
        for (name, default) in &self.file.carrier.defaults {
            // Of datagrams such a default says nothing; a user's own key would be told.
            if !(is_datagram && socket::is_of_connections(name)) {
                section.table.entry(name.clone()).or_insert_with(|| default.clone());
            }
        }
        (self.kind.build)(&section)
    }
}
