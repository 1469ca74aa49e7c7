//! The house rules that the compiler and clippy cannot check, and the documents' references.

use std::fs;
use std::path::{Path, PathBuf};

use siemgate::app::Plan;

/// Which folder of src/ may import which others. Everything else in src/ is main.rs and lib.rs.
const MAY_IMPORT: [(&str, &[&str]); 9] = [
    ("app", &["app", "cli", "core", "formats", "http", "routes", "sinks", "sources"]),
    // `sinks` for the table of kinds that `siemgate sinks` shows.
    ("cli", &["cli", "app", "core", "sinks"]),
    ("http", &["http", "core"]),
    ("routes", &["routes", "core"]),
    ("sources", &["sources", "core"]),
    ("formats", &["formats", "core"]),
    ("sinks", &["sinks", "formats", "core"]),
    ("core", &["core"]),
    // The table of targets, in no build of the program.
    ("fuzz.rs", &["app", "core", "formats", "http", "routes", "sinks", "sources"]),
];

/// Files for tests and fuzzing only, by the end of their names.
const UNBUILT: [&str; 4] = ["tests.rs", "fuzz.rs", "parsers.rs", "schemas.rs"];

/// Names that say nothing about what a type is.
const EMPTY_NAMES: [&str; 7] =
    ["Manager", "Handler", "Service", "Util", "Helper", "Base", "Context"];

/// Libraries that one file or folder knows, so that they can be replaced there.
const ONE_PLACE: [(&str, &str); 2] =
    [("prometheus", "core/metrics/"), ("figment", "core/config/layers.rs")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files under `dir` whose names end with `end`, in order.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every source file: its path below src/, its text, and its code without comments and strings.
fn sources() -> Vec<(String, String, String)> {
    let src = root().join("src");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = code_of(&text);
        (path.strip_prefix(&src).unwrap().to_string_lossy().into_owned(), text, code)
    };
    files(&src, ".rs").into_iter().map(read).collect()
}

/// `text` without comments and without what is inside string and character literals; line breaks
/// stay.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let (mut code, mut i) = (String::with_capacity(text.len()), 0);
    while i < chars.len() {
        let hashes = (i + 1..).take_while(|&j| at(j) == '#').count();
        let word_before = i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_');
        let start = i;
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
                continue;
            }
            'r' if !word_before && at(i + 1 + hashes) == '"' => {
                let close: String =
                    std::iter::once('"').chain("#".repeat(hashes).chars()).collect();
                i += hashes + 2;
                while i < chars.len() && !chars[i..].starts_with(&close.chars().collect::<Vec<_>>())
                {
                    i += 1;
                }
                i += close.len();
            }
            '"' => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            c => {
                code.push(c);
                i += 1;
                continue;
            }
        }
        code.push_str("\"\"");
        let breaks = chars[start..i.min(chars.len())].iter().filter(|c| **c == '\n').count();
        code.push_str(&"\n".repeat(breaks));
    }
    code
}

/// The folders of this crate that `code` names after `crate::`, with their lines.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (offset, _) in code.match_indices("crate::") {
        if code[..offset].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..offset].matches('\n').count() + 1;
        let rest = &code[offset + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push((line, first_name(rest)));
            continue;
        };
        let (mut depth, mut item) = (1, String::new());
        for c in group.chars() {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            if depth == 0 || (depth == 1 && c == ',') {
                found.push((line, first_name(item.trim())));
                item.clear();
            } else {
                item.push(c);
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

fn none(broken: Vec<String>) {
    assert!(broken.is_empty(), "{} broken:\n  {}", broken.len(), broken.join("\n  "));
}

#[test]
fn folders_import_only_what_the_design_allows() {
    let mut broken = Vec::new();
    for (file, _, code) in sources() {
        let folder = file.split('/').next().unwrap();
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == folder) else {
            assert!(
                matches!(folder, "main.rs" | "lib.rs"),
                "src/{file}: a new folder needs an entry in MAY_IMPORT and in ARCHITECTURE.md"
            );
            continue;
        };
        for (line, import) in imports(&code) {
            if !allowed.contains(&import.as_str()) {
                broken.push(format!("src/{file}:{line}: {folder} may not import {import}"));
            }
        }
    }
    none(broken);
}

#[test]
fn every_file_says_what_it_is_and_no_type_has_an_empty_name() {
    let mut broken = Vec::new();
    for (file, text, code) in sources() {
        if !text.starts_with("//! ") {
            broken.push(format!("src/{file}: must open with `//! ` and what it is"));
        }
        let all: Vec<&str> = words(&code).collect();
        for pair in all.windows(2).filter(|pair| matches!(pair[0], "struct" | "enum" | "trait")) {
            if let Some(empty) = EMPTY_NAMES.iter().find(|empty| pair[1].ends_with(*empty)) {
                broken.push(format!("src/{file}: {} is a {empty} of what?", pair[1]));
            }
        }
    }
    none(broken);
}

#[test]
fn some_names_stay_in_one_place_and_some_have_none() {
    let mut broken = Vec::new();
    for (file, _, code) in sources() {
        for (library, home) in ONE_PLACE {
            if !file.starts_with(home) && words(&code).any(|word| word == library) {
                broken.push(format!("src/{file}: only src/{home} may name {library}"));
            }
        }
        if words(&code).any(|word| word == "unsafe") {
            broken.push(format!("src/{file}: unsafe"));
        }
        // Unit tests stand at the end of their file, or in a `tests.rs`.
        let product = code.find("#[cfg(test)]\nmod tests {").map_or(&*code, |end| &code[..end]);
        if !UNBUILT.iter().any(|end| file.ends_with(end)) && product.contains(".unwrap()") {
            broken.push(format!("src/{file}: .unwrap() outside tests"));
        }
    }
    none(broken);
}

/// What is for tests and fuzzing is in no build of the program, whatever its features.
#[test]
fn nothing_for_tests_and_fuzzing_is_in_the_program() {
    let mut broken = Vec::new();
    for (file, text, _) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, pair) in lines.windows(2).enumerate() {
            let module = pair[1].strip_suffix(';').and_then(|line| line.rsplit_once("mod "));
            let is_one = |(_, name): (&str, &str)| UNBUILT.contains(&&*format!("{name}.rs"));
            let is_left_out = matches!(pair[0], "#[cfg(test)]" | "#[cfg(any(test, fuzzing))]");
            if module.is_some_and(is_one) && !is_left_out {
                broken.push(format!("src/{file}:{}: {} is in the program", number + 2, pair[1]));
            }
        }
    }
    none(broken);
}

/// A fresh checkout starts, and every drop-in example is good as soon as its secrets exist.
#[test]
fn the_shipped_configuration_is_accepted() {
    let shipped = root().join("config.d");
    // Copied, as the tree may belong to somebody else.
    let copy = tempfile::tempdir().unwrap();
    for file in files(&shipped, ".toml") {
        fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    let plan = Plan::read(copy.path()).map_err(|problems| format!("{problems:?}")).unwrap();
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    for example in files(&shipped, ".toml.example") {
        let dir = tempfile::tempdir().unwrap();
        for file in files(&shipped, ".toml") {
            fs::copy(&file, dir.path().join(file.file_name().unwrap())).unwrap();
        }
        let key = dir.path().join("key");
        // Some secrets are keys, others whole addresses.
        fs::write(&key, "https://example.invalid/not-a-real-key\n").unwrap();
        let text = fs::read_to_string(&example).unwrap();
        let quoted = text.split('"').map(|part| match part.starts_with("/etc/siemgate/") {
            true => key.to_string_lossy().into_owned(),
            false => part.to_owned(),
        });
        let text = quoted.collect::<Vec<_>>().join("\"");
        let name = example.file_stem().unwrap();
        fs::write(dir.path().join(name), text).unwrap();
        if let Err(problems) = Plan::read(dir.path()) {
            panic!("{}: {problems:?}", example.display());
        }
    }
}

/// What the documents name in this tree exists: links, and paths in `code`. A bare `file.rs` stands
/// in the folder of the path before it on its line.
#[test]
fn documents_name_only_what_exists() {
    let folders = ["src/", "tests/", "fuzz/", "docs/", "dashboards/", "packaging/", ".ci/"];
    let mut broken = Vec::new();
    let documents = [
        "README",
        "ARCHITECTURE",
        "CONTRIBUTING",
        "CHANGELOG",
        "dashboards/README",
        "docs/destinations",
        "docs/metrics",
        "docs/presets",
        "docs/runbook",
    ];
    for document in documents.map(|name| root().join(format!("{name}.md"))) {
        let text = fs::read_to_string(&document).unwrap();
        for (number, line) in text.lines().enumerate() {
            let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let local = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
            let mut named: Vec<PathBuf> = local
                .map(|link| document.with_file_name(link.split('#').next().unwrap()))
                .collect();
            let mut folder = root().to_owned();
            // A pattern or a place to fill in is no path.
            let is_path = |path: &&str| !path.contains(['*', ' ', '<', '…', '{']);
            let code = line.split('`').skip(1).step_by(2).filter(is_path);
            for path in code.filter(|path| !path.contains("NAME")) {
                if folders.iter().any(|folder| path.starts_with(folder)) {
                    let path = root().join(path);
                    folder = if path.is_dir() { path.clone() } else { path.with_file_name("") };
                    named.push(path);
                } else if path.ends_with(".rs") && folder != root() {
                    named.push(folder.join(path));
                }
            }
            for path in named.iter().filter(|path| !path.exists()) {
                let document = document.strip_prefix(root()).unwrap().display();
                let path = path.display();
                broken.push(format!("{document}:{}: {path} does not exist", number + 1));
            }
        }
    }
    none(broken);
}

/// Whoever opens the map finds every folder of src/, and every file of those it lists.
#[test]
fn the_map_is_complete() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, map) = text.split_once("## The map").unwrap();
    let map = map.split("\n## ").next().unwrap();
    let named: Vec<&str> = map.split('`').skip(1).step_by(2).collect();
    let is_named = |path: &str| named.contains(&path);
    let mut broken = Vec::new();
    for (file, ..) in sources() {
        let path = format!("src/{file}");
        let name = path.rsplit('/').next().unwrap();
        let mut above = path.rmatch_indices('/').map(|(at, _)| &path[..at]);
        // The folders right below src/ are headings; those below them may stand for their files.
        let stands_for_all = |folder: &str| {
            is_named(folder) && (folder.matches('/').count() > 1 || name == "mod.rs")
        };
        let in_whole_folder = above.any(stands_for_all);
        if !is_named(&path) && !is_named(name) && !in_whole_folder {
            broken.push(format!("{path} is not on the map in ARCHITECTURE.md"));
        }
    }
    none(broken);
}

#[test]
fn code_is_told_from_comments_and_strings() {
    let code = code_of("a // crate::x\n\"crate::y\" r#\"un\"safe\"# 'c' '\\'' &'a str\nb");
    assert_eq!(code, "a \n\"\" \"\" \"\" \"\" &'a str\nb");
    let found = imports("use crate::{core::{a, b}, http};\nuse crate::app::X; mycrate::no();");
    let names: Vec<_> = found.iter().map(|(line, name)| (*line, name.as_str())).collect();
    assert_eq!(names, [(1, "core"), (1, "http"), (2, "app")]);
}
