//! Any product that posts JSON: the settings say where the facts stand.
//!
//! Guarantees: decoding is total; a fact without a configured path is absent, not unknown; only
//! a configured `severity` or `state` that is missing or not understood, and a time that cannot
//! be read, are counted. States are the product's own words. It is not a transformation: the body
//! is delivered as it came.

mod path;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::time::Times;
use super::{Kind, one_line, web_link};
use crate::core::Timestamp;
use crate::core::config::{OneOrMany, Problems, Section};
use crate::core::finding::{Finding, Severity, State, normalise};
use crate::core::source::Source;
use path::Path;

/// The type `json`.
pub(super) const KIND: Kind = Kind {
    name: "json",
    about: "Any JSON webhook; settings name where severity, state and the rest stand",
    dedupe: false,
    schema: || schemars::schema_for!(Settings),
    build,
};

/// Most values kept of one list.
const KEPT: usize = 1_000;

/// One place, or several of which the first that has a value counts.
type Paths = Option<OneOrMany<Path>>;

/// `[sources.NAME]` with `type = "json"`.
///
/// Every fact is optional and named by a path into the body: a JSON pointer
/// (`"/alerts/0/labels/severity"`) or names with dots (`"alert.labels.severity"`; a key that has
/// dots itself is found too). `*` stands for every item of a list. A list of paths is tried in
/// order; the first that has a value counts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Settings {
    /// How bad it is. Of several values (`"/alerts/*/labels/severity"`) the highest counts.
    /// Missing or not understood: unknown, which passes every `min_severity`.
    severity: Paths,
    /// What the product's words or numbers for severities mean, such as
    /// `{ P1 = "critical", 3 = "low" }`. The usual words need no entry.
    severities: BTreeMap<String, Severity>,
    /// What was done, or where the incident stands: `"/status"`.
    state: Paths,
    /// States that end an incident, in any spelling. Such an event counts as information, whatever
    /// severity it repeats.
    ended: Vec<String>,
    /// What kind of event it is.
    category: Paths,
    /// One line for people.
    title: Paths,
    /// When it happened: epoch seconds to nanoseconds, RFC 3339, or a usual text.
    time: Paths,
    /// What ties updates to what opened the incident: `"/groupKey"`.
    incident: Paths,
    /// The account concerned.
    user: Paths,
    /// Addresses of client machines.
    client_ips: Paths,
    /// Clusters, hosts or devices concerned.
    clusters: Paths,
    /// Shares, volumes or buckets concerned.
    shares: Paths,
    /// Files concerned.
    files: Paths,
    /// A drill or a test: `true`, `"true"`, `"yes"` or `1`.
    simulated: Paths,
    /// A page that shows the incident.
    link: Paths,
    /// Zone of times that come without one, as an IANA name such as `"Europe/Berlin"`.
    timezone: String,
    /// Who makes the product, itself and not a path, such as `"Wazuh"`: the vendor in CEF and LEEF.
    /// Unless set, that is siemgate.
    vendor: Option<String>,
    /// What the product is called, itself and not a path: the product in CEF and LEEF. Unless set,
    /// that is the name of the source.
    product: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // What `siemgate send` writes into its test events.
            simulated: "/siemgate/simulated".parse().ok().map(OneOrMany::One),
            timezone: "UTC".into(),
            severity: None,
            severities: BTreeMap::new(),
            state: None,
            ended: ["resolved", "closed"].map(str::to_owned).into(),
            category: None,
            title: None,
            time: None,
            incident: None,
            user: None,
            client_ips: None,
            clusters: None,
            shares: None,
            files: None,
            link: None,
            vendor: None,
            product: None,
        }
    }
}

impl Settings {
    /// Every place that is looked at.
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let all = [
            &self.severity,
            &self.state,
            &self.category,
            &self.title,
            &self.time,
            &self.incident,
            &self.user,
            &self.client_ips,
            &self.clusters,
            &self.shares,
            &self.files,
            &self.simulated,
            &self.link,
        ];
        all.into_iter().flatten().flat_map(OneOrMany::as_slice)
    }
}

fn build(section: &Section) -> Result<Arc<dyn Source>, Problems> {
    Ok(Arc::new(Json::new(section)?))
}

/// The decoder of one configured source.
struct Json {
    settings: Settings,
    times: Times,
}

impl Json {
    fn new(section: &Section) -> Result<Self, Problems> {
        let mut settings: Settings = section.read()?;
        let times = Times::in_zone(&format!("{}.timezone", section.key), &settings.timezone)
            .map_err(|problem| vec![problem])?;
        let words = std::mem::take(&mut settings.severities);
        settings.ended.iter_mut().for_each(|state| *state = normalise(state));
        settings.severities =
            words.into_iter().map(|(word, step)| (normalise(&word), step)).collect();
        Ok(Self { settings, times })
    }

    fn finding(&self, body: &Value) -> Finding {
        let at = &self.settings;
        let (severity, known_severity) = self.severity(body);
        let (state, known_state) = state(&at.state, body);
        let (time, known_time) = self.time(body);
        let named = [("severity", known_severity), ("state", known_state), ("time", known_time)];
        let ended = self.settings.ended.contains(&state.as_str().to_owned());
        Finding {
            vendor: at.vendor.clone().map(Cow::Owned),
            product: at.product.clone().map(Cow::Owned),
            severity: if ended { Severity::Info } else { severity },
            reported_severity: severity,
            state,
            ended,
            time,
            category: first(&at.category, body).map(Cow::Owned),
            simulated: first(&at.simulated, body).is_some_and(|flag| truth(&flag)),
            title: first(&at.title, body).map(|title| one_line(&title)),
            incident: first(&at.incident, body),
            user: first(&at.user, body),
            client_ips: kept(&at.client_ips, body),
            clusters: kept(&at.clusters, body),
            shares: kept(&at.shares, body),
            files: kept(&at.files, body).into(),
            file_count: Some(all(&at.files, body).len() as u64).filter(|count| *count > 0),
            protocol: None,
            link: first(&at.link, body).filter(|link| web_link(link)),
            unknown: named.into_iter().filter(|(_, known)| !known).map(|(name, _)| name).collect(),
        }
    }

    /// The highest severity that can be read, and whether that is all that was asked for.
    fn severity(&self, body: &Value) -> (Severity, bool) {
        let words = all(&self.settings.severity, body);
        let known = words.iter().filter_map(|word| self.step(word)).max().unwrap_or_default();
        (known, known != Severity::Unknown || self.settings.severity.is_none())
    }

    fn step(&self, word: &str) -> Option<Severity> {
        self.settings.severities.get(&normalise(word)).copied().or_else(|| Severity::read(word))
    }

    /// The time, and whether nothing about it is strange.
    fn time(&self, body: &Value) -> (Option<Timestamp>, bool) {
        match first(&self.settings.time, body) {
            None => (None, true),
            Some(text) => {
                let time = self.times.read(&text);
                (time, time.is_some())
            }
        }
    }
}

impl Source for Json {
    fn decode(&self, body: &[u8]) -> Finding {
        let text = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        match serde_json::from_slice(text) {
            Ok(body) => self.finding(&body),
            Err(_) => Finding { unknown: vec!["body"], ..Finding::default() },
        }
    }

    fn unread(&self, body: &[u8]) -> Vec<String> {
        super::unread::keys(body, |key| self.settings.paths().any(|path| path.is_below(key)))
    }
}

fn state(paths: &Paths, body: &Value) -> (State, bool) {
    match first(paths, body) {
        Some(word) => (State::Known(Cow::Owned(normalise(&word))), true),
        None => (State::Missing, paths.is_none()),
    }
}

fn truth(flag: &str) -> bool {
    matches!(normalise(flag).as_str(), "true" | "yes" | "1")
}

/// The texts at the first of `paths` that has any.
fn all<'v>(paths: &Paths, body: &'v Value) -> Vec<Cow<'v, str>> {
    let paths = paths.as_ref().map_or(&[][..], OneOrMany::as_slice);
    let texts =
        paths.iter().map(|path| path.find(body).into_iter().flat_map(texts).collect::<Vec<_>>());
    texts.into_iter().find(|texts| !texts.is_empty()).unwrap_or_default()
}

fn first(paths: &Paths, body: &Value) -> Option<String> {
    all(paths, body).into_iter().next().map(Cow::into_owned)
}

fn kept(paths: &Paths, body: &Value) -> Vec<String> {
    all(paths, body).into_iter().take(KEPT).map(Cow::into_owned).collect()
}

/// A scalar, or the scalars of a list. Objects have no text: the path should lead into them.
fn texts(value: &Value) -> Vec<Cow<'_, str>> {
    match value {
        Value::Array(items) => items.iter().filter_map(text).collect(),
        scalar => text(scalar).into_iter().collect(),
    }
}

fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.trim()).filter(|text| !text.is_empty()).map(Cow::Borrowed),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
