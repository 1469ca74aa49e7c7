//! `siemgate check`: what the configuration means, before it matters.

use std::path::Path;

use clap::Args;

use super::{Exit, plan, test};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Run the test cases too (see `siemgate test`).
    #[arg(long)]
    tests: bool,
}

pub(super) fn run(config: &Path, arguments: &Arguments) -> Exit {
    let plan = match plan(config) {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    println!("configuration {} ({})", config.display(), plan.hash);
    println!("  listens on {:?}, admin on {}", plan.server.listen.as_slice(), plan.server.admin);
    for source in &plan.sources {
        println!("  source {} ({})", source.name, source.kind.name);
    }
    for (route, sinks) in plan.table.routes() {
        println!("  route {route} -> {}", sinks.join(", "));
    }
    for sink in &plan.sinks {
        println!("  sink {} ({})", sink.name, sink.kind.name);
    }
    for gap in &plan.coverage {
        println!("coverage: {gap}");
    }
    for warning in &plan.warnings {
        println!("warning: {warning}");
    }
    if arguments.tests {
        match test::run_on(&plan, &test::folder(config)) {
            Exit::Ok => {}
            exit => return exit,
        }
    }
    println!("The configuration is good.");
    Exit::Ok
}
