//! Writing a secret's file: for `siemgate secret set`.
//!
//! Guarantees: the file is private (see `private.rs`), in a folder that others may not write; the
//! value goes nowhere else. Reading secrets is for `secret.rs`.

use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::private;
use super::secret::MAX_BYTES;

/// Longest name of a secret.
const NAME: usize = 64;

/// Write `value` as the secret `name` in `folder`, which is made if it is missing; returns the file.
pub fn store(folder: &Path, name: &str, value: &str) -> Result<PathBuf> {
    check(name, value)?;
    private::make(folder)?;
    let facts = std::fs::metadata(folder)?;
    if facts.mode() & 0o022 != 0 {
        let told = format!(
            "{0} may be written by others, who could replace the secret: chmod go-w '{0}'",
            folder.display()
        );
        return Err(Error::new(ErrorKind::PermissionDenied, told));
    }
    let file = folder.join(name);
    let line = format!("{}\n", value.trim_end_matches(['\r', '\n']));
    private::replace(&file, line.as_bytes())?;
    Ok(file)
}

/// The names of the secrets in `folder`; none when it does not exist.
pub fn stored(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter(|entry| entry.path().is_file());
    let mut names: Vec<String> =
        names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

fn check(name: &str, value: &str) -> Result<()> {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME || name.starts_with('.') || !name.chars().all(letter) {
        let told = format!("`{name}` cannot be a secret's name: use letters, digits, `-`, `_`");
        return Err(Error::new(ErrorKind::InvalidInput, told));
    }
    let wrong = match value.trim_end_matches(['\r', '\n']) {
        "" => "the secret is empty: nothing was written".to_owned(),
        long if long.len() as u64 > MAX_BYTES => {
            format!("the secret has more than {MAX_BYTES} bytes: was the wrong file given?")
        }
        text if text.contains('\0') => "the secret is not text: it holds a zero byte".to_owned(),
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::InvalidInput, wrong))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_secret_is_for_its_owner_only_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("secrets");
        let file = store(&folder, "sophos.key", "first\n").unwrap();
        assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
        // A link in its place is replaced, not followed.
        let elsewhere = dir.path().join("elsewhere");
        std::fs::write(&elsewhere, "untouched").unwrap();
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        store(&folder, "sophos.key", "second").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "second\n");
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "untouched");
        assert_eq!(stored(&folder), ["sophos.key"]);
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(MAX_BYTES as usize + 1);
        for (name, value) in
            [("", "x"), ("../x", "x"), (".x", "x"), ("x", "\n"), ("x", "a\0b"), ("x", &long)]
        {
            let error = store(dir.path(), name, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}: {error}");
        }
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let error = store(dir.path(), "x", "x").unwrap_err().to_string();
        assert!(error.contains("chmod go-w"), "{error}");
        assert!(stored(dir.path()).is_empty());
    }
}
