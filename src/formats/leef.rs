//! LEEF, the Log Event Extended Format of QRadar: 2.0, and 1.0 with tabs.
//!
//! Guarantees: LEEF has no escapes, so whatever would end a value or a line becomes a space in it:
//! the delimiter, control characters, `|` in the header. Keys come once; custom ones are single
//! words that LEEF does not define. 2.0 separates by `^`, because relays rewrite tabs; its header
//! says so.

use bytes::Bytes;

use super::facts::Facts;
use super::fields::{Escape, Field, Spare, fit};
use super::scales;
use super::text;
use crate::core::route::{Format, Shaped};

/// LEEF 2.0 in the table of formats.
pub static FORMAT: Format =
    Format { name: "leef", about: "LEEF 2.0 (QRadar), separated by `^`", write };

/// LEEF 1.0 in the table of formats.
pub static TABS: Format =
    Format { name: "leef1", about: "LEEF 1.0 (QRadar), separated by tabs", write: write_tabs };

/// How `devTime` is written, in the words of Java that LEEF wants.
const TIME_FORMAT: &str = "MMM dd yyyy HH:mm:ss.SSS z";
/// The same for us.
const TIME: &str = "%b %d %Y %H:%M:%S.%3f UTC";
/// Longest value of a key for which LEEF names no limit.
const LONG: usize = 4_000;

fn write(event: &Shaped, room: usize) -> Option<Bytes> {
    line(event, room, "2.0", '^', without_caret)
}

fn write_tabs(event: &Shaped, room: usize) -> Option<Bytes> {
    line(event, room, "1.0", '\t', plain)
}

fn plain(c: char, out: &mut String) {
    out.push(text::shown(c));
}

fn without_caret(c: char, out: &mut String) {
    out.push(if c == '^' { ' ' } else { text::shown(c) });
}

fn line(
    event: &Shaped,
    room: usize,
    version: &str,
    between: char,
    escape: Escape,
) -> Option<Bytes> {
    let facts = Facts::of(event);
    let mut header = header(&facts, version);
    if between != '\t' {
        header.extend([between, '|']);
    }
    let line = |fields: &[Field<'_>]| {
        let mut line = header.clone();
        for (index, field) in fields.iter().filter(|field| !field.is_empty()).enumerate() {
            if index > 0 {
                line.push(between);
            }
            line.extend([field.key, "="]);
            field.write(escape, &mut line);
        }
        line
    };
    fit(fields(&facts), room, escape, line).map(Bytes::from)
}

/// `LEEF:version|vendor|product|version|class|`
fn header(facts: &Facts<'_>, version: &str) -> String {
    let mut header = format!("LEEF:{version}|");
    for text in [facts.vendor(), facts.product(), facts.version(), &facts.class()] {
        let shown = text::cut(text.trim(), 255).chars();
        header.extend(shown.map(|c| if matches!(c, '|' | '^') { ' ' } else { text::shown(c) }));
        header.push('|');
    }
    header
}

/// The keys in their order on the line. Predefined ones first.
fn fields<'f>(facts: &Facts<'f>) -> Vec<Field<'f>> {
    let finding = facts.finding;
    let (v4, v6) = facts.addresses();
    let list = |list: &'f [String]| list.iter().map(String::as_str);
    let happened = facts.happened().unwrap_or(facts.received);
    vec![
        Field::new("devTime", [happened.strftime(TIME).to_string()], 64, Spare::Never),
        Field::new("devTimeFormat", [TIME_FORMAT], 64, Spare::Never),
        Field::new("sev", [scales::leef(finding.severity).to_string()], 2, Spare::Never),
        Field::new("cat", finding.category.as_deref(), 255, Spare::Minor),
        Field::new("usrName", finding.user.as_deref(), 255, Spare::Who),
        Field::new("src", v4.or(v6).map(|address| address.to_string()), 45, Spare::Who),
        Field::new("identHostName", facts.host(), 255, Spare::Who),
        Field::new("resource", list(&finding.shares), LONG, Spare::Shares),
        Field::new("url", finding.link.as_deref(), LONG, Spare::Link),
        Field::new("eventId", [facts.id.to_string()], 40, Spare::Never),
        Field::new("state", facts.state().map(str::to_owned), 255, Spare::Never),
        Field::new("incident", finding.incident.as_deref(), LONG, Spare::Incident),
        Field::new("cluster", finding.clusters.first().map(String::as_str), 255, Spare::Who),
        Field::new("clusters", Facts::several(&finding.clusters), LONG, Spare::Clusters),
        Field::new("clients", Facts::several(&finding.client_ips), LONG, Spare::Clients),
        Field::new("accessProtocol", finding.protocol.as_deref(), 255, Spare::Minor),
        Field::new("fileCount", facts.file_count(), 20, Spare::Never),
        Field::new("simulated", facts.simulated(), 4, Spare::Never),
        Field::new("reportedSeverity", facts.reported(), 16, Spare::Minor),
        Field::new("source", [facts.source], 255, Spare::Minor),
        Field::new("msg", finding.title.as_deref(), LONG, Spare::Title),
        Field::new("files", list(&finding.files), LONG, Spare::Files),
    ]
}
