//! `siemgate check`: what the configuration means, before it matters.

use std::path::Path;

use super::{Exit, plan};

pub(super) fn run(config: &Path) -> Exit {
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
    println!("The configuration is good.");
    Exit::Ok
}
