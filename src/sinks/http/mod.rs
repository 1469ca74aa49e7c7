//! HTTP for sinks: one client with its own pool per sink, the only place that builds one.
//!
//! Guarantees: redirects are never followed (they would carry the credentials elsewhere); proxies
//! are used only when configured; certificates are always verified; addresses go on the wire byte
//! for byte; replies are read up to a limit; no note, reply or `Debug` holds a secret. Every
//! failure comes back as a [`Fault`]. It never retries and knows no vendor.

mod acks;
mod address;
mod api;
mod gzip;
mod reply;
mod trouble;
mod verdict;

pub use acks::{Acks, EXCHANGE};
pub use address::Address;
pub use api::{ApiSink, HttpApi, Next, Request, delivery_id};
pub use gzip::compress;
pub use reply::{Answer, Masks};
pub use verdict::cause;
#[cfg(any(test, fuzzing))]
pub use verdict::verdict;

use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, Proxy, redirect};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::part;
use super::tls::{Tls, Trust};
use crate::core::config::{Problem, Problems, Secret, Section, Span};
use crate::core::instance;
use crate::core::sink::{Fault, Preview};

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
    #[serde(flatten)]
    trust: Trust,
    /// How long connecting may take.
    #[serde(default = "ten_seconds")]
    connect_timeout: Span,
}

fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

/// Read settings that include a flattened [`Connection`].
pub fn read<T: DeserializeOwned + JsonSchema>(section: &Section) -> Result<T, Problems> {
    super::read(section, &[part::<Trust>, part::<Connection>])
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
    tls: Option<Tls>,
    masks: Masks,
    advice: Advice,
    /// Hosts and ports that it talks to.
    to: Vec<(String, u16)>,
}

/// Where people look when something is wrong; goes into notes.
pub struct Advice {
    /// The sink's dotted key, `sinks.NAME`.
    pub section: String,
    /// The setting with the credentials, such as `key`.
    pub credential: String,
}

impl Http {
    /// A client for the sink of `section`, which talks to `to` only.
    ///
    /// `secrets` are masked wherever a destination echoes them.
    pub fn build(
        section: &Section,
        credential: impl Into<String>,
        connection: &Connection,
        to: &Address,
        secrets: &[&Secret],
    ) -> Result<Self, Problems> {
        Self::to_all(section, credential, connection, &[to], secrets)
    }

    /// The same for a sink that talks to several addresses: the first is the destination's.
    pub fn to_all(
        section: &Section,
        credential: impl Into<String>,
        connection: &Connection,
        to: &[&Address],
        secrets: &[&Secret],
    ) -> Result<Self, Problems> {
        let tls = tls(section, &connection.trust, to)?;
        let client = client(section, connection, tls.as_ref()).map_err(|problem| vec![problem])?;
        let paths = to.iter().copied().chain(connection.proxy.as_ref()).flat_map(Address::private);
        let advice = Advice { section: section.key.clone(), credential: credential.into() };
        let masks = Masks::new(secrets.iter().map(|secret| secret.expose()).chain(paths));
        let to = to.iter().filter_map(|to| to.place()).collect();
        Ok(Self { client, tls, masks, advice, to })
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
        let sent = sent.header(instance::HEADER, instance::id());
        let sent = sent.timeout(LONGEST).body(request.body).send().await;
        let failed = |error| trouble::fault(error, &place, self);
        let response = sent.map_err(failed)?;
        let answer = Answer::read(response, &self.masks).await.map_err(failed)?;
        answer.date().into_iter().for_each(super::tls::witness);
        Ok(answer)
    }
}

/// TLS towards `to`, unless all of it is plain HTTP, which leaves some settings without meaning.
fn tls(section: &Section, trust: &Trust, to: &[&Address]) -> Result<Option<Tls>, Problems> {
    if to.iter().any(|to| to.is_tls()) {
        return Tls::build(section, trust, "url").map(Some);
    }
    match trust.needs_tls() {
        None => Ok(None),
        Some(name) => Err(vec![
            Problem::new(format!("{}.{name}", section.key), "has no meaning without TLS")
                .help(format!("write https:// in {}.url, or remove it", section.key)),
        ]),
    }
}

// The one place that may build a client.
#[allow(clippy::disallowed_methods)]
fn client(
    section: &Section,
    connection: &Connection,
    tls: Option<&Tls>,
) -> Result<Client, Problem> {
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
    builder = match tls {
        Some(tls) => {
            let mut config = rustls::ClientConfig::clone(tls.config());
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            builder.tls_backend_preconfigured(config)
        }
        // Plain HTTP needs no certificates, so a machine without any can still build the sink.
        None => builder.tls_certs_only([]),
    };
    builder.build().map_err(|error| {
        let told = format!("cannot prepare HTTP: {}", trouble::roots(&error));
        Problem::new(section.key.clone(), told)
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
