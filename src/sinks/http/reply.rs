//! A destination's answer, read up to a limit and cleaned for people.
//!
//! Guarantees: at most [`LIMIT`] bytes of a body are held; an excerpt has at most `Reply::EXCERPT`
//! bytes, no control characters and none of the sink's secrets; nor has an id or a note. It does not judge: see `verdict.rs`.

use bytes::{Bytes, BytesMut};
use jiff::fmt::rfc2822;
use reqwest::Response;
use reqwest::header::HeaderMap;

use crate::core::Timestamp;
use crate::core::sink::{Fault, Outcome, Reply};

/// Most bytes read of a reply. Longer ones are cut, and their connection is not used again. A list
/// with a result for each of a thousand events fits.
pub const LIMIT: usize = 1 << 20;
/// Shorter secrets are not looked for in notes: these are our own words, too, and would become
/// unreadable.
const LEAST: usize = 8;
/// So many bytes of a secret at the end of a quotation are taken for one that was cut.
const HEAD: usize = 4;
/// Most bytes of a reply that an excerpt is made of.
const LOOKED_AT: usize = 16 * 1024;

/// What came back.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, at most `LIMIT` bytes. May echo secrets: show `excerpt` instead.
    pub body: Bytes,
    /// The clean beginning of the body.
    pub excerpt: String,
}

impl Answer {
    /// Read a response.
    ///
    /// A body that breaks off matters only where the body decides: an error status stands anyway.
    pub async fn read(mut response: Response, masks: &Masks) -> Result<Self, reqwest::Error> {
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let (body, broken) = body(&mut response).await;
        match broken {
            Some(error) if status.is_success() => Err(error),
            _ => {
                let excerpt = masks.excerpt(&body);
                Ok(Self { status: status.as_u16(), headers, body, excerpt })
            }
        }
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The time by the destination's clock.
    pub fn date(&self) -> Option<Timestamp> {
        rfc2822::parse(self.header("date")?).ok().map(|time| time.timestamp())
    }

    /// What is kept of it in receipts and dead letters.
    pub fn reply(&self) -> Reply {
        Reply { status: Some(self.status), excerpt: self.excerpt.clone(), ..Reply::default() }
    }
}

async fn body(response: &mut Response) -> (Bytes, Option<reqwest::Error>) {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = LIMIT - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() >= room {
                    return (body.freeze(), None);
                }
            }
            Ok(None) => return (body.freeze(), None),
            Err(error) => return (body.freeze(), Some(error)),
        }
    }
}

/// The texts that must not appear in anything people see.
pub struct Masks(Vec<String>);

impl Masks {
    /// Masks for `secrets`, also as they look inside a JSON string.
    pub fn new<'s>(secrets: impl Iterator<Item = &'s str>) -> Self {
        let mut masks: Vec<String> = Vec::new();
        for secret in secrets.filter(|secret| !secret.is_empty()) {
            let quoted = serde_json::Value::from(secret).to_string();
            masks.push(quoted[1..quoted.len() - 1].to_owned());
            masks.push(secret.to_owned());
        }
        // Longest first: a short one inside a long one would leave the rest of it standing.
        masks.sort_by_key(|mask| std::cmp::Reverse(mask.len()));
        masks.dedup();
        Self(masks)
    }

    /// `text` with every secret replaced.
    pub fn clean(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, mask| match text.contains(mask.as_str()) {
            true => text.replace(mask.as_str(), "***"),
            false => text,
        })
    }

    /// The beginning of `body` as one clean line.
    pub fn excerpt(&self, body: &[u8]) -> String {
        let text = self.clean(&String::from_utf8_lossy(self.whole(body)));
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text[..text.floor_char_boundary(Reply::EXCERPT)].to_owned()
    }

    /// The same outcome where a reply's own id, or a note that quotes one, cannot show a secret that
    /// the destination echoed.
    pub fn outcome(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Delivered(reply) => Outcome::Delivered(self.reply(reply)),
            Outcome::Failed(fault) => Outcome::Failed(self.fault(fault)),
            Outcome::Partly { reply, faults } => Outcome::Partly {
                reply: self.reply(reply),
                faults: faults.into_iter().map(|(at, fault)| (at, self.fault(fault))).collect(),
            },
        }
    }

    fn reply(&self, reply: Reply) -> Reply {
        Reply { id: reply.id.map(|id| self.quoted(&id, 1)), ..reply }
    }

    fn fault(&self, fault: Fault) -> Fault {
        let (note, reply) =
            (self.quoted(&fault.note, LEAST), fault.reply.map(|reply| self.reply(reply)));
        Fault { note, reply, ..fault }
    }

    /// `text` that quotes a reply, perhaps cut in the middle of a secret, without secrets of `least`
    /// bytes and more.
    fn quoted(&self, text: &str, least: usize) -> String {
        let masks = || self.0.iter().filter(|mask| mask.len() >= least);
        let text = masks().fold(text.to_owned(), |text, mask| text.replace(mask.as_str(), "***"));
        let whole = text.trim_end_matches('…');
        let head_at = |mask: &String| {
            let heads = mask.char_indices().map(|(at, _)| at).filter(|at| *at >= HEAD);
            let longest = heads.filter(|at| whole.ends_with(&mask[..*at])).max();
            longest.map(|length| whole.len() - length)
        };
        match masks().filter_map(head_at).min() {
            Some(at) => format!("{}***", &whole[..at]),
            None => text,
        }
    }

    /// A secret that was cut would not be recognised: drop what may be the head of one.
    fn whole<'b>(&self, body: &'b [u8]) -> &'b [u8] {
        let longest = self.0.first().map_or(0, String::len);
        match body.len() < LOOKED_AT {
            true => body,
            false => &body[..LOOKED_AT.saturating_sub(longest)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn echoed_secrets_are_masked_in_every_spelling() {
        let masks = Masks::new(["k\"ey-1", "ey-1-longer"].into_iter());
        let text = masks.excerpt(b"got k\"ey-1, k\\\"ey-1 and ey-1-longer\r\n\x1b[31m");
        assert_eq!(text, "got ***, *** and ***   [31m");
    }

    #[test]
    fn what_quotes_a_reply_shows_no_secret_and_no_head_of_one() {
        let masks = Masks::new(["long-secret"].into_iter());
        let reply = Reply { id: Some("id-long-secret".into()), ..Reply::default() };
        let fault = |note: &str| Fault::new(crate::core::sink::Cause::Refused, note);
        let faults = vec![(0, fault("said long-sec…")), (1, fault("a long way"))];
        let Outcome::Partly { reply, faults } = masks.outcome(Outcome::Partly { reply, faults })
        else {
            panic!("another outcome")
        };
        assert_eq!(reply.id.as_deref(), Some("id-***"));
        let notes: Vec<&str> = faults.iter().map(|(_, fault)| &*fault.note).collect();
        assert_eq!(notes, ["said ***", "a long way"]);
    }

    proptest! {
        #[test]
        fn excerpts_are_short_and_clean(body in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let excerpt = Masks::new(["secret"].into_iter()).excerpt(&body);
            prop_assert!(excerpt.len() <= Reply::EXCERPT && !excerpt.chars().any(char::is_control));
        }

        #[test]
        fn a_secret_never_survives_the_cut(before in LOOKED_AT - 40..LOOKED_AT, key in "[a-z]{20,30}") {
            let body = format!("{}{key}{}", key.repeat(before / key.len()), "x".repeat(100));
            let excerpt = Masks::new([key.as_str()].into_iter()).excerpt(body.as_bytes());
            prop_assert!(!excerpt.contains(&key[..8]));
        }
    }
}
