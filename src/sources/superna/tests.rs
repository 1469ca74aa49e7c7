//! The decoder on its fixtures, and on what no product should send.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const CRITICAL: &[u8] = include_bytes!("../../../tests/fixtures/superna-critical-locked-out.json");

fn superna(settings: Value) -> Superna {
    let table = settings.as_object().cloned().unwrap_or_default();
    Superna::new(&Section::new("sources.superna", table))
        .unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn decode(body: &Value) -> Finding {
    superna(json!({})).decode(body.to_string().as_bytes())
}

#[test]
fn bytes_that_are_no_object_are_all_unknown() {
    let deep = "[".repeat(100_000);
    let closed = format!("{deep}{}", "]".repeat(100_000));
    let bodies: [&[u8]; 10] = [
        b"",
        b"null",
        b"[]",
        b"\"x\"",
        b"<xml/>",
        b"{\"severity\":\"CRITICAL\"",
        b"{} {}",
        b"{\"user\":\"\xff\xfe\"}",
        deep.as_bytes(),
        closed.as_bytes(),
    ];
    for body in bodies {
        let finding = superna(json!({})).decode(body);
        assert_eq!(finding, Finding { unknown: vec!["body"], ..Finding::default() });
    }
}

#[test]
fn a_byte_order_mark_is_no_obstacle() {
    let body = "\u{feff}{\"severity\":\"MAJOR\"}";
    assert_eq!(superna(json!({})).decode(body.as_bytes()).severity, Severity::High);
}

#[test]
fn what_is_missing_or_strange_is_named() {
    assert_eq!(decode(&json!({})).unknown, ["severity", "state"]);
    let odd = decode(&json!({ "severity": "PURPLE", "state": "ON_FIRE", "detected": "soon" }));
    assert_eq!(odd.unknown, ["severity", "state", "time"]);
    assert_eq!((odd.severity, odd.state), (Severity::Unknown, State::Unknown("on_fire".into())));
    let null = decode(&json!({ "severity": "LOW", "state": "error", "detected": null }));
    assert!(null.unknown.is_empty() && null.time.is_none());
}

#[test]
fn an_ended_incident_keeps_the_reported_severity_beside() {
    let finding = decode(&json!({ "severity": "CRITICAL", "state": "Access Restored" }));
    assert_eq!((finding.severity, finding.reported_severity), (Severity::Info, Severity::Critical));
}

#[test]
fn the_marker_of_our_own_test_events_is_believed() {
    assert!(decode(&json!({ "siemgate": { "simulated": true } })).simulated);
    for other in
        [json!({ "simulated": false }), json!({}), json!(true), json!({ "x": true }), json!(null)]
    {
        assert!(!decode(&json!({ "siemgate": other })).simulated);
    }
}

#[test]
fn the_guard_is_simulated_only_with_a_configured_account() {
    let body = json!({ "severity": "CRITICAL", "state": "LOCKED_OUT", "userName": "AD01\\svc-guard",
        "shares": [{ "cluster": "c8", "share": "igls-securityguard", "zone": "System" }] });
    assert!(!decode(&body).simulated);
    let guarded = superna(json!({ "guard_user": "AD01\\svc-guard" }));
    let finding = guarded.decode(body.to_string().as_bytes());
    assert!(finding.simulated && finding.severity == Severity::Critical);
    assert_eq!(finding.category.as_deref(), Some("ransomware"));
    assert!(finding.title.is_some_and(|title| title.contains("simulated")));
}

#[test]
fn settings_have_their_problems_all_at_once() {
    let table = json!({ "timezone": "Mars/Base", "aliases": { "usr": "x" } });
    let section = Section::new("sources.s", table.as_object().cloned().unwrap());
    let problems = Superna::new(&section).err().unwrap();
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["sources.s.aliases.usr", "sources.s.timezone"]);
    assert!(problems[0].help.contains("`user`"));
}

#[test]
fn aliases_and_zone_are_the_users() {
    let own = superna(json!({ "aliases": { "user": ["Account"], "detected": "when" } }));
    let body = json!({ "userName": "a", "account": "b", "when": "2025-12-01 07:00:00" });
    let finding = own.decode(body.to_string().as_bytes());
    assert_eq!(finding.user.as_deref(), Some("b"));
    assert_eq!(finding.time.map(|time| time.as_second()), Some(1_764_572_400));
}

#[test]
fn the_incident_is_the_id_else_user_and_cluster() {
    assert_eq!(decode(&json!({ "id": 77, "user": "u" })).incident.as_deref(), Some("77"));
    let by_user = decode(&json!({ "user": "AD\\U", "nes": ["c2", "c1"] })).incident;
    assert_eq!(by_user.as_deref(), Some("ad\\u@c1"));
    assert_eq!(decode(&json!({ "user": "u" })).incident, None);
}

#[test]
fn the_title_is_one_short_line() {
    let body = json!({ "severity": "MAJOR", "state": "DELAYED_LOCKOUT",
        "user": "a\nb\u{7}\u{202e}c",
        "nes": "x".repeat(5_000), "numFiles": "1" });
    let title = decode(&body).title.unwrap();
    assert!(title.starts_with("Superna high ransomware event, delayed lockout: a b"), "{title}");
    assert!(title.chars().count() <= 200 && title.chars().all(|c| !c.is_control()), "{title}");
}

#[test]
fn only_web_pages_are_links() {
    assert_eq!(decode(&json!({ "link": "javascript:alert(1)" })).link, None);
    assert!(decode(&json!({ "link": "https://dse.example/i/1" })).link.is_some());
}

/// Any JSON, with the known keys more frequent than chance would have them.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        "[a-zA-Z_]{0,6}",
        proptest::sample::select(vec![
            "severity",
            "state",
            "userName",
            "clientIPs",
            "shares",
            "files",
            "detected",
            "id",
            "nes",
            "numFiles",
            "siemgate",
            "objectBuckets",
            "simulated"
        ])
        .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        proptest::sample::select(vec!["CRITICAL", "Locked Out", "1764572400"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_decoded(body in any_json()) {
        let finding = decode(&body);
        prop_assert_eq!(finding.unknown.contains(&"body"), !body.is_object());
        prop_assert_eq!(finding.unknown.contains(&"severity"),
            body.is_object() && finding.reported_severity == Severity::Unknown);
    }

    #[test]
    fn any_bytes_are_decoded(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = superna(json!({})).decode(&body);
    }

    #[test]
    fn any_damage_to_a_real_body_is_survived(at in 0usize..600, byte: u8, cut in 0usize..700) {
        let mut body = CRITICAL.to_vec();
        if let Some(place) = body.get_mut(at) { *place = byte; }
        body.truncate(cut);
        let _ = superna(json!({})).decode(&body);
    }
}

/// Run with `cargo test --release -- --ignored --nocapture decode_time`.
#[allow(clippy::disallowed_macros)] // a measurement, not a check
#[test]
#[ignore = "a measurement"]
fn decode_time() {
    let mut body: Value = serde_json::from_slice(CRITICAL).unwrap();
    body["files"] =
        (0..30).map(|n| format!("\\ifs\\data\\finance\\year\\report-{n:04}.xlsx.locky")).collect();
    let (body, source) = (body.to_string(), superna(json!({})));
    let started = std::time::Instant::now();
    for _ in 0..100_000 {
        std::hint::black_box(source.decode(std::hint::black_box(body.as_bytes())));
    }
    println!("{} bytes: {:?} each", body.len(), started.elapsed() / 100_000);
}

#[test]
fn keys_that_nothing_reads_are_told() {
    assert_eq!(superna(json!({})).unread(CRITICAL), ["extraParams"]);
    let body = br#"{"userName":"u","someFutureField":1,"Client-IPs":[],"level":"x"}"#;
    assert_eq!(superna(json!({})).unread(body), ["someFutureField", "level"]);
    let aliases = json!({ "aliases": { "severity": "level" } });
    assert_eq!(superna(aliases).unread(body), ["someFutureField"]);
}
