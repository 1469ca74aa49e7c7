//! The settings of the engine and the doors. The doc comments are the user's manual.
//!
//! Settings of a source, route or sink kind stand beside its code, not here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::door::Access;
use super::secret::Secrets;
use super::units::{ByteSize, OneOrMany, Rate, Span};
use crate::core::log::{Start, WhenFull};

/// `[server.tls]`: webhooks over TLS, 1.2 or later. The files are read at the start and at every reload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookTls {
    /// Addresses that take webhooks over TLS, beside those of `server.listen`, which stay without.
    /// Every address of `server.listen` speaks TLS unless set.
    #[schemars(with = "Option<OneOrMany<String>>")]
    pub listen: Option<OneOrMany<SocketAddr>>,
    /// PEM file with the gateway's certificate, followed by those between it and its authority.
    pub cert_file: PathBuf,
    /// PEM file with the private key of `cert_file`, unencrypted, and readable for the gateway's
    /// user only.
    pub key_file: PathBuf,
    /// PEM file with the authorities of senders' certificates (mutual TLS). None are asked for
    /// unless set.
    pub client_ca_file: Option<PathBuf>,
    /// With `client_ca_file`: whether a sender without a certificate may connect.
    #[serde(default)]
    pub client_cert: ClientCert,
}

/// Whether a certificate is demanded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCert {
    /// No connection without one.
    #[default]
    Required,
    /// A sender may do without, and needs another way of its source's `auth`.
    Optional,
}

/// `[server.admin_tls]`: TLS of `admin` and `metrics`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminTls {
    /// As in `[server.tls]`.
    pub cert_file: PathBuf,
    /// As in `[server.tls]`.
    pub key_file: PathBuf,
    /// PEM file with the authorities of the certificates that callers must show. None are asked
    /// for unless set.
    pub client_ca_file: Option<PathBuf>,
}

impl ServerSettings {
    /// Addresses that take webhooks without TLS.
    pub fn plain(&self) -> &[SocketAddr] {
        match &self.tls {
            Some(WebhookTls { listen: None, .. }) => &[],
            _ => self.listen.as_slice(),
        }
    }

    /// Addresses that take webhooks over TLS.
    pub fn secure(&self) -> &[SocketAddr] {
        match &self.tls {
            None => &[],
            Some(WebhookTls { listen: Some(listen), .. }) => listen.as_slice(),
            Some(_) => self.listen.as_slice(),
        }
    }
}

const fn span(secs: u64) -> Span {
    Span(Duration::from_secs(secs))
}

/// `[server]`: the doors.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Addresses that take webhooks: one, or a list.
    #[schemars(with = "OneOrMany<String>")]
    pub listen: OneOrMany<SocketAddr>,
    /// Address of metrics, health and the admin API. Metrics and health are for everybody who gets
    /// there; the API needs `admin_token`.
    #[schemars(with = "String")]
    pub admin: SocketAddr,
    /// The token with which the API answers at `admin` (`Authorization: Bearer …`); one, or a list of
    /// two while it changes. Without it the API answers at `admin_socket` only.
    #[serde(skip_serializing)]
    pub admin_token: Option<Secrets>,
    /// A Unix socket on which the API answers without a token: only the user that runs siemgate (and
    /// root) may open it. The commands use it. `admin.sock` beside `log.dir` unless set; none when
    /// `""`.
    pub admin_socket: Option<PathBuf>,
    /// An address that serves `/metrics`, `/healthz` and `/readyz` and nothing else, so that it may
    /// face the network. None unless set.
    #[schemars(with = "Option<String>")]
    pub metrics: Option<SocketAddr>,
    /// Webhooks over TLS; none unless set.
    pub tls: Option<WebhookTls>,
    /// TLS of `admin` and `metrics`.
    pub admin_tls: Option<AdminTls>,
    /// Proxies in front of the webhook listeners: addresses or networks. What they write into
    /// `X-Forwarded-For` is believed: the last address in it that is no trusted proxy counts as the
    /// sender, for `allow` and in the journal. From anybody else the header means nothing.
    pub trusted_proxies: Vec<Access>,
    /// Largest body of one request, after decompression.
    pub body_limit: ByteSize,
    /// Most events in one request (an array or NDJSON).
    #[schemars(range(min = 1))]
    pub events_limit: usize,
    /// Bodies in memory at once over all requests; a request beyond it waits, then gets 503.
    pub bodies_in_flight: ByteSize,
    /// How long a request may take to send its body.
    pub body_timeout: Span,
    /// How long a stopping gateway goes on delivering before it lets go.
    pub drain: Span,
    /// Threads of the webhook listeners.
    #[schemars(range(min = 1, max = 64))]
    pub workers: usize,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: OneOrMany::Many(vec![
                SocketAddr::from(([127, 0, 0, 1], 5000)),
                SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 5000)),
            ]),
            admin: SocketAddr::from(([127, 0, 0, 1], 9600)),
            admin_token: None,
            admin_socket: None,
            metrics: None,
            tls: None,
            admin_tls: None,
            trusted_proxies: Vec::new(),
            body_limit: ByteSize(16 << 20),
            events_limit: 10_000,
            bodies_in_flight: ByteSize(64 << 20),
            body_timeout: span(30),
            drain: span(10),
            workers: 2,
        }
    }
}

/// Where events are kept until they are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Segments on disk. What has been answered with 200 survives anything but the disk.
    Files,
    /// Memory only: everything queued is lost with the process. For trials.
    Memory,
}

/// `[log]`: the durable log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// `files` (durable) or `memory` (for trials).
    pub engine: Engine,
    /// Folder of the log, relative to the working directory.
    pub dir: PathBuf,
    /// How long delivered events are kept for replay.
    pub keep: Span,
    /// Most bytes on disk.
    pub max_bytes: ByteSize,
    /// Free space that is left to the rest of the machine.
    pub min_free: ByteSize,
    /// `drop_oldest` or `refuse`.
    pub when_full: WhenFull,
    /// Size of one segment file.
    pub segment_bytes: ByteSize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            engine: Engine::Files,
            dir: "data/log".into(),
            keep: span(90 * 86_400),
            max_bytes: ByteSize(2 << 30),
            min_free: ByteSize(1 << 30),
            when_full: WhenFull::DropOldest,
            segment_bytes: ByteSize(64 << 20),
        }
    }
}

/// `[quarantine]` and `[dead_letters]`: logs of what was refused at the door, and of what a
/// destination refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuarantineSettings {
    /// Folder; beside `log.dir` unless set.
    pub dir: Option<PathBuf>,
    /// How long they are kept.
    pub keep: Span,
    /// Most bytes on disk; the oldest go first.
    pub max_bytes: ByteSize,
}

impl Default for QuarantineSettings {
    fn default() -> Self {
        Self { dir: None, keep: span(90 * 86_400), max_bytes: ByteSize(512 << 20) }
    }
}

/// `[receipts]`: a record of every attempt, for `siemgate events show` and `siemgate report`.
/// Deliveries do not depend on it: what cannot be kept is dropped and counted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReceiptSettings {
    /// Whether any are kept.
    pub enabled: bool,
    /// Folder; `receipts` beside `log.dir` unless set.
    pub dir: Option<PathBuf>,
    /// How long they are kept.
    pub keep: Span,
    /// Most bytes on disk; the oldest go first. On a disk that is fuller than `log.min_free` allows
    /// they go before events do.
    pub max_bytes: ByteSize,
}

impl Default for ReceiptSettings {
    fn default() -> Self {
        Self { enabled: true, dir: None, keep: span(30 * 86_400), max_bytes: ByteSize(128 << 20) }
    }
}

/// `[journal]`: what the gateway tells on standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JournalSettings {
    /// `text` for people, `json` for machines.
    pub format: JournalFormat,
}

/// How the journal is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JournalFormat {
    /// One readable line an entry.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[sinks.NAME.delivery]`: how events are handed to a sink. The same keys for every sink.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeliverySettings {
    /// When a batch leaves. May only lower the destination's own limits.
    pub batch: BatchSettings,
    /// Requests at once: `{ min = 1, max = 4 }` adapts between them; a number fixes it.
    pub in_flight: InFlight,
    /// Most events in a time, such as `"200/s"`. No limit unless set.
    pub rate: Option<Rate>,
    /// How long one attempt may take. 30 s unless set, longer where a kind waits for a confirmation.
    pub timeout: Option<Span>,
    /// Waits between attempts.
    pub retry: RetrySettings,
    /// Events older than this count as expired instead of being delivered. Never unless set.
    pub max_age: Option<Span>,
    /// Another sink that gets this one's events, too, while this one is parked, or has been down for
    /// `fallback_after`. They stay queued for this one. The gateway's own alarms do not take this way,
    /// and the other sink's guard holds.
    pub fallback: Option<String>,
    /// How long this sink must be down before `fallback` gets its events. 5 minutes unless set.
    pub fallback_after: Option<Span>,
}

/// `[sinks.NAME.guard]`: what keeps people from being buried, for sinks that write to people or open
/// tickets. What is held back is counted, told in one message, and named in the journal; sinks of
/// other classes get every event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GuardSettings {
    /// Whether an update goes to this sink because it was told of the incident, also where no route
    /// gives it the update. Yes for alerts and tickets, no for messages, unless set.
    pub follow: Option<bool>,
    /// Most new incidents within an hour. Those beyond it are told together, in one message or ticket
    /// with counts.
    #[schemars(range(min = 1))]
    pub new_per_hour: usize,
    /// Events older than this are told together: after an outage nobody wants yesterday's news one by
    /// one. `1h` for messages and `24h` for alerts and tickets unless set. An end still closes what was
    /// opened.
    pub stale_after: Option<Span>,
    /// Whether drills and tests reach this sink.
    pub simulated: bool,
    /// How long what is held back is gathered. A first message about it leaves after a minute at most.
    pub digest_every: Span,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            follow: None,
            new_per_hour: 30,
            stale_after: None,
            simulated: false,
            digest_every: span(600),
        }
    }
}

/// When a batch leaves: whichever comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BatchSettings {
    /// Events in it.
    #[schemars(range(min = 1))]
    pub events: Option<usize>,
    /// Encoded bytes in it.
    pub bytes: Option<ByteSize>,
    /// Age of its oldest event. `0s`: a lone event leaves at once.
    pub wait: Option<Span>,
}

/// Requests at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct InFlight {
    /// Where adapting starts and never goes below.
    pub min: usize,
    /// Where it never goes above.
    pub max: usize,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { min: 1, max: 4 }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct InFlightRange {
    min: usize,
    max: usize,
}

impl<'de> Deserialize<'de> for InFlight {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = serde_json::Value::deserialize(deserializer)?;
        let range = match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(number) => InFlightRange { min: number, max: number },
            None => InFlightRange::deserialize(value).map_err(|_| {
                D::Error::custom("must be a number from 1 to 256, or { min = 1, max = 4 }")
            })?,
        };
        if range.min < 1 || range.max < range.min || range.max > 256 {
            return Err(D::Error::custom(
                "must be 1 to 256, and `min` not above `max`: { min = 1, max = 4 }",
            ));
        }
        Ok(Self { min: range.min, max: range.max })
    }
}

impl JsonSchema for InFlight {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "InFlight".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let range = InFlightRange::json_schema(generator);
        schemars::json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1 }, range] })
    }
}

/// Waits between attempts while a destination is down or busy: full jitter, doubling.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// Upper bound of the first wait. 500 ms unless set.
    pub first: Option<Span>,
    /// Upper bound of every wait. 30 s unless set.
    pub max: Option<Span>,
}

/// Where a new sink starts: `"now"`, `"oldest"`, or a time back such as `"24h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartSetting(pub Start);

impl Default for StartSetting {
    fn default() -> Self {
        Self(Start::Now)
    }
}

impl<'de> Deserialize<'de> for StartSetting {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self(match text.as_str() {
            "now" => Start::Now,
            "oldest" => Start::Oldest,
            span => Start::Back(span.parse::<Span>().map_err(serde::de::Error::custom)?.0),
        }))
    }
}

impl JsonSchema for StartSetting {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Start".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["now", "24h", "oldest"] })
    }
}
