//! The client certificate: what a sink shows to a destination that asks who it is.
//!
//! Guarantees: the key fits the certificate, or the sink is not built; a key is never in an error or
//! `Debug`. It also remembers whether the destination asked, because one that misses a certificate
//! often just hangs up.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use rustls::{Error as Tls, InconsistentKeys, SignatureScheme};

use super::Trust;
use crate::core::Timestamp;
use crate::core::certificate::Certificate;
use crate::core::config::{Problem, Section};

/// Who a sink says it is; nobody without `client_cert_file`.
pub struct Identity {
    shown: Option<Arc<CertifiedKey>>,
    until: Option<Timestamp>,
    asked: AtomicBool,
}

impl Identity {
    /// Read the files that `trust` names.
    pub fn read(
        section: &Section,
        trust: &Trust,
        provider: &CryptoProvider,
    ) -> Result<Self, Problem> {
        let (Some(cert), Some(key)) = (&trust.client_cert_file, &trust.client_key_file) else {
            return Ok(Self { shown: None, until: None, asked: AtomicBool::new(false) });
        };
        let at = |name: &str| format!("{}.{name}", section.key);
        let help =
            "name a PEM file with the client certificate, and those between it and its authority";
        let chain = super::certificates(cert, &at("client_cert_file"), help)?;
        let until = Certificate::read(&chain[0]).map(|certificate| certificate.until);
        let private = private_key(key, &at("client_key_file"))?;
        let shown = CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
            Tls::InconsistentKeys(InconsistentKeys::KeyMismatch) => Problem::new(
                at("client_key_file"),
                format!("{} is not the key of {}", key.display(), cert.display()),
            )
            .help("name the key that the certificate was made for; the certificate must stand first in its file"),
            _ => Problem::new(at("client_key_file"), format!("the key in {} cannot be used", key.display()))
                .help("RSA (2048 to 8192 bits), ECDSA (P-256, P-384) and Ed25519 keys can be used"),
        })?;
        Ok(Self { shown: Some(Arc::new(shown)), until, asked: AtomicBool::new(false) })
    }

    /// Whether there is a certificate to show.
    pub fn is_some(&self) -> bool {
        self.shown.is_some()
    }

    /// When the certificate ends.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// Whether the destination has asked for a certificate.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

fn private_key(file: &Path, key: &str) -> Result<PrivateKeyDer<'static>, Problem> {
    let help = "name a PEM file with the private key (BEGIN PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY)";
    let pem = super::read(file, key, help)?;
    if let Ok(found) = PrivateKeyDer::from_pem_slice(&pem) {
        return match is_encrypted(&pem) {
            true => Err(encrypted(file, key)),
            false => Ok(found),
        };
    }
    Err(match is_encrypted(&pem) {
        true => encrypted(file, key),
        false => Problem::new(key, format!("{} holds no private key", file.display())).help(help),
    })
}

/// Both ways of encrypting a PEM key say so in plain words.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |words: &[u8]| pem.windows(words.len()).any(|part| part == words);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

fn encrypted(file: &Path, key: &str) -> Problem {
    Problem::new(key, format!("the key in {} is encrypted", file.display())).help(
        "a gateway that starts by itself has nobody to type its passphrase: write it unencrypted (`openssl pkey -in FILE -out NEW`) into a file that only the gateway's user can read",
    )
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.shown.clone()
    }

    fn has_certs(&self) -> bool {
        self.is_some()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", if self.is_some() { "a certificate" } else { "none" })
    }
}
