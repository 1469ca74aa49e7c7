//! The bench: siemgate beside the barest programs that do a part of its work, in one run.
//!
//! Guarantees: every figure is a ratio to a baseline of the same minute on the same cores; what is
//! compared is run in turns, several times, and the median is told with its spread. Everything is on
//! loopback and in one folder, bounded in time and count. It proves nothing about being right.

// A measurement that cannot go on must stop, loudly; nobody's events depend on it.
#![allow(clippy::expect_used, clippy::disallowed_methods, clippy::disallowed_macros)]

mod backlog;
mod bare;
mod delivery;
mod figures;
mod ingress;
mod load;
mod machine;
mod process;
mod receive;
mod reload;
mod report;
mod rest;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use self::figures::Section;

/// Measure siemgate against bare programs.
#[derive(Parser)]
struct Arguments {
    /// Run only these scenarios.
    #[arg(long, value_enum)]
    only: Vec<Scenario>,
    /// How often everything is run.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Multiplies how many events each run takes; 0.1 for a quick look.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Write the report here; it is printed in any case.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Where the data of the runs goes: the disk that is measured.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// What cargo passes.
    #[arg(long, hide = true)]
    bench: bool,
    /// What a child of the bench is.
    #[command(subcommand)]
    role: Option<bare::Role>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    Ingress,
    Delivery,
    Fanout,
    Backlog,
    Rest,
    Reload,
}

impl Scenario {
    fn run(self, bench: &Bench) -> Section {
        match self {
            Self::Ingress => ingress::run(bench),
            Self::Delivery => delivery::run(bench),
            Self::Fanout => delivery::fanout(bench),
            Self::Backlog => backlog::run(bench),
            Self::Rest => rest::run(bench),
            Self::Reload => reload::run(bench),
        }
    }
}

/// What every scenario is given.
pub struct Bench {
    /// Where data goes.
    pub dir: PathBuf,
    /// How often everything is run.
    pub rounds: usize,
    scale: f64,
}

impl Bench {
    /// `count` as this run scales it.
    pub fn scaled(&self, count: u64) -> u64 {
        ((count as f64 * self.scale) as u64).max(1)
    }
}

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = Arguments::parse();
    if let Some(role) = arguments.role {
        role.run();
        return ExitCode::SUCCESS;
    }
    let bench =
        Bench { dir: arguments.dir, rounds: arguments.rounds.max(1), scale: arguments.scale };
    let wanted =
        |scenario: &Scenario| arguments.only.is_empty() || arguments.only.contains(scenario);
    let scenarios = Scenario::value_variants().iter().filter(|scenario| wanted(scenario));
    let sections: Vec<Section> = scenarios.map(|scenario| scenario.run(&bench)).collect();
    let text = report::write(&bench, &sections);
    println!("{text}");
    match arguments.report.map(|path| std::fs::write(&path, text).map_err(|error| (path, error))) {
        Some(Err((path, error))) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
