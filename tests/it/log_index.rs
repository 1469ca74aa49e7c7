//! The index of a log: nothing that is about a number is left out, and little else is read.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;
use siemgate::core::event::{Draft, Position};
use siemgate::core::log::disk::{DiskFile, Lock};
use siemgate::core::log::sim::SimDisk;
use siemgate::core::log::{Disk, FilesLog, Item, Log, Mark, Options};

use super::log_common::{ALL, draft, run, small};

/// A body is its label and its number, then padding.
fn index(record: &Draft) -> Vec<Mark> {
    let text = String::from_utf8_lossy(&record.body);
    let mut words = text.split(' ');
    let (label, number) = (words.next().unwrap(), words.next().unwrap().parse::<u64>().unwrap());
    vec![Mark { label: label.into(), numbers: number..number + 1 }]
}

fn about(label: &str, number: u64) -> Draft {
    let padding = "x".repeat(1_500);
    draft(Bytes::from(format!("{label} {number} {padding}")))
}

fn indexed() -> Options {
    Options { index: Some(index), ..small() }
}

/// Counts which files are opened.
#[derive(Clone)]
struct Counting(SimDisk, Arc<Mutex<Vec<String>>>);

impl Disk for Counting {
    fn place(&self) -> String {
        self.0.place()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.0.create(name, bytes)
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.1.lock().unwrap().push(name.to_owned());
        self.0.open(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.link(from, to)
    }
    fn lock_to_look(&self) -> io::Result<Option<Box<dyn Lock>>> {
        self.0.lock_to_look()
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        self.0.lock()
    }
}

fn opened(disk: &Counting, options: Options) -> Arc<FilesLog> {
    FilesLog::open(Arc::new(disk.clone()), options).unwrap().0
}

fn disk() -> Counting {
    Counting(SimDisk::new(), Arc::default())
}

async fn events(
    log: &FilesLog,
    stretches: Vec<Range<Position>>,
) -> Vec<Arc<siemgate::core::event::Event>> {
    let mut found = Vec::new();
    for stretch in stretches {
        let mut at = stretch.start;
        while at < stretch.end {
            let page = log.read(at, ALL).await.unwrap();
            at = page.next;
            found.extend(page.items.into_iter().filter_map(|item| match item {
                Item::Event(event) if event.position < stretch.end => Some(event),
                _ => None,
            }));
        }
    }
    found
}

fn segments(names: &[String]) -> usize {
    let mut names: Vec<_> = names.iter().filter(|name| name.ends_with(".seg")).collect();
    names.sort();
    names.dedup();
    names.len()
}

#[test]
fn only_the_segments_that_may_tell_are_read_also_after_a_restart() {
    run(async {
        let disk = disk();
        let log = opened(&disk, indexed());
        for number in 0..400 {
            log.append(vec![about("a", number)]).await.unwrap();
        }
        log.append(vec![about("b", 7)]).await.unwrap();
        for fresh in [false, true] {
            let log = match fresh {
                false => log.clone(),
                true => {
                    log.close().await.unwrap();
                    opened(&disk, indexed())
                }
            };
            let all = log.holding(None, &(0..u64::MAX)).len();
            assert!(all > 5, "{all} segments");
            let found = log.holding(Some("a"), &(3..4));
            assert_eq!(found.len(), 1, "{found:?} of {all}");
            disk.1.lock().unwrap().clear();
            let found = events(&log, found).await;
            assert!(found.iter().any(|event| event.body.starts_with(b"a 3 ")));
            assert!(segments(&disk.1.lock().unwrap()) <= 1, "{:?}", disk.1);
            assert_eq!(log.holding(Some("b"), &(7..8)).len(), 1);
            assert!(log.holding(Some("b"), &(3..4)).is_empty());
            assert_eq!(log.holding(None, &(7..8)).len(), 2, "under any label");
        }
    });
}

#[test]
fn an_index_goes_with_its_segment_and_a_log_without_one_writes_none() {
    run(async {
        let disk = disk();
        let options = Options { max_bytes: 4 * (64 << 10), ..indexed() };
        let log = opened(&disk, options);
        for number in 0..2_000 {
            log.append(vec![about("a", number)]).await.unwrap();
        }
        log.close().await.unwrap();
        let names = disk.list().unwrap();
        let ends = |end: &str| names.iter().filter(|name| name.ends_with(end)).count();
        assert!((1..=4).contains(&ends(".seg")), "{names:?}");
        assert_eq!(ends(".seg.index"), ends(".seg"), "{names:?}");
        let plain = self::disk();
        let log = opened(&plain, small());
        for number in 0..100 {
            log.append(vec![about("a", number)]).await.unwrap();
        }
        log.close().await.unwrap();
        assert!(plain.list().unwrap().iter().all(|name| !name.ends_with(".index")));
        // Another start may want one.
        let log = opened(&plain, indexed());
        assert_eq!(log.holding(Some("a"), &(0..1)).len(), 1);
        assert!(log.holding(Some("a"), &(100..101)).is_empty());
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever was written, and whenever power was cut: who asks for a number finds all of it.
    #[test]
    fn nothing_is_left_out(
        records in prop::collection::vec(("[ab]", 0u64..50), 1..150),
        label in "[ab]",
        number in 0u64..50,
        seed: u64,
        lost in any::<bool>(),
    ) {
        run(async {
            let disk = disk();
            let log = opened(&disk, indexed());
            for (label, number) in &records {
                log.append(vec![about(label, *number)]).await.unwrap();
            }
            let wanted = records.iter().filter(|(l, n)| *l == label && *n == number).count();
            let log = match lost {
                false => log,
                true => {
                    disk.0.power_cut(&mut fastrand::Rng::with_seed(seed));
                    drop(log);
                    opened(&disk, indexed())
                }
            };
            let prefix = format!("{label} {number} ");
            let found = events(&log, log.holding(Some(&label), &(number..number + 1))).await;
            let found = found.iter().filter(|e| e.body.starts_with(prefix.as_bytes())).count();
            assert_eq!(found, wanted);
        });
    }
}
