//! A route's native keys: what an event must have for the route to take it.
//!
//! Guarantees: all given keys must hold; a list key holds when any value matches any of its
//! patterns. Severity and state fail open: unknown or missing passes in a route, and never
//! excludes in `except`. Every other key needs a value: an event without users is not taken by a
//! route that names `users`. Compiled once; holding is pure and allocates nothing.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::core::config::{OneOrMany, Problem, Problems};
use crate::core::finding::{Finding, Severity, State, normalise};

use super::patterns::Patterns;

/// The keys of `[routes.NAME]` and of its `except`, as written. One value or a list each; in
/// patterns `*` stands for anything, case does not matter, and `\` and `?` are themselves.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Keys {
    /// Names of sources; patterns.
    pub sources: Option<OneOrMany<String>>,
    /// Least severity: info, low, medium (warning), high (major) or critical. An event whose
    /// severity is unknown or missing passes; in `except` it is never excluded.
    pub min_severity: Option<Step>,
    /// States such as `"locked_out"`, in any spelling. An event whose state is unknown or missing
    /// passes; in `except` it is never excluded.
    pub states: Option<OneOrMany<String>>,
    /// Categories such as `"ransomware"`; patterns.
    pub categories: Option<OneOrMany<String>>,
    /// Clusters; patterns.
    pub clusters: Option<OneOrMany<String>>,
    /// Accounts as the product spells them, such as `"CORP\\lab-*"`; patterns.
    pub users: Option<OneOrMany<String>>,
    /// Addresses or networks of client machines, such as `"10.0.0.0/8"`.
    pub client_ips: Option<OneOrMany<String>>,
    /// Shares or buckets; patterns. A share may come with cluster and zone: `"*:finance:*"`.
    pub shares: Option<OneOrMany<String>>,
    /// `true`: only drills and tests. `false`: everything else.
    pub simulated: Option<bool>,
}

/// A known step of the severity scale, in any usual spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step(pub Severity);

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Severity::read(&text).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` is not a severity; write info, low, medium (or warning), \
                 high (or major) or critical"
            ))
        })
    }
}

impl JsonSchema for Step {
    fn schema_name() -> Cow<'static, str> {
        "MinSeverity".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": Severity::SCALE.map(Severity::as_str) })
    }
}

/// What an unknown severity or state means to a test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// In a route: it passes.
    Holds,
    /// In `except`: it does not exclude.
    Fails,
}

/// Compiled keys.
#[derive(Debug, Default)]
pub(super) struct Test {
    pub(super) sources: Option<Patterns>,
    pub(super) min_severity: Option<Severity>,
    pub(super) states: Option<Vec<String>>,
    pub(super) categories: Option<Patterns>,
    pub(super) clusters: Option<Patterns>,
    pub(super) users: Option<Patterns>,
    pub(super) client_ips: Option<Vec<IpNet>>,
    pub(super) shares: Option<Patterns>,
    pub(super) simulated: Option<bool>,
}

impl Test {
    /// Compile the keys of the section `key`, or say everything that is wrong with them.
    pub fn new(key: &str, keys: &Keys) -> Result<Self, Problems> {
        let mut problems = empty_lists(key, keys);
        let client_ips = keys.client_ips.as_ref().map(|texts| networks(key, texts, &mut problems));
        if !problems.is_empty() {
            return Err(problems);
        }
        let patterns = |texts: &Option<OneOrMany<String>>| texts.as_ref().map(Patterns::new);
        let words = |texts: &OneOrMany<String>| {
            texts.as_slice().iter().map(|text| normalise(text)).collect()
        };
        Ok(Self {
            sources: patterns(&keys.sources),
            min_severity: keys.min_severity.map(|step| step.0),
            states: keys.states.as_ref().map(words),
            categories: patterns(&keys.categories),
            clusters: patterns(&keys.clusters),
            users: patterns(&keys.users),
            client_ips,
            shares: patterns(&keys.shares),
            simulated: keys.simulated,
        })
    }

    /// Whether all keys hold; without any key, yes. The cheap ones are asked first.
    pub fn holds(&self, source: &str, finding: &Finding, doubt: Doubt) -> bool {
        self.sort_holds(source, finding, doubt) && self.names_hold(finding)
    }

    /// Whether the keys hold that ask for a sort of event: what coverage goes through.
    pub fn sort_holds(&self, source: &str, finding: &Finding, doubt: Doubt) -> bool {
        self.severity_holds(finding.severity, doubt)
            && self.state_holds(&finding.state, doubt)
            && self.simulated.is_none_or(|simulated| simulated == finding.simulated)
            && any(&self.sources, std::iter::once(source))
            && any(&self.categories, finding.category.as_deref().into_iter())
    }

    /// Whether the keys hold that ask for somebody or something by name.
    pub fn names_hold(&self, finding: &Finding) -> bool {
        any(&self.users, finding.user.as_deref().into_iter())
            && any(&self.clusters, finding.clusters.iter().map(String::as_str))
            && any(&self.shares, finding.shares.iter().map(String::as_str))
            && self.addresses_hold(&finding.client_ips)
    }

    /// Whether any key asks for somebody or something by name.
    pub fn asks_names(&self) -> bool {
        self.users.is_some()
            || self.clusters.is_some()
            || self.shares.is_some()
            || self.client_ips.is_some()
    }

    pub(super) fn severity_holds(&self, severity: Severity, doubt: Doubt) -> bool {
        match (self.min_severity, severity) {
            (None, _) => true,
            (Some(_), Severity::Unknown) => doubt == Doubt::Holds,
            (Some(least), known) => known >= least,
        }
    }

    pub(super) fn state_holds(&self, state: &State, doubt: Doubt) -> bool {
        match (&self.states, state) {
            (None, _) => true,
            (Some(states), State::Known(word)) => states.iter().any(|wanted| wanted == word),
            (Some(_), State::Missing | State::Unknown(_)) => doubt == Doubt::Holds,
        }
    }

    pub(super) fn addresses_hold(&self, addresses: &[String]) -> bool {
        let Some(networks) = &self.client_ips else { return true };
        let inside = |address: IpAddr| networks.iter().any(|network| network.contains(&address));
        addresses
            .iter()
            .any(|text| text.parse::<IpAddr>().is_ok_and(|ip| inside(ip.to_canonical())))
    }
}

/// Whether a key is not given, or any value matches any of its patterns.
pub(super) fn any<'v>(patterns: &Option<Patterns>, values: impl Iterator<Item = &'v str>) -> bool {
    patterns.as_ref().is_none_or(|patterns| patterns.match_any(values))
}

fn networks(key: &str, texts: &OneOrMany<String>, problems: &mut Problems) -> Vec<IpNet> {
    let read = |text: &String| {
        let text = text.trim();
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical())))
    };
    let mut networks = Vec::new();
    for text in texts.as_slice() {
        match read(text) {
            Ok(network) => networks.push(network),
            Err(_) => problems.push(not_a_network(key, text)),
        }
    }
    networks
}

fn not_a_network(key: &str, text: &str) -> Problem {
    let message = format!("`{text}` is not an address or a network");
    Problem::new(format!("{key}.client_ips"), message)
        .help("write an address (\"192.0.2.7\", \"2001:db8::7\") or a network (\"10.0.0.0/8\")")
}

/// A list without values would never hold, which nobody writes on purpose.
fn empty_lists(key: &str, keys: &Keys) -> Problems {
    let lists = [
        ("sources", &keys.sources),
        ("states", &keys.states),
        ("categories", &keys.categories),
        ("clusters", &keys.clusters),
        ("users", &keys.users),
        ("client_ips", &keys.client_ips),
        ("shares", &keys.shares),
    ];
    let is_empty =
        |list: &&OneOrMany<String>| list.as_slice().iter().all(|text| text.trim().is_empty());
    lists
        .into_iter()
        .filter(|(_, list)| list.as_ref().is_some_and(|list| is_empty(&list)))
        .map(|(name, _)| {
            Problem::new(format!("{key}.{name}"), "is empty, so that no event could match")
                .help("name at least one value, or leave the key out to take every event")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn test(keys: Value) -> Test {
        Test::new("routes.r", &serde_json::from_value(keys).unwrap()).unwrap()
    }

    fn holds(keys: Value, finding: &Finding) -> (bool, bool) {
        let test = test(keys);
        (test.holds("superna", finding, Doubt::Holds), test.holds("superna", finding, Doubt::Fails))
    }

    #[test]
    fn unknown_severity_and_state_pass_a_route_and_never_exclude() {
        let unknown = Finding { state: State::Unknown("odd".into()), ..Finding::default() };
        for finding in [Finding::default(), unknown] {
            assert_eq!(holds(json!({ "min_severity": "critical" }), &finding), (true, false));
            assert_eq!(holds(json!({ "states": ["odd", "locked_out"] }), &finding), (true, false));
        }
        let known = Finding {
            severity: Severity::High,
            state: State::Known("locked_out".into()),
            ..Finding::default()
        };
        assert_eq!(
            holds(json!({ "min_severity": "Major", "states": "Locked Out" }), &known),
            (true, true)
        );
        assert_eq!(holds(json!({ "min_severity": "critical" }), &known), (false, false));
        assert_eq!(holds(json!({ "states": ["warning"] }), &known), (false, false));
    }

    #[test]
    fn other_keys_need_a_value() {
        for key in ["users", "clusters", "shares", "categories"] {
            assert_eq!(holds(json!({ key: "*" }), &Finding::default()), (false, false), "{key}");
        }
        assert_eq!(
            holds(json!({ "client_ips": "0.0.0.0/0" }), &Finding::default()),
            (false, false)
        );
        assert_eq!(holds(json!({}), &Finding::default()), (true, true));
    }

    #[test]
    fn patterns_have_one_wildcard_and_no_escapes() {
        let of = |user: &str| Finding { user: Some(user.into()), ..Finding::default() };
        assert!(holds(json!({ "users": "CORP\\lab-*" }), &of("corp\\LAB-7")).0);
        assert!(!holds(json!({ "users": "CORP\\lab-*" }), &of("other\\lab-7")).0);
        assert!(!holds(json!({ "users": "a?c" }), &of("abc")).0);
        assert!(holds(json!({ "users": ["x", "a?c"] }), &of("A?C")).0);
        assert!(holds(json!({ "users": "jürgen*" }), &of("JÜRGEN@example.org")).0);
        assert!(holds(json!({ "sources": "SUP*" }), &Finding::default()).0);
    }

    #[test]
    fn addresses_are_compared_as_addresses() {
        let of = |ip: &str| Finding {
            client_ips: vec!["nonsense".into(), ip.into()],
            ..Finding::default()
        };
        assert!(holds(json!({ "client_ips": "10.1.0.0/16" }), &of("10.1.2.3")).0);
        assert!(
            holds(json!({ "client_ips": ["192.0.2.1", "10.1.2.3"] }), &of("::ffff:10.1.2.3")).0
        );
        assert!(holds(json!({ "client_ips": "2001:db8::/32" }), &of("2001:DB8:0::1")).0);
        assert!(!holds(json!({ "client_ips": "10.1.0.0/16" }), &of("10.2.2.3")).0);
        assert!(!holds(json!({ "client_ips": "10.1.0.0/16" }), &of("10.1.2")).0);
    }

    #[test]
    fn all_problems_of_the_values_are_told() {
        let keys = json!({ "users": [], "client_ips": ["10.0.0.0/40", "::1", "host"] });
        let problems = Test::new("routes.r", &serde_json::from_value(keys).unwrap()).unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert_eq!(problems[0].key, "routes.r.users");
        assert!(problems[1].message.contains("10.0.0.0/40"));
    }
}
