//! TLS of the listeners: their certificates, whose clients they accept, and what a failure means.
//!
//! Guarantees: TLS 1.2 or later; files that cannot be used change nothing; a new certificate is
//! shown from the next connection on, and connections under way end with the one they began with;
//! every refusal is counted and told with what to do. It binds nothing and reads no request.

mod accept;
mod clients;
mod told;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

pub use self::accept::{Names, Stream};
use self::clients::Clients;
use self::told::Reason;
use crate::core::Timestamp;
use crate::core::certificate::Certificate;
use crate::core::clock::words;
use crate::core::config::{AdminTls, ClientCert, Problem, Problems, WebhookTls};
use crate::core::metrics::Metrics;
use crate::core::pem;
use crate::core::quiet::Quiet;

/// A certificate that ends sooner than this is told of.
const SOON: i64 = 21 * 86_400;

/// Settings of a listener's TLS, whichever listener it is.
struct Files<'s> {
    key: &'static str,
    cert: &'s Path,
    private: &'s Path,
    client_ca: Option<&'s Path>,
    client_cert: ClientCert,
}

/// What was read from the files of one listener.
pub struct Material {
    key: &'static str,
    config: Arc<ServerConfig>,
    /// The certificate that is shown.
    pub certificate: Certificate,
    /// Its DER form.
    pub shown: Vec<u8>,
    /// Whether clients may show a certificate.
    pub asks: bool,
    /// Whether clients must.
    pub demands: bool,
}

impl Material {
    /// `[server.tls]`
    pub fn of_webhooks(tls: &WebhookTls) -> Result<Self, Problems> {
        Self::read(&Files {
            key: "server.tls",
            cert: &tls.cert_file,
            private: &tls.key_file,
            client_ca: tls.client_ca_file.as_deref(),
            client_cert: tls.client_cert,
        })
    }

    /// `[server.admin_tls]`
    pub fn of_admin(tls: &AdminTls) -> Result<Self, Problems> {
        Self::read(&Files {
            key: "server.admin_tls",
            cert: &tls.cert_file,
            private: &tls.key_file,
            client_ca: tls.client_ca_file.as_deref(),
            client_cert: ClientCert::Required,
        })
    }

    fn read(files: &Files<'_>) -> Result<Self, Problems> {
        let at = |name: &str| format!("{}.{name}", files.key);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let help = "name a PEM file with the gateway's certificate, and those between it and its authority";
        let chain = pem::certificates(files.cert, &at("cert_file"), help);
        let clients = files.client_ca.map(|file| clients(files, file, &provider)).transpose();
        let (chain, clients) = match (chain, clients) {
            (Ok(chain), Ok(clients)) => (chain, clients),
            (chain, clients) => {
                let mut problems: Problems = chain.err().into_iter().collect();
                problems.extend(clients.err());
                return Err(problems);
            }
        };
        let shown = chain[0].to_vec();
        let unreadable = || {
            let text = format!("{} holds a certificate that cannot be read", files.cert.display());
            vec![Problem::new(at("cert_file"), text).help(help)]
        };
        let certificate = Certificate::read(&shown).ok_or_else(unreadable)?;
        let certified =
            pem::certified(chain, files.cert, files.private, &at("key_file"), &provider)
                .map_err(|problem| vec![problem])?;
        let unusable = |error: rustls::Error| vec![Problem::new(files.key, error.to_string())];
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let (asks, demands) =
            (clients.is_some(), clients.is_some() && files.client_cert == ClientCert::Required);
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::new(clients)),
            None => builder.with_no_client_auth(),
        };
        let resolver = rustls::sign::SingleCertAndKey::from(certified);
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { key: files.key, config: Arc::new(config), certificate, shown, asks, demands })
    }

    /// What will keep senders away, now or soon.
    pub fn warning(&self, now: Timestamp) -> Option<Problem> {
        let Certificate { from, until, names, subject, .. } = &self.certificate;
        let key = format!("{}.cert_file", self.key);
        let left = until.as_second() - now.as_second();
        let clock = "or set this machine's clock, if it is wrong";
        if now < *from {
            let wait = words(from.as_second() - now.as_second());
            return Some(
                Problem::new(key, format!("the certificate (`{subject}`) is not valid before {from}, in {wait} by this machine's clock"))
                    .help("probably this machine's clock is slow: set it (NTP)"),
            );
        }
        if left < 0 {
            return Some(
                Problem::new(key, format!("the certificate (`{subject}`) expired {} ago, at {until}: senders refuse it", words(left)))
                    .help(format!("renew it, then `siemgate reload`; {clock}")),
            );
        }
        if left < SOON {
            return Some(
                Problem::new(
                    key,
                    format!("the certificate (`{subject}`) expires in {}, at {until}", words(left)),
                )
                .help("renew it, then `siemgate reload`"),
            );
        }
        names.is_empty().then(|| {
            Problem::new(
                key,
                format!("the certificate (`{subject}`) is for no host: senders refuse it"),
            )
            .help("get one with the names in subjectAltName; the common name does not count")
        })
    }
}

fn clients(
    files: &Files<'_>,
    file: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Clients, Problem> {
    let key = format!("{}.client_ca_file", files.key);
    let help = "name a PEM file with the authorities that sign the senders' certificates";
    let unusable = |error: &dyn std::fmt::Display| {
        let text = format!("{} cannot be used: {error}", file.display());
        Problem::new(key.clone(), text).help(help)
    };
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(file, &key, help)? {
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = match files.client_cert {
        ClientCert::Required => verifier,
        ClientCert::Optional => verifier.allow_unauthenticated(),
    };
    Ok(Clients(verifier.build().map_err(|error| unusable(&error))?))
}

/// The TLS of a running listener.
pub struct Tls {
    name: &'static str,
    material: ArcSwap<Material>,
    metrics: Arc<Metrics>,
    quiet: [Quiet; Reason::ALL.len()],
}

impl Tls {
    /// For the listener `name`, `webhook` or `admin`.
    pub fn new(name: &'static str, material: Arc<Material>, metrics: Arc<Metrics>) -> Arc<Self> {
        metrics.certificate(name, material.certificate.until);
        Arc::new(Self {
            name,
            material: ArcSwap::new(material),
            metrics,
            quiet: Default::default(),
        })
    }

    /// The names of the certificate that is shown.
    pub fn names(&self) -> Vec<String> {
        self.material.load().certificate.names.clone()
    }

    /// Show and demand something else from the next connection on.
    pub fn replace(&self, material: Arc<Material>) {
        self.metrics.certificate(self.name, material.certificate.until);
        self.material.store(material);
    }
}
