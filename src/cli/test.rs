//! `siemgate test`: cases that say what should become of an event, run on the configuration.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Exit, failed, plan, tell_problems};
use crate::app::{Explainer, Plan, cases};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder with the cases: all its *.toml; `tests` in the configuration folder unless given.
    dir: Option<PathBuf>,
}

pub(super) fn run(config: &Path, arguments: &Arguments) -> Exit {
    let dir = arguments.dir.clone().unwrap_or_else(|| folder(config));
    if arguments.dir.is_some() && !dir.is_dir() {
        return failed(format!("{} is not a folder", dir.display()));
    }
    match plan(config) {
        Ok(plan) => run_on(&plan, &dir),
        Err(exit) => exit,
    }
}

/// Where a configuration's cases are unless said otherwise.
pub(super) fn folder(config: &Path) -> PathBuf {
    config.join("tests")
}

/// Run the cases in `dir`; a folder that is not there has none.
pub(super) fn run_on(plan: &Plan, dir: &Path) -> Exit {
    if !dir.is_dir() {
        println!("no test cases: there is no folder {}", dir.display());
        return Exit::Ok;
    }
    let cases = match cases::read(dir) {
        Ok(cases) => cases,
        Err(problems) => {
            tell_problems(&problems);
            return Exit::Failed;
        }
    };
    let (explainer, mut passed, mut broken) = (Explainer::of(plan), 0, 0);
    for verdict in cases.into_iter().map(|case| case.run(&explainer)) {
        match verdict.failures.is_empty() {
            true => passed += 1,
            false => {
                broken += 1;
                let place = &verdict.place;
                println!("FAILED {place}: {}", verdict.name);
                verdict.failures.iter().for_each(|failure| println!("    {failure}"));
            }
        }
    }
    println!("{passed} passed, {broken} failed");
    if broken == 0 { Exit::Ok } else { Exit::Failed }
}
