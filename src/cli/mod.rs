//! The command line: one file a group of commands.
//!
//! Guarantees: documented exit codes; what is meant for people goes to standard output, what went
//! wrong to standard error with what to do. The only room that prints. Commands hold no rules:
//! they ask `app`, the admin API or a log.

#![allow(clippy::disallowed_macros)] // printing is what this room is for

mod admin;
mod check;
mod config;
mod explain;
mod letters;
mod log;
mod run;
mod send;
mod sinks;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::Plan;
use crate::core::config::Problems;

/// Exit codes, as documented in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// It did not work; the message says why.
    Failed = 1,
    /// The disk failed (as `EX_IOERR`).
    Disk = 74,
    /// The configuration is wrong (as `EX_CONFIG`).
    Config = 78,
}

/// A durable gateway from security products' webhooks to every SIEM, XDR, SOAR and ticket system.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 74 the disk failed,
/// 78 wrong configuration, 130 `run` was ended by a second signal.
///
/// Environment: SIEMGATE_SECTION__KEY sets a key of the configuration, such as SIEMGATE_LOG__KEEP=30d
/// (two underscores between names). SIEMGATE_CONFIG (as --config) and SIEMGATE_LOG_LEVEL (of the
/// journal: info, debug) are reserved; any other SIEMGATE_ variable that leads to no key is an error.
#[derive(Debug, Parser)]
#[command(name = "siemgate", version, max_term_width = 100)]
struct Arguments {
    /// Folder with the configuration: all its *.toml, in name order, later ones win.
    #[arg(
        long,
        short,
        global = true,
        env = "SIEMGATE_CONFIG",
        default_value = "config.d",
        value_name = "DIR"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the gateway and run until it is told to stop (SIGTERM or Ctrl-C).
    Run,
    /// Read and check the configuration, print what it means, and touch nothing.
    Check(check::Arguments),
    /// What holds and where it comes from, and the schema for editors.
    #[command(subcommand)]
    Config(config::Command),
    /// Tell what becomes of an event: what was read from it, which routes take it and why, and the
    /// exact bytes every sink would send. Sends nothing.
    Explain(explain::Arguments),
    /// Run test cases: events with what is expected to become of them.
    Test(test::Arguments),
    /// Tell the running gateway to read its configuration again, and print what changed.
    Reload,
    /// Send a harmless sample event through the running gateway, as a webhook.
    Send(send::Arguments),
    /// List the kinds of sink, or show one with a complete sample section.
    Sinks(sinks::Arguments),
    /// Events that a destination refused: list, show, replay, drop.
    #[command(subcommand)]
    Dead(letters::Dead),
    /// Bodies that were refused at the door: list, show, replay, drop.
    #[command(subcommand)]
    Quarantine(letters::Quarantine),
    /// Look into the log's files, without touching them.
    #[command(subcommand)]
    Log(log::Command),
}

/// Parse the arguments and run the command.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The process-wide choice of cryptography, before anything speaks TLS. It fails only if it was
    // made before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = arguments.config.as_path();
    let exit = match arguments.command {
        Command::Run => run::run(config),
        Command::Check(check) => check::run(config, &check),
        Command::Explain(explain) => explain::run(config, &explain),
        Command::Test(test) => test::run(config, &test),
        Command::Config(command) => config::run(config, &command),
        Command::Reload => letters::reload(config),
        Command::Send(send) => send::run(config, send),
        Command::Sinks(which) => sinks::run(config, &which),
        Command::Dead(command) => letters::dead(config, command),
        Command::Quarantine(command) => letters::quarantine(config, command),
        Command::Log(command) => log::run(config, command),
    };
    ExitCode::from(exit as u8)
}

/// The plan, or its problems on standard error.
fn plan(config: &Path) -> Result<Plan, Exit> {
    Plan::read(config).map_err(|problems| {
        tell_problems(&problems);
        Exit::Config
    })
}

fn tell_problems(problems: &Problems) {
    for problem in problems {
        eprintln!("error: {problem}");
    }
    let count = problems.len();
    eprintln!(
        "{count} problem{} found; nothing was started or changed.",
        if count == 1 { "" } else { "s" }
    );
}

fn failed(error: impl std::fmt::Display) -> Exit {
    eprintln!("error: {error}");
    Exit::Failed
}

/// A runtime for commands that only wait for the network.
fn block_on<T>(work: impl Future<Output = Result<T, Exit>>) -> Result<T, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(failed)?.block_on(work)
}
