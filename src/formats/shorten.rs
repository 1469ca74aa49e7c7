//! A JSON object that is too long, made to fit.
//!
//! Guarantees: the result is JSON with the keys in their order; whatever takes most room goes first:
//! a list loses items from its end (never the first), a text its end (never the first 64 bytes);
//! `siemgate_shortened` names by pointers what was cut. Everything else stays as it was written,
//! except that bytes which are not UTF-8 become `U+FFFD`. The work is bounded: after some cuts
//! everything is cut at once.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::text::cut;

/// The key that says what is missing.
const MARK: &str = "siemgate_shortened";
/// Texts up to this length are never cut.
const TEXT: usize = 64;
/// Nesting below this is kept or dropped as a whole.
const DEPTH: usize = 8;
/// Cuts one by one, before everything is cut at once.
const CUTS: usize = 64;
/// Most pointers that are told.
const TOLD: usize = 16;

/// `json`, an object, in at most `room` bytes; `None` where that cannot be.
pub fn json(json: &[u8], room: usize) -> Option<String> {
    let text = String::from_utf8_lossy(json);
    let mut root = Node::parse(&text, 0)?;
    let mut told = BTreeSet::new();
    for _ in 0..CUTS {
        let line = marked(&root, &told)?;
        if line.len() <= room {
            return Some(line);
        }
        let (_, path) = root.largest("")?;
        let to = root.at(&path)?;
        to.cut(line.len() - room);
        told.insert(path);
    }
    root.cut_all();
    told.insert("/".into());
    marked(&root, &told).filter(|line| line.len() <= room)
}

/// The object with its mark.
fn marked(root: &Node<'_>, told: &BTreeSet<String>) -> Option<String> {
    let mut line = String::new();
    root.write(&mut line);
    let told: Vec<&String> = told.iter().take(TOLD).collect();
    if !told.is_empty() {
        line.strip_suffix('}')?;
        line.pop();
        line.push_str(if line.len() > 1 { "," } else { "" });
        line.push_str(&format!("\"{MARK}\":{}}}", serde_json::to_string(&told).ok()?));
    }
    line.starts_with('{').then_some(line)
}

enum Node<'j> {
    Object(Vec<(String, Node<'j>)>),
    List(Vec<Node<'j>>),
    Text(String),
    /// As it was written.
    Other(&'j str),
}

impl<'j> Node<'j> {
    fn parse(json: &'j str, depth: usize) -> Option<Self> {
        let below = |raw: &'j RawValue| Self::parse(raw.get(), depth + 1);
        Some(match json.as_bytes().first()? {
            b'{' if depth < DEPTH => {
                let Pairs(pairs) = serde_json::from_str(json).ok()?;
                let pairs = pairs.into_iter().map(|(key, raw)| Some((key, below(raw)?)));
                Self::Object(pairs.collect::<Option<_>>()?)
            }
            b'[' if depth < DEPTH => {
                let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
                Self::List(items.into_iter().map(below).collect::<Option<_>>()?)
            }
            // Half a surrogate pair is valid JSON and no text.
            b'"' => serde_json::from_str(json).map_or(Self::Other(json), Self::Text),
            _ => Self::Other(json),
        })
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Object(pairs) => {
                for (index, (key, value)) in pairs.iter().enumerate() {
                    out.push(if index == 0 { '{' } else { ',' });
                    quoted(key, out);
                    out.push(':');
                    value.write(out);
                }
                out.push_str(if pairs.is_empty() { "{}" } else { "}" });
            }
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    out.push(if index == 0 { '[' } else { ',' });
                    item.write(out);
                }
                out.push_str(if items.is_empty() { "[]" } else { "]" });
            }
            Self::Text(text) => quoted(text, out),
            Self::Other(json) => out.push_str(json),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Object(pairs) => {
                pairs.iter().map(|(key, value)| key.len() + 4 + value.size()).sum::<usize>() + 2
            }
            Self::List(items) => items.iter().map(|item| item.size() + 1).sum::<usize>() + 2,
            Self::Text(text) => text.len() + 2,
            Self::Other(json) => json.len(),
        }
    }

    /// The pointer to what takes most room of all that can be cut, and its size.
    fn largest(&self, path: &str) -> Option<(usize, String)> {
        let below: Option<(usize, String)> = match self {
            Self::Object(pairs) => pairs
                .iter()
                .filter_map(|(key, value)| value.largest(&format!("{path}/{}", escaped(key))))
                .max_by_key(|(size, _)| *size),
            Self::List(items) => items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| item.largest(&format!("{path}/{index}")))
                .max_by_key(|(size, _)| *size),
            _ => None,
        };
        let own = match self {
            Self::List(items) if items.len() > 1 => Some((self.size(), path.to_owned())),
            Self::Text(text) if text.len() > TEXT => Some((self.size(), path.to_owned())),
            _ => None,
        };
        own.or(below)
    }

    /// What a pointer of `largest` leads to.
    fn at(&mut self, path: &str) -> Option<&mut Self> {
        let Some(rest) = path.strip_prefix('/') else { return Some(self) };
        let (name, rest) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        match self {
            // Of equal keys the first: `largest` saw the same.
            Self::Object(pairs) => {
                let candidates = pairs.iter_mut().filter(|(key, _)| escaped(key) == name);
                let best =
                    candidates.max_by_key(|(_, value)| value.largest("").map(|(size, _)| size));
                best?.1.at(rest)
            }
            Self::List(items) => items.get_mut(name.parse::<usize>().ok()?)?.at(rest),
            _ => None,
        }
    }

    /// Give up about so many bytes.
    fn cut(&mut self, bytes: usize) {
        match self {
            Self::List(items) => {
                let mut gained = 0;
                while items.len() > 1 && gained < bytes {
                    gained += items.pop().map_or(0, |item| item.size() + 1);
                }
            }
            Self::Text(text) => {
                let end = text.len().saturating_sub(bytes).max(TEXT);
                text.truncate(cut(text, end).len());
            }
            _ => {}
        }
    }

    fn cut_all(&mut self) {
        self.cut(usize::MAX);
        match self {
            Self::Object(pairs) => pairs.iter_mut().for_each(|(_, value)| value.cut_all()),
            Self::List(items) => items.iter_mut().for_each(Self::cut_all),
            _ => {}
        }
    }
}

fn quoted(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// A key as a part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// An object with its order and its repeated keys.
struct Pairs<'j>(Vec<(String, &'j RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
