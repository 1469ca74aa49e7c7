//! GELF 1.1, the Graylog Extended Log Format: one JSON object on one line.
//!
//! Guarantees: keys of the standard, and additional ones that begin with `_`, are made of `[a-z_]`, come
//! once and are never `_id`; values are texts and numbers only; `short_message` is never empty and names
//! nobody; nothing is lost by escaping. What there is no room for goes in this order: of the original
//! what `shorten.rs` takes from it, then all of it (`_shortened` says so), then what `Spare` says.

use bytes::Bytes;

use super::facts::Facts;
use super::fields::{Field, Spare, fit};
use super::headline::headline;
use super::{lines, scales, shorten, text};
use crate::core::route::{Format, Shaped};

/// GELF in the table of formats.
pub static FORMAT: Format = Format {
    name: "gelf",
    about: "GELF 1.1 (Graylog, Logstash, Fluentd): JSON with the original as text in `full_message`",
    write,
};

/// Who says it. The machines that it is about have keys of their own.
const HOST: &str = "siemgate";
/// Longest list or text, in bytes: Graylog's index takes 32,766 bytes of a field.
const LONG: usize = 8_000;
/// What stands before the original, and instead of it.
const FULL: &str = ",\"full_message\":\"";
const MISSING: &str = ",\"_shortened\":\"full_message\"";

fn write(event: &Shaped, room: usize) -> Option<Bytes> {
    let facts = Facts::of(event);
    let head = head(event, &facts);
    let line = |fields: &[Field<'_>]| {
        let mut line = head.clone();
        fields.iter().filter(|field| !field.is_empty()).for_each(|field| pair(field, &mut line));
        line
    };
    let end = "}".len() + MISSING.len();
    let mut line = fit(fields(&facts), room.checked_sub(end)?, value, line)?;
    match original(&event.body, room.saturating_sub(line.len() + "}".len())) {
        Some(original) => line.push_str(&original),
        None => line.push_str(MISSING),
    }
    line.push('}');
    Some(line.into())
}

/// What is never left out.
fn head(event: &Shaped, facts: &Facts<'_>) -> String {
    let at = facts.happened().unwrap_or(facts.received).as_millisecond();
    let (seconds, ms) = (at.div_euclid(1_000), at.rem_euclid(1_000));
    let level = scales::syslog(facts.finding.severity);
    let count = facts.file_count().map(|count| format!(",\"_file_count\":{count}"));
    let mut head = format!("{{\"version\":\"1.1\",\"host\":\"{HOST}\",\"short_message\":\"");
    headline(event).chars().for_each(|c| value(c, &mut head));
    head.push_str(&format!(
        "\",\"timestamp\":{seconds}.{ms:03},\"level\":{level},\"_event_id\":\"{}\"{}",
        facts.id,
        count.unwrap_or_default()
    ));
    head
}

/// `,"key":"value"`
fn pair(field: &Field<'_>, line: &mut String) {
    line.extend([",\"", field.key, "\":\""]);
    field.write(value, line);
    line.push('"');
}

/// One character inside a text of JSON.
fn value(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // All of them have four digits.
        c if text::is_control(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push(c),
    }
}

/// The body as a field of at most so many bytes; shortened where that helps.
fn original(body: &[u8], room: usize) -> Option<String> {
    let room = room.checked_sub(FULL.len() + 1)?;
    let line = lines::line(body);
    let quoted = |text: &str| {
        let mut quoted = FULL.to_owned();
        text.chars().for_each(|c| value(c, &mut quoted));
        quoted.push('"');
        quoted
    };
    let fits = |quoted: &String| quoted.len() <= room + FULL.len() + 1;
    let whole = quoted(String::from_utf8_lossy(&line).trim_end_matches('\n'));
    if fits(&whole) {
        return Some(whole);
    }
    // As text it is longer than it is.
    let share = (room * line.len() / whole.len(), room / 2);
    let tries = [share.0, share.0 - share.0 / 8, share.1, share.1 / 2];
    tries.into_iter().find_map(|room| shorten::json(&line, room).map(|it| quoted(&it)).filter(fits))
}

fn fields<'f>(facts: &Facts<'f>) -> Vec<Field<'f>> {
    let finding = facts.finding;
    let list = |list: &'f [String]| list.iter().map(String::as_str);
    vec![
        Field::new("_severity", [finding.severity.as_str()], 16, Spare::Never),
        Field::new("_state", facts.state().map(str::to_owned), 255, Spare::Never),
        Field::new("_incident", finding.incident.as_deref(), LONG, Spare::Incident),
        Field::new("_user", finding.user.as_deref(), LONG, Spare::Who),
        Field::new("_client_ips", list(&finding.client_ips), LONG, Spare::Who),
        Field::new("_clusters", list(&finding.clusters), LONG, Spare::Who),
        Field::new("_shares", list(&finding.shares), LONG, Spare::Shares),
        Field::new("_files", list(&finding.files), LONG, Spare::Files),
        Field::new("_protocol", finding.protocol.as_deref(), 255, Spare::Minor),
        Field::new("_category", finding.category.as_deref(), 255, Spare::Minor),
        Field::new("_link", finding.link.as_deref(), LONG, Spare::Link),
        Field::new("_title", finding.title.as_deref(), LONG, Spare::Title),
        Field::new("_simulated", [finding.simulated.to_string()], 5, Spare::Never),
        Field::new("_reported_severity", facts.reported(), 16, Spare::Minor),
        Field::new("_source_name", [facts.source], 255, Spare::Minor),
        Field::new("_vendor", finding.vendor.as_deref(), 255, Spare::Minor),
        Field::new("_product", finding.product.as_deref(), 255, Spare::Minor),
    ]
}
