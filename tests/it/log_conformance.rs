//! What every engine promises: the same tests for files on a simulated disk, files in a real
//! folder, and memory.

use std::sync::Arc;
use std::time::Duration;

use siemgate::core::Timestamp;
use siemgate::core::event::{Draft, EventId, Position};
use siemgate::core::log::sim::SimDisk;
use siemgate::core::log::{
    Claim, End, FilesLog, Item, Limit, Log, LogError, MemoryLog, Reader, Refusal, Start,
};

use crate::log_common::{ALL, body, critical, draft, open, run, small, whole};

/// Run `$test` against every engine.
macro_rules! every_engine {
    ($($test:ident),* $(,)?) => {
        mod on_simulated_files { $(#[test] fn $test() {
            let (log, _) = super::open(&super::SimDisk::new(), super::small());
            super::run(super::$test(log));
        })* }
        mod on_real_files { $(#[test] fn $test() {
            let dir = tempfile::tempdir().unwrap();
            let (log, _) = super::FilesLog::open_dir(dir.path(), super::small()).unwrap();
            super::run(super::$test(log));
        })* }
        mod in_memory { $(#[test] fn $test() {
            super::run(super::$test(std::sync::Arc::new(super::MemoryLog::new(1 << 30))));
        })* }
    };
}

every_engine!(
    keeps_order_bytes_and_positions,
    stores_many_requests_at_once,
    pages_respect_limits_but_always_move,
    a_reader_waits_for_the_next_event,
    a_cancelled_next_skips_nothing,
    ends_may_come_in_any_order,
    what_was_settled_is_not_handed_out_again,
    what_is_claimed_is_left_out_and_settled_once,
    no_more_is_claimed_than_a_crash_may_forget,
    one_reader_a_name,
    deliveries_start_where_they_are_told,
    a_detached_delivery_resumes_and_a_forgotten_one_does_not,
    finds_by_id,
    announces_urgent_events,
    refuses_after_close,
);

async fn events(log: &dyn Log, count: u64) {
    for nth in 0..count {
        log.append(vec![draft(body(nth, 100))]).await.unwrap();
    }
}

async fn take(reader: &mut dyn Reader, count: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let max = Limit { events: count - taken.len(), bytes: usize::MAX };
        for item in reader.next(max).await.unwrap().items {
            match item {
                Item::Event(event) => taken.push(event.position.0),
                Item::Gap { .. } => panic!("no gap is expected"),
            }
        }
    }
    taken
}

async fn keeps_order_bytes_and_positions(log: Arc<dyn Log>) {
    let mut told = Vec::new();
    for (nth, size) in [0, 1, 100, 4_000, 5_000, 20_000, 7, 30_000, 3].into_iter().enumerate() {
        let group: Vec<_> = (0..=nth % 3).map(|_| draft(body(nth as u64, size / 3))).collect();
        let ids: Vec<_> = group.iter().map(|d| (d.id, d.received, d.body.clone())).collect();
        let range = log.append(group).await.unwrap();
        assert_eq!(range.start.0, told.len() as u64);
        told.extend(ids);
        assert_eq!(range.end.0, told.len() as u64);
    }
    let empty = log.append(Vec::new()).await.unwrap();
    assert!(empty.is_empty());
    let whole = whole(&*log, Limit { events: 3, bytes: 10_000 }).await;
    assert_eq!(whole.events.len(), told.len());
    for (event, (id, received, body)) in whole.events.values().zip(told) {
        assert_eq!((event.id, &event.body), (id, &body));
        assert_eq!(event.received.as_microsecond(), received.as_microsecond());
        assert_eq!(
            (&*event.source, event.key, &event.note[..]),
            ("test", Some([7; 16]), &b"{}"[..])
        );
    }
}

async fn stores_many_requests_at_once(log: Arc<dyn Log>) {
    let appends = (0..500u64).map(|nth| log.append(vec![draft(body(nth, 300)), draft("x")]));
    let ranges = futures_util::future::join_all(appends).await;
    let mut starts: Vec<_> = ranges.into_iter().map(|range| range.unwrap().start.0).collect();
    starts.sort_unstable();
    assert!(starts.iter().enumerate().all(|(nth, start)| *start == 2 * nth as u64));
    assert_eq!(whole(&*log, ALL).await.events.len(), 1_000);
}

async fn pages_respect_limits_but_always_move(log: Arc<dyn Log>) {
    events(&*log, 10).await;
    let page = log.read(Position(2), Limit { events: 3, bytes: usize::MAX }).await.unwrap();
    assert_eq!((page.items.len(), page.next), (3, Position(5)));
    let page = log.read(Position(0), Limit { events: 99, bytes: 250 }).await.unwrap();
    assert_eq!(page.items.len(), 2);
    let page = log.read(Position(0), Limit { events: 0, bytes: 0 }).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert!(log.read(Position(10), ALL).await.unwrap().items.is_empty());
    assert!(log.read(Position(99), ALL).await.unwrap().items.is_empty());
}

async fn a_reader_waits_for_the_next_event(log: Arc<dyn Log>) {
    let mut reader = log.open("a", Start::Now).await.unwrap();
    let (page, _) = tokio::join!(reader.next(ALL), log.append(vec![draft("x")]));
    assert_eq!(page.unwrap().items.len(), 1);
}

async fn a_cancelled_next_skips_nothing(log: Arc<dyn Log>) {
    let mut reader = log.open("a", Start::Now).await.unwrap();
    for _ in 0..3 {
        tokio::select! {
            biased;
            _ = reader.next(ALL) => panic!("there is nothing to read"),
            () = tokio::task::yield_now() => {}
        }
    }
    events(&*log, 3).await;
    assert_eq!(take(&mut *reader, 3).await, [0, 1, 2]);
}

async fn ends_may_come_in_any_order(log: Arc<dyn Log>) {
    events(&*log, 6).await;
    let mut reader = log.open("a", Start::Oldest).await.unwrap();
    take(&mut *reader, 5).await;
    for (at, end) in [(3, End::Dead), (1, End::Delivered), (1, End::Dead), (5, End::Dead)] {
        reader.done(Position(at), end); // 1 twice: the first counts; 5 was not handed out
    }
    let standing = reader.standing();
    assert_eq!((standing.mark, standing.next), (Position(0), Position(5)));
    assert_eq!((standing.terms.dead, standing.terms.delivered), (1, 1));
    reader.done(Position(0), End::Filtered);
    assert_eq!(reader.standing().mark, Position(2));
    reader.done(Position(2), End::Expired);
    let standing = reader.standing();
    assert_eq!((standing.mark, standing.terms.total()), (Position(4), 4));
}

async fn what_was_settled_is_not_handed_out_again(log: Arc<dyn Log>) {
    events(&*log, 6).await;
    let mut reader = log.open("a", Start::Oldest).await.unwrap();
    take(&mut *reader, 5).await;
    [0, 2, 3].into_iter().for_each(|at| reader.done(Position(at), End::Delivered));
    reader.flush().await.unwrap();
    drop(reader);
    let mut reader = log.open("a", Start::Now).await.unwrap();
    assert_eq!(take(&mut *reader, 3).await, [1, 4, 5]);
    assert_eq!(reader.standing().terms.delivered, 3);
}

async fn what_is_claimed_is_left_out_and_settled_once(log: Arc<dyn Log>) {
    events(&*log, 8).await;
    let mut reader = log.open("a", Start::Oldest).await.unwrap();
    assert_eq!(take(&mut *reader, 2).await, [0, 1]);
    assert_eq!(reader.claim(Position(1)), Claim::Had);
    for at in [4, 6] {
        assert!(!reader.is_taken(Position(at)));
        assert_eq!(reader.claim(Position(at)), Claim::Yes);
        assert_eq!(reader.claim(Position(at)), Claim::Had);
        assert!(reader.is_taken(Position(at)));
    }
    reader.done(Position(5), End::Dead); // neither handed out nor claimed
    reader.done(Position(4), End::Delivered);
    let standing = reader.standing();
    assert_eq!((standing.next, standing.ahead, standing.terms.total()), (Position(2), 2, 1));
    assert_eq!(take(&mut *reader, 3).await, [2, 3, 5]);
    assert_eq!(reader.standing().ahead, 1);
    assert_eq!(take(&mut *reader, 1).await, [7]);
    assert_eq!((reader.standing().next, reader.standing().ahead), (Position(8), 0));
    reader.done(Position(6), End::Delivered);
    reader.done(Position(6), End::Dead);
    assert_eq!(reader.standing().terms.total(), 2);
    // What was claimed and not settled comes again, what was settled does not.
    reader.flush().await.unwrap();
    drop(reader);
    let mut reader = log.open("a", Start::Now).await.unwrap();
    assert_eq!(reader.standing().ahead, 2);
    assert_eq!(take(&mut *reader, 6).await, [0, 1, 2, 3, 5, 7]);
    (0..8).for_each(|at| reader.done(Position(at), End::Delivered));
    let standing = reader.standing();
    assert_eq!((standing.mark, standing.terms.delivered, standing.ahead), (Position(8), 8, 0));
}

async fn no_more_is_claimed_than_a_crash_may_forget(log: Arc<dyn Log>) {
    for _ in 0..50 {
        log.append((0..60).map(|_| draft("x")).collect()).await.unwrap();
    }
    let mut reader = log.open("a", Start::Oldest).await.unwrap();
    let mut claimed = Vec::new();
    for at in (1..3_000).step_by(2).map(Position) {
        match reader.claim(at) {
            Claim::Yes => claimed.push(at),
            Claim::Full => break,
            Claim::Had => panic!("{at} was free"),
        }
        reader.done(at, End::Delivered);
    }
    assert_eq!(claimed.len(), 1_000);
    reader.flush().await.unwrap();
    drop(reader);
    let mut reader = log.open("a", Start::Now).await.unwrap();
    assert!(claimed.iter().all(|at| reader.is_taken(*at)));
    assert_eq!(reader.claim(Position(0)), Claim::Full);
    take(&mut *reader, 100).await;
    assert_eq!(reader.claim(Position(2_500)), Claim::Yes);
}

async fn one_reader_a_name(log: Arc<dyn Log>) {
    let reader = log.open("a", Start::Now).await.unwrap();
    assert!(matches!(log.open("a", Start::Now).await, Err(LogError::Taken(name)) if name == "a"));
    assert!(log.open("b", Start::Now).await.is_ok());
    drop(reader);
    assert!(log.open("a", Start::Now).await.is_ok());
}

async fn deliveries_start_where_they_are_told(log: Arc<dyn Log>) {
    let at = |ago: u64| Timestamp::now() - Duration::from_secs(ago);
    for ago in [300, 200, 100, 0] {
        let draft = Draft::new(EventId::fresh(), at(ago), "test".into(), "x".into());
        log.append(vec![draft]).await.unwrap();
    }
    let back = |seconds| Start::Back(Duration::from_secs(seconds));
    let cases = [(Start::Now, 4), (Start::Oldest, 0), (back(150), 2), (back(1_000), 0)];
    for (nth, (start, expected)) in cases.into_iter().enumerate() {
        let reader = log.open(&nth.to_string(), start).await.unwrap();
        assert_eq!(reader.standing().start, Position(expected), "{start:?}");
    }
}

async fn a_detached_delivery_resumes_and_a_forgotten_one_does_not(log: Arc<dyn Log>) {
    events(&*log, 4).await;
    let mut reader = log.open("a", Start::Oldest).await.unwrap();
    take(&mut *reader, 2).await;
    reader.done(Position(0), End::Delivered);
    drop(reader);
    log.detach("a").await.unwrap();
    assert!(!log.stats().deliveries[0].1.pinning);
    let reader = log.open("a", Start::Now).await.unwrap();
    assert_eq!((reader.standing().mark, reader.standing().pinning), (Position(1), true));
    assert!(matches!(log.forget("a").await, Err(LogError::Taken(_))));
    drop(reader);
    log.forget("a").await.unwrap();
    assert!(log.stats().deliveries.is_empty());
    assert_eq!(log.open("a", Start::Now).await.unwrap().standing().mark, Position(4));
}

async fn finds_by_id(log: Arc<dyn Log>) {
    let wanted = draft("here");
    let id = wanted.id;
    events(&*log, 3).await;
    log.append(vec![wanted]).await.unwrap();
    assert_eq!(log.find(id).await.unwrap().unwrap().position, Position(3));
    assert!(log.find(EventId::fresh()).await.unwrap().is_none());
}

async fn announces_urgent_events(log: Arc<dyn Log>) {
    let head = log.head();
    events(&*log, 1).await;
    assert_eq!(head.borrow().urgent, Position(0));
    log.append(vec![draft("x"), critical("y"), draft("z")]).await.unwrap();
    assert_eq!((head.borrow().next, head.borrow().urgent), (Position(4), Position(3)));
}

async fn refuses_after_close(log: Arc<dyn Log>) {
    events(&*log, 1).await;
    let mut reader = log.open("a", Start::Now).await.unwrap();
    let (page, closed) = tokio::join!(reader.next(ALL), log.close());
    closed.unwrap();
    assert!(matches!(page, Err(LogError::Closed)));
    assert_eq!(log.append(vec![draft("x")]).await, Err(Refusal::Closed));
    assert!(matches!(log.open("b", Start::Now).await, Err(LogError::Closed)));
}
