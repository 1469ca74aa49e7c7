//! The targets of fuzzing, in one table: each takes any bytes and fails if a promise is broken.
//!
//! `make fuzz` looks for bytes that break one (`fuzz/`, with cargo-fuzz, which sets `cfg(fuzzing)`);
//! a unit test here replays what was found worth keeping. No part of the program: neither a build nor
//! a feature has it. What a target promises stands at its function, in the `fuzz.rs` of its folder.

use crate::{app, core, formats, http, routes, sinks, sources};

/// A target and its name, which is that of its file in `fuzz/fuzz_targets` and of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 17] = [
    ("body", http::fuzz::body),
    ("signature", http::fuzz::signature),
    ("superna", sources::fuzz::superna),
    ("json", sources::fuzz::json_paths),
    ("record", core::log::fuzz::record),
    ("segment", core::log::fuzz::segment),
    ("program", routes::fuzz::program),
    ("config", app::fuzz::config),
    ("preset", sinks::fuzz::preset),
    ("replies", sinks::fuzz::replies),
    ("cef", formats::fuzz::cef),
    ("leef", formats::fuzz::leef),
    ("csv", formats::fuzz::csv),
    ("gelf", formats::fuzz::gelf),
    ("asff", formats::fuzz::asff),
    ("documents", formats::fuzz::documents),
    ("syslog", formats::fuzz::syslog),
];

/// Run the target called `name`, if there is one, on `data`.
pub fn run(name: &str, data: &[u8]) {
    if let Some((_, target)) = TARGETS.iter().find(|(known, _)| *known == name) {
        target(data);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        fs::read_dir(folder).unwrap().map(|entry| stem(entry.unwrap().path())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        /// A little fuzzing in every run: a file of a corpus with some of it replaced.
        #[test]
        fn what_is_near_a_corpus_holds(
            nth: prop::sample::Index, from: prop::sample::Index, gone in 0usize..40,
            new in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            for (name, target) in TARGETS {
                let files: Vec<PathBuf> =
                    fs::read_dir(folder("corpus").join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
                let mut data = fs::read(nth.get(&files)).unwrap();
                let from = from.index(data.len() + 1);
                let to = (from + gone).min(data.len());
                data.splice(from..to, new.iter().copied());
                target(&data);
            }
        }
    }

    /// The seeds, what the fuzzer found beside them, and every input that broke something once.
    #[test]
    fn every_corpus_holds() {
        let mut broken = Vec::new();
        for (name, target) in TARGETS {
            let mut files: Vec<PathBuf> = fs::read_dir(folder("corpus").join(name))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            files.sort();
            assert!(files.len() >= 5, "{name} has {} files", files.len());
            for file in files {
                let data = fs::read(&file).unwrap();
                let ran = std::panic::catch_unwind(|| target(&data));
                if ran.is_err() {
                    broken.push(format!("{} breaks {name}", file.display()));
                }
            }
        }
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }

    #[test]
    fn every_target_has_its_file_and_its_corpus() {
        let all: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names(&folder("fuzz_targets")), all);
        assert_eq!(names(&folder("corpus")), all);
        let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
        for name in all {
            let text = fs::read_to_string(folder("fuzz_targets").join(format!("{name}.rs")));
            assert!(text.unwrap().contains(&format!("run(\"{name}\", data)")), "{name}");
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        }
    }
}
