//! A Google service account: a signed assertion in exchange for a token (RFC 7523).
//!
//! Guarantees: the private key stays in memory and signs only assertions for the account's own token
//! endpoint. The key file is what Google's console hands out (JSON).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;

use crate::core::Timestamp;
use crate::core::sink::{Cause, Fault};

/// How long an assertion is good, in seconds; an hour is the most that Google takes.
const LIFE: i64 = 3_600;

/// A service account that can sign.
pub struct Account {
    email: String,
    key_id: String,
    scope: String,
    /// Where tokens come from.
    pub token_url: Url,
    pair: RsaKeyPair,
}

#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: String,
    token_uri: String,
}

impl Account {
    /// From the text of a key file; the reason repeats nothing of it.
    pub fn read(key: &str, scope: &str) -> Result<Self, &'static str> {
        let file: KeyFile = serde_json::from_str(key).map_err(|_| {
            "is not the key of a Google service account: JSON with client_email, private_key and token_uri"
        })?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(file.private_key.as_bytes())
            .map_err(|_| "has a private_key that is not PEM (PKCS #8)")?;
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|_| "has a private_key that is no RSA key")?;
        let token_url = file.token_uri.parse().map_err(|_| "has a token_uri that is no address")?;
        Ok(Self {
            email: file.client_email,
            key_id: file.private_key_id,
            scope: scope.to_owned(),
            token_url,
            pair,
        })
    }

    /// The signed assertion for a request made now.
    pub fn assertion(&self, now: Timestamp) -> Result<String, Fault> {
        let issued = now.as_second();
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": self.key_id });
        let claims = json!({
            "iss": self.email, "scope": self.scope, "aud": self.token_url.as_str(),
            "iat": issued, "exp": issued + LIFE,
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| Fault::new(Cause::Setup, "the service account's key cannot sign"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
