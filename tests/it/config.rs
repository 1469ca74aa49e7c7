//! Mistakes in a configuration, each with the exact message; and what holds, and why.
//!
//! `tests/config/bad` has one mistake a file (`NAME.toml`, or a folder `NAME` of several files with
//! an optional `environment` of `NAME=VALUE` lines) and beside it what `check` says (`NAME.txt`).
//! UPDATE_BAD=1 writes the messages anew: read them as somebody who has to mend it at night.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use siemgate::{app, sinks};
use tempfile::TempDir;

use super::certificates::Leaf;
use super::gateway::{Printed, siemgate};

/// What every mistake is made beside, so that each file holds nothing but its mistake.
const GOOD: [(&str, &str); 3] = [
    ("sources", "[sources.superna]\ntype = \"superna\"\n"),
    ("routes", "[routes.everything]\nsinks = [\"archive\"]\n"),
    ("sinks", "[sinks.archive]\ntype = \"file\"\npath = \"data/events.ndjson\"\n"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    names
}

/// A folder with `config.d` of safe files, whatever the umask.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("config.d");
    fs::create_dir(&config).unwrap();
    for (name, text) in files {
        fs::write(config.join(name), text).unwrap();
        mode(&config.join(name), 0o644);
    }
    mode(&config, 0o755);
    dir
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn run(dir: &TempDir, environment: &[(&str, &str)], arguments: &[&str]) -> Printed {
    let mut command = siemgate();
    command.current_dir(dir.path()).envs(environment.iter().copied());
    command.args(arguments).output().unwrap().into()
}

/// A mistake's files, and the good ones that it needs beside it.
fn laid_out(case: &Path) -> (TempDir, String) {
    let mut files = Vec::new();
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let mut environment = String::new();
    if case.is_dir() {
        for path in names(case) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match name.as_str() {
                "environment" => environment = read(&path),
                _ => files.push((name, read(&path))),
            }
        }
    } else {
        files.push((case.file_name().unwrap().to_string_lossy().into_owned(), read(case)));
    }
    let all: String = files.iter().map(|(_, text)| text.as_str()).collect();
    for (section, text) in GOOD {
        if !all.contains(&format!("[{section}.")) && !all.contains(&format!("without {section}")) {
            files.push((format!("zz-{section}.toml"), text.to_owned()));
        }
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let dir = folder(&files);
    for (name, text) in [("empty", ""), ("key", "not-a-real-key\n"), ("lines", "a\nb\n")] {
        fs::write(dir.path().join(name), text).unwrap();
        mode(&dir.path().join(name), 0o600);
    }
    if all.contains("_key_file") || all.contains("_cert_file") {
        certificates(dir.path());
    }
    (dir, environment)
}

/// A client's certificate and key, a key of another, and one that needs a passphrase.
fn certificates(dir: &Path) {
    Leaf::self_signed("client").write(dir, "client");
    Leaf::self_signed("other").write(dir, "other");
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(dir.join("encrypted.key"), encrypted).unwrap();
    mode(&dir.join("encrypted.key"), 0o600);
}

#[test]
fn every_mistake_has_its_exact_message() {
    let bad = root().join("tests/config/bad");
    let is_case = |path: &PathBuf| path.extension().is_none_or(|end| end == "toml");
    let cases: Vec<PathBuf> = names(&bad).into_iter().filter(is_case).collect();
    assert!(cases.len() >= 40, "{} mistakes", cases.len());
    let mut differ = Vec::new();
    for case in cases {
        let (dir, environment) = laid_out(&case);
        let environment: Vec<(&str, &str)> =
            environment.lines().filter_map(|line| line.split_once('=')).collect();
        let told = run(&dir, &environment, &["check"]);
        let name = case.file_stem().unwrap().to_string_lossy().into_owned();
        if (told.code, told.out.as_str()) != (Some(78), "") {
            differ.push(format!("{name}: {told:?}"));
            continue;
        }
        let expected = bad.join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_BAD").is_some() {
            fs::write(&expected, &told.err).unwrap();
        }
        let written = fs::read_to_string(&expected).unwrap_or_default();
        if written != told.err {
            differ.push(format!("{name}\n  expected:\n{written}\n  told:\n{}", told.err));
        }
    }
    assert!(differ.is_empty(), "UPDATE_BAD=1 writes them anew:\n{}", differ.join("\n"));
}

fn good(more: &str) -> TempDir {
    let mut files = GOOD.map(|(name, text)| (format!("{name}.toml"), text.to_owned())).to_vec();
    files.push(("zz.toml".into(), more.into()));
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    folder(&files)
}

#[test]
fn every_mistake_of_a_section_is_told_at_once() {
    let dir = good(
        "[server]\nlisten = [\n  \"localhost:1\",\n  \"127.0.0.1:0\",\n  \"x\",\n]\nworkers = \"two\"\n\
         drain = \"soon\"\n[sinks.x]\ntype = \"taegis\"\nkey = { env = \"NO_SUCH\" }\nconnect_timeout = 1\n\
         event_bytes = \"big\"\n[sinks.x.delivery]\nrate = \"1\"\nin_flight = 0\n",
    );
    let told = run(&dir, &[], &["check"]);
    assert_eq!(told.code, Some(78));
    for line in [3, 5, 7, 8, 9, 11, 12, 13, 15, 16] {
        let place = format!("error: config.d/zz.toml:{line}: ");
        assert_eq!(told.err.matches(&place).count(), 1, "{place} in {}", told.err);
    }
    assert!(told.err.contains("10 problems found"), "{}", told.err);
}

#[test]
fn files_that_others_may_write_are_refused_and_leftovers_ignored() {
    for (file, bits, says) in [
        ("config.d/zz.toml", 0o646, "chmod go-w 'config.d/zz.toml'"),
        ("config.d", 0o757, "chmod go-w 'config.d'"),
    ] {
        let dir = good("");
        fs::write(dir.path().join("config.d/zz.toml~"), "not TOML").unwrap();
        mode(&dir.path().join("config.d/zz.toml~"), 0o666);
        let told = run(&dir, &[], &["check"]);
        assert_eq!(told.code, Some(0), "{told:?}");
        mode(&dir.path().join(file), bits);
        for command in ["check", "run"] {
            let told = run(&dir, &[], &[command]);
            assert_eq!(told.code, Some(78), "{told:?}");
            assert!(told.err.contains(says), "{told:?}");
        }
    }
}

/// Also as root: whoever owns a file could otherwise become whoever reads it.
#[test]
fn files_of_somebody_else_are_refused() {
    let dir = good("");
    let file = dir.path().join("config.d/zz.toml");
    if std::os::unix::fs::chown(&file, Some(54_321), None).is_err() {
        eprintln!("skipped: only root may give files away");
        return;
    }
    let told = run(&dir, &[], &["check"]);
    assert_eq!(told.code, Some(78), "{told:?}");
    assert!(told.err.contains("belongs to user 54321"), "{told:?}");
    assert!(told.err.contains("chown 0 'config.d/zz.toml'"), "{told:?}");
}

#[test]
fn an_open_secret_is_warned_of() {
    let dir = good("[sources.superna]\nauth = [{ header = \"X\", secret = { file = \"key\" } }]\n");
    fs::write(dir.path().join("key"), "hidden\n").unwrap();
    mode(&dir.path().join("key"), 0o644);
    let told = run(&dir, &[], &["check"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.out.contains("zz.toml:2: sources.superna.auth[0].secret"), "{told:?}");
    assert!(told.out.contains("chmod o-rwx 'key'"), "{told:?}");
}

const SHOWN: &str = "[log]\nkeep = \"30d\"\n[sinks.x]\ntype = \"taegis\"\nkey = { file = \"key\" }\n\
    url = \"https://siem.example/hidden\"\ntokn = \"hidden\"\n[sinks.y]\ntype = \"taegis\"\n\
    key = \"hidden\"\nurl = { env = \"SIEMGATE_URL\" }\n";

#[test]
fn show_tells_every_value_and_its_origin_and_no_secret() {
    let dir = good(SHOWN);
    let environment = [
        ("SIEMGATE_LOG__MAX_BYTES", "1000000"),
        ("SIEMGATE_URL", "https://hidden.example/"),
        ("SIEMGATE_SINKS__ARCHIVE__GZIP", "false"),
    ];
    let told = run(&dir, &environment, &["config", "show", "--origin"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    let has = |key: &str, origin: &str| {
        let line = told.out.lines().find(|line| line.starts_with(key));
        assert!(line.is_some_and(|line| line.ends_with(origin)), "{key} {origin}: {}", told.out);
    };
    has("keep = \"30d\" ", "# config.d/zz.toml:2");
    has("max_bytes = 1000000 ", "# environment variable SIEMGATE_LOG__MAX_BYTES");
    has("gzip = false ", "# environment variable SIEMGATE_SINKS__ARCHIVE__GZIP");
    has("admin = \"127.0.0.1:9600\" ", "# default");
    has("allow = [\"127.0.0.0/8\", \"::1/128\"] ", "# default");
    has("delivery.in_flight = { max = 4, min = 1 } ", "# default");
    has("key = { file = \"key\" } ", "# config.d/zz.toml:5");
    has("url = \"https://siem.example/***\" ", "# config.d/zz.toml:6");
    has("tokn = \"***\" ", "# config.d/zz.toml:7");
    has("key = \"***\" ", "# config.d/zz.toml:10");
    has("url = { env = \"SIEMGATE_URL\" } ", "# config.d/zz.toml:11");
    assert!(!told.out.contains("hidden"), "{}", told.out);
    let plain = run(&dir, &environment, &["config", "show"]);
    assert!(plain.out.contains("[sinks.archive]\n") && !plain.out.contains('#'), "{plain:?}");
    let json: Value =
        serde_json::from_str(&run(&dir, &environment, &["config", "show", "--json"]).out).unwrap();
    let of = |key: &str| json.as_array().unwrap().iter().find(|one| one["key"] == key).unwrap();
    assert_eq!((&of("log.keep")["origin"], &of("log.keep")["line"]), (&"file".into(), &2.into()));
    assert_eq!(of("log.max_bytes")["variable"], "SIEMGATE_LOG__MAX_BYTES");
    assert_eq!(of("server.workers")["origin"], "default");
}

#[test]
fn what_show_prints_is_a_configuration_again() {
    let dir = good("[sources.other]\ntype = \"json\"\nseverities = { \"P 1\" = \"critical\" }\n");
    let shown = run(&dir, &[], &["config", "show"]).out;
    let again = folder(&[("all.toml", &shown)]);
    let checked = run(&again, &[], &["check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}\n{shown}");
    assert_eq!(run(&again, &[], &["config", "show"]).out, shown);
}

/// As much of JSON Schema as ours uses.
fn fits(value: &Value, schema: &Value, root: &Value) -> Result<(), String> {
    if let Some(pointer) = schema["$ref"].as_str() {
        let target = root.pointer(pointer.trim_start_matches('#'));
        return fits(value, target.ok_or(format!("{pointer} leads nowhere"))?, root);
    }
    for part in ["anyOf", "oneOf"] {
        let Some(options) = schema[part].as_array() else { continue };
        let fitting = options.iter().filter(|option| fits(value, option, root).is_ok()).count();
        if fitting == 0 || (part == "oneOf" && fitting > 1) {
            return Err(format!("{value} fits {fitting} of {part}"));
        }
    }
    if schema.get("const").is_some_and(|known| known != value) {
        return Err(format!("{value} is not {}", schema["const"]));
    }
    if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
        return Err(format!("{value} is not in {}", schema["enum"]));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let is = |name: &&str| match *name {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    };
    if !types.is_empty() && !types.iter().any(is) {
        return Err(format!("{value} is none of {types:?}"));
    }
    for item in value.as_array().into_iter().flatten().filter(|_| schema["items"].is_object()) {
        fits(item, &schema["items"], root)?;
    }
    let Some(table) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        table.get(name).ok_or(format!("{name} is missing in {value}"))?;
    }
    for (name, inner) in table {
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => return Err(format!("unknown key {name}")),
            (Value::Null, Value::Null | Value::Bool(true)) => {}
            (Value::Null, schema) | (schema, _) => {
                fits(inner, schema, root).map_err(|error| format!("{name}: {error}"))?;
            }
        }
    }
    Ok(())
}

/// A TOML text as JSON, by way of what the gateway itself reads.
fn json(text: &str) -> Value {
    let dir = folder(&[("a.toml", text)]);
    let layers = siemgate::core::config::Layers::read(&dir.path().join("config.d"));
    let layers = layers.map_err(|problems| format!("{problems:?}")).unwrap();
    Value::Object(layers.root().table)
}

#[test]
fn the_schema_takes_what_is_shipped_and_refuses_mistakes() {
    let told: Printed = siemgate().args(["config", "schema"]).output().unwrap().into();
    let schema: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(schema, app::schema(&sinks::Catalogue::default().all().unwrap()));
    let shipped =
        names(&root().join("config.d")).into_iter().map(|path| fs::read_to_string(path).unwrap());
    let kinds = sinks::Catalogue::default().all().unwrap();
    let samples = kinds.iter().map(|kind| kind.sample_with("https://siem.example", "/tmp"));
    for text in shipped.chain(samples).chain(GOOD.map(|(_, text)| text.to_owned())) {
        fits(&json(&text), &schema, &schema).map_err(|error| format!("{error}\n{text}")).unwrap();
    }
    for mistake in [
        "[serve]",
        "[server]\nworkers = \"two\"",
        "[sinks.x]\ntype = \"fiel\"",
        "[sinks.x]",
        "[sinks.x]\ntype = \"taegis\"\nkey = \"literal\"\nurl = \"https://h\"",
        "[sinks.x]\ntype = \"file\"\npath = \"a\"\npaht = \"b\"",
        "[sinks.x]\ntype = \"file\"\npath = \"a\"\ndelivery = { rat = \"1/s\" }",
        "[routes.x]\nmin_severity = \"high\"",
        "[unmatched]\nsink = \"a\"",
    ] {
        assert!(fits(&json(mistake), &schema, &schema).is_err(), "{mistake}");
    }
    references(&schema, &schema);
}

/// Every reference leads somewhere.
fn references(schema: &Value, root: &Value) {
    match schema {
        Value::Object(table) => {
            if let Some(pointer) = table.get("$ref").and_then(Value::as_str) {
                assert!(root.pointer(pointer.trim_start_matches('#')).is_some(), "{pointer}");
            }
            table.values().for_each(|inner| references(inner, root));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, root)),
        _ => {}
    }
}
