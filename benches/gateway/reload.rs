//! Reload under load: two hundred configurations, and no sender notices.

use std::time::Duration;

use super::Bench;
use super::figures::{Row, Section};
use super::load::{Load, event};
use super::process::{Folder, Process, until};

/// Configurations.
const RELOADS: u64 = 200;

/// See the module.
pub fn run(bench: &Bench) -> Section {
    let reloads = bench.scaled(RELOADS);
    let (folder, receiver) = (Folder::new(&bench.dir, "reload"), Process::bare("receiver", &[]));
    let config = |number: u64| {
        format!(
            "[sources.superna]\ntype = \"superna\"\npath = \"/webhook\"\n[routes.all]\nsinks = [\"out\"]\n[sinks.out]\ntype = \"splunk_hec\"\nurl = \"http://{}/{number}\"\ntoken = {{ env = \"BENCH_KEY\" }}\n",
            receiver.address
        )
    };
    let gateway = folder.start(&config(0));
    let load = |requests| Load {
        to: gateway.process.address,
        path: "/webhook",
        connections: 16,
        requests,
        body: event(2048, "CRITICAL"),
    };
    let quiet = load(bench.scaled(20_000)).run();
    let busy = std::thread::scope(|scope| {
        let loading = scope.spawn(|| load(bench.scaled(200_000)).run());
        for number in 1..=reloads {
            let before = gateway.config();
            std::fs::write(folder.path().join("config.d/10.toml"), config(number))
                .expect("a configuration");
            gateway.process.hang_up();
            until("the configuration is in force", || (gateway.config() != before).then_some(()));
        }
        loading.join().expect("no request failed")
    });
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let (p99, before) = (ms(busy.percentile(0.99)), ms(quiet.percentile(0.99)));
    Section {
        title: "Reload under load",
        about: format!(
            "{reloads} reloads, each with another address of the sink, while 16 connections post; the bench stops at a\nrequest that fails."
        ),
        rows: vec![
            Row::of("requests", "", vec![busy.latencies.len() as f64]),
            Row::of("p99 without reloads", "ms", vec![before]),
            Row::of("p99 during reloads", "ms", vec![p99]),
        ],
    }
}
