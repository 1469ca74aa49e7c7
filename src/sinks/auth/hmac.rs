//! Signatures of the body with a shared secret: Standard Webhooks, and a header of one's own.
//!
//! Guarantees: what is signed are the bytes that are sent (after compression). Facts: the Standard
//! Webhooks specification (signed content `id.timestamp.body`, key base64 behind `whsec_`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretBox};
use sha2::Sha256;

use super::super::http::Request;
use super::hex;
use crate::core::Timestamp;

/// HMAC-SHA256 over `parts`, one after the other.
pub(super) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Standard Webhooks' three headers.
pub struct StandardWebhooks {
    key: SecretBox<Vec<u8>>,
}

impl StandardWebhooks {
    /// From `whsec_…`; the reason repeats nothing of it.
    pub fn read(secret: &str) -> Result<Self, &'static str> {
        let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
        let key = STANDARD.decode(encoded).map_err(|_| "is not base64 behind `whsec_`")?;
        match key.len() {
            0..16 => Err("is too short: Standard Webhooks wants 24 to 64 bytes, in base64"),
            _ => Ok(Self { key: SecretBox::new(Box::new(key)) }),
        }
    }

    /// Sign; `id` stays the same when the delivery is repeated.
    pub fn sign(&self, request: &mut Request, id: &str, now: Timestamp) {
        let time = now.as_second().to_string();
        let parts: [&[u8]; 5] = [id.as_bytes(), b".", time.as_bytes(), b".", &request.body];
        let signature = format!("v1,{}", STANDARD.encode(mac(self.key.expose_secret(), &parts)));
        for (name, value) in
            [("webhook-id", id), ("webhook-timestamp", &time), ("webhook-signature", &signature)]
        {
            if let Ok(value) = HeaderValue::from_str(value) {
                request.headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

/// The body's HMAC in one header, as GitHub and many others do.
pub struct Signed {
    /// The header.
    pub header: HeaderName,
    /// What stands before the signature, such as `sha256=`.
    pub prefix: String,
    /// Base64 instead of hexadecimal digits.
    pub base64: bool,
    /// The secret.
    pub key: SecretBox<Vec<u8>>,
}

impl Signed {
    /// Sign.
    pub fn sign(&self, request: &mut Request) {
        let mac = mac(self.key.expose_secret(), &[&request.body]);
        let text = if self.base64 { STANDARD.encode(mac) } else { hex(&mac) };
        if let Ok(mut value) = HeaderValue::from_str(&format!("{}{text}", self.prefix)) {
            value.set_sensitive(true);
            request.headers.insert(&self.header, value);
        }
    }
}
