//! How a request proves who sends it.
//!
//! Guarantees: credentials are headers marked as sensitive, so that no preview and no `Debug` shows
//! them; a token is fetched once for all who wait for it, renewed before it runs out, and never kept
//! on disk; a signature covers exactly the bytes that are sent. It knows no vendor's address.

mod google;
mod hmac;
mod shared_access;
mod sigv4;
mod tokens;
mod xsiam;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};

pub use google::Account;
pub use hmac::{Signed, StandardWebhooks};
pub use shared_access::SharedAccess;
pub use sigv4::Sigv4;
pub use tokens::{Client, Login, Tokens};
pub use xsiam::Xsiam;

use super::http::{Http, Request};
use crate::core::Timestamp;
use crate::core::sink::Fault;

/// One way.
pub enum Auth {
    /// None, or the address itself.
    None,
    /// A header that is always the same.
    Header(HeaderName, HeaderValue),
    /// A bearer token that is fetched and renewed.
    Tokens(Box<Tokens>),
    /// AWS Signature Version 4.
    Sigv4(Sigv4),
    /// Standard Webhooks.
    StandardWebhooks(StandardWebhooks),
    /// An HMAC of the body.
    Signed(Signed),
    /// Cortex' advanced keys.
    Xsiam(Xsiam),
    /// Azure's shared access signatures.
    SharedAccess(SharedAccess),
}

impl Auth {
    /// `Authorization: Bearer TOKEN`
    pub fn bearer(token: &str) -> Result<Self, NoHeader> {
        Self::header("authorization", &format!("Bearer {token}"))
    }

    /// `Authorization: Basic …`
    pub fn basic(user: &str, password: &str) -> Result<Self, NoHeader> {
        Ok(Self::Header(AUTHORIZATION, basic(user, password)?))
    }

    /// A header of its own.
    pub fn header(name: &str, value: &str) -> Result<Self, NoHeader> {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| NoHeader)?;
        Ok(Self::Header(name, sensitive(value)?))
    }

    /// Add what proves it to `request`, which is complete otherwise. `id` names the delivery.
    pub async fn authorize(
        &self,
        http: &Http,
        request: &mut Request,
        id: &str,
        now: Timestamp,
    ) -> Result<(), Fault> {
        match self {
            Self::None => {}
            Self::Header(name, value) => {
                request.headers.insert(name, value.clone());
            }
            Self::Tokens(tokens) => {
                let token = tokens.current(http, now).await?;
                request.headers.insert(AUTHORIZATION, token);
            }
            Self::Sigv4(signer) => signer.sign(request, now),
            Self::StandardWebhooks(signer) => signer.sign(request, id, now),
            Self::Signed(signer) => signer.sign(request),
            Self::Xsiam(key) => key.sign(request, now),
            Self::SharedAccess(signer) => signer.sign(request, now),
        }
        Ok(())
    }

    /// The destination does not know these credentials. True when they were fetched, and a newly
    /// fetched token may be better.
    pub async fn renew(&self, now: Timestamp) -> bool {
        match self {
            Self::Tokens(tokens) => tokens.forget(now).await,
            _ => false,
        }
    }

    /// The names of the headers that it adds, for previews, which have no credentials.
    pub fn headers(&self) -> Vec<HeaderName> {
        let known = HeaderName::from_static;
        match self {
            Self::None => Vec::new(),
            Self::Header(name, _) => vec![name.clone()],
            Self::Tokens(_) | Self::SharedAccess(_) => vec![AUTHORIZATION],
            Self::Sigv4(signer) => signer.headers(),
            Self::StandardWebhooks(_) => {
                vec![known("webhook-id"), known("webhook-timestamp"), known("webhook-signature")]
            }
            Self::Signed(signer) => vec![signer.header.clone()],
            Self::Xsiam(_) => vec![
                AUTHORIZATION,
                known("x-xdr-auth-id"),
                known("x-xdr-nonce"),
                known("x-xdr-timestamp"),
            ],
        }
    }
}

/// A credential that cannot stand in a header: it holds a line break or the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHeader;

/// HTTP's basic authentication.
fn basic(user: &str, password: &str) -> Result<HeaderValue, NoHeader> {
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// A value that debug output hides.
fn sensitive(value: &str) -> Result<HeaderValue, NoHeader> {
    let mut value = HeaderValue::from_str(value).map_err(|_| NoHeader)?;
    value.set_sensitive(true);
    Ok(value)
}

/// `bytes` as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
