//! The formats that are JSON documents, against small tables of what their schemas know: written
//! from the documents of ECS, OCSF, UDM and CloudEvents, not from the writers.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::lines;
use super::super::tests::{ROOM, expected, findings, nasty, one_line, shaped, written};
use crate::core::Timestamp;
use crate::core::finding::Finding;
use crate::core::route::Shaped;

/// Types that a field may have.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Type {
    /// A text that is not empty.
    Word,
    /// RFC 3339 in UTC.
    Date,
    /// A signed number of 64 bits.
    Long,
    /// 0 to 100.
    Score,
    /// An address.
    Ip,
    Flag,
    /// A list of words, of addresses.
    Words,
    Ips,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A list of some of these.
    SomeOf(&'static [&'static str]),
}
use Type::*;

fn has_type(value: &Value, wanted: Type) -> bool {
    let each = |inner| {
        value
            .as_array()
            .is_some_and(|list| !list.is_empty() && list.iter().all(|item| has_type(item, inner)))
    };
    let word = value.as_str();
    match wanted {
        Word => word.is_some_and(|word| !word.is_empty()),
        Date => word.is_some_and(|word| word.ends_with('Z') && word.parse::<Timestamp>().is_ok()),
        Long => value.as_i64().is_some(),
        Score => value.as_u64().is_some_and(|score| score <= 100),
        Ip => word.is_some_and(|word| word.parse::<std::net::IpAddr>().is_ok()),
        Flag => value.is_boolean(),
        Words => each(Word),
        Ips => each(Ip),
        OneOf(known) => word.is_some_and(|word| known.contains(&word)),
        SomeOf(known) => each(OneOf(known)),
    }
}

/// Every leaf of `document` stands in `table` and has its type. Lists of objects are `name[]`.
fn obeys(document: &Value, path: &str, table: &[(&str, Type)]) {
    match document {
        Value::Object(fields) => {
            assert!(!fields.is_empty(), "{path} is empty");
            for (key, value) in fields {
                assert!(!key.contains('.'), "dots in names collide with objects: {key}");
                obeys(value, &format!("{path}.{key}"), table);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().for_each(|item| obeys(item, &format!("{path}[]"), table));
        }
        leaf => {
            let path = path.trim_start_matches('.');
            let known = table.iter().find(|(name, _)| *name == path);
            let (_, wanted) = known.unwrap_or_else(|| panic!("{path} is in no table: {leaf}"));
            assert!(has_type(leaf, *wanted), "{path} is not {wanted:?}: {leaf}");
        }
    }
}

const CATEGORY: &[&str] = &[
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
    "library",
    "malware",
    "network",
    "package",
    "process",
    "registry",
    "session",
    "threat",
    "vulnerability",
    "web",
];

/// Fields of ECS 8.11, and those under names of our own.
const ECS: &[(&str, Type)] = &[
    ("@timestamp", Date),
    ("ecs.version", OneOf(&["8.11.0"])),
    ("message", Word),
    ("tags", SomeOf(&["siemgate", "simulated"])),
    ("labels.severity", OneOf(&["unknown", "info", "low", "medium", "high", "critical"])),
    ("labels.reported_severity", OneOf(&["info", "low", "medium", "high", "critical"])),
    ("labels.state", Word),
    ("labels.incident", Word),
    ("labels.simulated", OneOf(&["true", "false"])),
    ("labels.siemgate_shortened", Words),
    ("event.id", Word),
    ("event.kind", OneOf(&["alert"])),
    ("event.category", SomeOf(CATEGORY)),
    ("event.type", SomeOf(&["info"])),
    ("event.action", Word),
    ("event.code", Word),
    ("event.module", Word),
    ("event.dataset", Word),
    ("event.provider", Word),
    ("event.severity", Long),
    ("event.risk_score", Score),
    ("event.created", Date),
    ("event.url", Word),
    ("event.original", Word),
    ("agent.type", Word),
    ("agent.version", Word),
    ("observer.vendor", Word),
    ("observer.product", Word),
    ("rule.name", Word),
    ("rule.category", Word),
    ("threat.framework", Word),
    ("threat.tactic.id", Words),
    ("threat.tactic.name", Words),
    ("threat.tactic.reference", Words),
    ("threat.technique.id", Words),
    ("threat.technique.name", Words),
    ("threat.technique.reference", Words),
    ("user.name", Word),
    ("user.domain", Word),
    ("source.ip", Ip),
    ("source.address", Word),
    ("source.domain", Word),
    ("host.name", Word),
    ("file.path", Word),
    ("file.name", Word),
    ("file.directory", Word),
    ("file.extension", Word),
    ("network.protocol", Word),
    ("related.ip", Ips),
    ("related.user", Words),
    ("related.hosts", Words),
    ("siemgate.files", Words),
    ("siemgate.file_count", Long),
    ("siemgate.shares", Words),
    ("siemgate.clusters", Words),
    ("siemgate.clients", Words),
];

/// Attributes of a Detection Finding and of the objects in it, in 1.3; `is_alert` came later.
const OCSF: &[(&str, Type)] = &[
    ("category_uid", Long),
    ("category_name", OneOf(&["Findings"])),
    ("class_uid", Long),
    ("class_name", OneOf(&["Detection Finding"])),
    ("activity_id", Long),
    ("activity_name", OneOf(&["Create", "Update", "Close"])),
    ("type_uid", Long),
    ("type_name", Word),
    ("time", Long),
    ("severity_id", Long),
    ("severity", OneOf(&["Unknown", "Informational", "Low", "Medium", "High", "Critical"])),
    ("status_id", Long),
    ("status", OneOf(&["New", "In Progress", "Resolved", "Archived"])),
    ("status_detail", Word),
    ("message", Word),
    ("raw_data", Word),
    ("metadata.version", OneOf(&["1.3.0", "1.6.0"])),
    ("metadata.uid", Word),
    ("metadata.correlation_uid", Word),
    ("metadata.event_code", Word),
    ("metadata.log_name", Word),
    ("metadata.log_provider", Word),
    ("metadata.logged_time", Long),
    ("metadata.original_time", Word),
    ("metadata.product.name", Word),
    ("metadata.product.vendor_name", Word),
    ("finding_info.uid", Word),
    ("finding_info.title", Word),
    ("finding_info.types", Words),
    ("finding_info.first_seen_time", Long),
    ("finding_info.created_time", Long),
    ("finding_info.modified_time", Long),
    ("finding_info.src_url", Word),
    ("finding_info.data_sources", Words),
    ("finding_info.attacks[].tactic.uid", Word),
    ("finding_info.attacks[].tactic.name", Word),
    ("finding_info.attacks[].technique.uid", Word),
    ("finding_info.attacks[].technique.name", Word),
    ("evidences[].actor.user.name", Word),
    ("evidences[].actor.user.domain", Word),
    ("evidences[].src_endpoint.ip", Ip),
    ("evidences[].src_endpoint.hostname", Word),
    ("evidences[].file.name", Word),
    ("evidences[].file.path", Word),
    ("evidences[].file.type_id", Long),
    ("evidences[].file.type", OneOf(&["Regular File"])),
    ("observables[].name", Word),
    ("observables[].type_id", Long),
    ("observables[].type", OneOf(&["User Name", "IP Address", "Hostname", "File Name"])),
    ("observables[].value", Word),
    ("resources[].name", Word),
    ("resources[].type", Word),
    ("unmapped.reported_severity", Word),
    ("unmapped.simulated", Flag),
    ("unmapped.protocol", Word),
    ("unmapped.file_count", Long),
    ("unmapped.siemgate_shortened", Words),
];

/// What class, metadata and finding require in 1.3 and 1.6.
const OCSF_REQUIRED: [&str; 13] = [
    "/activity_id",
    "/category_uid",
    "/class_uid",
    "/type_uid",
    "/severity_id",
    "/time",
    "/metadata/version",
    "/metadata/product/name",
    "/metadata/product/vendor_name",
    "/metadata/uid",
    "/finding_info/uid",
    "/finding_info/title",
    "/status_id",
];

/// Fields of UDM.
const UDM: &[(&str, Type)] = &[
    ("metadata.id", Word),
    ("metadata.productLogId", Word),
    ("metadata.eventTimestamp", Date),
    ("metadata.collectedTimestamp", Date),
    ("metadata.eventType", OneOf(&["SCAN_FILE", "GENERIC_EVENT"])),
    ("metadata.vendorName", Word),
    ("metadata.productName", Word),
    ("metadata.productEventType", Word),
    ("metadata.description", Word),
    ("metadata.urlBackToProduct", Word),
    ("principal.ip", Ips),
    ("principal.hostname", Word),
    ("principal.administrativeDomain", Word),
    ("principal.user.userid", Word),
    ("target.hostname", Word),
    ("target.file.fullPath", Word),
    ("target.resource.name", Word),
    ("observer.hostname", Word),
    ("about[].file.fullPath", Word),
    ("securityResult[].summary", Word),
    ("securityResult[].description", Word),
    (
        "securityResult[].severity",
        OneOf(&["UNKNOWN_SEVERITY", "INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"]),
    ),
    ("securityResult[].severityDetails", Word),
    ("securityResult[].category", SomeOf(&["SOFTWARE_MALICIOUS", "DATA_DESTRUCTION"])),
    ("securityResult[].categoryDetails", Words),
    ("securityResult[].action", SomeOf(&["BLOCK"])),
    ("securityResult[].actionDetails", Word),
    ("securityResult[].alertState", OneOf(&["ALERTING", "NOT_ALERTING"])),
    ("securityResult[].ruleName", Word),
    // A structure of one's own.
    ("additional.original", Word),
    ("additional.incident", Word),
    ("additional.source", Word),
    ("additional.state", Word),
    ("additional.simulated", OneOf(&["true", "false"])),
    ("additional.protocol", Word),
    ("additional.file_count", Word),
    ("additional.clients", Words),
    ("additional.clusters", Words),
    ("additional.shares", Words),
    ("additional.siemgate_shortened", Words),
];

/// Longest texts of UDM's metadata, in bytes.
const UDM_LONGEST: [(&str, usize); 5] = [
    ("productLogId", 256),
    ("vendorName", 256),
    ("productName", 256),
    ("productEventType", 64),
    ("description", 1_024),
];

fn read(name: &str, event: &Shaped, room: usize) -> Option<Value> {
    let line = written(name, event, room)?;
    one_line(
        &line,
        if name == "cloudevents" { &['\u{7f}', '\u{85}', '\u{2028}', '\u{2029}'] } else { &[] },
    );
    Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{name}: {error}: {line}")))
}

fn checked(name: &str, event: &Shaped, room: usize) -> Option<Value> {
    let document = read(name, event, room)?;
    match name {
        "ecs" => obeys(&document, "", ECS),
        "ocsf" | "ocsf-1.6" => check_ocsf(&document, name),
        "udm" => check_udm(&document),
        _ => check_cloudevent(&document),
    }
    Some(document)
}

fn check_ocsf(document: &Value, name: &str) {
    let mut document = document.clone();
    let is_alert = document.as_object_mut().unwrap().remove("is_alert");
    assert_eq!(is_alert.is_some_and(|flag| flag.is_boolean()), name == "ocsf-1.6");
    obeys(&document, "", OCSF);
    for required in OCSF_REQUIRED {
        assert!(document.pointer(required).is_some(), "{required} is missing");
    }
    assert_eq!((&document["class_uid"], &document["category_uid"]), (&json!(2004), &json!(2)));
    let activity = document["activity_id"].as_i64().unwrap();
    assert_eq!(document["type_uid"], 200_400 + activity);
    let status = document["status_id"].as_i64().unwrap();
    assert!(status < 5 || name == "ocsf-1.6", "1.3 has no status {status}");
    for evidence in document["evidences"].as_array().unwrap_or(&vec![]) {
        let known = ["actor", "src_endpoint", "file"];
        assert!(known.iter().any(|key| evidence.get(key).is_some()));
        let file = evidence.get("file");
        assert!(file.is_none_or(|file| file.get("name").is_some() && file["type_id"] == 1));
        let user = evidence.pointer("/actor/user");
        assert!(
            evidence.get("actor").is_none() || user.is_some_and(|user| user.get("name").is_some())
        );
    }
    for observable in document["observables"].as_array().unwrap_or(&vec![]) {
        let name = observable["name"].as_str().unwrap();
        let path = name.replace("evidences[0]", "/evidences/0").replace('.', "/");
        assert_eq!(document.pointer(&path), observable.get("value"), "{name}");
        let kind = ["Hostname", "IP Address", "", "User Name", "", "", "File Name"];
        let id = observable["type_id"].as_u64().unwrap() as usize;
        assert_eq!(observable["type"], kind[id - 1]);
    }
}

fn check_udm(document: &Value) {
    obeys(document, "", UDM);
    let metadata = &document["metadata"];
    for required in ["eventTimestamp", "eventType", "vendorName", "productName"] {
        assert!(metadata.get(required).is_some(), "{required} is missing");
    }
    for (key, most) in UDM_LONGEST {
        assert!(metadata[key].as_str().unwrap_or("").len() <= most, "{key} is too long");
    }
    if metadata["eventType"] == "SCAN_FILE" {
        for required in ["/target/hostname", "/target/file/fullPath"] {
            assert!(document.pointer(required).is_some(), "SCAN_FILE without {required}");
        }
    }
    if let Some(link) = metadata["urlBackToProduct"].as_str() {
        assert!(link.starts_with("http"), "{link}");
    }
}

fn check_cloudevent(document: &Value) {
    let fields: &Map<String, Value> = document.as_object().unwrap();
    for required in ["id", "source", "specversion", "type"] {
        assert!(has_type(&document[required], Word), "{required} is missing");
    }
    assert_eq!(document["specversion"], "1.0");
    assert!(has_type(&document["time"], Date));
    assert_ne!(fields.contains_key("data"), fields.contains_key("data_base64"));
    for (name, value) in fields {
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || name == "data_base64"), "{name}");
        let odd = |c: char| {
            c.is_control() || ('\u{fdd0}'..='\u{fdef}').contains(&c) || c as u32 & 0xfffe == 0xfffe
        };
        assert!(
            name == "data"
                || value.as_str().is_some_and(|text| !text.contains(odd) && !text.is_empty()),
            "{name}"
        );
    }
}

const DOCUMENTS: [&str; 5] = ["ecs", "ocsf", "ocsf-1.6", "udm", "cloudevents"];

/// Where the original stands as a text.
const ORIGINAL: [(&str, &str, &str); 4] = [
    ("ecs", "/event/original", "/labels/siemgate_shortened"),
    ("ocsf", "/raw_data", "/unmapped/siemgate_shortened"),
    ("ocsf-1.6", "/raw_data", "/unmapped/siemgate_shortened"),
    ("udm", "/additional/original", "/additional/siemgate_shortened"),
];

/// Bodies: JSON as doors take it, also with other encodings in strings, and anything else.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        nasty().prop_map(|text| json!({ "a": text, "b": [1, null] }).to_string().into_bytes()),
        nasty().prop_map(|text| serde_json::to_vec_pretty(&json!({ "a": [text] })).unwrap()),
        prop::collection::vec(128u8..=255, 1..20).prop_map(|bytes| [
            b"{\"a\": \"",
            &bytes[..],
            b"\"}"
        ]
        .concat()),
        "[\\PC\r\n]{1,40}".prop_map(String::into_bytes),
    ]
}

fn first(list: &[String], most: usize) -> Option<String> {
    list.first().map(|text| expected(text, most, &[])).filter(|text| !text.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn documents_obey_their_schemas_and_hold_the_original(finding in findings(), body in bodies(), ended: bool) {
        let finding = Finding { ended, ..finding };
        let event = shaped(finding.clone(), body.clone());
        for name in DOCUMENTS {
            checked(name, &event, ROOM).unwrap();
        }
        for (name, original, mark) in ORIGINAL {
            let document = read(name, &event, ROOM).unwrap();
            let text = document.pointer(original).and_then(Value::as_str);
            prop_assert_eq!(text, Some(&*String::from_utf8_lossy(&body)), "{}", name);
            prop_assert_eq!(document.pointer(mark), None);
        }
        let ecs = read("ecs", &event, ROOM).unwrap();
        let title = finding.title.as_deref().map(|text| expected(text, 4_000, &[])).filter(|text| !text.is_empty());
        prop_assert!(title.is_none_or(|title| ecs["message"] == title));
        for (pointer, list) in [("/file/path", &*finding.files), ("/host/name", &*finding.clusters)] {
            let wanted = first(list, 4_000);
            prop_assert_eq!(ecs.pointer(pointer).and_then(Value::as_str), wanted.as_deref());
        }
        let users = finding.user.as_deref().map(|user| expected(user, 4_000, &[])).filter(|user| !user.is_empty());
        prop_assert_eq!(ecs.pointer("/related/user/0").and_then(Value::as_str), users.as_deref());
    }

    #[test]
    fn a_cloudevent_holds_every_byte(finding in findings(), body in bodies()) {
        let event = shaped(finding, body.clone());
        let line = lines::line(&body);
        let body = &line[..line.len() - 1];
        let written = written("cloudevents", &event, ROOM).unwrap();
        let document: Value = serde_json::from_str(&written).unwrap();
        match (std::str::from_utf8(body), document["data_base64"].as_str()) {
            (Err(_), Some(text)) => {
                use base64::Engine as _;
                let read = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
                prop_assert_eq!(read, body);
            }
            (Ok(text), None) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
                prop_assert_eq!(&document["datacontenttype"], "application/json");
                prop_assert!(written.ends_with(&format!("\"data\":{text}}}")), "{}", written);
            }
            (Ok(text), None) => {
                prop_assert_eq!(&document["datacontenttype"], "text/plain");
                prop_assert_eq!(&document["data"], text);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn documents_keep_to_their_room_and_say_what_is_missing(
        finding in findings(),
        files in prop::collection::vec("[a-z\"\\\\/]{1,60}", 0..300),
        room in 0usize..9_000,
    ) {
        let files: Vec<String> = finding.files.iter().cloned().chain(files).collect();
        let body = json!({ "user": "x", "files": files }).to_string();
        let event = shaped(Finding { files: files.into(), ..finding }, body.clone());
        for (name, original, mark) in ORIGINAL {
            let whole = read(name, &event, ROOM).unwrap();
            let Some(document) = checked(name, &event, room) else {
                prop_assert!(room < 3_000, "{} does not fit into {}", name, room);
                continue;
            };
            prop_assert!(written(name, &event, room).unwrap().len() <= room);
            for kept in ["/finding_info/uid", "/metadata/uid", "/event/id", "/labels/incident", "/time",
                "/severity_id", "/metadata/productLogId", "/additional/incident", "/@timestamp"] {
                prop_assert_eq!(document.pointer(kept), whole.pointer(kept), "{} {}", name, kept);
            }
            let told: Vec<&str> = document.pointer(mark).and_then(Value::as_array)
                .map(|told| told.iter().filter_map(Value::as_str).collect()).unwrap_or_default();
            prop_assert_eq!(told.is_empty(), document == whole, "{}: {:?}", name, told);
            if told.is_empty() || told == ["/"] {
                continue;
            }
            prop_assert_eq!(told[0], original);
            for pointer in &told {
                prop_assert!(whole.pointer(pointer).is_some() && document.pointer(pointer) != whole.pointer(pointer), "{}", pointer);
            }
            // All else is as it was, whoever looks.
            let mut restored = document.clone();
            restored.pointer_mut(mark.rsplit_once('/').unwrap().0).unwrap().as_object_mut().unwrap().remove("siemgate_shortened");
            for pointer in &told {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                match restored.pointer_mut(parent) {
                    Some(Value::Object(fields)) => drop(fields.insert(key.to_owned(), whole.pointer(pointer).unwrap().clone())),
                    Some(Value::Array(items)) => items[key.parse::<usize>().unwrap()] = whole.pointer(pointer).unwrap().clone(),
                    _ => {}
                }
            }
            prop_assert_eq!(restored, whole, "{}", name);
        }
        if let Some(document) = checked("cloudevents", &event, room) {
            let line = written("cloudevents", &event, room).unwrap();
            prop_assert!(line.len() <= room);
            let read: Value = serde_json::from_str(&body).unwrap();
            let data = &document["data"];
            prop_assert!(*data == read || data["siemgate_shortened"].is_array());
        }
    }
}
