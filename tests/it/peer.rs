//! A destination for tests: an HTTP/1.1 server on the loopback interface that records what it is
//! sent and answers by a script.
//!
//! Guarantees: a request is recorded, raw and whole, before its answer is made; connections are
//! kept alive like a real server's; who asks for a token gets one, counted apart; nothing outlives `stop` or the drop of the last handle. It is
//! no general server: no TLS (see `sinks_tls.rs`), no pipelining, no `Expect`.

// A tool box: not every test uses every tool.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How long `wait_for` waits before it fails the test.
const PATIENCE: Duration = Duration::from_secs(20);

/// One request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Path and query, byte for byte.
    pub path: String,
    /// Names as sent, in order.
    pub headers: Vec<(String, String)>,
    /// As sent: a compressed body stays compressed.
    pub body: Bytes,
}

impl Request {
    /// The first header called `name`, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body before it was compressed.
    pub fn plain(&self) -> Bytes {
        if self.header("content-encoding") != Some("gzip") {
            return self.body.clone();
        }
        let mut plain = Vec::new();
        let mut reader = flate2::read::GzDecoder::new(&self.body[..]);
        std::io::Read::read_to_end(&mut reader, &mut plain).unwrap();
        plain.into()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What the peer does with a request.
#[derive(Clone, Debug)]
pub struct Answer {
    act: Act,
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    delay: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Reply,
    /// Promise the whole body, send half of it, reset the connection.
    Break,
    Reset,
    Hang,
}

impl Answer {
    /// Any status, with a body.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            act: Act::Reply,
            status,
            headers: Vec::new(),
            body: body.into(),
            delay: Duration::ZERO,
        }
    }

    /// 200 with a body.
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::new(200, body)
    }

    /// The connection is reset after the request was read.
    pub fn reset() -> Self {
        Self { act: Act::Reset, ..Self::new(0, "") }
    }

    /// The request is read and never answered.
    pub fn hang() -> Self {
        Self { act: Act::Hang, ..Self::new(0, "") }
    }

    /// The same, but the connection is reset in the middle of the body.
    pub fn broken(self) -> Self {
        Self { act: Act::Break, ..self }
    }

    /// The same with a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same, but not before `delay` has passed.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    fn head(&self) -> String {
        let mut head =
            format!("HTTP/1.1 {} Scripted\r\ncontent-length: {}\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head + "\r\n"
    }
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;

struct Book {
    script: Mutex<Arc<Script>>,
    requests: Mutex<Vec<Request>>,
    /// Requests for tokens.
    tokens: Mutex<Vec<Request>>,
    count: watch::Sender<usize>,
}

/// A running peer. Stops when dropped.
pub struct Peer {
    address: SocketAddr,
    book: Arc<Book>,
    server: JoinHandle<()>,
}

impl Peer {
    /// A peer on a free port that answers `200 {}`.
    pub async fn start() -> Self {
        Self::start_at(0).await
    }

    /// A peer on `port`, such as that of one that was stopped.
    pub async fn start_at(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let book = Arc::new(Book {
            script: Mutex::new(Arc::new(|_| Answer::ok("{}"))),
            requests: Mutex::default(),
            tokens: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let server = tokio::spawn(serve(listener, book.clone()));
        Self { address, book, server }
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answer by `script` from now on.
    pub fn answer(&self, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
        *self.book.script.lock().unwrap() = Arc::new(script);
    }

    /// Give the same answer from now on.
    pub fn always(&self, answer: Answer) {
        self.answer(move |_| answer.clone());
    }

    /// Everything that came so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.book.requests.lock().unwrap().clone()
    }

    /// The bodies of everything that came so far.
    pub fn bodies(&self) -> Vec<Bytes> {
        self.requests().iter().map(Request::plain).collect()
    }

    /// Every request for a token so far.
    pub fn tokens(&self) -> Vec<Request> {
        self.book.tokens.lock().unwrap().clone()
    }

    /// Forget what came so far; `wait_for` counts from here.
    pub fn forget(&self) {
        self.book.requests.lock().unwrap().clear();
        self.book.count.send_replace(0);
    }

    /// Wait until at least `count` requests have come; fails the test after 20 s.
    pub async fn wait_for(&self, count: usize) -> Vec<Request> {
        let mut counted = self.book.count.subscribe();
        let came = tokio::time::timeout(PATIENCE, counted.wait_for(|now| *now >= count)).await;
        assert!(came.is_ok(), "waited for {count} requests, {} came", self.requests().len());
        self.requests()
    }

    /// Refuse connections from now on, and reset the open ones.
    pub async fn stop(mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, book: Arc<Book>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let book = book.clone();
        connections.spawn(async move { converse(stream, &book).await });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: TcpStream, book: &Book) {
    let mut read = Vec::new();
    while let Some(request) = next(&mut stream, &mut read).await {
        let answer = record(request, book);
        tokio::time::sleep(answer.delay).await;
        match answer.act {
            Act::Reply => reply(&mut stream, &answer, answer.body.len()).await,
            Act::Hang => std::future::pending().await,
            Act::Break => reply(&mut stream, &answer, answer.body.len() / 2).await,
            Act::Reset => {}
        }
        if matches!(answer.act, Act::Break | Act::Reset) {
            stream.set_zero_linger().unwrap();
            return;
        }
    }
}

/// Whether a token is asked for: by OAuth's form, or by a login.
fn wants_token(request: &Request) -> bool {
    request.body.starts_with(b"grant_type=") || request.path.ends_with("/authenticate")
}

/// The `count`th token, by every name that it has.
fn token(count: usize) -> Answer {
    let token = format!("token-{count}");
    let body = serde_json::json!({
        "access_token": token, "token_type": "Bearer", "expires_in": 3_600, "data": { "token": token },
    });
    Answer::ok(body.to_string())
}

fn record(request: Request, book: &Book) -> Answer {
    if wants_token(&request) {
        let mut tokens = book.tokens.lock().unwrap();
        tokens.push(request);
        return token(tokens.len());
    }
    let (script, is_head) = (book.script.lock().unwrap().clone(), request.method == "HEAD");
    book.requests.lock().unwrap().push(request.clone());
    book.count.send_modify(|count| *count += 1);
    let answer = script(&request);
    if is_head { Answer { body: Bytes::new(), ..answer } } else { answer }
}

async fn reply(stream: &mut (impl AsyncWrite + Unpin), answer: &Answer, bytes: usize) {
    let _ = stream.write_all(answer.head().as_bytes()).await;
    let _ = stream.write_all(&answer.body[..bytes]).await;
    let _ = stream.flush().await;
    if answer.act == Act::Break {
        // Time for the half to arrive: a reset overtakes it.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Read the next request; `None` at the end of the connection.
async fn next(stream: &mut (impl AsyncRead + Unpin), read: &mut Vec<u8>) -> Option<Request> {
    let head = loop {
        match read.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(end) => break read.drain(..end + 4).collect::<Vec<u8>>(),
            None => more(stream, read).await?,
        }
    };
    let mut request = parse(&String::from_utf8_lossy(&head));
    let chunked = request.header("transfer-encoding").is_some_and(|how| how.contains("chunked"));
    request.body = match chunked {
        true => chunks(stream, read).await?,
        false => {
            let length = request.header("content-length").map_or(0, |text| text.parse().unwrap());
            exactly(stream, read, length).await?
        }
    };
    Some(request)
}

fn parse(head: &str) -> Request {
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let mut word = || first.next().unwrap_or_default().to_owned();
    let (method, path) = (word(), word());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    Request { method, path, headers, body: Bytes::new() }
}

async fn chunks(stream: &mut (impl AsyncRead + Unpin), read: &mut Vec<u8>) -> Option<Bytes> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            match read.windows(2).position(|window| window == b"\r\n") {
                Some(end) => break end,
                None => more(stream, read).await?,
            }
        };
        let size = String::from_utf8_lossy(&read[..end]).into_owned();
        read.drain(..end + 2);
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        body.extend_from_slice(&exactly(stream, read, size).await?);
        exactly(stream, read, 2).await?;
        if size == 0 {
            return Some(body.into());
        }
    }
}

async fn exactly(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut Vec<u8>,
    bytes: usize,
) -> Option<Bytes> {
    while read.len() < bytes {
        more(stream, read).await?;
    }
    Some(read.drain(..bytes).collect())
}

async fn more(stream: &mut (impl AsyncRead + Unpin), read: &mut Vec<u8>) -> Option<()> {
    let count = stream.read_buf(read).await.ok()?;
    (count > 0).then_some(())
}
