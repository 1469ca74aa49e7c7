//! Carries out what retention decides: moves the oldest position, tells the cursors, stores that,
//! and only then frees or recycles the file.
//!
//! Guarantees: the newest segment is never freed (its end proves the head); a file that a reader
//! still reads is unlinked, never overwritten. The decision itself is `retain.rs`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit::SPARE;
use super::disk::is_full;
use super::retain::{Oldest, Policy, Situation, Step, decide};
use super::segment::Segment;
use super::shared::{Shared, held};
use crate::core::event::Position;

impl Shared {
    /// Free what may be freed, and as much as `need` bytes take. The reason if they do not fit.
    pub fn retain(&self, need: u64) -> io::Result<Option<String>> {
        let policy = self.policy();
        loop {
            match self.decide(&policy, need)? {
                Step::Fits => return Ok(None),
                Step::Refuse(why) => return Ok(Some(why)),
                Step::Free { unlink } => self.free_oldest(unlink)?,
            }
        }
    }

    fn policy(&self) -> Policy {
        let Self { options, .. } = self;
        Policy {
            keep: options.keep,
            max_bytes: options.max_bytes,
            min_free: options.min_free,
            when_full: options.when_full,
        }
    }

    fn decide(&self, policy: &Policy, need: u64) -> io::Result<Step> {
        let free = self.disk.free_bytes()?;
        self.free.store(free, Ordering::Relaxed);
        let marks: Vec<Position> = {
            let cursors = held(&self.cursors);
            cursors.by_name.values().filter(|c| c.pinning).map(|c| c.mark).collect()
        };
        let book = held(&self.book);
        // Freed a moment ago, the spare already is the room that is needed.
        let need = if book.spare.is_some() { 0 } else { need };
        let oldest = book.segments.front().filter(|_| book.segments.len() > 1).map(|segment| {
            let facts = segment.facts();
            Oldest { end: facts.end, newest_us: facts.received.1 }
        });
        let now = (self.options.clock)();
        let bytes = book.bytes();
        Ok(decide(policy, &Situation { oldest, marks: &marks, now, bytes, need, free }))
    }

    fn free_oldest(&self, unlink: bool) -> io::Result<()> {
        let Some((segment, oldest)) = self.unlist_oldest() else { return Ok(()) };
        for cursor in held(&self.cursors).by_name.values_mut() {
            cursor.expire_below(oldest);
        }
        self.changed();
        // Best effort: on a full disk only the removal makes room to store it. A crash in between
        // takes these positions for damaged ones.
        let stored = self.save();
        self.release(&segment, unlink || stored.is_err())?;
        self.drop_aside(oldest)?;
        self.disk.sync_dir()?;
        let _ = self.save();
        Ok(())
    }

    fn unlist_oldest(&self) -> Option<(Arc<Segment>, Position)> {
        let mut book = held(&self.book);
        if book.segments.len() < 2 {
            return None;
        }
        let segment = book.segments.pop_front()?;
        book.oldest = book.oldest.max(segment.facts().end);
        Some((segment, book.oldest))
    }

    /// Recycle the file if it is whole, nobody reads it and no other file waits; else remove it.
    fn release(&self, segment: &Arc<Segment>, unlink: bool) -> io::Result<()> {
        let size = segment.size();
        let unread = Arc::strong_count(segment) == 1;
        self.drop_index(&segment.name);
        let wanted = held(&self.book).spare.is_none() && size == self.options.segment_bytes;
        if unlink || !unread || !wanted {
            return self.disk.remove(&segment.name);
        }
        self.disk.rename(&segment.name, SPARE)?;
        held(&self.book).spare = Some(size);
        Ok(())
    }

    /// Files set aside age with their neighbours.
    fn drop_aside(&self, oldest: Position) -> io::Result<()> {
        let mut gone = Vec::new();
        held(&self.book).aside.retain(|(name, first, _)| {
            let stays = *first >= oldest;
            if !stays {
                gone.push(name.clone());
            }
            stays
        });
        gone.iter().try_for_each(|name| self.disk.remove(name))
    }

    /// Room that only waits to be used again goes first when the disk is short.
    pub fn drop_spare_if_short(&self) -> io::Result<()> {
        let has_spare = held(&self.book).spare.is_some();
        if !has_spare || self.disk.free_bytes()? >= self.options.min_free {
            return Ok(());
        }
        held(&self.book).spare = None;
        match self.disk.remove(SPARE) {
            Err(error) if !is_full(&error) => Err(error),
            _ => self.disk.sync_dir(),
        }
    }
}
