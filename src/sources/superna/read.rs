//! One pass over a body: picks the values of the known keys, skips everything else unread.
//!
//! Guarantees: total and bounded. Scalars, lists, and objects are accepted for every key; nesting
//! below that is skipped without recursion, so depth cannot exhaust the stack; at most
//! [`KEPT`] values of a list are kept, all are counted. What a value means is said elsewhere.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::keys::{Field, Keys, squashed};
use crate::core::texts::Texts;

/// Most values of one list that are kept. A mass encryption may name a million files.
pub(super) const KEPT: usize = 1_000;

/// Most keys of an object that are looked at to describe it.
const PARTS: usize = 16;

/// The values of one key as text.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// The first [`KEPT`] of them; never empty texts.
    pub kept: Texts,
    /// How many there were.
    pub count: u64,
}

impl Values {
    fn push(&mut self, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        self.count += 1;
        if self.kept.count() < KEPT {
            self.kept.push(text);
        }
    }
}

/// What a body holds, by fact.
#[derive(Debug, Default)]
pub(super) struct Found([Option<(usize, Values)>; Field::COUNT]);

impl Found {
    /// Whether the body has a non-empty value for `field`.
    pub fn has(&self, field: Field) -> bool {
        self.0[field as usize].is_some()
    }

    /// The values of `field`, taken out.
    pub fn take(&mut self, field: Field) -> Values {
        self.0[field as usize].take().map(|(_, values)| values).unwrap_or_default()
    }

    /// The first value of `field`, taken out.
    pub fn take_first(&mut self, field: Field) -> Option<String> {
        self.take(field).kept.into_first()
    }

    /// Keep `values` unless a better key has given some. A repeated key replaces, as in JSON.
    fn put(&mut self, field: Field, rank: usize, values: Values) {
        let slot = &mut self.0[field as usize];
        if values.count > 0 && slot.as_ref().is_none_or(|(best, _)| rank <= *best) {
            *slot = Some((rank, values));
        }
    }
}

/// Read a JSON object; `None` when `body` is anything else.
pub(super) fn read(body: &[u8], keys: &Keys) -> Option<Found> {
    // Some Windows tools put a byte order mark before JSON.
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let mut json = serde_json::Deserializer::from_slice(body);
    let found = json.deserialize_map(Object { keys }).ok()?;
    json.end().ok().map(|()| found)
}

struct Object<'k> {
    keys: &'k Keys,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Found;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event, which is a JSON object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut found = Found::default();
        while let Some(key) = map.next_key_seed(Key(self.keys))? {
            let Some((field, rank)) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let mut values = Values::default();
            map.next_value_seed(Into { values: &mut values, field, level: Level::Value })?;
            found.put(field, rank, values);
        }
        Ok(found)
    }
}

/// Reads a key without copying it.
struct Key<'k>(&'k Keys);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<(Field, usize)>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<(Field, usize)>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.field(key))
    }
}

/// Reads any value of `field` into `values`.
struct Into<'v> {
    values: &'v mut Values,
    field: Field,
    level: Level,
}

/// How deep a value stands; nothing deeper than a part is read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// The value of a known key.
    Value,
    /// An item of its list.
    Item,
    /// A part of an object that is the value or an item.
    Part,
}

impl<'de> DeserializeSeed<'de> for Into<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Into<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.values.push(text);
        Ok(())
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.visit_str(if value { "true" } else { "false" })
    }
    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        self.visit_str(&number.to_string())
    }
    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        self.visit_str(&number.to_string())
    }
    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        self.visit_str(&number.to_string())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.level > Level::Value {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let (values, field, level) = (self.values, self.field, Level::Item);
        while list.next_element_seed(Into { values: &mut *values, field, level })?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (field, level) = (self.field, Level::Part);
        let mut parts = Vec::new();
        while self.level < Level::Part && parts.len() < PARTS {
            let Some(key) = map.next_key::<String>()? else { break };
            let mut values = Values::default();
            map.next_value_seed(Into { values: &mut values, field, level })?;
            parts.extend(values.kept.into_first().map(|text| (squashed(&key), text)));
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.visit_str(&described(field, &parts))
    }
}

/// How an object is written as one text: its telling parts, else all of them.
fn described(field: Field, parts: &[(Box<[u8]>, String)]) -> String {
    let (separator, wanted): (&str, &[&[&str]]) = match field {
        // As the product itself writes a share: cluster:share:access zone.
        Field::Shares => (
            ":",
            &[
                &["cluster", "clustername", "ne", "networkelement"],
                &["share", "sharename", "name", "export", "path"],
                &["zone", "accesszone", "zonename"],
            ],
        ),
        Field::Buckets => ("/", &[&["namespace", "ns"], &["bucket", "bucketname", "name"]]),
        _ => (
            ":",
            &[&["username", "name", "path", "file", "ip", "ipaddress", "address", "value", "id"]],
        ),
    };
    let part = |names: &&[&str]| {
        let of = |name: &&str| parts.iter().find(|(key, _)| **key == *name.as_bytes());
        names.iter().find_map(of).map(|(_, text)| text.as_str())
    };
    if field == Field::Marker {
        return part(&&["simulated"][..])
            .map(|flag| format!("simulated={flag}"))
            .unwrap_or_default();
    }
    let telling: Vec<&str> = wanted.iter().filter_map(part).collect();
    if telling.is_empty() {
        return parts.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(separator);
    }
    telling.join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn found(body: &str) -> Found {
        read(body.as_bytes(), &Keys::new("s", &BTreeMap::new()).unwrap()).unwrap()
    }

    #[test]
    fn scalars_lists_and_objects_are_read_alike() {
        let shares = |body: &str| found(body).take(Field::Shares).kept.into_vec();
        assert_eq!(shares(r#"{"shares":"a"}"#), ["a"]);
        assert_eq!(shares(r#"{"shares":["a",7,null,"",true,[["b"]]]}"#), ["a", "7", "true"]);
        let object =
            r#"{"shares":[{"zone":"System","share":"fin","cluster":"c8","size":1},{"odd":"x"}]}"#;
        assert_eq!(shares(object), ["c8:fin:System", "x"]);
        assert_eq!(shares(r#"{"shares":{"name":"fin"}}"#), ["fin"]);
        let user = r#"{"user":{"sid":"S-1","name":"AD\\x"}}"#;
        assert_eq!(found(user).take_first(Field::User).as_deref(), Some("AD\\x"));
    }

    #[test]
    fn the_better_key_wins_wherever_it_stands() {
        for body in [r#"{"user":"S-1","userName":"n"}"#, r#"{"userName":"n","user":"S-1"}"#] {
            assert_eq!(found(body).take_first(Field::User).as_deref(), Some("n"));
        }
        let empty = r#"{"userName":null,"user":"S-1"}"#;
        assert_eq!(found(empty).take_first(Field::User).as_deref(), Some("S-1"));
        let twice = r#"{"user":"a","user":"b"}"#;
        assert_eq!(found(twice).take_first(Field::User).as_deref(), Some("b"));
    }

    #[test]
    fn depth_below_a_known_key_is_skipped() {
        for (open, close) in [("[", "]"), ("{\"name\":", "}")] {
            let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
            let body = format!(r#"{{"shares":{deep},"user":"u","other":{deep}}}"#);
            assert_eq!(found(&body).take_first(Field::User).as_deref(), Some("u"));
        }
    }

    #[test]
    fn long_lists_are_counted_but_not_kept() {
        let body = format!(r#"{{"files":["{}"]}}"#, vec!["f"; 5_000].join("\",\""));
        let files = found(&body).take(Field::Files);
        assert_eq!((files.kept.count(), files.count), (KEPT, 5_000));
    }
}
