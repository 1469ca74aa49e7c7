//! Syslog: RFC 5424 or 3164 over UDP, TCP or TLS.
//!
//! Guarantees: one event is one message that no value of the event can end or add to; the header's
//! time is the gateway's, so a message that is sent twice is the same twice; what does not fit is
//! shortened in the format's written order. Syslog over TCP and TLS acknowledges nothing and UDP
//! is best effort: see `socket/stream.rs` and `socket/datagram.rs` for what that means here.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use super::socket::{self, Connection, Endpoint, Head, Message, Way};
use super::{Built, Kind, Proof};
use crate::core::config::{ByteSize, Problem, Problems, Secret, Section};
use crate::core::sink::{Class, Idempotency};
use crate::formats::{Named, rfc3164, rfc5424};

/// Syslog in the table of sinks.
pub const KIND: Kind = Kind {
    name: "syslog",
    about: "Syslog over UDP, TCP or TLS: RFC 5424 or 3164 with JSON, CEF, LEEF or CSV",
    sample: r#"[sinks.soc]
type = "syslog"
address = "tcp://{{host}}"
"#,
    proves: "that the bytes left, over TCP or TLS also that somebody holds the connection. Syslog confirms nothing: look at the receiver.",
    class: Class::Siem,
    idempotency: Idempotency::None,
    formats: true,
    proof: Proof::Documented,
    success: (0, ""),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// Syslog: ArcSight, FortiSIEM, syslog-ng, rsyslog and most other collectors. QRadar and others, of which
/// more is known, are kinds of their own: docs/destinations.md.
///
/// An event counts as delivered when its bytes are on their way. Syslog acknowledges nothing: over
/// TCP and TLS `resend` covers a receiver that restarts, at the price of doubles, but not a gateway
/// that ends at the same moment; over UDP what is lost on the way stays lost, and only a port where
/// nothing listens is noticed.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// `"udp://host:514"`, `"tcp://host:514"` or `"tls://host:6514"`; these ports unless given.
    address: Endpoint,
    /// What stands before the text.
    #[serde(default)]
    header: Header,
    /// How the event is written, unless its route says so.
    #[serde(default)]
    format: Named,
    /// Begin the text with the byte order mark that RFC 5424 recommends. Off, because many parsers
    /// of CEF, LEEF and JSON stumble over it.
    #[serde(default)]
    bom: bool,
    /// The facility in the header: `kern`, `user`, `mail`, `daemon`, `auth`, `syslog`, `lpr`, `news`,
    /// `uucp`, `cron`, `authpriv`, `ftp`, `ntp`, `audit`, `alert`, `clock` or `local0` to `local7`. Its
    /// severity is that of the event; an unknown one counts as high.
    #[serde(default)]
    facility: Facility,
    /// The host in the header; QRadar finds the log source by it. This machine's name unless set.
    hostname: Option<String>,
    /// The program in the header: the app-name of RFC 5424, the tag of RFC 3164 (there without
    /// anything but letters and digits).
    #[serde(default = "siemgate")]
    app_name: String,
    /// The tag of RFC 3164 as it stands, for receivers that sort by it, such as Devo's
    /// `my.app.superna.events`. Made of `app_name` unless set.
    tag: Option<String>,
    /// Structured data of RFC 5424: `{ "origin@32473" = { env = "prod" } }`. A value may be a secret
    /// (`{ env = "NAME" }`), for services that know their customers by it.
    #[serde(default)]
    structured_data: BTreeMap<String, BTreeMap<String, Param>>,
    /// Longest message, header included, frame not. 2 KiB for UDP and 8 KiB for TCP and TLS unless
    /// set: what RFC 5426 and 5425 tell receivers to take. The header is never cut. In `cef`, `leef`
    /// and `csv` first lists shrink to their first item: files, shares, clients, clusters. Then, in
    /// this order, from the end: files, shares, clients, clusters; title; first file; link; source,
    /// protocol and category; incident; at last cluster, account and client. `raw` names what it has
    /// cut; so do the formats that are JSON documents, which first give up the original in them:
    /// docs/formats.md. What cannot be made to fit becomes a dead letter.
    max_bytes: Option<ByteSize>,
    #[serde(flatten)]
    connection: Connection,
}

fn siemgate() -> String {
    "siemgate".to_owned()
}

/// What stands before the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Header {
    /// With date, zone, milliseconds and structured data.
    #[default]
    Rfc5424,
    /// The old form, in UTC.
    Rfc3164,
}

/// A syslog facility.
#[derive(Clone, Copy, Debug)]
struct Facility(u8);

/// Their names by number.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

impl Default for Facility {
    fn default() -> Self {
        Self(16)
    }
}

impl Serialize for Facility {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(FACILITIES[usize::from(self.0)])
    }
}

impl<'de> Deserialize<'de> for Facility {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = (0..).zip(FACILITIES).find(|(_, known)| *known == name);
        found.map(|(number, _)| Self(number)).ok_or_else(|| {
            D::Error::custom(format!("`{name}` is no facility; known: {}", FACILITIES.join(", ")))
        })
    }
}

impl JsonSchema for Facility {
    fn schema_name() -> Cow<'static, str> {
        "Facility".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": FACILITIES })
    }
}

/// A value of structured data.
struct Param {
    value: String,
    is_secret: bool,
}

impl<'de> Deserialize<'de> for Param {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(value) => Ok(Self { value, is_secret: false }),
            reference => {
                let secret: Secret = serde_json::from_value(reference).map_err(D::Error::custom)?;
                Ok(Self { value: secret.expose().to_owned(), is_secret: true })
            }
        }
    }
}

impl JsonSchema for Param {
    fn schema_name() -> Cow<'static, str> {
        "Param".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let reference = generator.subschema_for::<Secret>();
        json_schema!({ "anyOf": [{ "type": "string" }, reference] })
    }
}

fn build(section: &Section) -> Result<Built, Problems> {
    let settings: Settings = socket::read(section)?;
    let way = settings.address.way;
    let (usual, port) = match way {
        Way::Udp => (2_048, 514),
        Way::Tcp => (8_192, 514),
        Way::Tls => (8_192, 6_514),
    };
    let mut problems = contradictions(section, &settings);
    let data = elements(section, &settings.structured_data);
    let size = socket::size(section, way, settings.max_bytes, usual);
    problems.extend(data.as_ref().err().into_iter().flatten().cloned());
    problems.extend(size.as_ref().err().cloned());
    let (Ok(data), Ok(max_bytes), true) = (data, size, problems.is_empty()) else {
        return Err(problems);
    };
    let secrets = secrets(&settings.structured_data);
    let head = head(&settings, &data);
    let message = Message { head, format: settings.format.0, framing: None, max_bytes };
    let to = settings.address.or_port(port);
    match way {
        Way::Udp => socket::datagrams(section, to, message, secrets),
        _ => socket::connected(section, to, settings.connection, message, secrets),
    }
}

fn head(settings: &Settings, data: &[String]) -> Head {
    let (facility, app) = (settings.facility.0, &settings.app_name);
    let host = settings.hostname.clone().unwrap_or_else(this_machine);
    match settings.header {
        Header::Rfc5424 => {
            Head::Rfc5424(rfc5424::Header::new(facility, &host, app, data), settings.bom)
        }
        Header::Rfc3164 => {
            let tag = settings.tag.clone().unwrap_or_else(|| rfc3164::tag(app));
            Head::Rfc3164(rfc3164::Header::new(facility, &host, &tag))
        }
    }
}

fn this_machine() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default()
}

/// Settings that cannot hold together, and names that the header cannot hold.
fn contradictions(section: &Section, settings: &Settings) -> Problems {
    let key = |name: &str| format!("{}.{name}", section.key);
    let mut problems = Problems::new();
    if settings.address.way == Way::Udp {
        problems.extend(socket::meaningless(section));
    }
    if settings.header == Header::Rfc3164 {
        let set =
            [("bom", settings.bom), ("structured_data", !settings.structured_data.is_empty())];
        for (name, _) in set.into_iter().filter(|(_, set)| *set) {
            let told = Problem::new(key(name), "has no place in a header of RFC 3164");
            problems.push(told.help("remove it, or write header = \"rfc5424\""));
        }
    }
    if settings.header == Header::Rfc5424 && settings.tag.is_some() {
        let told = Problem::new(key("tag"), "has no place in a header of RFC 5424");
        problems.push(told.help("write app_name, or header = \"rfc3164\""));
    }
    if settings.tag.as_ref().is_some_and(|tag| tag.contains([':', '['])) {
        problems.push(Problem::new(key("tag"), "must have no `:` or `[`: these end a tag"));
    }
    let (host, app) = rfc5424::Header::NAMES;
    let names = [
        ("hostname", settings.hostname.as_ref(), host),
        ("app_name", Some(&settings.app_name), app),
        ("tag", settings.tag.as_ref(), rfc3164::TAG),
    ];
    for (name, value, most) in names {
        let good = |text: &&String| {
            (1..=most).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic())
        };
        if value.is_some_and(|text| !good(&text)) {
            let told = format!("must have 1 to {most} printable characters of ASCII, no spaces");
            problems.push(Problem::new(key(name), told));
        }
    }
    problems
}

fn elements(
    section: &Section,
    data: &BTreeMap<String, BTreeMap<String, Param>>,
) -> Result<Vec<String>, Problems> {
    let (mut elements, mut problems) = (Vec::new(), Problems::new());
    for (id, params) in data {
        let pairs = params.iter().map(|(name, param)| (name.as_str(), param.value.as_str()));
        match rfc5424::element(id, pairs) {
            Ok(element) => elements.push(element),
            Err(told) => {
                problems.push(Problem::new(format!("{}.structured_data.{id}", section.key), told));
            }
        }
    }
    if problems.is_empty() { Ok(elements) } else { Err(problems) }
}

/// The secrets as they stand in the header.
fn secrets(data: &BTreeMap<String, BTreeMap<String, Param>>) -> Vec<String> {
    let secret = data.values().flat_map(BTreeMap::values).filter(|param| param.is_secret);
    secret.map(|param| rfc5424::escaped(&param.value)).collect()
}
