//! A place in a JSON body: a pointer (`/a/0/b`) or names with dots (`a.0.b`).
//!
//! Guarantees: following a path is total; `*` stands for every item of a list. Not JSONPath: no
//! filters, no recursion.

use std::borrow::Cow;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Longest path in steps; also bounds the recursion below.
const LONGEST: usize = 32;

/// One place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// A JSON pointer's steps (RFC 6901), unescaped.
    Pointer(Vec<String>),
    /// Names with dots. Where a key itself has dots (`kibana.alert.severity`) the longest match
    /// from the left is not assumed: every split is tried, whole names first.
    Dotted(String),
}

impl Path {
    /// The values at this place: none, one, or with `*` several.
    pub fn find<'v>(&self, body: &'v Value) -> Vec<&'v Value> {
        let mut found = Vec::new();
        match self {
            Self::Pointer(steps) => follow(body, steps, &mut found),
            Self::Dotted(names) => search(body, names, &mut found),
        }
        found
    }

    /// Whether this place is, or may be, inside the outermost key `key`.
    pub fn is_below(&self, key: &str) -> bool {
        match self {
            Self::Pointer(steps) => steps.first().is_none_or(|first| first == key),
            Self::Dotted(names) => {
                names.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
        }
    }
}

fn follow<'v>(value: &'v Value, steps: &[String], found: &mut Vec<&'v Value>) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(value);
        return;
    };
    inner(value, step).for_each(|inner| follow(inner, rest, found));
}

/// What one step leads to.
fn inner<'v>(value: &'v Value, step: &str) -> Box<dyn Iterator<Item = &'v Value> + 'v> {
    match value {
        Value::Object(map) => Box::new(map.get(step).into_iter()),
        Value::Array(items) if step == "*" => Box::new(items.iter()),
        Value::Array(items) => {
            let index = step.parse::<usize>().ok();
            Box::new(index.and_then(|index| items.get(index)).into_iter())
        }
        _ => Box::new(std::iter::empty()),
    }
}

fn search<'v>(value: &'v Value, names: &str, found: &mut Vec<&'v Value>) {
    let before = found.len();
    found.extend(inner(value, names));
    for (at, _) in names.match_indices('.') {
        if found.len() > before {
            return;
        }
        inner(value, &names[..at]).for_each(|inner| search(inner, &names[at + 1..], found));
    }
}

impl FromStr for Path {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.matches(['/', '.']).count() >= LONGEST {
            return Err(format!("`{text}` has more than {LONGEST} steps"));
        }
        if text == "$" || text.starts_with("$.") || text.starts_with("$[") {
            return Err(format!(
                "`{text}` is JSONPath; write \"/alert/severity\" or \"alert.severity\""
            ));
        }
        match text.strip_prefix('/') {
            Some(steps) => {
                let plain = |step: &str| step.replace("~1", "/").replace("~0", "~");
                Ok(Self::Pointer(steps.split('/').map(plain).collect()))
            }
            None if text.split('.').any(str::is_empty) => Err(format!(
                "`{text}` is not a path; write \"/alerts/0/labels/severity\" or \"alert.severity\""
            )),
            None => Ok(Self::Dotted(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Path {
    fn schema_name() -> Cow<'static, str> {
        "Path".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let examples = ["/alerts/0/labels/severity", "alert.severity"];
        json_schema!({ "type": "string", "examples": examples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn at<'v>(path: &str, body: &'v Value) -> Vec<&'v Value> {
        path.parse::<Path>().unwrap().find(body)
    }

    #[test]
    fn pointers_and_dots_lead_to_the_same_place() {
        let body = json!({ "a": [{ "b": 1 }, { "b": 2 }], "x/y": { "~": 3 }, "k.l": { "m.n": 4 } });
        for path in ["/a/1/b", "a.1.b"] {
            assert_eq!(at(path, &body), [&json!(2)], "{path}");
        }
        for path in ["/a/*/b", "a.*.b"] {
            assert_eq!(at(path, &body), [&json!(1), &json!(2)], "{path}");
        }
        assert_eq!(at("/x~1y/~0", &body), [&json!(3)]);
        assert_eq!(at("k.l.m.n", &body), [&json!(4)]);
        for path in ["/a/b", "/a/-1/b", "a.2.b", "/a/01x", "b", "/"] {
            assert!(at(path, &body).is_empty(), "{path}");
        }
    }

    #[test]
    fn nonsense_is_refused_at_load() {
        for bad in ["", ".", "a..b", &"a.".repeat(40)] {
            assert!(bad.parse::<Path>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[a-c./~*0-9é]{0,20}") {
            let body = json!({ "a": { "b": [1, { "c": 2 }] }, "é": { "é.a": 1 } });
            let _ = text.parse::<Path>().map(|path| path.find(&body).len());
        }
    }
}
