//! What was tried against a real server, in src/sinks/proofs.toml: written by the tests that did it.
//!
//! Guarantees: `proved` at the end of such a test fails where the file does not name the server, and
//! with `UPDATE_DOCS=1` writes it there; what the file names and no test says is found here. So a line
//! of the file has a test, that test has passed at least once, and in CI it passes every time, because
//! there a server that is missing fails it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use siemgate::sinks::Catalogue;

use super::sinks::told;

const HEAD: &str = "\
# Which real servers each kind of sink was tried against. Written by the tests that did it:
# `UPDATE_DOCS=1 make test`. A test says so by `proved(\"KIND\", \"SERVER\")`.
";

type Proofs = BTreeMap<String, BTreeSet<String>>;

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sinks/proofs.toml")
}

fn read() -> Proofs {
    toml_edit::de::from_str(&std::fs::read_to_string(path()).unwrap()).unwrap()
}

fn write(proofs: &Proofs) {
    let line = |(kind, servers): (&String, &BTreeSet<String>)| format!("{kind} = {servers:?}\n");
    // Its debug form is TOML's list but for the brackets.
    let lines: String =
        proofs.iter().filter(|(_, servers)| !servers.is_empty()).map(line).collect();
    let lines = lines.replace('{', "[").replace('}', "]");
    std::fs::write(path(), format!("{HEAD}\n{lines}")).unwrap();
}

/// Tests run side by side, and each adds its own line.
static FILE: Mutex<()> = Mutex::new(());

fn is_update() -> bool {
    std::env::var_os("UPDATE_DOCS").is_some()
}

/// This test has delivered with the kind of sink `kind` to the real `server`. Its last line; both are
/// written out, so that they are found in the test's text.
pub fn proved(kind: &str, server: &str) {
    let _alone = FILE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut proofs = read();
    let is_new = proofs.entry(kind.to_owned()).or_default().insert(server.to_owned());
    if is_new && is_update() {
        write(&proofs);
    } else {
        assert!(!is_new, "src/sinks/proofs.toml does not name {server} for {kind} (UPDATE_DOCS=1)");
    }
}

/// What the texts of the tests say.
fn said() -> Proofs {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let mut said = Proofs::new();
    for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        // This file speaks of it only.
        let skipped = if file.ends_with("proofs.rs") { usize::MAX } else { 1 };
        for call in text.split("proved(\"").skip(skipped) {
            let words: Vec<&str> = call.split('"').collect();
            let [kind, ", ", server, ..] = words[..] else { panic!("not written out: {call:.60}") };
            said.entry(kind.to_owned()).or_default().insert(server.to_owned());
        }
    }
    said
}

#[test]
fn every_proof_has_a_test_and_every_such_test_a_proof() {
    let _alone = FILE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (mut proofs, said) = (read(), said());
    if is_update() {
        // What no test says any more goes; what is new comes when its test has passed.
        proofs.retain(|kind, servers| {
            servers.retain(|server| said.get(kind).is_some_and(|said| said.contains(server)));
            !servers.is_empty()
        });
        write(&proofs);
    } else {
        assert_eq!(proofs, said, "src/sinks/proofs.toml (UPDATE_DOCS=1 with all tests)");
    }
    let catalogue = Catalogue::default();
    for kind in said.keys() {
        let known = catalogue.get(kind).map_err(told).unwrap();
        assert!(known.is_some(), "`{kind}` is no kind of sink");
    }
}
