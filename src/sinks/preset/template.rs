//! A body as a structure: compiled once, written for every event straight into the request.
//!
//! Guarantees: what is written is valid JSON whatever an event holds, because nothing is ever pasted
//! into a text of JSON; what does not depend on the event is written when the sink is built. No
//! conditions, loops or arithmetic: what needs them is a transform in a route, or code.

use serde_json::Value;

use super::hole::{Hole, quoted, split};
use super::view::View;

/// A part of a body.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// JSON that is the same for every event.
    Raw(Vec<u8>),
    /// The value of a placeholder, with its type.
    Hole(Hole),
    /// A text with placeholders in it.
    Text(Vec<Part>),
    /// Keys, each as JSON with its colon, and their values.
    Object(Vec<(Vec<u8>, Node)>),
    /// Items.
    Array(Vec<Node>),
}

/// A part of a text.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Words of the preset.
    Words(String),
    /// A placeholder.
    Hole(Hole),
}

/// The value of a preset's field: `Err` when there is no such field, `Ok(None)` when it is not set.
pub(super) type Lookup<'l> = &'l dyn Fn(&str) -> Result<Option<Value>, ()>;

/// A structure that cannot be used, and why.
pub(super) type Wrong = String;

impl Node {
    /// Compile `value`; `None` when it is left out because an optional field is not set.
    pub fn compile(value: &Value, fields: Lookup<'_>) -> Result<Option<Self>, Wrong> {
        Ok(Some(match value {
            Value::String(text) => match text_node(text, fields)? {
                Some(node) => node,
                None => return Ok(None),
            },
            Value::Array(items) => {
                let mut nodes = Vec::new();
                for item in items {
                    nodes.extend(Self::compile(item, fields)?);
                }
                Self::Array(nodes).folded()
            }
            Value::Object(table) => {
                let mut nodes = Vec::new();
                for (name, value) in table {
                    if let Some(node) = Self::compile(value, fields)? {
                        let mut key = Vec::new();
                        quoted(&mut key, name);
                        key.push(b':');
                        nodes.push((key, node));
                    }
                }
                Self::Object(nodes).folded()
            }
            plain => Self::Raw(plain.to_string().into_bytes()),
        }))
    }

    /// Constant all through: written now.
    fn folded(self) -> Self {
        let constant = match &self {
            Self::Array(items) => items.iter().all(Self::is_raw),
            Self::Object(pairs) => pairs.iter().all(|(_, node)| node.is_raw()),
            _ => false,
        };
        if !constant {
            return self;
        }
        let mut out = Vec::new();
        self.raw(&mut out);
        Self::Raw(out)
    }

    fn is_raw(&self) -> bool {
        matches!(self, Self::Raw(_))
    }

    /// Write what is constant; only called where all is.
    fn raw(&self, out: &mut Vec<u8>) {
        match self {
            Self::Raw(bytes) => out.extend_from_slice(bytes),
            Self::Array(items) => {
                list(out, [b'[', b']'], items, |item, out| {
                    item.raw(out);
                    true
                });
            }
            Self::Object(pairs) => {
                list(out, [b'{', b'}'], pairs, |(key, node), out| {
                    out.extend_from_slice(key);
                    node.raw(out);
                    true
                });
            }
            Self::Hole(_) | Self::Text(_) => {}
        }
    }

    /// Write it for an event; false when an optional value is missing, and nothing was written.
    pub fn write(&self, out: &mut Vec<u8>, view: &View<'_>) -> bool {
        match self {
            Self::Raw(bytes) => out.extend_from_slice(bytes),
            Self::Hole(hole) => match hole.value(view) {
                Some(value) if hole.as_text => value.quoted(out, hole.most, view),
                Some(value) => value.json(out, hole.most, view),
                None if hole.optional => return false,
                None => out.extend_from_slice(b"null"),
            },
            Self::Text(parts) => match text(parts, view) {
                Some(text) => quoted(out, &text),
                None => return false,
            },
            Self::Array(items) => list(out, [b'[', b']'], items, |item, out| item.write(out, view)),
            Self::Object(pairs) => list(out, [b'{', b'}'], pairs, |(key, node), out| {
                out.extend_from_slice(key);
                node.write(out, view)
            }),
        }
        true
    }
}

/// Items between brackets, with commas; one that says false is taken back.
fn list<T>(
    out: &mut Vec<u8>,
    [open, close]: [u8; 2],
    items: &[T],
    mut write: impl FnMut(&T, &mut Vec<u8>) -> bool,
) {
    out.push(open);
    let start = out.len();
    for item in items {
        let before = out.len();
        if before > start {
            out.push(b',');
        }
        if !write(item, out) {
            out.truncate(before);
        }
    }
    out.push(close);
}

/// The text of `parts` without the lines in which an optional value is missing; `None` when no line
/// is left.
pub(super) fn text(parts: &[Part], view: &View<'_>) -> Option<String> {
    let mut lines = Lines::default();
    for part in parts {
        match part {
            Part::Words(words) => lines.words(words),
            Part::Hole(hole) => match hole.value(view) {
                Some(value) => value.text(&mut lines.line, hole.most, view),
                None => lines.lacks |= hole.optional,
            },
        }
    }
    lines.end();
    lines.text
}

/// The lines of a text. Only the preset's own line breaks part them, not those of values.
#[derive(Default)]
struct Lines {
    text: Option<String>,
    line: String,
    /// The line lacks a value, and is left out.
    lacks: bool,
}

impl Lines {
    fn words(&mut self, words: &str) {
        for (index, words) in words.split('\n').enumerate() {
            if index > 0 {
                self.end();
            }
            self.line.push_str(words);
        }
    }

    fn end(&mut self) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.lacks) {
            return;
        }
        match &mut self.text {
            Some(text) => text.extend(["\n", &line]),
            None => self.text = Some(line),
        }
    }
}

fn text_node(text: &str, fields: Lookup<'_>) -> Result<Option<Node>, Wrong> {
    if let Some(inner) = only_placeholder(text) {
        return Ok(match value_of(inner, fields)? {
            Named::Constant(value) => Some(Node::Raw(value.to_string().into_bytes())),
            Named::Unset => None,
            Named::Hole(hole) => Some(Node::Hole(hole)),
        });
    }
    Ok(parts(text, fields)?.map(|parts| match &parts[..] {
        [] => Node::Raw(b"\"\"".to_vec()),
        [Part::Words(words)] => {
            let mut out = Vec::new();
            quoted(&mut out, words);
            Node::Raw(out)
        }
        _ => Node::Text(parts),
    }))
}

fn only_placeholder(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("{{")?.strip_suffix("}}")?;
    (!inner.contains("}}")).then_some(inner)
}

/// The parts of a text, neighbouring words joined; `None` when an optional field is not set.
pub(super) fn parts(text: &str, fields: Lookup<'_>) -> Result<Option<Vec<Part>>, Wrong> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inner, after)) = after.split_once("}}") else {
            return Err(format!("`{text}`: a placeholder is not closed by }}}}"));
        };
        words(&mut found, before);
        match value_of(inner, fields)? {
            Named::Constant(Value::String(text)) => words(&mut found, &text),
            Named::Constant(value) => words(&mut found, &value.to_string()),
            Named::Unset => return Ok(None),
            Named::Hole(hole) => found.push(Part::Hole(hole)),
        }
        rest = after;
    }
    words(&mut found, rest);
    Ok(Some(found))
}

fn words(parts: &mut Vec<Part>, more: &str) {
    match parts.last_mut() {
        _ if more.is_empty() => {}
        Some(Part::Words(words)) => words.push_str(more),
        _ => parts.push(Part::Words(more.to_owned())),
    }
}

/// What a placeholder names.
enum Named {
    Constant(Value),
    /// A field that may be missing, and is.
    Unset,
    Hole(Hole),
}

fn value_of(inner: &str, fields: Lookup<'_>) -> Result<Named, Wrong> {
    let wrong = || format!("`{{{{{inner}}}}}` names nothing");
    let (name, optional, most) = split(inner).ok_or_else(wrong)?;
    if name.starts_with(['@', '.']) || name.starts_with("finding.") {
        return Hole::read(inner).map(Named::Hole).ok_or_else(wrong);
    }
    match fields(name) {
        Err(()) => Err(wrong()),
        Ok(Some(Value::String(text))) => Ok(Named::Constant(super::hole::cut(&text, most).into())),
        Ok(Some(value)) => Ok(Named::Constant(value)),
        Ok(None) if optional => Ok(Named::Unset),
        Ok(None) => Ok(Named::Constant(Value::Null)),
    }
}
