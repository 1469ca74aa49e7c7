//! Files: rotation, compression, limits, and what crashes and other programs leave behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use siemgate::core::sink::{Cause, Outcome, Probe};
use siemgate::sinks::Built;
use tempfile::TempDir;

use crate::sinks::{build, built, delivered, encode, failed, files, lines, now, send, told};

fn sink(path: &Path, more: &str) -> Built {
    built(&format!("[sinks.archive]\ntype = \"file\"\npath = {path:?}\n{more}\n"))
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn closed(built: Built) {
    built.sink.close(Instant::now() + Duration::from_secs(20)).await;
}

fn numbers(dir: &Path) -> Vec<i64> {
    // The current file sorts last: `events-…` < `events.ndjson`.
    let all = files(dir).into_iter().flat_map(|(_, bytes)| lines(&bytes));
    all.map(|value| value["n"].as_i64().unwrap()).collect()
}

async fn count_to(built: &Built, range: std::ops::Range<i64>) {
    for n in range {
        let body = json!({ "n": n, "pad": "x".repeat(400) }).to_string();
        delivered(send(built, &[&body]).await);
    }
}

#[tokio::test]
async fn one_line_an_event_in_order_in_folders_made_on_demand() {
    let dir = folder();
    let path = dir.path().join("a/b/events.ndjson");
    let built = sink(&path, "");
    assert!(!dir.path().join("a").exists());
    delivered(send(&built, &["{ \"n\" : 1.50 }", "{\n\"n\":\"a  b\\n\"}\n"]).await);
    delivered(send(&built, &["[]"]).await);
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"n\":1.50}\n{\"n\":\"a  b\\n\"}\n[]\n");
}

#[tokio::test]
async fn rotation_by_size_compresses_and_keeps_the_total() {
    let dir = folder();
    let path = dir.path().join("events.ndjson");
    let built = sink(&path, "rotate_bytes = \"1KiB\"");
    count_to(&built, 0..50).await;
    closed(built).await;
    assert_eq!(numbers(dir.path()), (0..50).collect::<Vec<_>>());
    let names: Vec<_> = files(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 25, "{names:?}");
    assert_eq!(names[0], "events-20260131T120000Z-000.ndjson.gz");
    assert_eq!(names.iter().filter(|name| name.ends_with(".gz")).count(), 24);

    let bystander = dir.path().join("events-other.ndjson.gz");
    fs::write(
        &bystander,
        flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default()).finish().unwrap(),
    )
    .unwrap();
    let built = sink(&path, "rotate_bytes = \"1KiB\"\nkeep_bytes = \"500B\"");
    count_to(&built, 50..60).await;
    closed(built).await;
    let kept = numbers(dir.path());
    assert!((4..20).contains(&kept.len()) && kept.ends_with(&[57, 58, 59]), "{kept:?}");
    let size =
        |entry: fs::DirEntry| (entry.path() != path).then(|| entry.metadata().unwrap().len());
    let total: u64 =
        fs::read_dir(dir.path()).unwrap().filter_map(|entry| size(entry.unwrap())).sum();
    assert!(total <= 500 + 20, "{total}");
    assert!(bystander.exists(), "only its own files are deleted");
}

#[tokio::test]
async fn rotation_by_time_follows_the_clock_of_the_call() {
    let dir = folder();
    let built = sink(&dir.path().join("events"), "rotate_every = \"1d\"\ngzip = false");
    for hours in [0, 11, 12, 13, 40, 12] {
        let piece = encode(&built, json!({ "n": hours }).to_string()).unwrap();
        let later = now() + jiff_hours(hours);
        delivered(built.sink.send(&[piece], later).await);
    }
    let shown: Vec<_> =
        files(dir.path()).into_iter().map(|(name, bytes)| (name, lines(&bytes).len())).collect();
    let expected =
        [("events", 2), ("events-20260201T000000Z-000", 2), ("events-20260202T040000Z-000", 2)];
    assert_eq!(shown, expected.map(|(name, count)| (name.to_owned(), count)));
}

fn jiff_hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3_600)
}

#[tokio::test]
async fn torn_lines_are_cut_and_others_are_completed() {
    let cases = [
        ("{\"n\":1}\n{\"n\":2,\"to", "{\"n\":1}\n"),
        ("{\"torn\":\"at the very sta", ""),
        ("{\"n\":1}\n\0\0\0\0", "{\"n\":1}\n"),
        ("{\"n\":1}\n{\"n\":2}", "{\"n\":1}\n{\"n\":2}\n"),
        ("notes of somebody", "notes of somebody\n"),
        ("{\"n\":1}\n", "{\"n\":1}\n"),
        ("", ""),
    ];
    for (left, repaired) in cases {
        let dir = folder();
        let path = dir.path().join("events.ndjson");
        fs::write(&path, left).unwrap();
        delivered(send(&sink(&path, ""), &["{\"n\":3}"]).await);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{repaired}{{\"n\":3}}\n"),
            "{left}"
        );
    }
    let dir = folder();
    let path = dir.path().join("events.ndjson");
    let long = format!("{{\"n\":1}}\n{{\"torn\":\"{}", "x".repeat(100_000));
    fs::write(&path, long).unwrap();
    delivered(send(&sink(&path, ""), &["{\"n\":3}"]).await);
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"n\":1}\n{\"n\":3}\n");
}

#[tokio::test]
async fn moved_deleted_and_emptied_files_are_noticed() {
    let dir = folder();
    let path = dir.path().join("events.ndjson");
    let built = sink(&path, "");
    count_to(&built, 0..1).await;
    fs::rename(&path, dir.path().join("events-0.moved")).unwrap();
    count_to(&built, 1..2).await;
    assert_eq!(numbers(dir.path()), [0, 1]);
    // As logrotate's `create` does: another file under the same name.
    fs::rename(&path, dir.path().join("events-1.moved")).unwrap();
    fs::write(&path, "").unwrap();
    count_to(&built, 2..3).await;
    assert_eq!(lines(&fs::read(&path).unwrap()).len(), 1);
    assert_eq!(numbers(dir.path()), [0, 1, 2]);
    fs::remove_file(dir.path().join("events-1.moved")).unwrap();
    fs::remove_file(&path).unwrap();
    count_to(&built, 2..3).await;
    fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    count_to(&built, 3..5).await;
    assert_eq!(numbers(dir.path()), [0, 3, 4]);
    fs::remove_dir_all(dir.path()).unwrap();
    count_to(&built, 5..6).await;
    assert_eq!(numbers(dir.path()), [5]);
}

#[tokio::test]
async fn a_crash_while_compressing_loses_nothing() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    // Killed while writing the compressed copy, and killed between its completion and the removal
    // of the original.
    fs::write(at("events-20260101T000000Z-000.ndjson"), "{\"n\":0}\n").unwrap();
    fs::write(at("events-20260101T000000Z-000.ndjson.gz.tmp"), "half").unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, b"{\"n\":1}\n").unwrap();
    fs::write(at("events-20260101T000000Z-001.ndjson.gz"), gzip.finish().unwrap()).unwrap();
    fs::write(at("events-20260101T000000Z-001.ndjson"), "{\"n\":1}\n").unwrap();
    let built = sink(&at("events.ndjson"), "");
    count_to(&built, 2..3).await;
    closed(built).await;
    assert_eq!(numbers(dir.path()), [0, 1, 2]);
    let names: Vec<_> = files(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().filter(|name| name.ends_with(".ndjson.gz")).count(), 2, "{names:?}");
}

#[tokio::test]
async fn a_link_is_followed_and_stays() {
    let dir = folder();
    let (link, real) = (dir.path().join("link.ndjson"), dir.path().join("real.ndjson"));
    fs::write(&real, "").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let built = sink(&link, "rotate_bytes = \"1KiB\"\ngzip = false");
    count_to(&built, 0..4).await;
    closed(built).await;
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(lines(&fs::read(&link).unwrap()).len(), 2);
    assert!(dir.path().join("real-20260131T120000Z-000.ndjson").exists());
}

#[tokio::test]
async fn what_cannot_be_a_file_is_setup() {
    let dir = folder();
    fs::write(dir.path().join("plain"), "").unwrap();
    for path in [
        dir.path().to_owned(),
        dir.path().join("plain/events"),
        "/dev/null".into(),
        "/proc/siemgate/x".into(),
    ] {
        let built = sink(&path, "");
        let outcome = send(&built, &["{}"]).await;
        let Outcome::Failed(fault) = outcome else { panic!("{path:?}: {outcome:?}") };
        assert!(fault.note.contains(path.to_str().unwrap()), "{fault:?}");
        if !path.starts_with("/proc") {
            assert_eq!(fault.cause, Cause::Setup, "{path:?}: {fault:?}");
            assert_eq!(built.sink.probe(now()).await.unwrap_err().cause, Cause::Setup, "{path:?}");
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_down_and_leaves_no_half_line() {
    // A file system of its own needs privileges; where they are missing there is nothing to see.
    let dir = folder();
    let Some(_disk) = SmallDisk::at(dir.path()) else { return };
    let path = dir.path().join("events.ndjson");
    let built = sink(&path, "");
    count_to(&built, 0..1).await;
    let large: Value = json!({ "n": 1, "pad": "x".repeat(200_000) });
    let fault = failed(send(&built, &[&large.to_string()]).await, Cause::Down);
    assert!(fault.note.contains("free some space"), "{fault:?}");
    let text = fs::read(&path).unwrap();
    assert_eq!(lines(&text).len(), 1);
    count_to(&built, 2..3).await;
    assert_eq!(numbers(dir.path()), [0, 2]);
}

/// 64 KiB of memory as a file system, for as long as it lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "siemgate-test"]).arg(path);
        let mounted = mount.stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the sink may still have its file open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_probe_writes_nothing() {
    let dir = folder();
    let built = sink(&dir.path().join("a/b/events.ndjson"), "");
    assert_eq!(built.sink.probe(now()).await.unwrap(), Probe::Accepted);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn senseless_settings_are_named() {
    let toml = "[sinks.archive]\ntype = \"file\"\npath = \"/\"\nrotate_bytes = \"0B\"\nrotate_every = \"0s\"\n";
    let problems = build(toml).err().map(told).unwrap();
    for key in ["sinks.archive.path", "sinks.archive.rotate_bytes", "sinks.archive.rotate_every"] {
        assert!(problems.contains(key), "{problems}");
    }
}
