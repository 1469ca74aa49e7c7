//! The judgement of a destination's certificate.
//!
//! Guarantees: without pins, rustls' own rules for chain, name and dates; with pins, exactly the
//! pinned certificates or keys and nothing else; and beside either, as long as it holds, a certificate
//! that somebody pinned by hand. In all cases the destination proves in every
//! handshake that it has the certificate's private key. A refusal carries the certificate's facts.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error as Tls, OtherError, SignatureScheme};

use crate::core::Timestamp;
use crate::core::certificate::{Certificate, Fingerprint};
use crate::core::config::{Served, SinkPins};

/// Why a certificate was refused, with what it says.
#[derive(Debug)]
pub struct Refusal {
    /// The rule that it breaks.
    pub rule: Rule,
    /// What it says; `None` when it cannot be read.
    pub certificate: Option<Certificate>,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// The name that was called.
    pub name: String,
    /// It came without those between it and its authority.
    pub alone: bool,
}

/// A rule that a certificate can break.
#[derive(Debug)]
pub enum Rule {
    /// rustls': chain, name, dates, purpose, form.
    Usual(CertificateError),
    /// It is none of the pinned ones.
    Pins,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::Usual(error) => error.fmt(f),
            Rule::Pins => f.write_str("certificate is not pinned"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// The refusal inside an error of rustls.
    pub fn of(error: &Tls) -> Option<&Self> {
        match error {
            Tls::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
                inner.downcast_ref()
            }
            _ => None,
        }
    }
}

/// Judges certificates for one sink.
#[derive(Debug)]
pub struct Verifier {
    rules: Rules,
    by_hand: Arc<SinkPins>,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Rules {
    Usual(Arc<WebPkiServerVerifier>),
    Pins(Vec<Fingerprint>),
}

impl Verifier {
    /// Accepts what `chain` accepts, and what was pinned `by_hand`.
    pub fn of_chains(
        chain: Arc<WebPkiServerVerifier>,
        by_hand: Arc<SinkPins>,
        provider: &CryptoProvider,
    ) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Self { rules: Rules::Usual(chain), by_hand, algorithms }
    }

    /// Accepts exactly `pins`, and what was pinned `by_hand`.
    pub fn of_pins(
        pins: Vec<Fingerprint>,
        by_hand: Arc<SinkPins>,
        provider: &CryptoProvider,
    ) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Self { rules: Rules::Pins(pins), by_hand, algorithms }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Tls> {
        let (fingerprint, certificate) =
            (Fingerprint::of(end_entity), Certificate::read(end_entity));
        let broken = match &self.rules {
            Rules::Pins(pins) => {
                let key = certificate.as_ref().map(|certificate| certificate.key);
                let pinned = pins.iter().any(|pin| *pin == fingerprint || Some(*pin) == key);
                (!pinned).then_some(Rule::Pins)
            }
            Rules::Usual(chain) => {
                match chain.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                ) {
                    Ok(_) => None,
                    Err(Tls::InvalidCertificate(why)) => Some(Rule::Usual(why)),
                    Err(other) => return Err(other),
                }
            }
        };
        let good = broken.is_none();
        self.by_hand.saw(Served { fingerprint, certificate: certificate.clone(), good });
        match broken {
            Some(rule) if !self.by_hand.accept(fingerprint, time(now)) => {
                let (name, alone) = (server_name.to_str().into_owned(), intermediates.is_empty());
                let refusal = Refusal { rule, certificate, fingerprint, name, alone };
                Err(CertificateError::Other(OtherError(Arc::new(refusal))).into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Tls> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Tls> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A time that cannot be told is after every pin's end.
fn time(now: UnixTime) -> Timestamp {
    let second = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}
