//! A placeholder of a preset: what `{{…}}` names, and its value for one event.
//!
//! Guarantees: every name is checked when the preset is read; a value is written with its own type
//! as valid JSON, or as text inside a longer text; limits count characters and never cut one.
//! Placeholders of the preset's own fields are not here: they are constants once a sink is built.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use serde_json::Value;

use super::super::show::Detail;
use super::view::View;
use crate::core::Timestamp;
use crate::core::finding::{Severity, State};
use crate::core::sink::incident_key;
use crate::formats::headline::headline;
use crate::formats::scales::{self, Scale};

/// How long something goes on for `@ends`, unless it is told again.
const A_DAY: SignedDuration = SignedDuration::from_hours(24);

/// What stands between the braces.
#[derive(Clone, Debug)]
pub(super) struct Hole {
    /// What it names.
    pub what: What,
    /// `?`: leave the key out when there is no value.
    pub optional: bool,
    /// `:N`: at most so many characters of a text, or items of a list.
    pub most: Option<usize>,
    /// `.text` behind a name: a number, a flag or a list as a text, where only those may stand.
    pub as_text: bool,
}

/// What can be named.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// `@id`: the event's id.
    Id,
    /// `@source`: the name of the source.
    Source,
    /// `@incident`: what ties updates together; the event's id where there is none.
    Incident,
    /// `@incident.key`: the same as a short plain word, as [`Piece::key`] has it.
    Key,
    /// `@body`: the event itself.
    Body(Form),
    /// `@received.FORM`: when it arrived.
    Received(Clock),
    /// `@time.FORM`: when it happened, else when it arrived.
    Time(Clock),
    /// `@ends.FORM`: when it ended; for what goes on, a day after it arrived. For products that close
    /// by themselves what has no end.
    Ends(Clock),
    /// `finding.…`
    Fact(Fact),
    /// `.a.b.0`: a value of the body.
    Path(Vec<String>),
}

impl What {
    /// What not everybody should read of it.
    fn detail(&self) -> Option<Detail> {
        Some(match self {
            Self::Body(_) => Detail::Event,
            Self::Fact(Fact::Title) => Detail::Title,
            Self::Fact(Fact::User) => Detail::User,
            Self::Fact(Fact::ClientIps(_)) => Detail::Addresses,
            Self::Fact(Fact::Shares(_)) => Detail::Shares,
            Self::Fact(Fact::Files(_)) => Detail::Files,
            _ => return None,
        })
    }
}

/// How the event itself is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is: JSON in JSON.
    Json,
    /// `.text`: a text that holds it.
    Text,
    /// `.base64`
    Base64,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// RFC 3339 in UTC, with milliseconds.
    Rfc3339,
    /// Seconds since 1970, with milliseconds as decimals.
    Unix,
    /// Whole seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Ms,
    /// Nanoseconds since 1970, as a text: they do not fit into the numbers of JSON.
    NsText,
    /// `2025-12-01 07:00:00` in UTC.
    Plain,
}

/// A fact of the finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Severity(Option<&'static Scale>),
    ReportedSeverity,
    State,
    /// `open` or `ended`, or a product's own words for them.
    Phase(&'static str, &'static str),
    Category,
    Simulated,
    Title,
    /// One line for people that names no user, address or file.
    Headline,
    User,
    ClientIps(Pick),
    Clusters(Pick),
    Shares(Pick),
    Files(Pick),
    FileCount,
    Protocol,
    Link,
}

/// What of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    All,
    First,
}

/// The words of products for "it goes on" and "it has ended".
const PHASES: [(&str, &str, &str); 5] = [
    ("phase", "open", "ended"),
    ("phase.pagerduty", "trigger", "resolve"),
    ("phase.servicenow", "New", "Closing"),
    ("phase.firing", "firing", "resolved"),
    ("phase.alerting", "alerting", "ok"),
];

impl Hole {
    /// Read what stands between the braces, other than a field's name; `None` if it names nothing.
    pub fn read(text: &str) -> Option<Self> {
        let (name, optional, most) = split(text)?;
        let what = match name {
            "@id" => What::Id,
            "@source" => What::Source,
            "@incident" => What::Incident,
            "@body" => What::Body(Form::Json),
            "@body.text" => What::Body(Form::Text),
            "@body.base64" => What::Body(Form::Base64),
            "@incident.key" => What::Key,
            _ if name.starts_with('.') => {
                What::Path(name[1..].split('.').map(str::to_owned).collect())
            }
            _ => {
                let plain = name.strip_suffix(".text");
                let (of, form) = plain.unwrap_or(name).split_once('.')?;
                let what = match (of, form) {
                    ("@received", form) => What::Received(clock(form)?),
                    ("@time", form) => What::Time(clock(form)?),
                    ("@ends", form) => What::Ends(clock(form)?),
                    ("finding", fact) => What::Fact(fact_named(fact)?),
                    _ => return None,
                };
                return Some(Self { what, optional, most, as_text: plain.is_some() });
            }
        };
        Some(Self { what, optional, most, as_text: false })
    }

    /// The value for this event, if it has one.
    pub fn value<'e>(&self, view: &'e View<'_>) -> Option<Filled<'e>> {
        if !self.what.detail().is_none_or(|detail| view.shown.has(detail)) {
            return None;
        }
        let (finding, event) = (view.finding, &view.shaped.event);
        match &self.what {
            What::Id => Some(Filled::Owned(event.id.to_string())),
            What::Source => Some(Filled::Text(&event.source)),
            What::Incident => Some(match &finding.incident {
                Some(incident) => Filled::Foreign(incident),
                None => Filled::Owned(event.id.to_string()),
            }),
            What::Key => {
                let incident = event.finding().incident.as_deref();
                Some(Filled::Owned(incident_key(incident, event.id)))
            }
            What::Body(Form::Json) => Some(Filled::Body),
            What::Body(Form::Text) => Some(Filled::Foreign(view.body_text())),
            What::Body(Form::Base64) => Some(Filled::Owned(STANDARD.encode(view.body()))),
            What::Received(clock) => Some(clock.write(event.received)),
            What::Time(clock) => Some(clock.write(finding.time.unwrap_or(event.received))),
            What::Ends(clock) => {
                let end = match finding.ended {
                    true => event.received,
                    false => event.received.saturating_add(A_DAY).unwrap_or(event.received),
                };
                Some(clock.write(end))
            }
            What::Fact(fact) => fact.of(view),
            What::Path(path) => view.at(path).map(Filled::Value),
        }
    }
}

/// A placeholder's value.
pub(super) enum Filled<'e> {
    /// The event itself, spliced in.
    Body,
    /// Our own words.
    Text(&'e str),
    /// A text that somebody else may have chosen: a name, a title.
    Foreign(&'e str),
    /// The same, made here.
    Made(String),
    /// The address of a web page.
    Link(&'e str),
    Owned(String),
    Number(String),
    Flag(bool),
    List(&'e [String]),
    Value(&'e Value),
}

/// The name, whether `?` stands behind it, and the number behind `:`.
pub(super) fn split(text: &str) -> Option<(&str, bool, Option<usize>)> {
    let text = text.trim();
    let (text, optional) = match text.strip_suffix('?') {
        Some(text) => (text, true),
        None => (text, false),
    };
    match text.split_once(':') {
        None => Some((text, optional, None)),
        Some((name, most)) => {
            let most = most.parse().ok().filter(|most| *most > 0)?;
            let (name, asked) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
            Some((name, optional || asked, Some(most)))
        }
    }
}

fn clock(form: &str) -> Option<Clock> {
    Some(match form {
        "rfc3339" => Clock::Rfc3339,
        "unix" => Clock::Unix,
        "seconds" => Clock::Seconds,
        "ms" => Clock::Ms,
        "ns_text" => Clock::NsText,
        "plain" => Clock::Plain,
        _ => return None,
    })
}

impl Clock {
    fn write<'e>(self, time: Timestamp) -> Filled<'e> {
        match self {
            Self::Rfc3339 => Filled::Owned(format!("{time:.3}")),
            Self::Plain => Filled::Owned(time.strftime("%Y-%m-%d %H:%M:%S").to_string()),
            Self::NsText => Filled::Owned(time.as_nanosecond().to_string()),
            Self::Seconds => Filled::Number(time.as_second().to_string()),
            Self::Ms => Filled::Number(time.as_millisecond().to_string()),
            Self::Unix => {
                let ms = time.as_millisecond();
                Filled::Number(format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000)))
            }
        }
    }
}

fn fact_named(name: &str) -> Option<Fact> {
    if let Some((_, open, ended)) = PHASES.iter().find(|(known, ..)| *known == name) {
        return Some(Fact::Phase(open, ended));
    }
    if let Some(scale) = name.strip_prefix("severity.") {
        return Some(Fact::Severity(Some(scales::scale(scale)?)));
    }
    let (name, pick) = match name.strip_suffix(".first") {
        Some(name) => (name, Pick::First),
        None => (name, Pick::All),
    };
    let list = |fact: fn(Pick) -> Fact| Some(fact(pick));
    match (name, pick) {
        ("client_ips", _) => list(Fact::ClientIps),
        ("clusters", _) => list(Fact::Clusters),
        ("shares", _) => list(Fact::Shares),
        ("files", _) => list(Fact::Files),
        ("severity", Pick::All) => Some(Fact::Severity(None)),
        ("reported_severity", Pick::All) => Some(Fact::ReportedSeverity),
        ("state", Pick::All) => Some(Fact::State),
        ("category", Pick::All) => Some(Fact::Category),
        ("simulated", Pick::All) => Some(Fact::Simulated),
        ("title", Pick::All) => Some(Fact::Title),
        ("headline", Pick::All) => Some(Fact::Headline),
        ("user", Pick::All) => Some(Fact::User),
        ("file_count", Pick::All) => Some(Fact::FileCount),
        ("protocol", Pick::All) => Some(Fact::Protocol),
        ("link", Pick::All) => Some(Fact::Link),
        _ => None,
    }
}

impl Fact {
    fn of<'e>(self, view: &'e View<'_>) -> Option<Filled<'e>> {
        let finding = view.finding;
        let text = |text: &'e Option<String>| text.as_deref().map(Filled::Foreign);
        match self {
            Self::Severity(None) => Some(Filled::Text(finding.severity.as_str())),
            Self::Severity(Some(scale)) => Some(scaled(scale, finding.severity)),
            Self::ReportedSeverity => Some(Filled::Text(finding.reported_severity.as_str())),
            Self::State => match &finding.state {
                State::Missing => None,
                state => Some(Filled::Foreign(state.as_str())),
            },
            Self::Phase(open, ended) => {
                Some(Filled::Text(if finding.ended { ended } else { open }))
            }
            Self::Category => finding.category.as_deref().map(Filled::Foreign),
            Self::Simulated => Some(Filled::Flag(finding.simulated)),
            Self::Title => text(&finding.title),
            Self::Headline => Some(Filled::Made(headline(view.shaped))),
            Self::User => text(&finding.user),
            Self::ClientIps(pick) => pick.of(&finding.client_ips),
            Self::Clusters(pick) => pick.of(&finding.clusters),
            Self::Shares(pick) => pick.of(&finding.shares),
            Self::Files(pick) => pick.of(&finding.files),
            Self::FileCount => finding.file_count.map(|count| Filled::Number(count.to_string())),
            Self::Protocol => text(&finding.protocol),
            Self::Link => finding.link.as_deref().map(Filled::Link),
        }
    }
}

fn scaled<'e>(scale: &Scale, severity: Severity) -> Filled<'e> {
    match scale.of(severity) {
        scales::Step::Word(word) => Filled::Text(word),
        scales::Step::Number(number) => Filled::Number(number.to_string()),
    }
}

impl Pick {
    fn of(self, list: &[String]) -> Option<Filled<'_>> {
        match self {
            _ if list.is_empty() => None,
            Self::All => Some(Filled::List(list)),
            Self::First => list.first().map(|first| Filled::Foreign(first)),
        }
    }
}

impl Filled<'_> {
    /// As JSON: a text, whatever its own type.
    pub fn quoted(&self, out: &mut Vec<u8>, most: Option<usize>, view: &View<'_>) {
        let mut text = String::new();
        self.text(&mut text, most, view);
        quoted(out, &text);
    }

    /// As JSON, with its own type.
    pub fn json(&self, out: &mut Vec<u8>, most: Option<usize>, view: &View<'_>) {
        match self {
            Self::Body => view.splice(out),
            Self::Text(text) => quoted(out, cut(text, most)),
            Self::Owned(text) => quoted(out, cut(text, most)),
            Self::Foreign(text) => quoted(out, &view.plain(text, most)),
            Self::Made(text) => quoted(out, &view.plain(text, most)),
            // Alone it is an address and no text: nothing in it is markup.
            Self::Link(url) => quoted(out, url),
            Self::Number(number) => out.extend_from_slice(number.as_bytes()),
            Self::Flag(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
            Self::List(list) => {
                let items = list.iter().take(most.unwrap_or(usize::MAX).min(view.lists));
                out.push(b'[');
                for (index, item) in items.enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    quoted(out, &view.plain(item, None));
                }
                out.push(b']');
            }
            // Writing to memory does not fail, and a value that was read can be written.
            Self::Value(Value::String(text)) => quoted(out, &view.plain(text, most)),
            Self::Value(value) => drop(serde_json::to_writer(out, value)),
        }
    }

    /// As a part of a text, not yet quoted.
    pub fn text(&self, out: &mut String, most: Option<usize>, view: &View<'_>) {
        match self {
            Self::Body => out.push_str(&view.plain(view.body_text(), most)),
            Self::Text(text) => out.push_str(cut(text, most)),
            Self::Owned(text) => out.push_str(cut(text, most)),
            Self::Foreign(text) => out.push_str(&view.plain(text, most)),
            Self::Made(text) => out.push_str(&view.plain(text, most)),
            Self::Link(url) => out.push_str(&view.markup.address(url)),
            Self::Number(number) => out.push_str(number),
            Self::Flag(flag) => {
                let _ = write!(out, "{flag}");
            }
            Self::List(list) => {
                let shown = most.unwrap_or(usize::MAX).min(view.lists);
                for (index, item) in list.iter().take(shown).enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    out.push_str(&view.plain(item, None));
                }
                if list.len() > shown {
                    let _ = write!(out, ", … ({} in all)", list.len());
                }
            }
            Self::Value(Value::String(text)) => out.push_str(&view.plain(text, most)),
            Self::Value(value) => out.push_str(&view.plain(&value.to_string(), most)),
        }
    }
}

/// The beginning of `text`, at most `most` characters.
pub(super) fn cut(text: &str, most: Option<usize>) -> &str {
    let end = most.and_then(|most| text.char_indices().nth(most)).map(|(end, _)| end);
    end.map_or(text, |end| &text[..end])
}

/// `text` as a JSON string.
pub(super) fn quoted(out: &mut Vec<u8>, text: &str) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}
