//! The header of RFC 3164, for receivers that know no other.
//!
//! Guarantees: the time is UTC (the form has no zone), the day padded with a space; the host is a
//! name without its domain; the tag is that of the user, else letters and digits only. The message
//! itself is a format's.

use super::facts::Facts;
use super::scales;
use super::text;
use crate::core::route::Shaped;

/// Longest tag. The RFC knows 32 characters; products that sort by it have longer ones.
pub const TAG: usize = 128;

/// A tag by the letter of the RFC, from any name.
pub fn tag(name: &str) -> String {
    let tag: String = name.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    if tag.is_empty() { "siemgate".to_owned() } else { tag }
}

/// What the headers of one sink have in common.
#[derive(Clone, Debug)]
pub struct Header {
    facility: u8,
    hostname: String,
    tag: String,
}

impl Header {
    /// A header; names are made to fit.
    pub fn new(facility: u8, hostname: &str, tag: &str) -> Self {
        // An address keeps its dots, a name loses its domain.
        let is_address = hostname.parse::<std::net::IpAddr>().is_ok();
        let host = if is_address { hostname } else { hostname.split('.').next().unwrap_or("") };
        Self { facility, hostname: text::token(host, 255), tag: text::token(tag, TAG) }
    }

    /// Everything before the message, with the space.
    pub fn write(&self, event: &Shaped) -> String {
        let facts = Facts::of(event);
        format!(
            "<{}>{} {} {}: ",
            self.facility * 8 + scales::syslog(facts.finding.severity),
            facts.received.strftime("%b %e %H:%M:%S"),
            self.hostname,
            self.tag,
        )
    }

    /// Most bytes that `write` can make.
    pub fn longest(&self) -> usize {
        "<191>Jan 31 12:00:00  : ".len() + self.hostname.len() + self.tag.len()
    }
}
