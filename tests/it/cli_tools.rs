//! The commands around a gateway: secrets, captures, the support bundle, help in all its forms.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::gateway::{Gateway, Printed, fixture, siemgate, until};
use super::peer::{Answer, Peer};

const CONFIG: &str = r#"
[sources.superna]
type = "superna"
[unmatched]
sinks = ["out"]
[sinks.out]
type = "file"
path = "{{dir}}/out.ndjson"
"#;

/// Run the binary with `input` on its standard input.
fn with_input(gateway: &Gateway, arguments: &[&str], input: &[u8]) -> Printed {
    let mut command = siemgate();
    command.arg("--config").arg(gateway.path("config.d")).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may refuse before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap().into()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

#[tokio::test]
async fn a_secret_is_set_used_listed_and_never_shown() {
    let gateway = Gateway::prepared(CONFIG);
    let set = with_input(&gateway, &["secret", "set", "sophos.key"], b"hunter2-of-the-tenant\n");
    assert_eq!(set.code, Some(0), "{set:?}");
    let file = gateway.path("secrets/sophos.key");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hunter2-of-the-tenant\n");
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    // The line that it printed is what the configuration takes.
    let reference = set.out.lines().find_map(|line| line.split_once(" as ")).unwrap().1;
    gateway.configure(
        "50-sophos.toml",
        &format!("[sinks.sophos]\ntype = \"taegis\"\nurl = \"https://siem.example/x\"\nkey = {reference}\n"),
    );
    gateway.configure(
        "60-auth.toml",
        "[[sources.superna.auth]]\nheader = \"X\"\nsecret = { env = \"NOT_SET_ANYWHERE\" }\n",
    );
    with_input(&gateway, &["secret", "set", "spare"], b"x");
    let listed = gateway.cli(&["secret", "list"]).await;
    assert_eq!(listed.code, Some(1), "one cannot be read: {listed:?}");
    for says in [
        &format!("sinks.sophos.key             file {}: good", file.display()),
        "sources.superna.auth[0].secret env NOT_SET_ANYWHERE: environment variable NOT_SET_ANYWHERE is not set",
        &format!("not referred to: {}", gateway.path("secrets/spare").display()),
    ] {
        assert!(listed.out.contains(says), "{says} is not in {}", listed.out);
    }
    let json = gateway.cli(&["secret", "list", "--json"]).await;
    let told: Value = serde_json::from_str(&json.out).unwrap();
    let secrets = told["secrets"].as_array().unwrap();
    let good =
        |key: &str| secrets.iter().find(|secret| secret["key"] == key).unwrap()["good"].clone();
    assert_eq!(good("sinks.sophos.key"), true, "{told}");
    assert_eq!(good("sources.superna.auth[0].secret"), false, "{told}");
    for printed in [&set, &listed, &json] {
        assert!(!format!("{printed:?}").contains("hunter2"), "{printed:?}");
    }
}

#[tokio::test]
async fn what_is_no_secret_is_refused_and_replaces_nothing() {
    let gateway = Gateway::prepared(CONFIG);
    with_input(&gateway, &["secret", "set", "key"], b"first");
    let long = vec![b'x'; 100_000];
    for (name, input, says) in [
        ("key", &b""[..], "is empty"),
        ("key", b"\n", "is empty"),
        ("key", b"\xff\xfe", "not text"),
        ("key", &long, "more than"),
        ("../key", b"x", "cannot be a secret's name"),
    ] {
        let refused = with_input(&gateway, &["secret", "set", name], input);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.err.contains(says), "{says}: {refused:?}");
    }
    assert_eq!(std::fs::read_to_string(gateway.path("secrets/key")).unwrap(), "first\n");
    assert!(!gateway.path("key").exists());
}

#[tokio::test]
async fn capture_keeps_the_next_real_bodies_and_names_what_nobody_reads() {
    let gateway = Gateway::start(CONFIG).await;
    // Earlier events are not the next ones.
    gateway.post("/webhook", fixture("superna-warning.json")).await.ids();
    let capturing = gateway.cli(&["capture", "--count", "2", "--wait", "60s"]);
    let dir = gateway.path("data/captures");
    let posting = async {
        let mut sent = 0;
        until("both were captured", async || {
            // Only what is posted while it waits counts, and when that begins nobody tells.
            gateway.cli(&["send"]).await;
            let odd = format!("{{\"severity\":\"CRITICAL\", \"state\":\"LOCKED_OUT\",\"new{sent}\":[\"\u{e9}\"]}}\r\n");
            gateway.post("/webhook", odd).await.ids();
            sent += 1;
            let kept = std::fs::read_dir(&dir).map_or(0, |entries| entries.count());
            (kept >= 2).then_some(())
        })
        .await;
    };
    let (captured, ()) = tokio::join!(capturing, posting);
    assert_eq!(captured.code, Some(0), "{captured:?}");
    assert!(!captured.err.contains("error"), "{captured:?}");
    let mut bodies: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600);
        assert!(captured.out.contains(path.to_str().unwrap()), "{captured:?}");
        bodies.push(std::fs::read_to_string(&path).unwrap());
    }
    assert_eq!((bodies.len(), mode(&dir)), (2, 0o700));
    for body in &bodies {
        assert!(body.ends_with("[\"\u{e9}\"]}\r\n") && body.contains("\"CRITICAL\", "), "{body:?}");
        let key = body.split('"').find(|part| part.starts_with("new")).unwrap();
        let says = format!("keys that the decoder makes nothing of: {key}");
        assert!(captured.out.contains(&says), "{says}: {captured:?}");
    }
    let late = gateway.cli(&["capture", "--wait", "1ms"]).await;
    assert!(late.code == Some(1) && late.err.contains("0 of 1 came in time"), "{late:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn send_says_what_it_proved_and_what_it_did_not() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(r#"{"successCount":1}"#));
    let mut gateway = Gateway::prepared(&format!(
        "{CONFIG}[sinks.sophos]\ntype = \"taegis\"\nurl = \"{}\"\nkey = {{ env = \"KEY\" }}\n[routes.all]\nsinks = [\"sophos\", \"out\"]\n",
        peer.url()
    ));
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    let sent = gateway.cli(&["send", "--wait", "30s"]).await;
    assert_eq!(sent.code, Some(0), "{sent:?}");
    for says in [
        "out proves that the line is in the file",
        "sophos proves the transport",
        "only Defender's own test event",
        "FROM thirdparty WHERE sensor_id='Superna.io' EARLIEST=-7d",
    ] {
        assert!(sent.out.contains(says), "{says} is not in {}", sent.out);
    }
    peer.always(Answer::new(401, ""));
    let failed = gateway.cli(&["send", "--wait", "1s"]).await;
    assert!(!failed.out.contains("sophos proves"), "nothing was proved: {failed:?}");
    peer.always(Answer::ok(r#"{"successCount":1}"#));
    gateway.until_settled("sophos", "delivered", 2).await;
    gateway.finish().await;
}

/// The files of a bundle, by their names without the folder.
fn unpacked(archive: &Path) -> BTreeMap<String, String> {
    let file = std::fs::File::open(archive).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(name, text);
    }
    files
}

#[tokio::test]
async fn a_support_bundle_tells_all_but_secrets_and_payloads() {
    let peer = Peer::start().await;
    // A destination that quotes what it refuses.
    peer.answer(|request| match request.text().contains("payroll") {
        true => Answer::new(400, "cannot parse AD01\\\\demouser payroll.docx"),
        false => Answer::ok("{}"),
    });
    let mut gateway = Gateway::prepared(&format!(
        "{CONFIG}[sinks.siem]\ntype = \"taegis\"\nurl = \"{}/hidden-path\"\nkey = {{ env = \"KEY\" }}\n[routes.all]\nsinks = [\"siem\", \"out\"]\n",
        peer.url()
    ));
    gateway.set_env("KEY", "hunter2-of-the-tenant");
    gateway.launch().await;
    gateway.post("/webhook", fixture("superna-critical-locked-out.json")).await.ids();
    gateway.post("/webhook", "{\"user\":\"demouser\"").await;
    gateway.post("/webhook", fixture("superna-warning.json")).await.ids();
    gateway.until_settled("siem", "dead", 1).await;
    gateway.until_settled("out", "delivered", 2).await;
    let made = gateway.cli(&["support-bundle", "--out", "bundle.tar.gz"]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let archive = gateway.path("bundle.tar.gz");
    assert_eq!(mode(&archive), 0o600);
    let files = unpacked(&archive);
    for (file, says) in [
        ("system.txt", "siemgate "),
        ("settings.txt", "sinks.siem"),
        ("check.txt", "good"),
        ("files.txt", ".seg"),
        ("log.txt", "2 events"),
        ("metrics.txt", "siemgate_ingress_events_total{source=\"superna\"} 2"),
        ("journal.txt", "delivered"),
        ("dead.txt", "sink=siem source=superna cause=refused"),
        ("quarantine.txt", "reason=malformed"),
    ] {
        let text =
            files.get(file).unwrap_or_else(|| panic!("{file} is missing: {:?}", files.keys()));
        assert!(text.contains(says), "{file} does not say {says}: {text}");
    }
    let all = files.values().cloned().collect::<String>();
    for hidden in ["hunter2", "hidden-path", "demouser", "payroll"] {
        assert!(!all.contains(hidden), "{hidden} is in the bundle: {files:#?}");
    }
    let again = gateway.cli(&["support-bundle", "--out", "bundle.tar.gz"]).await;
    assert!(again.code == Some(1) && again.err.contains("bundle.tar.gz"), "{again:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_bundle_can_be_made_of_a_gateway_that_does_not_start() {
    let gateway = Gateway::prepared("[sinks.out]\ntype = \"fiel\"\n");
    let made = gateway.cli(&["support-bundle", "--out", "bundle.tar.gz"]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let files = unpacked(&gateway.path("bundle.tar.gz"));
    assert!(files["check.txt"].contains("did you mean `file`?"), "{files:#?}");
    assert!(files["gateway.txt"].contains("did not answer"), "{files:#?}");
}

#[tokio::test]
async fn machines_are_answered_in_json() {
    let gateway = Gateway::start(CONFIG).await;
    std::fs::create_dir(gateway.path("config.d/tests")).unwrap();
    gateway.configure("tests/cases.toml", "[[case]]\nname = \"a\"\nevent = '{}'\nsinks = [\"out\"]\n[[case]]\nname = \"b\"\nevent = '{}'\nsinks = []\n");
    let json = async |arguments: &[&str]| -> (Option<i32>, Value) {
        let printed = gateway.cli(arguments).await;
        let told = serde_json::from_str(&printed.out).unwrap_or_else(|_| panic!("{printed:?}"));
        (printed.code, told)
    };
    let (code, check) = json(&["check", "--json", "--tests"]).await;
    assert_eq!(
        (code, &check["good"], &check["tests"]["failed"]),
        (Some(1), &true.into(), &1.into())
    );
    assert_eq!(check["sinks"][0]["type"], "file");
    let (code, tests) = json(&["test", "--json"]).await;
    assert_eq!((code, &tests["cases"][1]["passed"]), (Some(1), &false.into()), "{tests}");
    let (code, log) = json(&["log", "inspect", "--json"]).await;
    assert_eq!((code, &log["logs"][0]["damaged"]), (Some(0), &0.into()), "{log}");
    gateway.configure("20-more.toml", "[sinks.more]\ntype = \"stdout\"\n");
    let reloaded = until("the new sink is in force", async || {
        let (code, change) = json(&["reload", "--json"]).await;
        (code == Some(0) && gateway.metrics().await.contains("sink=\"more\"")).then_some(change)
    });
    assert!(reloaded.await["config"].is_string());
    let told = gateway.cli(&["reload"]).await;
    assert!(told.out.contains("sinks that were not touched: 2"), "{told:?}");
    gateway.configure("30-wrong.toml", "[sinks.wrong]\ntype = \"fiel\"\n");
    let (code, wrong) = json(&["check", "--json"]).await;
    let problem = &wrong["problems"][0];
    assert_eq!((code, &problem["line"], &wrong["good"]), (Some(78), &2.into(), &false.into()));
    assert!(problem["file"].as_str().unwrap().ends_with("30-wrong.toml"), "{wrong}");
    gateway.finish().await;
}

#[test]
fn every_command_has_a_manual_page_and_shells_complete_it() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man");
    let made = siemgate().args(["man", pages.to_str().unwrap()]).output().unwrap();
    assert!(made.status.success());
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    let main = page("siemgate.1");
    for says in ["SIEMGATE_LOG_LEVEL", "wrong configuration", "support\\-bundle"] {
        assert!(main.contains(says), "{says} is not in {main}");
    }
    assert!(page("siemgate-secret-set.1").contains("standard input"));
    assert!(page("siemgate-log-repair.1").contains("Deletes nothing"));
    assert!(page("siemgate-log-import.1").contains("positions and cursors are kept"));
    assert!(page("siemgate-check.1").starts_with(".ie"), "a page of roff");
    for shell in ["bash", "zsh", "fish"] {
        let made = siemgate().args(["completions", shell]).output().unwrap();
        let text = String::from_utf8(made.stdout).unwrap();
        assert!(made.status.success() && text.contains("support-bundle"), "{shell}");
    }
    let bash = siemgate().args(["completions", "bash"]).output().unwrap().stdout;
    let script = dir.path().join("siemgate.bash");
    std::fs::write(&script, bash).unwrap();
    let checked = std::process::Command::new("bash").arg("-n").arg(&script).status().unwrap();
    assert!(checked.success(), "bash reads it");
}

#[test]
fn colours_are_for_terminals_only() {
    let wrong = siemgate().args(["--config", "/nowhere", "check"]).output().unwrap();
    let err = String::from_utf8(wrong.stderr).unwrap();
    assert!(err.starts_with("error: ") && !err.contains('\u{1b}'), "{err:?}");
}
