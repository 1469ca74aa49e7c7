//! Authorities, certificates and TLS servers for tests, made on the spot.
//!
//! Guarantees: ports are the system's choice; a server keeps every byte that reached it through TLS,
//! and answers what looks like an HTTP request with `200 {}`; it ends when it is dropped. It is no
//! general server: see `peer.rs` for one that follows a script.

// A tool box: not every test uses every tool.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use siemgate::core::certificate::Fingerprint;
use siemgate::sinks::Entry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::broker::{self, Speaks};
use super::mailbox::Book;

/// A certificate with its key.
#[derive(Clone)]
pub struct Leaf {
    pub der: CertificateDer<'static>,
    key: Vec<u8>,
    spki: Vec<u8>,
    pub pem: String,
    pub key_pem: String,
}

impl Leaf {
    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            der: certificate.der().clone(),
            key: key.serialize_der(),
            spki: key.subject_public_key_info(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// One that nobody but itself vouches for, for the host `name`.
    pub fn self_signed(name: &str) -> Self {
        Self::self_signed_with(name, |_| {})
    }

    /// The same, changed.
    pub fn self_signed_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (key, params) = (KeyPair::generate().unwrap(), params(name, change));
        Self::new(&params.self_signed(&key).unwrap(), &key)
    }

    /// This certificate in the hands of somebody who has not its key.
    pub fn stolen(&self) -> Self {
        Self { key: KeyPair::generate().unwrap().serialize_der(), ..self.clone() }
    }

    pub fn fingerprint(&self) -> String {
        Fingerprint::of(&self.der).to_string()
    }

    pub fn key_fingerprint(&self) -> String {
        Fingerprint::of(&self.spki).to_string()
    }

    /// Write certificate and key into `dir`, as `NAME.pem` and `NAME.key`.
    pub fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (pem, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        std::fs::write(&pem, &self.pem).unwrap();
        std::fs::write(&key, &self.key_pem).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        (pem, key)
    }
}

fn params(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    change(&mut params);
    params
}

/// Not valid before `from` seconds from now (or ago), nor after `until`.
pub fn valid(from: i64, until: i64) -> impl FnOnce(&mut CertificateParams) {
    let at = |seconds: i64| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let since_1970 = Duration::from_secs(now.checked_add_signed(seconds).unwrap());
        rcgen::date_time_ymd(1970, 1, 1) + since_1970
    };
    move |params| {
        params.not_before = at(from);
        params.not_after = at(until);
    }
}

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub der: CertificateDer<'static>,
    pub pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        let (der, pem) = (own.der().clone(), own.pem());
        Self { issuer: Issuer::new(params, key), der, pem }
    }

    /// A certificate for the host `name`.
    pub fn leaf(&self, name: &str) -> Leaf {
        self.leaf_with(name, |_| {})
    }

    /// The same, changed.
    pub fn leaf_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().unwrap();
        Leaf::new(&params(name, change).signed_by(&key, &self.issuer).unwrap(), &key)
    }
}

/// What a server demands and speaks.
#[derive(Clone, Copy, Default)]
pub struct Demands<'a> {
    /// Only clients with a certificate of this authority.
    pub clients_of: Option<&'a Authority>,
    /// Ask for such a certificate, let everybody in, and hang up.
    pub hangs_up: bool,
    /// Only this version.
    pub version: Option<&'static SupportedProtocolVersion>,
}

/// A TLS server on the loopback interface, called `localhost`.
pub struct Server {
    pub port: u16,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    received: Arc<Mutex<Vec<u8>>>,
    answer: Arc<Mutex<Likeness>>,
    task: JoinHandle<()>,
}

impl Server {
    /// One that shows `leaf`.
    pub async fn start(leaf: &Leaf) -> Self {
        Self::start_with(leaf, Demands::default()).await
    }

    /// The same with demands.
    pub async fn start_with(leaf: &Leaf, demands: Demands<'_>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = Arc::new(Mutex::new(config(leaf, demands)));
        let received: Arc<Mutex<Vec<u8>>> = Arc::default();
        let answer = Arc::new(Mutex::new(Likeness::Http(whole(200, "{}"))));
        let talk = (received.clone(), answer.clone());
        let serving = serve(listener, config.clone(), talk, demands.hangs_up);
        let task = tokio::spawn(serving);
        Self { port, config, received, answer, task }
    }

    /// Answer every request as the destination of `kind` answers good ones.
    pub fn answers_like(&self, kind: &Entry) {
        let (status, body) = kind.success();
        *self.answer.lock().unwrap() = match Speaks::of(kind) {
            None if kind.name() == "smtp" => Likeness::Mail,
            Some(speaks) => Likeness::Broker(speaks, self.port),
            None => Likeness::Http(whole(status, &body)),
        };
    }

    /// Show `leaf` from now on, to those who connect from now on.
    pub fn show(&self, leaf: &Leaf) {
        *self.config.lock().unwrap() = config(leaf, Demands::default());
    }

    /// Everything that was received, connection after connection.
    pub fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap()).into_owned()
    }
}

/// What a server is like to those who got through TLS.
#[derive(Clone)]
enum Likeness {
    /// It answers every request so.
    Http(String),
    /// It takes mails.
    Mail,
    /// It is a broker, at this port.
    Broker(Speaks, u16),
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn whole(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn config(leaf: &Leaf, demands: Demands<'_>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = demands.version.map_or(rustls::ALL_VERSIONS.to_vec(), |version| vec![version]);
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&versions).unwrap();
    let builder = match demands.clients_of {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der.clone()).unwrap();
            let clients =
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
            let clients = if demands.hangs_up { clients.allow_unauthenticated() } else { clients };
            builder.with_client_cert_verifier(clients.build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(leaf.key.clone()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    // Not `with_single_cert`, which would refuse a stolen certificate.
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![leaf.der.clone()], key));
    Arc::new(builder.with_cert_resolver(Arc::new(shown)))
}

async fn serve(
    listener: TcpListener,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    talk: (Arc<Mutex<Vec<u8>>>, Arc<Mutex<Likeness>>),
    hangs_up: bool,
) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = TlsAcceptor::from(config.lock().unwrap().clone());
        let (received, answer) = talk.clone();
        connections.spawn(async move {
            let stream = acceptor.accept(stream).await;
            let like = answer.lock().unwrap().clone();
            match (stream, like) {
                (Ok(stream), Likeness::Broker(speaks, port)) if !hangs_up => {
                    broker::converse(speaks, stream, "localhost", port, Arc::default()).await;
                }
                (Ok(stream), Likeness::Mail) if !hangs_up => {
                    let _ = Book::default().talk(stream).await;
                }
                (Ok(stream), _) if !hangs_up => {
                    let _ = converse(stream, &received, &answer).await;
                }
                _ => {}
            }
        });
    }
}

async fn converse(
    mut stream: TlsStream<TcpStream>,
    received: &Mutex<Vec<u8>>,
    answer: &Mutex<Likeness>,
) -> std::io::Result<()> {
    let (mut read, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        received.lock().unwrap().extend_from_slice(&buffer[..count]);
        read.extend_from_slice(&buffer[..count]);
        if is_whole_request(&read) {
            let text = String::from_utf8_lossy(&read).into_owned();
            read.clear();
            let answer =
                match text.contains("\r\n\r\ngrant_type=") || text.contains("/authenticate ") {
                    true => whole(200, r#"{"access_token":"t","data":{"token":"t"}}"#),
                    false => match &*answer.lock().unwrap() {
                        Likeness::Http(answer) => answer.clone(),
                        _ => String::new(),
                    },
                };
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await?;
        }
    }
}

fn is_whole_request(read: &[u8]) -> bool {
    let text = String::from_utf8_lossy(read).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    head.contains(" http/1.1") && body.len() >= length.map_or(0, |text| text.parse().unwrap())
}

/// A server that answers the first bytes of every connection with `answer`, and hangs up.
pub async fn raw(answer: &'static [u8]) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(answer).await;
            if answer.is_empty() {
                let _ = stream.set_zero_linger();
            }
        }
    });
    (port, task)
}
