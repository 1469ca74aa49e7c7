//! `type = "http"`: a preset written inside the sink's own section.
//!
//! Guarantees: the same structure, checks and limits as a preset's file; `fields` holds the values
//! that its texts name, so that a secret stays a reference.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::super::http::{Address, Connection};
use super::super::{Built, Kind, Proof, part};
use super::Preset;
use super::fields::{Field, Set, Values};
use super::file::{Body, File, Limits, Probe, Request, Ways};
use super::reply::Rules;
use crate::core::config::{Problem, Problems, Secret, Section};
use crate::core::sink::{Class, Idempotency};

/// Any HTTP destination in the table of sinks.
pub(in crate::sinks) const KIND: Kind = Kind {
    name: "http",
    about: "Any HTTP destination: address, headers, credentials and body as you write them",
    sample: r#"[sinks.hook]
type = "http"
url = "{{peer}}/hooks/siemgate"
fields = { token = { file = "{{dir}}/key" } }
auth = { header = { name = "x-token", value = "{{token}}" } }
"#,
    class: Class::Siem,
    idempotency: Idempotency::None,
    formats: true,
    proof: Proof::Documented,
    proves: "that the address answered with a success. What it then does with the event shows there.",
    success: (200, "{}"),
    schema: || schemars::schema_for!(Inline),
    build,
};

/// Any HTTP destination. `{{name}}` in a text stands for a value of `fields`, for `@id`, `@source`,
/// `@incident`, `@body`, `@time.FORM`, `@received.FORM`, for a fact such as `finding.severity`, or for
/// a value of the event such as `.userName`; `?` behind a name leaves the key out where there is no
/// value, `:80` cuts it. docs/presets.md has all of them.
#[derive(Deserialize, JsonSchema)]
struct Inline {
    /// Where requests go.
    url: Address,
    /// Values that texts may name: texts, numbers, or references to secrets.
    #[serde(default)]
    fields: BTreeMap<String, Value>,
    /// The method.
    #[serde(default = "post")]
    method: String,
    /// What stands in the address's query, beside what `url` has.
    #[serde(default)]
    query: BTreeMap<String, String>,
    /// Headers, such as `{ "X-Tenant" = "{{tenant}}" }`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Credentials: `{ bearer = "{{token}}" }`, `{ basic = { user = "u", password = "{{password}}" } }`,
    /// `{ header = { name = "x-key", value = "{{key}}" } }`, `oauth2`, `login`,
    /// `google`, `sigv4`, `standard_webhooks`, `hmac`, `xsiam` or `shared_access`; none unless set.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Value>")]
    auth: Ways,
    /// Compress request bodies.
    #[serde(default)]
    gzip: bool,
    /// What the body is; by its frame unless set.
    content_type: Option<String>,
    /// What is sent: `{ frame = "array", event = { id = "{{@id}}", alert = "{{@body}}" } }`. The event
    /// itself, one a request, unless set.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Value>")]
    body: Body,
    /// What the destination takes: `{ bytes = "1MB", events = 100 }`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Value>")]
    limits: Limits,
    /// What its answers mean, where that differs from the usual: `{ ok = { json = { ok = true } } }`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Value>")]
    reply: Rules,
    /// How to reach it without delivering: `{ get = "{{url}}/health" }`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Value>")]
    probe: Option<Probe>,
    #[serde(flatten)]
    _connection: Connection,
}

fn post() -> String {
    "POST".into()
}

fn build(section: &Section) -> Result<Built, Problems> {
    let inline: Inline = super::super::http::read(section)?;
    let mut problems = part::<Connection>(section);
    let (mut fields, mut values) = (BTreeMap::new(), BTreeMap::new());
    fields.insert("url".to_owned(), Field::address());
    values.insert("url".to_owned(), Set::Address(inline.url));
    for (name, value) in inline.fields {
        let key = format!("{}.fields.{name}", section.key);
        match set(&key, &value) {
            Ok(set) => {
                fields.insert(name.clone(), Field::given());
                values.insert(name, set);
            }
            Err(problem) => problems.push(problem),
        }
    }
    let request = Request {
        method: inline.method,
        url: "{{url}}".into(),
        query: inline.query,
        headers: inline.headers,
        auth: inline.auth,
        gzip: inline.gzip,
        content_type: inline.content_type,
    };
    let file = File {
        name: "http".into(),
        about: String::new(),
        docs: String::new(),
        class: Class::Siem,
        idempotency: Idempotency::None,
        unverified: false,
        setup: String::new(),
        proves: String::new(),
        fields,
        request,
        body: inline.body,
        limits: inline.limits,
        reply: inline.reply,
        probe: inline.probe,
        ended: None,
        ack: None,
    };
    let preset = Preset { file, fingerprint: [0; 32] };
    let told = |wrong: String| Problem::new(section.key.clone(), wrong);
    problems.extend(preset.mistakes().into_iter().map(told));
    if problems.is_empty() { preset.with(section, Values::of(values)) } else { Err(problems) }
}

fn set(key: &str, value: &Value) -> Result<Set, Problem> {
    match value {
        Value::Object(_) => serde_json::from_value::<Secret>(value.clone())
            .map(Set::Secret)
            .map_err(|error| Problem::new(key, error.to_string())),
        Value::Array(_) | Value::Null => Err(Problem::new(
            key,
            "must be a text, a number, true or false, or a secret's reference",
        )),
        plain => Ok(Set::Plain(plain.clone())),
    }
}
