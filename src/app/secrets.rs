//! Every secret that the configuration refers to, and whether it can be read.
//!
//! Guarantees: no value is in it. It asks the same code that `run` reads secrets with.

use std::path::Path;

use serde_json::Value;

use super::effective::effective;
use crate::core::config::{Layers, Place, Problems, Secret};

/// One reference.
#[derive(Clone, Debug)]
pub struct SecretUse {
    /// The key that it is the value of.
    pub key: String,
    /// `env`, `file` or `credential`.
    pub kind: &'static str,
    /// The variable, path or credential.
    pub name: String,
    /// Where it was set.
    pub place: Option<Place>,
    /// Why it cannot be used, or what is wrong with its file.
    pub trouble: Option<String>,
}

/// All of them in the folder `dir` and the environment, in the order of `config show`.
pub fn secrets(dir: &Path) -> Result<Vec<SecretUse>, Problems> {
    let warnings = Layers::read(dir)?.warnings();
    let mut found = Vec::new();
    for setting in effective(dir)? {
        look(&setting.path.join("."), &setting.value, setting.origin.as_ref(), &mut found);
    }
    for secret in found.iter_mut().filter(|secret| secret.trouble.is_none()) {
        let warning = warnings.iter().find(|warning| warning.key == secret.key);
        secret.trouble = warning.map(|warning| format!("{}: {}", warning.message, warning.help));
    }
    Ok(found)
}

fn look(key: &str, value: &Value, place: Option<&Place>, found: &mut Vec<SecretUse>) {
    match value {
        Value::Object(table) => match reference(value) {
            Some((kind, name)) => {
                let trouble = serde_json::from_value::<Secret>(value.clone()).err();
                let trouble = trouble.map(|error| error.to_string());
                let (key, place) = (key.to_owned(), place.cloned());
                found.push(SecretUse { key, kind, name: name.to_owned(), place, trouble });
            }
            None => {
                for (name, value) in table {
                    look(&format!("{key}.{name}"), value, place, found);
                }
            }
        },
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                look(&format!("{key}[{index}]"), item, place, found);
            }
        }
        _ => {}
    }
}

/// Kind and name of a reference to a secret. Nothing else has one of these keys alone.
fn reference(value: &Value) -> Option<(&'static str, &str)> {
    let table = value.as_object().filter(|table| table.len() == 1)?;
    let kinds = ["env", "file", "credential"].into_iter();
    kinds.filter_map(|kind| Some((kind, table.get(kind)?.as_str()?))).next()
}
