//! `siemgate check`: what the configuration means, before it matters.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::{Exit, plan, test};
use crate::app::Plan;
use crate::core::Timestamp;
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
    for line in doors(plan) {
        println!("  {line}");
    }
    for source in &plan.sources {
        println!("  source {} ({})", source.name, source.kind.name);
    }
    for (route, sinks) in plan.table.routes() {
        println!("  route {route} -> {}", sinks.join(", "));
    }
    for (name, sinks) in plan.table.internal() {
        println!("  {name} -> {}", sinks.join(", "));
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

/// Where it listens, and what it shows there.
fn doors(plan: &Plan) -> Vec<String> {
    let over_tls = |until: Option<Timestamp>| match until {
        Some(until) => format!(" over TLS, certificate until {until}"),
        None => String::new(),
    };
    let until = plan.tls.as_ref().map(|tls| tls.certificate.until);
    let admin_until = plan.admin_tls.as_ref().map(|tls| tls.certificate.until);
    let (plain, secure) = (plan.server.plain(), plan.server.secure());
    let mut lines = Vec::new();
    if !plain.is_empty() {
        lines.push(format!("listens on {plain:?}"));
    }
    if !secure.is_empty() {
        lines.push(format!("listens on {secure:?}{}", over_tls(until)));
    }
    lines.push(format!("admin on {}{}", plan.server.admin, over_tls(admin_until)));
    if let Some(socket) = plan.admin_socket() {
        lines.push(format!("admin on the socket {}", socket.display()));
    }
    if let Some(metrics) = plan.server.metrics {
        lines.push(format!("metrics on {metrics}{}", over_tls(admin_until)));
    }
    lines
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
    let own = |wanted| plan.table.internal().find(|(name, _)| *name == wanted).map(|(_, to)| to);
    json!({
        "good": true,
        "config": plan.hash,
        "listen": plan.server.plain(),
        "listen_tls": plan.server.secure(),
        "admin": plan.server.admin,
        "admin_socket": plan.admin_socket(),
        "metrics": plan.server.metrics,
        "sources": sources.collect::<Vec<_>>(),
        "routes": routes.collect::<Vec<_>>(),
        "alarms": own("alarms"),
        "heartbeat": own("heartbeat"),
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
