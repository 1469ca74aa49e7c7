//! Reading: pages for anyone, and the reader of one delivery.
//!
//! Guarantees: nothing beyond the committed head is ever shown; every record is verified on every
//! read, and what fails is a gap; a reader that keeps up reads memory, not the disk. Cancelling
//! `next` skips nothing: the cursor moves in the same breath in which the page is returned.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::record::decode;
use super::segment::Segment;
use super::shared::{Shared, held};
use super::walk::Walk;
use super::{Claim, End, Head, Item, Limit, LogError, Loss, Page, Reader, Standing};
use crate::core::event::{Event, EventId, Position};

/// Bytes read at once: large enough for sequential speed, small enough to be held by one event.
const CHUNK: usize = 256 * 1024;

/// Run blocking disk work off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(LogError::Closed))
}

/// Told while a part of a segment may yet become readable.
const UNREADABLE: &str = "the disk cannot read a part of it; it counts as damaged if that lasts";

impl Shared {
    /// What is at `from` and after, without waiting.
    pub async fn page(self: &Arc<Self>, from: Position, max: Limit) -> Result<Page, LogError> {
        let head = self.head.borrow().next;
        if from >= head {
            return Ok(Page { items: Vec::new(), next: from });
        }
        let oldest = held(&self.book).oldest;
        if from < oldest {
            return Ok(gap_page(from..oldest.min(head), Loss::Expired));
        }
        if let Some(items) = held(&self.tail).read(from, max) {
            let next = from.plus(items.len() as u64);
            return Ok(Page { items, next });
        }
        let shared = self.clone();
        blocking(move || shared.cold_page(from, max, head)).await
    }

    /// The same from disk, up to the end of a segment.
    pub fn cold_page(&self, from: Position, max: Limit, head: Position) -> Result<Page, LogError> {
        loop {
            let book = held(&self.book);
            if from < book.oldest {
                return Ok(gap_page(from..book.oldest.min(head), Loss::Expired));
            }
            let (segment, after) = book.around(from);
            drop(book);
            let after = after.map_or(head, |first| first.min(head));
            let Some(segment) = segment.filter(|segment| from < segment.facts().end) else {
                return Ok(gap_page(from..after, Loss::Damaged));
            };
            match self.read_segment(&segment, from, max, head) {
                // Retention removed the file while we were on our way: look again.
                Err(error) if is_missing(&error) && held(&self.book).oldest > from => {}
                other => return other,
            }
        }
    }

    fn read_segment(
        &self,
        segment: &Segment,
        from: Position,
        max: Limit,
        head: Position,
    ) -> Result<Page, LogError> {
        let failed = |source| LogError::Io { what: format!("read {}", segment.name), source };
        let facts = segment.facts();
        let file = segment.open(&*self.disk).map_err(failed)?;
        let (floor, offset) = segment.seek(from);
        let mut walk = Walk::new(file, segment.key, offset..facts.used, floor, CHUNK);
        let mut page = Stretch { segment, items: Vec::new(), next: from, bytes: 0, at: offset };
        let end = facts.end.min(head);
        while page.next < end && !page.is_full(max) {
            let found = walk.next().map_err(failed)?;
            let goes_on = found
                .as_ref()
                .is_some_and(|it| it.header.position <= page.next && it.payload.is_some());
            if !goes_on && walk.unreadable() && segment.is_doubted(self.options.doubt) {
                // What comes before is as good as ever; what follows is asked for again.
                if page.items.is_empty() {
                    return Err(failed(std::io::Error::other(UNREADABLE)));
                }
                break;
            }
            let Some(found) = found else {
                page.lose(end, facts.used);
                break;
            };
            let position = found.header.position;
            segment.note(position, found.offset);
            if position >= page.next && position < end {
                let event = found.payload.as_ref().and_then(|bytes| decode(position, bytes));
                page.lose(position, found.offset);
                match event {
                    Some(event) if page.items.is_empty() || page.fits(&event, max) => {
                        page.take(event);
                    }
                    Some(_) => break,
                    None => page.lose(position.plus(1), found.end()),
                }
            }
            page.at = found.end();
        }
        Ok(Page { items: page.items, next: page.next })
    }

    /// The event with this id: in memory, else in the segments whose ids span its time.
    pub fn find_id(&self, id: EventId) -> Result<Option<Arc<Event>>, LogError> {
        if let Some(event) = held(&self.tail).find(|event| event.id == id) {
            return Ok(Some(event));
        }
        let ms = id.unix_ms();
        let segments: Vec<_> = held(&self.book).segments.iter().cloned().collect();
        for segment in segments {
            let facts = segment.facts();
            if (facts.ids.0..=facts.ids.1).contains(&ms) {
                let found = self.first_in(segment.first..facts.end, |event| event.id == id)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// The position of the first event received at or after `since_us`; the head if none was.
    pub fn first_since(&self, since_us: i64) -> Result<Position, LogError> {
        let head = self.head.borrow().next;
        let segments: Vec<_> = held(&self.book).segments.iter().cloned().collect();
        let Some(segment) = segments.iter().find(|s| s.facts().received.1 >= since_us) else {
            return Ok(head);
        };
        let range = segment.first..segment.facts().end;
        let found = self.first_in(range, |event| event.received.as_microsecond() >= since_us)?;
        Ok(found.map_or(head, |event| event.position))
    }

    fn first_in(
        &self,
        range: Range<Position>,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Option<Arc<Event>>, LogError> {
        let max = Limit { events: 1_000, bytes: CHUNK };
        let mut at = range.start;
        while at < range.end {
            let page = self.cold_page(at, max, range.end)?;
            for item in page.items {
                match item {
                    Item::Event(event) if wanted(&event) => return Ok(Some(event)),
                    _ => {}
                }
            }
            at = page.next.max(at.plus(1));
        }
        Ok(None)
    }
}

fn gap_page(positions: Range<Position>, loss: Loss) -> Page {
    Page { next: positions.end, items: vec![Item::Gap { positions, loss }] }
}

fn is_missing(error: &LogError) -> bool {
    matches!(error, LogError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// A page being filled from one segment.
struct Stretch<'a> {
    segment: &'a Segment,
    items: Vec<Item>,
    next: Position,
    bytes: usize,
    /// Where the last record ended.
    at: u64,
}

impl Stretch<'_> {
    fn is_full(&self, max: Limit) -> bool {
        !self.items.is_empty() && (self.items.len() >= max.events || self.bytes >= max.bytes)
    }

    fn fits(&self, event: &Event, max: Limit) -> bool {
        self.bytes + event.body.len() <= max.bytes
    }

    fn take(&mut self, event: Event) {
        self.bytes += event.body.len();
        self.next = event.position.plus(1);
        self.items.push(Item::Event(Arc::new(event)));
    }

    /// Everything from here to `to` cannot be read.
    fn lose(&mut self, to: Position, offset: u64) {
        if to <= self.next {
            return;
        }
        let lost = self.next..to;
        self.segment.note_damage(&lost, offset.saturating_sub(self.at));
        self.next = to;
        match self.items.last_mut() {
            Some(Item::Gap { positions, .. }) => positions.end = lost.end,
            _ => self.items.push(Item::Gap { positions: lost, loss: Loss::Damaged }),
        }
    }
}

/// The reader of one delivery.
pub(super) struct FilesReader {
    pub shared: Arc<Shared>,
    pub delivery: String,
    pub head: watch::Receiver<Head>,
}

impl FilesReader {
    /// Where to read, or what is to be told first.
    fn place(&self) -> Result<(Position, Option<Page>), LogError> {
        let mut cursors = held(&self.shared.cursors);
        let cursor = cursors.by_name.get_mut(&self.delivery).ok_or(LogError::Closed)?;
        let gaps = cursor.gaps.drain(..);
        let items: Vec<_> =
            gaps.map(|positions| Item::Gap { positions, loss: Loss::Expired }).collect();
        let told = (!items.is_empty()).then_some(Page { items, next: cursor.next });
        Ok((cursor.next, told))
    }

    /// Move the cursor over `page`; `None` if it moved meanwhile, or nothing of it is new.
    fn accept(&self, from: Position, mut page: Page) -> Result<Option<Page>, LogError> {
        let mut cursors = held(&self.shared.cursors);
        let cursor = cursors.by_name.get_mut(&self.delivery).ok_or(LogError::Closed)?;
        if cursor.next != from {
            return Ok(None);
        }
        page.items.retain(|item| match item {
            Item::Event(event) => !cursor.is_out(event.position),
            Item::Gap { positions, loss } => {
                cursor.lose(positions.clone(), *loss);
                self.shared.changed();
                true
            }
        });
        cursor.hand_out(page.next);
        Ok((!page.items.is_empty()).then_some(page))
    }
}

#[async_trait]
impl Reader for FilesReader {
    async fn next(&mut self, max: Limit) -> Result<Page, LogError> {
        loop {
            if self.shared.is_closed() {
                return Err(LogError::Closed);
            }
            // Seen before it is compared: a commit in between wakes us at once.
            let head = self.head.borrow_and_update().next;
            let (from, told) = self.place()?;
            if let Some(page) = told {
                return Ok(page);
            }
            if from >= head {
                self.head.changed().await.map_err(|_| LogError::Closed)?;
                continue;
            }
            let page = self.shared.page(from, max).await?;
            if let Some(page) = self.accept(from, page)? {
                return Ok(page);
            }
        }
    }

    fn done(&mut self, position: Position, end: End) {
        let mut cursors = held(&self.shared.cursors);
        if let Some(cursor) = cursors.by_name.get_mut(&self.delivery)
            && cursor.done(position, end)
        {
            self.shared.changed();
        }
    }

    fn claim(&mut self, position: Position) -> Claim {
        let mut cursors = held(&self.shared.cursors);
        let cursor = cursors.by_name.get_mut(&self.delivery);
        cursor.map_or(Claim::Had, |cursor| cursor.claim(position))
    }

    fn is_taken(&self, position: Position) -> bool {
        let cursors = held(&self.shared.cursors);
        let cursor = cursors.by_name.get(&self.delivery);
        cursor.is_none_or(|cursor| position < cursor.next || cursor.is_out(position))
    }

    fn standing(&self) -> Standing {
        let cursors = held(&self.shared.cursors);
        let cursor = cursors.by_name.get(&self.delivery);
        cursor.map_or_else(no_standing, super::cursor::Cursor::standing)
    }

    async fn flush(&mut self) -> Result<(), LogError> {
        let shared = self.shared.clone();
        blocking(move || shared.store_cursors()).await
    }
}

fn no_standing() -> Standing {
    super::cursor::Cursor::new(Position(0)).standing()
}

impl Drop for FilesReader {
    fn drop(&mut self) {
        let mut cursors = held(&self.shared.cursors);
        if let Some(cursor) = cursors.by_name.get_mut(&self.delivery) {
            cursor.taken = false;
            cursor.rewind();
        }
    }
}
