//! A backlog: drained when its destination is back, and what it costs while it waits.

use std::net::SocketAddr;
use std::time::Instant;

use super::figures::{Row, Section, Target};
use super::load::{Load, event};
use super::process::{Folder, Process, free};
use super::{Bench, bare};

/// Events in one request that fills the log.
const TOGETHER: u64 = 1_000;
/// Bytes of an event that is drained.
const EVENT: usize = 2048;
/// Bytes of an event that waits: the least that says something.
const SMALL: &str = "{\"id\":\"0000000000000000\",\"severity\":\"WARNING\",\"state\":\"LOCKED_OUT\",\"user\":{\"userName\":\"CORP\\\\mallory\"},\"nes\":[{\"name\":\"isilon-a\"}],\"clientIPs\":[\"10.1.2.3\"],\"numFiles\":37,\"files\":[\"/ifs/data/1.x\"]}";

fn config(to: SocketAddr) -> String {
    format!(
        "[sources.feed]\ntype = \"json\"\npath = \"/webhook\"\n[routes.all]\nsinks = [\"out\"]\n[sinks.out]\ntype = \"splunk_hec\"\nurl = \"http://{to}\"\ntoken = {{ env = \"BENCH_KEY\" }}\n[sinks.out.delivery]\nbatch = {{ events = 100, bytes = \"1MiB\" }}\nretry = {{ first = \"100ms\", max = \"1s\" }}\n"
    )
}

/// See the module.
pub fn run(bench: &Bench) -> Section {
    let mut rows = drained(bench);
    rows.extend(waiting(bench));
    rows.extend(idle(bench));
    Section {
        title: "Backlog and rest",
        about: "Events are stored while the destination refuses connections; then the gateway is started again. Drained:\nevents of 2 KB to one receiver in batches of 100, beside a bare reqwest loop that posts as many bytes in\nas many requests. Waiting: events of 200 bytes.".into(),
        rows,
    }
}

fn fill(folder: &Folder, events: u64, one: &[u8]) {
    let gateway = folder.start(&config(free()));
    let requests = events.div_ceil(TOGETHER);
    let body = [one, b"\n"].concat().repeat(TOGETHER as usize);
    Load { to: gateway.process.address, path: "/webhook", connections: 4, requests, body }.run();
}

fn drained(bench: &Bench) -> Vec<Row> {
    let events = bench.scaled(1_000_000).next_multiple_of(TOGETHER);
    let one = event(EVENT, "CRITICAL");
    let (mut own, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds.min(3) {
        let folder = Folder::new(&bench.dir, "backlog");
        fill(&folder, events, &one);
        let receiver = Process::bare("receiver", &[]);
        let gateway = folder.start(&config(receiver.address));
        let (begun, before) =
            (Instant::now(), gateway.metric("siemgate_delivery_lag_events", "\"out\""));
        gateway.empty("out");
        own.push(before / begun.elapsed().as_secs_f64());
        let receiver = Process::bare("receiver", &[]);
        let (_, took) = bare::posts(receiver.address, &one.repeat(100), events / 100);
        bare.push(events as f64 / took.as_secs_f64());
    }
    vec![
        Row::of(format!("drained, of {events} queued"), "/s", own.clone()),
        Row::of("bare reqwest loop", "/s", bare.clone()),
        Row::ratio("drained / bare reqwest loop", &own, &bare).with(Target::AtLeast(0.6)),
    ]
}

fn waiting(bench: &Bench) -> Vec<Row> {
    let events = bench.scaled(10_000_000).next_multiple_of(TOGETHER);
    let folder = Folder::new(&bench.dir, "waiting");
    fill(&folder, events, SMALL.as_bytes());
    let (mut ready, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let gateway = folder.start(&config(free()));
        ready.push(gateway.ready.as_secs_f64() * 1e3);
        // The first batch was read and refused by then.
        gateway.tried("out");
        resident.push(gateway.process.resident() as f64 / f64::from(1 << 20));
    }
    vec![
        Row::of(format!("{events} queued: start to ready"), "ms", ready)
            .with(Target::AtMost(300.0)),
        Row::of(format!("{events} queued: resident"), "MiB", resident).with(Target::AtMost(48.0)),
    ]
}

fn idle(bench: &Bench) -> Vec<Row> {
    let (mut ready, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let folder = Folder::new(&bench.dir, "idle");
        let gateway = folder.start(&config(free()));
        ready.push(gateway.ready.as_secs_f64() * 1e3);
        resident.push(gateway.process.resident() as f64 / f64::from(1 << 20));
    }
    let binary = std::fs::metadata(env!("CARGO_BIN_EXE_siemgate"));
    let binary = binary.map_or(0.0, |about| about.len() as f64 / 1e6);
    vec![
        Row::of("idle: start to ready", "ms", ready).with(Target::AtMost(60.0)),
        Row::of("idle: resident", "MiB", resident).with(Target::AtMost(20.0)),
        Row::of("stripped binary", "MB", vec![binary]).with(Target::AtMost(30.0)),
    ]
}
