//! The load: webhooks over kept connections, each body like no other, each answer looked at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Digits of the number that makes a body unlike others.
const DIGITS: usize = 16;
/// Numbers are never given twice in one run of the bench.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What is posted.
#[derive(Clone)]
pub struct Load {
    /// To whom.
    pub to: SocketAddr,
    /// Where there.
    pub path: &'static str,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// Requests in all.
    pub requests: u64,
    /// The body; every run of sixteen zeros becomes a number.
    pub body: Vec<u8>,
}

/// How it went.
pub struct Sent {
    /// From the first request to the last answer.
    pub took: Duration,
    /// Of each request, sorted.
    pub latencies: Vec<Duration>,
}

impl Sent {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    /// The latency that `share` of the requests did not exceed.
    pub fn percentile(&self, share: f64) -> Duration {
        percentile(&self.latencies, share)
    }
}

/// Of `sorted` the value that `share` do not exceed.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}

/// One event of Superna's, about `bytes` long, with a number to come.
pub fn event(bytes: usize, severity: &str) -> Vec<u8> {
    let start = format!(
        "{{\"id\":\"{:0DIGITS$}\",\"severity\":\"{severity}\",\"state\":\"LOCKED_OUT\",\"user\":{{\"userName\":\"CORP\\\\mallory\",\"userId\":\"S-1-5-21-4-5-6-1001\"}},\"nes\":[{{\"name\":\"isilon-a\"}}],\"clientIPs\":[\"10.1.2.3\"],\"detected\":1732000000000,\"numFiles\":37,\"files\":[",
        0
    );
    let mut text = start;
    let mut number = 0;
    while text.len() + 64 < bytes {
        let comma = if number > 0 { "," } else { "" };
        text.push_str(&format!(
            "{comma}\"/ifs/data/finance/quarter-{number}/report-{number}.xlsx.lockbit\""
        ));
        number += 1;
    }
    text.push_str("]}");
    text.into_bytes()
}

impl Load {
    /// Post it all.
    pub fn run(&self) -> Sent {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(self.post())
    }

    /// The same within a runtime.
    pub async fn post(&self) -> Sent {
        let (begun, left) = (Instant::now(), Arc::new(AtomicU64::new(self.requests)));
        let posting =
            (0..self.connections).map(|_| tokio::spawn(connection(self.clone(), left.clone())));
        let mut latencies = Vec::with_capacity(self.requests as usize);
        for connection in posting.collect::<Vec<_>>() {
            latencies.extend(connection.await.expect("every request is answered well"));
        }
        let took = begun.elapsed();
        latencies.sort();
        Sent { took, latencies }
    }

    fn request(&self) -> Vec<u8> {
        let Self { to, path, body, .. } = self;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    }
}

async fn connection(load: Load, left: Arc<AtomicU64>) -> Vec<Duration> {
    let mut stream = TcpStream::connect(load.to).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    let mut request = load.request();
    let places = places(&request);
    let (mut took, mut answer) = (Vec::new(), Vec::new());
    let take = |left: u64| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        for place in &places {
            let number = format!("{:0DIGITS$}", NEXT.fetch_add(1, Ordering::Relaxed));
            request[*place..place + DIGITS].copy_from_slice(number.as_bytes());
        }
        let begun = Instant::now();
        stream.write_all(&request).await.expect("it takes the request");
        read(&mut stream, &mut answer).await;
        took.push(begun.elapsed());
    }
    took
}

/// Where the numbers go.
fn places(request: &[u8]) -> Vec<usize> {
    let zeros = [b'0'; DIGITS];
    let (mut places, mut at) = (Vec::new(), 0);
    while at + DIGITS <= request.len() {
        if request[at..at + DIGITS] == zeros {
            places.push(at);
            at += DIGITS;
        } else {
            at += 1;
        }
    }
    places
}

/// One whole answer, which must be a 200.
async fn read(stream: &mut TcpStream, answer: &mut Vec<u8>) {
    answer.clear();
    loop {
        assert!(stream.read_buf(answer).await.expect("an answer") > 0, "it hung up");
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if answer.len() >= end + 4 + length.unwrap_or(0usize) {
            assert!(head.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(answer));
            return;
        }
    }
}
