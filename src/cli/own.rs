//! Clients for this machine's own gateway.
//!
//! Guarantees: no proxy, no redirects; over TLS exactly the certificate that the configuration names
//! is accepted, whatever names and dates it has: it is our own, and read from our own file.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, ClientBuilder};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::{Exit, failed};

/// A client without TLS, or with that of a listener that shows the certificate `own`.
pub(super) fn client(own: Option<&[u8]>) -> Result<Client, Exit> {
    let builder = builder();
    let builder = match own {
        Some(own) => builder.tls_backend_preconfigured(config(own)?),
        // Plain HTTP: a machine without the system's CA certificates must do.
        None => builder.tls_certs_only([]),
    };
    builder.build().map_err(failed)
}

/// What all clients have in common.
#[allow(clippy::disallowed_methods)] // not a destination: sinks/http does not apply
pub(super) fn builder() -> ClientBuilder {
    let builder = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.connect_timeout(Duration::from_secs(5)).timeout(Duration::from_secs(90))
}

fn config(own: &[u8]) -> Result<ClientConfig, Exit> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let own = Own { certificate: own.to_vec().into(), provider: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(failed)?;
    let verified = builder.dangerous().with_custom_certificate_verifier(Arc::new(own));
    Ok(verified.with_no_client_auth())
}

/// Accepts one certificate, by whoever has its key.
#[derive(Debug)]
struct Own {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Own {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *shown == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
