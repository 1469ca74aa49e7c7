//! A message broker for tests of every kind: it takes what it is sent, and records it. Over TCP, or
//! over any stream that it is given, such as TLS.
//!
//! Guarantees: a message is recorded before it is acknowledged; nothing outlives the drop of the
//! broker. It knows just enough of each protocol to take messages: the real brokers are in
//! `sinks_nats.rs` and `sinks_kafka.rs`.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use siemgate::sinks::Entry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::{kafka_peer, nats_peer};

/// What a broker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Nats,
    Kafka,
}

impl Speaks {
    /// What the destination of `kind` speaks, if it is a broker.
    pub fn of(kind: &Entry) -> Option<Self> {
        match kind.name() {
            "nats_jetstream" => Some(Self::Nats),
            "kafka" => Some(Self::Kafka),
            _ => None,
        }
    }
}

/// What a broker has, and how it is to behave.
#[derive(Default)]
pub struct State {
    /// The messages that came, in order.
    pub messages: Vec<Bytes>,
    /// For Kafka.
    pub producers: kafka_peer::Producers,
    /// For Kafka.
    pub orders: kafka_peer::Orders,
}

pub type Book = Arc<Mutex<State>>;

/// Serve one connection to the broker called `host` at `port`.
pub async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    speaks: Speaks,
    stream: S,
    host: &str,
    port: u16,
    book: Book,
) {
    match speaks {
        Speaks::Nats => nats_peer::converse(stream, book).await,
        Speaks::Kafka => kafka_peer::converse(stream, host, port, book).await,
    }
}

/// A running broker. Stops when dropped.
pub struct Broker {
    pub port: u16,
    book: Book,
    server: JoinHandle<()>,
}

impl Broker {
    /// On `port`, or a free one for 0.
    pub async fn start(speaks: Speaks, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let book = Book::default();
        let kept = book.clone();
        let server = tokio::spawn(async move {
            // Dropped with this task, and every connection with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(speaks, stream, "127.0.0.1", port, kept.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { port, book, server }
    }

    pub fn url(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    pub fn messages(&self) -> Vec<Bytes> {
        self.book.lock().unwrap().messages.clone()
    }

    pub fn forget(&self) {
        self.book.lock().unwrap().messages.clear();
    }

    /// Behave otherwise.
    pub fn order(&self, change: impl FnOnce(&mut kafka_peer::Orders)) {
        change(&mut self.book.lock().unwrap().orders);
    }

    /// End every connection and take no others.
    pub async fn stop(mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.server.abort();
    }
}
