//! CEF, the Common Event Format of ArcSight, which most SIEMs read.
//!
//! Guarantees: keys of version 0 of the standard only, each once, none longer than the standard
//! allows; `\` and `|` are escaped in the header, `\`, `=` and line breaks in values (`|` must not
//! be); other control characters become spaces. Addresses of version 6 stand in `c6a2`, because
//! `src` takes version 4 only.

use std::borrow::Cow;

use bytes::Bytes;

use super::facts::Facts;
use super::fields::{Field, Spare, fit};
use super::scales;
use super::text;
use crate::core::Timestamp;
use crate::core::route::{Format, Shaped};

/// CEF in the table of formats.
pub static FORMAT: Format = Format {
    name: "cef",
    about: "CEF (ArcSight, Microsoft Sentinel, FortiSIEM and most others)",
    write,
};

fn write(event: &Shaped, room: usize) -> Option<Bytes> {
    let facts = Facts::of(event);
    let header = header(&facts);
    let line = |fields: &[Field<'_>]| {
        let mut line = header.clone();
        fields.iter().filter(|field| !field.is_empty()).for_each(|field| pair(field, &mut line));
        line.truncate(line.trim_end_matches(' ').len());
        line
    };
    fit(fields(&facts), room, value, line).map(Bytes::from)
}

/// `CEF:0|vendor|product|version|class|name|severity|`
fn header(facts: &Facts<'_>) -> String {
    let severity = scales::cef(facts.finding.severity).to_string();
    let mut header = "CEF:0|".to_owned();
    for (text, most) in [
        (facts.vendor(), 63),
        (facts.product(), 63),
        (facts.version(), 31),
        (&facts.class(), 1_023),
        (&facts.name(), 512),
        (&severity, 2),
    ] {
        for c in text::cut(text.trim(), most).chars() {
            if matches!(c, '\\' | '|') {
                header.push('\\');
            }
            header.push(text::shown(c));
        }
        header.push('|');
    }
    header
}

/// `key=value ` with its label before it.
fn pair(field: &Field<'_>, line: &mut String) {
    if let Some((key, name)) = field.label {
        line.extend([key, "=", name, " "]);
    }
    line.extend([field.key, "="]);
    field.write(value, line);
    line.push(' ');
}

fn value(c: char, out: &mut String) {
    match c {
        '\\' => out.push_str("\\\\"),
        '=' => out.push_str("\\="),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        c => out.push(text::shown(c)),
    }
}

/// The keys in their order on the line, with the longest value that the standard allows.
fn fields<'f>(facts: &Facts<'f>) -> Vec<Field<'f>> {
    let finding = facts.finding;
    let (v4, v6) = facts.addresses();
    let ms = |time: Timestamp| time.as_millisecond().to_string();
    let list = |list: &'f [String]| list.iter().map(|item| Cow::Borrowed(item.as_str()));
    vec![
        Field::new("rt", [ms(facts.received)], 20, Spare::Never),
        Field::new("start", facts.happened().map(ms), 20, Spare::Never),
        Field::new("externalId", [facts.id.to_string()], 40, Spare::Never),
        Field::new("cat", finding.category.as_deref(), 1_023, Spare::Minor),
        Field::new("act", facts.state().map(str::to_owned), 63, Spare::Never),
        Field::new("suser", finding.user.as_deref(), 1_023, Spare::Who),
        Field::new("src", v4.map(|v4| v4.to_string()), 15, Spare::Who),
        Field::new("c6a2", v6.map(|v6| v6.to_string()), 45, Spare::Who)
            .labelled("c6a2Label", "Source IPv6 Address"),
        Field::new("shost", facts.host(), 1_023, Spare::Who),
        Field::new("dhost", finding.clusters.first().map(String::as_str), 1_023, Spare::Who),
        Field::new("app", finding.protocol.as_deref(), 31, Spare::Minor),
        Field::new("cn1", facts.file_count(), 20, Spare::Never).labelled("cn1Label", "Files"),
        Field::new("fname", facts.file_name().map(str::to_owned), 1_023, Spare::File),
        Field::new("filePath", finding.files.first().map(String::as_str), 1_023, Spare::File),
        Field::new("request", finding.link.as_deref(), 1_023, Spare::Link),
        Field::new("cs1", list(&finding.shares), 4_000, Spare::Shares)
            .labelled("cs1Label", "Shares"),
        Field::new("cs2", finding.incident.as_deref(), 4_000, Spare::Incident)
            .labelled("cs2Label", "Incident"),
        Field::new("cs3", Facts::several(&finding.client_ips), 4_000, Spare::Clients)
            .labelled("cs3Label", "Clients"),
        Field::new("cs4", Facts::several(&finding.clusters), 4_000, Spare::Clusters)
            .labelled("cs4Label", "Clusters"),
        Field::new("cs5", Facts::several(&finding.files), 4_000, Spare::Files)
            .labelled("cs5Label", "File list"),
        Field::new("cs6", facts.simulated(), 4, Spare::Never).labelled("cs6Label", "Simulated"),
        Field::new("flexString1", [facts.source], 1_023, Spare::Minor)
            .labelled("flexString1Label", "Source"),
        Field::new("flexString2", facts.reported(), 16, Spare::Minor)
            .labelled("flexString2Label", "Reported severity"),
        Field::new("msg", finding.title.as_deref(), 1_023, Spare::Title),
    ]
}
