//! AWS Security Hub, by `BatchImportFindings`.
//!
//! Guarantees: one finding an incident: updates change it, and its end archives it; at most 100 findings
//! of 240 KB; exactly those that the answer names are sent again. What a finding looks like is in
//! `formats/asff.rs`.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::super::http::{Answer, Connection, Request};
use super::super::{Built, Kind, Proof};
use super::{Intake, Taken, codes};
use crate::core::Timestamp;
use crate::core::config::{Problem, Problems, Section};
use crate::core::route::Shaped;
use crate::core::sink::{Cause, Class, Idempotency, Limits, Piece};
use crate::formats::asff;

/// Security Hub in the table of sinks.
pub const KIND: Kind = Kind {
    name: "security_hub",
    about: "AWS Security Hub: findings, one an incident",
    sample: r#"[sinks.securityhub]
type = "security_hub"
account = "123456789012"
region = "eu-central-1"
access_key = { file = "{{dir}}/key" }
secret_key = { file = "{{dir}}/key" }
url = "{{peer}}" # documents: # url = "…": that of the region unless set
"#,
    class: Class::Siem,
    idempotency: Idempotency::Native,
    formats: false,
    proof: Proof::Documented,
    proves: "that Security Hub has imported the finding. It must be enabled in the region, and the key needs \
             securityhub:BatchImportFindings in the same account. Findings shows it: Company name is Superna. The end \
             of an incident archives the finding; its workflow status is the analysts', and only a new finding's is set",
    success: (200, r#"{"FailedCount":0,"SuccessCount":100,"FailedFindings":[]}"#),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// Most findings of a request.
const FINDINGS: usize = 100;
/// Largest finding.
const BYTES: usize = 240_000;
/// Largest request: as many of the largest findings as memory should hold.
const REQUEST: usize = 4 << 20;

/// Security Hub, in one account and region.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// The account that the keys belong to, twelve digits: findings can be imported into no other.
    account: String,
    /// The product's ARN. That of the account's own findings unless set, which needs no partner:
    /// `arn:aws:securityhub:REGION:ACCOUNT:product/ACCOUNT/default`.
    product_arn: Option<String>,
    #[serde(flatten)]
    keys: super::Account,
    #[serde(flatten)]
    connection: Connection,
}

struct Hub {
    url: Url,
    account: asff::Account,
    section: String,
}

fn build(section: &Section) -> Result<Built, Problems> {
    let Settings { account, product_arn, keys, connection } = super::read(section)?;
    let key = |name: &str| format!("{}.{name}", section.key);
    let mut problems = keys.mistakes(section);
    if account.len() != 12 || !account.chars().all(|c| c.is_ascii_digit()) {
        problems.push(Problem::new(key("account"), "is no account: it has twelve digits"));
    }
    if product_arn
        .as_deref()
        .is_some_and(|arn| !arn.starts_with("arn:") || !arn.contains(":product/"))
    {
        problems.push(Problem::new(key("product_arn"), "is no product's ARN"));
    }
    let Some(to) = keys.url.clone().or_else(|| keys.regional("securityhub")) else {
        return Err(problems);
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let client = keys.open(section, &connection, "securityhub", &to)?;
    let mut account = asff::Account::new(&account, keys.partition(), &keys.region);
    account.product_arn = product_arn.unwrap_or(account.product_arn);
    let mut url = to.url().clone();
    url.set_path(&format!("{}/findings/import", url.path().trim_end_matches('/')));
    let hub = Hub { url, account, section: section.key.clone() };
    let limits = Limits {
        event_bytes: BYTES,
        batch_events: FINDINGS,
        batch_bytes: REQUEST,
        in_flight: 2,
        ordered: false,
    };
    Ok(super::built(section, client, hub, limits))
}

/// The finding's own id, as `encode` has written it.
fn id(piece: &Piece) -> Option<String> {
    let finding: Value = serde_json::from_slice(&piece.bytes).ok()?;
    Some(finding.get("Id")?.as_str()?.to_owned())
}

impl Intake for Hub {
    fn encode(&self, event: &Shaped, room: usize) -> Option<Bytes> {
        asff::write(event, &self.account, room)
    }

    fn request(&self, pieces: &[Piece], _: Option<Timestamp>) -> Request {
        let json = HeaderValue::from_static("application/json");
        Request {
            method: Method::POST,
            url: self.url.clone(),
            headers: HeaderMap::from_iter([(CONTENT_TYPE, json)]),
            body: super::listed("{\"Findings\":[", pieces, "]}"),
        }
    }

    fn taken(&self, answer: &Answer, pieces: &[Piece]) -> Option<Taken> {
        let body = super::json(answer)?;
        let count = |name: &str| usize::try_from(body.get(name)?.as_u64()?).ok();
        let (good, failed) = (count("SuccessCount")?, count("FailedCount")?);
        let listed = body.get("FailedFindings").and_then(Value::as_array);
        let text = |entry: &Value, key: &str| {
            entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let ids: Vec<Option<String>> = match failed {
            0 => Vec::new(),
            _ => pieces.iter().map(id).collect(),
        };
        let fault = |entry: &Value| {
            let named = text(entry, "Id");
            let index = ids.iter().position(|id| id.as_deref() == Some(named.as_str()))?;
            let (code, why) = (text(entry, "ErrorCode"), text(entry, "ErrorMessage"));
            Some((index, codes::of_piece(&code, &why, Cause::Refused, &self.section)))
        };
        let bad = listed.into_iter().flatten().filter(|_| failed > 0);
        let faults = bad.filter_map(fault).collect();
        Some(Taken { id: None, told: good + failed, failed, faults })
    }
}
