//! `siemgate test`: cases that say what should become of an event, run on the configuration.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{Exit, check, failed, plan, tell_problems};
use crate::app::{Explainer, Plan, cases};
use crate::core::config::Problems;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder with the cases: all its *.toml; `tests` in the configuration folder unless given.
    dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Path, arguments: &Arguments) -> Exit {
    let dir = arguments.dir.clone().unwrap_or_else(|| folder(config));
    if arguments.dir.is_some() && !dir.is_dir() {
        return failed(format!("{} is not a folder", dir.display()));
    }
    match plan(config) {
        Ok(plan) => run_on(&plan, &dir, arguments.json),
        Err(exit) => exit,
    }
}

/// Where a configuration's cases are unless said otherwise.
pub(super) fn folder(config: &Path) -> PathBuf {
    config.join("tests")
}

/// Run the cases in `dir` and tell how they went.
pub(super) fn run_on(plan: &Plan, dir: &Path, json: bool) -> Exit {
    if json {
        let (results, exit) = results(plan, dir);
        println!("{results:#}");
        return exit;
    }
    if !dir.is_dir() {
        println!("no test cases: there is no folder {}", dir.display());
    }
    match verdicts(plan, dir) {
        Ok(verdicts) => tell(&verdicts),
        Err(problems) => {
            tell_problems(&problems);
            Exit::Failed
        }
    }
}

/// The same for machines.
pub(super) fn results(plan: &Plan, dir: &Path) -> (Value, Exit) {
    let verdicts = match verdicts(plan, dir) {
        Ok(verdicts) => verdicts,
        Err(problems) => return (json!({ "problems": check::listed(&problems) }), Exit::Failed),
    };
    let facts = |verdict: &cases::Verdict| {
        json!({
            "name": verdict.name, "place": verdict.place.to_string(),
            "passed": verdict.failures.is_empty(), "failures": verdict.failures,
        })
    };
    let cases: Vec<Value> = verdicts.iter().map(facts).collect();
    (
        json!({ "passed": verdicts.len() - broken(&verdicts), "failed": broken(&verdicts), "cases": cases }),
        exit(&verdicts),
    )
}

/// How each case went; a folder that is not there has none.
fn verdicts(plan: &Plan, dir: &Path) -> Result<Vec<cases::Verdict>, Problems> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let explainer = Explainer::of(plan);
    Ok(cases::read(dir)?.into_iter().map(|case| case.run(&explainer)).collect())
}

fn broken(verdicts: &[cases::Verdict]) -> usize {
    verdicts.iter().filter(|verdict| !verdict.failures.is_empty()).count()
}

fn exit(verdicts: &[cases::Verdict]) -> Exit {
    if broken(verdicts) == 0 { Exit::Ok } else { Exit::Failed }
}

fn tell(verdicts: &[cases::Verdict]) -> Exit {
    for verdict in verdicts.iter().filter(|verdict| !verdict.failures.is_empty()) {
        println!("FAILED {}: {}", verdict.place, verdict.name);
        verdict.failures.iter().for_each(|failure| println!("    {failure}"));
    }
    let broken = broken(verdicts);
    println!("{} passed, {broken} failed", verdicts.len() - broken);
    exit(verdicts)
}
