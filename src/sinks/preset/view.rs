//! An event as a preset sees it: the finding, the body, and how much of them there is room for.
//!
//! Guarantees: the body is parsed at most once, and only when a path is asked for; a foreign text
//! is cut where there is little room, and disarmed where the destination has markup.

use std::borrow::Cow;
use std::cell::OnceCell;

use bytes::Bytes;
use serde_json::Value;

use super::super::show::Shown;
use super::hole::{cut, quoted};
use super::markup::Markup;
use crate::core::finding::Finding;
use crate::core::route::Shaped;
use crate::formats::lines;

/// See the module.
pub(super) struct View<'e> {
    pub shaped: &'e Shaped,
    pub finding: &'e Finding,
    /// Most items of a list.
    pub lists: usize,
    /// Most characters of a foreign text.
    pub texts: usize,
    body: Bytes,
    /// The body is a line of text (CEF and the like), not JSON.
    is_text: bool,
    pub markup: Markup,
    pub shown: &'e Shown,
    lossy: OnceCell<String>,
    parsed: OnceCell<Option<Value>>,
}

impl<'e> View<'e> {
    /// A view of an event with all there is.
    pub fn new(shaped: &'e Shaped, markup: Markup, shown: &'e Shown) -> Self {
        let line = lines::line(&shaped.body);
        let body = line.slice(..line.len().saturating_sub(1));
        Self {
            shaped,
            finding: shaped.finding(),
            lists: usize::MAX,
            texts: usize::MAX,
            body,
            is_text: false,
            markup,
            shown,
            lossy: OnceCell::new(),
            parsed: OnceCell::new(),
        }
    }

    /// The same with another body in place of the event's.
    #[must_use]
    pub fn with_body(mut self, body: Bytes, is_text: bool) -> Self {
        self.body = body;
        self.is_text = is_text;
        self
    }

    /// The body on one line.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn body_text(&self) -> &str {
        match std::str::from_utf8(&self.body) {
            Ok(text) => text,
            Err(_) => self.lossy.get_or_init(|| String::from_utf8_lossy(&self.body).into_owned()),
        }
    }

    /// The body as a JSON value.
    pub fn splice(&self, out: &mut Vec<u8>) {
        match self.is_text {
            true => quoted(out, self.body_text()),
            // JSON is UTF-8: bytes in another encoding inside strings are replaced.
            false => out.extend_from_slice(self.body_text().as_bytes()),
        }
    }

    /// The value at `path` in the body; none is `null`.
    pub fn at(&self, path: &[String]) -> Option<&Value> {
        let body = self.parsed.get_or_init(|| serde_json::from_slice(&self.body).ok()).as_ref()?;
        path.iter().try_fold(body, |value, step| inner(value, step)).filter(|v| !v.is_null())
    }

    /// A text that somebody else chose, as it may stand in this destination.
    pub fn plain<'t>(&self, text: &'t str, most: Option<usize>) -> Cow<'t, str> {
        let text = cut(text, Some(most.unwrap_or(usize::MAX).min(self.texts)));
        self.markup.disarm(text)
    }
}

fn inner<'v>(value: &'v Value, step: &str) -> Option<&'v Value> {
    match value {
        Value::Object(table) => table.get(step),
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    }
}
