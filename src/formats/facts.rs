//! What every line of fields tells of an event: the finding of the shaped body, the gateway's id,
//! and words that stay the same for all events of a sort.

use std::borrow::Cow;
use std::net::IpAddr;

use super::text;
use crate::core::Timestamp;
use crate::core::event::EventId;
use crate::core::finding::{Finding, Severity, State};
use crate::core::route::Shaped;
use crate::core::sink::incident_key;

/// Longest word of a class, in characters.
const WORD: usize = 48;

/// An event, as the writers of lines see it.
pub struct Facts<'s> {
    /// The gateway's id: the same however often the event is sent.
    pub id: EventId,
    /// The configured source.
    pub source: &'s str,
    /// When the gateway got it, by the gateway's clock.
    pub received: Timestamp,
    /// What the shaped body says.
    pub finding: &'s Finding,
}

impl<'s> Facts<'s> {
    /// Of `event`.
    pub fn of(event: &'s Shaped) -> Self {
        let finding = event.finding();
        let (id, received) = (event.event.id, event.event.received);
        Self { id, source: &event.event.source, received, finding }
    }

    /// Who makes the product; the gateway where the source does not know.
    pub fn vendor(&self) -> &str {
        self.finding.vendor.as_deref().unwrap_or("siemgate")
    }

    /// The product; the source's name where it does not know.
    pub fn product(&self) -> &str {
        self.finding.product.as_deref().unwrap_or(self.source)
    }

    /// The product's version is in no event: that of the gateway, which made the line.
    pub fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// The sort of event, untranslated and without anything of this one: `ransomware.locked_out`.
    pub fn class(&self) -> String {
        let sort = text::identifier(self.finding.category.as_deref().unwrap_or("event"), WORD);
        let sort = if sort.is_empty() { "event".to_owned() } else { sort };
        match &self.finding.state {
            State::Missing => sort,
            State::Known(word) => format!("{sort}.{}", text::identifier(word, WORD)),
            State::Unknown(_) => format!("{sort}.unknown"),
        }
    }

    /// The same for people: `Ransomware event, locked out`.
    pub fn name(&self) -> String {
        let class = self.class().replace('_', " ");
        let (sort, state) = class.split_once('.').unwrap_or((&class, ""));
        let mut letters = sort.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        let sort: String = first.into_iter().chain(letters).collect();
        let sort = if sort == "Event" { sort } else { format!("{sort} event") };
        if state.is_empty() { sort } else { format!("{sort}, {state}") }
    }

    /// The state in its own words, where there is one.
    pub fn state(&self) -> Option<&str> {
        let state = &self.finding.state;
        (*state != State::Missing).then(|| state.as_str())
    }

    /// The severity that the product gave, where that is not the one that counts.
    pub fn reported(&self) -> Option<&'static str> {
        let Finding { severity, reported_severity: reported, .. } = self.finding;
        (*reported != Severity::Unknown && reported != severity).then(|| reported.as_str())
    }

    /// `true` for a drill, else nothing.
    pub fn simulated(&self) -> Option<&'static str> {
        self.finding.simulated.then_some("true")
    }

    /// How many files.
    pub fn file_count(&self) -> Option<String> {
        self.finding.file_count.map(|count| count.to_string())
    }

    /// When it happened, by the product's clock; nothing where no format could write it.
    pub fn happened(&self) -> Option<Timestamp> {
        // Some receivers know neither years before 1970 nor years of five digits.
        let usual = |time: &Timestamp| (0..253_402_300_800).contains(&time.as_second());
        self.finding.time.filter(usual)
    }

    /// The first client with an address of version 4, and of version 6.
    pub fn addresses(&self) -> (Option<IpAddr>, Option<IpAddr>) {
        let addresses = || self.finding.client_ips.iter().filter_map(|text| address(text));
        (addresses().find(IpAddr::is_ipv4), addresses().find(IpAddr::is_ipv6))
    }

    /// The first client that is known by something else than an address.
    pub fn host(&self) -> Option<&'s str> {
        let clients = self.finding.client_ips.iter().map(String::as_str);
        clients.into_iter().find(|text| address(text).is_none())
    }

    /// Every client with an address, and every one that is known by something else.
    pub fn clients(&self) -> (Vec<String>, Vec<&'s str>) {
        let (mut addresses, mut hosts) = (Vec::new(), Vec::new());
        for client in &self.finding.client_ips {
            match address(client) {
                Some(address) => addresses.push(address.to_string()),
                None => hosts.push(client.as_str()),
            }
        }
        (addresses, hosts)
    }

    /// Domain and name of an account that is spelt `DOMAIN\name`; else the name alone.
    pub fn account(&self) -> Option<(Option<&'s str>, &'s str)> {
        let user = self.finding.user.as_deref().filter(|user| shows(user))?;
        match user.split_once('\\') {
            Some((domain, name)) if shows(domain) && shows(name) => Some((Some(domain), name)),
            _ => Some((None, user)),
        }
    }

    /// How many files, where a signed number can hold it: more than that is nobody's count.
    pub fn count(&self) -> Option<i64> {
        self.finding.file_count.and_then(|count| i64::try_from(count).ok())
    }

    /// When it happened, else when it arrived.
    pub fn time(&self) -> Timestamp {
        self.happened().unwrap_or(self.received)
    }

    /// What ties updates to what opened the incident; the event's id where there is nothing. A very
    /// long one is digested, because the end of an identifier must not be cut.
    pub fn incident(&self) -> String {
        match self.finding.incident.as_deref().map(str::trim) {
            Some(text) if is_identifier(text) => text.to_owned(),
            text => incident_key(text, self.id),
        }
    }

    /// The state as a word that documents and rules may compare.
    pub fn state_word(&self) -> Option<String> {
        self.state().map(|state| text::identifier(state, WORD))
    }

    /// Where the first file is.
    pub fn folder(&self) -> Option<&'s str> {
        let path = self.finding.files.first()?;
        Some(&path[..path.rfind(['/', '\\'])?])
    }

    /// What the first file's name ends with, without the dot.
    pub fn extension(&self) -> Option<&str> {
        let (stem, extension) = self.file_name()?.rsplit_once('.')?;
        (!stem.is_empty()).then_some(extension)
    }

    /// The first file without its folders.
    pub fn file_name(&self) -> Option<&str> {
        self.finding.files.first()?.rsplit(['/', '\\']).next()
    }

    /// The list, where its first value does not say it all.
    pub fn several(list: &[String]) -> impl Iterator<Item = Cow<'_, str>> {
        let list = if list.len() > 1 { list } else { &[] };
        list.iter().map(|item| Cow::Borrowed(item.as_str()))
    }
}

/// Short enough to be an identifier as it is, and on one line.
fn is_identifier(text: &str) -> bool {
    (1..=128).contains(&text.len()) && !text.chars().any(text::is_control)
}

/// `time` as RFC 3339 in UTC, with milliseconds.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

fn address(text: &str) -> Option<IpAddr> {
    text.trim().parse().ok()
}

/// Whether anything of `text` is left to see: formats take control characters out.
fn shows(text: &str) -> bool {
    text.chars().any(|c| !c.is_control() && !c.is_whitespace())
}
