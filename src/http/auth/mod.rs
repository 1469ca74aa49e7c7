//! How a sender proves that it may post: the ways of one source, any of which suffices.
//!
//! Guarantees: secrets and signatures are compared in constant time, and all of them, whichever
//! fits; a way in a header is judged before the body is read, a signature over the bytes as they
//! were sent. It knows no addresses (`door.rs`), reads no body (`body.rs`), and answers nobody.

mod build;
mod signature;
mod slowdown;

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use self::signature::Scheme;
pub use self::signature::{Check, Proof, Wrong};
pub use self::slowdown::{Refusal, Slowdown};
use crate::core::Timestamp;
use crate::core::config::Secrets;

/// The ways of one source; without any, nothing needs to be proved.
pub struct Ways(Vec<Way>);

enum Way {
    Header {
        name: String,
        secrets: Secrets,
    },
    Bearer(Secrets),
    Basic {
        user: String,
        passwords: Secrets,
    },
    Signed(Scheme),
    /// One of the names in a verified client certificate.
    ClientCert(Vec<String>),
}

/// What a request shows before its body is read.
pub enum Shown {
    /// Enough.
    Enough,
    /// Signatures that are good or bad for the body.
    Signatures(Vec<Check>),
    /// Nothing that could do.
    Nothing(Lack),
}

/// Why a sender is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// No valid token, or none at all.
    Token,
    /// No valid signature, or none at all.
    Signature,
    /// No client certificate for any of the names.
    Certificate,
    /// A valid signature, made so many seconds ago (or ahead, if negative).
    Late(i64),
}

impl Lack {
    /// The metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Signature => "signature",
            Self::Certificate => "certificate",
            Self::Late(_) => "timestamp",
        }
    }
}

impl Ways {
    /// Look at everything but the body. `names` are those of the client's verified certificate.
    pub fn look(&self, headers: &HeaderMap, names: &[String], now: Timestamp) -> Shown {
        let enough = self.0.iter().fold(false, |enough, way| enough | way.shown(headers, names));
        if enough || self.0.is_empty() {
            return Shown::Enough;
        }
        let checks: Vec<Check> =
            self.schemes().filter_map(|scheme| scheme.begin(headers, now)).collect();
        if checks.is_empty() {
            Shown::Nothing(self.lack(headers))
        } else {
            Shown::Signatures(checks)
        }
    }

    /// Whether a client certificate is one of the ways.
    pub fn want_certificates(&self) -> bool {
        self.0.iter().any(|way| matches!(way, Way::ClientCert(_)))
    }

    fn schemes(&self) -> impl Iterator<Item = &Scheme> {
        self.0
            .iter()
            .filter_map(|way| if let Way::Signed(scheme) = way { Some(scheme) } else { None })
    }

    /// What a request without anything valid lacks: what it tried, else what comes first.
    fn lack(&self, headers: &HeaderMap) -> Lack {
        let tried = self.0.iter().find(|way| way.tried(headers)).or(self.0.first());
        match tried {
            Some(Way::Signed(_)) => Lack::Signature,
            Some(Way::ClientCert(_)) => Lack::Certificate,
            _ => Lack::Token,
        }
    }

    /// For `WWW-Authenticate`: some senders (AWS SNS for one) send a password only when asked.
    pub fn challenge(&self) -> Option<&'static str> {
        self.0.iter().find_map(|way| match way {
            Way::Basic { .. } => Some("Basic realm=\"siemgate\""),
            Way::Bearer(_) => Some("Bearer realm=\"siemgate\""),
            _ => None,
        })
    }

    /// What a sender should send.
    pub fn wanted(&self) -> String {
        let wanted: Vec<String> = self.0.iter().map(Way::wanted).collect();
        wanted.join(", or ")
    }

    /// Headers with which `body` is accepted, for our own test events.
    pub fn credentials(
        &self,
        body: &[u8],
        id: &str,
        now: Timestamp,
    ) -> Option<Vec<(String, String)>> {
        if self.0.is_empty() {
            return Some(Vec::new());
        }
        self.0.iter().find_map(|way| way.credentials(body, id, now))
    }
}

/// The verdict over all signatures of a request, after the body's last byte.
pub fn verdict(checks: Vec<Check>) -> Result<Proof, Lack> {
    let mut lack = Lack::Signature;
    let mut proof = None;
    for check in checks {
        match check.end() {
            Ok(good) => proof = Some(good),
            Err(Wrong::Late(seconds)) => lack = Lack::Late(seconds),
            Err(Wrong::Signature) => {}
        }
    }
    proof.ok_or(lack)
}

impl Way {
    /// Whether the headers alone prove enough.
    fn shown(&self, headers: &HeaderMap, names: &[String]) -> bool {
        match self {
            Self::Header { name, secrets } => {
                let given = headers.get(name).map(|value| value.as_bytes());
                given.is_some_and(|given| any(secrets, given, |secret| secret.to_owned()))
            }
            Self::Bearer(secrets) => has_bearer(headers, secrets),
            Self::Basic { user, passwords } => {
                let given = authorization(headers, "basic");
                given.and_then(|given| STANDARD.decode(given).ok()).is_some_and(|given| {
                    any(passwords, &given, |password| format!("{user}:{password}"))
                })
            }
            Self::Signed(_) => false,
            Self::ClientCert(wanted) => {
                let is =
                    |name: &String| wanted.iter().any(|known| known.eq_ignore_ascii_case(name));
                names.iter().any(is)
            }
        }
    }

    /// Whether the request has the header that this way is in.
    fn tried(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Header { name, .. } => headers.contains_key(name),
            Self::Bearer(_) | Self::Basic { .. } => headers.contains_key(AUTHORIZATION),
            Self::Signed(Scheme::StandardWebhooks(_)) => headers.contains_key("webhook-signature"),
            Self::Signed(Scheme::Hmac(form)) => headers.contains_key(&form.header),
            Self::ClientCert(_) => false,
        }
    }

    fn wanted(&self) -> String {
        match self {
            Self::Header { name, .. } => format!("the token in {name}"),
            Self::Bearer(_) => "Authorization: Bearer with the token".to_owned(),
            Self::Basic { .. } => "Authorization: Basic with user and password".to_owned(),
            Self::Signed(scheme) => format!("a signature in {}", scheme.headers()),
            Self::ClientCert(names) => format!("a client certificate for {}", names.join(" or ")),
        }
    }

    fn credentials(&self, body: &[u8], id: &str, now: Timestamp) -> Option<Vec<(String, String)>> {
        let authorization = |value| Some(vec![(AUTHORIZATION.to_string(), value)]);
        match self {
            Self::Header { name, secrets } => {
                Some(vec![(name.clone(), secrets.first()?.expose().to_owned())])
            }
            Self::Bearer(secrets) => authorization(format!("Bearer {}", secrets.first()?.expose())),
            Self::Basic { user, passwords } => {
                let both = format!("{user}:{}", passwords.first()?.expose());
                authorization(format!("Basic {}", STANDARD.encode(both)))
            }
            Self::Signed(scheme) => scheme.sign(body, id, now),
            Self::ClientCert(_) => None,
        }
    }
}

/// Whether `Authorization: Bearer` has one of the `tokens`.
pub fn has_bearer(headers: &HeaderMap, tokens: &Secrets) -> bool {
    authorization(headers, "bearer")
        .is_some_and(|given| any(tokens, given, |secret| secret.to_owned()))
}

/// What follows the scheme in `Authorization`.
fn authorization<'h>(headers: &'h HeaderMap, scheme: &str) -> Option<&'h [u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (name, rest) = value.split_at_checked(scheme.len())?;
    (name.eq_ignore_ascii_case(scheme.as_bytes()) && rest.first() == Some(&b' '))
        .then(|| rest.trim_ascii())
}

/// Whether `given` is what one of the secrets makes. All are compared, in a time that depends on
/// neither content nor common prefix.
fn any(secrets: &Secrets, given: &[u8], made: impl Fn(&str) -> String) -> bool {
    let given = Sha256::digest(given);
    secrets.iter().fold(false, |found, secret| {
        let same: bool = Sha256::digest(made(secret.expose())).ct_eq(&given).into();
        found | same
    })
}
