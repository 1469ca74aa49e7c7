//! Formats of others' schemas: known to the byte, judged by others' models, shown by `explain`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use siemgate::core::config::Section;
use siemgate::core::event::{Draft, Event, EventId, Position};
use siemgate::core::route::Shaped;
use siemgate::{formats, sources};

use super::gateway::{Gateway, fixture};
use super::products::python;
use super::sinks::{build, built, folder, now, told};

const DOCUMENTS: [&str; 5] = ["ecs", "ocsf", "ocsf-1.6", "udm", "cloudevents"];
const SUPERNA: [&str; 6] = [
    "superna-critical-locked-out",
    "superna-access-restored",
    "superna-major-delayed-lockout",
    "superna-object-storage",
    "superna-odd-types",
    "superna-warning",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// `body` as a source of this kind reads it, with an id and a time that are always the same.
fn event(kind: &str, settings: &Value, body: Vec<u8>) -> Shaped {
    let section = Section::new("sources.x", settings.as_object().cloned().unwrap());
    let source = (sources::kind(kind).unwrap().build)(&section).unwrap();
    let id =
        EventId::from_bytes(*b"\x01\x9b\x21\x00\x00\x00\x70\x00\x80\x00\x00\x00\x00\x00\x00\x01");
    let draft = Draft::new(id, now(), kind.into(), body.clone().into());
    draft.decoded_by(|| source.decode(&body));
    Shaped::unshaped(Arc::new(Event { position: Position(0), draft }))
}

fn superna(name: &str) -> Shaped {
    event("superna", &json!({}), fixture(&format!("{name}.json")))
}

fn written(format: &str, event: &Shaped) -> String {
    let format = formats::format(format).unwrap();
    String::from_utf8((format.write)(event, 1 << 20).unwrap().to_vec()).unwrap()
}

/// `UPDATE_GOLDEN=1` writes them anew; read the difference before you commit it.
#[test]
fn every_document_is_what_its_golden_file_says() {
    for format in DOCUMENTS {
        let pretty = |name: &&str| {
            let document: Value = serde_json::from_str(&written(format, &superna(name))).unwrap();
            format!("# {name}\n{document:#}\n")
        };
        let text = SUPERNA[..3].iter().map(pretty).collect::<String>();
        let text = text.replace(env!("CARGO_PKG_VERSION"), "{{version}}");
        let path = root().join(format!("golden/formats/{format}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, golden, "{} (UPDATE_GOLDEN=1)", path.display());
    }
}

/// The models know no `actor`, `src_endpoint` and `file` of evidence and no `is_alert`; all else that
/// they do not know is an error.
const MODELS: &str = r#"
import importlib, json, pkgutil, sys
import py_ocsf_models
from pydantic import BaseModel
from py_ocsf_models.events.findings.detection_finding import DetectionFinding
classes = set()
for found in pkgutil.walk_packages(py_ocsf_models.__path__, "py_ocsf_models."):
    for value in vars(importlib.import_module(found.name)).values():
        if isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel:
            classes.add(value)
for model in classes:
    model.model_config["extra"] = "forbid"
for _ in range(4):
    for model in classes:
        model.model_rebuild(force=True)
count = 0
for line in sys.stdin:
    event = json.loads(line)
    assert ("is_alert" in event) == (event["metadata"]["version"] == "1.6.0")
    event.pop("is_alert", None)
    for evidence in event.get("evidences", []):
        for unknown in ("actor", "src_endpoint", "file"):
            evidence.pop(unknown, None)
    read = DetectionFinding.model_validate(event, strict=False)
    assert read.type_uid == read.class_uid * 100 + read.activity_id
    assert read.activity_id.name == event["activity_name"]
    assert read.severity_id.name == event["severity"]
    assert read.status_id.name == event["status"].replace(" ", "")
    count += 1
print(count)
"#;

/// Judges every event, one a line; the number of them, or what is wrong with one.
fn judged(python: &Path, lines: &[String]) -> Result<usize, String> {
    let mut judge = Command::new(python)
        .args(["-c", MODELS])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = judge.stdin.take().unwrap();
    // A judge that has seen enough reads no further.
    let _ = pipe.write_all(lines.join("\n").as_bytes());
    drop(pipe);
    let output = judge.wait_with_output().unwrap();
    let counted = String::from_utf8_lossy(&output.stdout).trim().parse();
    counted.map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// All fixtures, and all states with all severities.
fn all_events() -> Vec<Shaped> {
    let mut events: Vec<Shaped> = SUPERNA.iter().map(|name| superna(name)).collect();
    let cases: BTreeMap<String, Value> =
        serde_json::from_slice(&fixture("others-read.json")).unwrap();
    for (name, case) in cases {
        let body = fixture(&format!("others/{name}.json"));
        events.push(event("json", &case["settings"], body));
    }
    let section = Section::new("sources.x", serde_json::Map::new());
    let source = (sources::kind("superna").unwrap().build)(&section).unwrap();
    for state in source.words().states.iter().chain(&["", "never heard of"]) {
        for severity in ["CRITICAL", "MAJOR", "WARNING", "LOW", "INFO", "", "purple"] {
            let body = json!({ "id": "1", "severity": severity, "state": state });
            events.push(event("superna", &json!({}), body.to_string().into_bytes()));
        }
    }
    events
}

#[test]
fn every_ocsf_event_is_valid_by_others_models() {
    let Some(python) = python("py_ocsf_models") else { return };
    let events = all_events();
    assert!(events.len() > 130, "{}", events.len());
    let lines: Vec<String> = ["ocsf", "ocsf-1.6"]
        .iter()
        .flat_map(|format| events.iter().map(|event| written(format, event)))
        .collect();
    assert_eq!(judged(&python, &lines), Ok(lines.len()));
    // The judge is awake.
    for (from, to) in [
        ("\"severity_id\":5", "\"severity_id\":7"),
        ("\"vendor_name\"", "\"vendor\""),
        ("\"activity_id\":1", "\"activity_id\":2"),
        ("\"types\"", "\"sorts\""),
    ] {
        assert!(lines[0].contains(from), "{from} is not in {}", lines[0]);
        assert!(judged(&python, &[lines[0].replace(from, to)]).is_err(), "{to}");
    }
}

#[test]
fn a_finding_is_created_updated_and_closed_by_its_state() {
    for (state, activity, old, new) in [
        ("LOCKED_OUT", 1, 1, 1),
        ("DELAYED_LOCKOUT", 1, 1, 1),
        ("never heard of", 1, 1, 1),
        ("UNRESOLVED", 2, 2, 2),
        ("ACCESS_RESTORED", 3, 4, 4),
        ("ARCHIVED", 3, 4, 5),
    ] {
        let body = json!({ "id": "29a8", "severity": "CRITICAL", "state": state }).to_string();
        let event = event("superna", &json!({}), body.into_bytes());
        for (format, status) in [("ocsf", old), ("ocsf-1.6", new)] {
            let read: Value = serde_json::from_str(&written(format, &event)).unwrap();
            assert_eq!(read["activity_id"], activity, "{state}");
            assert_eq!(read["type_uid"], 200_400 + activity);
            assert_eq!(read["status_id"], status, "{state} in {format}");
            assert_eq!(read["finding_info"]["uid"], "29a8");
        }
    }
}

/// One definition: what the preset wraps is what the format writes, but for the type, which is a setting.
#[test]
fn the_presets_of_cloudevents_say_what_the_format_says() {
    for kind in ["cloudevents", "cloudevents_batch"] {
        let sink = built(&format!("[sinks.s]\ntype = \"{kind}\"\nurl = \"https://h.example\"\n"));
        for name in SUPERNA {
            let event = superna(name);
            let preset = sink.sink.encode(&event, sink.limits.event_bytes).unwrap();
            let mut preset: Value = serde_json::from_slice(&preset).unwrap();
            let format: Value = serde_json::from_str(&written("cloudevents", &event)).unwrap();
            assert_eq!(preset["type"], "com.superna.event");
            preset["type"] = format["type"].clone();
            assert_eq!(preset, format, "{kind}, {name}");
        }
    }
}

/// What a transform took out is in no format, and `explain` shows what each of them writes.
#[tokio::test]
async fn explain_shows_every_format_without_what_a_route_took_out() {
    let mut config = "[sources.superna]\ntype = \"superna\"\npath = \"/webhook\"\n".to_owned();
    for (number, format) in formats::FORMATS.iter().enumerate() {
        config += &format!(
            "[routes.r{number}]\nsinks = \"s{number}\"\nformat = \"{}\"\n\
             transform = 'del(.user); del(.userName); del(.id); .files = [\"/a/b.doc\"]'\n\
             [sinks.s{number}]\ntype = \"file\"\npath = \"{{{{dir}}}}/{number}\"\n",
            format.name
        );
    }
    let gateway = Gateway::prepared(&config);
    let body = fixture("superna-critical-locked-out.json");
    std::fs::write(gateway.path("event.json"), body).unwrap();
    let said = gateway.cli(&["explain", "event.json", "--json"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let events = serde_json::from_str::<Value>(&said.out).unwrap();
    let sinks = events["events"][0]["sinks"].as_array().unwrap();
    assert_eq!(sinks.len(), formats::FORMATS.len(), "{said:?}");
    for sink in sinks {
        let number: usize = sink["sink"].as_str().unwrap()[1..].parse().unwrap();
        let (name, text) = (formats::FORMATS[number].name, sink["text"].as_str().unwrap());
        assert!(text.contains("/a/b.doc") && text.ends_with('\n'), "{name}: {text}");
        for gone in ["demouser", "S-1-5-21", "29a8c1f0", "payroll"] {
            assert!(!text.contains(gone), "{name} still says {gone}: {text}");
        }
        if DOCUMENTS.contains(&name) {
            let read: Value = serde_json::from_str(text).unwrap();
            assert!(read.is_object(), "{name}: {text}");
        }
    }
}

/// A section may choose where its preset sends the event itself; not what its product refuses.
#[tokio::test]
async fn a_section_chooses_the_format_among_those_that_its_product_takes() {
    let dir = folder();
    let key = dir.path().join("key");
    let section = |kind: &str, format: &str| {
        format!(
            "[sinks.s]\ntype = \"{kind}\"\nurl = \"https://h.example\"\nformat = \"{format}\"\n\
             {} = {{ file = {key:?} }}\n",
            if kind == "elasticsearch" { "api_key" } else { "key" }
        )
    };
    let sink = built(&section("crowdstrike_ngsiem", "ecs"));
    let sent = sink.sink.encode(&superna(SUPERNA[0]), sink.limits.event_bytes).unwrap();
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["event"]["event"]["kind"], "alert", "{sent}");
    let refused = |kind, format| build(&section(kind, format)).err().map(told).unwrap_or_default();
    // One form only, so there is nothing to choose; people get no format.
    assert!(refused("elasticsearch", "cef").contains("sinks.s.format"));
    assert!(refused("slack", "cef").contains("sinks.s.format"));
    let opensearch =
        "[sinks.s]\ntype = \"opensearch\"\nurl = \"https://h.example\"\nformat = \"cef\"\n";
    let told_so = build(opensearch).err().map(told).unwrap_or_default();
    assert!(told_so.contains("opensearch takes ecs, ocsf, ocsf-1.6 only"), "{told_so}");

    let mut gateway = Gateway::prepared(
        "[sources.superna]\ntype = \"superna\"\n[routes.all]\nsinks = \"es\"\nformat = \"cef\"\n\
         [sinks.es]\ntype = \"elasticsearch\"\nurl = \"https://h.example\"\napi_key = { env = \"K\" }\n",
    );
    gateway.set_env("K", "k");
    let checked = gateway.cli(&["check"]).await;
    assert!(
        checked.code == Some(78) && checked.err.contains("elasticsearch knows ecs only"),
        "{checked:?}"
    );
}

#[test]
fn the_page_about_formats_has_all_of_them() {
    let page = std::fs::read_to_string(root().join("../docs/formats.md")).unwrap();
    for format in formats::FORMATS {
        assert!(page.contains(&format!("| `{}` |", format.name)), "{} is missing", format.name);
    }
}
