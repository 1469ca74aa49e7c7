//! A preset's file: a destination as data.
//!
//! Guarantees: everything that can be wrong with it without an event is told when it is read, with
//! its place in the file: unknown keys, placeholders that name nothing, a frame without what it needs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::fields::Fields;
use super::frame::Form;
use super::markup::Markup;
use super::reply::Rules;
use crate::core::config::{ByteSize, Rate};
use crate::core::sink::{Class, Idempotency};
use crate::formats::Named;

/// One file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// The `type` in `[sinks.NAME]`.
    pub name: String,
    /// One line for lists.
    pub about: String,
    /// The page it was built from.
    #[serde(default)]
    pub docs: String,
    /// What it is for.
    pub class: Class,
    /// Whether the product recognises an event that it is sent twice.
    #[serde(default)]
    pub idempotency: Idempotency,
    /// Some facts could not be verified; they are settings with safe defaults.
    #[serde(default)]
    pub unverified: bool,
    /// What to do in the product first.
    #[serde(default)]
    pub setup: String,
    /// What a delivery proves, and where the product then shows the event.
    #[serde(default)]
    pub proves: String,
    /// What the user may set.
    #[serde(default)]
    pub fields: Fields,
    /// How it is asked.
    pub request: Request,
    /// What is sent.
    #[serde(default)]
    pub body: Body,
    /// The vendor's limits.
    #[serde(default)]
    pub limits: Limits,
    /// What the answers mean.
    #[serde(default)]
    pub reply: Rules,
    /// How to reach it without delivering.
    pub probe: Option<Probe>,
    /// The request for an event that ends its incident, where the product has another for it.
    pub ended: Option<Ended>,
    /// How the product confirms later what it has taken.
    pub ack: Option<Ack>,
}

/// `[ack]`: for products that take a request first, give it an id, and say later that they have it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ack {
    /// The field, true or false, that switches it on.
    pub when: String,
    /// The field with the longest wait, in seconds.
    pub wait: String,
    /// The header with the channel, a GUID that questions repeat.
    pub channel: String,
    /// Where an answer has the id: a JSON pointer.
    pub id: String,
    /// Where the question goes.
    pub post: String,
    /// The question, with `{{@ack}}` in place of the id.
    pub body: Value,
    /// Where its answer says `true`: a JSON pointer, with `{{@ack}}` in it.
    pub yes: String,
    /// Most requests at once: those that wait keep nobody busy.
    pub in_flight: usize,
}

/// `[ended]`: for products that close what they opened by another request. One event a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ended {
    #[serde(default = "post")]
    pub method: String,
    /// The address; beside fields it may hold `{{@incident.key}}` and `{{@id}}`.
    pub url: String,
    /// What is sent.
    pub event: Value,
}

/// `[request]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    #[serde(default = "post")]
    pub method: String,
    /// The address; placeholders are percent-encoded unless they are addresses themselves.
    pub url: String,
    /// The address's query, beside what `url` has; one whose optional placeholder is missing is left out.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Headers; one whose optional placeholder is missing is left out.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Credentials.
    #[serde(default)]
    pub auth: Ways,
    /// Compress bodies from 1 KiB on.
    #[serde(default)]
    pub gzip: bool,
    /// What the body is; JSON unless set.
    pub content_type: Option<String>,
}

fn post() -> String {
    "POST".into()
}

/// One way, or several: that one counts whose fields are set, and none where none is.
#[derive(Clone, Debug, Default)]
pub(super) struct Ways(pub Vec<Auth>);

impl<'de> Deserialize<'de> for Ways {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyWays)
    }
}

/// Not an untagged enumeration: that would not say what is wrong.
struct AnyWays;

impl<'de> Visitor<'de> for AnyWays {
    type Value = Ways;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a way of authenticating, or a list of them")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Ways, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Ways)
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Ways, A::Error> {
        Auth::deserialize(MapAccessDeserializer::new(table)).map(|way| Ways(vec![way]))
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Ways, E> {
        Auth::deserialize(word.into_deserializer()).map(|way| Ways(vec![way]))
    }
}

/// How a request proves who sends it. Texts may hold placeholders of fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Auth {
    /// Not at all, or by the address.
    #[default]
    None,
    /// `Authorization: Bearer …`
    Bearer(String),
    /// A user and a password.
    Basic { user: String, password: String },
    /// A header of its own.
    Header { name: String, value: String },
    /// OAuth 2 client credentials.
    Oauth2 {
        token_url: String,
        client_id: String,
        client_secret: String,
        #[serde(default)]
        scope: String,
        #[serde(default)]
        audience: String,
    },
    /// A token that a login with a name and a password gives, at a JSON pointer of its answer.
    Login { url: String, user: String, password: String, token: String },
    /// A Google service account's key (JSON); tokens come from the endpoint that it names.
    Google {
        key: String,
        scope: String,
        #[serde(default)]
        token_url: String,
    },
    /// AWS Signature Version 4.
    Sigv4 {
        service: String,
        region: String,
        access_key: String,
        secret_key: String,
        #[serde(default)]
        session_token: String,
    },
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    StandardWebhooks(String),
    /// HMAC-SHA256 of the body in a header.
    Hmac {
        secret: String,
        header: String,
        #[serde(default)]
        prefix: String,
        #[serde(default)]
        base64: bool,
    },
    /// Cortex' advanced keys: a hash of key, nonce and time.
    Xsiam { key: String, key_id: String },
    /// A shared access signature for `resource`, as Azure's buses want it.
    SharedAccess { resource: String, policy: String, key: String },
}

impl Auth {
    /// All its texts.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Self::None => Vec::new(),
            Self::Bearer(text) | Self::StandardWebhooks(text) => vec![text],
            Self::Basic { user, password } => vec![user, password],
            Self::Header { name, value } => vec![name, value],
            Self::Oauth2 { token_url, client_id, client_secret, scope, audience } => {
                vec![token_url, client_id, client_secret, scope, audience]
            }
            Self::Login { url, user, password, token } => vec![url, user, password, token],
            Self::Google { key, scope, token_url } => vec![key, scope, token_url],
            Self::Sigv4 { service, region, access_key, secret_key, session_token } => {
                vec![service, region, access_key, secret_key, session_token]
            }
            Self::Hmac { secret, header, prefix, .. } => vec![secret, header, prefix],
            Self::Xsiam { key, key_id } => vec![key, key_id],
            Self::SharedAccess { resource, policy, key } => vec![resource, policy, key],
        }
    }
}

/// `[body]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    /// How events stand together.
    #[serde(default = "single")]
    pub frame: Form,
    /// One event.
    #[serde(default = "whole")]
    pub event: Value,
    /// The format of `{{@body}}` unless the route names another; the event's own JSON unless set.
    pub format: Option<Named>,
    /// The formats that the destination takes, `format` among them; all unless set.
    #[serde(default)]
    pub formats: Vec<Named>,
    /// Around all events, with `"{{@events}}"` in their place.
    pub wrap: Option<Value>,
    /// Before every event of a bulk.
    pub action: Option<Value>,
    /// What names and other foreign texts must not be read as.
    #[serde(default)]
    pub markup: Markup,
}

fn single() -> Form {
    Form::Single
}

fn whole() -> Value {
    "{{@body}}".into()
}

impl Default for Body {
    fn default() -> Self {
        Self {
            frame: single(),
            event: whole(),
            format: None,
            formats: Vec::new(),
            wrap: None,
            action: None,
            markup: Markup::None,
        }
    }
}

/// `[limits]`: the vendor's; configuration may only lower them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    /// Most bytes of a request's body, uncompressed.
    pub bytes: Option<ByteSize>,
    /// Most bytes of one event; as `bytes` unless set.
    pub event_bytes: Option<ByteSize>,
    /// Most events of a request.
    pub events: Option<usize>,
    /// Most requests at once.
    pub in_flight: Option<usize>,
    /// Most events in a time, unless the user sets another.
    pub rate: Option<Rate>,
    /// Whether a too large event may be shortened. Not where the product wants the original.
    pub whole: bool,
}

/// `[probe]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Probe {
    pub get: Option<String>,
    pub post: Option<String>,
    /// The body of a POST.
    pub body: Option<Value>,
    /// A success proves that events would be accepted with these credentials.
    #[serde(default)]
    pub proves: bool,
}
