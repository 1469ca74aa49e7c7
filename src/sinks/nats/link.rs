//! One connection to a NATS server: the client protocol as far as publishing needs it.
//!
//! Guarantees: what a server sends is read up to a limit; every message that was published has an
//! answer of its own or a fault; a connection on which anything odd happened is not used again. It
//! has no task: between two batches nobody reads, so a connection is asked whether it lives before it
//! is used. Not here: subscriptions other than our own inbox, and reconnecting.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;
use uuid::Uuid;

use super::login::Login;
use super::verdict;
use crate::core::event::EventId;
use crate::core::sink::{Cause, Fault};
use crate::sinks::socket::{Dial, Endpoint, Line};

/// Longest line of a server: its greeting names all servers of a cluster.
const LINE: u64 = 64 << 10;
/// Largest answer to a message.
const ANSWER: usize = 64 << 10;
/// How long a connection that was used before may take to say that it lives.
const ALIVE: Duration = Duration::from_secs(3);

/// What a server says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Greeting {
    version: String,
    nonce: String,
    max_payload: usize,
    headers: bool,
    tls_required: bool,
    /// It is about to go.
    ldm: bool,
}

/// What a server sends.
#[derive(Debug)]
enum Said {
    Greeting(Box<Greeting>),
    Message { to: String, status: Option<u16>, payload: Vec<u8> },
    Ping,
    Pong,
    Refusal(String),
}

/// What to publish.
pub struct Message {
    /// The server recognises it by this when it comes again.
    pub id: EventId,
    /// The body.
    pub payload: Bytes,
}

/// How to publish.
pub struct Manner<'m> {
    /// Where.
    pub subject: &'m str,
    /// The stream that must have it.
    pub stream: Option<&'m str>,
}

/// What an exchange ended with.
type Answered = Result<Vec<u8>, Fault>;

/// An open connection, with an inbox.
pub struct Link {
    server: Endpoint,
    section: String,
    line: BufReader<Line>,
    inbox: String,
    next: u64,
    max_payload: usize,
    leaving: bool,
}

impl Link {
    /// Connect to `server`, and be let in.
    pub async fn open(
        dial: &Dial,
        server: &Endpoint,
        login: &Login,
        tls_first: bool,
        section: &str,
    ) -> Result<Self, Fault> {
        let told = |error: io::Error| dial.fault(server, &error);
        let mut stream = dial.tcp(server).await.map_err(told)?;
        let (line, greeting) = if tls_first && dial.is_encrypted() {
            let line = dial.secured(stream, server).await.map_err(told)?;
            let mut line = BufReader::new(line);
            let greeting = greeting(&mut line).await.map_err(told)?;
            (line, greeting)
        } else {
            // Byte by byte: what follows the greeting may already be TLS.
            let greeting = greeting(&mut BufReader::with_capacity(1, &mut stream)).await;
            let greeting = greeting.map_err(told)?;
            (BufReader::new(dial.secured(stream, server).await.map_err(told)?), greeting)
        };
        let inbox = format!("_INBOX.{}.", Uuid::new_v4().simple());
        let mut link = Self {
            server: server.clone(),
            section: section.to_owned(),
            line,
            inbox,
            next: 0,
            max_payload: greeting.max_payload,
            leaving: greeting.ldm,
        };
        link.understood(dial, &greeting)?;
        link.let_in(dial, login, &greeting.nonce).await?;
        Ok(link)
    }

    /// Whether this server can be spoken to in the way that is configured.
    fn understood(&self, dial: &Dial, greeting: &Greeting) -> Result<(), Fault> {
        let note = if greeting.tls_required && !dial.is_encrypted() {
            format!("it demands TLS; write tls:// in {}.servers", self.section)
        } else if !greeting.headers {
            format!(
                "it is too old (version {:.20?}) or has no headers, which tell an event that comes twice; 2.2 is needed for {}",
                greeting.version, self.section
            )
        } else {
            return Ok(());
        };
        Err(self.at(Fault::new(Cause::Setup, note)))
    }

    async fn let_in(&mut self, dial: &Dial, login: &Login, nonce: &str) -> Result<(), Fault> {
        let mut connect = login.claim(nonce);
        let own = json!({
            "verbose": false, "pedantic": false, "echo": false, "headers": true, "no_responders": true,
            "tls_required": dial.is_encrypted(), "protocol": 1, "name": "siemgate", "lang": "rust",
            "version": env!("CARGO_PKG_VERSION"),
        });
        connect.extend(own.as_object().cloned().unwrap_or_default());
        let hello =
            format!("CONNECT {}\r\nPING\r\nSUB {}* 1\r\n", Value::from(connect), self.inbox);
        self.write(dial, hello.as_bytes()).await?;
        self.alive(dial).await
    }

    /// Ask for a sign of life, and hear what the server has said since.
    async fn alive(&mut self, dial: &Dial) -> Result<(), Fault> {
        loop {
            match self.said(dial).await? {
                Said::Pong => return Ok(()),
                Said::Ping => self.write(dial, b"PONG\r\n").await?,
                Said::Greeting(greeting) => self.leaving |= greeting.ldm,
                Said::Refusal(text) => return Err(self.at(verdict::refused(&text, &self.section))),
                Said::Message { .. } => {}
            }
        }
    }

    /// Whether it still lives, and its server does not want to go.
    pub async fn is_good(&mut self, dial: &Dial) -> bool {
        let asked = async {
            self.write(dial, b"PING\r\n").await?;
            self.alive(dial).await
        };
        matches!(timeout(ALIVE, asked).await, Ok(Ok(()))) && !self.leaving
    }

    /// Whether it must not be used again.
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Publish all of these, and wait for the answer to each. Where the connection ends before, those
    /// that were not answered have its fault.
    pub async fn publish(
        &mut self,
        dial: &Dial,
        manner: &Manner<'_>,
        messages: &[Message],
    ) -> Vec<Answered> {
        let first = self.next;
        let mut bytes = Vec::new();
        let mut answers: Vec<Option<Answered>> = Vec::with_capacity(messages.len());
        for message in messages {
            let head = head(message, manner.stream);
            let size = head.len() + message.payload.len();
            answers.push((size > self.max_payload).then(|| Err(self.too_large(size))));
            if size <= self.max_payload {
                let (inbox, subject) = (&self.inbox, manner.subject);
                let line = format!("HPUB {subject} {inbox}{} {} {size}\r\n", self.next, head.len());
                bytes.extend_from_slice(line.as_bytes());
                bytes.extend_from_slice(head.as_bytes());
                bytes.extend_from_slice(&message.payload);
                bytes.extend_from_slice(b"\r\n");
            }
            self.next += 1;
        }
        if let Err(fault) = self.exchange(dial, &bytes, first, &mut answers).await {
            self.leaving = true;
            answers
                .iter_mut()
                .for_each(|answer| _ = answer.get_or_insert_with(|| Err(fault.clone())));
        }
        answers.into_iter().flatten().collect()
    }

    /// Ask `subject`, such as JetStream's own.
    pub async fn ask(&mut self, dial: &Dial, subject: &str, question: &[u8]) -> Answered {
        let (inbox, length) = (&self.inbox, question.len());
        let mut bytes = format!("PUB {subject} {inbox}{} {length}\r\n", self.next).into_bytes();
        bytes.extend_from_slice(question);
        bytes.extend_from_slice(b"\r\n");
        let (first, mut answers) = (self.next, vec![None]);
        self.next += 1;
        let asked = self.exchange(dial, &bytes, first, &mut answers).await;
        self.leaving |= asked.is_err();
        asked?;
        answers.pop().flatten().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Write, and read until nothing is missing in `answers`, whose first has the number `first`.
    async fn exchange(
        &mut self,
        dial: &Dial,
        bytes: &[u8],
        first: u64,
        answers: &mut [Option<Answered>],
    ) -> Result<(), Fault> {
        self.write(dial, bytes).await?;
        let mut missing = answers.iter().filter(|answer| answer.is_none()).count();
        while missing > 0 {
            match self.said(dial).await? {
                Said::Message { to, status, payload } => {
                    let Some(at) = self.number(&to, first) else { continue };
                    let Some(place @ None) = answers.get_mut(at) else { continue };
                    *place = Some(match status {
                        Some(503) => Err(self.at(verdict::no_stream(&self.section))),
                        _ => Ok(payload),
                    });
                    missing -= 1;
                }
                Said::Ping => self.write(dial, b"PONG\r\n").await?,
                Said::Refusal(text) => return Err(self.at(verdict::refused(&text, &self.section))),
                Said::Greeting(greeting) => self.leaving |= greeting.ldm,
                Said::Pong => {}
            }
        }
        Ok(())
    }

    fn number(&self, to: &str, first: u64) -> Option<usize> {
        let number: u64 = to.strip_prefix(&self.inbox)?.parse().ok()?;
        usize::try_from(number.checked_sub(first)?).ok()
    }

    fn too_large(&self, size: usize) -> Fault {
        let note = format!(
            "the message has {size} bytes with its headers, and the server takes {}; lower {}.max_bytes or raise its max_payload",
            self.max_payload, self.section
        );
        self.at(Fault::new(Cause::TooLarge, note))
    }

    /// The same with the server's address.
    fn at(&self, fault: Fault) -> Fault {
        Fault { note: format!("{}: {}", self.server, fault.note), ..fault }
    }

    async fn write(&mut self, dial: &Dial, bytes: &[u8]) -> Result<(), Fault> {
        let line = self.line.get_mut();
        let written = async {
            line.write_all(bytes).await?;
            line.flush().await
        };
        let Err(error) = written.await else { return Ok(()) };
        // It may have said why before it hung up.
        match timeout(ALIVE, self.said(dial)).await {
            Ok(Ok(Said::Refusal(text))) => Err(self.at(verdict::refused(&text, &self.section))),
            Ok(Err(fault)) if fault.cause == Cause::Setup => Err(fault),
            _ => Err(dial.fault(&self.server, &error)),
        }
    }

    async fn said(&mut self, dial: &Dial) -> Result<Said, Fault> {
        said(&mut self.line).await.map_err(|error| dial.fault(&self.server, &error))
    }
}

/// The headers of a message.
fn head(message: &Message, stream: Option<&str>) -> String {
    let expected = stream.map(|name| format!("Nats-Expected-Stream: {name}\r\n"));
    format!("NATS/1.0\r\nNats-Msg-Id: {}\r\n{}\r\n", message.id, expected.unwrap_or_default())
}

async fn greeting(from: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Greeting> {
    match said(from).await? {
        Said::Greeting(greeting) => Ok(*greeting),
        Said::Refusal(text) => Err(io::Error::other(format!("the server says: {text}"))),
        _ => Err(odd("it does not greet as a NATS server does")),
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The next that a server says, `+OK` apart.
async fn said(from: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Said> {
    loop {
        let mut line = Vec::new();
        (&mut *from).take(LINE).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            let ended = "the server closed the connection";
            return Err(match line.len() {
                0 => io::Error::new(io::ErrorKind::UnexpectedEof, ended),
                _ => odd("it does not speak NATS"),
            });
        }
        let line = String::from_utf8_lossy(&line);
        let (word, rest) = line.trim_end().split_once([' ', '\t']).unwrap_or((line.trim_end(), ""));
        return Ok(match word.to_ascii_uppercase().as_str() {
            "+OK" => continue,
            "PING" => Said::Ping,
            "PONG" => Said::Pong,
            "-ERR" => Said::Refusal(rest.trim().trim_matches('\'').to_owned()),
            "INFO" => Said::Greeting(serde_json::from_str(rest).map_err(io::Error::other)?),
            "MSG" => message(from, rest, false).await?,
            "HMSG" => message(from, rest, true).await?,
            _ => return Err(odd("it does not speak NATS")),
        });
    }
}

/// The rest of a message whose first line, without its word, is `line`.
async fn message(
    from: &mut (impl AsyncBufReadExt + Unpin),
    line: &str,
    has_headers: bool,
) -> io::Result<Said> {
    let bad = || odd("it sends a message that cannot be read");
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |back: usize| words.len().checked_sub(back).and_then(|at| words[at].parse().ok());
    let size: usize = number(1).filter(|size| *size <= ANSWER).ok_or_else(bad)?;
    let head: usize = match has_headers {
        true => number(2).filter(|head| *head <= size).ok_or_else(bad)?,
        false => 0,
    };
    let mut bytes = vec![0; size + 2];
    from.read_exact(&mut bytes).await?;
    bytes.truncate(size);
    let payload = bytes.split_off(head);
    // `NATS/1.0 503` and a line break, where it is a status.
    let status =
        String::from_utf8_lossy(&bytes).split_whitespace().nth(1).and_then(|it| it.parse().ok());
    let to = words.first().ok_or_else(bad)?.to_string();
    Ok(Said::Message { to, status, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    async fn all(mut bytes: &[u8]) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(said) = said(&mut bytes).await {
            told.push(format!("{said:?}"));
        }
        told
    }

    #[tokio::test]
    async fn what_servers_say_is_read() {
        let bytes = b"+OK\r\nPING\r\nMSG a.1 1 5\r\nhe\r\nl\r\nHMSG b 1 c 16 18\r\nNATS/1.0 503\r\n\r\nxy\r\n-ERR 'No'\r\npong\r\n";
        let told = all(bytes).await;
        assert_eq!(told.len(), 5, "{told:?}");
        assert!(told[1].contains("to: \"a.1\", status: None, payload: [104, 101, 13, 10, 108]"));
        assert!(told[2].contains("status: Some(503), payload: [120, 121]"), "{told:?}");
        assert!(told[3].contains("Refusal(\"No\")") && told[4] == "Pong");
    }

    proptest! {
        #[test]
        fn no_server_can_make_it_panic_or_grow(bytes in prop::collection::vec(any::<u8>(), 0..400), lead in "(H?MSG|INFO|-ERR) [a-z0-9 ]{0,30}") {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut text = lead.into_bytes();
            text.extend_from_slice(b"\r\n");
            text.extend_from_slice(&bytes);
            runtime.block_on(all(&text));
        }
    }
}
