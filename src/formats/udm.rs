//! UDM, the Unified Data Model of Google SecOps: one event, as its events:import takes it.
//!
//! Guarantees: names in lowerCamelCase, enumerations by their words; an event has the type SCAN_FILE
//! only with what that type requires (a file and the machine that holds it), else GENERIC_EVENT,
//! because one invalid event costs its whole batch; nothing stands in it that the model does not
//! know. The model has no place for the original and for incident, state and the like: they are in
//! `additional`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::document::{Most, Schema};
use super::facts::{Facts, rfc3339};
use super::scales;
use crate::core::route::{Format, Shaped};

/// UDM in the table of formats.
pub static FORMAT: Format = Format {
    name: "udm",
    about: "an event of Google SecOps' Unified Data Model, a JSON object; the original is in `additional.original`",
    write,
};

static SCHEMA: Schema = Schema {
    build,
    original: &["additional", "original"],
    mark: &["additional", "siemgate_shortened"],
};

fn write(event: &Shaped, room: usize) -> Option<Bytes> {
    SCHEMA.write(event, room)
}

fn build(facts: &Facts<'_>, most: Most) -> Value {
    let finding = facts.finding;
    let text = |value: Option<&str>| value.and_then(|value| most.text(value));
    let texts = |list: &[String]| most.texts(list.iter().map(String::as_str));
    let link = finding.link.as_deref().and_then(|link| most.whole(link));
    let link = link.filter(|link| link.starts_with("https://") || link.starts_with("http://"));
    let (addresses, hosts) = facts.clients();
    let (domain, user) = facts.account().unzip();
    let machine = text(finding.clusters.first().map(String::as_str));
    let file = text(finding.files.first().map(String::as_str));
    let is_scan = machine.is_some() && file.is_some();
    let further = finding.files.iter().skip(1).take(most.items() - 1);
    let further = further.filter_map(|path| most.text(path));
    json!({
        "metadata": {
            "id": STANDARD.encode(facts.id.as_bytes()),
            "productLogId": facts.id.to_string(),
            "eventTimestamp": rfc3339(facts.time()),
            "collectedTimestamp": rfc3339(facts.received),
            "eventType": if is_scan { "SCAN_FILE" } else { "GENERIC_EVENT" },
            "vendorName": most.within(facts.vendor(), 255).unwrap_or_else(|| "siemgate".into()),
            "productName": most.within(facts.product(), 255).unwrap_or_else(|| facts.source.into()),
            "productEventType": most.within(&facts.class(), 64),
            "description": most.within(finding.title.as_deref().unwrap_or(""), 1_024),
            "urlBackToProduct": link,
        },
        "principal": {
            "ip": most.texts(addresses.iter().map(String::as_str)),
            "hostname": text(hosts.first().copied()),
            "administrativeDomain": text(domain.flatten()),
            "user": { "userid": text(user) },
        },
        "target": {
            "hostname": machine,
            "file": { "fullPath": file },
            "resource": { "name": text(finding.shares.first().map(String::as_str)) },
        },
        "observer": { "hostname": link.as_deref().and_then(host) },
        "about": further.map(|path| json!({ "file": { "fullPath": path } })).collect::<Vec<_>>(),
        "securityResult": [{
            "summary": facts.name(),
            "description": text(finding.title.as_deref()),
            "severity": scales::udm(finding.severity),
            "severityDetails": finding.reported_severity.as_str(),
            "category": categories(finding.category.as_deref()),
            "categoryDetails": [text(finding.category.as_deref())],
            "action": [(facts.finding.state.as_str() == "locked_out").then_some("BLOCK")],
            "actionDetails": text(facts.state()),
            "alertState": if finding.ended { "NOT_ALERTING" } else { "ALERTING" },
            "ruleName": facts.class(),
        }],
        "additional": {
            "incident": facts.incident(),
            "source": facts.source,
            "state": text(facts.state()),
            "simulated": finding.simulated.to_string(),
            "protocol": text(finding.protocol.as_deref()),
            "file_count": facts.count().map(|count| count.to_string()),
            "clients": texts(&finding.client_ips),
            "clusters": texts(&finding.clusters),
            "shares": texts(&finding.shares),
        },
    })
}

/// What UDM calls a sort of events, where it has a word for it.
fn categories(category: Option<&str>) -> Vec<&'static str> {
    match category {
        Some("ransomware") => vec!["SOFTWARE_MALICIOUS", "DATA_DESTRUCTION"],
        _ => Vec::new(),
    }
}

/// The machine in the address of a page: the one that shows the incident, and so the detector.
fn host(link: &str) -> Option<String> {
    let authority = link.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_owned())
}
