//! The command line: one file a group of commands.
//!
//! Guarantees: documented exit codes; what is meant for people goes to standard output, what went
//! wrong to standard error with what to do; colours only on a terminal, and not with NO_COLOR. The
//! only room that prints. Commands hold no rules: they ask `app`, the admin API or a log.

#![allow(clippy::disallowed_macros)] // printing is what this room is for

mod admin;
mod bundle;
mod capture;
mod check;
mod config;
mod events;
mod explain;
mod ledger;
mod letters;
mod log;
mod log_move;
mod logs;
mod manual;
mod own;
mod pins;
mod reload;
mod replay;
mod report;
mod run;
mod secret;
mod send;
mod sinks;
mod test;
mod when;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::{Parser, Subcommand};

use crate::app::{Plan, SourcePlan};
use crate::core::config::Problems;

/// Where `packaging/install.sh` puts the configuration.
const INSTALLED: &str = "/etc/siemgate/config.d";

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

/// How "error:" stands out.
const ERROR: Style = AnsiColor::Red.on_default().bold();

const AFTER: &str = "\
To begin:
  siemgate check                 is the configuration good, and what does it mean?
  siemgate run                   start the gateway
  siemgate send --wait           send it a harmless test event and see it arrive
  siemgate explain event.json    what would become of this event, and why?

Exit codes:
  0 done    1 failed    2 wrong usage    74 the disk failed    78 wrong configuration
  130 `run` was ended by a second signal

Environment:
  SIEMGATE_CONFIG         as --config
  SIEMGATE_LOG_LEVEL      of the journal: info, debug
  SIEMGATE_SOCKET         the running gateway's admin socket, whatever the configuration says
  SIEMGATE_SECTION__KEY   a key of the configuration, such as SIEMGATE_LOG__KEEP=30d (two underscores
                          between names); one that leads to no key is an error
  NO_COLOR                no colours, also on a terminal";

/// A durable gateway from security products' webhooks to every SIEM, XDR, SOAR and ticket system.
#[derive(Debug, Parser)]
#[command(name = "siemgate", version, max_term_width = 100, after_help = AFTER)]
struct Arguments {
    /// Folder with the configuration: all its *.toml, in name order, later ones win. Unless given,
    /// /etc/siemgate/config.d for a program below /usr, for any other config.d in the working
    /// directory.
    #[arg(long, short, global = true, env = "SIEMGATE_CONFIG", value_name = "DIR")]
    config: Option<PathBuf>,
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
    /// Keys and tokens: set one, list those that are used.
    #[command(subcommand)]
    Secret(secret::Command),
    /// Tell what becomes of an event, and why.
    ///
    /// What was read from it, which routes take it and by which keys, and the exact bytes that every
    /// sink would send. Sends nothing.
    Explain(explain::Arguments),
    /// Run test cases: events with what is expected to become of them.
    Test(test::Arguments),
    /// Tell the running gateway to read its configuration again, and print what changed.
    Reload(reload::Arguments),
    /// Send a harmless sample event through the running gateway, as a webhook.
    Send(send::Arguments),
    /// Keep the next real bodies of a source as private files.
    ///
    /// Tells what the decoder makes of each, and which keys it does not know.
    Capture(capture::Arguments),
    /// List the kinds of sink, or show one; forget a removed sink; pin a certificate for a while.
    Sinks(sinks::Arguments),
    /// Deliver events of the log once more: a dry run unless --go; list and cancel replays.
    Replay(replay::Arguments),
    /// Events that a destination refused: list, show, replay, drop.
    #[command(subcommand)]
    Dead(letters::Dead),
    /// Bodies that were refused at the door: list, show, replay, drop.
    #[command(subcommand)]
    Quarantine(letters::Quarantine),
    /// What arrived, what became of each, and what arrives: list, show, tail.
    #[command(subcommand)]
    Events(events::Command),
    /// Prove that every accepted event is accounted for, at every sink.
    ///
    /// Prints head - start = delivered + dead + filtered + expired + damaged + queued for each, with the
    /// difference, which must be 0; fails when it is not.
    Ledger(ledger::Arguments),
    /// What came in and went out over a time: counts, delays, attempts, drills.
    Report(report::Arguments),
    /// The logs' files: look, check, repair, move to another machine.
    ///
    /// The events, the dead letters, the quarantine, and whatever else is kept in the same way.
    #[command(subcommand)]
    Log(log::Command),
    /// Pack what somebody who helps needs to know.
    ///
    /// Settings, what `check` says, metrics, the newest lines of the journal, the state of the log's
    /// files, and the machine. Secrets, bodies and replies are left out.
    SupportBundle(bundle::Arguments),
    /// Print completions for a shell.
    Completions(manual::Completions),
    /// Write the manual pages.
    Man(manual::Man),
}

/// Parse the arguments and run the command.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The process-wide choice of cryptography, before anything speaks TLS. It fails only if it was
    // made before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    ExitCode::from(ran(arguments) as u8)
}

fn ran(arguments: Arguments) -> Exit {
    let config = arguments.config.unwrap_or_else(usual_folder);
    let config = config.as_path();
    match arguments.command {
        Command::Run => run::run(config),
        Command::Check(check) => check::run(config, &check),
        Command::Config(command) => config::run(config, &command),
        Command::Secret(command) => secret::run(config, &command),
        Command::Explain(explain) => explain::run(config, &explain),
        Command::Test(test) => test::run(config, &test),
        Command::Reload(reload) => reload::run(config, &reload),
        Command::Send(send) => send::run(config, send),
        Command::Capture(capture) => capture::run(config, &capture),
        Command::Sinks(which) => sinks::run(config, &which),
        Command::Replay(replay) => replay::run(config, replay),
        Command::Dead(command) => letters::dead(config, command),
        Command::Quarantine(command) => letters::quarantine(config, command),
        Command::Events(command) => events::run(config, command),
        Command::Ledger(ledger) => ledger::run(config, &ledger),
        Command::Report(report) => report::run(config, &report),
        Command::Log(command) => log::run(config, command),
        Command::SupportBundle(bundle) => bundle::run(config, &bundle),
        Command::Completions(shell) => manual::completions(&shell),
        Command::Man(man) => manual::man(&man),
    }
}

/// The configuration of an installed program, wherever it is called; that of a checkout for any other.
fn usual_folder() -> PathBuf {
    let installed = std::env::current_exe().is_ok_and(|program| program.starts_with("/usr"));
    PathBuf::from(if installed { INSTALLED } else { "config.d" })
}

/// The plan, or its problems on standard error.
fn plan(config: &Path) -> Result<Plan, Exit> {
    Plan::read(config).map_err(|problems| {
        tell_problems(&problems);
        Exit::Config
    })
}

/// The source called `name`; without one the first of type superna.
fn source<'p>(plan: &'p Plan, name: Option<&str>) -> Result<&'p SourcePlan, Exit> {
    let wanted = |source: &&SourcePlan| match name {
        Some(name) => *source.name == *name,
        None => source.kind.name == "superna",
    };
    plan.sources.iter().find(wanted).ok_or_else(|| {
        let known: Vec<&str> = plan.sources.iter().map(|source| &*source.name).collect();
        failed(format!("there is no such source; name one with --source: {}", known.join(", ")))
    })
}

fn tell_problems(problems: &Problems) {
    for problem in problems {
        anstream::eprintln!("{ERROR}error:{ERROR:#} {problem}");
    }
    let count = problems.len();
    eprintln!(
        "{count} problem{} found; nothing was started or changed.",
        if count == 1 { "" } else { "s" }
    );
}

fn failed(error: impl std::fmt::Display) -> Exit {
    anstream::eprintln!("{ERROR}error:{ERROR:#} {error}");
    Exit::Failed
}

/// Whether what is written to `stream` may be coloured.
fn coloured(stream: &impl anstream::stream::RawStream) -> bool {
    anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never
}

/// Whoever reads may stop reading (`| head`): that is no failure.
fn print(bytes: &[u8]) -> Exit {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => failed(error),
        _ => Exit::Ok,
    }
}

/// A runtime for commands that only wait for the network.
fn block_on<T>(work: impl Future<Output = Result<T, Exit>>) -> Result<T, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(failed)?.block_on(work)
}
