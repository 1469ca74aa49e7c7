//! docs/configuration.md is rendered from the settings' own comments.
//!
//! The test fails when the two differ; `make docs` (or UPDATE_DOCS=1) writes the document anew.

use std::fmt::Write;
use std::path::Path;

use schemars::{Schema, schema_for};
use serde_json::Value;
use siemgate::core::config::{
    AlarmSettings, DeliverySettings, GuardSettings, HeartbeatSettings, JournalSettings,
    LogSettings, QuarantineSettings, ReceiptSettings, ServerSettings, SourceDoor, StartSetting,
};
use siemgate::sinks::Entry;
use siemgate::{routes, sinks, sources};

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by `make docs` from the comments of the settings. Change those. -->

siemgate reads every `*.toml` of its configuration folder in name order. That is `--config DIR`, or
`SIEMGATE_CONFIG`, or `/etc/siemgate/config.d` for a program that is installed (below `/usr`), else
`config.d`. Later files win; tables merge, lists are replaced whole. Then come
environment variables: `SIEMGATE_LOG__KEEP=30d` sets `keep` in `[log]`. `SIEMGATE_LOG_LEVEL` is not
a setting: it filters the journal (`info`, `debug`, …).

`siemgate check` reads everything, reports all problems together, each with its file and line (or its
environment variable) and what to do, and touches nothing. An unknown key is an error, and so is a
variable that leads to no key. Not settings, but reserved: `SIEMGATE_CONFIG`, `SIEMGATE_LOG_LEVEL`, and
every variable that a secret names (`{ env = \"SIEMGATE_KEY\" }`). Kubernetes adds variables of its
own to pods beside a service called `siemgate`; `enableServiceLinks: false` stops that.

`siemgate config show` prints every setting that holds, defaults included; `--origin` adds where each
comes from. Secrets are never printed, only where they are kept; of addresses only scheme and host.
`siemgate config schema` prints a JSON Schema for editors, which then complete keys and mark mistakes.
For Even Better TOML or Taplo, save it beside `config.d` and begin a file with
`#:schema ../siemgate.schema.json`.

Whoever may write these files commands the gateway. So the folder and its files must belong to root or
to the user that runs siemgate, and nobody else may write them; otherwise they are refused with the
command that mends it. A group may write where its number is the owner's: the private group that most
systems give a user, so that a checkout with umask 002 works. On a read-only mount only the owner
counts. Hidden files and what editors leave behind (`*.toml~`, `*.swp`) are not read. A secret's file
that every user may read is a warning, in `check` and in the journal.

A running gateway reads the folder again within two seconds of a change in it, on SIGHUP, and on
`siemgate reload`; it does not watch the files that secrets and certificates are in. What cannot be
used changes nothing. The addresses of `[server]`, `server.workers`, `server.bodies_in_flight`, `[log]`,
`[dead_letters]`, `[quarantine]` and `[receipts]` take effect at the next start only; a reload names those
that differ. Files of certificates and keys are read again at every reload.

Values:

| written as | means | examples |
|---|---|---|
| size | bytes | `\"512KiB\"`, `\"16MiB\"`, `\"1MB\"` (decimal) |
| time | a length of time | `\"500ms\"`, `\"30s\"`, `\"10m\"`, `\"6h\"`, `\"90d\"` |
| rate | events in a time | `\"200/s\"`, `\"30/h\"` |
| secret | a reference, never the value | `{ env = \"NAME\" }`, `{ file = \"/path\" }`, `{ credential = \"name\" }` (systemd) |
| address | a URL, or a secret that holds one | `\"https://siem.example/ingest\"` |

Names of sources, routes and sinks are made of lower-case letters, digits, `-` and `_`. A star marks
a key that must be set. A dash means that there is no default: the description says what happens
without the key.
";

const SINKS: &str = "\
## `[sinks.NAME]`

The destinations. Each has a `type`, the keys of that type (below), and these:

| key | value | default | |
|---|---|---|---|
| `type` * | text | | The kind of sink; `siemgate sinks` lists them. |
| `start` | text | `\"now\"` | Where a sink that has never run begins: {start}. Later starts go on where the sink stopped. |
| `delivery` | table | | See `[sinks.NAME.delivery]`. |
";

#[test]
fn the_reference_says_what_the_settings_say() {
    is_kept("docs/configuration.md", &reference());
}

/// Whether `document` is what it is rendered from; written anew if UPDATE_DOCS is set.
pub fn is_kept(document: &str, rendered: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    #[allow(clippy::disallowed_methods)] // a switch of this test, not a setting
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, rendered).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(rendered.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or(written.lines().count().min(rendered.lines().count())) + 1;
    assert!(written == rendered, "{document}:{line} is not what the program says; run `make docs`");
}

fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    section(&mut text, "## `[server]`", &schema_for!(ServerSettings));
    section(&mut text, "## `[log]`", &schema_for!(LogSettings));
    section(&mut text, "## `[journal]`", &schema_for!(JournalSettings));
    section(&mut text, "## `[sources.NAME]`", &with_type(schema_for!(SourceDoor), "source"));
    for kind in sources::KINDS {
        let title =
            format!("### `[sources.NAME]` with `type = \"{}\"`\n\n{}.", kind.name, kind.about);
        section(&mut text, &title, &(kind.schema)());
    }
    section(&mut text, "## `[routes.NAME]`", &routes::schema());
    text.push_str("\n## `[unmatched]`\n\nTakes the events that no route takes. Without it they go nowhere, and `check` says so.\n\n`check`, every start and every reload also say which severities, states and categories reach no sink\n(`coverage: medium, low or info, any state: no sink`). A configuration that leaves critical events\nwithout a sink, or that has no sink at all, is refused unless `allow_unrouted = true` stands above the\nfirst section of a file. What an `except` leaves out was meant, and is only told.\n\n");
    let mut unmatched = routes::schema();
    let keys = unmatched.ensure_object()["properties"].as_object_mut().unwrap();
    keys.retain(|name, _| ["sinks", "format"].contains(&name.as_str()));
    text.push_str("| key | value | default | |\n|---|---|---|---|\n");
    rows(&mut text, "", unmatched.as_value(), unmatched.as_value());
    let start = examples(&schema_for!(StartSetting).to_value());
    let _ = write!(text, "\n{}", SINKS.replace("{start}", &start));
    for kind in sinks::KINDS {
        let title = format!("### `[sinks.NAME]` with `type = \"{}\"`", kind.name);
        section(&mut text, &title, &(kind.schema)());
        let sample = Entry::Kind(kind).example().replace("{{dir}}", "/var/lib/siemgate");
        let _ = write!(text, "\n```toml\n{}\n```\n", sample.trim());
    }
    section(&mut text, "## `[sinks.NAME.delivery]`", &schema_for!(DeliverySettings));
    section(&mut text, "## `[sinks.NAME.guard]`", &schema_for!(GuardSettings));
    for (title, mut schema) in [
        ("## `[alarms]`", schema_for!(AlarmSettings)),
        ("## `[heartbeat]`", schema_for!(HeartbeatSettings)),
    ] {
        schema.insert("required".into(), serde_json::json!(["sinks"]));
        section(&mut text, title, &schema);
    }
    let letters = schema_for!(QuarantineSettings);
    section(&mut text, "## `[dead_letters]` and `[quarantine]`", &letters);
    section(&mut text, "## `[receipts]`", &schema_for!(ReceiptSettings));
    text
}

/// `type` is read before the section is, so no struct has it.
fn with_type(mut schema: Schema, of: &str) -> Schema {
    let about = format!("The kind of {of}; its own keys are below.");
    let key = serde_json::json!({ "type": "string", "description": about });
    schema.ensure_object()["properties"]["type"] = key;
    schema.insert("required".into(), serde_json::json!(["type"]));
    schema
}

fn section(text: &mut String, title: &str, schema: &Schema) {
    let schema = schema.clone().to_value();
    let _ = write!(text, "\n{title}\n\n{}\n", about(&schema));
    if schema["properties"].as_object().is_some_and(|keys| !keys.is_empty()) {
        text.push_str("\n| key | value | default | |\n|---|---|---|---|\n");
        rows(text, "", &schema, &schema);
    }
}

/// The description of a section, without the section's name, which is the title already.
fn about(schema: &Value) -> String {
    let about = schema["description"].as_str().unwrap_or_default();
    let about = match about.split_once("`: ") {
        Some((name, rest)) if name.starts_with("`[") => rest,
        _ if about.starts_with("`[") => about.split_once("\n\n").map_or("", |(_, rest)| rest),
        _ => about,
    };
    let mut chars = about.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn rows(text: &mut String, prefix: &str, schema: &Value, root: &Value) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, key) in schema["properties"].as_object().into_iter().flatten() {
        let shape = resolved(key, root);
        let star = if required.iter().any(|known| known == name) { " *" } else { "" };
        let mut about = [key["description"].as_str(), shape["description"].as_str()];
        if shape["oneOf"].is_array() {
            // An enumeration explains itself.
            about.reverse();
        }
        let about = about.into_iter().flatten().next();
        let about = format!("{}{}", about.unwrap_or_default(), values(shape));
        let default = if star.is_empty() { default(&key["default"]) } else { String::new() };
        let _ = writeln!(
            text,
            "| `{prefix}{name}`{star} | {} | {default} | {} |",
            kind(key, root),
            about.replace('\n', " ").replace('|', "\\|")
        );
        // `except` has the same keys again.
        if name != "except" && shape["x-secret"].is_null() {
            rows(text, &format!("{prefix}{name}."), shape, root);
            rows(text, &format!("{prefix}{name}[]."), resolved(&shape["items"], root), root);
        }
    }
}

/// What is behind a reference, or behind "this or nothing".
fn resolved<'s>(schema: &'s Value, root: &'s Value) -> &'s Value {
    if let Some(pointer) = schema["$ref"].as_str() {
        return resolved(root.pointer(pointer.trim_start_matches('#')).unwrap(), root);
    }
    let nothing = |option: &&Value| option["type"] != "null";
    match schema["anyOf"].as_array().map(|any| any.iter().filter(nothing).collect::<Vec<_>>()) {
        Some(only) if only.len() == 1 => resolved(only[0], root),
        _ => schema,
    }
}

/// The word for a key's values: a name of the table in the introduction, or TOML's.
fn kind(schema: &Value, root: &Value) -> String {
    let named = |schema: &Value| {
        let name = schema["$ref"].as_str()?.rsplit('/').next()?;
        Some(match name {
            "ByteSize" => "size",
            "Span" => "time",
            "Rate" => "rate",
            "Secret" => "secret",
            "Secrets" => "secret, or list of two",
            "Address" => "address",
            _ => return None,
        })
    };
    let options = schema["anyOf"].as_array();
    let one = options.and_then(|any| any.iter().find_map(named));
    if let Some(name) = named(schema).or(one) {
        return name.to_owned();
    }
    let shape = resolved(schema, root);
    if let Some(any) = shape["anyOf"].as_array() {
        return any.iter().map(|one| kind(one, root)).collect::<Vec<_>>().join(" or ");
    }
    if shape["enum"].is_array() || shape["oneOf"].is_array() {
        return "text".to_owned();
    }
    let types = [&shape["type"]].into_iter().chain(shape["type"].as_array().into_iter().flatten());
    let word = types.filter_map(Value::as_str).find(|word| *word != "null");
    match word.unwrap_or_else(|| panic!("no type: {shape}")) {
        "string" => "text".to_owned(),
        "integer" => "number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => format!("list of {}s", kind(&shape["items"], root)),
        "object" => "table".to_owned(),
        other => panic!("no word for {other}"),
    }
}

/// The values of an enumeration, each with what it means.
fn values(shape: &Value) -> String {
    let options = shape["oneOf"].as_array().into_iter().flatten();
    let line = |option: &Value| {
        let meaning = option["description"].as_str().unwrap_or_default();
        format!("<br>`{}`: {meaning}", option["const"].as_str().unwrap_or_default())
    };
    options.map(line).collect()
}

fn examples(schema: &Value) -> String {
    let examples = schema["examples"].as_array().unwrap();
    examples.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ")
}

/// A default as TOML; a dash when there is none.
fn default(value: &Value) -> String {
    match toml(value) {
        Some(text) => format!("`{text}`"),
        None => "–".to_owned(),
    }
}

fn toml(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Object(table) => {
            // The smaller first: `min` before `max`.
            let mut keys: Vec<(String, &String)> =
                table.iter().filter_map(|(name, value)| Some((toml(value)?, name))).collect();
            keys.sort();
            let keys: Vec<_> =
                keys.iter().map(|(value, name)| format!("{name} = {value}")).collect();
            (!keys.is_empty()).then(|| format!("{{ {} }}", keys.join(", ")))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().filter_map(toml).collect();
            Some(format!("[{}]", items.join(", ")))
        }
        plain => Some(plain.to_string()),
    }
}
