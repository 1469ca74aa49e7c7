//! E-mail, by SMTP.
//!
//! Guarantees: nothing is said in clear unless the settings say so; an event is one mail with a
//! Message-ID of its own, the same however often it is sent; a recipient that the server refuses is told
//! and does not keep the others from theirs; no name can add a header or a recipient. A server says that
//! it has taken a mail, not that anybody has read it.

mod dialog;
mod line;
mod mail;
mod recipients;
mod server;
mod told;

#[cfg(any(test, fuzzing))]
pub(super) use line::Line;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use super::show::{Reading, Shown};
use super::tls::{Tls, Trust};
use super::{Built, Kind, Proof, part};
use crate::core::Timestamp;
use crate::core::config::{OneOrMany, Problem, Problems, Rate, Secret, Section, Span};
use crate::core::route::Shaped;
use crate::core::sink::{Class, Fault, Idempotency, Limits, Outcome, Piece, Probe, Reply, Sink};
use dialog::{Dialog, Handed, Login};
use mail::Letterhead;
use recipients::Recipients;
use server::Server;

/// Largest mail: a page of facts, and the original where that is shown.
const BYTES: usize = 256 << 10;
/// Every server takes so many recipients of one mail (RFC 5321, 4.5.3.1.8).
const RECIPIENTS: usize = 100;
/// Longest prefix, in characters.
const PREFIX: usize = 60;

/// E-mail in the table of sinks.
pub const KIND: Kind = Kind {
    name: "smtp",
    about: "E-mail, by SMTP with STARTTLS or TLS; the mails of an incident stand in one thread",
    sample: r#"[sinks.mail]
type = "smtp"
address = "smtp://{{host}}" # documents: address = "smtp://mail.example:587"
# documents: user = "siemgate"
starttls = false # documents: password = { file = "{{dir}}/mail-password" }
from = "siemgate@example.com"
to = ["soc@example.com", "oncall@example.com"]
"#,
    class: Class::People,
    idempotency: Idempotency::None,
    formats: false,
    proof: Proof::Documented,
    proves: "that the mail server has taken the mail for the recipients that it did not refuse; the receipt names those it did. \
             Whether it arrives shows in the mailbox, or in the server's log under the Message-ID, which begins with the event's id.",
    success: (250, "kept"),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// E-mail. Ask the mail administrators for a server that takes mail from this machine, for a user if it
/// wants one, and for a list as the recipient: a list changes without this file.
///
/// A server that takes its time over each mail (scanning) may need a longer `delivery.timeout`: one that
/// answers later has the mail, and gets it again.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// `"smtp://host:587"`, which becomes encrypted before anything is said (STARTTLS), or
    /// `"smtps://host:465"`, which is encrypted from the first byte; these ports unless given.
    address: Server,
    /// `false` sends in clear to an `smtp://` server without STARTTLS, such as a relay on this machine
    /// (port 25). Otherwise a server that offers none gets nothing, because whoever stands between
    /// could have taken the offer away.
    starttls: Option<bool>,
    /// Who logs in, by PLAIN or LOGIN; nobody unless set.
    user: Option<String>,
    /// The user's password, often one for applications.
    password: Option<Secret>,
    /// The sender's address. Its domain should be one that the server may send for.
    from: String,
    /// Who gets the mails: one address, or a list of at most 100. A recipient that the server refuses
    /// is named in the receipt and does not keep the others from theirs; where it refuses all, the
    /// sink is parked. One whom it puts off (a full mailbox) is waited for once, for a minute.
    #[schemars(with = "OneOrMany<String>")]
    to: OneOrMany<String>,
    /// What every subject begins with, such as `"[SOC] "`.
    #[serde(default)]
    subject_prefix: String,
    /// The name by which the gateway greets the server (EHLO). Its address in brackets unless set,
    /// which is right by RFC 5321; some servers want a name that they can look up.
    hello: Option<String>,
    /// How long connecting may take, encryption and greeting included.
    #[serde(default = "ten_seconds")]
    connect_timeout: Span,
    #[serde(flatten)]
    reading: Reading,
    #[serde(flatten)]
    trust: Trust,
}

fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

struct Smtp {
    dialog: Dialog,
    letterhead: Letterhead,
    recipients: Recipients,
}

fn build(section: &Section) -> Result<Built, Problems> {
    let settings: Settings = super::read(section, &[part::<Trust>, part::<Reading>])?;
    let mut problems = contradictions(section, &settings);
    let tls = match tls(section, &settings) {
        Ok(tls) => tls,
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let login = settings.user.zip(settings.password);
    let dialog = Dialog {
        section: section.key.clone(),
        server: settings.address,
        tls,
        login: login.map(|(user, password)| Login { user, password }),
        hello: settings.hello,
        connect_timeout: settings.connect_timeout.0.max(Duration::from_millis(100)),
    };
    let letterhead = Letterhead {
        from: settings.from,
        to: settings.to.as_slice().to_vec(),
        prefix: settings.subject_prefix,
        shown: Shown::of(Class::People, settings.reading),
    };
    let limits = Limits {
        event_bytes: BYTES,
        batch_events: 1,
        batch_bytes: BYTES,
        // Servers count connections, and a mail is soon said.
        in_flight: 1,
        ordered: false,
    };
    let sink = Smtp { dialog, letterhead, recipients: Recipients::default() };
    let rate = Rate { events: 60, per: Duration::from_secs(60) };
    Ok(Built::new(Arc::new(sink), limits).with_rate(Some(rate)))
}

fn tls(section: &Section, settings: &Settings) -> Result<Option<Tls>, Problems> {
    if settings.address.implicit || settings.starttls.unwrap_or(true) {
        return Tls::build(section, &settings.trust, "address").map(Some);
    }
    match settings.trust.needs_tls() {
        None => Ok(None),
        Some(name) => Err(vec![
            Problem::new(format!("{}.{name}", section.key), "has no meaning without TLS")
                .help("remove it, or starttls = false"),
        ]),
    }
}

/// Settings that cannot hold together, and names that a mail cannot hold.
fn contradictions(section: &Section, settings: &Settings) -> Problems {
    let problem = |name: &str, told: String| Problem::new(format!("{}.{name}", section.key), told);
    let mut problems = Problems::new();
    let to = settings.to.as_slice();
    let addresses = to.iter().map(|address| ("to", address)).chain([("from", &settings.from)]);
    for (name, address) in addresses.filter(|(_, address)| !mail::is_address(address)) {
        let told = problem(name, format!("{address:?} is no mail address"));
        problems.push(told.help("write it like \"soc@example.com\", in ASCII and without a name"));
    }
    if !(1..=RECIPIENTS).contains(&to.len()) {
        problems.push(problem("to", format!("must name 1 to {RECIPIENTS} recipients")));
    }
    if settings.user.is_some() != settings.password.is_some() {
        problems.push(problem("password", "belongs to `user`: set both or none".into()));
    }
    match (settings.address.implicit, settings.starttls) {
        (true, Some(_)) => {
            let told = problem("starttls", "has no meaning for smtps://".into());
            problems.push(told.help("remove it, or write smtp:// in the address"));
        }
        (false, Some(false)) if settings.user.is_some() => {
            let told = problem("starttls", "would send the password in clear".into());
            problems.push(told.help("remove it, or user and password"));
        }
        _ => {}
    }
    let prefix = &settings.subject_prefix;
    if prefix.chars().count() > PREFIX || prefix.contains(char::is_control) {
        let told = format!("must have at most {PREFIX} characters, on one line");
        problems.push(problem("subject_prefix", told));
    }
    let good = |name: &String| {
        (1..=255).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic())
    };
    if settings.hello.as_ref().is_some_and(|name| !good(name)) {
        problems.push(problem("hello", "must be a name in ASCII, without spaces".into()));
    }
    problems
}

impl Smtp {
    /// What became of a mail, for the worker.
    fn outcome(&self, mail: &Piece, places: &[usize], handed: &Handed, now: Timestamp) -> Outcome {
        let whom = |list: &[usize]| list.iter().map(|at| places[*at]).collect::<Vec<_>>();
        let later: Vec<usize> = handed.later.iter().map(|(at, _)| *at).collect();
        // They are fewer when some have it from an earlier attempt.
        let some_have_it = !handed.took.is_empty() || places.len() < self.letterhead.to.len();
        if let (Some(fault), false) = (self.dialog.nobody(handed), some_have_it) {
            return Outcome::Failed(fault);
        }
        let waits = self.recipients.waits(mail.id, &whom(&handed.took), &whom(&later), now);
        match self.dialog.nobody(handed) {
            Some(fault) if waits => Outcome::Failed(fault),
            _ => Outcome::Delivered(self.told(places, handed)),
        }
    }

    /// The reply, with those who did not get the mail.
    fn told(&self, places: &[usize], handed: &Handed) -> Reply {
        let mut reply = handed.reply.clone();
        for (at, said) in handed.never.iter().chain(&handed.later) {
            let to = &self.letterhead.to[places[*at]];
            let _ = write!(reply.excerpt, "; not to {to}: {} {}", said.code, said.text());
        }
        reply.excerpt.truncate(reply.excerpt.floor_char_boundary(Reply::EXCERPT));
        reply
    }
}

#[async_trait]
impl Sink for Smtp {
    fn encode(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault> {
        self.letterhead.write(event, room)
    }

    async fn send(&self, pieces: &[Piece], now: Timestamp) -> Outcome {
        let Some(mail) = pieces.first() else { return Outcome::Delivered(Reply::default()) };
        let Letterhead { from, to, .. } = &self.letterhead;
        let have = self.recipients.have(mail.id);
        let places: Vec<usize> = (0..to.len()).filter(|place| !have.contains(place)).collect();
        let left: Vec<&str> = places.iter().map(|place| &*to[*place]).collect();
        match self.dialog.deliver(from, &left, &mail.bytes).await {
            Ok(handed) => self.outcome(mail, &places, &handed, now),
            Err(fault) => Outcome::Failed(fault),
        }
    }

    async fn probe(&self, _: Timestamp) -> Result<Probe, Fault> {
        let to: Vec<&str> = self.letterhead.to.iter().map(String::as_str).collect();
        let handed = self.dialog.rehearse(&self.letterhead.from, &to).await?;
        match self.dialog.nobody(&handed) {
            None => Ok(Probe::Accepted),
            Some(_) if !handed.took.is_empty() => Ok(Probe::ReachableOnly),
            Some(fault) => Err(fault),
        }
    }

    async fn close(&self, _: Instant) {
        // Every mail has a connection of its own.
    }
}
