//! `siemgate test`: expectations about a configuration, kept beside it.

use std::path::{Path, PathBuf};

use super::gateway::Gateway;

const CONFIG: &str = r#"
[sources.superna]
type = "superna"
[routes.crit]
min_severity = "critical"
sinks = ["soc", "archive"]
[unmatched]
sinks = "archive"
[sinks.archive]
type = "file"
path = "{{dir}}/archive.ndjson"
[sinks.soc]
type = "stdout"
"#;

/// A folder with this configuration and these cases in its own `tests`.
fn with_cases(cases: &str) -> Gateway {
    let gateway = Gateway::prepared(CONFIG);
    std::fs::create_dir(gateway.path("config.d/tests")).unwrap();
    gateway.configure("tests/cases.toml", cases);
    gateway
}

#[tokio::test]
async fn cases_that_hold_pass() {
    let gateway = with_cases(
        r#"
[[case]]
name = "all of it"
source = "superna"
event = ' {"severity": "Critical", "state": "Locked Out", "securityEventType": "rsw"}'
severity = "CRITICAL"
state = "locked-out"
category = "ransomware"
routes = ["crit"]
sinks = ["archive", "soc"]
bytes.archive = "{\"severity\":\"Critical\",\"state\":\"Locked Out\",\"securityEventType\":\"rsw\"}\n"
absent = [{ sink = "soc", fields = ["/user"] }, { sink = "archive", fields = ["/files/0"] }]
[[case]]
name = "a file, and the catch-all"
fixture = "warning.json"
routes = ["unmatched"]
sinks = ["archive"]
"#,
    );
    let warning = super::gateway::fixture("superna-warning.json");
    std::fs::write(gateway.path("config.d/tests/warning.json"), warning).unwrap();
    for arguments in [&["test"][..], &["test", "config.d/tests"], &["check", "--tests"]] {
        let tested = gateway.cli(arguments).await;
        assert_eq!(tested.code, Some(0), "{tested:?}");
        assert!(tested.out.contains("2 passed, 0 failed"), "{tested:?}");
    }
}

#[tokio::test]
async fn every_broken_expectation_is_told_with_what_came_instead() {
    let gateway = with_cases(
        r#"
[[case]]
name = "all wrong"
event = '{"severity":"WARNING","user":"S-1-5"}'
severity = "critical"
state = "locked_out"
category = "test"
routes = ["crit"]
sinks = []
bytes.archive = "{}"
bytes.soc = "{}"
absent = { sink = "archive", fields = ["/user", "/absent"] }
[[case]]
name = "good"
event = '{"severity":"WARNING"}'
[[case]]
name = "misspelt sinks"
event = '{}'
absent = { sink = "archiv", fields = ["/x"] }
[[case]]
name = "two"
event = '[{},{}]'
"#,
    );
    for arguments in [&["test"][..], &["check", "--tests"]] {
        let tested = gateway.cli(arguments).await;
        assert_eq!(tested.code, Some(1), "{tested:?}");
        for says in [
            "cases.toml:2: all wrong\n",
            "severity\n      expected critical\n      got      medium\n",
            "state\n      expected locked_out\n      got      unknown\n",
            "category\n      expected test\n",
            "routes\n      expected crit\n      got      unmatched\n",
            "sinks\n      expected none\n      got      archive\n",
            "bytes.archive\n      expected \"{}\"\n      got      \"{\\\"severity",
            "bytes.soc: the sink does not get the event",
            "sink archive would see /user: \"S-1-5\"",
            "there is no sink `archiv`",
            "did you mean `archive`?",
            "the body holds 2 events",
            "1 passed, 3 failed",
        ] {
            assert!(tested.out.contains(says), "{says} is not in {}", tested.out);
        }
        assert!(!tested.out.contains("/absent") && !tested.out.contains("is good"), "{tested:?}");
    }
}

#[tokio::test]
async fn a_case_that_cannot_be_read_is_a_problem_with_its_line() {
    let gateway = with_cases(
        r#"[[case]]
name = "a"
event = "{}"
sinsk = ["archive"]
[[case]]
name = "b"
[[case]]
name = "c"
fixture = "none.json"
[[case]]
name = "d"
event = "{}"
absent = { sink = "archive", fields = ["user"] }
[[cases]]
"#,
    );
    let tested = gateway.cli(&["test"]).await;
    assert_eq!(tested.code, Some(1), "{tested:?}");
    for says in [
        "cases.toml:1: case.sinsk: unknown key `sinsk`",
        "did you mean `sinks`?",
        "cases.toml:5: case: needs one event",
        "cases.toml:7: case.fixture: ",
        "`user` is not a JSON pointer",
        "there is no key `cases`",
    ] {
        assert!(tested.err.contains(says), "{says} is not in {}", tested.err);
    }
    gateway.configure("tests/cases.toml", "[[case]\n");
    let broken = gateway.cli(&["test"]).await;
    assert!(broken.code == Some(1) && broken.err.contains("cases.toml:1"), "{broken:?}");
    let nowhere = gateway.cli(&["test", "nowhere"]).await;
    assert!(nowhere.code == Some(1) && nowhere.err.contains("not a folder"), "{nowhere:?}");
    let none = Gateway::prepared(CONFIG).cli(&["test"]).await;
    assert!(none.code == Some(0) && none.out.contains("no test cases"), "{none:?}");
}

#[tokio::test]
async fn the_documented_cases_hold_for_the_recommended_sophos_routes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let gateway = Gateway::prepared("");
    let shipped = |name: &str| std::fs::read_to_string(root.join("config.d").join(name)).unwrap();
    gateway.configure("10-superna.toml", &shipped("10-superna.toml"));
    gateway.configure("20-archive.toml", &shipped("20-archive.toml"));
    let sophos = shipped("50-sophos.toml.example").replace("/etc/siemgate", "{{dir}}");
    gateway.configure("50-sophos.toml", &sophos);
    std::fs::write(gateway.path("sophos.key"), "k\n").unwrap();
    let cases: PathBuf = root.join("docs/cases");
    let tested = gateway.cli(&["test", cases.to_str().unwrap()]).await;
    assert_eq!(tested.code, Some(0), "{tested:?}");
    assert!(tested.out.contains("6 passed, 0 failed"), "{tested:?}");
}
