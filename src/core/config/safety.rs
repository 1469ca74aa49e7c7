//! Who may write the configuration, and who may read the secrets.
//!
//! Guarantees: a file or folder that belongs to somebody other than root and the running user, or
//! that others may write, is refused with the command that mends it; what is checked is what is
//! read. Group-writable is accepted where the group has the owner's number (the private group that
//! most systems give a user, whose umask is then 002), and anything on a read-only mount. It does
//! not look at the folders above.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::StatVfsMountFlags;
use serde_json::Value;

use super::problem::{Problem, Problems};

/// Largest file of a configuration; anything longer was not written by hand.
const MAX_BYTES: u64 = 4 << 20;

/// What makes the folder unsafe, if anything does.
pub(super) fn folder(path: &Path) -> std::io::Result<Option<Problem>> {
    Ok(refusal(path, &std::fs::metadata(path)?))
}

/// The text of a file that is safe to use.
pub fn read(path: &Path) -> Result<String, Problem> {
    let told = |error: std::io::Error| {
        Problem::new("", format!("cannot read {}: {error}", path.display()))
            .help("the user that runs siemgate must be able to read it; it must be UTF-8 text")
    };
    // Asked before opening, which would wait for ever for the other end of a pipe.
    if !std::fs::metadata(path).map_err(told)?.is_file() {
        let message = format!("{} is not a file", path.display());
        return Err(Problem::new("", message).help("remove it, or let its name end otherwise"));
    }
    let file = File::open(path).map_err(told)?;
    let facts = file.metadata().map_err(told)?;
    if let Some(refusal) = refusal(path, &facts) {
        return Err(refusal);
    }
    if facts.len() > MAX_BYTES {
        let message = format!("{} has more than {MAX_BYTES} bytes", path.display());
        return Err(Problem::new("", message).help("was the wrong file copied here?"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(told)?;
    Ok(text)
}

fn refusal(path: &Path, facts: &Metadata) -> Option<Problem> {
    let runner = rustix::process::geteuid().as_raw();
    let read_only =
        || rustix::fs::statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    let name = path.display();
    let mode = if read_only() { 0 } else { facts.mode() };
    let (message, help) = judge(facts.uid(), facts.gid(), mode, runner)?;
    let help = help.replace("{}", &name.to_string());
    Some(Problem::new("", format!("{name} is refused: {message}")).help(help))
}

/// What is wrong with an owner and a mode, and what to do.
fn judge(owner: u32, group: u32, mode: u32, runner: u32) -> Option<(String, String)> {
    if owner != 0 && owner != runner {
        let message = format!(
            "it belongs to user {owner}, who is neither root nor the user that runs siemgate ({runner})"
        );
        let help = format!("run siemgate as user {owner}, or: chown {runner} '{{}}'");
        return Some((message, help));
    }
    if mode & 0o002 != 0 {
        return Some(("every user of this machine may write it".into(), "chmod go-w '{}'".into()));
    }
    // A private group has the number of its only member.
    if mode & 0o020 != 0 && group != owner {
        let message = format!("group {group} may write it");
        return Some((message, "chmod g-w '{}'".into()));
    }
    None
}

/// Warn of every `{ file = "…" }` and every `…key_file = "…"` below `key` that everybody may read or write.
pub(super) fn open_secrets(key: &str, value: &Value, found: &mut Problems) {
    match value {
        Value::Object(table) => {
            let file = table.get("file").and_then(Value::as_str).filter(|_| table.len() == 1);
            found.extend(file.and_then(|file| open_secret(key, file)));
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                let file = value.as_str().filter(|_| name.ends_with("key_file"));
                found.extend(file.and_then(|file| open_secret(&key, file)));
                open_secrets(&key, value, found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                open_secrets(&format!("{key}[{index}]"), item, found);
            }
        }
        _ => {}
    }
}

fn open_secret(key: &str, file: &str) -> Option<Problem> {
    // A file that is not there is reported where the secret is read.
    let mode = std::fs::metadata(file).ok()?.mode();
    let may = match mode & 0o006 {
        0 => return None,
        0o004 => "read",
        _ => "write",
    };
    let message = format!("every user of this machine may {may} the secret file {file}");
    Some(Problem::new(key, message).help(format!("chmod o-rwx '{file}'")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "text").unwrap();
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn owners_and_groups_are_judged() {
        for (owner, group, mode, runner, refused) in [
            (0, 0, 0o644, 1000, false),
            (0, 0, 0o664, 1000, false),
            (1000, 1000, 0o664, 1000, false),
            (1000, 1000, 0o664, 0, true),
            (1001, 1001, 0o600, 1000, true),
            (1000, 100, 0o664, 1000, true),
            (1000, 100, 0o644, 1000, false),
            (0, 50, 0o664, 0, true),
            (0, 0, 0o646, 0, true),
        ] {
            let judged = judge(owner, group, mode, runner);
            assert_eq!(judged.is_some(), refused, "{owner} {group} {mode:o} {runner}: {judged:?}");
        }
    }

    #[test]
    fn a_file_that_others_may_write_is_refused_with_the_command_to_run() {
        assert_eq!(read(file(0o644).path()).unwrap(), "text");
        let open = file(0o666);
        let problem = read(open.path()).unwrap_err();
        assert_eq!(problem.help, format!("chmod go-w '{}'", open.path().display()));
        assert!(read(&std::env::temp_dir()).unwrap_err().message.ends_with("is not a file"));
    }

    #[test]
    fn an_open_secret_is_warned_of() {
        let (open, closed) = (file(0o644), file(0o640));
        let value = serde_json::json!({ "sinks": { "x": {
            "key": { "file": open.path() }, "client_key_file": open.path(),
            "client_cert_file": open.path(), "auth": [{ "secret": { "file": closed.path() } }]
        } } });
        let mut found = Problems::new();
        open_secrets("", &value, &mut found);
        let [client, problem] = &found[..] else { panic!("{found:?}") };
        assert_eq!((&*client.key, &*problem.key), ("sinks.x.client_key_file", "sinks.x.key"));
        assert!(problem.message.contains("may read") && problem.help.starts_with("chmod o-rwx"));
    }
}
