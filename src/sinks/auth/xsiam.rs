//! Palo Alto Cortex' advanced API keys: a hash of key, nonce and time.
//!
//! Guarantees: the key itself is never sent, and a nonce is never used twice. Not verified against
//! the product: general knowledge of its documents.

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::http::Request;
use super::hex;
use crate::core::Timestamp;

/// An advanced key.
pub struct Xsiam {
    /// The key.
    pub key: SecretString,
    /// Its id.
    pub id: String,
}

impl Xsiam {
    /// Sign.
    pub fn sign(&self, request: &mut Request, now: Timestamp) {
        // 64 characters, as the product wants.
        let nonce = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let time = now.as_millisecond().to_string();
        let hash = hex(&Sha256::digest(format!("{}{nonce}{time}", self.key.expose_secret())));
        let named = HeaderName::from_static;
        for (name, value) in [
            (AUTHORIZATION, &hash),
            (named("x-xdr-auth-id"), &self.id),
            (named("x-xdr-nonce"), &nonce),
            (named("x-xdr-timestamp"), &time),
        ] {
            if let Ok(mut value) = HeaderValue::from_str(value) {
                value.set_sensitive(true);
                request.headers.insert(name, value);
            }
        }
    }
}
