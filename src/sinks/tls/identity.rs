//! The client certificate: what a sink shows to a destination that asks who it is.
//!
//! Guarantees: the key fits the certificate, or the sink is not built; a key is never in an error or
//! `Debug`. It also remembers whether the destination asked, because one that misses a certificate
//! often just hangs up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;

use super::Trust;
use crate::core::Timestamp;
use crate::core::certificate::Certificate;
use crate::core::config::{Problem, Section};
use crate::core::pem;

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
        let (Some(cert), Some(key_file)) = (&trust.client_cert_file, &trust.client_key_file) else {
            return Ok(Self { shown: None, until: None, asked: AtomicBool::new(false) });
        };
        let at = |name: &str| format!("{}.{name}", section.key);
        let help =
            "name a PEM file with the client certificate, and those between it and its authority";
        let chain = pem::certificates(cert, &at("client_cert_file"), help)?;
        let until = Certificate::read(&chain[0]).map(|certificate| certificate.until);
        let key = at("client_key_file");
        let shown = pem::certified(chain, cert, key_file, &key, provider)?;
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
