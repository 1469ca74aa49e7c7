//! `siemgate reload`: another configuration for the running gateway, and what it changed.

use std::path::Path;

use clap::Args;
use serde_json::Value;

use super::admin::Admin;
use super::{Exit, block_on};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Path, arguments: &Arguments) -> Exit {
    match Admin::of(config).and_then(|admin| block_on(admin.post("/-/reload"))) {
        Ok(change) if arguments.json => println!("{change:#}"),
        Ok(change) => tell(&change),
        Err(exit) => return exit,
    }
    Exit::Ok
}

fn tell(change: &Value) {
    println!("configuration {} is in force", change["config"].as_str().unwrap_or_default());
    for what in ["added", "changed", "removed"] {
        let sinks = list(&change[what]);
        if !sinks.is_empty() {
            println!("  {what}: {}", sinks.join(", "));
        }
    }
    println!("  sinks that were not touched: {}", change["kept"]);
    let restart = list(&change["needs_restart"]);
    if !restart.is_empty() {
        println!("needs a restart to take effect: {}", restart.join(", "));
    }
    for what in ["coverage", "warning"] {
        let key = if what == "warning" { "warnings" } else { what };
        list(&change[key]).iter().for_each(|text| println!("{what}: {text}"));
    }
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
