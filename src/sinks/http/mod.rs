//! HTTP for sinks: one client with its own pool per sink, the only place that builds one.
//!
//! Guarantees: redirects are never followed (they would carry the credentials elsewhere); proxies
//! are used only when configured; certificates are always verified; addresses go on the wire byte
//! for byte; replies are read up to a limit; no note, reply or `Debug` holds a secret. Every
//! failure comes back as a [`Fault`]. It never retries and knows no vendor.

mod address;
mod api;
mod reply;
mod trouble;
mod verdict;

pub use address::Address;
pub use api::{ApiSink, HttpApi, Request};
pub use reply::Answer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Proxy, redirect};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::core::config::{Problem, Problems, Secret, Section, Span};
use crate::core::sink::{Fault, Preview};
use reply::Masks;

/// No exchange lasts longer, whatever the worker's own timeout is.
const LONGEST: Duration = Duration::from_secs(300);
/// Shorter than the idle limit of the usual load balancers (60 s), so that a pooled connection is
/// seldom closed under a request.
const IDLE: Duration = Duration::from_secs(50);

/// How to reach the destination: keys of every sink that speaks HTTP.
#[derive(Deserialize, JsonSchema)]
pub struct Connection {
    /// Forward proxy, such as `"http://proxy.example:3128"`. None unless set; the proxy variables
    /// of the environment are not looked at.
    proxy: Option<Address>,
    /// PEM file with certificate authorities to trust beside the system's, for a destination or an
    /// inspecting proxy with a certificate of your own. Verification cannot be switched off.
    ca_file: Option<PathBuf>,
    /// How long connecting may take.
    #[serde(default = "ten_seconds")]
    connect_timeout: Span,
}

fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

/// Read settings that include a flattened [`Connection`].
///
/// Serde loses the key of a bad value inside a flattened struct, so that part is read first.
pub fn read<T: DeserializeOwned + JsonSchema>(section: &Section) -> Result<T, Problems> {
    let (own, _) = section.clone().split::<Connection>();
    let mut problems = own.read::<Connection>().err().unwrap_or_default();
    match section.read::<T>() {
        Ok(settings) if problems.is_empty() => Ok(settings),
        Ok(_) => Err(problems),
        Err(mut others) => {
            others.retain(|other| problems.iter().all(|known| known.message != other.message));
            problems.append(&mut others);
            Err(problems)
        }
    }
}

/// `Bearer KEY` as a header value that debug output hides.
pub fn bearer(key: &Secret, place: String) -> Result<HeaderValue, Problem> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose())).map_err(|_| {
        Problem::new(place, "this secret cannot stand in a header")
            .help("it holds a line break or another control character: was the wrong file named?")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A client for one sink.
pub struct Http {
    client: Client,
    masks: Masks,
    advice: Advice,
}

/// Where people look when something is wrong; goes into notes.
pub struct Advice {
    /// The sink's dotted key, `sinks.NAME`.
    pub section: String,
    /// The setting with the credentials, such as `key`.
    pub credential: &'static str,
}

impl Http {
    /// A client for the sink of `section`, which talks to `to` only.
    ///
    /// `secrets` are masked wherever a destination echoes them.
    pub fn build(
        section: &Section,
        credential: &'static str,
        connection: &Connection,
        to: &Address,
        secrets: &[&Secret],
    ) -> Result<Self, Problems> {
        let client = client(section, connection, to).map_err(|problem| vec![problem])?;
        let paths =
            [Some(to), connection.proxy.as_ref()].into_iter().flatten().flat_map(Address::private);
        let masks = Masks::new(secrets.iter().map(|secret| secret.expose()).chain(paths));
        Ok(Self { client, masks, advice: Advice { section: section.key.clone(), credential } })
    }

    /// `request` for people: no credentials, and no path, which may be one.
    pub fn preview(&self, request: Request) -> Preview {
        let shown = |(name, value): (&HeaderName, &HeaderValue)| {
            let value = match value.is_sensitive() {
                true => "***".to_owned(),
                false => self.masks.clean(&String::from_utf8_lossy(value.as_bytes())),
            };
            (name.to_string(), value)
        };
        // A body that holds no secret is shown to the byte, also where it is not UTF-8.
        let text = String::from_utf8_lossy(&request.body);
        let masked = self.masks.clean(&text);
        let body_masked = *masked != *text;
        Preview {
            method: request.method.to_string(),
            url: format!("{}/…", address::shown(&request.url)),
            headers: request.headers.iter().map(shown).collect(),
            body: if body_masked { masked.into() } else { request.body.clone() },
            body_masked,
        }
    }

    /// Send once and read the reply, or say why there is none.
    pub async fn exchange(&self, request: Request) -> Result<Answer, Fault> {
        let place = address::shown(&request.url);
        let sent = self.client.request(request.method, request.url).headers(request.headers);
        let sent = sent.timeout(LONGEST).body(request.body).send().await;
        let failed = |error| trouble::fault(error, &place, &self.advice, &self.masks);
        let response = sent.map_err(failed)?;
        Answer::read(response, &self.masks).await.map_err(failed)
    }
}

// The one place that may build a client.
#[allow(clippy::disallowed_methods)]
fn client(section: &Section, connection: &Connection, to: &Address) -> Result<Client, Problem> {
    crypto();
    let mut builder = Client::builder()
        .user_agent(concat!("siemgate/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(connection.connect_timeout.0.min(LONGEST))
        .pool_idle_timeout(IDLE)
        .tcp_keepalive(Duration::from_secs(30));
    if let Some(proxy) = &connection.proxy {
        builder = builder.proxy(through(proxy, section)?);
    }
    let certificates = match &connection.ca_file {
        Some(file) => certificates(file, format!("{}.ca_file", section.key))?,
        None => Vec::new(),
    };
    // Plain HTTP needs no certificates, so a machine without any can still build the sink.
    builder = match to.is_tls() {
        true => builder.tls_certs_merge(certificates),
        false => builder.tls_certs_only(certificates),
    };
    builder.build().map_err(|error| {
        Problem::new(
            section.key.clone(),
            format!("cannot prepare HTTPS: {}", trouble::roots(&error)),
        )
        .help("install the system's CA certificates (package ca-certificates) or set ca_file")
    })
}

/// Main installs the provider; a sink that is built without main (a test, a tool) does it here.
fn crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails only when another thread was faster: then there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

fn through(proxy: &Address, section: &Section) -> Result<Proxy, Problem> {
    let key = format!("{}.proxy", section.key);
    if proxy.is_tls() {
        return Err(Problem::new(key, "a proxy is reached over http://")
            .help("HTTPS to the destination is tunnelled through it unopened"));
    }
    Proxy::all(proxy.url().clone()).map_err(|_| Problem::new(key, "is not a proxy's address"))
}

fn certificates(file: &Path, key: String) -> Result<Vec<Certificate>, Problem> {
    let told = |what: String| {
        Problem::new(key.clone(), what).help("name a PEM file with one or more CA certificates")
    };
    let pem = std::fs::read(file)
        .map_err(|error| told(format!("cannot read {}: {error}", file.display())))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(told(format!("{} holds no certificate", file.display()))),
    }
}
