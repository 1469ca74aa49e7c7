//! The formats that are JSON documents, against small tables of what their schemas know: written
//! from the documents of ECS, OCSF, UDM and CloudEvents, not from the writers.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::lines;
use super::super::parsers::{expected, written};
use super::super::tests::{ROOM, findings, nasty, shaped};
use super::schemas::*;
use crate::core::finding::Finding;

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
