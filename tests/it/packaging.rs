//! What is packaged: units that systemd accepts, and an installer that keeps what is yours.
//!
//! `make test-install` does the same in a clean root of an old system, where systemd is process 1.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::gateway::siemgate;
use super::products::have;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

/// What a command said, which must have succeeded.
fn done(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{said}");
    said
}

#[test]
fn systemd_accepts_the_units_and_finds_little_exposed() {
    if !have("systemd-analyze", "systemd") {
        return;
    }
    let folder = TempDir::new().unwrap();
    for unit in ["siemgate.service", "siemgate.socket"] {
        let text = fs::read_to_string(packaging().join(unit)).unwrap();
        // The program must be there, and is not installed.
        let text = text.replace("/usr/local/bin/siemgate", env!("CARGO_BIN_EXE_siemgate"));
        fs::write(folder.path().join(unit), text).unwrap();
    }
    let service = folder.path().join("siemgate.service");
    let analyze = || Command::new("systemd-analyze");
    let socket = folder.path().join("siemgate.socket");
    let said = done(analyze().args(["verify", "--man=no"]).arg(&service).arg(socket));
    assert_eq!(said, "", "a clean unit leaves nothing to say");
    // In tenths.
    let limits = ["security", "--offline=true", "--threshold=15", "--no-pager"];
    let said = done(analyze().args(limits).arg(&service));
    println!("{}", said.lines().last().unwrap_or_default());
}

#[test]
fn the_scripts_are_sound() {
    if have("shellcheck", "shellcheck") {
        let scripts = fs::read_dir(packaging()).unwrap().map(|entry| entry.unwrap().path());
        let scripts: Vec<PathBuf> =
            scripts.filter(|path| path.extension().is_some_and(|end| end == "sh")).collect();
        assert!(scripts.len() >= 4, "{scripts:?}");
        done(Command::new("shellcheck").args(scripts));
    }
}

/// An unpacked tarball, and a folder to install into.
struct Stranger {
    folder: TempDir,
}

impl Stranger {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut stage = Command::new(packaging().join("stage.sh"));
        done(stage.arg(folder.path().join("unpacked")).arg(env!("CARGO_BIN_EXE_siemgate")));
        Self { folder }
    }

    fn unpacked(&self, file: &str) -> PathBuf {
        self.folder.path().join("unpacked").join(file)
    }

    fn installed(&self, file: &str) -> PathBuf {
        self.folder.path().join("root").join(file)
    }

    fn install(&self, arguments: &[&str]) -> String {
        let mut install = Command::new(self.unpacked("install.sh"));
        done(install.args(arguments).env("DESTDIR", self.folder.path().join("root")))
    }

    fn text(&self, file: &str) -> String {
        let path = self.installed(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Every file below the root: its mode and its content, or that it is a folder.
    fn tree(&self) -> BTreeMap<PathBuf, (u32, Option<Vec<u8>>)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.folder.path().join("root")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
                let content = path.is_file().then(|| fs::read(&path).unwrap());
                found.insert(path.clone(), (mode, content));
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        found
    }

    fn mode(&self, file: &str) -> u32 {
        self.tree()[&self.installed(file)].0
    }
}

fn append(path: &Path, line: &str) {
    let text = fs::read_to_string(path).unwrap_or_default();
    fs::write(path, format!("{text}{line}\n")).unwrap();
}

#[test]
fn an_installation_is_complete_and_a_second_one_changes_nothing() {
    let stranger = Stranger::new();
    stranger.install(&[]);
    done(Command::new(stranger.installed("usr/local/bin/siemgate")).arg("--version"));
    assert_eq!(stranger.mode("etc/siemgate/credentials"), 0o700);
    assert_eq!(stranger.mode("etc/siemgate/secrets"), 0o700);
    assert_eq!(stranger.mode("etc/siemgate/config.d"), 0o750);
    assert_eq!(stranger.mode("etc/siemgate/config.d/10-superna.toml"), 0o640);
    assert_eq!(stranger.mode("var/lib/siemgate"), 0o750);
    for file in [
        "lib/systemd/system/siemgate.socket",
        "share/man/man1/siemgate-check.1",
        "share/bash-completion/completions/siemgate",
        "share/zsh/site-functions/_siemgate",
        "share/fish/vendor_completions.d/siemgate.fish",
        "share/doc/siemgate/LICENSE",
    ] {
        assert!(!stranger.text(&format!("usr/local/{file}")).is_empty(), "{file}");
    }

    // Commands are run from any folder: no path may depend on it.
    let config = stranger.installed("etc/siemgate/config.d");
    let mut show = siemgate();
    let shown = done(show.arg("--config").arg(&config).args(["config", "show"]).env("PATH", ""));
    assert!(shown.contains("/var/lib/siemgate/log") && shown.contains("/var/lib/siemgate/out/"));
    assert!(!shown.contains("\"data/"), "{shown}");
    for file in fs::read_dir(&config).unwrap() {
        let file = file.unwrap().path();
        // Nor may a comment speak of a checkout's folder.
        assert!(!fs::read_to_string(&file).unwrap().contains("data/"), "{}", file.display());
    }

    let before = stranger.tree();
    stranger.install(&[]);
    assert!(stranger.tree() == before, "nothing had to be changed");
}

#[test]
fn an_upgrade_keeps_what_was_changed_and_a_removal_keeps_the_rest() {
    let stranger = Stranger::new();
    let config = |file: &str| format!("etc/siemgate/config.d/{file}");
    append(&stranger.unpacked("config.d/40-gone.toml.example"), "# once shipped");
    append(&stranger.unpacked("config.d/41-gone.toml.example"), "# once shipped");
    stranger.install(&[]);
    append(&stranger.installed(&config("10-superna.toml")), "# mine");
    append(&stranger.installed(&config("41-gone.toml.example")), "# mine");
    append(&stranger.installed(&config("90-mine.toml")), "# mine");
    fs::remove_file(stranger.installed(&config("50-sophos.toml.example"))).unwrap();
    append(&stranger.installed("var/lib/siemgate/event"), "data");

    for file in ["10-superna.toml", "20-archive.toml", "50-sophos.toml.example", "30-new.toml"] {
        append(&stranger.unpacked(&format!("config.d/{file}")), "# theirs");
    }
    for file in ["40-gone.toml.example", "41-gone.toml.example"] {
        fs::remove_file(stranger.unpacked(&format!("config.d/{file}"))).unwrap();
    }
    fs::remove_file(stranger.unpacked("dashboards/README.md")).unwrap();
    let said = stranger.install(&[]);
    assert!(said.contains("kept: /etc/siemgate/config.d/10-superna.toml"), "{said}");
    let changed = stranger.text(&config("10-superna.toml"));
    assert!(changed.ends_with("# mine\n") && !changed.contains("# theirs"), "{changed}");
    assert!(stranger.text("etc/siemgate/shipped/10-superna.toml").ends_with("# theirs\n"));
    assert!(stranger.text(&config("20-archive.toml")).ends_with("# theirs\n"));
    assert_eq!(stranger.text(&config("30-new.toml")), "# theirs\n");
    assert_eq!(stranger.text(&config("90-mine.toml")), "# mine\n");
    assert!(stranger.text(&config("41-gone.toml.example")).ends_with("# mine\n"));
    for gone in ["40-gone.toml.example", "50-sophos.toml.example"] {
        assert!(!stranger.installed(&config(gone)).exists(), "{gone}");
    }
    assert!(!stranger.installed("usr/local/share/siemgate/dashboards/README.md").exists());

    stranger.install(&["--uninstall"]);
    let left = stranger.tree();
    let mut files = left.iter().filter(|(_, (_, content))| content.is_some()).map(|(path, _)| path);
    let ours = [stranger.installed("etc/siemgate"), stranger.installed("var/lib/siemgate")];
    assert!(files.all(|path| ours.iter().any(|ours| path.starts_with(ours))), "{left:?}");
    assert!(!stranger.installed("usr/local/share/siemgate").exists());
    assert_eq!(stranger.text(&config("90-mine.toml")), "# mine\n");
    assert_eq!(stranger.text("var/lib/siemgate/event"), "data\n");

    stranger.install(&["--uninstall", "--purge"]);
    assert!(stranger.tree().values().all(|(_, content)| content.is_none()), "only folders");
}
