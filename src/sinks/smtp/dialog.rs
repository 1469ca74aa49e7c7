//! The conversation with a mail server (RFC 5321): one connection a mail.
//!
//! Guarantees: where TLS is asked for, nothing but EHLO and STARTTLS is said before it, and a server (or
//! whoever stands between) that offers none gets nothing; no password is in a fault, also not as an echo.
//! It tries once and decides nothing about recipients who were refused.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::line::{Either, Line, Said, Silence};
use super::mail::stuffed;
use super::server::Server;
use super::told::{Meaning, Step, passes, refusal};
use crate::core::config::Secret;
use crate::core::sink::{Cause, Fault, Reply};
use crate::sinks::tls::Tls;

/// No conversation lasts longer, whatever the worker's own timeout is.
const LONGEST: Duration = Duration::from_secs(300);
/// How long a server may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// A server, and how to talk to it.
pub struct Dialog {
    /// The sink's dotted key, for advice.
    pub section: String,
    /// Where.
    pub server: Server,
    /// How it is encrypted, if it is.
    pub tls: Option<Tls>,
    /// Who logs in, if anybody does.
    pub login: Option<Login>,
    /// Who we say we are; our address unless set.
    pub hello: Option<String>,
    /// How long connecting may take, TLS included.
    pub connect_timeout: Duration,
}

/// Who logs in.
pub struct Login {
    /// The name.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// What became of a mail, by recipients: their places in the list that was given.
#[derive(Debug, Default)]
pub struct Handed {
    /// What the server said to the mail, if anybody got it.
    pub reply: Reply,
    /// Who has it.
    pub took: Vec<usize>,
    /// Whom the server asked to try again later.
    pub later: Vec<(usize, Said)>,
    /// Whom it does not have.
    pub never: Vec<(usize, Said)>,
}

type Talk = Line<Box<dyn Either>>;

impl Dialog {
    /// Hand over one mail to those whom the server takes it for.
    pub async fn deliver(&self, from: &str, to: &[&str], mail: &[u8]) -> Result<Handed, Fault> {
        self.in_time(async {
            let (mut talk, hello) = self.open().await?;
            let mut handed = self.envelope(&mut talk, &hello, from, to, mail.len()).await?;
            if !handed.took.is_empty() {
                self.ask(&mut talk, Step::Data, "DATA", 354).await?;
                talk.write(&stuffed(mail)).await.map_err(|silence| self.silent(silence))?;
                let said = talk.hear().await.map_err(|silence| self.silent(silence))?;
                handed.reply = self.expect(Step::Mail, said, 250)?.reply();
            }
            quit(&mut talk).await;
            Ok(handed)
        })
        .await
    }

    /// Everything but the mail.
    pub async fn rehearse(&self, from: &str, to: &[&str]) -> Result<Handed, Fault> {
        self.in_time(async {
            let (mut talk, hello) = self.open().await?;
            let handed = self.envelope(&mut talk, &hello, from, to, 0).await?;
            let _ = talk.ask("RSET").await;
            quit(&mut talk).await;
            Ok(handed)
        })
        .await
    }

    /// The fault where the server takes the mail for nobody.
    pub fn nobody(&self, handed: &Handed) -> Option<Fault> {
        let (_, said) = handed.later.first().or(handed.never.first())?;
        Some(self.fault(Step::To, said))
    }

    async fn in_time<T>(&self, talk: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        timeout(LONGEST, talk).await.unwrap_or_else(|_| Err(self.down("no answer in time")))
    }

    /// Sender and recipients.
    async fn envelope(
        &self,
        talk: &mut Talk,
        hello: &Said,
        from: &str,
        to: &[&str],
        bytes: usize,
    ) -> Result<Handed, Fault> {
        let limit = hello.extension("SIZE").map(|size| size.trim().parse().unwrap_or(0));
        if limit.is_some_and(|limit| (1..bytes).contains(&limit)) {
            let note = format!(
                "{}: the mail has {bytes} bytes, and the server takes {}",
                self.server,
                limit.unwrap_or_default()
            );
            return Err(Fault::new(Cause::TooLarge, note));
        }
        let size = limit.map(|_| format!(" SIZE={bytes}")).unwrap_or_default();
        self.ask(talk, Step::From, &format!("MAIL FROM:<{from}>{size}"), 250).await?;
        let mut handed = Handed::default();
        for (place, to) in to.iter().enumerate() {
            let said = talk.ask(&format!("RCPT TO:<{to}>")).await;
            match said.map_err(|silence| self.silent(silence))? {
                Said { code: 250 | 251, .. } => handed.took.push(place),
                said @ Said { code: 421, .. } => return Err(self.fault(Step::To, &said)),
                // Not about this recipient.
                said @ Said { code: 530 | 534 | 535 | 538, .. } => {
                    return Err(self.fault(Step::To, &said));
                }
                said if passes(&said) => handed.later.push((place, said)),
                said => handed.never.push((place, said)),
            }
        }
        Ok(handed)
    }

    /// Connected, encrypted, greeted and logged in, and what the server can do.
    async fn open(&self) -> Result<(Talk, Said), Fault> {
        let dialled = timeout(self.connect_timeout, self.dial()).await;
        let (mut talk, hello) =
            dialled.unwrap_or_else(|_| Err(self.down("no connection in time")))?;
        self.log_in(&mut talk, &hello).await?;
        Ok((talk, hello))
    }

    async fn dial(&self) -> Result<(Talk, Said), Fault> {
        let stream = TcpStream::connect(self.server.target()).await;
        let stream = stream.map_err(|error| self.silent(error.into()))?;
        let name = match (&self.hello, stream.local_addr().map(|at| at.ip())) {
            (Some(name), _) => name.clone(),
            (None, Ok(std::net::IpAddr::V6(ip))) => format!("[IPv6:{ip}]"),
            (None, Ok(std::net::IpAddr::V4(ip))) => format!("[{ip}]"),
            (None, Err(_)) => "[127.0.0.1]".to_owned(),
        };
        let mut line = Line::new(stream);
        let silent = |silence| self.silent(silence);
        let Some(tls) = &self.tls else {
            let hello = self.greeted(&mut line, &name).await?;
            return Ok((line.boxed(), hello));
        };
        if self.server.implicit {
            let mut line = line.encrypted(tls, &self.server.host).await.map_err(silent)?;
            let hello = self.greeted(&mut line, &name).await?;
            return Ok((line.boxed(), hello));
        }
        let hello = self.greeted(&mut line, &name).await?;
        if hello.extension("STARTTLS").is_none() {
            let note = format!(
                "{}: the server offers no STARTTLS (or somebody between takes it away), and nothing is sent in clear; check {section}.address and {section}.starttls",
                self.server,
                section = self.section
            );
            return Err(Fault::new(Cause::Setup, note));
        }
        self.ask(&mut line, Step::Hello, "STARTTLS", 220).await?;
        let mut line = line.encrypted(tls, &self.server.host).await.map_err(silent)?;
        // What it said in clear may have been said by anybody.
        let hello = self.ask(&mut line, Step::Hello, &format!("EHLO {name}"), 250).await?;
        Ok((line.boxed(), hello))
    }

    async fn greeted<S: Either>(&self, line: &mut Line<S>, name: &str) -> Result<Said, Fault> {
        let greeting = line.hear().await.map_err(|silence| self.silent(silence))?;
        self.expect(Step::Hello, greeting, 220)?;
        self.ask(line, Step::Hello, &format!("EHLO {name}"), 250).await
    }

    async fn log_in(&self, talk: &mut Talk, hello: &Said) -> Result<(), Fault> {
        let Some(Login { user, password }) = &self.login else { return Ok(()) };
        let ways = hello.extension("AUTH").unwrap_or_default().to_ascii_uppercase();
        let has = |way: &str| ways.split_whitespace().any(|known| known == way);
        let said = if has("PLAIN") {
            let pair = STANDARD.encode(format!("\0{user}\0{}", password.expose()));
            talk.ask(&format!("AUTH PLAIN {pair}")).await
        } else if has("LOGIN") {
            self.ask(talk, Step::Login, "AUTH LOGIN", 334).await?;
            self.ask(talk, Step::Login, &STANDARD.encode(user), 334).await?;
            talk.ask(&STANDARD.encode(password.expose())).await
        } else {
            let note = format!(
                "{}: the server offers no login by PLAIN or LOGIN; check {section}.address (another port?), or leave out {section}.user",
                self.server,
                section = self.section
            );
            return Err(Fault::new(Cause::Setup, note));
        };
        let said = said.map_err(|silence| self.silent(silence))?;
        // Its text may be an echo of what was sent.
        self.expect(Step::Login, Said { lines: Vec::new(), ..said }, 235).map(drop)
    }

    async fn ask<S: Either>(
        &self,
        line: &mut Line<S>,
        step: Step,
        command: &str,
        wanted: u16,
    ) -> Result<Said, Fault> {
        let said = line.ask(command).await.map_err(|silence| self.silent(silence))?;
        self.expect(step, said, wanted)
    }

    fn expect(&self, step: Step, said: Said, wanted: u16) -> Result<Said, Fault> {
        if said.code == wanted { Ok(said) } else { Err(self.fault(step, &said)) }
    }

    fn fault(&self, step: Step, said: &Said) -> Fault {
        let Meaning { cause, wait, what, key } = refusal(step, said);
        let advice = key.map(|key| format!("; check {}.{key}", self.section)).unwrap_or_default();
        let note = format!("{}: {}: {what}{advice}", self.server, said.code);
        Fault::new(cause, note).with_reply(said.reply()).with_wait(wait)
    }

    fn silent(&self, silence: Silence) -> Fault {
        let Self { server, section, .. } = self;
        match (silence, &self.tls) {
            (Silence::Strange, _) => Fault::new(
                Cause::Setup,
                format!(
                    "{server}: it does not speak as a mail server does; check {section}.address (the port, and smtp:// or smtps://)"
                ),
            ),
            (Silence::Broken(error), Some(tls)) => {
                let fault = tls.io_fault(&error);
                Fault { note: format!("{server}: {}", fault.note), ..fault }
            }
            (Silence::Broken(error), None) => self.down(&format!("the connection broke: {error}")),
        }
    }

    fn down(&self, what: &str) -> Fault {
        Fault::new(Cause::Down, format!("{}: {what}", self.server))
    }
}

/// Everything is said; a server that does not answer any more has the mail all the same.
async fn quit(talk: &mut Talk) {
    let _ = timeout(GOODBYE, talk.ask("QUIT")).await;
}
