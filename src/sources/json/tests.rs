//! Facts by path, from bodies shaped like well-known products' webhooks.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn source(settings: Value) -> Json {
    let table = settings.as_object().cloned().unwrap_or_default();
    Json::new(&Section::new("sources.x", table)).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn decode(settings: Value, body: &Value) -> Finding {
    source(settings).decode(body.to_string().as_bytes())
}

#[test]
fn without_settings_nothing_is_known_and_nothing_is_counted() {
    let finding = decode(json!({}), &json!({ "severity": "critical" }));
    assert_eq!(finding, Finding::default());
}

#[test]
fn an_alertmanager_body_is_understood() {
    let settings = json!({
        "severity": ["/commonLabels/severity", "/alerts/*/labels/severity"],
        "severities": { "PAGE": "critical" },
        "state": "/status", "incident": "/groupKey", "title": "commonAnnotations.summary",
        "time": "/alerts/0/startsAt", "clusters": "/alerts/*/labels/instance",
    });
    let alert = |severity: &str, host: &str| {
        json!({ "labels": { "severity": severity, "instance": host },
        "startsAt": "2025-12-01T07:00:00.5Z" })
    };
    let body = json!({ "status": "firing", "groupKey": "{}:{x=\"y\"}",
        "commonLabels": {}, "commonAnnotations": { "summary": "Disk\nfull" },
        "alerts": [alert("warning", "a:9100"), alert("page", "b:9100")] });
    let finding = decode(settings, &body);
    assert_eq!(
        (finding.severity, finding.reported_severity),
        (Severity::Critical, Severity::Critical)
    );
    assert_eq!(finding.state, State::Known("firing".into()));
    assert_eq!(finding.incident.as_deref(), Some("{}:{x=\"y\"}"));
    assert_eq!(finding.title.as_deref(), Some("Disk full"));
    assert_eq!(finding.clusters, ["a:9100", "b:9100"]);
    assert_eq!(finding.time.map(|time| time.as_millisecond()), Some(1_764_572_400_500));
    assert_eq!(finding.unknown, [""; 0]);
}

#[test]
fn what_was_asked_for_and_is_not_there_is_counted() {
    let settings = json!({ "severity": "/s", "state": "/t", "time": "/w", "user": "/u" });
    assert_eq!(decode(settings.clone(), &json!({})).unknown, ["severity", "state"]);
    let odd = json!({ "s": "purple", "t": "Some State", "w": "soon" });
    let finding = decode(settings, &odd);
    assert_eq!(finding.unknown, ["severity", "time"]);
    assert_eq!(finding.state, State::Known("some_state".into()));
}

#[test]
fn numbers_flags_and_lists_are_read() {
    let settings = json!({ "severity": "level", "severities": { "2": "high", "2.5": "critical" },
        "simulated": "drill", "files": ["/none", "/files"], "client_ips": "/ip" });
    let body = json!({ "level": 2, "drill": "Yes", "ip": "192.0.2.1",
        "files": ["a", 1, null, { "x": 1 }] });
    let finding = decode(settings.clone(), &body);
    assert_eq!((finding.severity, finding.simulated), (Severity::High, true));
    assert_eq!(
        (finding.files, finding.file_count),
        (vec!["a".to_owned(), "1".to_owned()].into(), Some(2))
    );
    assert_eq!(finding.client_ips, ["192.0.2.1"]);
    assert_eq!(decode(settings, &json!({ "level": 2.5 })).severity, Severity::Critical);
}

#[test]
fn the_marker_of_our_own_test_events_needs_no_setting() {
    assert!(decode(json!({}), &json!({ "siemgate": { "simulated": true } })).simulated);
}

#[test]
fn bodies_that_are_no_json_are_all_unknown() {
    let deep = "[".repeat(100_000);
    for body in [&b""[..], b"{", b"\xff", deep.as_bytes()] {
        let finding = source(json!({ "severity": "/s" })).decode(body);
        assert_eq!(finding, Finding { unknown: vec!["body"], ..Finding::default() });
    }
}

#[test]
fn wrong_settings_are_problems() {
    let problems = |settings: Value| {
        let section = Section::new("sources.x", settings.as_object().cloned().unwrap());
        Json::new(&section).err().unwrap()
    };
    let sevrity = problems(json!({ "sevrity": "/s" }));
    assert!(sevrity[0].help.contains("`severity`"), "{sevrity:?}");
    assert_eq!(problems(json!({ "timezone": "Nowhere" }))[0].key, "sources.x.timezone");
    assert_eq!(problems(json!({ "user": "a..b" }))[0].key, "sources.x.user");
    assert_eq!(
        problems(json!({ "severities": { "a": "worst" } }))[0].key,
        "sources.x.severities.a"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_decoded(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = source(json!({ "severity": "a.*.b", "files": "/x" })).decode(&body);
    }
}

#[test]
fn keys_that_no_path_leads_into_are_told() {
    let settings = json!({ "severity": "/a/b", "user": ["c.d", "e"], "time": "x.y" });
    let body = br#"{"a":1,"c":{},"c.d":1,"e":2,"ee":3,"x":{"z":1},"siemgate":{}}"#;
    assert_eq!(source(settings).unread(body), ["ee"]);
}
