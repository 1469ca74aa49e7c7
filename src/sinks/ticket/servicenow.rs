//! ServiceNow's tables of incidents, by the Table API.
//!
//! Guarantees: a ticket is found again by its correlation, which no user of the product fills in;
//! `[code]` in a name does not become HTML. Facts are common knowledge and unverified: what an
//! instance may want otherwise is a setting.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::auth::Auth;
use super::super::http::{self, Address, Connection, Http, Request};
use super::super::show::{Reading, Shown};
use super::super::{Built, Kind, Proof};
use super::{Desk, Entry};
use crate::core::config::{Problem, Problems, Secret, Section};
use crate::core::sink::{Class, Idempotency};
use crate::formats::scales::{Step, scale};

/// What ServiceNow answers to a good write. As the answer to a search it names no ticket.
const SUCCESS: (u16, &str) = (201, r#"{"result":{"number":"INC0010001"}}"#);

/// Incidents in the table of sinks.
pub const INCIDENT: Kind = Kind {
    name: "servicenow_incident",
    about: "ServiceNow incidents: opened, noted in and resolved by incident",
    sample: "[sinks.tickets]\ntype = \"servicenow_incident\"\nurl = \"{{peer}}\"\nuser = \"siemgate\"\npassword = { file = \"{{dir}}/key\" }\n",
    class: Class::Incident,
    idempotency: Idempotency::None,
    formats: false,
    proof: Proof::UnverifiedFacts,
    proves: "that the incident was written. Open it in ServiceNow by its number, which the receipt shows, or list \
             incidents with the correlation display siemgate.",
    success: SUCCESS,
    schema: || schemars::schema_for!(Settings),
    build: |section| build(section, "incident", "6"),
};

/// Security incidents in the table of sinks.
pub const SIR: Kind = Kind {
    name: "servicenow_sir",
    about: "ServiceNow security incidents (SIR): opened, noted in and moved to review by incident",
    sample: "[sinks.sir]\ntype = \"servicenow_sir\"\nurl = \"{{peer}}\"\nuser = \"siemgate\"\npassword = { file = \"{{dir}}/key\" }\n",
    proves: "that the security incident was written. Open it in ServiceNow by its number, which the receipt shows, or \
             list security incidents with the correlation display siemgate.",
    build: |section| build(section, "sn_si_incident", "100"),
    ..INCIDENT
};

/// ServiceNow tickets. Create a user with web service access only and the right to read and write the
/// table (for security incidents the role sn_si.basic).
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// The instance, such as `https://example.service-now.com`.
    url: Address,
    /// The user's name.
    user: String,
    /// The user's password.
    password: Secret,
    /// Who gets the tickets: name or sys_id of a group. As the instance decides unless set.
    assignment_group: Option<String>,
    /// On whose behalf they are opened: name or sys_id of a user.
    caller: Option<String>,
    /// Their category.
    category: Option<String>,
    /// The state that an ended incident's ticket gets, by its number; empty leaves it as it is and adds
    /// a note. 6 (resolved) for incidents and 100 (review) for security incidents unless set.
    resolved_state: Option<String>,
    /// The resolution code that goes with it.
    close_code: Option<String>,
    #[serde(flatten)]
    reading: Reading,
    #[serde(flatten)]
    connection: Connection,
}

struct ServiceNow {
    table: Url,
    auth: Auth,
    extra: Map<String, Value>,
    resolved: Option<String>,
    close_code: Option<String>,
}

fn build(section: &Section, table: &'static str, resolved: &str) -> Result<Built, Problems> {
    let settings: Settings = http::read(section)?;
    let key = |name: &str| format!("{}.{name}", section.key);
    let table =
        settings.url.url().as_str().trim_end_matches('/').to_owned() + "/api/now/table/" + table;
    let table = table
        .parse()
        .map_err(|error| vec![Problem::new(key("url"), format!("is no instance: {error}"))])?;
    let auth = Auth::basic(&settings.user, settings.password.expose())
        .map_err(|_| vec![Problem::new(key("password"), "cannot stand in a header")])?;
    let client = Http::build(
        section,
        "password",
        &settings.connection,
        &settings.url,
        &[&settings.password],
    )?;
    let resolved = settings.resolved_state.unwrap_or_else(|| resolved.to_owned());
    let extra = [
        ("assignment_group", settings.assignment_group),
        ("caller_id", settings.caller),
        ("category", settings.category),
    ];
    let extra =
        extra.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    let desk = ServiceNow {
        table,
        auth,
        extra: extra.collect(),
        resolved: Some(resolved).filter(|state| !state.is_empty()),
        close_code: settings.close_code,
    };
    let shown = Shown::of(Class::Incident, settings.reading);
    Ok(super::built(client, desk, shown, &section.key))
}

impl ServiceNow {
    fn request(&self, method: Method, url: Url, body: Option<Value>) -> Request {
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(ACCEPT, json.clone()), (CONTENT_TYPE, json)]);
        let body = body.map(|body| body.to_string().into()).unwrap_or_default();
        Request { method, url, headers, body }
    }

    fn list(&self, query: &str) -> Url {
        let mut url = self.table.clone();
        url.query_pairs_mut()
            .append_pair("sysparm_query", query)
            .append_pair("sysparm_limit", "1")
            .append_pair("sysparm_fields", "sys_id,number");
        url
    }

    fn ticket(&self, sys_id: &str) -> Url {
        let mut url = self.table.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(sys_id);
        }
        url
    }
}

/// Text for a journal field, where `[code]` would begin HTML.
fn plain(text: &str) -> String {
    text.replace('[', "[\u{2060}")
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

fn word(step: Step) -> Value {
    match step {
        Step::Word(word) => word.into(),
        Step::Number(number) => number.to_string().into(),
    }
}

impl Desk for ServiceNow {
    fn auth(&self) -> &Auth {
        &self.auth
    }

    fn search(&self, key: &str) -> Request {
        let query = format!(
            "correlation_id={key}^correlation_display=siemgate^active=true^ORDERBYDESCsys_created_on"
        );
        self.request(Method::GET, self.list(&query), None)
    }

    fn found(&self, body: &Value) -> Result<Option<String>, &'static str> {
        let result = body.get("result").ok_or("the reply has no result")?;
        let record = match result {
            Value::Array(records) => records.first(),
            record => Some(record),
        };
        let id = record.and_then(|record| record.get("sys_id")).and_then(Value::as_str);
        match id {
            Some(id) if id.bytes().all(|b| b.is_ascii_alphanumeric()) => Ok(Some(id.to_owned())),
            Some(_) => Err("the reply names a ticket that cannot be one"),
            None => Ok(None),
        }
    }

    fn open(&self, key: &str, entry: &Entry) -> Request {
        let urgency = scale("servicenow_urgency").map(|scale| word(scale.of(entry.severity)));
        let mut body = json!({
            "short_description": cut(&entry.headline, 160),
            "description": cut(&entry.text, 4_000),
            "urgency": urgency,
            "impact": urgency,
            "correlation_id": key,
            "correlation_display": "siemgate",
        });
        if let Some(body) = body.as_object_mut() {
            body.extend(self.extra.clone());
        }
        self.request(Method::POST, self.table.clone(), Some(body))
    }

    fn note(&self, ticket: &str, entry: &Entry) -> Request {
        let note = plain(&format!("{}\n{}", entry.headline, entry.text));
        self.request(Method::PATCH, self.ticket(ticket), Some(json!({ "work_notes": note })))
    }

    fn resolve(&self, ticket: &str, entry: &Entry) -> Request {
        let Some(state) = &self.resolved else { return self.note(ticket, entry) };
        let note = plain(&format!("{}\n{}", entry.headline, entry.text));
        let mut body =
            json!({ "state": state, "work_notes": note, "close_notes": plain(&entry.headline) });
        if let Some(code) = &self.close_code {
            body["close_code"] = code.as_str().into();
        }
        self.request(Method::PATCH, self.ticket(ticket), Some(body))
    }

    fn receipt(&self, body: &Value) -> Option<String> {
        let number = body.pointer("/result/number").or(body.pointer("/result/sys_id"))?;
        number.as_str().map(str::to_owned)
    }

    fn is_setup(&self, _: &Value) -> bool {
        false
    }

    fn probe(&self) -> Request {
        self.request(Method::GET, self.list("correlation_display=siemgate"), None)
    }
}
