//! The command line: what it prints, how it exits, and that the shipped configuration works.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::gateway::{Gateway, Printed, siemgate};
use super::outages::{post, started};
use super::peer::{Answer, Peer};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config.d")
}

fn run(arguments: &[&str]) -> Printed {
    siemgate().args(arguments).output().unwrap().into()
}

/// A gateway on the shipped configuration, in a folder of its own; only the ports are changed.
fn on_shipped_config() -> Gateway {
    let mut gateway = Gateway::prepared("");
    // Copied: the tree may belong to somebody else, and a test may add to it.
    for entry in std::fs::read_dir(shipped()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        gateway.configure(name, &std::fs::read_to_string(&path).unwrap());
    }
    for of_tests in ["00-base.toml", "10-test.toml"] {
        std::fs::remove_file(gateway.path("config.d").join(of_tests)).unwrap();
    }
    gateway.set_env("SIEMGATE_SERVER__LISTEN", "127.0.0.1:0");
    gateway.set_env("SIEMGATE_SERVER__ADMIN", "127.0.0.1:0");
    gateway.set_env("SIEMGATE_JOURNAL__FORMAT", "json");
    gateway
}

#[tokio::test]
async fn the_shipped_configuration_is_good_and_runs() {
    let shipped = on_shipped_config();
    let config = shipped.path("config.d");
    let checked = run(&["--config", config.to_str().unwrap(), "check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for says in
        ["127.0.0.1:5000", "source superna (superna)", "route everything -> archive", "is good"]
    {
        assert!(checked.out.contains(says), "{says}: {checked:?}");
    }
    assert!(!checked.out.contains("warning"), "{checked:?}");
    let mut gateway = on_shipped_config();
    gateway.launch().await;
    let body = super::gateway::fixture("superna-warning.json");
    gateway.post("/webhook?wait=30s", body.clone()).await.ids();
    let archived = std::fs::read(gateway.path("data/out/events.ndjson")).unwrap();
    assert_eq!(archived, body.trim_ascii_end().iter().chain(b"\n").copied().collect::<Vec<_>>());
    assert!(gateway.path("data/log").is_dir(), "all of it is below the working directory");
    gateway.finish().await;
}

#[tokio::test]
async fn check_names_every_problem_with_file_line_and_help() {
    let gateway = Gateway::prepared(
        r#"
[sources.superna]
type = "superna"
alow = ["10.0.0.0/8"]
[routes.all]
sinks = ["archiv"]
[sinks.archive]
type = "fiel"
[sinks.soc]
type = "taegis"
strat = "oldest"
url = "https://siem.example/in"
key = "a-literal-secret"
[sinks.soc.delivery]
rate = "often"
"#,
    );
    for command in ["check", "run"] {
        let wrong = gateway.cli(&[command]).await;
        assert_eq!(wrong.code, Some(78), "{wrong:?}");
        for says in [
            "10-test.toml:4",
            "unknown key `alow`",
            "did you mean `allow`?",
            "10-test.toml:6",
            "`archiv`",
            "did you mean `archive`?",
            "10-test.toml:8",
            "`fiel`",
            "did you mean `file`?",
            "10-test.toml:11",
            "did you mean `start`?",
            "10-test.toml:13",
            "a secret is a reference",
            "sinks.soc.delivery.rate",
            "nothing was started or changed",
        ] {
            assert!(wrong.err.contains(says), "{command}: {says} is not in {}", wrong.err);
        }
        assert!(!wrong.err.contains("a-literal-secret"), "{}", wrong.err);
    }
    assert!(!gateway.path("data").exists(), "nothing was started or changed");
    gateway.configure("10-test.toml", "[sources.superna\n");
    let broken = gateway.cli(&["check"]).await;
    assert_eq!(broken.code, Some(78), "{broken:?}");
    assert!(broken.err.contains("10-test.toml:1"), "{broken:?}");
}

#[tokio::test]
async fn a_second_gateway_on_the_same_folder_is_refused() {
    let gateway = Gateway::start(
        r#"
[sources.superna]
type = "superna"
[unmatched]
sinks = ["archive"]
[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
"#,
    )
    .await;
    let taken = gateway.cli(&["run"]).await;
    assert_eq!(taken.code, Some(1), "{taken:?}");
    assert!(taken.err.contains("another siemgate (pid "), "{taken:?}");
    let second = tokio::task::spawn_blocking({
        let config = gateway.path("config.d");
        move || -> Printed {
            siemgate().arg("--config").arg(config).arg("run").output().unwrap().into()
        }
    });
    let second = second.await.unwrap();
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains("in use by another siemgate"), "{second:?}");
    gateway.finish().await;
}

#[test]
fn the_kinds_of_sink_are_listed_for_people_and_machines() {
    let all = run(&["sinks"]);
    for kind in ["taegis", "file", "stdout"] {
        assert!(all.out.lines().any(|line| line.trim_start().starts_with(kind)), "{all:?}");
    }
    let one = run(&["sinks", "taegis"]);
    assert!(one.out.contains("* url") && one.out.contains("[sinks.sophos]"), "{one:?}");
    // What a product reached by syslog wants, and what was tried.
    let carried = run(&["sinks", "qradar"]);
    assert!(carried.out.contains("address = \"tls://qradar.example:6514\""), "{carried:?}");
    let tried = run(&["sinks", "alertmanager"]);
    assert!(tried.out.contains("Tried against: Alertmanager"), "{tried:?}");
    let json: Value = serde_json::from_str(&run(&["sinks", "taegis", "--json"]).out).unwrap();
    let [facts] = &json.as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!((&facts["name"], &facts["class"]), (&"taegis".into(), &"siem".into()), "{facts}");
    let key = &facts["settings"]["properties"]["key"];
    assert!(!key.is_null() && facts["sample"].as_str().unwrap().contains("type = \"taegis\""));
    let unknown = run(&["sinks", "tageis"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("did you mean `taegis`?"), "{unknown:?}");
}

#[tokio::test]
async fn send_tells_whether_a_harmless_sample_was_delivered() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(r#"{"successCount":1}"#));
    let gateway = started(peer.port(), "").await;
    let arguments =
        ["send", "--sample", "major", "--set", "numFiles=7", "--set", "note=a drill", "--wait"];
    let sent = gateway.cli(&arguments).await;
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert!(sent.out.contains("delivered, status 200, successCount 1"), "{sent:?}");
    gateway.cli(&arguments).await;
    let bodies: Vec<Value> = peer.requests().iter().map(|request| request.json()).collect();
    let [first, second] = &bodies[..] else { panic!("always a fresh id: {bodies:?}") };
    assert_ne!(first["id"], second["id"]);
    assert_eq!((&first["severity"], &first["state"]), (&"MAJOR".into(), &"DELAYED_LOCKOUT".into()));
    assert_eq!((&first["numFiles"], &first["note"]), (&7.into(), &"a drill".into()));
    assert_eq!(first["siemgate"]["simulated"], true);
    assert_eq!(
        (&first["userName"], &first["clientIPs"][0]),
        (&"SIEMGATE-TEST\\nobody".into(), &"192.0.2.1".into())
    );

    peer.always(Answer::new(401, "who?"));
    let waiting = gateway.cli(&["send", "--wait", "500ms", "--json"]).await;
    assert_eq!(waiting.code, Some(1), "not delivered yet: {waiting:?}");
    let told: Value = serde_json::from_str(&waiting.out).unwrap();
    assert_eq!(told["settled"], false, "{told}");
    let out =
        told["events"][0]["deliveries"].as_array().unwrap().iter().find(|d| d["sink"] == "out");
    assert_eq!((&out.unwrap()["state"], &out.unwrap()["status"]), (&"pending".into(), &401.into()));
    let unknown = gateway.cli(&["send", "--sample", "none"]).await;
    assert!(unknown.code == Some(1) && unknown.err.contains("critical, major"), "{unknown:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn commands_say_when_no_gateway_runs() {
    let gateway = on_shipped_config();
    for arguments in [&["send"][..], &["dead", "list"], &["quarantine", "list"]] {
        let alone = gateway.cli(arguments).await;
        assert_eq!(alone.code, Some(1), "{alone:?}");
        assert!(alone.err.contains("is `siemgate run` running"), "{alone:?}");
    }
}

#[tokio::test]
async fn the_logs_files_are_inspected_and_verified_also_while_it_runs() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(r#"{"successCount":1}"#));
    let mut gateway = started(peer.port(), "").await;
    post(&gateway, 0..50).await;
    for arguments in [&["log", "inspect"][..], &["log", "verify", "--live"]] {
        let looked = gateway.cli(arguments).await;
        assert_eq!(looked.code, Some(0), "{looked:?}");
        assert!(looked.out.contains("50 events"), "{looked:?}");
    }
    gateway.until_settled("out", "delivered", 50).await;
    gateway.stop().await;
    let segments = std::fs::read_dir(gateway.path("data/log")).unwrap().map(|e| e.unwrap().path());
    let segment =
        segments.filter(|path| path.extension().is_some_and(|e| e == "log" || e == "seg"));
    let segment = segment.min().expect("a segment");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at =
        bytes.windows(4).position(|window| window == b"i-25").expect("the body is in the file");
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let damaged = gateway.cli(&["log", "verify"]).await;
    assert_eq!(damaged.code, Some(1), "{damaged:?}");
    assert!(damaged.out.contains("DAMAGED") && damaged.out.contains("49 events"), "{damaged:?}");
    // Damage is reported and counted, and keeps nobody from starting.
    gateway.launch().await;
    assert!(gateway.metric("siemgate_log_damaged_bytes_total", &[]).await > Some(0.0));
    gateway.finish().await;
}
