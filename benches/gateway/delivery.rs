//! End to end: webhook, log, filter, sink, receiver; and what each further sink costs.

use std::net::SocketAddr;
use std::time::Duration;

use super::figures::{Row, Section, Target};
use super::load::{Load, event};
use super::process::{Folder, Process, free};
use super::{Bench, bare};

/// Bytes of an event.
const EVENT: usize = 2048;
/// Senders at once.
const CONNECTIONS: usize = 64;

const SOURCE: &str = "[sources.superna]\ntype = \"superna\"\npath = \"/webhook\"\n";
const NATIVE: &str = "[routes.critical]\nsources = [\"superna\"]\nmin_severity = \"high\"\n";
const VRL: &str = "[routes.critical]\nsources = [\"superna\"]\nwhen = '.severity == \"CRITICAL\" && length(array(.files) ?? []) > 0'\n";

/// A way through the gateway.
struct Way {
    name: &'static str,
    route: &'static str,
    /// Most times the bare handler's own CPU.
    target: Option<f64>,
    sink: fn(SocketAddr, &str) -> String,
}

const WAYS: [Way; 4] = [
    Way { name: "taegis, batches of 1", route: NATIVE, target: None, sink: taegis },
    Way { name: "splunk_hec, batches of 100", route: NATIVE, target: Some(2.2), sink: splunk },
    Way { name: "splunk_hec, batches of 100, VRL", route: VRL, target: Some(3.3), sink: splunk },
    Way { name: "file", route: NATIVE, target: None, sink: file },
];

fn taegis(to: SocketAddr, _: &str) -> String {
    format!(
        "type = \"taegis\"\nurl = \"http://{to}/taegis\"\nkey = {{ env = \"BENCH_KEY\" }}\n[sinks.out.delivery]\nbatch = {{ events = 1 }}\n"
    )
}

fn splunk(to: SocketAddr, _: &str) -> String {
    format!(
        "type = \"splunk_hec\"\nurl = \"http://{to}\"\ntoken = {{ env = \"BENCH_KEY\" }}\n[sinks.out.delivery]\nbatch = {{ events = 100, wait = \"50ms\" }}\n"
    )
}

fn file(_: SocketAddr, dir: &str) -> String {
    format!("type = \"file\"\npath = \"{dir}/out.ndjson\"\nrotate_bytes = \"10GiB\"\n")
}

/// Events through one way: the gateway's own CPU an event, and that of the bare handler.
pub fn run(bench: &Bench) -> Section {
    let requests = bench.scaled(30_000);
    let mut rows = Vec::new();
    for way in &WAYS {
        let (mut own, mut bare, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            bare.push(handler(requests));
            let (gateway, receiver) = through(bench, way, requests);
            own.push(gateway);
            all.push(gateway + receiver);
        }
        rows.push(Row::of(format!("{}: gateway's CPU an event", way.name), "us", own.clone()));
        rows.push(Row::of(format!("{}: with the receiver's", way.name), "us", all));
        let ratio = Row::ratio(format!("{}: gateway / bare handler", way.name), &own, &bare);
        rows.push(match way.target {
            Some(most) => ratio.with(Target::AtMost(most)),
            None => ratio,
        });
    }
    let (mut singly, mut in_batches) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        singly.push(posts(EVENT, requests.min(10_000), 1));
        in_batches.push(posts(EVENT * 100, requests / 100, 100));
    }
    rows.push(Row::of("bare reqwest loop, one event a request: CPU an event", "us", singly));
    rows.push(Row::of("bare reqwest loop, 100 events a request: CPU an event", "us", in_batches));
    Section {
        title: "End to end",
        about: "Webhooks of 2 KB from 64 connections, through the log and a filter to a receiver; until the last is\ndelivered. CPU is user and system time; the bare handler's is for reading the same requests.".into(),
        rows,
    }
}

fn micros(cpu: Duration, events: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / events as f64
}

fn posts(bytes: usize, requests: u64, events: u64) -> f64 {
    let receiver = Process::bare("receiver", &[]);
    let (cpu, _) = bare::posts(receiver.address, &event(bytes, "CRITICAL"), requests);
    micros(cpu, requests * events)
}

/// CPU an event of the bare handler.
pub fn handler(requests: u64) -> f64 {
    let handler = Process::bare("handler", &[]);
    let before = handler.cpu();
    load(handler.address, requests).run();
    micros(handler.cpu() - before, requests)
}

fn load(to: SocketAddr, requests: u64) -> Load {
    let body = event(EVENT, "CRITICAL");
    Load { to, path: "/webhook", connections: CONNECTIONS, requests, body }
}

fn through(bench: &Bench, way: &Way, requests: u64) -> (f64, f64) {
    let (folder, receiver) = (Folder::new(&bench.dir, "delivery"), Process::bare("receiver", &[]));
    let sink = (way.sink)(receiver.address, &folder.path().display().to_string());
    let route = way.route;
    let gateway = folder.start(&format!("{SOURCE}{route}sinks = [\"out\"]\n[sinks.out]\n{sink}"));
    let (before, received) = (gateway.process.cpu(), receiver.cpu());
    load(gateway.process.address, requests).run();
    gateway.delivered("out", requests);
    let cpu = gateway.process.cpu() - before;
    (micros(cpu, requests), micros(receiver.cpu() - received, requests))
}

/// Sinks that one event goes to.
const FANS: [usize; 4] = [1, 5, 20, 100];

/// What each further sink costs, and what a dead and a slow one do to the others.
pub fn fanout(bench: &Bench) -> Section {
    let requests = bench.scaled(20_000);
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); FANS.len()];
    let mut rates = costs.clone();
    let (mut sound, mut troubled) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        for (index, sinks) in FANS.into_iter().enumerate() {
            let (cpu, rate, _) = fan(bench, sinks, requests, false);
            costs[index].push(cpu);
            rates[index].push(rate);
        }
        sound.push(fan(bench, 20, requests, false));
        troubled.push(fan(bench, 20, requests, true));
    }
    let mut rows = Vec::new();
    for (index, sinks) in FANS.into_iter().enumerate() {
        rows.push(Row::of(format!("{sinks} sinks: ingress"), "/s", rates[index].clone()));
        rows.push(Row::of(format!("{sinks} sinks: CPU an event"), "us", costs[index].clone()));
    }
    let each = |few: usize, many: usize| -> Vec<f64> {
        let between = (FANS[many] - FANS[few]) as f64;
        costs[many].iter().zip(&costs[few]).map(|(many, few)| (many - few) / between).collect()
    };
    rows.push(
        Row::of("each further sink, from 1 to 20", "us", each(0, 2)).with(Target::AtMost(3.0)),
    );
    rows.push(
        Row::of("each further sink, from 20 to 100", "us", each(2, 3)).with(Target::AtMost(3.0)),
    );
    let ratio = |of: fn(&(f64, f64, f64)) -> f64, what: &str| {
        let values = |rounds: &[(f64, f64, f64)]| rounds.iter().map(of).collect::<Vec<_>>();
        Row::ratio(what, &values(&troubled), &values(&sound)).with(Target::AtLeast(0.9))
    };
    rows.push(ratio(|round| round.1, "one dead and one slow of 20: ingress, troubled / sound"));
    rows.push(ratio(
        |round| 1.0 / round.2,
        "one dead and one slow of 20: the others' deliveries, troubled / sound",
    ));
    Section {
        title: "Many sinks",
        about: "The same webhooks to several splunk_hec sinks in batches of 100, by native keys, until all sound sinks\nhave delivered everything. The dead one refuses connections; the slow one answers after half a second.".into(),
        rows,
    }
}

/// CPU an event, the rate of ingress, and seconds until the sound sinks were done.
fn fan(bench: &Bench, sinks: usize, requests: u64, troubled: bool) -> (f64, f64, f64) {
    let (folder, receiver) = (Folder::new(&bench.dir, "fanout"), Process::bare("receiver", &[]));
    let dead = free();
    let mut config = format!("{SOURCE}{NATIVE}sinks = [");
    let names: Vec<String> = (0..sinks).map(|number| format!("\"s{number}\"")).collect();
    config += &(names.join(", ") + "]\n");
    for number in 0..sinks {
        let url = match number {
            0 if troubled => format!("http://{dead}"),
            1 if troubled => format!("http://{}/slow", receiver.address),
            _ => format!("http://{}", receiver.address),
        };
        config += &format!(
            "[sinks.s{number}]\ntype = \"splunk_hec\"\nurl = \"{url}\"\ntoken = {{ env = \"BENCH_KEY\" }}\n[sinks.s{number}.delivery]\nbatch = {{ events = 100, wait = \"50ms\" }}\n"
        );
    }
    let gateway = folder.start(&config);
    let (before, begun) = (gateway.process.cpu(), std::time::Instant::now());
    let sent = load(gateway.process.address, requests).run();
    // The two that may be in trouble are not waited for, so that both runs wait for the same.
    let waited = if sinks > 2 { 2..sinks } else { 0..sinks };
    for number in waited {
        gateway.delivered(&format!("s{number}"), requests);
    }
    let took = begun.elapsed().as_secs_f64();
    (micros(gateway.process.cpu() - before, requests), sent.rate(), took)
}
