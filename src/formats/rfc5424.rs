//! The header of RFC 5424.
//!
//! Guarantees: names hold printable ASCII only, none longer than the RFC allows; values of
//! structured data are escaped; the time is that of the gateway, in milliseconds and UTC, so the
//! header of an event is the same however often it is sent. The message itself is a format's.

use super::facts::Facts;
use super::scales;
use super::text;
use crate::core::route::Shaped;

/// Stands before a message to say that it is UTF-8.
pub const BOM: &[u8] = b"\xEF\xBB\xBF";

/// What the headers of one sink have in common.
#[derive(Clone, Debug)]
pub struct Header {
    facility: u8,
    hostname: String,
    app_name: String,
    /// Structured data as it is written.
    data: String,
}

impl Header {
    /// Longest host name and program name.
    pub const NAMES: (usize, usize) = (255, 48);

    /// A header; names are made to fit. `data` are elements made by [`element`].
    pub fn new(facility: u8, hostname: &str, app_name: &str, data: &[String]) -> Self {
        let (host, app) = Self::NAMES;
        Self {
            facility,
            hostname: text::token(hostname, host),
            app_name: text::token(app_name, app),
            data: if data.is_empty() { "-".to_owned() } else { data.concat() },
        }
    }

    /// Everything before the message, with the space.
    pub fn write(&self, event: &Shaped) -> String {
        let facts = Facts::of(event);
        format!(
            "<{}>1 {} {} {} - {} {} ",
            self.facility * 8 + scales::syslog(facts.finding.severity),
            facts.received.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"),
            self.hostname,
            self.app_name,
            text::token(&facts.class(), 32),
            self.data,
        )
    }

    /// Most bytes that `write` can make.
    pub fn longest(&self) -> usize {
        let fixed = "<191>1 2026-01-31T12:00:00.000Z   -   ".len() + 32;
        fixed + self.hostname.len() + self.app_name.len() + self.data.len()
    }
}

/// One element of structured data, or what is wrong with its names.
pub fn element<'p>(
    id: &str,
    params: impl IntoIterator<Item = (&'p str, &'p str)>,
) -> Result<String, String> {
    let mut element = format!("[{}", name(id)?);
    for (key, value) in params {
        element.extend([" ", name(key)?, "=\"", &escaped(value), "\""]);
    }
    Ok(element + "]")
}

/// A value of structured data as it is written.
pub fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(text::shown(c));
    }
    out
}

/// 1 to 32 printable characters of ASCII without `=`, `]` and `"`.
fn name(text: &str) -> Result<&str, String> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '=' | ']' | '"');
    match (1..=32).contains(&text.len()) && text.chars().all(plain) {
        true => Ok(text),
        false => {
            Err("names have 1 to 32 printable characters without `=`, `]`, `\"` and spaces"
                .to_owned())
        }
    }
}
