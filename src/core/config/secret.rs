//! Secrets: references in the configuration, values in memory only.
//!
//! Guarantees: the value is never in a file of `config.d`, never printed by `Debug`, and wiped
//! when dropped. Resolving happens when the configuration is read, so a reload reads it again.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

const A_REFERENCE: &str = "a secret is a reference: { env = \"NAME\" }, { file = \"/path\" } or { credential = \"name\" }";
/// Longest secret file read; anything longer is not a key.
pub(super) const MAX_BYTES: u64 = 64 * 1024;

/// A secret, given as `{ env = "NAME" }`, `{ file = "/path" }` or `{ credential = "name" }`.
#[derive(Clone)]
pub struct Secret {
    value: SecretString,
    origin: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Reference {
    Env(String),
    File(PathBuf),
    Credential(String),
}

impl Secret {
    /// The value. Callers put it into a request and nowhere else.
    pub fn expose(&self) -> &str {
        self.value.expose_secret()
    }

    /// Replace the value wherever it occurs in `text`: for replies that echo what they were sent.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !self.expose().is_empty() && text.contains(self.expose()) {
            text.replace(self.expose(), "***").into()
        } else {
            text.into()
        }
    }

    fn resolve(reference: &Reference) -> Result<Self, String> {
        let (origin, value) = match reference {
            Reference::Env(name) => (format!("environment variable {name}"), from_env(name)?),
            Reference::File(path) => (format!("file {}", path.display()), from_file(path)?),
            Reference::Credential(name) => (format!("credential {name}"), from_credential(name)?),
        };
        let value = value.trim_end_matches(['\r', '\n']).to_owned();
        if value.is_empty() {
            return Err(format!("{origin} is empty: put the secret into it"));
        }
        Ok(Self { value: value.into(), origin })
    }
}

// The one place that reads the environment for a secret.
#[allow(clippy::disallowed_methods)]
fn from_env(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| {
        format!("environment variable {name} is not set; set it for the service or use {{ file = \"…\" }}")
    })
}

fn from_file(path: &Path) -> Result<String, String> {
    let told =
        |error: std::io::Error| format!("cannot read the secret file {}: {error}", path.display());
    let mut text = String::new();
    // A device says no size, and may have no end.
    let file = std::fs::File::open(path).map_err(told)?;
    let size = file.metadata().map_err(told)?.len();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    let size = size.max(text.len() as u64);
    if size > MAX_BYTES {
        return Err(format!(
            "{} has {size} bytes or more; a secret has at most {MAX_BYTES}",
            path.display()
        ));
    }
    read.map_err(told)?;
    Ok(text)
}

#[allow(clippy::disallowed_methods)]
fn from_credential(name: &str) -> Result<String, String> {
    if name.is_empty() || name.contains('/') {
        return Err(format!("`{name}` is not a credential's name"));
    }
    let folder = std::env::var("CREDENTIALS_DIRECTORY").map_err(|_| {
        format!("credential {name} needs systemd's LoadCredential={name}:… in the unit (CREDENTIALS_DIRECTORY is not set)")
    })?;
    from_file(&Path::new(&folder).join(name))
}

/// One secret, or two while the sender changes from one to the other: either is accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// All of them, the newer first.
    pub fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }

    /// The one that we use ourselves.
    pub fn first(&self) -> Option<&Secret> {
        self.0.first()
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrTwo;
        impl<'de> Visitor<'de> for OneOrTwo {
            type Value = Secrets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret, or a list of two")
            }

            // The value is not repeated: it may be the secret itself.
            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Secrets, E> {
                Err(E::custom(A_REFERENCE))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Secrets, A::Error> {
                Secret::deserialize(MapAccessDeserializer::new(map)).map(|one| Secrets(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Secrets, A::Error> {
                let secrets = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                match secrets.len() {
                    1 | 2 => Ok(Secrets(secrets)),
                    _ => Err(A::Error::custom("write one secret, or a list of two")),
                }
            }
        }
        deserializer.deserialize_any(OneOrTwo)
    }
}

impl JsonSchema for Secrets {
    fn schema_name() -> Cow<'static, str> {
        "Secrets".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = Secret::json_schema(generator);
        json_schema!({
            "anyOf": [one, { "type": "array", "items": one, "minItems": 1, "maxItems": 2 }],
            "x-secret": true
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}: ***)", self.origin)
    }
}

impl PartialEq for Secret {
    // Only to find out whether a reload changed a sink; never for authentication.
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let reference = Reference::deserialize(value).map_err(|_| {
            // Deliberately without the value: it may be the secret itself.
            D::Error::custom(A_REFERENCE)
        })?;
        Self::resolve(&reference).map_err(D::Error::custom)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "A reference to a secret.",
            "properties": {
                "env": { "type": "string", "description": "Name of an environment variable." },
                "file": { "type": "string", "description": "Path of a file that holds the secret." },
                "credential": { "type": "string", "description": "Name of a systemd credential." }
            },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
            "x-secret": true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_literal_is_refused_without_repeating_it() {
        let error = serde_json::from_value::<Secret>(json!("hunter2")).unwrap_err().to_string();
        assert!(error.contains("reference") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_file_is_read_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let secret: Secret = serde_json::from_value(json!({ "file": file.path() })).unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(secret.mask("bad key hunter2!"), "bad key ***!");
    }

    #[test]
    fn a_device_without_an_end_is_no_secret() {
        let error = serde_json::from_value::<Secret>(json!({ "file": "/dev/zero" })).unwrap_err();
        assert!(error.to_string().contains("a secret has at most"), "{error}");
    }

    #[test]
    fn one_secret_or_two_are_read_and_a_literal_is_not_repeated() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2").unwrap();
        let one = json!({ "file": file.path() });
        for (value, count) in [(one.clone(), 1), (json!([one]), 1), (json!([one, one]), 2)] {
            let secrets: Secrets = serde_json::from_value(value).unwrap();
            assert_eq!(secrets.iter().count(), count);
            assert!(secrets.iter().all(|secret| secret.expose() == "hunter2"));
        }
        for bad in [json!([]), json!([one, one, one]), json!("hunter2"), json!(["hunter2"])] {
            let error = serde_json::from_value::<Secrets>(bad).unwrap_err().to_string();
            assert!(error.contains("secret") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = serde_json::from_value::<Secret>(json!({ "env": "SIEMGATE_NO_SUCH" }));
        assert!(error.unwrap_err().to_string().contains("SIEMGATE_NO_SUCH is not set"));
    }
}
