//! One connection to a Kafka broker: questions, one after the other, and logging in.
//!
//! Guarantees: an answer is read up to a limit and belongs to its question; a connection that was idle
//! for long is not trusted; whoever is cancelled in the middle must not use it again. No task.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::codec::{Api, In, Out, SASL_AUTHENTICATE, SASL_HANDSHAKE};
use super::scram::{Hash, Scram};
use super::verdict;
use crate::core::config::Secret;
use crate::core::sink::{Cause, Fault};
use crate::sinks::socket::{Dial, Endpoint, Line};

/// Largest answer: a topic with thousands of partitions has some hundred KiB.
const ANSWER: usize = 8 << 20;
/// A connection that was idle for longer is opened anew: brokers and firewalls forget them.
const IDLE: Duration = Duration::from_secs(60);
/// How long a broker that hung up while we wrote may take to say why.
const WHY: Duration = Duration::from_secs(2);

/// Who connects.
pub struct Login {
    /// How.
    pub way: Sasl,
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sasl {
    /// The password as it is.
    Plain,
    /// A proof of it.
    Scram(Hash),
}

impl Sasl {
    /// As brokers call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512) => "SCRAM-SHA-512",
        }
    }
}

/// An open connection.
pub struct Link {
    line: Line,
    next: i32,
    used: Instant,
}

impl Link {
    /// Connect to `broker`, and log in.
    pub async fn open(
        dial: &Dial,
        broker: &Endpoint,
        login: Option<&Login>,
        section: &str,
    ) -> Result<Self, Fault> {
        let told = |error: io::Error| dial.fault(broker, &error);
        let stream = dial.tcp(broker).await.map_err(told)?;
        let line = dial.secured(stream, broker).await.map_err(told)?;
        let mut link = Self { line, next: 0, used: Instant::now() };
        if let Some(login) = login {
            let at = |fault: Fault| Fault { note: format!("{broker}: {}", fault.note), ..fault };
            link.log_in(login, section, &|error| dial.fault(broker, &error), &at).await?;
        }
        Ok(link)
    }

    /// Whether it may be used.
    pub fn is_fresh(&self) -> bool {
        self.used.elapsed() < IDLE
    }

    async fn log_in(
        &mut self,
        login: &Login,
        section: &str,
        told: &(dyn Fn(io::Error) -> Fault + Sync),
        at: &(dyn Fn(Fault) -> Fault + Sync),
    ) -> Result<(), Fault> {
        let mut hello = Out::default();
        hello.text(login.way.name());
        let answer = self.ask(SASL_HANDSHAKE, &hello.0).await.map_err(told)?;
        let code = In(&answer).i16().map_err(told)?;
        if code != 0 {
            return Err(at(verdict::fault(code, section)));
        }
        let password = login.password.expose();
        match login.way {
            Sasl::Plain => {
                let words = format!("\0{}\0{password}", login.user);
                self.say(words.as_bytes(), section, told, at).await?;
            }
            Sasl::Scram(hash) => {
                let nonce = Uuid::new_v4().simple().to_string();
                let scram = Scram::new(hash, &login.user, nonce);
                let cheats = |what: String| at(Fault::new(Cause::Setup, what));
                let said = self.say(scram.greeting().as_bytes(), section, told, at).await?;
                let said = String::from_utf8_lossy(&said).into_owned();
                let (answer, expected) = scram.answer(&said, password).map_err(cheats)?;
                let proof = self.say(answer.as_bytes(), section, told, at).await?;
                if proof != expected.as_bytes() {
                    return Err(cheats("it does not know the password itself".into()));
                }
            }
        }
        Ok(())
    }

    /// One message of logging in, and its answer.
    async fn say(
        &mut self,
        words: &[u8],
        section: &str,
        told: &(dyn Fn(io::Error) -> Fault + Sync),
        at: &(dyn Fn(Fault) -> Fault + Sync),
    ) -> Result<Vec<u8>, Fault> {
        let mut out = Out::default();
        out.bytes(words);
        let answer = self.ask(SASL_AUTHENTICATE, &out.0).await.map_err(told)?;
        let mut from = In(&answer);
        let read = (|| Ok((from.i16()?, from.text()?, from.bytes()?.to_vec())))();
        match read.map_err(told)? {
            (0, _, words) => Ok(words),
            (code, ..) => Err(at(verdict::fault(code, section))),
        }
    }

    /// Ask, and wait for the answer.
    pub async fn ask(&mut self, api: Api, question: &[u8]) -> io::Result<Vec<u8>> {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let mut head = Out::default();
        head.i16(api.0);
        head.i16(api.1);
        head.i32(number);
        head.text("siemgate");
        let mut frame = Out::default();
        frame.count(head.0.len() + question.len());
        let whole = [&frame.0[..], &head.0, question].concat();
        let written = async {
            self.line.write_all(&whole).await?;
            self.line.flush().await
        };
        if let Err(error) = written.await {
            // It may have said why before it hung up: TLS does.
            return Err(match timeout(WHY, self.line.read(&mut [0; 16])).await {
                Ok(Err(why)) => why,
                _ => error,
            });
        }
        let answer = self.answer(number).await?;
        self.used = Instant::now();
        Ok(answer)
    }

    async fn answer(&mut self, number: i32) -> io::Result<Vec<u8>> {
        let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut head = [0; 4];
        if let Err(error) = self.line.read_exact(&mut head).await {
            return Err(match error.kind() {
                io::ErrorKind::UnexpectedEof => closed(),
                _ => error,
            });
        }
        let length = usize::try_from(i32::from_be_bytes(head)).ok();
        let length = length.filter(|length| (4..=ANSWER).contains(length));
        let length = length.ok_or_else(|| odd("it does not speak Kafka"))?;
        let mut answer = vec![0; length];
        self.line.read_exact(&mut answer).await?;
        match In(&answer).i32()? == number {
            true => Ok(answer.split_off(4)),
            false => Err(odd("it answers something that was not asked")),
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the broker closed the connection, as it does when it demands TLS or a login and gets none",
    )
}
