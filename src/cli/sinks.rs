//! `siemgate sinks`: the table of kinds, and a sample section of one.

use std::path::Path;

use clap::{Args, Subcommand};

use super::{Exit, failed, letters, pins, tell_problems};
use crate::core::config::Section;
use crate::core::sink::Class;
use crate::sinks::{Catalogue, Entry, Proof};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Show this kind with its settings and a complete sample section.
    name: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Delete the cursor that a removed sink left in the log; what it had not delivered is given up.
    Forget {
        /// The sink's name; it must not be configured any more.
        name: String,
    },
    /// Show the certificate of a sink's destination; with --until, accept exactly that one for a while.
    Pin(pins::PinArguments),
    /// List the certificates that were pinned, with who did it and until when.
    Pins(pins::ListArguments),
}

pub(super) fn run(config: &Path, arguments: &Arguments) -> Exit {
    match &arguments.command {
        Some(Command::Forget { name }) => return letters::forget(config, name),
        Some(Command::Pin(which)) => return pins::pin(config, which),
        Some(Command::Pins(which)) => return pins::list(config, which),
        None => {}
    }
    match shown(config, arguments.name.as_deref()) {
        Ok(shown) => print(&shown, arguments),
        Err(exit) => exit,
    }
}

/// The kinds that were asked for.
fn shown(config: &Path, name: Option<&str>) -> Result<Vec<Entry>, Exit> {
    let told = |problems| {
        tell_problems(&problems);
        Exit::Config
    };
    let catalogue = Catalogue::of(config).map_err(told)?;
    let Some(name) = name else { return catalogue.all().map_err(told) };
    match catalogue.get(name).map_err(told)? {
        Some(kind) => Ok(vec![kind]),
        None => Err(failed(Section::unknown_name("", "kind of sink", name, catalogue.names()))),
    }
}

fn print(shown: &[Entry], arguments: &Arguments) -> Exit {
    match (arguments.json, &arguments.name) {
        (true, _) => println!("{:#}", serde_json::Value::from_iter(shown.iter().map(facts))),
        (false, None) => list(shown),
        (false, Some(_)) => shown.iter().for_each(show),
    }
    Exit::Ok
}

fn facts(kind: &Entry) -> serde_json::Value {
    serde_json::json!({
        "name": kind.name(),
        "about": kind.about(),
        "class": kind.class(),
        "idempotency": kind.idempotency(),
        "proof": kind.proof(),
        "tried": kind.tried(),
        "setup": kind.setup(),
        "proves": kind.proves(),
        "docs": kind.docs(),
        "sample": kind.example(),
        "settings": kind.schema(),
    })
}

const CLASSES: [(Class, &str); 4] = [
    (Class::Siem, "SIEM, XDR and data platforms"),
    (Class::Incident, "Tickets and incidents"),
    (Class::People, "Chat and mail"),
    (Class::Archive, "Archives and streams"),
];

fn list(shown: &[Entry]) {
    for (class, title) in CLASSES {
        println!("{title}");
        for kind in shown.iter().filter(|kind| kind.class() == class) {
            println!("  {:<22} {}", kind.name(), kind.about());
        }
    }
    println!("\n`siemgate sinks NAME` shows one with its settings and a complete section.");
}

fn show(kind: &Entry) {
    println!("{}: {}\n", kind.name(), kind.about());
    let tried = kind.tried().join(", ");
    let rests = match kind.proof() {
        Proof::Documented => "what is documented",
        Proof::UnverifiedFacts => "facts of which some could not be verified: try it first",
    };
    for (title, text) in [
        ("First", kind.setup()),
        ("A delivery proves", kind.proves()),
        ("Built from", kind.docs()),
        ("Rests on", rests),
        ("Tried against", &tried),
    ] {
        if !text.is_empty() {
            println!("{title}: {text}\n");
        }
    }
    let schema = kind.schema().to_value();
    let required = |name: &str| {
        let required = schema.get("required").and_then(|r| r.as_array());
        required.is_some_and(|required| required.iter().any(|r| r == name))
    };
    println!("Settings (* must be set):");
    for (name, setting) in
        schema.get("properties").and_then(|p| p.as_object()).into_iter().flatten()
    {
        let star = if required(name) { "*" } else { " " };
        let about = setting.get("description").and_then(|d| d.as_str()).unwrap_or_default();
        println!(" {star} {name:<16} {}", about.replace('\n', " "));
    }
    println!(
        "\nIn config.d/50-{}.toml:\n\n{}",
        kind.name(),
        kind.example().replace("{{dir}}", "/etc/siemgate").trim()
    );
}
