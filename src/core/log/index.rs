//! What the records of each segment are about: for every label the stretch of numbers that its
//! records name, in memory and in a file beside each sealed segment (`*.seg.index`).
//!
//! Guarantees: a segment that holds a record about a number is never left out of an answer; one
//! that holds none may be in it. The files are only a saved walk: one that is missing, damaged, or
//! of another generation is made anew from its segment at the next start, so nobody needs to sync
//! or mend them, and versions that know none ignore them. What a record is about is for whoever
//! opens the log to say (`Options::index`); a log that says nothing keeps no index.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::segment::Segment;
use super::shared::{Shared, held};
use super::{Item, Limit};
use crate::core::event::{Draft, Event, Position};

/// What a record is about: numbers under a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Such as a sink.
    pub label: Arc<str>,
    /// The numbers, such as positions of events; never empty.
    pub numbers: Range<u64>,
}

/// Says what a record is about. Called on the commit thread: must be quick.
pub type Indexer = fn(&Draft) -> Vec<Mark>;

/// Labels of one segment at most; with more it counts as being about everything.
const LABELS: usize = 1_000;
/// How much of a segment is read at once to make its index anew.
const PAGE: Limit = Limit { events: 1_000, bytes: 1 << 20 };

/// For every label the smallest stretch that has all its numbers.
pub(super) type Hulls = BTreeMap<Arc<str>, Range<u64>>;

/// Take `mark` in.
fn widen(hulls: &mut Hulls, mark: Mark) {
    let hull = hulls.entry(mark.label).or_insert_with(|| mark.numbers.clone());
    *hull = hull.start.min(mark.numbers.start)..hull.end.max(mark.numbers.end);
}

/// Whether `hulls` may be about `numbers` under `label`, or under any.
pub(super) fn covers(hulls: &Hulls, label: Option<&str>, numbers: &Range<u64>) -> bool {
    let meets = |hull: &Range<u64>| hull.start < numbers.end && numbers.start < hull.end;
    match label {
        Some(label) => hulls.get(label).is_some_and(meets),
        None => hulls.values().any(meets),
    }
}

/// What is in the file.
#[derive(Serialize, Deserialize)]
struct Stored {
    generation: u32,
    end: Position,
    hulls: Hulls,
}

fn name_of(segment: &str) -> String {
    format!("{segment}.index")
}

impl Shared {
    /// Note what new records of `segment` are about, before readers can see them.
    pub fn mark(&self, segment: &Segment, events: &[Arc<Event>]) {
        let Some(index) = self.options.index else { return };
        let marks = events.iter().flat_map(|event| index(event));
        segment.about(|hulls| {
            marks.for_each(|mark| widen(hulls, mark));
            hulls.len() <= LABELS
        });
    }

    /// The stretches of the log that may be about `numbers`.
    pub fn holding(&self, label: Option<&str>, numbers: &Range<u64>) -> Vec<Range<Position>> {
        let head = self.head.borrow().next;
        let book = held(&self.book);
        let wanted = book.segments.iter().filter(|segment| segment.may_hold(label, numbers));
        let stretches = wanted.map(|segment| segment.first..segment.facts().end.min(head));
        stretches.filter(|stretch| stretch.start < stretch.end).collect()
    }

    /// Write down what a sealed segment is about. If that fails the next start makes it anew.
    pub fn store_index(&self, segment: &Segment) {
        if self.options.index.is_none() {
            return;
        }
        let (generation, end) = (segment.key.generation, segment.facts().end);
        let Some(hulls) = segment.hulls() else { return };
        let _ = write(&*self.disk, &segment.name, &Stored { generation, end, hulls });
    }

    /// The file of a segment that is freed.
    pub fn drop_index(&self, segment: &str) {
        if self.options.index.is_some() {
            let _ = self.disk.remove(&name_of(segment));
        }
    }

    /// At a start: what every segment is about, from its file or from its records.
    pub fn load_indexes(&self) {
        if self.options.index.is_none() {
            return;
        }
        let segments: Vec<_> = held(&self.book).segments.iter().cloned().collect();
        for segment in &segments {
            match read(&*self.disk, segment) {
                Some(hulls) => segment.about(|known| {
                    *known = hulls;
                    true
                }),
                None => self.make_anew(segment),
            }
        }
        self.drop_orphans(&segments);
    }

    fn make_anew(&self, segment: &Segment) {
        let end = segment.facts().end;
        let mut at = segment.first;
        while at < end {
            let Ok(page) = self.cold_page(at, PAGE, end) else {
                // What cannot be read now may be read later: it is never left out.
                return segment.about(|_| false);
            };
            let events: Vec<_> = page.items.into_iter().filter_map(event).collect();
            self.mark(segment, &events);
            at = page.next.max(at.plus(1));
        }
        self.store_index(segment);
    }

    fn drop_orphans(&self, segments: &[Arc<Segment>]) {
        let known = |name: &str| {
            let of = name.strip_suffix(".index");
            of.is_none_or(|of| segments.iter().any(|segment| segment.name == of))
        };
        for name in self.disk.list().unwrap_or_default().iter().filter(|name| !known(name)) {
            let _ = self.disk.remove(name);
        }
    }
}

fn event(item: Item) -> Option<Arc<Event>> {
    match item {
        Item::Event(event) => Some(event),
        Item::Gap { .. } => None,
    }
}

fn write(disk: &dyn Disk, segment: &str, stored: &Stored) -> io::Result<()> {
    let mut text = serde_json::to_vec(stored)?;
    let sum = crc32c::crc32c(&text);
    text.extend_from_slice(format!("\n{sum:08x}\n").as_bytes());
    disk.create(&name_of(segment), 0)?.write_at(0, &text)
}

/// What the file of `segment` says, if it is whole and of this generation and end.
fn read(disk: &dyn Disk, segment: &Segment) -> Option<Hulls> {
    let file = disk.open(&name_of(&segment.name)).ok()?;
    let mut text = vec![0; usize::try_from(file.len().ok()?).ok()?];
    let count = file.read_at(0, &mut text).ok()?;
    text.truncate(count);
    let (json, sum) = text.split_at_checked(text.len().checked_sub(10)?)?;
    if sum != format!("\n{:08x}\n", crc32c::crc32c(json)).as_bytes() {
        return None;
    }
    let stored: Stored = serde_json::from_slice(json).ok()?;
    let same = stored.generation == segment.key.generation && stored.end == segment.facts().end;
    same.then_some(stored.hulls)
}
