//! Files for one owner: secrets, and the record of pins.
//!
//! Guarantees: a file appears whole or not at all, for its owner only (0600, in a folder made with
//! 0700), and belongs to whom its folder belongs, so that root can write it for the gateway's user.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Result, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// Write `bytes` in place of whatever is at `file`; a link there is replaced, not followed.
pub(in crate::core) fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let folder = above(file);
    let facts = std::fs::metadata(folder)?;
    let new = beside(file);
    // A leftover of a run that was killed; `create_new` below follows no link.
    let _ = std::fs::remove_file(&new);
    let written = write(&new, bytes)
        .and_then(|()| same_owner(&new, facts.uid(), facts.gid()))
        .and_then(|()| std::fs::rename(&new, file));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&new);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

/// Make `folder`, if it is missing, for the owner of the one above.
pub(super) fn make(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let facts = std::fs::metadata(above(folder))?;
    same_owner(folder, facts.uid(), facts.gid())
}

/// The folder that `path` is in.
pub(super) fn above(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.new"))
}

/// Only root gives files away.
fn same_owner(path: &Path, user: u32, group: u32) -> Result<()> {
    match rustix::process::geteuid().is_root() {
        true => chown(path, Some(user), Some(group)),
        false => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
