//! Full and broken disks, at every operation of a short life.

use siemgate::core::event::Position;
use siemgate::core::log::sim::{Fault, SimDisk, Trouble};
use siemgate::core::log::{CommitFacts, End, FilesLog, Item, Log, Options, Refusal, Start};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::log_common::{ALL, body, draft, open, run, small, whole};

type Stored = BTreeMap<u64, bytes::Bytes>;

fn options() -> Options {
    Options { segment_bytes: 24 << 10, max_bytes: 96 << 10, ..small() }
}

/// Append, deliver and flush; returns what was answered well, and every refusal.
async fn life(log: &FilesLog, stored: &mut Stored) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let Ok(mut reader) = log.open("soc", Start::Oldest).await else { return refusals };
    for nth in 0..24 {
        let group: Vec<_> = (0..1 + nth % 3).map(|at| draft(body(nth * 7 + at, 1_500))).collect();
        let bodies: Vec<_> = group.iter().map(|draft| draft.body.clone()).collect();
        match log.append(group).await {
            Ok(range) => stored.extend((range.start.0..).zip(bodies)),
            Err(refusal) => refusals.push(refusal),
        }
        if nth % 3 == 2 && reader.standing().next < log.stats().head.next {
            for item in reader.next(ALL).await.unwrap().items {
                if let Item::Event(event) = item {
                    reader.done(event.position, End::Delivered);
                }
            }
            let _ = reader.flush().await;
        }
    }
    refusals
}

/// What retention may have freed before a crash may be stored nowhere yet: `oldest` says it.
async fn all_there(log: &FilesLog, stored: &Stored, oldest: Position) {
    let whole = whole(log, ALL).await;
    assert!(log.stats().oldest <= oldest);
    for (at, body) in stored.range(oldest.0..) {
        let event = whole.events.get(at).unwrap_or_else(|| panic!("{at} is lost"));
        assert!(event.body == *body, "{at} has changed");
    }
    assert!(whole.events.keys().all(|at| stored.contains_key(at)), "a refused event is stored");
}

fn operations() -> u64 {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, options());
    assert!(run(life(&log, &mut Stored::new())).is_empty());
    disk.operations()
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_accepts_again() {
    for at in 0..operations() {
        for sticky in [false, true] {
            let disk = SimDisk::new();
            disk.fail(Some(Fault { at, trouble: Trouble::Full, sticky }));
            let (log, _) = open(&disk, options());
            let mut stored = Stored::new();
            let refusals = run(life(&log, &mut stored));
            let full = |refusal: &Refusal| matches!(refusal, Refusal::Full(_));
            assert!(refusals.iter().all(full), "at {at}: {refusals:?}");
            disk.fail(None);
            assert!(!log.stats().poisoned, "at {at}");
            run(async {
                let range = log.append(vec![draft("again")]).await.unwrap();
                stored.insert(range.start.0, "again".into());
                all_there(&log, &stored, log.stats().oldest).await;
            });
            let oldest = log.stats().oldest;
            assert!(oldest <= log.stats().deliveries.first().map_or(oldest, |(_, d)| d.mark));
            drop(log);
            disk.power_cut(&mut fastrand::Rng::with_seed(at));
            let (log, _) = open(&disk, options());
            run(all_there(&log, &stored, oldest));
        }
    }
}

#[test]
fn a_broken_disk_poisons_until_a_restart_recovers_all() {
    for at in 0..operations() {
        for sticky in [false, true] {
            let disk = SimDisk::new();
            let opened = FilesLog::open(Arc::new(disk.clone()), options());
            let (log, _) = opened.unwrap();
            disk.fail(Some(Fault {
                at: at.max(disk.operations()),
                trouble: Trouble::Broken,
                sticky,
            }));
            let mut stored = Stored::new();
            let refusals = run(life(&log, &mut stored));
            let poisoned = |refusal: &Refusal| matches!(refusal, Refusal::Poisoned(_));
            assert!(refusals.iter().all(poisoned), "at {at}: {refusals:?}");
            if let Some(Refusal::Poisoned(_)) = refusals.first() {
                assert!(log.stats().poisoned);
                disk.fail(None);
                let again = run(log.append(vec![draft("no")]));
                assert!(matches!(again, Err(Refusal::Poisoned(_))), "a failed sync is not retried");
                // Reading goes on.
                run(all_there(&log, &stored, log.stats().oldest));
            }
            let oldest = log.stats().oldest;
            drop(log);
            disk.power_cut(&mut fastrand::Rng::with_seed(at));
            let (log, _) = open(&disk, options());
            run(async {
                let whole = whole(&*log, ALL).await;
                for (at, body) in stored.range(oldest.0..) {
                    assert!(whole.events.get(at).is_some_and(|event| event.body == *body), "{at}");
                }
                log.append(vec![draft("again")]).await.unwrap();
            });
        }
    }
}

#[test]
fn a_log_is_opened_and_delivered_from_on_a_full_disk() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, options());
    run(async {
        let _reader = log.open("soc", Start::Oldest).await.unwrap();
        log.append(vec![draft("before")]).await.unwrap();
        log.detach("soc").await.unwrap();
    });
    drop(log);
    disk.fail(Some(Fault { at: disk.operations(), trouble: Trouble::Full, sticky: true }));
    let (log, _) = open(&disk, options());
    run(async {
        assert!(log.open("new", Start::Now).await.is_err(), "its cursor would not be kept");
        let mut reader = log.open("soc", Start::Oldest).await.unwrap();
        assert_eq!(reader.next(ALL).await.unwrap().items.len(), 1);
        reader.done(Position(0), End::Delivered);
        disk.fail(None);
        reader.flush().await.unwrap();
    });
    drop(log);
    let (log, _) = open(&disk, options());
    assert_eq!(log.stats().deliveries[0].1.mark, Position(1));
}

#[test]
fn an_answer_waits_for_the_sync() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, Options { segment_bytes: 1 << 20, ..small() });
    run(log.append(vec![draft("first")])).unwrap();
    for nth in 1..20 {
        let before = disk.syncs();
        let range = run(log.append(vec![draft("x")])).unwrap();
        assert_eq!((range.start, disk.syncs()), (Position(nth), before + 1));
    }
}

#[test]
fn a_group_that_was_refused_half_written_never_comes_back() {
    for seed in 0..60 {
        let disk = SimDisk::new();
        let (log, _) = open(&disk, small());
        let before = if seed % 2 == 0 { 0 } else { 1 };
        run(async {
            for _ in 0..before {
                log.append(vec![draft("before")]).await.unwrap();
            }
            // Without a segment, making one comes first: three operations to its first write.
            let at = disk.operations() + if before == 0 { 4 } else { 0 };
            disk.fail(Some(Fault { at, trouble: Trouble::Full, sticky: true }));
            let appends = (0..40).map(|nth| log.append(vec![draft(body(nth, 50))]));
            let answers = futures_util::future::join_all(appends).await;
            assert!(answers.iter().all(|answer| matches!(answer, Err(Refusal::Full(_)))));
        });
        drop(log);
        disk.power_cut(&mut fastrand::Rng::with_seed(seed));
        let (log, _) = open(&disk, small());
        assert_eq!(run(whole(&*log, ALL)).events.len(), before);
    }
}

#[test]
fn a_log_whose_commit_thread_hangs_or_whose_disk_failed_does_not_say_that_it_lives() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    // It is called on the commit thread, and returns when `go` is dropped.
    let observer = Arc::new(move |_: &CommitFacts| {
        let _ = wait.lock().unwrap().recv();
    });
    let disk = SimDisk::new();
    let (log, _) = open(&disk, Options { observer, ..options() });
    run(async {
        assert_eq!(log.alive().await, Ok(()));
        log.append(vec![draft("x")]).await.unwrap();
        let asked = tokio::time::timeout(Duration::from_millis(100), log.alive());
        assert!(asked.await.is_err(), "it hangs");
        drop(go);
        assert_eq!(log.alive().await, Ok(()));
        disk.fail(Some(Fault { at: disk.operations(), trouble: Trouble::Broken, sticky: true }));
        assert!(matches!(log.append(vec![draft("y")]).await, Err(Refusal::Poisoned(_))));
        assert!(matches!(log.alive().await, Err(Refusal::Poisoned(_))));
        log.close().await.unwrap_or_default();
        assert!(log.alive().await.is_err());
    });
}

#[test]
fn what_cannot_be_read_for_a_while_is_not_lost_and_what_never_can_is_passed() {
    for (doubt, lasting) in [(Duration::from_secs(3_600), false), (Duration::ZERO, true)] {
        let disk = SimDisk::new();
        let options = || Options { doubt, ..small() };
        let bodies: Vec<_> = (0..20).map(|seed| body(seed, 1_000)).collect();
        let (log, _) = open(&disk, options());
        for body in &bodies {
            run(log.append(vec![draft(body.clone())])).unwrap();
        }
        run(log.close()).unwrap();
        drop(log);
        // Opened again, so that nothing of it is in memory.
        let (log, _) = open(&disk, options());
        let mut reader = run(log.open("soc", Start::Oldest)).unwrap();
        disk.set_unreadable(true);
        let first = run(reader.next(ALL));
        disk.set_unreadable(false);
        if lasting {
            let items = first.unwrap().items;
            assert!(matches!(&items[..], [Item::Gap { .. }]), "{items:?}");
            continue;
        }
        let error = first.unwrap_err().to_string();
        assert!(error.contains("cannot read a part of it"), "{error}");
        let mut came = Vec::new();
        while came.len() < bodies.len() {
            for item in run(reader.next(ALL)).unwrap().items {
                let Item::Event(event) = item else { panic!("{item:?}") };
                came.push(event.body.clone());
            }
        }
        assert_eq!(came, bodies);
    }
}
