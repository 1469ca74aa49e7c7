//! Ingress alone: how many webhooks a second are on disk before their 200.

use super::figures::{Row, Section, Target};
use super::load::{Load, event};
use super::process::{Folder, Process};
use super::{Bench, bare};

/// Nothing but ingress: no sink reads the log.
const CONFIG: &str =
    "allow_unrouted = true\n[sources.superna]\ntype = \"superna\"\npath = \"/webhook\"\n";
/// Bytes of an event.
const EVENT: usize = 2048;

/// What one round of one number of connections showed.
#[derive(Default)]
struct Round {
    bare: Vec<f64>,
    bare_cpu: Vec<f64>,
    durable: Vec<f64>,
    durable_cpu: Vec<f64>,
    appends: Vec<f64>,
    median: Vec<f64>,
    sync: Vec<f64>,
}

/// See the module.
pub fn run(bench: &Bench) -> Section {
    let rows = [1, 8, 64, 512].into_iter().flat_map(|connections| rows(bench, connections));
    Section {
        title: "Ingress",
        about: "Events of 2 KB, each like no other, over kept connections. The bare handler is actix-web that\nreads the body and answers; the bare appends are a group-commit loop (one write and one fdatasync a\ngroup) without HTTP.".into(),
        rows: rows.collect(),
    }
}

fn rows(bench: &Bench, connections: usize) -> Vec<Row> {
    let requests = bench.scaled(if connections == 1 { 2_000 } else { 40_000 });
    let mut round = Round::default();
    for _ in 0..bench.rounds {
        one(bench, connections, requests, &mut round);
    }
    let name = |what: &str| format!("{what}, {connections} connections");
    let target = |row: Row, target| if connections == 64 { row.with(target) } else { row };
    let mut rows = vec![
        Row::of(name("durable"), "/s", round.durable.clone()),
        Row::of(name("durable, CPU an event"), "us", round.durable_cpu.clone()),
        Row::of(name("bare handler, CPU an event"), "us", round.bare_cpu.clone()),
        Row::ratio(name("CPU, durable / bare handler"), &round.durable_cpu, &round.bare_cpu),
        target(
            Row::ratio(name("rate, durable / bare handler"), &round.durable, &round.bare),
            Target::AtLeast(0.60),
        ),
        target(
            Row::ratio(name("rate, durable / bare appends"), &round.durable, &round.appends),
            Target::AtLeast(0.85),
        ),
    ];
    if connections == 1 {
        let row = Row::ratio("p50, durable / one fdatasync", &round.median, &round.sync);
        rows.push(row.with(Target::AtMost(1.5)));
    }
    rows
}

fn one(bench: &Bench, connections: usize, requests: u64, round: &mut Round) {
    let load =
        |to| Load { to, path: "/webhook", connections, requests, body: event(EVENT, "CRITICAL") };
    let per_event = |cpu: std::time::Duration| cpu.as_secs_f64() * 1e6 / requests as f64;
    {
        let handler = Process::bare("handler", &[]);
        let (before, sent) = (handler.cpu(), load(handler.address).run());
        round.bare.push(sent.rate());
        round.bare_cpu.push(per_event(handler.cpu() - before));
    }
    {
        let folder = Folder::new(&bench.dir, "ingress");
        let gateway = folder.start(CONFIG);
        let (before, sent) = (gateway.process.cpu(), load(gateway.process.address).run());
        round.durable.push(sent.rate());
        round.durable_cpu.push(per_event(gateway.process.cpu() - before));
        round.median.push(sent.percentile(0.5).as_secs_f64());
    }
    round.appends.push(bare::appends(&bench.dir, connections, EVENT, requests));
    round.sync.push(super::load::percentile(&bare::syncs(&bench.dir, 500), 0.5).as_secs_f64());
}
