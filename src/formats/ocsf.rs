//! OCSF, the Open Cybersecurity Schema Framework: a Detection Finding (class 2004), in 1.3 and 1.6.
//!
//! Guarantees: what either version requires is there, and nothing that the version does not know;
//! times are milliseconds; the finding's `uid` is the incident, so that updates and the end find what
//! was created. What could be the first of an incident is a Create, whatever else it may be: a
//! receiver that waits for one must not miss an alarm. What the class has no name for is in
//! `unmapped`; the version of the product, which no event tells, is not made up.

use serde_json::{Value, json};

use super::document::{Most, Schema};
use super::facts::{Facts, rfc3339};
use super::scales;
use crate::core::finding::State;
use crate::core::route::Format;

/// OCSF 1.3 in the table of formats. The default, because readers of later versions take it too.
pub static FORMAT: Format = Format {
    name: "ocsf",
    about: "OCSF 1.3, a Detection Finding as a JSON object; the original is in `raw_data`",
    write: |event, room| V1_3.write(event, room),
};

/// OCSF 1.6 in the table of formats.
pub static NEWER: Format = Format {
    name: "ocsf-1.6",
    about: "OCSF 1.6, the same with `is_alert` and, for what was archived, its own status",
    write: |event, room| V1_6.write(event, room),
};

static V1_3: Schema = schema(|facts, most| finding(facts, most, Version::V1_3));
static V1_6: Schema = schema(|facts, most| finding(facts, most, Version::V1_6));

const fn schema(build: fn(&Facts<'_>, Most) -> Value) -> Schema {
    Schema { build, original: &["raw_data"], mark: &["unmapped", "siemgate_shortened"] }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V1_3,
    V1_6,
}

/// The class.
const CLASS: u32 = 2004;
/// States that only follow another: everything else may be the first that is heard of an incident.
const FOLLOWS: [&str; 2] = ["unresolved", "running"];
/// States that put away what has ended.
const ARCHIVED: [&str; 2] = ["archived", "auto_archived"];
/// Names of severities, from unknown to critical.
const SEVERITIES: [&str; 6] = ["Unknown", "Informational", "Low", "Medium", "High", "Critical"];

fn finding(facts: &Facts<'_>, most: Most, version: Version) -> Value {
    let finding = facts.finding;
    let text = |value: Option<&str>| value.and_then(|value| most.text(value));
    let (activity, activity_name) = activity(facts);
    let (status, status_name) = status(facts, activity, version);
    let severity = scales::ocsf(finding.severity);
    let title = text(finding.title.as_deref()).unwrap_or_else(|| facts.name());
    let ms = |time: crate::core::Timestamp| time.as_millisecond();
    json!({
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": CLASS * 100 + activity,
        "type_name": format!("Detection Finding: {activity_name}"),
        "time": ms(facts.time()),
        "severity_id": severity,
        "severity": SEVERITIES[usize::from(severity)],
        "status_id": status,
        "status": status_name,
        "status_detail": text(facts.state()),
        "message": title,
        "is_alert": (version == Version::V1_6).then_some(!finding.ended),
        "metadata": metadata(facts, most, version),
        "finding_info": {
            "uid": facts.incident(),
            "title": title,
            "types": [text(finding.category.as_deref())],
            "first_seen_time": facts.happened().map(ms),
            "created_time": (activity == 1).then(|| ms(facts.time())),
            "modified_time": (activity > 1).then(|| ms(facts.time())),
            "src_url": finding.link.as_deref().and_then(|link| most.whole(link)),
            "data_sources": [facts.source],
            "attacks": attacks(finding.category.as_deref()),
        },
        "evidences": evidences(facts, most),
        "observables": observables(facts, most),
        "resources": resources(facts, most),
        "unmapped": {
            "reported_severity": facts.reported(),
            "simulated": finding.simulated,
            "protocol": text(finding.protocol.as_deref()),
            "file_count": facts.count(),
        },
    })
}

/// Whether a finding is created, updated or closed.
fn activity(facts: &Facts<'_>) -> (u32, &'static str) {
    match &facts.finding.state {
        _ if facts.finding.ended => (3, "Close"),
        State::Known(word) if FOLLOWS.contains(&&**word) => (2, "Update"),
        _ => (1, "Create"),
    }
}

fn status(facts: &Facts<'_>, activity: u32, version: Version) -> (u8, &'static str) {
    let archived = ARCHIVED.contains(&facts.finding.state.as_str());
    match activity {
        3 if archived && version == Version::V1_6 => (5, "Archived"),
        3 => (4, "Resolved"),
        2 => (2, "In Progress"),
        _ => (1, "New"),
    }
}

fn metadata(facts: &Facts<'_>, most: Most, version: Version) -> Value {
    let version = match version {
        Version::V1_3 => "1.3.0",
        Version::V1_6 => "1.6.0",
    };
    json!({
        "version": version,
        "uid": facts.id.to_string(),
        "correlation_uid": facts.incident(),
        "event_code": facts.class(),
        "log_name": facts.source,
        "log_provider": "siemgate",
        "logged_time": facts.received.as_millisecond(),
        "original_time": facts.happened().map(rfc3339),
        "product": {
            "vendor_name": most.within(facts.vendor(), 255).unwrap_or_else(|| "siemgate".into()),
            "name": most.within(facts.product(), 255).unwrap_or_else(|| facts.source.into()),
        },
    })
}

/// What ransomware is in the words of ATT&CK.
fn attacks(category: Option<&str>) -> Value {
    if category != Some("ransomware") {
        return Value::Null;
    }
    json!([{
        "tactic": { "uid": "TA0040", "name": "Impact" },
        "technique": { "uid": "T1486", "name": "Data Encrypted for Impact" },
    }])
}

/// Who did it, from where, to which file; then further clients and files, each by itself.
fn evidences(facts: &Facts<'_>, most: Most) -> Vec<Value> {
    let finding = facts.finding;
    let mut clients = finding.client_ips.iter().map(|client| endpoint(client, most));
    let mut files = finding.files.iter().map(|path| file(path, most));
    let first = json!({
        "actor": { "user": user(facts, most) },
        "src_endpoint": clients.next(),
        "file": files.next(),
    });
    let further = most.items() - 1;
    let clients = clients.take(further).map(|client| json!({ "src_endpoint": client }));
    let files = files.take(further).map(|file| json!({ "file": file }));
    std::iter::once(first).chain(clients).chain(files).collect()
}

fn user(facts: &Facts<'_>, most: Most) -> Value {
    let Some((domain, name)) = facts.account() else { return Value::Null };
    json!({ "name": most.text(name), "domain": domain.and_then(|domain| most.text(domain)) })
}

fn endpoint(client: &str, most: Most) -> Value {
    match client.trim().parse::<std::net::IpAddr>() {
        Ok(address) => json!({ "ip": address.to_string() }),
        Err(_) => json!({ "hostname": most.text(client) }),
    }
}

/// A file, whose name and type must be there.
fn file(path: &str, most: Most) -> Value {
    let name = path.rsplit(['/', '\\']).next().and_then(|name| most.text(name));
    let Some(path) = most.text(path) else { return Value::Null };
    json!({ "name": name.unwrap_or_else(|| path.clone()), "path": path, "type_id": 1, "type": "Regular File" })
}

/// What can be looked for elsewhere, of the first evidence, which is never left out.
fn observables(facts: &Facts<'_>, most: Most) -> Vec<Value> {
    let seen = |kind: u8, caption: &str, name: &str, value: Option<String>| {
        value.map(|value| {
            let name = format!("evidences[0].{name}");
            json!({ "name": name, "type_id": kind, "type": caption, "value": value })
        })
    };
    let client = facts.finding.client_ips.first().map(|client| endpoint(client, most));
    let of_client = |key: &str| Some(client.as_ref()?.get(key)?.as_str()?.to_owned());
    let name = facts.account().and_then(|(_, name)| most.text(name));
    let file = facts.finding.files.first().map(|path| file(path, most));
    let file = file.and_then(|file| Some(file.get("name")?.as_str()?.to_owned()));
    let all = [
        seen(4, "User Name", "actor.user.name", name),
        seen(2, "IP Address", "src_endpoint.ip", of_client("ip")),
        seen(1, "Hostname", "src_endpoint.hostname", of_client("hostname")),
        seen(7, "File Name", "file.name", file),
    ];
    all.into_iter().flatten().collect()
}

/// What was attacked.
fn resources(facts: &Facts<'_>, most: Most) -> Vec<Value> {
    let resource = |name: &String, kind: &str| {
        most.text(name).map(|name| json!({ "name": name, "type": kind }))
    };
    let finding = facts.finding;
    let clusters = finding.clusters.iter().take(most.items());
    let shares = finding.shares.iter().take(most.items());
    let clusters = clusters.filter_map(|name| resource(name, "Storage Cluster"));
    let shares = shares.filter_map(|name| resource(name, "Share"));
    clusters.chain(shares).collect()
}
