//! Comma-delimited, for receivers that split a line at commas (ManageEngine Log360 and the like).
//!
//! Guarantees: always the same columns in the same order, empty where the event says nothing; a
//! value with a comma or a quote stands in quotes, quotes doubled (RFC 4180); control characters
//! become spaces; the items of a list are separated by `, `.

use bytes::Bytes;

use super::facts::Facts;
use super::fields::{Field, Spare, fit};
use super::text;
use crate::core::route::{Format, Shaped};

/// Comma-delimited lines in the table of formats.
pub static FORMAT: Format = Format {
    name: "csv",
    about: "comma-delimited with quotes where needed (Log360): received, time, severity, state, category, user, clients, clusters, shares, protocol, file count, simulated, incident, id, source, title, link, files",
    write,
};

/// Times as every parser reads them.
const TIME: &str = "%Y-%m-%dT%H:%M:%S.%3fZ";
/// Longest value of a column.
const LONG: usize = 4_000;

fn write(event: &Shaped, room: usize) -> Option<Bytes> {
    let facts = Facts::of(event);
    let line = |fields: &[Field<'_>]| {
        let mut line = String::new();
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                line.push(',');
            }
            column(field, &mut line);
        }
        line
    };
    fit(fields(&facts), room, value, line).map(Bytes::from)
}

fn column(field: &Field<'_>, line: &mut String) {
    let mut text = String::new();
    field.write(value, &mut text);
    match text.contains([',', '"']) {
        true => line.extend(["\"", &text, "\""]),
        false => line.push_str(&text),
    }
}

fn value(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\"\""),
        c => out.push(text::shown(c)),
    }
}

fn fields<'f>(facts: &Facts<'f>) -> Vec<Field<'f>> {
    let finding = facts.finding;
    let list = |list: &'f [String]| list.iter().map(String::as_str);
    let time = |time: crate::core::Timestamp| time.strftime(TIME).to_string();
    vec![
        Field::new("received", [time(facts.received)], 32, Spare::Never),
        Field::new("time", facts.happened().map(time), 32, Spare::Never),
        Field::new("severity", [finding.severity.as_str()], 16, Spare::Never),
        Field::new("state", facts.state().map(str::to_owned), 255, Spare::Never),
        Field::new("category", finding.category.as_deref(), 255, Spare::Minor),
        Field::new("user", finding.user.as_deref(), 1_023, Spare::Who),
        Field::new("clients", list(&finding.client_ips), LONG, Spare::Who),
        Field::new("clusters", list(&finding.clusters), LONG, Spare::Who),
        Field::new("shares", list(&finding.shares), LONG, Spare::Shares),
        Field::new("protocol", finding.protocol.as_deref(), 255, Spare::Minor),
        Field::new("file count", facts.file_count(), 20, Spare::Never),
        Field::new("simulated", [finding.simulated.to_string()], 5, Spare::Never),
        Field::new("incident", finding.incident.as_deref(), LONG, Spare::Incident),
        Field::new("id", [facts.id.to_string()], 40, Spare::Never),
        Field::new("source", [facts.source], 255, Spare::Minor),
        Field::new("title", finding.title.as_deref(), 1_023, Spare::Title),
        Field::new("link", finding.link.as_deref(), LONG, Spare::Link),
        Field::new("files", list(&finding.files), LONG, Spare::Files),
    ]
}
