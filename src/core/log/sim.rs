//! A disk in memory that can lose power, fill up and fail.
//!
//! Guarantees: what was synced survives `power_cut`; of everything else an arbitrary part does,
//! torn at any byte, as real disks with write caches do; appearances and renames survive for sure
//! only after `sync_dir`. Every operation is counted, so that a test can fail or cut at each one.
//! It is for tests of the log and of the whole gateway; no product code uses it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFile, Lock};

/// Sector size: writes tear between, and now and then within, sectors.
const SECTOR: usize = 512;

/// What goes wrong with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The disk is full (ENOSPC); hits writes, creations and allocations.
    Full,
    /// The disk is broken (EIO); hits writes, syncs and folder operations.
    Broken,
}

/// A planned failure.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The number of the changing operation (see `SimDisk::operations`) that fails first.
    pub at: u64,
    /// How.
    pub trouble: Trouble,
    /// Whether all later ones fail, too.
    pub sticky: bool,
}

/// A folder in memory. Clones share it.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: Vec<Inode>,
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    unsynced: Vec<DirChange>,
    operations: u64,
    syncs: u64,
    fault: Option<Fault>,
    power_off_at: Option<u64>,
    unreadable: bool,
    capacity: Option<u64>,
    locked: bool,
}

#[derive(Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

#[derive(Clone)]
enum DirChange {
    Link(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Space,
    Other,
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*offset..end].copy_from_slice(bytes);
            }
            Self::Len(len) => to.resize(*len, 0),
        }
    }
}

impl DirChange {
    fn apply(&self, to: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, file) => {
                to.insert(name.clone(), *file);
            }
            Self::Rename(from, name, file) => {
                to.remove(from);
                to.insert(name.clone(), *file);
            }
            Self::Remove(name) => {
                to.remove(name);
            }
        }
    }
}

impl SimDisk {
    /// An empty folder on an endless disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changing operations so far: writes, syncs, creations, renames, removals.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// File and folder syncs so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Fail operations from now on as `fault` says; `None` repairs the disk.
    pub fn fail(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// Whether every read of a file fails (EIO).
    pub fn set_unreadable(&self, unreadable: bool) {
        self.state().unreadable = unreadable;
    }

    /// The disk holds this many bytes; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Operation number `at` and all later ones fail; a write at `at` may be half done.
    pub fn cut_power_at(&self, at: u64) {
        self.state().power_off_at = Some(at);
    }

    /// Whether reads are answered.
    pub fn has_power(&self) -> bool {
        self.state().powered().is_ok()
    }

    /// Lose power now and come back: unsynced changes survive or not as `random` decides.
    pub fn power_cut(&self, random: &mut fastrand::Rng) {
        let mut state = self.state();
        let state = &mut *state;
        // Some crashes lose everything unsynced, some nothing, most a part.
        let odds = [0, 0, 100, 30, 50, 80][random.usize(..6)];
        for change in std::mem::take(&mut state.unsynced) {
            if random.u32(..100) < odds {
                change.apply(&mut state.durable);
            }
        }
        for file in &mut state.files {
            for change in std::mem::take(&mut file.unsynced) {
                survive(&change, &mut file.durable, odds, random);
            }
            file.live = file.durable.clone();
        }
        state.live = state.durable.clone();
        state.power_off_at = None;
        state.fault = None;
        state.locked = false;
    }

    /// Names and contents as the process sees them.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        state.live.iter().map(|(name, at)| (name.clone(), state.files[*at].live.clone())).collect()
    }

    /// A disk with these files, all durable.
    pub fn with_files(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let disk = Self::new();
        let mut state = disk.state();
        for (name, bytes) in files {
            let at = state.files.len();
            let inode = Inode { live: bytes.clone(), durable: bytes.clone(), unsynced: Vec::new() };
            state.files.push(inode);
            state.live.insert(name.clone(), at);
            state.durable.insert(name.clone(), at);
        }
        drop(state);
        disk
    }

    /// Flip one bit of a file, durably. Nothing happens beyond its end.
    pub fn flip(&self, name: &str, byte: usize, bit: u8) {
        let mut state = self.state();
        let Some(at) = state.live.get(name).copied() else { return };
        let Inode { live, durable, .. } = &mut state.files[at];
        for bytes in [live, durable] {
            if let Some(byte) = bytes.get_mut(byte) {
                *byte ^= 1 << bit;
            }
        }
    }
}

/// Apply what survives of `change`: whole sectors, and now and then half a sector.
fn survive(change: &Change, to: &mut Vec<u8>, odds: u32, random: &mut fastrand::Rng) {
    let Change::Write { offset, bytes } = change else {
        if random.u32(..100) < odds {
            change.apply(to);
        }
        return;
    };
    let mut at = 0;
    while at < bytes.len() {
        let sector = SECTOR - (offset + at) % SECTOR;
        let end = bytes.len().min(at + sector);
        if random.u32(..100) < odds {
            let torn = random.u32(..20) == 0 && odds < 100;
            let upto = if torn { random.usize(at..=end) } else { end };
            let part = Change::Write { offset: offset + at, bytes: bytes[at..upto].to_vec() };
            part.apply(to);
        }
        at = end;
    }
}

impl State {
    /// Count an operation; the error if it is to fail.
    fn step(&mut self, kind: Kind) -> io::Result<()> {
        let now = self.operations;
        self.operations += 1;
        if self.power_off_at.is_some_and(|at| now >= at) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let Some(fault) = self.fault else { return Ok(()) };
        let due = if fault.sticky { now >= fault.at } else { now == fault.at };
        match fault.trouble {
            Trouble::Full if due && kind == Kind::Space => Err(io::Error::from_raw_os_error(28)),
            Trouble::Broken if due => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        }
    }

    fn powered(&self) -> io::Result<()> {
        match self.power_off_at {
            Some(at) if self.operations > at => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        }
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, name.to_owned());
        self.live.get(name).copied().ok_or_else(missing)
    }

    fn free(&self) -> u64 {
        let used: usize = self.live.values().map(|at| self.files[*at].live.len()).sum();
        self.capacity.map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(used as u64))
    }

    fn change(&mut self, at: usize, change: Change) {
        let file = &mut self.files[at];
        change.apply(&mut file.live);
        file.unsynced.push(change);
    }

    fn change_dir(&mut self, change: DirChange) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }
}

impl Disk for SimDisk {
    fn place(&self) -> String {
        "the simulated disk".to_owned()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        state.powered()?;
        Ok(state.live.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.step(Kind::Space)?;
        let at = state.files.len();
        state.files.push(Inode::default());
        state.change_dir(DirChange::Link(name.to_owned(), at));
        if bytes > state.free() {
            return Err(io::Error::from_raw_os_error(28));
        }
        state.change(at, Change::Len(bytes as usize));
        Ok(Arc::new(SimFile { disk: self.clone(), at }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        state.powered()?;
        Ok(Arc::new(SimFile { disk: self.clone(), at: state.find(name)? }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let at = state.find(from)?;
        state.step(Kind::Other)?;
        state.change_dir(DirChange::Rename(from.to_owned(), to.to_owned(), at));
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let at = state.find(from)?;
        state.step(Kind::Other)?;
        if state.live.contains_key(to) {
            return Err(io::Error::from_raw_os_error(17));
        }
        state.change_dir(DirChange::Link(to.to_owned(), at));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.find(name)?;
        state.step(Kind::Other)?;
        state.change_dir(DirChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step(Kind::Other)?;
        state.syncs += 1;
        state.unsynced.clear();
        state.durable = state.live.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state().free())
    }

    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        let mut state = self.state();
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "4711"));
        }
        Ok(Box::new(SimLock(self.clone())))
    }

    fn lock_to_look(&self) -> io::Result<Option<Box<dyn Lock>>> {
        self.lock().map(Some)
    }
}

struct SimLock(SimDisk);
impl Lock for SimLock {}
impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

struct SimFile {
    disk: SimDisk,
    at: usize,
}

impl DiskFile for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let change =
            |len: usize| Change::Write { offset: offset as usize, bytes: bytes[..len].to_vec() };
        let dark = state.powered().is_err();
        if let Err(error) = state.step(Kind::Space) {
            // A failed write is a short write: the first half is there.
            let part = if state.power_off_at.is_some() { bytes.len() } else { bytes.len() / 2 };
            if !dark {
                state.change(self.at, change(part));
            }
            return Err(error);
        }
        let grows =
            (offset + bytes.len() as u64).saturating_sub(state.files[self.at].live.len() as u64);
        if grows > state.free() {
            return Err(io::Error::from_raw_os_error(28));
        }
        state.change(self.at, change(bytes.len()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.step(Kind::Other)?;
        state.syncs += 1;
        let file = &mut state.files[self.at];
        for change in std::mem::take(&mut file.unsynced) {
            change.apply(&mut file.durable);
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        state.powered()?;
        if state.unreadable {
            return Err(io::Error::from_raw_os_error(5));
        }
        let bytes = &state.files[self.at].live;
        let from = (offset as usize).min(bytes.len());
        let count = buffer.len().min(bytes.len() - from);
        buffer[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.at].live.len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.step(Kind::Other)?;
        state.change(self.at, Change::Len(len as usize));
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.step(Kind::Space)?;
        let now = state.files[self.at].live.len() as u64;
        if len.saturating_sub(now) > state.free() {
            return Err(io::Error::from_raw_os_error(28));
        }
        state.change(self.at, Change::Len(len.max(now) as usize));
        Ok(())
    }
}
