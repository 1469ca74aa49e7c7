//! A disk that is looked at as if it could be changed: what is written stays in memory.
//!
//! Guarantees: the disk underneath is only read. So a log can be put in order as a start would, and
//! read, from a folder that must not change or cannot. It is for what a start writes, a few KiB, and
//! not for a gateway to run on.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFile, Lock};

/// See the module.
pub(super) struct Shadow {
    under: Arc<dyn Disk>,
    /// Where the name leads; what is not here was removed.
    names: Mutex<BTreeMap<String, Place>>,
}

#[derive(Clone)]
enum Place {
    Under(String),
    Here(Arc<Changed>),
}

impl Shadow {
    /// `under`, as it is now.
    pub fn over(under: Arc<dyn Disk>) -> io::Result<Self> {
        let names = under.list()?.into_iter().map(|name| (name.clone(), Place::Under(name)));
        Ok(Self { names: Mutex::new(names.collect()), under })
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, Place>> {
        held(&self.names)
    }

    fn take(&self, name: &str) -> io::Result<Place> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, name.to_owned());
        self.names().remove(name).ok_or_else(missing)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk for Shadow {
    fn place(&self) -> String {
        self.under.place()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names().keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = Arc::new(Changed::new(None, bytes));
        self.names().insert(name.to_owned(), Place::Here(file.clone()));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let place = self.take(name)?;
        let file = match &place {
            Place::Here(file) => Ok(file.clone()),
            Place::Under(real) => self.under.open(real).and_then(|file| {
                let len = file.len()?;
                Ok(Arc::new(Changed::new(Some(file), len)))
            }),
        };
        let kept = file.as_ref().map_or(place, |file| Place::Here(file.clone()));
        self.names().insert(name.to_owned(), kept);
        Ok(file?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let place = self.take(from)?;
        self.names().insert(to.to_owned(), place);
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        // Opened, so that both names share its changes.
        self.open(from)?;
        let place = self.names().get(from).cloned();
        self.names().extend(place.map(|place| (to.to_owned(), place)));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.take(name).map(drop)
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.under.free_bytes()
    }

    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        Ok(Box::new(NoLock))
    }

    fn lock_to_look(&self) -> io::Result<Option<Box<dyn Lock>>> {
        self.under.lock_to_look()
    }
}

/// Nobody else sees a shadow.
struct NoLock;
impl Lock for NoLock {}

/// A file with what would have been written to it.
struct Changed {
    under: Option<Arc<dyn DiskFile>>,
    changes: Mutex<Changes>,
}

struct Changes {
    len: u64,
    /// Of the file underneath this much counts.
    kept: u64,
    writes: Vec<(u64, Vec<u8>)>,
}

impl Changed {
    fn new(under: Option<Arc<dyn DiskFile>>, len: u64) -> Self {
        let kept = if under.is_some() { len } else { 0 };
        Self { under, changes: Mutex::new(Changes { len, kept, writes: Vec::new() }) }
    }
}

impl DiskFile for Changed {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut changes = held(&self.changes);
        changes.len = changes.len.max(offset + bytes.len() as u64);
        changes.writes.push((offset, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let changes = held(&self.changes);
        let count = changes.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let buffer = &mut buffer[..count];
        buffer.fill(0);
        if let Some(under) = &self.under {
            let real = changes.kept.saturating_sub(offset).min(count as u64) as usize;
            under.read_at(offset, &mut buffer[..real])?;
        }
        for (at, bytes) in &changes.writes {
            let (from, to) =
                (offset.max(*at), (offset + count as u64).min(at + bytes.len() as u64));
            if from < to {
                let part = &bytes[(from - at) as usize..(to - at) as usize];
                buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
            }
        }
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(held(&self.changes).len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut changes = held(&self.changes);
        (changes.len, changes.kept) = (len, changes.kept.min(len));
        for (at, bytes) in &mut changes.writes {
            bytes.truncate(usize::try_from(len.saturating_sub(*at)).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut changes = held(&self.changes);
        changes.len = changes.len.max(len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::core::log::sim::SimDisk;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u8, u64, Vec<u8>),
        Truncate(u8, u64),
        Create(u8, u64),
        Rename(u8, u8),
        Remove(u8),
        Allocate(u8, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let name = || 0u8..3;
        prop_oneof![
            (name(), 0u64..60, proptest::collection::vec(1u8.., 1..30))
                .prop_map(|(name, at, bytes)| Step::Write(name, at, bytes)),
            (name(), 0u64..80).prop_map(|(name, len)| Step::Truncate(name, len)),
            (name(), 0u64..80).prop_map(|(name, len)| Step::Create(name, len)),
            (name(), name()).prop_map(|(from, to)| Step::Rename(from, to)),
            name().prop_map(Step::Remove),
            (name(), 0u64..80).prop_map(|(name, len)| Step::Allocate(name, len)),
        ]
    }

    fn apply(disk: &dyn Disk, step: &Step) {
        let of = |name: &u8| format!("f{name}");
        let done = match step {
            Step::Write(name, at, bytes) => {
                disk.open(&of(name)).and_then(|file| file.write_at(*at, bytes))
            }
            Step::Truncate(name, len) => disk.open(&of(name)).and_then(|file| file.truncate(*len)),
            Step::Allocate(name, len) => disk.open(&of(name)).and_then(|file| file.allocate(*len)),
            Step::Create(name, len) => disk.create(&of(name), *len).map(drop),
            Step::Rename(from, to) => disk.rename(&of(from), &of(to)),
            Step::Remove(name) => disk.remove(&of(name)),
        };
        drop(done);
    }

    fn contents(disk: &dyn Disk) -> BTreeMap<String, Vec<u8>> {
        let read = |name: String| {
            let file = disk.open(&name).unwrap();
            let mut bytes = vec![7; file.len().unwrap() as usize + 3];
            let count = file.read_at(0, &mut bytes).unwrap();
            bytes.truncate(count);
            (name, bytes)
        };
        disk.list().unwrap().into_iter().map(read).collect()
    }

    proptest! {
        #[test]
        fn reads_as_a_disk_that_was_changed_and_changes_none(
            before in proptest::collection::vec(step(), 0..12),
            after in proptest::collection::vec(step(), 0..12),
        ) {
            let (disk, twin) = (SimDisk::new(), SimDisk::new());
            for step in &before {
                apply(&disk, step);
                apply(&twin, step);
            }
            let files = disk.files();
            let shadow = Shadow::over(Arc::new(disk.clone())).unwrap();
            for step in &after {
                apply(&shadow, step);
                apply(&twin, step);
            }
            prop_assert_eq!(contents(&shadow), contents(&twin));
            prop_assert_eq!(disk.files(), files);
        }
    }
}
