//! `siemgate sinks`: the table of kinds, and a sample section of one.

use std::path::Path;

use clap::{Args, Subcommand};

use super::{Exit, failed, letters, pins};
use crate::core::config::Section;
use crate::sinks::{KINDS, Kind, kind};

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
    let known = || KINDS.iter().map(|kind| kind.name);
    let shown: Vec<&Kind> = match &arguments.name {
        None => KINDS.to_vec(),
        Some(name) => match kind(name) {
            Some(kind) => vec![kind],
            None => return failed(Section::unknown_name("", "kind of sink", name, known())),
        },
    };
    match (arguments.json, &arguments.name) {
        (true, _) => println!("{:#}", serde_json::Value::from_iter(shown.into_iter().map(facts))),
        (false, None) => {
            shown.into_iter().for_each(|kind| println!("{:<10} {}", kind.name, kind.about))
        }
        (false, Some(_)) => shown.into_iter().for_each(show),
    }
    Exit::Ok
}

fn facts(kind: &Kind) -> serde_json::Value {
    serde_json::json!({
        "name": kind.name,
        "about": kind.about,
        "class": kind.class,
        "idempotency": kind.idempotency,
        "proof": kind.proof,
        "proves": kind.proves,
        "sample": kind.sample,
        "settings": (kind.schema)(),
    })
}

fn show(kind: &Kind) {
    println!("{}: {}\n", kind.name, kind.about);
    let schema = (kind.schema)().to_value();
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
        kind.name,
        kind.sample_with("https://siem.example", "/etc/siemgate").trim()
    );
}
