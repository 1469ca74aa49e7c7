//! `siemgate log …` on real gateways: moved to another machine, looked after beside a broken
//! configuration, left alone while it runs.

use std::path::Path;

use siemgate::core::log::portable::check;
use siemgate::core::log::verify::verify;
use siemgate::core::log::{FilesLog, Log, RealDisk};

use super::gateway::{Gateway, until};
use super::outages::body;
use super::peer::{Answer, Peer};
use crate::log_common::{run, small};

const OK: &str = r#"{"successCount":1}"#;

fn config(port: u16) -> String {
    format!(
        r#"
[sources.superna]
type = "superna"
path = "/webhook"
[routes.all]
sinks = ["out", "archive"]
[sinks.archive]
type = "file"
path = "{{{{dir}}}}/events.ndjson"
[sinks.out]
type = "taegis"
url = "http://127.0.0.1:{port}/in"
key = {{ env = "KEY" }}
[sinks.out.delivery]
retry = {{ first = "50ms", max = "300ms" }}
"#
    )
}

fn prepared(port: u16) -> Gateway {
    let mut gateway = Gateway::prepared(&config(port));
    gateway.configure("05-drain.toml", "[server]\ndrain = \"300ms\"\n");
    gateway.set_env("KEY", "k");
    gateway
}

/// What `dead list` and `quarantine list` show, but for times: disks keep microseconds of them.
async fn letters(gateway: &Gateway) -> String {
    let dead = gateway.cli(&["dead", "list"]).await.out;
    let listed = dead + &gateway.cli(&["quarantine", "list"]).await.out;
    let is_time = |word: &&str| word.parse::<jiff::Timestamp>().is_ok();
    let words = listed.split(' ').filter(|word| !is_time(word));
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_gateway_that_was_moved_delivers_what_was_open_and_nothing_twice() {
    let peer = Peer::start().await;
    let port = peer.port();
    peer.answer(|request| match request.text() {
        text if text.contains("poison") => Answer::new(400, "no"),
        _ => Answer::ok(OK),
    });
    let mut old = prepared(port);
    old.launch().await;
    assert_eq!(old.post("/webhook", "{").await.status, 400);
    old.post("/webhook", r#"{"n":"poison"}"#).await.ids();
    let mut delivered = 0;
    until("the poisoned one is a dead letter", async || {
        old.post("/webhook?wait=10s", body(delivered)).await.ids();
        delivered += 1;
        (old.settled("out", "dead").await == 1).then_some(())
    })
    .await;
    old.until_metric("siemgate_delivery_lag_events", &[("sink", "out")], 0.0).await;
    peer.stop().await;
    let open = delivered..delivered + 20;
    for number in open.clone() {
        old.post("/webhook", body(number)).await.ids();
    }
    old.until_metric("siemgate_delivery_lag_events", &[("sink", "archive")], 0.0).await;
    let waiting = letters(&old).await;
    assert_eq!(waiting.matches("1 open, 1 shown").count(), 2, "{waiting}");
    old.stop().await;
    // What is wrong elsewhere is no obstacle.
    old.configure("50-broken.toml", "[sinks.new]\ntype = \"fiel\"\n");
    let exported = old.cli(&["log", "export", "moved"]).await;
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let events = delivered + 21;
    assert!(exported.out.contains(&format!("log: {events} events, positions 0..{events}\n")));
    let again = old.cli(&["log", "export", "moved"]).await;
    assert!(again.code == Some(1) && again.err.contains("exists"), "{again:?}");

    let mut new = prepared(port);
    let file = old.path("moved").display().to_string();
    let imported = new.cli(&["log", "import", &file]).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let twice = new.cli(&["log", "import", &file]).await;
    assert!(twice.code == Some(1) && twice.err.contains("is not empty"), "{twice:?}");
    assert_eq!(new.cli(&["log", "verify"]).await.code, Some(0));
    let peer = Peer::start_at(port).await;
    peer.always(Answer::ok(OK));
    new.launch().await;
    new.until_metric("siemgate_delivery_lag_events", &[("sink", "out")], 0.0).await;
    new.post("/webhook?wait=10s", body(9_999)).await.ids();
    let mut came: Vec<String> = peer.requests().iter().map(|request| request.text()).collect();
    let mut expected: Vec<String> = open.chain([9_999]).map(body).collect();
    came.sort();
    expected.sort();
    assert_eq!(came, expected);
    assert_eq!(new.lines("events.ndjson"), [body(9_999)], "the archive had all the others");
    assert_eq!(letters(&new).await, waiting);
    new.finish().await;
    old.finish().await;
}

#[tokio::test]
async fn tools_refuse_a_log_in_use_and_say_whose_it_is() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let mut gateway = prepared(peer.port());
    gateway.launch().await;
    gateway.post("/webhook?wait=10s", body(1)).await.ids();
    let process = format!("(process {})", gateway.process());
    for arguments in [
        &["log", "verify"][..],
        &["log", "repair"],
        &["log", "repair", "--go"],
        &["log", "export", "file"],
    ] {
        let refused = gateway.cli(arguments).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.err.contains(&process) && refused.err.contains("in use"), "{refused:?}");
    }
    assert!(!gateway.path("file").exists());
    for arguments in [&["log", "inspect"][..], &["log", "verify", "--live"]] {
        let looked = gateway.cli(arguments).await;
        assert_eq!(looked.code, Some(0), "{looked:?}");
    }
    gateway.stop().await;
    let well = gateway.cli(&["log", "repair"]).await;
    assert_eq!(well.code, Some(0), "{well:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn damage_is_named_set_aside_on_demand_and_told_by_an_alarm() {
    let peer = Peer::start().await;
    let port = peer.port();
    peer.stop().await;
    let mut gateway = prepared(port);
    gateway.configure("20-alarms.toml", "[sinks.desk]\ntype = \"file\"\npath = \"{{dir}}/desk.ndjson\"\n[alarms]\nsinks = [\"desk\"]\nevery = \"2s\"\n");
    gateway.launch().await;
    for number in 0..30 {
        gateway.post("/webhook", body(number)).await.ids();
    }
    gateway.until_metric("siemgate_delivery_lag_events", &[("sink", "archive")], 0.0).await;
    gateway.stop().await;
    let segment = gateway.path("data/log/00000000000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(6).position(|part| part == b"\"i-25\"").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let dir = gateway.path("data").display().to_string();
    gateway.configure("50-broken.toml", "this is no TOML\n");
    let blind = gateway.cli(&["log", "verify"]).await;
    assert!(blind.code == Some(78) && blind.err.contains("--dir"), "{blind:?}");
    let named = gateway.cli(&["log", "verify", "--dir", &dir]).await;
    assert_eq!(named.code, Some(1), "{named:?}");
    let place = format!("00000000000000000000.seg at byte {}", at / 4_096 * 4_096);
    for says in [&place, "positions 25: a record does not fit its checksum", "29 events"] {
        assert!(named.out.contains(says), "{says}: {named:?}");
    }
    let told = gateway.cli(&["log", "repair", "--dir", &dir]).await;
    assert!(told.code == Some(1) && told.err.contains("--go"), "{told:?}");
    assert_eq!(std::fs::read(&segment).unwrap(), bytes, "nothing was done");
    let done = gateway.cli(&["log", "repair", "--go", "--dir", &dir]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.contains("29 events of it are kept, lost: positions 25"), "{done:?}");
    let aside = std::fs::read(gateway.path("data/log/00000000000000000000.seg.damaged")).unwrap();
    assert_eq!(aside, bytes);
    let well = gateway.cli(&["log", "verify", "--dir", &dir]).await;
    assert_eq!(well.code, Some(0), "{well:?}");
    assert!(well.out.contains("cannot be read any more: positions 25"), "{well:?}");
    std::fs::remove_file(gateway.path("config.d/50-broken.toml")).unwrap();
    let peer = Peer::start_at(port).await;
    peer.always(Answer::ok(OK));
    gateway.launch().await;
    gateway.until_metric("siemgate_delivery_lag_events", &[("sink", "out")], 0.0).await;
    assert_eq!(peer.requests().len(), 29);
    assert_eq!(gateway.settled("out", "damaged").await, 1);
    for state in ["open", "cleared"] {
        until(&format!("damaged:out is {state}"), async || {
            let lines = gateway.lines("desk.ndjson");
            let alarm = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
            let mut alarm = alarm.filter(|alarm: &serde_json::Value| {
                alarm["incident"].as_str().unwrap_or_default().ends_with(":damaged:out")
            });
            alarm.find(|alarm| alarm["state"] == state)
        })
        .await;
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_running_gateway_is_asked_also_beside_a_broken_configuration() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let mut gateway = prepared(peer.port());
    gateway.launch().await;
    gateway.configure("50-broken.toml", "[sinks.archive]\nptah = \"x\"\n");
    let listed = gateway.cli(&["dead", "list"]).await;
    assert!(listed.code == Some(0) && listed.out.contains("0 open"), "{listed:?}");
    assert!(listed.err.contains("siemgate check"), "{listed:?}");
    gateway.configure("50-broken.toml", "this is no TOML\n");
    let blind = gateway.cli(&["dead", "list"]).await;
    assert!(blind.code == Some(78) && blind.err.contains("SIEMGATE_SOCKET"), "{blind:?}");
    let socket = gateway.path("data/admin.sock").display().to_string();
    gateway.set_env("SIEMGATE_SOCKET", &socket);
    let listed = gateway.cli(&["dead", "list"]).await;
    assert!(listed.code == Some(0) && listed.out.contains("0 open"), "{listed:?}");
    std::fs::remove_file(gateway.path("config.d/50-broken.toml")).unwrap();
    assert_eq!(gateway.cli(&["check"]).await.code, Some(0), "it is no key of the configuration");
    gateway.finish().await;
}

#[tokio::test]
async fn what_is_no_whole_export_is_refused_before_a_folder_is_made() {
    let gateway = Gateway::prepared(&config(1));
    std::fs::write(gateway.path("odd"), "x".repeat(100)).unwrap();
    let file = fixtures().join("moved-v1.siemgate");
    let whole = std::fs::read(file).unwrap();
    std::fs::write(gateway.path("cut"), &whole[..whole.len() / 2]).unwrap();
    for (name, says) in [("odd", "no export"), ("cut", "ends too early"), ("none", "No such file")]
    {
        let path = gateway.path(name).display().to_string();
        let dir = gateway.path("elsewhere").display().to_string();
        let refused = gateway.cli(&["log", "import", &path, "--dir", &dir]).await;
        assert!(refused.code == Some(1) && refused.err.contains(says), "{refused:?}");
        assert!(!gateway.path("elsewhere").exists());
    }
}

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Logs with letters, and an export, as version 1 wrote them: with what gateway of this test made,
/// and `SIEMGATE_WRITE_FIXTURE=1`, they are made anew.
#[tokio::test]
async fn letters_and_an_export_of_version_1_are_read() {
    let (folder, moved) = (fixtures().join("letters-v1"), fixtures().join("moved-v1.siemgate"));
    if std::env::var_os("SIEMGATE_WRITE_FIXTURE").is_some() {
        written(&folder, &moved).await;
    }
    let gateway = Gateway::prepared(&config(1));
    let data = gateway.path("data");
    for name in ["dead", "quarantine"] {
        std::fs::create_dir_all(data.join(name)).unwrap();
        for entry in std::fs::read_dir(folder.join(name)).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), data.join(name).join(entry.file_name())).unwrap();
        }
    }
    read(gateway).await;
    let carried = check(std::fs::File::open(&moved).unwrap()).unwrap();
    let names: Vec<&str> = carried.iter().map(|log| &*log.name).collect();
    assert_eq!(names, ["log", "dead", "quarantine"]);
    let gateway = Gateway::prepared(&config(1));
    let imported = gateway.cli(&["log", "import", moved.to_str().unwrap()]).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let disk = RealDisk::existing(gateway.path("data/log"));
    assert_eq!(verify(&disk).unwrap().damage, []);
    // On a thread without a runtime.
    let dir = gateway.path("data/log");
    let marks = std::thread::spawn(move || {
        let (log, _) = FilesLog::open_dir(&dir, small()).unwrap();
        let marks = log.stats().deliveries;
        run(log.close()).unwrap();
        marks.into_iter().map(|(name, at)| (name, at.mark.0, at.terms.total())).collect::<Vec<_>>()
    });
    let marks = marks.join().unwrap();
    assert!(marks.contains(&("archive".into(), 2, 2)), "{marks:?}");
    assert!(marks.contains(&("out".into(), 2, 2)), "{marks:?}");
    read(gateway).await;
}

/// The letters are there, with what was told of them.
async fn read(mut gateway: Gateway) {
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    let listed = letters(&gateway).await;
    assert_eq!(listed.matches("1 open, 1 shown").count(), 2, "{listed}");
    let shown = gateway.cli(&["dead", "show", "0"]).await;
    assert!(shown.out.contains("poison") && shown.out.contains("400"), "{shown:?}");
    let shown = gateway.cli(&["quarantine", "show", "0"]).await;
    assert!(shown.out.contains("malformed"), "{shown:?}");
    gateway.finish().await;
}

async fn written(folder: &Path, moved: &Path) {
    let peer = Peer::start().await;
    peer.answer(|request| match request.text() {
        text if text.contains("poison") => Answer::new(400, "no"),
        _ => Answer::ok(OK),
    });
    let mut gateway = prepared(peer.port());
    gateway.launch().await;
    assert_eq!(gateway.post("/webhook", "{").await.status, 400);
    gateway.post("/webhook", format!("{{\"n\":\"poison\"}}\n{}", body(1))).await.ids();
    gateway.until_settled("out", "dead", 1).await;
    gateway.until_settled("out", "delivered", 1).await;
    gateway.stop().await;
    let _ = (std::fs::remove_dir_all(folder), std::fs::remove_file(moved));
    let exported = gateway.cli(&["log", "export", moved.to_str().unwrap()]).await;
    assert_eq!(exported.code, Some(0), "{exported:?}");
    for name in ["dead", "quarantine"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
        let files = std::fs::read_dir(gateway.path("data").join(name)).unwrap();
        for entry in files.map(Result::unwrap).filter(|entry| entry.file_name() != "lock") {
            std::fs::copy(entry.path(), folder.join(name).join(entry.file_name())).unwrap();
        }
    }
    gateway.finish().await;
}
