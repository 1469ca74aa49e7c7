//! The admin's Unix socket: a file that only the gateway's user may open.
//!
//! Guarantees: it appears whole and with its mode (0600); one that a dead gateway left is replaced, one
//! that answers is not, and nothing that is no socket is touched; at the end it is removed, if it is
//! still ours. It serves nothing.

use std::fs::{self, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The file, removed when this is dropped.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    /// Device and number: another one at the same path is not ours.
    id: (u64, u64),
}

impl File {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Listen at `path`.
pub fn bind(path: &Path) -> Result<(UnixListener, File)> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(Error::new(ErrorKind::AddrInUse, "another program answers there"));
        }
        _ => {}
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Beside it first: nobody sees it before it has its mode.
    let beside = path.with_extension(std::process::id().to_string());
    let _ = fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside)?;
    let placed = fs::set_permissions(&beside, Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| id(path));
    match placed {
        Ok(id) => Ok((listener, File { path: path.to_owned(), id })),
        Err(error) => {
            let _ = fs::remove_file(&beside);
            Err(error)
        }
    }
}

fn id(path: &Path) -> Result<(u64, u64)> {
    let facts = fs::symlink_metadata(path)?;
    Ok((facts.dev(), facts.ino()))
}

impl Drop for File {
    fn drop(&mut self) {
        if id(&self.path).is_ok_and(|id| id == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_replaces_the_dead_and_spares_everything_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/admin.sock");
        let (first, file) = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        // Nobody answers any more: as after a crash.
        let (second, ours) = bind(&path).unwrap();
        drop(file);
        assert!(UnixStream::connect(&path).is_ok(), "the end of the first leaves the second alone");
        drop((second, ours));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "nothing is left");
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
