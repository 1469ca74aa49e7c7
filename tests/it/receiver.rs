//! A destination for tests that speaks sockets: TCP or UDP on the loopback interface. It records
//! what comes, and goes, resets or stalls when it is told to.
//!
//! Guarantees: every byte is recorded before anything else happens to its connection; messages are
//! told apart as receivers of syslog do it (a length before the message, else a line feed
//! or, as in GELF, a null byte after it), and one that was cut off is none; nothing outlives the drop of the receiver. No TLS: the
//! real receivers have it (see `syslog_servers.rs`).

// A tool box: not every test uses every tool.
#![allow(dead_code)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::gateway::until;

/// What connections are told.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    /// How often the open ones were closed.
    hung_up: u64,
    /// Read nothing more.
    stalled: bool,
}

type Open = Arc<Mutex<BTreeSet<usize>>>;

/// A running receiver. Stops when dropped.
pub struct Receiver {
    scheme: &'static str,
    address: SocketAddr,
    /// What came, by connection or datagram, in order.
    came: Arc<Mutex<Vec<Vec<u8>>>>,
    orders: watch::Sender<Orders>,
    /// The connections that are open, by their place in `came`.
    open: Open,
    server: JoinHandle<()>,
}

impl Receiver {
    /// On a free port.
    pub async fn tcp() -> Self {
        Self::tcp_at(0).await
    }

    /// On `port`, such as that of one that has stopped.
    pub async fn tcp_at(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (came, orders) = (Arc::default(), watch::Sender::new(Orders::default()));
        let open = Open::default();
        let server = serve(listener, Arc::clone(&came), orders.subscribe(), open.clone());
        Self { scheme: "tcp", address, came, orders, open, server: tokio::spawn(server) }
    }

    /// On a free port.
    pub async fn udp() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
        let address = socket.local_addr().unwrap();
        let came: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let book = came.clone();
        let server = tokio::spawn(async move {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(count) = socket.recv(&mut bytes).await {
                book.lock().unwrap().push(bytes[..count].to_vec());
            }
        });
        let orders = watch::Sender::new(Orders::default());
        Self { scheme: "udp", address, came, orders, open: Open::default(), server }
    }

    /// `tcp://127.0.0.1:PORT` or the same with `udp`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The bytes, by connection or datagram.
    pub fn came(&self) -> Vec<Bytes> {
        self.came.lock().unwrap().iter().map(|bytes| bytes.clone().into()).collect()
    }

    /// The whole messages, in the order of connections.
    pub fn messages(&self) -> Vec<Bytes> {
        let came = self.came();
        match self.scheme {
            "udp" => came,
            _ => came.iter().flat_map(|bytes| split(bytes)).collect(),
        }
    }

    /// The messages, as soon as there are so many.
    pub async fn wait_for(&self, count: usize) -> Vec<Bytes> {
        until(&format!("{count} messages have come"), async || {
            let messages = self.messages();
            (messages.len() >= count).then_some(messages)
        })
        .await
    }

    /// Forget what came so far.
    pub fn forget(&self) {
        let mut came = self.came.lock().unwrap();
        match self.scheme {
            // Connections that go on keep their places.
            "tcp" => came.iter_mut().for_each(Vec::clear),
            _ => came.clear(),
        }
    }

    /// Read nothing more from connections, or go on.
    pub fn stall(&self, stalled: bool) {
        self.orders.send_modify(|orders| orders.stalled = stalled);
    }

    /// Close the open connections; new ones are served. Where something was not read the peer sees
    /// a reset, else an end.
    pub async fn hang_up(&self) {
        let open = self.open.lock().unwrap().clone();
        self.orders.send_modify(|orders| orders.hung_up += 1);
        until("the connections are closed", async || {
            self.open.lock().unwrap().is_disjoint(&open).then_some(())
        })
        .await;
    }

    /// Close the open connections and take no others.
    pub async fn stop(mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The whole messages of one connection.
pub fn split(mut bytes: &[u8]) -> Vec<Bytes> {
    let mut messages = Vec::new();
    loop {
        let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 0 && bytes.get(digits) == Some(&b' ') {
            let length: usize = std::str::from_utf8(&bytes[..digits]).unwrap().parse().unwrap();
            let Some(message) = bytes.get(digits + 1..digits + 1 + length) else { return messages };
            messages.push(Bytes::copy_from_slice(message));
            bytes = &bytes[digits + 1 + length..];
        } else {
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\0')) else {
                return messages;
            };
            messages.push(Bytes::copy_from_slice(&bytes[..end]));
            bytes = &bytes[end + 1..];
        }
    }
}

type Book = Arc<Mutex<Vec<Vec<u8>>>>;

async fn serve(listener: TcpListener, book: Book, orders: watch::Receiver<Orders>, open: Open) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = {
            let mut book = book.lock().unwrap();
            book.push(Vec::new());
            book.len() - 1
        };
        open.lock().unwrap().insert(number);
        let (book, orders, open) = (book.clone(), orders.clone(), open.clone());
        connections.spawn(async move {
            record(stream, number, book, orders).await;
            open.lock().unwrap().remove(&number);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn record(
    mut stream: TcpStream,
    number: usize,
    book: Book,
    mut orders: watch::Receiver<Orders>,
) {
    let mut bytes = vec![0; 1 << 16];
    let begun = orders.borrow_and_update().hung_up;
    loop {
        let Orders { hung_up, stalled } = *orders.borrow();
        if hung_up > begun {
            return;
        }
        tokio::select! {
            biased;
            changed = orders.changed() => if changed.is_err() { return },
            count = stream.read(&mut bytes), if !stalled => {
                let Ok(count @ 1..) = count else { return };
                book.lock().unwrap()[number].extend_from_slice(&bytes[..count]);
            }
        }
    }
}
