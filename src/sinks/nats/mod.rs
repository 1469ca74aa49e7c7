//! NATS JetStream: each event a message on a subject, acknowledged by the stream that stores it.
//!
//! Guarantees: an event is delivered when a stream has acknowledged it (stored by its replicas);
//! every message carries the event's id as `Nats-Msg-Id`, so that one which is sent again within the
//! stream's window is stored once; at most one batch waits for acknowledgements. A cancelled batch
//! takes its connection with it: nothing of it is left anywhere to be sent later.
//!
//! The client protocol is spoken by our own hand (`link.rs`): see the decision in ARCHITECTURE.md.

mod link;
mod login;
mod verdict;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use super::http::Masks;
use super::socket::{Dial, Endpoint, Head, Message as Text, Way};
use super::tls::Trust;
use super::{Built, Kind, Proof, part, tally};
use crate::core::Timestamp;
use crate::core::config::{ByteSize, OneOrMany, Problem, Problems, Secret, Section, Span};
use crate::core::route::Shaped;
use crate::core::sink::{
    Cause, Class, Fault, Idempotency, Limits, Outcome, Piece, Preview, Probe, Reply, Sink,
};
use crate::formats::Named;
use link::{Link, Manner, Message};
use login::{Login, Seed};

/// NATS JetStream in the table of sinks.
pub const KIND: Kind = Kind {
    name: "nats_jetstream",
    about: "NATS JetStream, one message an event, acknowledged by its stream",
    sample: r#"[sinks.stream]
type = "nats_jetstream"
servers = "tcp://{{host}}" # documents: servers = "tls://nats.example:4222"
subject = "security.alerts"
token = { file = "{{dir}}/key" }
"#,
    class: Class::Siem,
    idempotency: Idempotency::Native,
    formats: true,
    proof: Proof::Documented,
    proves: "that a stream has stored the event. Read it back with `nats stream view`. Who consumes the stream, and when, is not known here.",
    success: (0, ""),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// Largest message a server takes unless it is configured otherwise, less room for the headers.
const USUAL: u64 = (1 << 20) - 1_024;
/// The most that a server can be configured to take, less the same.
const MOST: u64 = (64 << 20) - 1_024;
/// The port of NATS.
const PORT: u16 = 4_222;

/// NATS JetStream. A stream must take the subject: create it with `nats stream add`. It recognises
/// what comes again within its `duplicate_window` (two minutes unless set); make that longer than the
/// outages you expect, and events that were stored just before one are not stored twice.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// The servers, one or a list: `"tcp://host:4222"`, or `"tls://host:4222"` for an encrypted
    /// connection; this port unless given. They are tried in this order, beginning with the one that
    /// answered last.
    servers: OneOrMany<Endpoint>,
    /// Where events are published, such as `"security.alerts"`: words with dots, no wildcards.
    subject: String,
    /// The stream that must have them: an event that another stream takes is refused. Any stream
    /// that takes the subject, unless set.
    stream: Option<String>,
    /// The stream's JetStream domain, where that is another than the server's own (behind a leaf node).
    domain: Option<String>,
    /// The user, with `password`.
    user: Option<String>,
    /// The user's password.
    password: Option<Secret>,
    /// A token, for servers that ask for one instead of a user.
    token: Option<Secret>,
    /// The seed of an nkey, beginning with `SU`.
    nkey: Option<Secret>,
    /// A whole file of credentials, as `nsc` writes it: `{ file = "/path/gateway.creds" }`.
    credentials: Option<Secret>,
    /// Encrypt before the server has greeted; set it where the server has `handshake_first`.
    #[serde(default)]
    tls_first: bool,
    /// How long connecting to one server may take.
    #[serde(default = "five_seconds")]
    connect_timeout: Span,
    /// How the event is written, unless its route says so.
    #[serde(default)]
    format: Named,
    /// Longest message, headers not included; 1 MiB less 1 KiB unless set, which fits into a server's
    /// usual `max_payload`. Longer ones are shortened as in `syslog`.
    max_bytes: Option<ByteSize>,
    #[serde(flatten)]
    trust: Trust,
}

fn five_seconds() -> Span {
    Span(Duration::from_secs(5))
}

fn build(section: &Section) -> Result<Built, Problems> {
    let settings: Settings = super::read(section, &[part::<Trust>])?;
    let key = |name: &str| format!("{}.{name}", section.key);
    let mut problems = Problems::new();
    let names = [
        ("subject", Some(&settings.subject), true),
        ("stream", settings.stream.as_ref(), false),
        ("domain", settings.domain.as_ref(), false),
    ];
    for (name, value, dots) in names {
        if value.is_some_and(|value| !is_name(value, dots)) {
            let told = Problem::new(key(name), "is no name that NATS takes");
            problems.push(told.help("write printable ASCII without spaces, `*` and `>`; only a subject has dots, between words"));
        }
    }
    let size = settings.max_bytes.map_or(USUAL, |size| size.0);
    if !(256..=MOST).contains(&size) {
        let told = format!("must be 256 to {}", ByteSize(MOST));
        problems.push(Problem::new(key("max_bytes"), told));
    }
    let servers = settings.servers.as_slice().iter().map(|server| server.clone().or_port(PORT));
    let servers: Vec<Endpoint> = servers.collect();
    let encrypted = servers.iter().all(|server| server.way == Way::Tls);
    if settings.tls_first && !encrypted {
        let told = Problem::new(key("tls_first"), "has no meaning without TLS");
        problems.push(told.help("write tls:// in servers, or remove it"));
    }
    let (trust, patience) = (&settings.trust, settings.connect_timeout.0);
    let dial = Dial::build(section, "servers", servers, trust, patience);
    let login = login(section, &settings);
    problems.extend(dial.as_ref().err().into_iter().flatten().cloned());
    problems.extend(login.as_ref().err().cloned());
    let (Ok(dial), Ok(login), true) = (dial, login, problems.is_empty()) else {
        return Err(problems);
    };
    let secrets = [&settings.password, &settings.token, &settings.nkey, &settings.credentials];
    let masks = Masks::new(secrets.into_iter().flatten().map(Secret::expose));
    let max_bytes = usize::try_from(size).unwrap_or(usize::MAX);
    let limits = Limits {
        event_bytes: max_bytes,
        // Acknowledgements of so many fit into a socket's buffers while we still write.
        batch_events: 256,
        batch_bytes: max_bytes.max(1 << 20),
        in_flight: 1,
        ordered: false,
    };
    let (format, text) = (settings.format.0, Head::Plain);
    let text = Text { head: text, format, framing: None, max_bytes };
    let api = settings.domain.map_or_else(|| "$JS.API".into(), |name| format!("$JS.{name}.API"));
    let sink = JetStream {
        section: section.key.clone(),
        dial,
        login,
        masks,
        tls_first: settings.tls_first,
        subject: settings.subject,
        stream: settings.stream,
        api,
        text,
        state: Mutex::default(),
    };
    Ok(Built::new(Arc::new(sink), limits))
}

/// Words of a subject, or one alone.
fn is_name(text: &str, dots: bool) -> bool {
    let good = |c: char| c.is_ascii_graphic() && !matches!(c, '*' | '>' | '.' | '/' | '\\');
    let mut words = text.split('.');
    let all = words.all(|word| !word.is_empty() && word.chars().all(good));
    all && text.len() <= 255 && (dots || !text.contains('.')) && !text.starts_with('$')
}

fn login(section: &Section, settings: &Settings) -> Result<Login, Problem> {
    let told = |name: &str, message: String, help: &str| {
        Err(Problem::new(format!("{}.{name}", section.key), message).help(help))
    };
    let ways = [
        ("user", settings.user.is_some() || settings.password.is_some()),
        ("token", settings.token.is_some()),
        ("nkey", settings.nkey.is_some()),
        ("credentials", settings.credentials.is_some()),
    ];
    let mut set = ways.into_iter().filter(|(_, set)| *set).map(|(name, _)| name);
    let (way, second) = (set.next(), set.next());
    if let (Some(way), Some(second)) = (way, second) {
        return told(
            second,
            format!("cannot stand beside {way}"),
            "keep the one that the server asks for",
        );
    }
    let Settings { user, password, token, nkey, credentials, .. } = settings;
    let read = |name, read: Result<Login, String>| {
        read.or_else(|message| told(name, message, "put the right one into the secret"))
    };
    match (user, password, token, nkey, credentials) {
        (Some(user), Some(password), ..) => Ok(Login::Password(user.clone(), password.clone())),
        (Some(_), None, ..) => told("user", "needs password".into(), "add the user's password"),
        (None, Some(_), ..) => told("password", "needs user".into(), "add the user's name"),
        (_, _, Some(token), ..) => Ok(Login::Token(token.clone())),
        (_, _, _, Some(seed), _) => {
            read("nkey", Seed::read(seed.expose()).map(|seed| Login::Key(Box::new(seed))))
        }
        (.., Some(file)) => read("credentials", Login::credentials(file.expose())),
        _ => Ok(Login::Nobody),
    }
}

/// The connection, and which server it leads to.
#[derive(Default)]
struct State {
    link: Option<Link>,
    server: usize,
}

struct JetStream {
    section: String,
    dial: Dial,
    login: Login,
    masks: Masks,
    tls_first: bool,
    subject: String,
    stream: Option<String>,
    /// Where JetStream is asked.
    api: String,
    text: Text,
    state: Mutex<State>,
}

impl JetStream {
    /// The connection, taken out of its place: whoever is cancelled does not put it back.
    async fn link(&self, state: &mut MutexGuard<'_, State>) -> Result<Link, Fault> {
        if let Some(mut link) = state.link.take()
            && link.is_good(&self.dial).await
        {
            return Ok(link);
        }
        let servers = &self.dial.servers;
        let mut failed: Option<Fault> = None;
        for turn in 0..servers.len() {
            let at = (state.server + turn) % servers.len();
            let server = &servers[at];
            let open = Link::open(&self.dial, server, &self.login, self.tls_first, &self.section);
            match self.dial.in_time(server, open).await {
                Ok(link) => {
                    state.server = at;
                    return Ok(link);
                }
                // What a setting is to blame for is told before what may pass.
                Err(fault) if failed.as_ref().is_none_or(|it| it.cause != Cause::Setup) => {
                    failed = Some(fault);
                }
                Err(_) => {}
            }
        }
        let none = || Fault::new(Cause::Setup, format!("{}.servers is empty", self.section));
        Err(self.clean(failed.unwrap_or_else(none)))
    }

    /// What a server said may repeat what it was told.
    fn clean(&self, fault: Fault) -> Fault {
        Fault { note: self.masks.clean(&fault.note), ..fault }
    }

    async fn published(&self, pieces: &[Piece]) -> Result<Outcome, Fault> {
        let mut state = self.state.lock().await;
        let mut link = self.link(&mut state).await?;
        let message = |piece: &Piece| Message { id: piece.id, payload: piece.bytes.clone() };
        let messages: Vec<Message> = pieces.iter().map(message).collect();
        let manner = Manner { subject: &self.subject, stream: self.stream.as_deref() };
        let answers = link.publish(&self.dial, &manner, &messages).await;
        if !link.is_leaving() {
            state.link = Some(link);
        }
        let (mut reply, mut known, mut faults) = (Reply::default(), 0, Vec::new());
        for answer in answers {
            match answer.and_then(|payload| verdict::acknowledged(&payload, &self.section)) {
                Ok(ack) => {
                    known += usize::from(ack.duplicate);
                    reply.id = Some(format!("{}/{}", ack.stream, ack.seq));
                    faults.push(None);
                }
                Err(fault) => faults.push(Some(self.clean(fault))),
            }
        }
        if known > 0 {
            reply.excerpt = format!("of these, so many had been stored before: {known}");
        }
        Ok(tally(reply, faults))
    }

    async fn asked(&self) -> Result<Probe, Fault> {
        let mut state = self.state.lock().await;
        let mut link = self.link(&mut state).await?;
        let question = json!({ "subject": self.subject }).to_string();
        let subject = format!("{}.STREAM.NAMES", self.api);
        let answer = link.ask(&self.dial, &subject, question.as_bytes()).await;
        state.link = Some(link).filter(|link| !link.is_leaving());
        drop(state);
        // Who may publish need not be allowed to ask, so only an answer proves something.
        let Ok(answer) = answer else { return Ok(Probe::ReachableOnly) };
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let Some(streams) = answer.get("total").and(answer.get("streams")) else {
            return Ok(Probe::ReachableOnly);
        };
        let names = streams.as_array().map(Vec::as_slice).unwrap_or_default();
        match names.iter().any(|name| self.stream.as_deref().is_none_or(|want| name == want)) {
            true => Ok(Probe::Accepted),
            false => Err(verdict::no_stream(&self.section)),
        }
    }
}

#[async_trait]
impl Sink for JetStream {
    fn encode(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault> {
        self.text.write(event, room)
    }

    async fn send(&self, pieces: &[Piece], _: Timestamp) -> Outcome {
        self.published(pieces).await.unwrap_or_else(Outcome::Failed)
    }

    fn preview(&self, pieces: &[Piece]) -> Option<Preview> {
        let id = |piece: &Piece| ("Nats-Msg-Id".to_owned(), piece.id.to_string());
        let stream =
            self.stream.iter().map(|name| ("Nats-Expected-Stream".to_owned(), name.clone()));
        Some(Preview {
            method: format!("publish {}", self.subject),
            url: self.dial.servers.first().map(ToString::to_string).unwrap_or_default(),
            headers: pieces.iter().map(id).chain(stream).collect(),
            body: super::joined(pieces),
            body_masked: false,
        })
    }

    async fn probe(&self, _: Timestamp) -> Result<Probe, Fault> {
        self.asked().await
    }

    async fn close(&self, deadline: Instant) {
        // Whatever was acknowledged is stored, and nothing else is anywhere.
        if let Ok(mut state) = tokio::time::timeout_at(deadline.into(), self.state.lock()).await {
            state.link = None;
        }
    }
}
