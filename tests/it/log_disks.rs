//! Real file systems that are full, read-only or limited under a real gateway. The disk is a tmpfs in
//! a mount namespace of its own, so that nothing of it outlives the test.
//!
//! Where no namespace can be made the tests say so and pass: what a disk does to the log is also in
//! `log_faults.rs`, on a simulated one.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::gateway::{Gateway, until};
use super::peer::{Answer, Peer};

const OK: &str = r#"{"successCount":1}"#;

/// A file system at a folder, seen only by what is started inside.
pub struct Mounted {
    keeper: Child,
    dir: PathBuf,
}

impl Mounted {
    /// A tmpfs of so many KiB at `dir`.
    pub fn tmpfs(dir: &Path, kib: u64) -> Option<Self> {
        std::fs::create_dir_all(dir).unwrap();
        let mut unshare = Command::new("unshare");
        let mount = format!(
            "mount -t tmpfs -o size={kib}k,mode=700 tmpfs \"$0\" && echo ready && exec sleep 600"
        );
        unshare.arg(if is_root() { "-m" } else { "-rm" }).args(["sh", "-c", &mount]).arg(dir);
        unshare.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut keeper = unshare.spawn().ok()?;
        let mut ready = String::new();
        let told = keeper.stdout.take().map(|out| BufReader::new(out).read_line(&mut ready));
        let mounted = Self { keeper, dir: dir.to_owned() };
        if ready.trim() != "ready" {
            eprintln!("SKIPPED: no namespace with a tmpfs can be made here: {told:?}");
            return None;
        }
        Some(mounted)
    }

    /// What starts a program inside.
    pub fn door(&self) -> Vec<String> {
        let pid = self.keeper.id().to_string();
        let users: &[&str] = if is_root() { &[] } else { &["-U", "--preserve-credentials"] };
        let enter = ["/usr/bin/nsenter", "-t", &pid, "-m"];
        enter.iter().chain(users).chain(&["--"]).map(|part| (*part).to_owned()).collect()
    }

    /// Run a script inside; `$0` is the folder.
    fn run(&self, script: &str) {
        let door = self.door();
        let mut command = Command::new(&door[0]);
        let status = command.args(&door[1..]).args(["sh", "-c", script]).arg(&self.dir).status();
        assert!(status.unwrap().success(), "{script}");
    }

    /// A path inside, from outside.
    fn path(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.keeper.id()));
        root.join(self.dir.strip_prefix("/").unwrap()).join(name)
    }

    /// Take room until so many bytes are left.
    pub fn fill_but(&self, left: u64) {
        let free = rustix::fs::statvfs(self.path("")).map(|fs| fs.f_bavail * fs.f_frsize).unwrap();
        let taken = vec![1; usize::try_from(free.saturating_sub(left)).unwrap()];
        std::fs::write(self.path("filler"), taken).unwrap();
    }

    /// Take all the room there is.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.path("filler")).unwrap();
        for size in [64 << 10, 4 << 10, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    pub fn make_room(&self) {
        std::fs::remove_file(self.path("filler")).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = (self.keeper.kill(), self.keeper.wait());
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Everything goes to `out` at `port`, alarms to `desk`; both outside the small disk.
fn prepared(port: u16, log: &str) -> Gateway {
    let mut gateway = Gateway::prepared(&format!(
        r#"
[server]
drain = "1s"
[log]
max_bytes = "1GiB"
segment_bytes = "1MiB"
{log}
[sources.superna]
type = "superna"
path = "/webhook"
dedupe = false
[routes.all]
sinks = "out"
[sinks.desk]
type = "file"
path = "{{{{dir}}}}/desk.ndjson"
[sinks.out]
type = "taegis"
url = "http://127.0.0.1:{port}/in"
key = {{ env = "KEY" }}
[sinks.out.delivery]
retry = {{ first = "50ms", max = "300ms" }}
[alarms]
sinks = "desk"
every = "2s"
"#
    ));
    gateway.set_env("KEY", "k");
    gateway
}

/// A body of about 60 KiB: small enough to be passed on from memory.
fn large(number: usize) -> String {
    format!("{{\"n\":{number},\"severity\":\"WARNING\",\"pad\":\"{}\"}}", "x".repeat(60_000))
}

/// Post larger and larger numbers from `next` on until one is refused: those that were stored, and the
/// answer to the one after them.
async fn until_refused(gateway: &Gateway, next: &mut usize) -> super::gateway::Told {
    loop {
        let answer = gateway.post("/webhook", large(*next)).await;
        if answer.status != 200 {
            return answer;
        }
        *next += 1;
        assert!(*next < 400, "the disk cannot hold so many");
    }
}

async fn until_alarm(gateway: &Gateway, name: &str, state: &str) {
    until(&format!("{name} is {state}"), async || {
        let end = format!(":{name}");
        let lines = gateway.lines("desk.ndjson");
        let mut alarms = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        alarms.find(|alarm| {
            alarm["state"] == state && alarm["incident"].as_str().is_some_and(|i| i.ends_with(&end))
        })
    })
    .await;
}

async fn until_came(peer: &Peer, numbers: std::ops::Range<usize>) {
    until("all have come", async || {
        let bodies = peer.bodies();
        let came = |n: usize| bodies.iter().any(|body| **body == *large(n).as_bytes());
        numbers.clone().all(came).then_some(())
    })
    .await;
}

/// Full, by the kernel's word or by `min_free`: refused, delivered, restarted, and mended by itself.
async fn a_full_disk(min_free: &str, alarm: &str) {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let mut gateway = prepared(peer.port(), &format!("min_free = \"{min_free}\""));
    let Some(disk) = Mounted::tmpfs(&gateway.path("data"), 12 << 10) else { return };
    gateway.start_by(disk.door());
    gateway.launch().await;
    let mut next = 0;
    for _ in 0..5 {
        gateway.post("/webhook", large(next)).await.ids();
        next += 1;
    }
    disk.fill();
    let refused = until_refused(&gateway, &mut next).await;
    assert_eq!((refused.status, &refused.headers["retry-after"]), (503, &"30".parse().unwrap()));
    assert!(refused.text.contains("full"), "{refused:?}");
    // What was stored is delivered, and what was not is passed on all the same.
    until_came(&peer, 0..next + 1).await;
    gateway.until_metric("siemgate_delivery_lag_events", &[("sink", "out")], 0.0).await;
    until_alarm(&gateway, alarm, "open").await;
    let process = gateway.process();
    disk.make_room();
    until("it is taken again", async || {
        (gateway.post("/webhook", large(next)).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(gateway.process(), process, "nobody started it again");
    next += 1;
    until_alarm(&gateway, alarm, "cleared").await;
    // A crash on a full disk, and a start on it: delivering is what makes room.
    let port = peer.port();
    peer.stop().await;
    for _ in 0..3 {
        gateway.post("/webhook", large(next)).await.ids();
        next += 1;
    }
    disk.fill();
    gateway.kill();
    let peer = Peer::start_at(port).await;
    peer.always(Answer::ok(OK));
    gateway.launch().await;
    until_came(&peer, next - 3..next).await;
    disk.make_room();
    until("it is taken again", async || {
        (gateway.post("/webhook", large(next)).await.status == 200).then_some(())
    })
    .await;
    until_came(&peer, next..next + 1).await;
    gateway.finish().await;
}

#[tokio::test]
async fn a_disk_without_any_room_refuses_and_is_used_again_when_it_has_some() {
    a_full_disk("0B", "refused:superna/log").await;
}

#[tokio::test]
async fn a_disk_with_less_room_than_is_to_be_left_refuses_and_the_alarm_ends() {
    a_full_disk("1MiB", "disk_full").await;
}

#[tokio::test]
async fn a_folder_that_turns_read_only_ends_the_run_and_the_next_one_lacks_nothing() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let mut gateway = prepared(peer.port(), "");
    let Some(disk) = Mounted::tmpfs(&gateway.path("data"), 32 << 10) else { return };
    gateway.start_by(disk.door());
    gateway.launch().await;
    let port = peer.port();
    let mut next = 0;
    gateway.post("/webhook", large(next)).await.ids();
    next += 1;
    until_came(&peer, 0..1).await;
    peer.stop().await;
    disk.run("mount -t tmpfs -o ro tmpfs \"$0/log\"");
    let refused = until_refused(&gateway, &mut next).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.text.contains("Read-only"), "{refused:?}");
    assert!(next > 3, "the open segment is still written");
    until_alarm(&gateway, "log_failed", "open").await;
    assert_eq!(gateway.ended().await.code(), Some(74), "{}", gateway.journal_text());
    disk.run("umount \"$0/log\"");
    let peer = Peer::start_at(port).await;
    peer.always(Answer::ok(OK));
    gateway.launch().await;
    until_came(&peer, 1..next).await;
    gateway.post("/webhook", large(next)).await.ids();
    until_came(&peer, next..next + 1).await;
    gateway.finish().await;
}

#[tokio::test]
async fn a_log_that_failed_is_said_to_be_well_after_the_start_that_follows() {
    let peer = Peer::start().await;
    let port = peer.port();
    peer.stop().await;
    let mut gateway = prepared(port, "");
    gateway.launch().await;
    for number in 0..5 {
        gateway.post("/webhook", large(number)).await.ids();
    }
    gateway.stop().await;
    // Every start begins a segment of 1 MiB, and no file may be so large.
    gateway.limit_files(512);
    gateway.launch().await;
    assert_eq!(gateway.post("/webhook", large(5)).await.status, 503);
    until_alarm(&gateway, "log_failed", "open").await;
    assert_eq!(gateway.ended().await.code(), Some(74), "{}", gateway.journal_text());
    gateway.limit_files(1 << 30);
    let peer = Peer::start_at(port).await;
    peer.always(Answer::ok(OK));
    gateway.launch().await;
    until_came(&peer, 0..5).await;
    until_alarm(&gateway, "log_failed", "cleared").await;
    // Once, and not again by the start after that.
    gateway.stop().await;
    gateway.launch().await;
    gateway.post("/webhook?wait=10s", large(6)).await.ids();
    let alarms: Vec<Value> = gateway
        .lines("desk.ndjson")
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let cleared = alarms.iter().filter(|alarm| {
        let incident = alarm["incident"].as_str().unwrap_or_default();
        incident.ends_with(":log_failed") && alarm["state"] == "cleared"
    });
    assert_eq!(cleared.count(), 1, "{alarms:?}");
    gateway.finish().await;
}

/// The cursors of the log, changed as no gateway would.
fn rewrite_cursors(gateway: &Gateway, change: impl Fn(&mut Value)) {
    let file = gateway.path("data/log/cursors");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut marks: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    change(&mut marks);
    let text = marks.to_string();
    let sum = crc32c::crc32c(text.as_bytes());
    std::fs::write(&file, format!("{text}\n{sum:08x}\n")).unwrap();
}

#[tokio::test]
async fn a_ledger_that_does_not_balance_is_told_until_it_does() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(OK));
    let mut gateway = prepared(peer.port(), "");
    gateway.launch().await;
    gateway.post("/webhook?wait=10s", large(0)).await.ids();
    gateway.stop().await;
    let add = |by: i64| {
        move |marks: &mut Value| {
            let delivered = &mut marks["deliveries"]["out"]["terms"]["delivered"];
            *delivered = (delivered.as_i64().unwrap() + by).into();
        }
    };
    rewrite_cursors(&gateway, add(-1));
    gateway.launch().await;
    until_alarm(&gateway, "ledger:out", "open").await;
    let labels = [("sink", "out")];
    assert_eq!(gateway.metric("siemgate_delivery_unaccounted_events", &labels).await, Some(1.0));
    gateway.until_metric("siemgate_delivery_lag_events", &[("sink", "desk")], 0.0).await;
    gateway.kill();
    rewrite_cursors(&gateway, add(1));
    gateway.launch().await;
    until_alarm(&gateway, "ledger:out", "cleared").await;
    gateway.finish().await;
}
