//! Flipped bits, torn groups, lost files: the log always starts and loses only what was hit.

use std::collections::{BTreeMap, BTreeSet};

use siemgate::core::event::Position;
use siemgate::core::log::inspect::inspect;
use siemgate::core::log::sim::SimDisk;
use siemgate::core::log::verify::verify;
use siemgate::core::log::{
    CursorsFound, End, FilesLog, Item, Log, LogError, Loss, Options, RealDisk, Start,
};

use crate::log_common::{ALL, body, draft, open, run, small, whole};

type Files = BTreeMap<String, Vec<u8>>;

fn segments(files: &Files) -> Vec<String> {
    files.keys().filter(|name| name.ends_with(".seg")).cloned().collect()
}

/// A closed log of two segments and several groups.
fn written() -> (Files, Vec<bytes::Bytes>) {
    let disk = SimDisk::new();
    let options = || Options { segment_bytes: 24 << 10, ..small() };
    let (log, _) = open(&disk, options());
    let mut bodies = Vec::new();
    run(async {
        for nth in 0..7u64 {
            let group: Vec<_> = (0..1 + nth % 3).map(|at| body(nth * 9 + at, 350)).collect();
            bodies.extend(group.clone());
            log.append(group.into_iter().map(draft).collect()).await.unwrap();
        }
        log.close().await.unwrap();
    });
    (disk.files(), bodies)
}

#[test]
fn a_flipped_bit_loses_at_most_its_own_event_and_says_which() {
    let (files, bodies) = written();
    assert_eq!(segments(&files).len(), 2);
    let mut hits = 0;
    for name in segments(&files) {
        for byte in 0..files[&name].len() {
            // Zeros are padding for the most part: fewer of them will do.
            if files[&name][byte] == 0 && byte % 61 != 0 {
                continue;
            }
            let disk = SimDisk::with_files(&files);
            disk.flip(&name, byte, (byte % 8) as u8);
            let (log, report) = open(&disk, small());
            let whole = run(whole(&*log, ALL));
            assert!(report.set_aside.is_empty(), "{name}:{byte}");
            let damaged: BTreeSet<_> = whole.damaged().into_iter().collect();
            assert!(damaged.len() <= 1, "{name}:{byte} lost {damaged:?}");
            assert_eq!(whole.events.len() + damaged.len(), bodies.len(), "{name}:{byte}");
            for (at, event) in &whole.events {
                assert!(event.body == bodies[*at as usize], "{name}:{byte} changed {at}");
            }
            assert_eq!(log.stats().damaged_bytes > 0, !damaged.is_empty(), "{name}:{byte}");
            hits += damaged.len();
            if byte % 97 == 0 {
                let told = verify(&SimDisk::with_files(&disk.files())).unwrap().lost;
                let told: BTreeSet<_> = told.iter().flat_map(|r| r.start.0..r.end.0).collect();
                assert_eq!(told, damaged, "{name}:{byte}");
            }
        }
    }
    assert!(hits > 1_000);
}

#[test]
fn a_flipped_bit_before_the_last_group_is_damage_also_without_a_clean_end() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, small());
    run(async {
        for nth in 0..4 {
            log.append(vec![draft(body(nth, 300)), draft(body(nth, 300))]).await.unwrap();
        }
    });
    drop(log);
    let files = disk.files();
    let name = &segments(&files)[0];
    for byte in (4_096..4 * 4_096).filter(|at| files[name][*at] != 0) {
        let disk = SimDisk::with_files(&files);
        disk.flip(name, byte, 3);
        let (log, report) = open(&disk, small());
        let whole = run(whole(&*log, ALL));
        assert_eq!((whole.events.len(), whole.damaged().len()), (7, 1), "{byte}");
        let lost = Position(whole.damaged()[0]);
        assert_eq!(report.damaged, [lost..lost.plus(1)]);
        assert!(report.damaged_bytes > 0 && report.torn_bytes == 0);
    }
}

#[test]
fn a_group_torn_at_any_byte_keeps_whole_requests_only() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, small());
    run(log.append(vec![draft("before")])).unwrap();
    let before = disk.files();
    run(log.append((0..4).map(|nth| draft(body(nth, 200))).collect())).unwrap();
    drop(log);
    let after = disk.files();
    let name = &segments(&after)[0];
    for torn in 8_192..8_192 + 1_200 {
        for tail_first in [false, true] {
            let mut files = after.clone();
            let (kept, lost) = if tail_first { (torn, 8_192) } else { (12_288, torn) };
            let range = lost..kept;
            files.get_mut(name).unwrap()[range.clone()].copy_from_slice(&before[name][range]);
            let disk = SimDisk::with_files(&files);
            for restart in 0..2 {
                let (log, _) = open(&disk, small());
                let whole = run(whole(&*log, ALL));
                let count = whole.events.len() - restart;
                assert!(count == 1 || count == 5, "torn at {torn}: {count} events");
                assert!(whole.gaps.is_empty(), "torn at {torn}: {:?}", whole.gaps);
                run(log.append(vec![draft("after")])).unwrap();
            }
        }
    }
}

#[test]
fn a_forged_record_in_a_body_stays_a_body() {
    // A sender knows the format, guesses generation and position, and hides a record that is
    // right in everything but the file's secret salt where resynchronising will look.
    let other = SimDisk::new();
    let (log, _) = open(&other, small());
    run(log.append(vec![draft("first")])).unwrap();
    run(log.append(vec![draft("forged")])).unwrap();
    let files = other.files();
    let mut forged = vec![0; 3]; // a body begins 3 bytes before a multiple of 8
    forged.extend_from_slice(&files[&segments(&files)[0]][8_192..8_400]);
    let disk = SimDisk::new();
    let (log, _) = open(&disk, small());
    for body in [vec![0; 8], forged, vec![1]] {
        run(log.append(vec![draft(body)])).unwrap();
    }
    run(log.close()).unwrap();
    let name = segments(&disk.files())[0].clone();
    disk.flip(&name, 8_192 + 9, 1); // the header of the record that carries the forgery
    let (log, _) = open(&disk, small());
    let whole = run(whole(&*log, ALL));
    assert_eq!((whole.events.len(), whole.damaged()), (2, vec![1]));
}

#[test]
fn a_ruined_header_sets_the_file_aside_and_serves_the_rest() {
    let (mut files, bodies) = written();
    let names = segments(&files);
    files.get_mut(&names[0]).unwrap()[..4_096].fill(0xff);
    let disk = SimDisk::with_files(&files);
    for _ in 0..2 {
        let (log, report) = open(&disk, small());
        let whole = run(whole(&*log, ALL));
        let first = whole.events.keys().next().copied().unwrap();
        assert_eq!(whole.gaps, [(0..first, Loss::Damaged)]);
        assert_eq!(whole.events.len() as u64 + first, bodies.len() as u64);
        assert!(report.damaged_bytes >= 16 << 10, "{report:?}");
        assert!(disk.files().contains_key(&format!("{}.damaged", names[0])));
    }
}

#[test]
fn positions_are_not_reused_when_the_newest_file_and_the_cursors_are_ruined() {
    let (mut files, bodies) = written();
    let names = segments(&files);
    files.get_mut(&names[1]).unwrap()[..4_096].fill(0);
    files.retain(|name, _| !name.starts_with("cursors"));
    let (log, report) = open(&SimDisk::with_files(&files), small());
    assert_eq!(report.cursors, CursorsFound::Lost);
    assert!(run(log.append(vec![draft("x")])).unwrap().start.0 >= bodies.len() as u64);
}

/// A log with a delivery whose cursor was stored twice.
fn delivered() -> Files {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, small());
    run(async {
        let mut reader = log.open("soc", Start::Oldest).await.unwrap();
        for nth in 0..4 {
            log.append(vec![draft("x")]).await.unwrap();
            for item in reader.next(ALL).await.unwrap().items {
                if let Item::Event(event) = item {
                    reader.done(event.position, End::Delivered);
                }
            }
            assert_eq!(reader.standing().mark, Position(nth + 1));
            reader.flush().await.unwrap();
        }
    });
    drop(log);
    disk.files()
}

#[test]
fn lost_cursors_deliver_twice_rather_than_never() {
    let files = delivered();
    let without = |names: &[&str], ruined: &[&str]| {
        let mut files = files.clone();
        files.retain(|name, _| !names.contains(&&**name));
        ruined.iter().for_each(|name| files.get_mut(*name).unwrap()[30] ^= 4);
        let (log, report) = open(&SimDisk::with_files(&files), small());
        let reader = run(log.open("soc", Start::Now)).unwrap();
        assert_eq!(log.stats().head.next, Position(4));
        (report.cursors, reader.standing().mark.0)
    };
    assert_eq!(without(&[], &[]), (CursorsFound::Current, 4));
    assert_eq!(without(&["cursors"], &[]), (CursorsFound::Previous, 3));
    assert_eq!(without(&[], &["cursors"]), (CursorsFound::PreviousForDamaged, 3));
    assert_eq!(without(&[], &["cursors", "cursors.old"]), (CursorsFound::Lost, 0));
    assert_eq!(without(&["cursors", "cursors.old"], &[]), (CursorsFound::Lost, 0));
}

#[test]
fn a_stored_head_proves_that_the_last_group_was_no_torn_write() {
    let mut files = delivered();
    let name = segments(&files)[0].clone();
    files.get_mut(&name).unwrap()[4 * 4_096 + 50] ^= 1;
    let (log, report) = open(&SimDisk::with_files(&files), small());
    assert_eq!(report.damaged, [Position(3)..Position(4)]);
    assert_eq!((report.torn_bytes, log.stats().head.next), (0, Position(4)));
    files.retain(|name, _| !name.starts_with("cursors"));
    let (log, report) = open(&SimDisk::with_files(&files), small());
    assert!(report.torn_bytes > 0 && report.damaged.is_empty());
    assert_eq!(log.stats().head.next, Position(3));
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (files, _) = written();
    let name = segments(&files)[0].clone();
    let mut newer = files.clone();
    for at in [0, 2_048] {
        let header = &mut newer.get_mut(&name).unwrap()[at..at + 52];
        header[8] = 2;
        let sum = crc32c::crc32c(&header[..48]).to_le_bytes();
        header[48..].copy_from_slice(&sum);
    }
    let opened = FilesLog::open(std::sync::Arc::new(SimDisk::with_files(&newer)), small());
    let error = opened.err().unwrap();
    assert!(matches!(&error, LogError::Newer { file, found: 2, known: 1 } if file.contains(&name)));
}

/// `SIEMGATE_WRITE_FIXTURE=1` makes the folder anew.
#[test]
fn version_1_is_read() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log-v1");
    let bodies: Vec<_> = (0..9).map(|nth| body(nth, 100 + 600 * nth as usize)).collect();
    if std::env::var_os("SIEMGATE_WRITE_FIXTURE").is_some() {
        let options = Options { segment_bytes: 16 << 10, ..small() };
        let (log, _) = FilesLog::open_dir(&dir, options).unwrap();
        run(async {
            let mut reader = log.open("soc", Start::Oldest).await.unwrap();
            for two in bodies.chunks(2) {
                log.append(two.iter().cloned().map(draft).collect()).await.unwrap();
            }
            reader.next(ALL).await.unwrap();
            [0, 1, 4].into_iter().for_each(|at| reader.done(Position(at), End::Delivered));
            reader.flush().await.unwrap();
            log.close().await.unwrap();
        });
    }
    assert!(inspect(&RealDisk::existing(&dir)).unwrap().len() > 1);
    // The log is opened on a copy: opening writes.
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let (log, report) = FilesLog::open_dir(copy.path(), small()).unwrap();
    assert_eq!((report.events, report.cursors), (9, CursorsFound::Current));
    let whole = run(whole(&*log, ALL));
    assert!(whole.events.values().map(|event| &event.body).eq(&bodies));
    let reader = run(log.open("soc", Start::Now)).unwrap();
    assert_eq!((reader.standing().mark, reader.standing().terms.delivered), (Position(2), 3));
}
