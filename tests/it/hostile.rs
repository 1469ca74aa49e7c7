//! Hostile and broken senders beside a good one: each is refused in bounded time and memory, and
//! the good one's events go through all the while.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::gateway::{Gateway, until};

/// Longest that a good request may take while others misbehave, on a loaded machine.
const GOOD: Duration = Duration::from_secs(5);
/// When a sender that says nothing, or not enough, is hung up on: ten seconds, and room.
const PATIENCE: Duration = Duration::from_secs(25);
/// Memory that ten thousand connections may take.
const MEMORY: u64 = 160 << 20;

async fn started() -> Gateway {
    Gateway::start(
        r#"
allow_unrouted = true
[server]
body_limit = "1MiB"
body_timeout = "2s"
[sources.json]
type = "json"
path = "/webhook"
dedupe = false
"#,
    )
    .await
}

fn address(gateway: &Gateway) -> SocketAddr {
    gateway.webhook.trim_start_matches("http://").parse().unwrap()
}

/// What is answered to `bytes` until the gateway hangs up, or until it waits for more.
async fn answer_to(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address(gateway)).await.unwrap();
    // It may hang up while we are still sending.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "it never hung up; so far: {}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("nothing")
}

/// A good event is accepted soon.
async fn good(gateway: &Gateway, number: usize) {
    let begun = Instant::now();
    let answer =
        gateway.post("/webhook", format!(r#"{{"severity":"critical","n":{number}}}"#)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(begun.elapsed() < GOOD, "a good event took {:?}", begun.elapsed());
}

fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.process())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn broken_requests_are_refused_and_kept_apart_from_good_ones() {
    let gateway = started().await;
    let head = "POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let close = "Connection: close\r\n";
    let cases: [(&str, String, &[&str]); 8] = [
        ("no HTTP at all", "\u{16}\u{3}\u{1} hello\r\n\r\n".into(), &["400"]),
        (
            "a header of 200 KB",
            format!("{head}X: {}\r\n\r\n", "a".repeat(200_000)),
            &["400", "431", "413"],
        ),
        (
            "a thousand headers",
            format!("{head}{}\r\n", "X-Y: z\r\n".repeat(1_000)),
            &["400", "431"],
        ),
        ("a length that is no number", format!("{head}Content-Length: many\r\n\r\n{{}}"), &["400"]),
        (
            "two lengths",
            format!("{head}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}"),
            &["400"],
        ),
        (
            "less than announced",
            format!("{head}{close}Content-Length: 50\r\n\r\n{{\"a\":1}}"),
            &["408"],
        ),
        (
            "more than announced",
            format!("{head}{close}Content-Length: 2\r\n\r\n{{}}rubbish"),
            &["200"],
        ),
        (
            "a chunk that is none",
            format!("{head}{close}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n"),
            &["400", "nothing"],
        ),
    ];
    for (number, (what, bytes, expected)) in cases.iter().enumerate() {
        let answer = answer_to(&gateway, bytes.as_bytes()).await;
        assert!(expected.contains(&status(&answer)), "{what}: {answer}");
        good(&gateway, number).await;
    }
    gateway.finish().await;
}

#[tokio::test]
async fn deep_json_and_keys_that_repeat_are_events_like_others_or_refused_but_never_a_crash() {
    let gateway = started().await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{{\"deep\":{}1{}}}", open.repeat(100_000), close.repeat(100_000));
        let answer = gateway.post("/webhook", deep).await;
        assert!(matches!(answer.status, 200 | 400), "{}", answer.status);
    }
    let twice = r#"{"severity":"low","severity":"critical","a":1,"a":2}"#;
    let id = gateway.post("/webhook", twice).await.ids()[0].clone();
    let stored = gateway.over_socket(reqwest::Method::GET, &format!("/api/v1/events/{id}/body"));
    assert_eq!(stored.send().await.unwrap().text().await.unwrap(), twice);
    good(&gateway, 0).await;
    gateway.finish().await;
}

#[tokio::test]
async fn a_sender_that_drips_is_hung_up_on() {
    let gateway = started().await;
    let drip = async |first: &[u8], each: &[u8]| {
        let mut stream = TcpStream::connect(address(&gateway)).await.unwrap();
        let begun = Instant::now();
        stream.write_all(first).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let mut answer = Vec::new();
        let dripping = async {
            // A byte every 100 ms is the attack.
            while writer.write_all(each).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            _ = reader.read_to_end(&mut answer) => {}
            () = dripping => {}
        }
        (begun.elapsed(), String::from_utf8_lossy(&answer).into_owned())
    };
    let (head, body) = tokio::join!(
        drip(b"POST /webhook HTTP/1.1\r\nHost: x\r\n", b"X"),
        drip(
            b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{\"a\":\"",
            b"b"
        ),
    );
    assert!(head.0 < PATIENCE, "a dripping head was heard for {:?}", head.0);
    assert!(body.0 < PATIENCE, "a dripping body was heard for {:?}", body.0);
    assert_eq!(status(&body.1), "408", "{}", body.1);
    good(&gateway, 0).await;
    gateway.finish().await;
}

#[tokio::test]
async fn ten_thousand_idle_connections_cost_little_and_end() {
    const MANY: usize = 10_000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = limit.maximum.map_or(usize::MAX, |most| most as usize);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum },
    )
    .unwrap();
    assert!(most > MANY + 1_000, "this needs {MANY} open files, and {most} are allowed");
    let gateway = started().await;
    let before = resident(&gateway);
    let address = address(&gateway);
    let mut idle = Vec::new();
    for batch in 0..MANY / 500 {
        let connected = join_all((0..500).map(|_| TcpStream::connect(address))).await;
        idle.extend(connected.into_iter().map(Result::unwrap));
        good(&gateway, batch).await;
    }
    let grown = resident(&gateway).saturating_sub(before);
    println!("{MANY} idle connections: {} KiB each", (grown >> 10) / MANY as u64);
    assert!(grown < MEMORY, "{MANY} idle connections take {grown} bytes");
    until("an idle connection is ended", async || {
        let mut byte = [0];
        matches!(idle[0].try_read(&mut byte), Ok(0) | Err(_)).then_some(())
    })
    .await;
    good(&gateway, 0).await;
    gateway.finish().await;
}
