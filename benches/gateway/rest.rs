//! At rest: one event a second, and how long each takes from its acceptance to its delivery.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::figures::{Row, Section, Target};
use super::load::{Load, event, percentile};
use super::process::{Folder, free};
use super::{Bench, bare};

/// Between two events.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
pub fn run(bench: &Bench) -> Section {
    let events = bench.scaled(60);
    let (address, arrivals) = receiver();
    let folder = Folder::new(&bench.dir, "rest");
    let gateway = folder.start(&format!("[sources.superna]\ntype = \"superna\"\npath = \"/webhook\"\n[routes.all]\nsinks = [\"out\"]\n[sinks.out]\ntype = \"taegis\"\nurl = \"http://{address}/taegis\"\nkey = {{ env = \"BENCH_KEY\" }}\n"));
    let body = event(2048, "CRITICAL");
    let load =
        Load { to: gateway.process.address, path: "/webhook", connections: 1, requests: 1, body };
    let mut took: Vec<Duration> = (0..events)
        .map(|_| {
            std::thread::sleep(PAUSE);
            load.run();
            let accepted = Instant::now();
            let arrived: Instant = arrivals.recv().expect("the receiver lives");
            arrived.saturating_duration_since(accepted)
        })
        .collect();
    took.sort();
    let sync = percentile(&bare::syncs(&bench.dir, 500), 0.99);
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let most = ms(sync) + 5.0;
    Section {
        title: "At rest",
        about: format!(
            "{events} events, one a second, to one taegis sink: from the 200 in the sender's hands to the request in the\nreceiver's. A delivery that is quicker than the 200 counts as nothing."
        ),
        rows: vec![
            Row::of("accepted to delivered, p50", "ms", vec![ms(percentile(&took, 0.5))]),
            Row::of("accepted to delivered, p99", "ms", vec![ms(percentile(&took, 0.99))])
                .with(Target::AtMost(most)),
            Row::of("one fdatasync, p99", "ms", vec![ms(sync)]),
        ],
    }
}

/// A destination in this program, so that both ends have one clock.
fn receiver() -> (SocketAddr, mpsc::Receiver<Instant>) {
    let (address, (told, arrivals)) = (free(), mpsc::channel());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = TcpListener::bind(address).await.expect("the port is free");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, told.clone()));
            }
        });
    });
    (address, arrivals)
}

async fn serve(mut stream: tokio::net::TcpStream, told: mpsc::Sender<Instant>) {
    const ANSWER: &str = "{\"successCount\":1}";
    let mut read = Vec::new();
    while stream.read_buf(&mut read).await.is_ok_and(|bytes| bytes > 0) {
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if read.len() < end + 4 + length.unwrap_or(0) {
            continue;
        }
        let _ = told.send(Instant::now());
        read.clear();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{ANSWER}",
            ANSWER.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
