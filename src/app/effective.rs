//! Every effective setting, and where it came from.
//!
//! Guarantees: each key that has a value is listed once, defaults included; no secret is in it, nor
//! the private part of an address, nor the value of a key that nothing knows (it may be a secret
//! under a wrong name). It judges nothing: a configuration with mistakes is shown as it is.

use std::path::Path;

use serde_json::{Map, Value};

use super::schema::schema;
use crate::core::config::{Layers, Place, Problems};
use crate::sinks::Catalogue;

/// Stands for what is not shown.
const MASK: &str = "***";

/// One key with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The names that lead to it.
    pub path: Vec<String>,
    /// Its value, masked.
    pub value: Value,
    /// Where it was set; `None`: a built-in default.
    pub origin: Option<Place>,
}

/// All settings of the folder `dir` and the environment.
pub fn effective(dir: &Path) -> Result<Vec<Setting>, Problems> {
    let layers = Layers::read(dir)?;
    let schema = schema(&Catalogue::of(dir)?.all()?);
    let mut list = List { layers: &layers, root: &schema, settings: Vec::new() };
    list.look(&[], Some(&Value::Object(layers.root().table)), &schema);
    Ok(list.settings)
}

struct List<'l> {
    layers: &'l Layers,
    root: &'l Value,
    settings: Vec<Setting>,
}

impl List<'_> {
    fn look(&mut self, path: &[String], value: Option<&Value>, schema: &Value) {
        let shape = shape(schema, value, self.root);
        // A table that needs keys and is not there has no defaults either.
        if value.is_none() && shape["required"].as_array().is_some_and(|keys| !keys.is_empty()) {
            return;
        }
        let below = |name: &String| [path, std::slice::from_ref(name)].concat();
        let table = value.and_then(Value::as_object);
        let properties = shape["properties"].as_object();
        // What must name something, and is not there, has no settings that hold: `[alarms]`.
        if value.is_none() && shape["required"].as_array().is_some_and(|keys| !keys.is_empty()) {
            return;
        }
        match (properties, &shape["additionalProperties"], table) {
            _ if is_secret(shape) => self.add(path, value, schema),
            (Some(known), ..) if value.is_none() || table.is_some() => {
                for (name, schema) in known {
                    self.look(&below(name), table.and_then(|table| table.get(name)), schema);
                }
                let unknown = |name: &&String| !known.contains_key(*name);
                for name in table.into_iter().flat_map(Map::keys).filter(unknown) {
                    self.push(below(name), MASK.into());
                }
            }
            (None, inner @ Value::Object(_), Some(table)) => {
                for (name, value) in table {
                    self.look(&below(name), Some(value), inner);
                }
            }
            _ => self.add(path, value, schema),
        }
    }

    /// A value that is not looked into, or the default in its place.
    fn add(&mut self, path: &[String], value: Option<&Value>, schema: &Value) {
        match value.or_else(|| schema.get("default")) {
            None | Some(Value::Null) => {}
            Some(Value::Object(table)) if table.is_empty() => {}
            Some(value) => self.push(path.to_owned(), masked(value, schema, self.root)),
        }
    }

    fn push(&mut self, path: Vec<String>, value: Value) {
        let origin = self.layers.origin(&path.join("."));
        self.settings.push(Setting { path, value, origin });
    }
}

fn is_secret(shape: &Value) -> bool {
    shape["x-secret"] == Value::Bool(true)
}

/// What is behind a reference, behind "this or nothing", or behind the `type` of `value`.
fn shape<'s>(schema: &'s Value, value: Option<&Value>, root: &'s Value) -> &'s Value {
    if let Some(pointer) = schema["$ref"].as_str() {
        let target = root.pointer(pointer.trim_start_matches('#'));
        return target.map_or(schema, |target| shape(target, value, root));
    }
    let options: Vec<&Value> = ["anyOf", "oneOf"]
        .into_iter()
        .filter_map(|part| schema[part].as_array())
        .flatten()
        .filter(|option| option["type"] != "null")
        .collect();
    let of_type = |option: &&&Value| {
        let wanted = &option["properties"]["type"]["const"];
        !wanted.is_null() && value.is_some_and(|value| value["type"] == *wanted)
    };
    match options[..] {
        [only] => shape(only, value, root),
        _ => options.iter().find(of_type).copied().unwrap_or(schema),
    }
}

/// `value` without secrets, the private part of addresses, and what `schema` does not know.
fn masked(value: &Value, schema: &Value, root: &Value) -> Value {
    let shape = shape(schema, Some(value), root);
    if is_secret(shape) || (shape["x-private-path"] == Value::Bool(true) && value.is_object()) {
        return reference(value);
    }
    match value {
        Value::String(text) if shape["x-private-path"] == Value::Bool(true) => host(text).into(),
        Value::Array(items) => {
            let schema = list_items(shape);
            items.iter().map(|item| masked(item, schema, root)).collect()
        }
        Value::Object(table) => {
            table.iter().map(|(k, v)| (k.clone(), part(k, v, shape, root))).collect()
        }
        plain => plain.clone(),
    }
}

/// What the items of a list are, also where the list is one of several forms.
fn list_items(shape: &Value) -> &Value {
    let options = shape["anyOf"].as_array().into_iter().flatten();
    let list = options.chain([shape]).find(|option| option["items"].is_object());
    list.map_or(shape, |list| &list["items"])
}

fn part(name: &str, value: &Value, shape: &Value, root: &Value) -> Value {
    let options = shape["anyOf"].as_array().into_iter().flatten();
    let known = options.chain([shape]).find_map(|option| option["properties"].get(name));
    match known.or_else(|| shape.get("additionalProperties").filter(|inner| inner.is_object())) {
        Some(schema) => masked(value, schema, root),
        None => MASK.into(),
    }
}

/// A reference to a secret is no secret, nor is a list of them; anything else may be one.
fn reference(value: &Value) -> Value {
    let is_one = |table: &Map<String, Value>| {
        let known = |name: &String| matches!(name.as_str(), "env" | "file" | "credential");
        table.len() == 1 && table.iter().all(|(name, value)| known(name) && value.is_string())
    };
    match value {
        Value::Object(table) if is_one(table) => value.clone(),
        Value::Array(secrets) => secrets.iter().map(reference).collect(),
        _ => MASK.into(),
    }
}

/// Scheme and host of an address: the rest of many webhooks' addresses is a secret.
fn host(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return MASK.into() };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let host = rest[..end].rsplit('@').next().unwrap_or_default();
    match rest[end..].trim_start_matches('/').is_empty() {
        true => format!("{scheme}://{host}{}", &rest[end..]),
        false => format!("{scheme}://{host}/{MASK}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scheme_and_host_of_an_address_are_shown() {
        for (text, shown) in [
            ("https://h.example:8443/hidden?hidden", "https://h.example:8443/***"),
            ("https://user:hidden@h.example/", "https://h.example/"),
            ("https://h.example?hidden", "https://h.example/***"),
            ("hidden", "***"),
        ] {
            assert_eq!(host(text), shown);
        }
    }
}
