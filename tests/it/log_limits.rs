//! Limits: the folder's lock, disk space, retention in both modes, recycling, memory.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use siemgate::core::Timestamp;
use siemgate::core::event::{EventId, Position};
use siemgate::core::log::sim::SimDisk;
use siemgate::core::log::{
    End, FilesLog, Item, Limit, Log, LogError, Loss, Options, Reader, Refusal, Start, WhenFull,
};

use crate::log_common::{ALL, body, draft, open, run, small, whole};

/// Eight segments of 16 KiB; a 4 KiB group each event, two a segment.
fn tiny(when_full: WhenFull) -> Options {
    Options { segment_bytes: 16 << 10, max_bytes: 128 << 10, when_full, ..small() }
}

async fn fill(log: &FilesLog, most: usize) -> Result<usize, Refusal> {
    for nth in 0..most {
        log.append(vec![draft(body(nth as u64, 3_000))]).await?;
    }
    Ok(most)
}

async fn settle_all(reader: &mut dyn Reader, upto: Position) {
    while reader.standing().next < upto {
        for item in reader.next(ALL).await.unwrap().items {
            if let Item::Event(event) = item {
                reader.done(event.position, End::Delivered);
            }
        }
    }
}

#[test]
fn a_second_process_is_refused_and_told_who_holds_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = FilesLog::open_dir(dir.path(), small()).unwrap();
    let error = FilesLog::open_dir(dir.path(), small()).err().unwrap();
    let pid = std::process::id().to_string();
    let place = dir.path().display().to_string();
    assert!(matches!(&error, LogError::Locked(who) if who.contains(&pid) && who.contains(&place)));
    run(log.close()).unwrap();
    FilesLog::open_dir(dir.path(), small()).unwrap();
}

#[test]
fn delivered_events_make_room_for_new_ones() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, tiny(WhenFull::Refuse));
    run(async {
        let mut reader = log.open("soc", Start::Oldest).await.unwrap();
        for _ in 0..50 {
            fill(&log, 3).await.unwrap();
            settle_all(&mut *reader, log.head().borrow().next).await;
            assert!(log.stats().bytes <= log.stats().max_bytes);
        }
        let standing = reader.standing();
        assert_eq!((standing.terms.delivered, standing.terms.total()), (150, 150));
        assert!(log.stats().oldest > Position(100));
        let gap = log.read(Position(0), ALL).await.unwrap().items;
        assert!(matches!(&gap[0], Item::Gap { loss: Loss::Expired, .. }));
    });
}

#[test]
fn refuse_refuses_and_drop_oldest_refuses_only_when_all_are_stuck() {
    for mode in [WhenFull::Refuse, WhenFull::DropOldest] {
        let (log, _) = open(&SimDisk::new(), tiny(mode));
        run(async {
            let _slow = log.open("slow", Start::Oldest).await.unwrap();
            let _dead = log.open("dead", Start::Oldest).await.unwrap();
            assert!(matches!(fill(&log, 99).await, Err(Refusal::Full(_))), "{mode:?}");
            assert_eq!(log.stats().oldest, Position(0));
        });
    }
}

#[test]
fn drop_oldest_expires_for_the_stuck_what_another_had() {
    let (log, _) = open(&SimDisk::new(), tiny(WhenFull::DropOldest));
    run(async {
        let mut good = log.open("good", Start::Oldest).await.unwrap();
        let mut stuck = log.open("stuck", Start::Oldest).await.unwrap();
        fill(&log, 1).await.unwrap();
        let max = Limit { events: 1, bytes: 1 };
        assert_eq!(stuck.next(max).await.unwrap().items.len(), 1);
        for _ in 0..20 {
            fill(&log, 2).await.unwrap();
            settle_all(&mut *good, log.head().borrow().next).await;
        }
        let oldest = log.stats().oldest;
        let standing = stuck.standing();
        assert!(oldest > Position(10));
        // Position 0 is in the worker's hands: its own to settle. The rest is counted already.
        assert_eq!((standing.terms.expired, standing.mark), (oldest.0 - 1, Position(0)));
        let page = stuck.next(ALL).await.unwrap();
        let gap = Position(1)..oldest;
        assert!(
            matches!(&page.items[0], Item::Gap { positions, loss: Loss::Expired } if *positions == gap)
        );
        stuck.done(Position(0), End::Delivered);
        assert_eq!(stuck.standing().mark, oldest);
        assert_eq!(stuck.standing().terms.total(), oldest.0);
        assert_eq!(good.standing().terms.expired, 0);
    });
}

#[test]
fn a_short_disk_refuses_until_it_has_room() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(200 << 10));
    let options = Options { min_free: 100 << 10, max_bytes: 1 << 30, ..tiny(WhenFull::Refuse) };
    let (log, _) = open(&disk, options);
    run(async {
        let mut reader = log.open("soc", Start::Oldest).await.unwrap();
        let refused = fill(&log, 99).await.unwrap_err();
        assert!(refused.to_string().contains("min_free"), "{refused}");
        settle_all(&mut *reader, log.head().borrow().next).await;
        fill(&log, 3).await.unwrap();
        assert!(log.stats().oldest > Position(0));
    });
}

#[test]
fn old_events_go_when_every_delivery_has_passed_them() {
    let now = Arc::new(AtomicI64::new(Timestamp::now().as_second()));
    let clock = now.clone();
    let options = Options {
        keep: Duration::from_secs(3_600),
        retain_every: Duration::from_millis(1),
        clock: Arc::new(move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap()),
        ..tiny(WhenFull::Refuse)
    };
    let (log, _) = open(&SimDisk::new(), options);
    run(async {
        let mut reader = log.open("soc", Start::Oldest).await.unwrap();
        fill(&log, 7).await.unwrap();
        now.fetch_add(10_000, Ordering::Relaxed);
        assert_eq!(log.stats().oldest, Position(0));
        settle_all(&mut *reader, Position(7)).await;
        // Everything but the newest segment goes; the tick is a millisecond away.
        while log.stats().oldest != Position(6) {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_segment_that_is_being_read_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_bytes: 256 << 10, ..tiny(WhenFull::DropOldest) };
    let (log, _) = FilesLog::open_dir(dir.path(), options).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let cold = log.clone();
        let reads = tokio::spawn(async move {
            let mut events = 0;
            while cold.head().borrow().next < Position(600) {
                let from = cold.stats().oldest;
                let page = cold.read(from, Limit { events: 9, bytes: 20_000 }).await.unwrap();
                for item in page.items {
                    match item {
                        Item::Event(event) => {
                            assert_eq!(event.body, body(event.position.0, 3_000));
                            events += 1;
                        }
                        Item::Gap { loss, .. } => assert_eq!(loss, Loss::Expired),
                    }
                }
            }
            events
        });
        for nth in 0..600 {
            log.append(vec![draft(body(nth, 3_000))]).await.unwrap();
        }
        assert!(reads.await.unwrap() > 0);
    });
    assert_eq!(log.stats().damaged_bytes, 0);
}

#[test]
fn too_large_and_too_many_are_refused_before_they_wait() {
    let (log, _) = open(&SimDisk::new(), small());
    run(async {
        let huge = log.append(vec![draft(vec![0; 60 << 10])]).await;
        assert!(matches!(huge, Err(Refusal::TooLarge { .. })));
        let appends = (0..3_000).map(|_| log.append((0..50).map(|_| draft("x")).collect()));
        let answers = futures_util::future::join_all(appends).await;
        let refused = answers.iter().filter(|answer| answer.is_err()).count();
        assert!(answers.iter().all(|a| matches!(a, Ok(_) | Err(Refusal::Busy))));
        let stored = whole(&*log, ALL).await.events.len();
        assert_eq!(stored, (3_000 - refused) * 50);
    });
}

#[test]
fn commits_are_told_with_their_size_and_time() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (ear, events) = (told.clone(), Arc::new(AtomicUsize::new(0)));
    let options =
        Options { observer: Arc::new(move |facts| ear.lock().unwrap().push(*facts)), ..small() };
    let (log, _) = open(&SimDisk::new(), options);
    run(log.append(vec![draft("x"), draft("y")])).unwrap();
    run(log.close()).unwrap();
    for facts in told.lock().unwrap().iter() {
        events.fetch_add(facts.events, Ordering::Relaxed);
        assert!(facts.bytes >= 4_096 && facts.requests == 1);
    }
    assert_eq!(events.load(Ordering::Relaxed), 2);
}

/// Slow in a debug build, so not by default: `cargo test --release -- --ignored a_million`.
#[test]
#[ignore = "writes 2 GB"]
fn a_million_events_are_ready_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options { min_free: 0, max_bytes: 8 << 30, ..Options::default() };
    let (log, _) = FilesLog::open_dir(dir.path(), options()).unwrap();
    run(async {
        let _reader = log.open("soc", Start::Oldest).await.unwrap();
        let began = Instant::now();
        for _ in 0..1_000 {
            log.append((0..1_000).map(|nth| draft(body(nth, 2_000))).collect()).await.unwrap();
        }
        eprintln!("1,000,000 events written in {:?}", began.elapsed());
    });
    drop(log); // as a crash
    let began = Instant::now();
    let (log, report) = FilesLog::open_dir(dir.path(), options()).unwrap();
    eprintln!("ready after {:?}: {report:?}", began.elapsed());
    assert_eq!(report.events, 1_000_000);
    let began = Instant::now();
    run(async {
        let mut at = Position(0);
        while at < Position(1_000_000) {
            at = log.read(at, Limit { events: 1_000, bytes: 1 << 20 }).await.unwrap().next;
        }
        assert!(log.find(EventId::fresh()).await.unwrap().is_none());
    });
    eprintln!("read through in {:?}", began.elapsed());
}
