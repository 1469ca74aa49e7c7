//! One JSON Schema for the whole configuration, for editors and for `config show`.
//!
//! Guarantees: made of the settings' own schemas, so every key, description and default in it is
//! the one that the gateway reads; tables are closed, as unknown keys are errors. What a schema
//! cannot say (that a route's sink exists, that a secret can be read) is for `check`.

use schemars::{Schema, schema_for};
use serde_json::{Map, Value, json};

use crate::core::config::{
    AlarmSettings, DeliverySettings, GuardSettings, HeartbeatSettings, JournalSettings,
    LogSettings, QuarantineSettings, ReceiptSettings, ServerSettings, SourceDoor, StartSetting,
};
use crate::core::sink::Class;
use crate::sinks::Entry;
use crate::{routes, sources};

/// What names of sources, routes and sinks look like.
const NAME: &str = "^[a-z0-9_-]{1,64}$";

/// The schema (draft 2020-12), with these kinds of sink.
pub fn schema(sinks: &[Entry]) -> Value {
    let mut defs = Defs::default();
    let sources = sources::KINDS.iter().map(|kind| source(kind, &mut defs)).collect();
    let sinks = sinks.iter().map(|kind| sink(kind, &mut defs)).collect();
    let route = without_defaults(defs.part(routes::schema()));
    let properties = json!({
        "allow_unrouted": {
            "type": "boolean",
            "default": false,
            "description": "Accept a configuration in which critical events reach no sink, or that has no sink at all.",
        },
        "server": defs.part(schema_for!(ServerSettings)),
        "log": defs.part(schema_for!(LogSettings)),
        "journal": defs.part(schema_for!(JournalSettings)),
        "dead_letters": defs.part(schema_for!(QuarantineSettings)),
        "quarantine": defs.part(schema_for!(QuarantineSettings)),
        "receipts": defs.part(schema_for!(ReceiptSettings)),
        "sources": named("The products that post webhooks.", one_of(sources)),
        "routes": named("Which sinks get which events.", route.clone()),
        "unmatched": unmatched(&route),
        "sinks": named("The destinations.", one_of(sinks)),
        "alarms": with_sinks(defs.part(schema_for!(AlarmSettings))),
        "heartbeat": with_sinks(defs.part(schema_for!(HeartbeatSettings))),
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "siemgate",
        "description": "The configuration of siemgate: one file of config.d, or all of them merged.",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "$defs": defs.0,
    })
}

/// The definitions of all parts.
#[derive(Default)]
struct Defs(Map<String, Value>);

impl Defs {
    /// A part without its definitions, which are kept here, and closed to unknown keys.
    fn part(&mut self, schema: Schema) -> Value {
        let mut schema = schema.to_value();
        if let Some(table) = schema.as_object_mut() {
            table.remove("$schema");
            if let Some(Value::Object(defs)) = table.remove("$defs") {
                let closed = defs.into_iter().map(|(name, mut def)| {
                    close(&mut def);
                    (name, def)
                });
                self.0.extend(closed);
            }
        }
        close(&mut schema);
        schema
    }
}

/// Say of every table that it has no other keys, unless it says what it has.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(table) => {
            table.values_mut().for_each(close);
            if table.get("properties").is_some_and(Value::is_object) && table.contains_key("type") {
                table.entry("additionalProperties").or_insert(Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

fn source(kind: &sources::Kind, defs: &mut Defs) -> Value {
    let door = defs.part(schema_for!(SourceDoor));
    let own = defs.part((kind.schema)());
    table(kind.name, kind.about, [door, own])
}

fn sink(kind: &Entry, defs: &mut Defs) -> Value {
    let mut delivery = defs.part(schema_for!(DeliverySettings));
    delivery["description"] = "How events are handed to this sink.".into();
    let mut start = defs.part(schema_for!(StartSetting));
    start["description"] =
        "Where a sink that has never run begins: \"now\", \"oldest\" or a time back.".into();
    start["default"] = "now".into();
    let mut common = json!({ "properties": { "delivery": delivery, "start": start } });
    if matches!(kind.class(), Class::People | Class::Incident) {
        let mut guard = defs.part(schema_for!(GuardSettings));
        guard["description"] = "What keeps people from being buried.".into();
        common["properties"]["guard"] = guard;
    }
    let own = defs.part(kind.schema());
    table(kind.name(), kind.about(), [own, common])
}

/// A table whose `type` is `name`, with the keys of all `parts`.
fn table(name: &str, about: &str, parts: [Value; 2]) -> Value {
    let mut properties = Map::new();
    let mut required = vec![json!("type")];
    properties.insert("type".into(), json!({ "const": name, "description": about }));
    for mut part in parts {
        if let Some(Value::Object(keys)) = part.get_mut("properties").map(Value::take) {
            properties.extend(keys);
        }
        required.extend(part["required"].as_array().cloned().unwrap_or_default());
    }
    json!({
        "title": name, "description": about, "type": "object", "additionalProperties": false,
        "required": required, "properties": properties,
    })
}

fn one_of(options: Vec<Value>) -> Value {
    json!({ "oneOf": options })
}

fn named(about: &str, schema: Value) -> Value {
    json!({
        "description": about, "type": "object", "propertyNames": { "pattern": NAME },
        "additionalProperties": schema,
    })
}

/// A key that must be set has no default, whatever its reader falls back to before complaining.
fn without_defaults(mut schema: Value) -> Value {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for name in required.iter().filter_map(Value::as_str) {
        if let Some(key) = schema["properties"][name].as_object_mut() {
            key.remove("default");
        }
    }
    schema
}

/// A section that must name sinks as soon as it is there.
fn with_sinks(mut schema: Value) -> Value {
    schema["required"] = json!(["sinks"]);
    without_defaults(schema)
}

fn unmatched(route: &Value) -> Value {
    json!({
        "description": "Takes the events that no route takes.", "type": "object",
        "additionalProperties": false, "required": ["sinks"],
        "properties": {
            "sinks": route["properties"]["sinks"], "format": route["properties"]["format"],
        },
    })
}
