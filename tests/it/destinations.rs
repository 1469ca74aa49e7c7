//! docs/destinations.md is rendered from the catalogue: for every kind what to do in its product, a
//! file that `check` accepts, its settings and what a delivery proves.

use std::fmt::Write;

use serde_json::Value;
use siemgate::core::sink::{Class, Idempotency};
use siemgate::sinks::{Catalogue, Entry, Proof};

use super::gateway::Gateway;
use super::reference::is_kept;
use super::sinks::{told, write_secrets};

const INTRODUCTION: &str = "\
# Destinations

<!-- Written by `make docs` from the catalogue: src/sinks. Change that. -->

Every kind of sink: what to do in the product, a file for `config.d` that `siemgate check` accepts, the
settings that are the kind's own, and what a delivery proves. Every sink also has the keys of
`[sinks.NAME.delivery]`, and those for proxies and certificates; kinds that people read have `show`: [configuration.md](configuration.md).
A product that is not here is often reached by `http`, `standard_webhook` or `syslog`; how to add one, over
HTTP or by syslog, is in [presets.md](presets.md).

Facts come from the vendors' pages named below. *Documented* means built from them; *some facts not
verified* means that a page could not be read whole or was not public: what could not be verified is a
setting where that helps, so try with `siemgate send` first. *Tried against* names the real servers that the
tests deliver to, or whose own library checks what arrives.
";

fn kinds() -> Vec<Entry> {
    Catalogue::default().all().map_err(told).unwrap()
}

/// The kind's file for `config.d`, with secrets in `/etc/siemgate/secrets`.
fn drop_in(kind: &Entry) -> String {
    kind.example().replace("{{dir}}", if is_file(kind) { "/var/lib/siemgate/out" } else { SECRETS })
}

const SECRETS: &str = "/etc/siemgate/secrets";

fn is_file(kind: &Entry) -> bool {
    kind.class() == Class::Archive && !super::destination::is_http(kind)
}

#[test]
fn the_list_of_destinations_says_what_the_catalogue_says() {
    let mut text = INTRODUCTION.to_owned();
    let classes = [
        (Class::Siem, "SIEM, XDR and data platforms"),
        (Class::Incident, "Alerts and tickets"),
        (Class::People, "Messages to people"),
        (Class::Archive, "Copies"),
    ];
    for (class, title) in classes {
        let mut of: Vec<Entry> = kinds().into_iter().filter(|kind| kind.class() == class).collect();
        of.sort_by_key(|kind| kind.name().to_owned());
        let _ = write!(text, "\n## {title}\n");
        of.iter().for_each(|kind| one(&mut text, kind));
    }
    is_kept("docs/destinations.md", &text);
}

fn one(text: &mut String, kind: &Entry) {
    let _ = write!(text, "\n### {}\n\n{}.\n", kind.name(), kind.about());
    if !kind.setup().is_empty() {
        let _ = write!(text, "\n**In the product:** {}\n", kind.setup());
    }
    let _ = write!(text, "\n```toml\n{}\n```\n\n", drop_in(kind).trim());
    settings(text, kind);
    let _ = write!(text, "\n**A delivery proves** {}\n", kind.proves());
    let again = match kind.idempotency() {
        Idempotency::Native => "An event that is sent twice is recognised.",
        Idempotency::None => "An event that is sent twice, as after a lost answer, is there twice.",
    };
    let mut proof = match kind.proof() {
        Proof::Documented => "Documented.".to_owned(),
        Proof::UnverifiedFacts => "Some facts not verified.".to_owned(),
    };
    if !kind.tried().is_empty() {
        let _ = write!(proof, " Tried against {}.", kind.tried().join(", "));
    }
    let page = match kind.docs() {
        "" => String::new(),
        page => format!(" Built from <{page}>."),
    };
    let _ = write!(text, "\n{again} {proof}{page}\n");
}

/// The keys that not every kind has.
fn settings(text: &mut String, kind: &Entry) {
    const COMMON: [&str; 13] = [
        "proxy",
        "connect_timeout",
        "gzip",
        "ca_file",
        "pins",
        "pin",
        "client_cert_file",
        "client_key_file",
        "ca_only",
        "show",
        "max_age",
        "delivery",
        "start",
    ];
    let schema = kind.schema().to_value();
    // Of a product that another kind carries: where it differs.
    let usual = kind.carrier().map(|carrier| (carrier.schema)().to_value());
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let mut rows = String::new();
    for (name, key) in schema["properties"].as_object().into_iter().flatten() {
        let is_usual = usual.as_ref().is_some_and(|usual| usual["properties"][name] == *key);
        if COMMON.contains(&name.as_str()) || is_usual && name != "address" {
            continue;
        }
        let star = if required.iter().any(|known| known == name) { " *" } else { "" };
        let default = match &key["default"] {
            Value::Null => "–".to_owned(),
            Value::Object(_) | Value::Array(_) => "–".to_owned(),
            value => format!("`{value}`"),
        };
        let about = key["description"].as_str().unwrap_or_default().replace('\n', " ");
        let _ = writeln!(rows, "| `{name}`{star} | {default} | {} |", about.replace('|', "\\|"));
    }
    if !rows.is_empty() {
        let _ = write!(text, "| key | default | |\n|---|---|---|\n{rows}");
    }
    if let Some(carrier) = kind.carrier() {
        let name = carrier.name;
        let _ =
            writeln!(text, "\nThese, and everything else that [{name}](#{name}) has, may be set.");
    }
}

/// All files of the document at once, in one folder.
#[tokio::test]
async fn check_accepts_every_file_of_the_document() {
    let mut gateway = Gateway::prepared("[sources.superna]\ntype = \"superna\"\n");
    let secrets = gateway.path("secrets");
    std::fs::create_dir(&secrets).unwrap();
    write_secrets(&secrets);
    let mut names = Vec::new();
    for kind in kinds() {
        let dir = secrets.display().to_string();
        let mut toml = drop_in(&kind).replace(SECRETS, &dir).replace("/var/lib/siemgate/out", &dir);
        for word in toml.clone().split('"').filter(|word| word.starts_with(&dir)) {
            let name = word.rsplit('/').next().unwrap();
            if !secrets.join(name).exists() && word != dir && !is_file(&kind) {
                let value = if name == "url" {
                    "https://siem.example/0123456789"
                } else {
                    "0123456789abcdef"
                };
                std::fs::write(secrets.join(name), value).unwrap();
            }
        }
        // Two have a form of their own.
        for (sample, form) in [("google.json", "key"), ("whsec", "secret")] {
            if kind.sample().contains(sample) {
                let to = format!("{}-{form}", kind.name());
                std::fs::copy(secrets.join(sample), secrets.join(&to)).unwrap();
                toml = toml.replace(&format!("{dir}/{form}\""), &format!("{dir}/{to}\""));
            }
        }
        let section = toml.split("[sinks.").nth(1).unwrap().split([']', '.']).next().unwrap();
        let name = format!("{}-doc", kind.name().replace('_', "-"));
        let toml = toml.replace(&format!("[sinks.{section}"), &format!("[sinks.{name}"));
        gateway.configure(&format!("40-{}.toml", kind.name()), &toml);
        names.push(name);
    }
    gateway.configure("90-routes.toml", &format!("[routes.all]\nsinks = {names:?}\n"));
    gateway.set_env("KEY", "k");
    let checked = gateway.cli(&["check"]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.err);
}

/// Whoever reads a kind's entry knows what to do and where to look.
#[test]
fn every_preset_says_what_to_do_and_what_it_proves() {
    for kind in kinds().into_iter().filter(|kind| !matches!(kind, Entry::Kind(_))) {
        let name = kind.name();
        assert!(kind.setup().len() > 20 || kind.setup() == "Nothing.", "{name}: setup");
        assert!(
            kind.proves().len() > 20 && kind.docs().starts_with("https://"),
            "{name}: proves, docs"
        );
    }
}
