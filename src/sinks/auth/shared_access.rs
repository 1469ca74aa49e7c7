//! Azure's shared access signatures: an HMAC of a resource's name and a time, good until then.
//!
//! Guarantees: the key is never sent, and a signature is made anew for every request, so none runs out on
//! the way. Facts: general knowledge of Azure Service Bus and Event Hubs (signed text `NAME\nEXPIRY`,
//! the key's characters as they are).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::super::http::Request;
use super::hmac::mac;
use crate::core::Timestamp;

/// How long a signature is good, in seconds: far longer than a request takes, also where clocks differ.
const LIFE: i64 = 900;
/// What RFC 3986 leaves as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A key of a shared access policy.
pub struct SharedAccess {
    /// What is signed for: the address without its query.
    pub resource: String,
    /// The policy's name.
    pub policy: String,
    /// Its key.
    pub key: SecretString,
}

impl SharedAccess {
    /// Sign.
    pub fn sign(&self, request: &mut Request, now: Timestamp) {
        let value = self.signature(now.as_second() + LIFE);
        if let Ok(mut value) = HeaderValue::from_str(&value) {
            value.set_sensitive(true);
            request.headers.insert(AUTHORIZATION, value);
        }
    }

    fn signature(&self, expiry: i64) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
        let resource = encoded(&self.resource);
        let signed = format!("{resource}\n{expiry}");
        let mac = mac(self.key.expose_secret().as_bytes(), &[signed.as_bytes()]);
        format!(
            "SharedAccessSignature sr={resource}&sig={}&se={expiry}&skn={}",
            encoded(&STANDARD.encode(mac)),
            encoded(&self.policy)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_other_programs_make() {
        // python: base64(hmac.new(b"key=", b"https%3A%2F%2Fns.example%2Fhub\n1767225600", sha256))
        let signer = SharedAccess {
            resource: "https://ns.example/hub".into(),
            policy: "send only".into(),
            key: "key=".to_owned().into(),
        };
        assert_eq!(
            signer.signature(1_767_225_600),
            "SharedAccessSignature sr=https%3A%2F%2Fns.example%2Fhub&sig=9TToQFjSDkqcrwY8%2BEVX8bY4gKOtA9tv94I14BaKxQ4%3D&se=1767225600&skn=send%20only"
        );
    }
}
