//! Why an event goes where it goes: every key of every route, with the value that was seen.
//!
//! Guarantees: a verdict is given by the same code that routes; every given key is told, also
//! where an earlier one has decided already. It changes nothing and is not fast.

use std::sync::Arc;

use serde::Serialize;

use super::keys::{Doubt, Test, any};
use super::patterns::Patterns;
use super::program::Filter;
use super::{Route, Table, body, internal};
use crate::core::event::Draft;
use crate::core::finding::{Finding, Severity, State};
use crate::core::route::RouteId;

/// Most values of one key that are shown.
const SHOWN: usize = 5;

/// What one route made of an event.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// Its name.
    pub route: RouteId,
    /// Whether it takes the event. The sinks may still get it by a route that is asked before.
    pub takes: bool,
    /// Its own keys: all must be true.
    pub keys: Vec<Verdict>,
    /// Those of its `except`: when all are true, the route leaves the event.
    pub except: Vec<Verdict>,
    /// Its `when`, if it has one and its keys have not decided already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<WhenVerdict>,
    /// Where it sends what it takes.
    pub sinks: Vec<Arc<str>>,
}

/// A `when`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WhenVerdict {
    /// It does not keep the route from taking the event.
    pub holds: bool,
    /// Why it has no answer, in which case it counts as true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The paths that it may look at, with what is there as JSON.
    pub seen: Vec<(String, String)>,
}

/// One key.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Its name.
    pub key: &'static str,
    /// What the configuration asks for.
    pub wanted: String,
    /// What the event has.
    pub seen: String,
    /// Whether that will do.
    pub holds: bool,
}

impl Table {
    /// What every route makes of `event`, in the order in which they are asked, `unmatched` last.
    pub fn explain(&self, event: &Draft) -> Vec<Answer> {
        let finding = self.decoders.finding(event);
        if internal::is_internal(event) {
            return vec![self.internal.explain(event)];
        }
        let answers = self.routes.iter().map(|route| route.explain(event, finding));
        let mut answers: Vec<Answer> = answers.collect();
        let taken = answers.iter().any(|answer| answer.takes);
        answers.extend(
            self.unmatched
                .as_ref()
                .map(|route| Answer { takes: !taken, ..route.explain(event, finding) }),
        );
        answers
    }
}

impl Route {
    fn explain(&self, event: &Draft, finding: &Finding) -> Answer {
        let source = &*event.source;
        let except = self.except.as_ref();
        let admits = self.admits(source, finding);
        let when = self.when.as_ref().filter(|_| admits).map(|when| when.verdict(event));
        Answer {
            route: self.name.clone(),
            takes: admits && when.as_ref().is_none_or(|when| when.holds),
            keys: self.only.verdicts(source, finding, Doubt::Holds),
            except: except.map_or_else(Vec::new, |it| it.verdicts(source, finding, Doubt::Fails)),
            when,
            sinks: self.sinks.clone(),
        }
    }
}

impl Filter {
    fn verdict(&self, event: &Draft) -> WhenVerdict {
        let failed =
            |failure: String, seen| WhenVerdict { holds: true, failure: Some(failure), seen };
        match event.parsed_by(|| body::parse(&event.body)) {
            Ok(value) => match self.holds(&value).result {
                Ok(holds) => WhenVerdict { holds, failure: None, seen: self.sees(&value) },
                Err(failure) => failed(failure.to_string(), self.sees(&value)),
            },
            Err(why) => failed(format!("the body cannot be read: {why}"), Vec::new()),
        }
    }
}

impl Test {
    /// Every given key. All hold exactly when `holds` says so.
    pub(super) fn verdicts(&self, source: &str, finding: &Finding, doubt: Doubt) -> Vec<Verdict> {
        let Finding { severity, state, .. } = finding;
        let names = |key, patterns: &Option<Patterns>, values: &[&str]| {
            patterns.as_ref().map(|wanted| Verdict {
                key,
                wanted: listed(wanted.texts()),
                seen: listed(values.iter().map(ToString::to_string)),
                holds: any(patterns, values.iter().copied()),
            })
        };
        let (user, category) = (finding.user.as_deref(), finding.category.as_deref());
        [
            names("sources", &self.sources, &[source]),
            self.min_severity.map(|least| Verdict {
                key: "min_severity",
                wanted: least.to_string(),
                seen: in_doubt(severity.as_str(), *severity == Severity::Unknown, doubt),
                holds: self.severity_holds(*severity, doubt),
            }),
            self.states.as_ref().map(|states| Verdict {
                key: "states",
                wanted: listed(states.iter().cloned()),
                seen: in_doubt(&state_seen(state), !matches!(state, State::Known(_)), doubt),
                holds: self.state_holds(state, doubt),
            }),
            names("categories", &self.categories, category.as_slice()),
            names("clusters", &self.clusters, &texts(&finding.clusters)),
            names("users", &self.users, user.as_slice()),
            self.client_ips.as_ref().map(|networks| Verdict {
                key: "client_ips",
                wanted: listed(networks.iter().map(ToString::to_string)),
                seen: listed(finding.client_ips.iter().cloned()),
                holds: self.addresses_hold(&finding.client_ips),
            }),
            names("shares", &self.shares, &texts(&finding.shares)),
            self.simulated.map(|wanted| Verdict {
                key: "simulated",
                wanted: wanted.to_string(),
                seen: finding.simulated.to_string(),
                holds: wanted == finding.simulated,
            }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn texts(values: &[String]) -> Vec<&str> {
    values.iter().map(String::as_str).collect()
}

fn listed(values: impl Iterator<Item = String>) -> String {
    let values: Vec<String> = values.collect();
    let shown = values.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match values.len() {
        0 => "none".into(),
        many if many > SHOWN => format!("{shown} and {} more", many - SHOWN),
        _ => shown,
    }
}

fn state_seen(state: &State) -> String {
    match state {
        State::Missing => "none".into(),
        State::Known(word) => word.to_string(),
        State::Unknown(word) => format!("`{word}`, which is not known"),
    }
}

/// What is unknown passes a route and never excludes: the reader should see why.
fn in_doubt(seen: &str, doubtful: bool, doubt: Doubt) -> String {
    match (doubtful, doubt) {
        (false, _) => seen.to_owned(),
        (true, Doubt::Holds) => format!("{seen} (passes)"),
        (true, Doubt::Fails) => format!("{seen} (never excludes)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn finding() -> impl Strategy<Value = Finding> {
        let severities = [Severity::Unknown, Severity::Low, Severity::High, Severity::Critical];
        let states = [
            State::Missing,
            State::Known("locked_out".into()),
            State::Known("warning".into()),
            State::Unknown("odd".into()),
        ];
        let users = [None, Some("a".to_owned()), Some("b".to_owned())];
        let (severity, state) =
            (prop::sample::select(severities.to_vec()), prop::sample::select(states.to_vec()));
        let user = prop::sample::select(users.to_vec());
        let address = prop::sample::subsequence(vec!["10.0.0.1".to_owned(), "::1".into()], 0..=2);
        (severity, state, user, address, prop::bool::ANY).prop_map(
            |(severity, state, user, client_ips, simulated)| Finding {
                severity,
                state,
                user: user.clone(),
                clusters: user.iter().cloned().collect(),
                shares: user.into_iter().collect(),
                client_ips,
                simulated,
                ..Finding::default()
            },
        )
    }

    fn keys() -> impl Strategy<Value = Value> {
        let all = [
            ("min_severity", json!("high")),
            ("states", json!(["locked out"])),
            ("users", json!(["a*"])),
            ("clusters", json!("*")),
            ("shares", json!("b")),
            ("client_ips", json!("10.0.0.0/8")),
            ("simulated", json!(false)),
            ("sources", json!("s*")),
        ];
        prop::sample::subsequence(all.to_vec(), 0..=3)
            .prop_map(|keys| keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    proptest! {
        #[test]
        fn all_verdicts_together_are_the_answer(keys in keys(), finding in finding()) {
            let test = Test::new("routes.r", &serde_json::from_value(keys).unwrap()).unwrap();
            for doubt in [Doubt::Holds, Doubt::Fails] {
                let verdicts = test.verdicts("superna", &finding, doubt);
                let all = verdicts.iter().all(|verdict| verdict.holds);
                prop_assert_eq!(all, test.holds("superna", &finding, doubt), "{:?}", verdicts);
            }
        }
    }
}
