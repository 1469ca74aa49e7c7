//! The few file operations the log needs, behind a trait, so that power cuts and full disks can
//! be simulated exactly where they hurt.
//!
//! Guarantees of `RealDisk`: `write_at` writes everything or fails; `sync` is `fdatasync`; files
//! are readable by their owner only, because bodies name users and files. All calls block: they
//! belong on the log's own threads or in `spawn_blocking`. It is not a virtual file system: one
//! flat folder, no paths in names.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};

/// Held for as long as the folder is in use; dropping it releases the folder.
pub trait Lock: Send + Sync {}

/// One flat folder of files.
pub trait Disk: Send + Sync {
    /// The folder, for messages.
    fn place(&self) -> String;
    /// Names of all files in the folder, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new file of `bytes` bytes that read as zeros, with its blocks reserved. An existing file
    /// of this name is emptied first.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// An existing file, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Replaces `to` if it exists. Durable after `sync_dir`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// A second name for a file; an error if `to` exists. Durable after `sync_dir`.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Open handles keep working. Durable after `sync_dir`.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes appearances, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Bytes that an unprivileged process may still write to this file system.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Exclusive use of the folder; `WouldBlock`, with the holder's pid as the message when it is
    /// known, if another process has it.
    fn lock(&self) -> io::Result<Box<dyn Lock>>;
    /// Nobody may change the folder while this is held; errors as `lock`. Makes no file, so that a
    /// folder of another user, or one that cannot be written, can be looked at: `None` where nobody
    /// has ever locked it.
    fn lock_to_look(&self) -> io::Result<Option<Box<dyn Lock>>>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Write all of `bytes`; after an error any part of them may be there.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Everything written so far, and the length, is on stable storage when this returns.
    fn sync(&self) -> io::Result<()>;
    /// Fill `buffer` as far as the file goes; the count is short only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether there are none.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
    /// Cut the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Lengthen the file to `len` bytes with its blocks reserved.
    fn allocate(&self, len: u64) -> io::Result<()>;
}

/// Whether the disk (or the quota) is full, as opposed to broken.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A folder of the operating system.
pub struct RealDisk {
    dir: PathBuf,
}

impl RealDisk {
    /// The folder `dir`, made if it does not exist.
    pub fn new(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Self { dir })
    }

    /// The folder `dir` as it is: for looking, never made.
    pub fn existing(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).mode(0o600);
    options
}

impl Disk for RealDisk {
    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.dir)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = options().write(true).create(true).truncate(true).open(self.path(name))?;
        let file = RealFile(file);
        if bytes > 0 {
            file.allocate(bytes)?;
        }
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(name);
        // A support engineer may look at a read-only copy: fall back to reading.
        let file = match options().write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options().open(&path),
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                options().open(&path)
            }
            other => other,
        }?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::hard_link(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        let mut file = options().write(true).create(true).truncate(false).open(self.path(LOCK))?;
        hold(&mut file, FlockOperation::NonBlockingLockExclusive)?;
        // The lock is the flock, not the number: a full disk must not refuse the start.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Box::new(HeldFile(file)))
    }

    fn lock_to_look(&self) -> io::Result<Option<Box<dyn Lock>>> {
        let mut file = match options().open(self.path(LOCK)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        hold(&mut file, FlockOperation::NonBlockingLockShared)?;
        Ok(Some(Box::new(HeldFile(file))))
    }
}

const LOCK: &str = "lock";

struct HeldFile(#[allow(dead_code)] File); // the OS releases the lock when it is closed
impl Lock for HeldFile {}

fn hold(file: &mut File, how: FlockOperation) -> io::Result<()> {
    match rustix::fs::flock(&*file, how) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // The pid only decorates the message.
            let _ = file.take(20).read_to_string(&mut pid);
            Err(io::Error::new(io::ErrorKind::WouldBlock, pid.trim().to_owned()))
        }
        done => Ok(done?),
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|data| data.len())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // Some network file systems cannot reserve; then a full disk shows at the write.
            Err(rustix::io::Errno::OPNOTSUPP) => self.0.set_len(len),
            Err(error) => Err(error.into()),
        }
    }
}
