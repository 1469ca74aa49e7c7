//! Every fixture is read for what it says: bodies in, findings out, through the table of kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use siemgate::core::config::Section;
use siemgate::core::finding::{Finding, Severity, State};
use siemgate::core::source::Source;
use siemgate::sources;

fn source(kind: &str, settings: &Value) -> Arc<dyn Source> {
    let section = Section::new("sources.x", settings.as_object().cloned().unwrap());
    let kind = sources::kind(kind).unwrap();
    (kind.build)(&section).unwrap_or_else(|problems| panic!("{settings}: {problems:?}"))
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn names(folder: &Path, prefix: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.filter_map(|name| name.to_str()?.strip_suffix(".json").map(str::to_owned));
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// What a Superna fixture says.
struct Says {
    name: &'static str,
    severity: (Severity, Severity),
    state: &'static str,
    incident: Option<&'static str>,
    user: &'static str,
    ips: &'static [&'static str],
    clusters: &'static [&'static str],
    shares: &'static [&'static str],
    files: (usize, Option<u64>),
    second: i64,
}

const SUPERNA: [Says; 6] = [
    Says {
        name: "superna-critical-locked-out",
        severity: (Severity::Critical, Severity::Critical),
        state: "locked_out",
        incident: Some("29a8c1f0-5f0e-4b5b-9d0c-6d2f8f3a7e11"),
        user: "AD01\\demouser",
        ips: &["172.31.1.45"],
        clusters: &["prod-cluster-8"],
        shares: &["prod-cluster-8:finance:System"],
        files: (3, Some(3)),
        second: 1_764_572_400,
    },
    Says {
        name: "superna-access-restored",
        severity: (Severity::Info, Severity::Critical),
        state: "access_restored",
        incident: Some("29a8c1f0-5f0e-4b5b-9d0c-6d2f8f3a7e11"),
        user: "AD01\\demouser",
        ips: &["172.31.1.45"],
        clusters: &["prod-cluster-8"],
        shares: &["prod-cluster-8:finance:System"],
        files: (1, Some(3)),
        second: 1_764_572_400,
    },
    Says {
        name: "superna-major-delayed-lockout",
        severity: (Severity::High, Severity::High),
        state: "delayed_lockout",
        incident: Some("29a8c1f0-5f0e-4b5b-9d0c-6d2f8f3a7e12"),
        user: "jdoe@ad01.test",
        ips: &["10.20.30.40", "10.20.30.41"],
        clusters: &["prod-cluster-8", "dr-cluster-9"],
        shares: &["prod-cluster-8:eng:System"],
        files: (1, Some(240)),
        second: 1_764_572_700,
    },
    Says {
        name: "superna-warning",
        severity: (Severity::Medium, Severity::Medium),
        state: "warning",
        incident: Some("29a8c1f0-5f0e-4b5b-9d0c-6d2f8f3a7e13"),
        user: "AD01\\svc-backup",
        ips: &["10.20.30.50"],
        clusters: &["prod-cluster-8"],
        shares: &["prod-cluster-8:backup:System"],
        files: (1, Some(11)),
        second: 1_764_573_000,
    },
    Says {
        name: "superna-object-storage",
        severity: (Severity::Critical, Severity::Critical),
        state: "locked_out",
        incident: Some("o-77"),
        user: "app1",
        ips: &["192.0.2.10"],
        clusters: &[],
        shares: &["ns1/backups"],
        files: (1, Some(1)),
        second: 1_764_572_400,
    },
    Says {
        name: "superna-odd-types",
        severity: (Severity::Medium, Severity::Medium),
        state: "warning",
        incident: None,
        user: "10.9.8.7:1001",
        ips: &["10.9.8.7"],
        clusters: &[],
        shares: &["export1"],
        files: (0, None),
        second: 1_764_572_400,
    },
];

#[test]
fn every_superna_fixture_is_understood() {
    let listed = SUPERNA.iter().map(|says| says.name.to_owned()).collect();
    assert_eq!(names(&fixtures(), "superna-"), listed, "every fixture has its entry here");
    let superna = source("superna", &json!({}));
    for says in &SUPERNA {
        let body = std::fs::read(fixtures().join(format!("{}.json", says.name))).unwrap();
        check(says, &superna.decode(&body));
    }
}

fn check(says: &Says, found: &Finding) {
    let name = says.name;
    assert_eq!((found.severity, found.reported_severity), says.severity, "{name}");
    assert_eq!(found.state, State::Known(says.state.into()), "{name}");
    assert_eq!(found.category.as_deref(), Some("ransomware"), "{name}");
    assert_eq!(found.incident.as_deref(), says.incident, "{name}");
    assert_eq!(found.user.as_deref(), Some(says.user), "{name}");
    assert_eq!(found.client_ips, says.ips, "{name}");
    assert_eq!(found.clusters, says.clusters, "{name}");
    assert_eq!(found.shares, says.shares, "{name}");
    assert_eq!((found.files.len(), found.file_count), says.files, "{name}");
    assert_eq!(found.time.map(|time| time.as_second()), Some(says.second), "{name}");
    assert!(!found.simulated && found.unknown.is_empty(), "{name}: {:?}", found.unknown);
    assert!(found.title.as_ref().is_some_and(|title| title.contains(says.user)), "{name}");
}

#[test]
fn spellings_of_severity_and_state_agree() {
    let superna = source("superna", &json!({}));
    let decode = |severity: &str, state: &str| {
        let body = json!({ "severity": severity, "state": state }).to_string();
        let found = superna.decode(body.as_bytes());
        (found.severity, found.state)
    };
    let expected = decode("MAJOR", "DELAYED_LOCKOUT");
    for severity in ["major", "Major", " MAJOR ", "High", "HIGH"] {
        for state in ["Delayed Lockout", "delayed-lockout", "DelayedLockout", " delayed _ LOCKOUT"]
        {
            assert_eq!(decode(severity, state), expected, "{severity} {state}");
        }
    }
}

/// `others-read.json` has, for each body of another product, the settings to read it with (also
/// examples for users) and what it then says.
#[test]
fn other_products_bodies_are_understood_through_settings() {
    let cases = std::fs::read(fixtures().join("others-read.json")).unwrap();
    let cases: BTreeMap<String, Value> = serde_json::from_slice(&cases).unwrap();
    let listed = cases.keys().cloned().collect();
    assert_eq!(names(&fixtures().join("others"), ""), listed, "every body has its case");
    for (name, case) in cases {
        let body = std::fs::read(fixtures().join(format!("others/{name}.json"))).unwrap();
        let found = source("json", &case["settings"]).decode(&body);
        check_other(&name, &case, &serde_json::to_value(&found).unwrap());
    }
}

fn check_other(name: &str, case: &Value, found: &Value) {
    let (settings, says) = (&case["settings"], &case["says"]);
    assert_eq!(found["severity"], says["severity"], "{name}");
    // A missing state is written as null.
    assert_eq!(found["state"].as_str().unwrap_or("unknown"), says["state"], "{name}");
    assert_eq!(found["incident"], says["incident"], "{name}");
    let unknown = says.get("unknown").cloned().unwrap_or_else(|| json!([]));
    assert_eq!(found["unknown"], unknown, "{name}");
    let readable = unknown == json!([]);
    let lists = ["user", "client_ips", "clusters", "shares", "files", "link", "title", "category"];
    for fact in lists.into_iter().chain(["time"]) {
        let absent = found[fact].is_null() || found[fact] == json!([]);
        let asked = settings.get(fact).is_some() && readable;
        assert_eq!(absent, !asked, "{name}: {fact} is {}", found[fact]);
    }
}
