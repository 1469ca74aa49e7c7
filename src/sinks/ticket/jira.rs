//! Jira issues, in the cloud and in data centres.
//!
//! Guarantees: an issue is found again by a label; descriptions and comments are preformatted, so
//! that a name neither mentions anybody nor becomes a link. Facts are common knowledge and
//! unverified: what a project may want otherwise is a setting.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::auth::Auth;
use super::super::http::{self, Address, Connection, Http, Request};
use super::super::show::{Reading, Shown};
use super::super::{Built, Kind, Proof};
use super::{Desk, Entry};
use crate::core::config::{Problem, Problems, Secret, Section};
use crate::core::sink::{Class, Idempotency};

/// Jira in the table of sinks.
pub const KIND: Kind = Kind {
    name: "jira",
    about: "Jira issues, Cloud and Data Center: opened, commented on and resolved by incident",
    sample: r#"[sinks.jira]
type = "jira"
url = "{{peer}}"
user = "siemgate@example.com"
token = { file = "{{dir}}/key" }
project = "SEC"
"#,
    class: Class::Incident,
    idempotency: Idempotency::None,
    formats: false,
    proof: Proof::UnverifiedFacts,
    proves: "that the issue was written; the receipt shows its key. In Jira: project = SEC AND labels = siemgate \
             ORDER BY created DESC",
    success: (201, r#"{"issues":[],"id":"10000","key":"SEC-1"}"#),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// Jira issues. Create an account that may browse the project, create issues in it, comment, and
/// resolve.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// The site, such as `https://example.atlassian.net`, or `https://jira.example`.
    url: Address,
    /// The account's e-mail address, for Jira Cloud. Without it the token is a personal access token
    /// of Jira Data Center.
    user: Option<String>,
    /// An API token of the account, or a personal access token.
    token: Secret,
    /// The project's key, such as `SEC`.
    project: String,
    /// The type of the issues.
    #[serde(default = "task")]
    issue_type: String,
    /// The number of the transition that resolves an issue, from
    /// `/rest/api/2/issue/KEY/transitions`. Without it the end of an incident is a comment.
    resolve_transition: Option<String>,
    #[serde(flatten)]
    reading: Reading,
    #[serde(flatten)]
    connection: Connection,
}

fn task() -> String {
    "Task".into()
}

struct Jira {
    base: String,
    site: Url,
    auth: Auth,
    cloud: bool,
    project: String,
    issue_type: String,
    transition: Option<String>,
}

fn build(section: &Section) -> Result<Built, Problems> {
    let settings: Settings = http::read(section)?;
    let key = |name: &str| format!("{}.{name}", section.key);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if settings.project.is_empty() || !settings.project.chars().all(plain) {
        let message = format!("`{}` is no project's key", settings.project);
        let problem = Problem::new(key("project"), message);
        return Err(vec![problem.help("it stands before the number of every issue, such as SEC")]);
    }
    let auth = match &settings.user {
        Some(user) => Auth::basic(user, settings.token.expose()),
        None => Auth::bearer(settings.token.expose()),
    };
    let auth = auth.map_err(|_| vec![Problem::new(key("token"), "cannot stand in a header")])?;
    let client =
        Http::build(section, "token", &settings.connection, &settings.url, &[&settings.token])?;
    let site = settings.url.url().clone();
    let desk = Jira {
        base: site.as_str().trim_end_matches('/').to_owned(),
        site,
        auth,
        cloud: settings.user.is_some(),
        project: settings.project,
        issue_type: settings.issue_type,
        transition: settings.resolve_transition,
    };
    let shown = Shown::of(Class::Incident, settings.reading);
    Ok(super::built(client, desk, shown, &section.key))
}

impl Jira {
    fn request(&self, method: Method, path: &str, body: Option<Value>) -> Request {
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(ACCEPT, json.clone()), (CONTENT_TYPE, json)]);
        let body = body.map(|body| body.to_string().into()).unwrap_or_default();
        // The base is an address and the paths are ours and plain.
        let url = format!("{}/rest/api/2/{path}", self.base).parse();
        Request { method, url: url.unwrap_or_else(|_| self.site.clone()), headers, body }
    }
}

fn label(key: &str) -> String {
    format!("siemgate-{key}")
}

/// Text in which Jira looks for no markup.
fn preformatted(text: &str) -> String {
    let text: String = text.replace("{", "{\u{2060}").chars().take(30_000).collect();
    format!("{{noformat}}\n{text}\n{{noformat}}")
}

fn comment(entry: &Entry) -> String {
    preformatted(&format!("{}\n{}", entry.headline, entry.text))
}

impl Desk for Jira {
    fn auth(&self) -> &Auth {
        &self.auth
    }

    fn search(&self, key: &str) -> Request {
        // Jira Cloud has closed the older of the two.
        let path = if self.cloud { "search/jql" } else { "search" };
        let mut request = self.request(Method::GET, path, None);
        let query = format!(
            "project = \"{}\" AND labels = \"{}\" AND statusCategory != Done ORDER BY created DESC",
            self.project,
            label(key)
        );
        request
            .url
            .query_pairs_mut()
            .append_pair("jql", &query)
            .append_pair("maxResults", "1")
            .append_pair("fields", "status");
        request
    }

    fn found(&self, body: &Value) -> Result<Option<String>, &'static str> {
        let issues = body.get("issues").and_then(Value::as_array);
        let issues = issues.ok_or("the reply lists no issues")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        match issues.first().map(|issue| issue.get("key").and_then(Value::as_str)) {
            None => Ok(None),
            Some(Some(key)) if key.chars().all(plain) => Ok(Some(key.to_owned())),
            Some(_) => Err("the reply names an issue that cannot be one"),
        }
    }

    fn open(&self, key: &str, entry: &Entry) -> Request {
        let body = json!({ "fields": {
            "project": { "key": self.project },
            "issuetype": { "name": self.issue_type },
            "summary": entry.headline,
            "description": preformatted(&entry.text),
            "labels": ["siemgate", label(key)],
        }});
        self.request(Method::POST, "issue", Some(body))
    }

    fn note(&self, ticket: &str, entry: &Entry) -> Request {
        let body = json!({ "body": comment(entry) });
        self.request(Method::POST, &format!("issue/{ticket}/comment"), Some(body))
    }

    fn resolve(&self, ticket: &str, entry: &Entry) -> Request {
        let Some(transition) = &self.transition else { return self.note(ticket, entry) };
        let body = json!({
            "update": { "comment": [{ "add": { "body": comment(entry) } }] },
            "transition": { "id": transition },
        });
        self.request(Method::POST, &format!("issue/{ticket}/transitions"), Some(body))
    }

    fn receipt(&self, body: &Value) -> Option<String> {
        body.get("key").or(body.get("id"))?.as_str().map(str::to_owned)
    }

    fn is_setup(&self, body: &Value) -> bool {
        let errors = body.get("errors").and_then(Value::as_object);
        errors.is_some_and(|errors| !errors.is_empty())
    }

    fn probe(&self) -> Request {
        self.request(Method::GET, "myself", None)
    }
}
