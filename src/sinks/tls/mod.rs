//! TLS towards destinations: the settings of every sink that speaks it, what rustls makes of them,
//! and what a failure means.
//!
//! Guarantees: TLS 1.2 or later; no setting turns verification off; a certificate is accepted
//! because its chain and name are good, or because it is exactly one that somebody named (a pin, in the
//! configuration or by hand for a while);
//! every failure comes back as a [`Fault`] that says what is wrong and what to do. It opens no
//! connection.

mod clock;
mod identity;
mod told;
mod verify;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::core::certificate::Fingerprint;
use crate::core::config::{Problem, Problems, Section};
use crate::core::pem;
use crate::core::sink::{Cause, Fault};
use identity::Identity;
use verify::Verifier;

pub use clock::witness;

/// Whom to trust, and who to be: keys of every sink that speaks TLS.
#[derive(Default, Deserialize, JsonSchema)]
pub struct Trust {
    /// PEM file with certificate authorities to trust beside the system's, for a destination or an
    /// inspecting proxy with a certificate of your own. Verification cannot be switched off.
    ca_file: Option<PathBuf>,
    /// Trust `ca_file` alone, and not the system's authorities.
    #[serde(default)]
    ca_only: bool,
    /// Accept exactly these certificates, and no others: for appliances with self-signed ones. Each
    /// is `sha256:` and 64 hex digits, of the certificate or of its public key; `siemgate sinks pin
    /// NAME` shows both for what the destination serves. A pin takes the place of every other rule:
    /// authority, names and dates of a pinned certificate are not looked at (as with DANE-EE, RFC
    /// 7671), so it stays accepted until it is taken out here. To change a certificate without a
    /// gap, name the old and the new. Cannot stand beside `ca_file`, which would mean nothing.
    #[serde(default)]
    pins: Vec<Fingerprint>,
    /// PEM file with the certificate that is shown to a destination which asks for one (mutual TLS),
    /// followed by those between it and its authority.
    client_cert_file: Option<PathBuf>,
    /// PEM file with the private key of `client_cert_file`, unencrypted, and readable for the
    /// gateway's user only. May be the same file.
    client_key_file: Option<PathBuf>,
}

impl Trust {
    /// The first key whose meaning would be lost without TLS.
    pub fn needs_tls(&self) -> Option<&'static str> {
        let set = [
            ("ca_file", self.ca_file.is_some()),
            ("ca_only", self.ca_only),
            ("pins", !self.pins.is_empty()),
            ("client_cert_file", self.client_cert_file.is_some()),
            ("client_key_file", self.client_key_file.is_some()),
        ];
        set.into_iter().find_map(|(name, set)| set.then_some(name))
    }

    fn contradiction(&self, section: &Section) -> Option<Problem> {
        let told = |name: &str, message: &str, help: &str| {
            Some(Problem::new(format!("{}.{name}", section.key), message).help(help))
        };
        if !self.pins.is_empty() && (self.ca_file.is_some() || self.ca_only) {
            return told(
                "pins",
                "cannot stand beside ca_file or ca_only",
                "with pins nothing but the pinned certificates is accepted; remove one of them",
            );
        }
        if self.ca_only && self.ca_file.is_none() {
            return told(
                "ca_only",
                "needs ca_file",
                "name the PEM file with your authority's certificate",
            );
        }
        match (&self.client_cert_file, &self.client_key_file) {
            (Some(_), None) => told(
                "client_cert_file",
                "needs client_key_file",
                "name the PEM file with its private key; it may be the same file",
            ),
            (None, Some(_)) => told(
                "client_key_file",
                "needs client_cert_file",
                "name the PEM file with the key's certificate",
            ),
            _ => None,
        }
    }
}

/// TLS for one sink.
pub struct Tls {
    config: Arc<ClientConfig>,
    identity: Arc<Identity>,
    section: String,
    address: &'static str,
    own_authority: bool,
}

impl Tls {
    /// For the sink of `section`, whose destination stands in its key `address` (such as `url`).
    pub fn build(
        section: &Section,
        trust: &Trust,
        address: &'static str,
    ) -> Result<Self, Problems> {
        if let Some(problem) = trust.contradiction(section) {
            return Err(vec![problem]);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = verifier(section, trust, &provider);
        let identity = Identity::read(section, trust, &provider);
        let (verifier, identity) = match (verifier, identity) {
            (Ok(verifier), Ok(identity)) => (verifier, Arc::new(identity)),
            (verifier, identity) => {
                return Err(verifier.err().into_iter().chain(identity.err()).collect());
            }
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| vec![Problem::new(section.key.clone(), error.to_string())])?
            .dangerous() // rustls' word for any verifier but its own; ours only ever adds refusals and pins
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(identity.clone());
        if !section.pins().pins().is_empty() {
            // A resumed session is not judged again, and would outlive the pin.
            config.resumption = Resumption::disabled();
        }
        Ok(Self {
            config: Arc::new(config),
            identity,
            section: section.key.clone(),
            address,
            own_authority: trust.ca_file.is_some(),
        })
    }

    /// What a connector needs. ALPN is the caller's to add.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// What a handshake or connection that ended with `error` means.
    pub fn fault(&self, error: &rustls::Error) -> Fault {
        let (cause, note) = self.told(error);
        Fault::new(cause, note)
    }

    /// The same for an error of reading or writing, which may be TLS trouble or not.
    pub fn io_fault(&self, error: &io::Error) -> Fault {
        match find(error) {
            Some(tls) => self.fault(tls),
            None => Fault::new(Cause::Down, self.broken(&error.to_string())),
        }
    }
}

/// The TLS error somewhere below `error`.
pub fn find<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// An error and all below it. An `io::Error` hides the error that it wraps from `source()`.
pub fn causes<'e>(
    error: &'e (dyn Error + 'static),
) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
        Some(error)
    })
}

fn verifier(
    section: &Section,
    trust: &Trust,
    provider: &Arc<CryptoProvider>,
) -> Result<Verifier, Problem> {
    if !trust.pins.is_empty() {
        return Ok(Verifier::of_pins(trust.pins.clone(), section.pins().clone(), provider));
    }
    let roots = roots(section, trust)?;
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| {
            Problem::new(section.key.clone(), format!("cannot prepare TLS: {error}")).help(
                "install the system's CA certificates (package ca-certificates) or set ca_file",
            )
        })?;
    Ok(Verifier::of_chains(chain, section.pins().clone(), provider))
}

/// The authorities: the system's and those of `ca_file`.
fn roots(section: &Section, trust: &Trust) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    if !trust.ca_only {
        // Unreadable ones are left out: a machine's store may have some that nobody uses.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if let Some(file) = &trust.ca_file {
        let key = format!("{}.ca_file", section.key);
        let unusable = |error| {
            Problem::new(
                key.clone(),
                format!("{} has a certificate that cannot be used: {error}", file.display()),
            )
            .help("name a PEM file with one or more CA certificates")
        };
        for certificate in
            pem::certificates(file, &key, "name a PEM file with one or more CA certificates")?
        {
            roots.add(certificate).map_err(unusable)?;
        }
    }
    Ok(roots)
}
