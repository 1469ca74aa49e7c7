//! The Elastic Common Schema, 8.11: what Elastic Security and its rules know by name.
//!
//! Guarantees: names and types of the schema, objects nested; categories go with `event.type`; what
//! the schema has no name for stands in `labels` (keywords) and `siemgate` (lists, counts). No
//! address that Elasticsearch could not read stands in a field of type `ip`, because it would refuse
//! the whole document.

use bytes::Bytes;
use serde_json::{Value, json};

use super::document::{Most, Schema};
use super::facts::{Facts, rfc3339};
use super::scales;
use super::text;
use crate::core::finding::normalise;
use crate::core::route::{Format, Shaped};

/// ECS in the table of formats.
pub static FORMAT: Format = Format {
    name: "ecs",
    about: "Elastic Common Schema 8.11, a JSON object (Elasticsearch, Elastic Security, OpenSearch); the original is in `event.original`",
    write,
};

/// The version whose names these are.
const VERSION: &str = "8.11.0";

static SCHEMA: Schema =
    Schema { build, original: &["event", "original"], mark: &["labels", "siemgate_shortened"] };

/// Categories of ECS that go with the type `info`.
const CATEGORIES: [&str; 15] = [
    "api",
    "authentication",
    "configuration",
    "database",
    "driver",
    "email",
    "file",
    "host",
    "iam",
    "intrusion_detection",
    "malware",
    "network",
    "process",
    "vulnerability",
    "session",
];

fn write(event: &Shaped, room: usize) -> Option<Bytes> {
    SCHEMA.write(event, room)
}

fn build(facts: &Facts<'_>, most: Most) -> Value {
    let finding = facts.finding;
    let text = |value: Option<&str>| value.and_then(|value| most.text(value));
    let (addresses, hosts) = facts.clients();
    let module = match text::identifier(facts.vendor(), 48) {
        word if word.is_empty() => "siemgate".to_owned(),
        word => word,
    };
    let (domain, user) = facts.account().unzip();
    let first_client = finding.client_ips.first().map(String::as_str);
    let machines = hosts.iter().copied().chain(finding.clusters.iter().map(String::as_str));
    let users = finding.user.as_deref().into_iter().chain(user);
    json!({
        "@timestamp": rfc3339(facts.time()),
        "ecs": { "version": VERSION },
        "message": text(finding.title.as_deref()).unwrap_or_else(|| facts.name()),
        "tags": ["siemgate", finding.simulated.then_some("simulated")],
        "labels": {
            "severity": finding.severity.as_str(),
            "reported_severity": facts.reported(),
            "state": text(facts.state()),
            "incident": facts.incident(),
            "simulated": finding.simulated.to_string(),
        },
        "event": {
            "id": facts.id.to_string(),
            "kind": "alert",
            "category": categories(finding.category.as_deref()),
            "type": ["info"],
            "action": facts.state_word(),
            "code": facts.class(),
            "module": module,
            "dataset": format!("{module}.event"),
            "provider": facts.source,
            "severity": scales::ocsf(finding.severity),
            "risk_score": scales::ecs_risk(finding.severity),
            "created": rfc3339(facts.received),
            "url": finding.link.as_deref().and_then(|link| most.whole(link)),
        },
        "agent": { "type": "siemgate", "version": facts.version() },
        "observer": {
            "vendor": most.within(facts.vendor(), 255),
            "product": most.within(facts.product(), 255),
        },
        "rule": { "name": facts.name(), "category": text(finding.category.as_deref()) },
        "threat": threat(finding.category.as_deref()),
        "user": { "name": text(user), "domain": text(domain.flatten()) },
        "source": {
            "ip": addresses.first(),
            "address": text(first_client),
            "domain": text(hosts.first().copied()),
        },
        "host": { "name": text(finding.clusters.first().map(String::as_str)) },
        "file": file(facts, most),
        "network": { "protocol": text(finding.protocol.as_deref()).map(|word| word.to_lowercase()) },
        "related": {
            "ip": most.texts(addresses.iter().map(String::as_str)),
            "user": most.texts(users),
            "hosts": most.texts(machines),
        },
        "siemgate": {
            "files": most.texts(finding.files.iter().map(String::as_str)),
            "file_count": facts.count(),
            "shares": most.texts(finding.shares.iter().map(String::as_str)),
            "clusters": most.texts(finding.clusters.iter().map(String::as_str)),
            "clients": most.texts(finding.client_ips.iter().map(String::as_str)),
        },
    })
}

/// What ECS calls a sort of events. Of other words those that are its own.
fn categories(category: Option<&str>) -> Vec<String> {
    let word = normalise(category.unwrap_or(""));
    let known: &[&str] = match word.as_str() {
        // Found by what was done to files, not by a signature.
        "ransomware" => &["malware", "file", "intrusion_detection"],
        "auditor" | "activity_report" => &["file"],
        word if CATEGORIES.contains(&word) => return vec![word.to_owned()],
        _ => &[],
    };
    known.iter().map(|&category| category.to_owned()).collect()
}

/// What ransomware is in the words of ATT&CK.
fn threat(category: Option<&str>) -> Value {
    if category != Some("ransomware") {
        return Value::Null;
    }
    json!({
        "framework": "MITRE ATT&CK",
        "tactic": {
            "id": ["TA0040"],
            "name": ["Impact"],
            "reference": ["https://attack.mitre.org/tactics/TA0040/"],
        },
        "technique": {
            "id": ["T1486"],
            "name": ["Data Encrypted for Impact"],
            "reference": ["https://attack.mitre.org/techniques/T1486/"],
        },
    })
}

fn file(facts: &Facts<'_>, most: Most) -> Value {
    let Some(path) = facts.finding.files.first() else { return Value::Null };
    let text = |value: Option<&str>| value.and_then(|value| most.text(value));
    json!({
        "path": most.text(path),
        "name": text(facts.file_name()),
        "directory": text(facts.folder()),
        "extension": text(facts.extension()),
    })
}
