//! The file that is being written.
//!
//! Guarantees: after every `append`, successful or not, and after every opening, the file ends
//! with a whole line (or the next opening makes it so); a batch is in one file. Blocking.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;

use super::Settings;
use super::rotated::Series;
use crate::core::Timestamp;

/// No event is longer, so a longer tail without a line feed is not ours.
const LONGEST_TAIL: u64 = 64 << 20;

/// Appends batches, opens and rotates as needed.
pub struct Writer {
    settings: Settings,
    open: Option<Open>,
    /// Leftovers of an earlier run have not been looked for yet.
    fresh: bool,
}

struct Open {
    file: File,
    /// Symbolic links resolved, so that rotation moves the file and not the link.
    path: PathBuf,
    identity: (u64, u64),
    length: u64,
    period: Option<u64>,
}

impl Writer {
    /// A writer that has touched nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, open: None, fresh: true }
    }

    /// Append whole lines and wait until they are on stable storage. Returns the rotated files
    /// when they need tidying.
    pub fn append(&mut self, lines: &[u8], now: Timestamp) -> io::Result<Option<Series>> {
        let mut open = self.current(now)?;
        let mut untidy = std::mem::take(&mut self.fresh);
        if self.is_due(&open, lines.len() as u64, now) {
            Series::of(&open.path).rotate(&open.path, now)?;
            untidy = true;
            open = self.opened(now)?;
        }
        open.append(lines)?;
        open.period = self.period(now).or(open.period);
        let series = untidy.then(|| Series::of(&open.path));
        self.open = Some(open);
        Ok(series)
    }

    /// The open file, or a new one if it was moved, deleted, or left in doubt by an error: any
    /// error on the way drops it.
    fn current(&mut self, now: Timestamp) -> io::Result<Open> {
        match self.open.take() {
            Some(open) if open.is_in_place(&self.settings.path) => Ok(open),
            _ => self.opened(now),
        }
    }

    fn opened(&self, now: Timestamp) -> io::Result<Open> {
        let path = &self.settings.path;
        let mut open = Open::at(path)?;
        let written = Timestamp::from_second(open.file.metadata()?.mtime()).unwrap_or(now);
        open.period = self.period(if open.length == 0 { now } else { written });
        Ok(open)
    }

    fn is_due(&self, open: &Open, more: u64, now: Timestamp) -> bool {
        // A clock that was set back is no reason.
        let over = self.period(now).zip(open.period).is_some_and(|(now, then)| now > then);
        open.length > 0 && (over || open.length + more > self.settings.rotate_bytes.0)
    }

    /// The number of the rotation period that `time` falls into.
    fn period(&self, time: Timestamp) -> Option<u64> {
        let every = self.settings.rotate_every?.0.as_secs();
        u64::try_from(time.as_second()).ok()?.checked_div(every)
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = folder(&path);
        create_folders(folder)?;
        let exists = path.try_exists()?;
        if exists {
            regular(&path)?;
        }
        // Bodies name users and files: readable for the gateway's group at most.
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).mode(0o640).open(&path)?;
        let length = repair(&mut file)?;
        if !exists {
            sync_folder(folder)?;
        }
        let identity = identity(&file.metadata()?);
        Ok(Self { file, path, identity, length, period: None })
    }

    fn is_in_place(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|found| identity(&found) == self.identity)
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        // Asked anew each time: others may have emptied the file (logrotate's copytruncate).
        let before = self.file.metadata()?.len();
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // If this fails too, the next opening repairs it.
            let _ = self.file.set_len(before);
        }
        self.length = before + lines.len() as u64;
        written
    }
}

fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Fail unless `path` is a plain file: a pipe would block, a device would lie.
pub fn regular(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    match metadata.is_file() {
        true => Ok(()),
        false if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file")),
    }
}

/// The folder of a file, `.` for a bare name.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name is on stable storage only when its folder is.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn create_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    create_folders(folder(path))?;
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match path.is_dir() {
            true => Ok(()),
            false => Err(io::ErrorKind::NotADirectory.into()),
        },
        made => made.and_then(|()| sync_folder(folder(path))),
    }
}

/// Make the file end with a whole line; returns its length.
///
/// A tail without a line feed is cut if it is the beginning of a JSON text (or the zeros that a
/// power failure leaves), because its event was never reported as delivered and comes again.
/// Anything else, which may not be ours, gets its line feed.
fn repair(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let start = last_line(file, length)?;
    if start == length {
        return Ok(length);
    }
    let mut tail = Vec::new();
    if length - start <= LONGEST_TAIL {
        file.seek(SeekFrom::Start(start))?;
        file.read_to_end(&mut tail)?;
    }
    let ours = matches!(tail.first(), Some(b'{' | b'[' | b'"' | 0));
    if ours && serde_json::from_slice::<IgnoredAny>(&tail).is_err() {
        file.set_len(start)?;
    } else {
        file.write_all(b"\n")?;
    }
    file.sync_data()?;
    Ok(file.metadata()?.len())
}

/// Where the text after the last line feed begins; the file's end if there is none.
fn last_line(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut block = [0; 8 * 1024];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
