//! Amazon's services: what those that take events have in common.
//!
//! Guarantees: requests are signed (Signature Version 4); the vendor's limits are kept before anything
//! is sent, counting never less than the service does; where an answer names pieces, exactly those
//! that were not taken are at fault; a code means the same for all services (`codes.rs`). Credentials
//! are settings: no metadata or token service is asked, and no profile is read.

pub mod cloudwatch_logs;
pub mod codes;
pub mod s3;
pub mod security_hub;
pub mod sns;
pub mod sqs;

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::auth::{Auth, Sigv4};
use super::http::{Address, Answer, ApiSink, Connection, Http, HttpApi, Request};
use super::tls::Trust;
use super::{Built, part};
use crate::core::Timestamp;
use crate::core::config::{Problem, Problems, Secret, Section};
use crate::core::route::{Format, Shaped};
use crate::core::sink::{Cause, Fault, Limits, Outcome, Piece, Reply};

/// Attempts at making a text fit before it is given up.
const TRIES: usize = 8;

/// Who sends, and where to: keys of every sink of AWS.
#[derive(Deserialize, JsonSchema)]
struct Account {
    /// The region, such as `eu-central-1`.
    region: String,
    /// The access key's id.
    access_key: Secret,
    /// The secret access key.
    secret_key: Secret,
    /// The session token, where the keys are temporary. Whatever renews them (a timer with `aws sts
    /// assume-role`, say) writes the three files and runs `siemgate reload`: the gateway asks no
    /// metadata service.
    session_token: Option<Secret>,
    /// The service's address, for private endpoints, FIPS and products that speak its protocol. That
    /// of the region unless set.
    url: Option<Address>,
}

/// Read settings that include a flattened [`Account`] and [`Connection`].
fn read<T: DeserializeOwned + JsonSchema>(section: &Section) -> Result<T, Problems> {
    super::read(section, &[part::<Trust>, part::<Connection>, part::<Account>])
}

impl Account {
    /// AWS's name for the part of the world that the region is in.
    fn partition(&self) -> &'static str {
        match () {
            () if self.region.starts_with("cn-") => "aws-cn",
            () if self.region.starts_with("us-gov-") => "aws-us-gov",
            () => "aws",
        }
    }

    /// The address of `host` (a service, or something of it) in the region.
    fn regional(&self, host: &str) -> Option<Address> {
        let domain = if self.region.starts_with("cn-") { "com.cn" } else { "com" };
        let url = format!("https://{host}.{}.amazonaws.{domain}", self.region);
        serde_json::from_value(url.into()).ok()
    }

    fn mistakes(&self, section: &Section) -> Problems {
        let key = |name: &str| format!("{}.{name}", section.key);
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let mut problems = Problems::new();
        if self.region.is_empty() || !self.region.chars().all(plain) {
            let problem = Problem::new(key("region"), "is no region");
            problems.push(problem.help("such as eu-central-1"));
        }
        let named = [
            ("access_key", Some(&self.access_key)),
            ("session_token", self.session_token.as_ref()),
        ];
        for (name, secret) in named {
            if secret.is_some_and(|secret| HeaderValue::from_str(secret.expose()).is_err()) {
                let problem = Problem::new(key(name), "cannot stand in a header");
                problems.push(problem.help("was the wrong file named?"));
            }
        }
        problems
    }

    /// A client of the service that signs as `service`, at `to`.
    fn open(
        &self,
        section: &Section,
        connection: &Connection,
        service: &str,
        to: &Address,
    ) -> Result<(Http, Auth), Problems> {
        let secrets: Vec<&Secret> =
            [&self.access_key, &self.secret_key].into_iter().chain(&self.session_token).collect();
        let http = Http::build(section, "secret_key", connection, to, &secrets)?;
        let auth = Auth::Sigv4(Sigv4 {
            service: service.to_owned(),
            region: self.region.clone(),
            access_key: self.access_key.expose().to_owned(),
            secret_key: self.secret_key.expose().into(),
            session_token: self.session_token.as_ref().map(|token| token.expose().into()),
        });
        Ok((http, auth))
    }
}

/// One service's way of taking events: pure functions.
trait Intake: Send + Sync + 'static {
    /// One event in its form, in at most `room` bytes.
    fn encode(&self, event: &Shaped, room: usize) -> Option<Bytes>;

    /// Several as one request; without a time for whoever only wants to see it.
    fn request(&self, pieces: &[Piece], now: Option<Timestamp>) -> Request;

    /// What an answer with a success status says; `None` where it is not the service's.
    fn taken(&self, answer: &Answer, pieces: &[Piece]) -> Option<Taken>;

    /// A refusal that means: there already.
    fn is_there(&self, answer: &Answer) -> bool {
        let _ = answer;
        false
    }
}

/// What a service says of a batch.
#[derive(Debug, Default)]
struct Taken {
    /// Its own id for the first piece.
    id: Option<String>,
    /// Of how many pieces it tells, good or bad.
    told: usize,
    /// How many of them it did not take.
    failed: usize,
    /// Why it did not take which.
    faults: Vec<(usize, Fault)>,
}

/// A service, ready.
struct Aws<I> {
    intake: I,
    auth: Auth,
    section: String,
}

fn built<I: Intake>(
    section: &Section,
    (http, auth): (Http, Auth),
    intake: I,
    limits: Limits,
) -> Built {
    let api = Aws { intake, auth, section: section.key.clone() };
    Built::new(Arc::new(ApiSink::new(http, api)), limits)
}

impl<I: Intake> HttpApi for Aws<I> {
    fn encode(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault> {
        self.intake.encode(event, room).ok_or_else(|| {
            let bytes = event.body.len();
            let note = format!("the event has {bytes} bytes and cannot be made to fit into {room}");
            Fault::new(Cause::TooLarge, note)
        })
    }

    fn request(&self, pieces: &[Piece]) -> Request {
        self.intake.request(pieces, None)
    }

    fn request_at(&self, pieces: &[Piece], now: Timestamp) -> Request {
        self.intake.request(pieces, Some(now))
    }

    fn judged(&self, answer: &Answer, verdict: Result<Reply, Fault>, pieces: &[Piece]) -> Outcome {
        match verdict {
            Err(_) if self.intake.is_there(answer) => Outcome::Delivered(answer.reply()),
            // A web page with a good status is nobody's code.
            Err(fault) if answer.status < 300 => Outcome::Failed(fault),
            Err(fault) => Outcome::Failed(codes::corrected(answer, fault, &self.section)),
            Ok(reply) => match self.intake.taken(answer, pieces) {
                Some(taken) => outcome(taken, reply, pieces.len()),
                None => Outcome::Failed(self.strange(answer).with_reply(reply)),
            },
        }
    }

    fn auth(&self) -> &Auth {
        &self.auth
    }

    fn probe(&self) -> Request {
        // Whoever may write may often do nothing else, so only the way is tried.
        let request = self.intake.request(&[], None);
        Request { method: Method::OPTIONS, body: Bytes::new(), ..request }
    }
}

impl<I> Aws<I> {
    fn strange(&self, answer: &Answer) -> Fault {
        let section = &self.section;
        let note = format!(
            "{}: the reply is not this service's, so something else answered (a proxy, a portal); check {section}.url and {section}.proxy",
            answer.status
        );
        Fault::new(Cause::Setup, note)
    }
}

/// What became of a batch of `sent`.
fn outcome(taken: Taken, reply: Reply, sent: usize) -> Outcome {
    let Taken { id, told, failed, faults } = taken;
    let accepted = Some(sent.saturating_sub(failed.max(faults.len())) as u64);
    let reply = Reply { id: id.map(|id| id.chars().take(200).collect()), accepted, ..reply };
    if faults.len() < failed {
        // The worker finds out by sending fewer.
        let note = format!("it did not take {failed} of {sent} and does not say which");
        return Outcome::Failed(Fault::new(Cause::Refused, note).with_reply(reply));
    }
    if told < sent {
        let note = format!("the reply has results for {told} of {sent}");
        return Outcome::Failed(Fault::new(Cause::Down, note).with_reply(reply));
    }
    let about_events = |fault: &Fault| matches!(fault.cause, Cause::Refused | Cause::TooLarge);
    let all = faults.len() == sent && !faults.iter().any(|(_, fault)| about_events(fault));
    match faults.first() {
        None => Outcome::Delivered(reply),
        // All for one reason that is not the events': the batch as a whole.
        Some((_, first)) if all => Outcome::Failed(first.clone().with_reply(reply)),
        Some(_) => Outcome::Partly { reply, faults },
    }
}

/// A call of a service that speaks JSON.
fn call(url: &Url, version: &str, target: &'static str, body: Bytes) -> Request {
    let kind = format!("application/x-amz-json-{version}");
    let mut headers = HeaderMap::new();
    headers.extend(HeaderValue::from_str(&kind).ok().map(|kind| (CONTENT_TYPE, kind)));
    headers.insert(HeaderName::from_static("x-amz-target"), HeaderValue::from_static(target));
    Request { method: Method::POST, url: url.clone(), headers, body }
}

/// `before`, the pieces with commas between them, `after`.
fn listed(before: &str, pieces: &[Piece], after: &str) -> Bytes {
    let mut body = before.as_bytes().to_vec();
    for (index, piece) in pieces.iter().enumerate() {
        body.extend_from_slice(if index > 0 { b"," } else { b"" });
        body.extend_from_slice(&piece.bytes);
    }
    body.extend_from_slice(after.as_bytes());
    body.into()
}

/// An answer as JSON.
fn json(answer: &Answer) -> Option<Value> {
    // Lossy, because a proxy's page may be in any encoding and JSON's syntax is ASCII.
    serde_json::from_str(&String::from_utf8_lossy(&answer.body)).ok()
}

/// The piece with this id.
fn piece_of(pieces: &[Piece], id: &str) -> Option<usize> {
    pieces.iter().position(|piece| piece.id.to_string() == id)
}

/// `event` as a text in the piece that `write` makes of it; the format shortens until that fits.
fn text(
    event: &Shaped,
    own: &'static Format,
    room: usize,
    write: impl Fn(&str) -> Vec<u8>,
) -> Option<Bytes> {
    let format = event.format.unwrap_or(own);
    let mut wanted = room;
    for _ in 0..TRIES {
        let line = (format.write)(event, wanted)?;
        let piece = write(&String::from_utf8_lossy(&line));
        if piece.len() <= room {
            return Some(piece.into());
        }
        // Quoted and in its place a text is longer than it is.
        let over = piece.len() - room;
        wanted = line.len().checked_sub(over / 2 + over / 8 + 16)?;
    }
    None
}

/// `text` without what XML 1.0 cannot hold, which SQS and SNS refuse: written as JSON escapes it.
fn xml_safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' | '\n' | '\r' => out.push(c),
            '\0'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)))
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn faults(causes: &[Cause]) -> Vec<(usize, Fault)> {
        causes.iter().map(|cause| Fault::new(*cause, "why")).enumerate().collect()
    }

    #[test]
    fn a_batch_that_failed_for_one_outer_reason_failed_as_a_whole() {
        let of = |causes: &[Cause], sent| {
            let faults = faults(causes);
            let taken = Taken { id: None, told: sent, failed: faults.len(), faults };
            outcome(taken, Reply::default(), sent)
        };
        assert!(matches!(of(&[], 2), Outcome::Delivered(_)));
        assert!(
            matches!(of(&[Cause::Busy, Cause::Busy], 2), Outcome::Failed(f) if f.cause == Cause::Busy)
        );
        assert!(
            matches!(of(&[Cause::Busy], 2), Outcome::Partly { faults, .. } if faults.len() == 1)
        );
        assert!(
            matches!(of(&[Cause::Refused, Cause::Busy], 2), Outcome::Partly { faults, .. } if faults.len() == 2)
        );
    }

    #[test]
    fn nothing_is_delivered_that_the_answer_does_not_tell_of() {
        let of = |told, failed| {
            let taken = Taken { told, failed, ..Taken::default() };
            outcome(taken, Reply::default(), 3)
        };
        assert!(matches!(of(3, 0), Outcome::Delivered(_)));
        assert!(matches!(of(2, 0), Outcome::Failed(fault) if fault.cause == Cause::Down));
        assert!(matches!(of(3, 1), Outcome::Failed(fault) if fault.cause == Cause::Refused));
    }

    proptest! {
        #[test]
        fn what_xml_cannot_hold_is_escaped_and_json_stays_the_same(text in any::<String>()) {
            let json = Value::from(text).to_string();
            let safe = xml_safe(&json);
            let is_xml = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
            prop_assert!(safe.chars().all(is_xml));
            prop_assert_eq!(serde_json::from_str::<Value>(&safe).unwrap(), serde_json::from_str::<Value>(&json).unwrap());
        }
    }
}
