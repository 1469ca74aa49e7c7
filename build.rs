//! Puts the shipped presets into the program: every `src/sinks/presets/*.toml`, in name order.

// A build script speaks to cargo on standard output, and stops the build by panicking.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, clippy::expect_used)]

use std::fmt::Write;
use std::path::Path;

fn main() {
    let folder = Path::new("src/sinks/presets");
    println!("cargo:rerun-if-changed={}", folder.display());
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let entries = std::fs::read_dir(folder).expect("the folder is part of the sources");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "toml"));
    files.sort();
    let mut table = "&[\n".to_owned();
    for file in files {
        let name = file.file_stem().and_then(|name| name.to_str()).expect("a name in UTF-8");
        let path = Path::new(&root).join(&file);
        writeln!(table, "    ({name:?}, include_str!({path:?})),").expect("memory");
    }
    table.push_str("]\n");
    let out = std::env::var("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join("presets.rs"), table).expect("cargo's own folder");
}
