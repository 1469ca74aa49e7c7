//! `siemgate check`: what the configuration means, before it matters.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::{Exit, plan, test};
use crate::app::Plan;
use crate::core::config::{Place, Problem, Problems};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Run the test cases too (see `siemgate test`).
    #[arg(long)]
    tests: bool,
    /// Print JSON: what the configuration means, or its problems.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Path, arguments: &Arguments) -> Exit {
    if arguments.json {
        return run_for_machines(config, arguments);
    }
    let plan = match plan(config) {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    tell(config, &plan);
    if arguments.tests {
        match test::run_on(&plan, &test::folder(config), false) {
            Exit::Ok => {}
            exit => return exit,
        }
    }
    println!("The configuration is good.");
    Exit::Ok
}

fn tell(config: &Path, plan: &Plan) {
    println!("configuration {} ({})", config.display(), plan.hash);
    println!("  listens on {:?}, admin on {}", plan.server.listen.as_slice(), plan.server.admin);
    for source in &plan.sources {
        println!("  source {} ({})", source.name, source.kind.name);
    }
    for (route, sinks) in plan.table.routes() {
        println!("  route {route} -> {}", sinks.join(", "));
    }
    for sink in &plan.sinks {
        println!("  sink {} ({})", sink.name, sink.kind.name());
    }
    for gap in &plan.coverage {
        println!("coverage: {gap}");
    }
    for warning in &plan.warnings {
        println!("warning: {warning}");
    }
}

fn run_for_machines(config: &Path, arguments: &Arguments) -> Exit {
    let plan = match Plan::read(config) {
        Ok(plan) => plan,
        Err(problems) => {
            println!("{:#}", json!({ "good": false, "problems": listed(&problems) }));
            return Exit::Config;
        }
    };
    let (tests, exit) = match arguments.tests {
        true => test::results(&plan, &test::folder(config)),
        false => (Value::Null, Exit::Ok),
    };
    let mut answer = meaning(&plan);
    if arguments.tests {
        answer["tests"] = tests;
    }
    println!("{answer:#}");
    exit
}

fn meaning(plan: &Plan) -> Value {
    let sources = plan.sources.iter().map(|s| json!({ "name": s.name, "type": s.kind.name }));
    let sinks = plan.sinks.iter().map(|s| json!({ "name": s.name, "type": s.kind.name() }));
    let routes = plan.table.routes().map(|(name, sinks)| json!({ "name": name, "sinks": sinks }));
    json!({
        "good": true,
        "config": plan.hash,
        "listen": plan.server.listen.as_slice(),
        "admin": plan.server.admin,
        "sources": sources.collect::<Vec<_>>(),
        "routes": routes.collect::<Vec<_>>(),
        "sinks": sinks.collect::<Vec<_>>(),
        "coverage": plan.coverage.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "warnings": listed(&plan.warnings),
    })
}

/// Problems for machines.
pub(super) fn listed(problems: &Problems) -> Vec<Value> {
    problems.iter().map(facts).collect()
}

fn facts(problem: &Problem) -> Value {
    let (file, line, variable) = match &problem.place {
        Some(Place::Line { file, line }) => (Some(file), Some(line), None),
        Some(Place::Variable(name)) => (None, None, Some(name)),
        None => (None, None, None),
    };
    json!({
        "key": problem.key, "file": file, "line": line, "variable": variable,
        "message": problem.message, "help": problem.help,
    })
}
