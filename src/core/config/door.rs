//! The settings of a source's door: who may post, and how they prove it. The doc comments are the
//! user's manual.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::Secrets;
use super::units::{OneOrMany, Span};

/// What every `[sources.NAME]` has beside its type's own keys: its door.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SourceDoor {
    /// An extra path that leads here; `/webhook/NAME` always does.
    pub path: Option<String>,
    /// Senders that may post: addresses or networks. Loopback only unless set.
    pub allow: Vec<Access>,
    /// Ways to authenticate, any one of which suffices. None needed when empty.
    pub auth: Vec<DoorAuth>,
    /// Greetings to answer instead of storing them as events. None unless named, because a sender
    /// could pass an alarm off as a greeting. They need the same authentication as events.
    pub handshakes: Vec<Handshake>,
    /// Answer a body (or idempotency key) seen in the last ten minutes as a duplicate.
    /// The default depends on the type: on for superna, off for json.
    pub dedupe: Option<bool>,
    /// How often at least this source sends something, such as `"24h"`. When nothing has come for
    /// longer it counts as silent, and alarms. Never unless set.
    pub expect_every: Option<Span>,
}

impl Default for SourceDoor {
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"];
        Self {
            path: None,
            allow: loopback.iter().filter_map(|net| net.parse().ok().map(Access)).collect(),
            auth: Vec::new(),
            handshakes: Vec::new(),
            dedupe: None,
            expect_every: None,
        }
    }
}

/// How a product greets an address before, or beside, sending events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Handshake {
    /// AWS SNS asks to confirm a subscription. siemgate opens no address that a sender names: the
    /// request is kept in the quarantine, for a person to open its `SubscribeURL`.
    Sns,
    /// `url_verification`, of Slack and those that copy it: the challenge is sent back.
    Slack,
    /// GitHub's `ping` after a webhook was set up.
    Github,
}

impl Handshake {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sns, Self::Slack, Self::Github];

    /// Its name, as in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sns => "sns",
            Self::Slack => "slack",
            Self::Github => "github",
        }
    }
}

/// An address or a network: `"10.1.2.3"`, `"10.0.0.0/8"`, `"::1"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(pub IpNet);

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let net =
            text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
        net.map(Self).map_err(|_| {
            serde::de::Error::custom(format!(
                "`{text}` is not an address or a network like \"10.0.0.0/8\""
            ))
        })
    }
}

impl Serialize for Access {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Access {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Access".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["10.0.0.0/8"] })
    }
}

/// One way to authenticate a webhook: exactly one of `header`, `bearer`, `basic`,
/// `standard_webhooks`, `hmac` and `client_cert`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DoorAuth {
    /// Name of a header that carries the token `secret`.
    pub header: Option<String>,
    /// With `header`: the token, by reference. As everywhere in `auth`: one, or a list of two while
    /// the sender changes from the old one to the new one; `siemgate send` uses the first.
    pub secret: Option<Secrets>,
    /// The token of `Authorization: Bearer …`.
    pub bearer: Option<Secrets>,
    /// User and password of `Authorization: Basic …`.
    pub basic: Option<BasicAuth>,
    /// The signing secret of a sender that follows Standard Webhooks: `whsec_` and base64. The
    /// signature covers id, time and body; a time more than five minutes off is refused.
    pub standard_webhooks: Option<Secrets>,
    /// HMAC-SHA256 over the body, in a header: as GitHub does it, unless set otherwise.
    pub hmac: Option<HmacAuth>,
    /// Names (subjectAltName), one of which the sender's certificate has: a host such as
    /// `"defender.example"`, an address or a URI, exactly. Needs `[server.tls]` with `client_ca_file`.
    #[schemars(with = "Option<OneOrMany<String>>")]
    pub client_cert: Option<OneOrMany<String>>,
}

/// User and password.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: Secrets,
}

/// HMAC-SHA256 over the bytes of the body as they were sent: compressed, if they were.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HmacAuth {
    /// The key.
    pub secret: Secrets,
    /// Header that carries the signature.
    #[serde(default = "x_hub_signature")]
    pub header: String,
    /// What stands before the signature in the header. `sha256=`, if it is there, unless set.
    pub prefix: Option<String>,
    /// How the signature is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// Header with the time of sending, in seconds (or milliseconds) since 1970. With it, a request
    /// that is repeated within ten minutes is a duplicate, and a later one is refused.
    pub timestamp_header: Option<String>,
    /// With `timestamp_header`: how far its time may be from this machine's clock, at most (and
    /// unless set) `5m`.
    pub tolerance: Option<Span>,
    /// What is signed: text with `{body}` and `{timestamp}`. `{body}` unless set, or
    /// `{timestamp}.{body}` with `timestamp_header`.
    pub signed: Option<String>,
}

fn x_hub_signature() -> String {
    "X-Hub-Signature-256".to_owned()
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal digits.
    #[default]
    Hex,
    /// Base64, padded or not.
    Base64,
}
