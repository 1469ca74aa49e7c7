//! Superna Defender / Data Security Edition: the Zero Trust webhook.
//!
//! Guarantees: decoding is total, for any bytes; every field is optional, scalars and lists are
//! read alike, unknown keys are ignored (the body itself is kept). An update that ends an
//! incident counts as `info`, whatever severity it repeats. Most key names of the webhook are not
//! publicly documented: `keys.rs` says which are, and the `aliases` setting adds others.

mod keys;
mod meaning;
mod read;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::time::Times;
use super::{Kind, one_line, web_link};
use crate::core::config::{OneOrMany, Problems, Section};
use crate::core::finding::{Finding, Severity, State};
use crate::core::source::{Source, Words};
use keys::{Field, Keys};
use meaning::{Guard, Seen};
use read::Found;

/// The type `superna`.
pub(super) const KIND: Kind = Kind {
    name: "superna",
    about: "Superna Defender / Data Security Edition Zero Trust webhooks",
    dedupe: true,
    schema: || schemars::schema_for!(Settings),
    build,
};

/// `[sources.NAME]` with `type = "superna"`.
///
/// Severities: warning is medium, major is high, critical is critical. States, as routes name
/// them: locked_out, delayed_lockout, warning, access_restored, monitor, monitor_only,
/// monitoring, learning, error, resolved, unresolved, archived, auto_archived. Categories:
/// ransomware, auditor, activity_report, test.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Settings {
    /// Zone of times that come without one, as an IANA name such as `"Europe/Berlin"`.
    timezone: String,
    /// More keys in which a fact may stand, tried before the built-in ones, such as
    /// `{ user = ["account"], severity = "level" }`. The facts: id, event_source, category,
    /// severity, state, user, client_ips, clusters, shares, buckets, files, file_count, detected,
    /// protocol, link, evidence, activity_report, siemgate.
    aliases: BTreeMap<String, OneOrMany<String>>,
    /// Account of the Security Guard, as the webhook spells it: one name or a list. What this
    /// account does on the guard's share or bucket, and nowhere else, is marked as simulated.
    /// Without it nothing is.
    guard_user: Option<OneOrMany<String>>,
    /// Share that the Security Guard attacks.
    guard_share: String,
    /// Bucket that the Security Guard attacks.
    guard_bucket: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timezone: "UTC".into(),
            aliases: BTreeMap::new(),
            guard_user: None,
            guard_share: "igls-securityguard".into(),
            guard_bucket: "igls-security-guard-bucket".into(),
        }
    }
}

fn build(section: &Section) -> Result<Arc<dyn Source>, Problems> {
    Ok(Arc::new(Superna::new(section)?))
}

/// The decoder of one configured source.
struct Superna {
    keys: Keys,
    times: Times,
    guard: Guard,
}

impl Superna {
    fn new(section: &Section) -> Result<Self, Problems> {
        let settings: Settings = section.read()?;
        let times = Times::in_zone(&format!("{}.timezone", section.key), &settings.timezone);
        let keys = Keys::new(&section.key, &settings.aliases);
        let guard = Guard {
            users: settings.guard_user.map(|users| users.as_slice().to_vec()).unwrap_or_default(),
            share: settings.guard_share,
            bucket: settings.guard_bucket,
        };
        match (times, keys) {
            (Ok(times), Ok(keys)) => Ok(Self { keys, times, guard }),
            (times, keys) => {
                let mut problems = keys.err().unwrap_or_default();
                problems.extend(times.err());
                Err(problems)
            }
        }
    }

    fn finding(&self, mut found: Found) -> Finding {
        let mut finding = Finding {
            vendor: Some("Superna".into()),
            product: Some("Data Security Edition".into()),
            category: category(&mut found).map(Cow::Borrowed),
            ..Finding::default()
        };
        self.judge(&mut found, &mut finding);
        self.locate(&mut found, &mut finding);
        self.date(&mut found, &mut finding);
        finding.incident = incident(&mut found, &finding);
        finding.title = Some(title(&finding));
        finding
    }

    /// How bad it is and what was done about it.
    fn judge(&self, found: &mut Found, finding: &mut Finding) {
        let word = found.take_first(Field::Severity);
        let reported = word.as_deref().and_then(Severity::read);
        finding.reported_severity = reported.unwrap_or_default();
        if reported.is_none() {
            finding.unknown.push("severity");
        }
        finding.state = meaning::state(found.take_first(Field::State));
        if !matches!(finding.state, State::Known(_)) {
            finding.unknown.push("state");
        }
        finding.ended = meaning::ended(&finding.state);
        finding.severity = meaning::effective(finding.reported_severity, &finding.state);
    }

    /// Who, where, and on what.
    fn locate(&self, found: &mut Found, finding: &mut Finding) {
        finding.user = found.take_first(Field::User);
        finding.client_ips = found.take(Field::ClientIps).kept.into_vec();
        finding.clusters = found.take(Field::Clusters).kept.into_vec();
        finding.protocol = found.take_first(Field::Protocol);
        finding.link = found.take_first(Field::Link).filter(|link| web_link(link));
        let files = found.take(Field::Files);
        let counted = found.take_first(Field::FileCount).and_then(|count| count.parse().ok());
        finding.file_count = counted.or((files.count > 0).then_some(files.count));
        finding.files = files.kept;
        finding.shares = found.take(Field::Shares).kept.into_vec();
        let buckets = found.take(Field::Buckets).kept.into_vec();
        let marked = found.take_first(Field::Marker).is_some_and(|flag| flag == "simulated=true");
        finding.simulated =
            marked || self.guard.caused(finding.user.as_deref(), &finding.shares, &buckets);
        finding.shares.extend(buckets);
    }

    /// A missing time is normal; one that is there and cannot be read is worth a look.
    fn date(&self, found: &mut Found, finding: &mut Finding) {
        if let Some(text) = found.take_first(Field::Time) {
            finding.time = self.times.read(&text);
            if finding.time.is_none() {
                finding.unknown.push("time");
            }
        }
    }
}

impl Source for Superna {
    fn decode(&self, body: &[u8]) -> Finding {
        match read::read(body, &self.keys) {
            Some(found) => self.finding(found),
            None => Finding { unknown: vec!["body"], ..Finding::default() },
        }
    }

    fn unread(&self, body: &[u8]) -> Vec<String> {
        super::unread::keys(body, |key| self.keys.field(key).is_some())
    }

    fn words(&self) -> Words {
        meaning::WORDS
    }
}

fn category(found: &mut Found) -> Option<&'static str> {
    let detection = [
        Field::EventSource,
        Field::Severity,
        Field::State,
        Field::Time,
        Field::Files,
        Field::Evidence,
    ];
    let seen = Seen {
        detection: detection.into_iter().any(|field| found.has(field)),
        report: found.has(Field::Report),
    };
    let kind = found.take_first(Field::Kind);
    meaning::category(kind.as_deref(), found.take_first(Field::EventSource).as_deref(), seen)
}

/// The product's id, else user and cluster: what ties updates to what opened the incident.
fn incident(found: &mut Found, finding: &Finding) -> Option<String> {
    found.take_first(Field::Id).or_else(|| {
        // Accounts are spelt in either case; the order of clusters may change between updates.
        let user = finding.user.as_deref()?.to_lowercase();
        let cluster = finding.clusters.iter().min()?;
        Some(format!("{user}@{cluster}"))
    })
}

/// Such as `Superna critical ransomware event, locked out: AD01\jdoe on prod-8, 3 files`.
fn title(finding: &Finding) -> String {
    let mut title = String::with_capacity(96);
    let _ = write!(title, "Superna {}", finding.reported_severity);
    if finding.reported_severity == Severity::Unknown {
        title.push_str(" severity");
    }
    match finding.category.as_deref() {
        Some(category) => title.extend([" ", &spaced(category), " event"]),
        None => title.push_str(" event"),
    }
    if finding.state != State::Missing {
        title.extend([", ", &spaced(finding.state.as_str())]);
    }
    if finding.simulated {
        title.push_str(", simulated");
    }
    let user = finding.user.iter().map(|user| [": ", user]);
    let cluster = finding.clusters.first().map(|cluster| [" on ", cluster]);
    title.extend(user.chain(cluster).flatten());
    if let Some(count) = finding.file_count {
        let _ = write!(title, ", {count} file{}", if count == 1 { "" } else { "s" });
    }
    one_line(&title)
}

/// A word of ours as people write it.
fn spaced(word: &str) -> Cow<'_, str> {
    if word.contains('_') { word.replace('_', " ").into() } else { word.into() }
}

#[cfg(test)]
mod tests;
