//! The keys of a body that a decoder makes nothing of: how a product's new keys are found.
//!
//! Guarantees: total, for any bytes; at most [`MOST`] names of at most [`LONGEST`] characters, each
//! once and on one line, in the order of the body. It looks at the outermost object only, and at
//! no value.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::one_line;

/// Most names that are told.
const MOST: usize = 100;
/// Longest name that is told, in characters.
const LONGEST: usize = 80;

/// The outermost keys of `body` that `known` does not accept.
pub(super) fn keys(body: &[u8], known: impl Fn(&str) -> bool) -> Vec<String> {
    let text = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let mut found = Vec::new();
    // What was found before the body broke off is worth telling too.
    let _ = serde_json::Deserializer::from_slice(text)
        .deserialize_map(Outermost { known: &known, found: &mut found });
    found
}

struct Outermost<'k> {
    known: &'k dyn Fn(&str) -> bool,
    found: &'k mut Vec<String>,
}

impl<'de> Visitor<'de> for Outermost<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            map.next_value::<IgnoredAny>()?;
            let name: String = one_line(&key).chars().take(LONGEST).collect();
            if !(self.known)(&key) && self.found.len() < MOST && !self.found.contains(&name) {
                self.found.push(name);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_strange_outermost_keys_are_told_and_each_once() {
        let body = br#"{"known":{"inner":1},"new":[1],"new":2,"a\nb":{},"":0}"#;
        assert_eq!(keys(body, |key| key == "known"), ["new", "a b", ""]);
        assert_eq!(keys(br#"{"first":1,"broken"#, |_| false), ["first"]);
        assert!(keys(b"[1]", |_| false).is_empty());
        let many: Vec<String> = (0..2 * MOST).map(|n| format!("\"k{n}\":0")).collect();
        assert_eq!(keys(format!("{{{}}}", many.join(",")).as_bytes(), |_| false).len(), MOST);
    }

    proptest! {
        #[test]
        fn no_body_panics_and_every_name_is_short(body: Vec<u8>, key in "\\PC{0,300}") {
            keys(&body, |_| false);
            let object = serde_json::json!({ key: 1 }).to_string();
            for name in keys(object.as_bytes(), |_| false) {
                prop_assert!(name.chars().count() <= LONGEST && !name.contains(char::is_control));
            }
        }
    }
}
