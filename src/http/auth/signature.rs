//! Signatures: HMAC-SHA256 over a body as it was sent, and what else a scheme signs with it.
//!
//! Guarantees: compared in constant time, every secret with every signature that came; the body is
//! fed as it arrives and never kept for this; a good signature with a time that is off is told
//! apart from a bad one. It parses no body and refuses nobody: see `mod.rs`.

use actix_web::http::header::HeaderMap;
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::core::Timestamp;
use crate::core::config::{Encoding, Secret, Secrets};

/// Most signatures looked at in one header.
const MOST: usize = 8;
/// What `tolerance` may be at most. A request is then believed for ten minutes in all, and so long
/// are keys of duplicates kept: one that is sent again finds its first.
pub(super) const TOLERANCE: i64 = 300;

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How a sender signs.
#[derive(Debug)]
pub(super) enum Scheme {
    /// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>
    StandardWebhooks(Secrets),
    Hmac(Form),
}

/// A signature in one header, as configured.
#[derive(Debug)]
pub(super) struct Form {
    pub secrets: Secrets,
    pub header: String,
    /// `None`: `sha256=`, if it is there.
    pub prefix: Option<String>,
    pub encoding: Encoding,
    pub timestamp: Option<Stamp>,
    /// What is signed before the body and after it; with `{timestamp}` in it.
    pub around: (String, String),
}

/// Where the time of sending stands, and how far it may be off.
#[derive(Debug)]
pub(super) struct Stamp {
    pub header: String,
    pub tolerance: i64,
}

/// What a good signature proves beside its sender.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Names this request: a second one with the same key is the same request again.
    pub key: Option<Vec<u8>>,
}

/// What is wrong with a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is none of ours.
    Signature,
    /// It is good, but was made so many seconds before (after, if negative) our time.
    Late(i64),
}

/// A check under way: the body is fed as it arrives.
pub struct Check {
    macs: Vec<Hmac<Sha256>>,
    given: Vec<Vec<u8>>,
    after: Vec<u8>,
    /// Our time minus the sender's, if that is too much.
    off: Option<i64>,
    key: Key,
}

/// What names the request.
enum Key {
    None,
    Id(Vec<u8>),
    Signature,
}

impl Scheme {
    /// Begin to check a request that has something to check.
    pub fn begin(&self, headers: &HeaderMap, now: Timestamp) -> Option<Check> {
        match self {
            Self::StandardWebhooks(secrets) => standard(secrets, headers, now),
            Self::Hmac(form) => form.begin(headers, now),
        }
    }

    /// The headers that the signature needs.
    pub fn headers(&self) -> String {
        match self {
            Self::StandardWebhooks(_) => {
                "webhook-id, webhook-timestamp and webhook-signature".to_owned()
            }
            Self::Hmac(form) => match &form.timestamp {
                Some(stamp) => format!("{} and {}", form.header, stamp.header),
                None => form.header.clone(),
            },
        }
    }

    /// The headers with which `body` is accepted, for our own test events.
    pub fn sign(&self, body: &[u8], id: &str, now: Timestamp) -> Option<Vec<(String, String)>> {
        let seconds = now.as_second().to_string();
        match self {
            Self::StandardWebhooks(secrets) => {
                let key = standard_key(secrets.first()?)?;
                let mac = mac(&key, format!("{id}.{seconds}.").as_bytes())?;
                let signature = format!("v1,{}", BASE64.encode(finished(mac, body, b"")));
                let headers = [
                    ("webhook-id", id),
                    ("webhook-timestamp", &seconds),
                    ("webhook-signature", &signature),
                ];
                Some(headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
            }
            Self::Hmac(form) => {
                let (before, after) = form.around_with(&seconds);
                let mac = mac(form.secrets.first()?.expose().as_bytes(), before.as_bytes())?;
                let bytes = finished(mac, body, after.as_bytes());
                let written = match form.encoding {
                    Encoding::Hex => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                    Encoding::Base64 => BASE64.encode(bytes),
                };
                let prefix = form.prefix.as_deref().unwrap_or("sha256=");
                let mut headers = vec![(form.header.clone(), format!("{prefix}{written}"))];
                headers.extend(
                    form.timestamp.iter().map(|stamp| (stamp.header.clone(), seconds.clone())),
                );
                Some(headers)
            }
        }
    }
}

fn standard(secrets: &Secrets, headers: &HeaderMap, now: Timestamp) -> Option<Check> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let (id, time) = (text("webhook-id")?, text("webhook-timestamp")?);
    let signatures = text("webhook-signature")?.split(' ').take(MOST);
    let given: Vec<_> = signatures
        .filter_map(|signature| BASE64.decode(signature.strip_prefix("v1,")?).ok())
        .collect();
    let before = format!("{id}.{time}.");
    let keys = secrets.iter().filter_map(standard_key);
    let macs = keys.filter_map(|key| mac(&key, before.as_bytes())).collect();
    let off = off(seconds(time)?, TOLERANCE, now);
    Some(Check { macs, given, after: Vec::new(), off, key: Key::Id(id.into()) })
}

/// The key in a secret of Standard Webhooks.
pub(super) fn standard_key(secret: &Secret) -> Option<Vec<u8>> {
    let text = secret.expose();
    let key = BASE64.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok()?;
    (!key.is_empty()).then_some(key)
}

impl Form {
    fn begin(&self, headers: &HeaderMap, now: Timestamp) -> Option<Check> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let value = text(&self.header)?.trim();
        let signature = match &self.prefix {
            Some(prefix) => value.strip_prefix(prefix.as_str())?,
            None => value.strip_prefix("sha256=").unwrap_or(value),
        };
        let given = match self.encoding {
            Encoding::Hex => unhex(signature)?,
            Encoding::Base64 => BASE64.decode(signature).ok()?,
        };
        let (mut off_by, mut time) = (None, "");
        if let Some(stamp) = &self.timestamp {
            time = text(&stamp.header)?.trim();
            off_by = off(seconds(time)?, stamp.tolerance, now);
        }
        let (before, after) = self.around_with(time);
        let macs = self.secrets.iter();
        let macs = macs.filter_map(|secret| mac(secret.expose().as_bytes(), before.as_bytes()));
        // Without a time in it, the same signature may belong to two events that are alike.
        let key = if self.timestamp.is_some() { Key::Signature } else { Key::None };
        Some(Check {
            macs: macs.collect(),
            given: vec![given],
            after: after.into(),
            off: off_by,
            key,
        })
    }

    fn around_with(&self, time: &str) -> (String, String) {
        let filled = |part: &str| part.replace("{timestamp}", time);
        (filled(&self.around.0), filled(&self.around.1))
    }
}

impl Check {
    /// More of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.macs.iter_mut().for_each(|mac| mac.update(bytes));
    }

    /// The verdict, after the body's last byte.
    pub fn end(self) -> Result<Proof, Wrong> {
        let mut good = None;
        for mut mac in self.macs {
            mac.update(&self.after);
            for given in &self.given {
                // All of them, so that the time does not tell which was good.
                if mac.clone().verify_slice(given).is_ok() {
                    good = Some(given);
                }
            }
        }
        let good = good.ok_or(Wrong::Signature)?;
        match (self.off, self.key) {
            (Some(seconds), _) => Err(Wrong::Late(seconds)),
            (None, Key::None) => Ok(Proof { key: None }),
            (None, Key::Id(id)) => Ok(Proof { key: Some(id) }),
            (None, Key::Signature) => Ok(Proof { key: Some([b"signature:", &good[..]].concat()) }),
        }
    }
}

fn mac(key: &[u8], before: &[u8]) -> Option<Hmac<Sha256>> {
    // Any length of key will do, so this cannot fail.
    Some(Hmac::<Sha256>::new_from_slice(key).ok()?.chain_update(before))
}

fn finished(mac: Hmac<Sha256>, body: &[u8], after: &[u8]) -> Vec<u8> {
    mac.chain_update(body).chain_update(after).finalize().into_bytes().to_vec()
}

/// Seconds since 1970, also from milliseconds.
fn seconds(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok().filter(|number| *number >= 0)?;
    Some(if number >= 100_000_000_000 { number / 1_000 } else { number })
}

/// How much later it is here, if that is too much.
fn off(sent: i64, tolerance: i64, now: Timestamp) -> Option<i64> {
    let off = now.as_second() - sent;
    (off.abs() > tolerance).then_some(off)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| u8::try_from(c.to_digit(16)?).ok()).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn secrets(of: &[&str]) -> Secrets {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<_> = of
            .iter()
            .enumerate()
            .map(|(number, text)| {
                let file = dir.path().join(number.to_string());
                std::fs::write(&file, text).unwrap();
                serde_json::json!({ "file": file })
            })
            .collect();
        serde_json::from_value(files.into()).unwrap()
    }

    fn form(encoding: Encoding, stamp: bool, around: (&str, &str), of: &[&str]) -> Scheme {
        let timestamp = stamp.then(|| Stamp { header: "X-Time".into(), tolerance: 300 });
        Scheme::Hmac(Form {
            secrets: secrets(of),
            header: "X-Signature".into(),
            prefix: Some("v0=".into()),
            encoding,
            timestamp,
            around: (around.0.into(), around.1.into()),
        })
    }

    fn map(of: &[(String, String)]) -> HeaderMap {
        let name = |name: &str| HeaderName::try_from(name).unwrap();
        of.iter().map(|(n, v)| (name(n), HeaderValue::try_from(v).unwrap())).collect()
    }

    fn check(
        scheme: &Scheme,
        headers: &[(String, String)],
        body: &[u8],
        now: Timestamp,
    ) -> Option<Result<Proof, Wrong>> {
        let mut check = scheme.begin(&map(headers), now)?;
        body.chunks(3).for_each(|chunk| check.feed(chunk));
        Some(check.end())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The example of GitHub's documentation.
    #[test]
    fn githubs_own_example_holds() {
        let scheme = Scheme::Hmac(Form {
            secrets: secrets(&["It's a Secret to Everybody"]),
            header: "X-Hub-Signature-256".into(),
            prefix: None,
            encoding: Encoding::Hex,
            timestamp: None,
            around: (String::new(), String::new()),
        });
        let hex = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        for value in [format!("sha256={hex}"), hex.to_owned(), hex.to_uppercase()] {
            let headers = [("X-Hub-Signature-256".to_owned(), value)];
            assert_eq!(
                check(&scheme, &headers, b"Hello, World!", at(0)),
                Some(Ok(Proof::default()))
            );
            assert_eq!(
                check(&scheme, &headers, b"Hello, World?", at(0)),
                Some(Err(Wrong::Signature))
            );
        }
    }

    #[test]
    fn a_good_signature_at_a_wrong_time_is_told_apart() {
        let scheme = form(Encoding::Hex, true, ("v0:{timestamp}:", ""), &["k"]);
        let signed = scheme.sign(b"{}", "", at(1_000)).unwrap();
        for (now, expected) in [(1_300, None), (700, None), (1_301, Some(301)), (699, Some(-301))] {
            let verdict = check(&scheme, &signed, b"{}", at(now)).unwrap();
            match expected {
                None => assert!(verdict.unwrap().key.is_some(), "{now}"),
                Some(off) => assert_eq!(verdict, Err(Wrong::Late(off)), "{now}"),
            }
        }
        // Another time in the header does not help: it is signed.
        let moved = [signed[0].clone(), ("X-Time".into(), "5000".into())];
        assert_eq!(check(&scheme, &moved, b"{}", at(5_000)), Some(Err(Wrong::Signature)));
    }

    fn scheme() -> impl Strategy<Value = (Scheme, Scheme)> {
        let around =
            prop_oneof![Just(("{timestamp}.", "")), Just(("a", "{timestamp}b")), Just(("", ""))];
        (any::<bool>(), around, 0usize..3).prop_map(|(hex, around, kind)| {
            let encoding = if hex { Encoding::Hex } else { Encoding::Base64 };
            let stamp = !around.1.is_empty() || !around.0.is_empty();
            let make = |of: &[&str]| match kind {
                0 => Scheme::StandardWebhooks(secrets(of)),
                _ => form(encoding, stamp, around, of),
            };
            let (old, new) = ("whsec_b2xkLW9sZC1vbGQtb2xk", "whsec_bmV3LW5ldy1uZXctbmV3");
            (make(&[old]), make(&[new, old]))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_signed_is_accepted_and_nothing_else((signer, checker) in scheme(), body in prop::collection::vec(any::<u8>(), 0..40), flip in any::<prop::sample::Index>()) {
            let (now, id) = (at(1_700_000_000), "msg_1");
            // Signed with the old secret, accepted by whoever has the new one and the old one.
            let headers = signer.sign(&body, id, now).unwrap();
            prop_assert!(matches!(check(&checker, &headers, &body, now), Some(Ok(_))));
            let mut longer = body.clone();
            longer.push(b' ');
            prop_assert_eq!(check(&checker, &headers, &longer, now), Some(Err(Wrong::Signature)));
            if !body.is_empty() {
                let mut other = body.clone();
                *flip.get_mut(&mut other) ^= 1;
                prop_assert_eq!(check(&checker, &headers, &other, now), Some(Err(Wrong::Signature)));
            }
            // The new secret's signature is nothing to whoever has only the old one.
            let newer = checker.sign(&body, id, now).unwrap();
            prop_assert_eq!(check(&signer, &newer, &body, now), Some(Err(Wrong::Signature)));
        }

        #[test]
        fn no_header_panics((scheme, _) in scheme(), value in "[ -~]{0,80}", time in "[0-9]{0,25}") {
            let headers = ["webhook-id", "webhook-signature", "X-Signature"].map(|name| (name.to_owned(), value.clone()));
            let mut headers = headers.to_vec();
            headers.extend(["webhook-timestamp", "X-Time"].map(|name| (name.to_owned(), time.clone())));
            if let Some(verdict) = check(&scheme, &headers, b"{}", at(0)) {
                prop_assert_eq!(verdict, Err(Wrong::Signature));
            }
        }
    }
}
