//! The routing table: what it answers, against a naive model of it; what it refuses and warns of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use siemgate::core::Timestamp;
use siemgate::core::config::{Problems, Section};
use siemgate::core::event::{Draft, Event, EventId, Position};
use siemgate::core::finding::{Finding, Severity, State};
use siemgate::core::route::{Choice, Select, Shape};
use siemgate::core::source::{Decoders, Source};
use siemgate::routes::Table;

fn section(key: &str, table: &Value) -> Section {
    Section::new(key, table.as_object().cloned().unwrap())
}

fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn build(routes: &Value, unmatched: &Value) -> Result<Table, Problems> {
    build_with(routes, unmatched, Decoders::default())
}

fn build_with(routes: &Value, unmatched: &Value, decoders: Decoders) -> Result<Table, Problems> {
    let (sources, sinks) = (names(&["superna", "json"]), names(&["soc", "sophos", "archive"]));
    let (routes, unmatched) = (section("routes", routes), section("unmatched", unmatched));
    Table::build(&routes, &unmatched, &sources, &sinks, &siemgate::formats::FORMATS, decoders)
}

fn table(routes: &Value, unmatched: &Value) -> Table {
    build(routes, unmatched).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn picks(choice: &Choice) -> BTreeMap<String, String> {
    let route = |sink: &Arc<str>| choice.route_for(sink).unwrap().to_string();
    choice.sinks().map(|sink| (sink.to_string(), route(sink))).collect()
}

fn finding(severity: Severity, state: &'static str, user: &str) -> Finding {
    let user = Some(user.to_owned());
    Finding { severity, state: State::Known(state.into()), user, ..Finding::default() }
}

#[test]
fn the_designs_example_routes_as_written() {
    let table = table(
        &json!({
            "critical": { "sources": ["superna"], "min_severity": "critical",
                "sinks": ["sophos", "soc"] },
            "lockouts": { "min_severity": "major", "states": ["locked_out", "delayed_lockout"],
                "except": { "users": ["CORP\\lab-*"] }, "sinks": ["sophos"] },
        }),
        &json!({ "sinks": ["archive"] }),
    );
    let sinks = |source: &str, finding: &Finding| picks(&table.pick(source, finding));
    let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(sink, route)| ((*sink).to_owned(), (*route).to_owned())).collect()
    };
    let attack = finding(Severity::Critical, "locked_out", "CORP\\jdoe");
    assert_eq!(sinks("superna", &attack), of(&[("sophos", "critical"), ("soc", "critical")]));
    assert_eq!(sinks("json", &attack), of(&[("sophos", "lockouts")]));
    let lab = finding(Severity::High, "delayed_lockout", "corp\\LAB-1");
    assert_eq!(sinks("superna", &lab), of(&[("archive", "unmatched")]));
    let restored = finding(Severity::Info, "access_restored", "CORP\\jdoe");
    assert_eq!(sinks("superna", &restored), of(&[("archive", "unmatched")]));
    let unreadable = Finding { unknown: vec!["body"], ..Finding::default() };
    assert_eq!(sinks("superna", &unreadable), of(&[("sophos", "critical"), ("soc", "critical")]));
}

#[test]
fn without_a_route_an_event_has_no_sinks() {
    let table = table(&json!({ "r": { "min_severity": "high", "sinks": "soc" } }), &json!({}));
    assert!(table.pick("superna", &finding(Severity::Low, "warning", "u")).is_empty());
    assert_eq!(table.routes().map(|(name, _)| name.to_string()).collect::<Vec<_>>(), ["r"]);
}

#[test]
fn everything_wrong_is_told_at_once() {
    let routes = json!({
        "Bad Name": { "sinks": ["soc"] },
        "unmatched": { "sinks": ["soc"] },
        "a": { "min_severty": "high", "sinks": ["sok"], "sources": ["supernal", "x*"] },
        "b": { "client_ips": ["10.0.0.0/99"], "format": "ecss", "follow": true, "when": ".x +", "sinks": [] },
        "c": { "except": { "usres": "x", "sources": "jsn" }, "min_severity": "worst" },
        "d": 7,
    });
    let problems = build(&routes, &json!({ "sinks": ["archiv"], "users": "x" })).err().unwrap();
    let told: BTreeSet<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    let expected = [
        "routes.Bad Name",
        "routes.unmatched",
        "routes.a.min_severty",
        "routes.a.sinks",
        "routes.a.sources",
        "routes.b.client_ips",
        "routes.b.follow",
        "routes.b.format",
        "routes.b.when",
        "routes.b.sinks",
        "routes.c.sinks",
        "routes.c.except.usres",
        "routes.c.min_severity",
        "routes.d",
        "unmatched.users",
    ];
    assert_eq!(told, expected.into_iter().collect());
    let text = |key: &str| problems.iter().find(|problem| problem.key == key).unwrap().to_string();
    assert!(text("routes.a.min_severty").contains("did you mean `min_severity`?"));
    assert!(text("routes.a.sinks").contains("did you mean `soc`?"));
    assert!(text("routes.a.sources").contains("did you mean `superna`?"));
    assert!(text("routes.b.format").contains("there is no format `ecss`"));
    assert!(text("routes.b.follow").contains("not available in this version"));
    assert!(problems.iter().all(|problem| !problem.message.is_empty()));
}

#[test]
fn what_is_probably_not_meant_is_warned_about() {
    let warned = |routes: Value, unmatched: Value| -> Vec<String> {
        table(&routes, &unmatched).warnings().iter().map(|problem| problem.key.clone()).collect()
    };
    let all = json!(["soc", "sophos", "archive"]);
    assert_eq!(
        warned(json!({}), json!({})),
        ["unmatched", "sinks.soc", "sinks.sophos", "sinks.archive"]
    );
    assert_eq!(warned(json!({ "r": { "users": "x", "sinks": all } }), json!({})), ["unmatched"]);
    assert_eq!(warned(json!({ "r": { "sinks": all } }), json!({})), [""; 0]);
    assert_eq!(warned(json!({ "r": { "sinks": all } }), json!({ "sinks": "soc" })), ["unmatched"]);
    let covered = json!({ "a": { "sinks": all }, "b": { "users": "x", "sinks": "soc" } });
    assert_eq!(warned(covered, json!({})), ["routes.b"]);
    let itself = json!({ "a": { "users": "x", "except": { "users": "x" }, "sinks": all } });
    assert_eq!(warned(itself, json!({ "sinks": "soc" })), ["routes.a.except"]);
}

#[test]
fn an_empty_except_excludes_nothing() {
    let table = table(&json!({ "r": { "except": {}, "sinks": "soc" } }), &json!({}));
    assert!(!table.pick("superna", &Finding::default()).is_empty());
}

/// Counts how often it is asked.
struct Counting(AtomicUsize);

impl Source for Counting {
    fn decode(&self, _: &[u8]) -> Finding {
        self.0.fetch_add(1, Ordering::Relaxed);
        finding(Severity::Low, "warning", "u")
    }
}

#[test]
fn an_event_is_decoded_once_and_judged_by_the_newest_table() {
    let source = Arc::new(Counting(AtomicUsize::new(0)));
    let decoders =
        Decoders::new(BTreeMap::from([("superna".into(), source.clone() as Arc<dyn Source>)]));
    let low = build_with(
        &json!({ "r": { "min_severity": "low", "sinks": "soc" } }),
        &json!({}),
        decoders.clone(),
    );
    let high = build_with(
        &json!({ "r": { "min_severity": "high", "sinks": "soc" } }),
        &json!({}),
        decoders,
    );
    let (low, high) = (low.unwrap(), high.unwrap());
    assert!(high.generation() > low.generation());
    let body = Bytes::from_static(b" { \"x\" : 1 } ");
    let draft = Draft::new(EventId::fresh(), Timestamp::UNIX_EPOCH, "superna".into(), body.clone());
    let event = Arc::new(Event { position: Position(0), draft });
    for _ in 0..3 {
        assert!(!low.choose(&event).is_empty() && high.choose(&event).is_empty());
    }
    let shaped = low.shape(&event, &"r".into()).unwrap();
    assert_eq!((shaped.body, source.0.load(Ordering::Relaxed)), (body, 1));
}

/// The rules once more, as plainly as they can be said.
mod model {
    use super::*;

    pub fn sinks(routes: &Value, source: &str, finding: &Finding) -> BTreeMap<String, String> {
        let mut picks = BTreeMap::new();
        let sorted: BTreeMap<_, _> = routes.as_object().unwrap().iter().collect();
        for (name, route) in sorted {
            let excluded = route.get("except").is_some_and(|e| holds(e, source, finding, false));
            if holds(route, source, finding, true) && !excluded {
                for sink in list(&route["sinks"]) {
                    picks.entry(sink).or_insert_with(|| name.clone());
                }
            }
        }
        if picks.is_empty() {
            picks.insert("archive".into(), "unmatched".into());
        }
        picks
    }

    fn holds(keys: &Value, source: &str, finding: &Finding, unknown_holds: bool) -> bool {
        keys.as_object().unwrap().iter().all(|(key, wanted)| match key.as_str() {
            "min_severity" if finding.severity == Severity::Unknown => unknown_holds,
            "min_severity" => finding.severity >= Severity::read(wanted.as_str().unwrap()).unwrap(),
            "states" => match &finding.state {
                State::Known(word) => list(wanted).iter().any(|state| state == word),
                _ => unknown_holds,
            },
            "simulated" => finding.simulated == wanted.as_bool().unwrap(),
            "sources" => matches(wanted, &[source.to_owned()]),
            "categories" => matches(
                wanted,
                &finding.category.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ),
            "users" => matches(wanted, &finding.user.iter().cloned().collect::<Vec<_>>()),
            "clusters" => matches(wanted, &finding.clusters),
            "shares" => matches(wanted, &finding.shares),
            "client_ips" => {
                finding.client_ips.iter().any(|ip| list(wanted).iter().any(|net| inside(net, ip)))
            }
            "sinks" | "except" => true,
            other => panic!("{other}"),
        })
    }

    fn list(value: &Value) -> Vec<String> {
        match value {
            Value::Array(items) => {
                items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
            }
            one => vec![one.as_str().unwrap().to_owned()],
        }
    }

    fn matches(wanted: &Value, values: &[String]) -> bool {
        let patterns = list(wanted);
        values
            .iter()
            .any(|value| patterns.iter().any(|p| glob(&p.to_lowercase(), &value.to_lowercase())))
    }

    fn glob(pattern: &str, text: &str) -> bool {
        match pattern.split_once('*') {
            None => pattern == text,
            Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
                text.char_indices()
                    .map(|(at, _)| at)
                    .chain([text.len()])
                    .any(|at| glob(rest, &text[at..]))
            }),
        }
    }

    fn inside(network: &str, ip: &str) -> bool {
        let Ok(IpAddr::V4(ip)) = ip.parse() else { return false };
        let (base, bits) = network.split_once('/').unwrap_or((network, "32"));
        let base: std::net::Ipv4Addr = base.parse().unwrap();
        let shift = 32 - bits.parse::<u32>().unwrap();
        u64::from(ip.to_bits()) >> shift == u64::from(base.to_bits()) >> shift
    }
}

const USERS: [&str; 5] = ["CORP\\lab-1", "CORP\\jdoe", "jdoe@corp.example", "1001", "?"];
const STATES: [&str; 3] = ["locked_out", "warning", "access_restored"];
const SHARES: [&str; 4] = ["c8:finance:System", "c8:eng:System", "ns1/backups", "export1"];
const IPS: [&str; 5] = ["10.1.2.3", "10.9.0.1", "192.0.2.7", "host", "2001:db8::1"];

fn severities() -> impl Strategy<Value = Severity> {
    prop::sample::select([&[Severity::Unknown][..], &Severity::SCALE].concat())
}

fn some_of(values: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(prop::sample::select(values).prop_map(str::to_owned), 0..3)
}

fn findings() -> impl Strategy<Value = Finding> {
    let state = prop_oneof![
        Just(State::Missing),
        Just(State::Unknown("warning".into())),
        prop::sample::select(&STATES[..]).prop_map(|word| State::Known(word.into())),
    ];
    let category = prop::option::of(prop::sample::select(&["ransomware", "auditor", "test"][..]));
    let user = prop::option::of(prop::sample::select(&USERS[..]).prop_map(str::to_owned));
    let lists = (some_of(&["c8", "dr9"]), some_of(&SHARES), some_of(&IPS));
    (severities(), state, category, user, lists, any::<bool>()).prop_map(
        |(severity, state, category, user, (clusters, shares, client_ips), simulated)| Finding {
            severity,
            state,
            category: category.map(Into::into),
            user,
            clusters,
            shares,
            client_ips,
            simulated,
            ..Finding::default()
        },
    )
}

/// One key with a value that sometimes holds; every pattern matches a source that exists.
fn one_key() -> impl Strategy<Value = (String, Value)> {
    let words = |key: &'static str, values: &'static [&'static str]| {
        let many = prop::collection::vec(prop::sample::select(values), 1..3);
        prop_oneof![
            many.prop_map(move |values| (key.to_owned(), json!(values))),
            prop::sample::select(values).prop_map(move |value| (key.to_owned(), json!(value))),
        ]
    };
    prop_oneof![
        words("sources", &["superna", "JSON", "s*", "*"]),
        words("states", &STATES),
        words("categories", &["ransomware", "AUD*", "*e*"]),
        words("clusters", &["C8", "dr*"]),
        words("users", &["corp\\LAB-*", "*@corp.example", "*doe*", "1001", "?", "*\\*"]),
        words("client_ips", &["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "0.0.0.0/0"]),
        words("shares", &["*:finance:*", "ns1/*", "EXPORT1", "*"]),
        prop::sample::select(&Severity::SCALE[..])
            .prop_map(|s| ("min_severity".into(), json!(s.as_str()))),
        any::<bool>().prop_map(|simulated| ("simulated".into(), json!(simulated))),
    ]
}

fn keys(least: usize) -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-z]", one_key(), least..4)
        .prop_map(|keys| Value::Object(keys.into_values().collect()))
}

fn routes() -> impl Strategy<Value = Value> {
    let sinks = prop::sample::subsequence(vec!["soc", "sophos"], 1..=2);
    let route =
        (keys(0), prop::option::of(keys(1)), sinks).prop_map(|(mut keys, except, sinks)| {
            keys["sinks"] = json!(sinks);
            if let Some(except) = except {
                keys["except"] = except;
            }
            keys
        });
    prop::collection::btree_map("[a-z0-9_-]{1,3}", route, 0..5)
        .prop_map(|routes| Value::Object(routes.into_iter().collect()))
}

proptest! {
    #[test]
    fn the_table_answers_as_the_rules_say(
        routes in routes(),
        findings in prop::collection::vec(findings(), 1..20),
        source in prop::sample::select(&["superna", "json"][..]),
    ) {
        let table = table(&routes, &json!({ "sinks": "archive" }));
        for finding in &findings {
            let expected = model::sinks(&routes, source, finding);
            prop_assert_eq!(picks(&table.pick(source, finding)), expected);
        }
    }

    #[test]
    fn unknown_severity_and_state_are_never_filtered_out(keys in keys(0), finding in findings()) {
        // Whatever the event says otherwise: forgetting severity and state never loses a route.
        let mut route = keys;
        route["sinks"] = json!("soc");
        let table = table(&json!({ "r": route }), &json!({}));
        let (severity, state) = (Severity::Unknown, State::Missing);
        let vague = Finding { severity, state, ..finding.clone() };
        let (known, vague) = (table.pick("superna", &finding), table.pick("superna", &vague));
        prop_assert!(known.is_empty() || !vague.is_empty());
    }
}

/// Run with `cargo test --release -- --ignored --nocapture route_time`.
#[test]
#[ignore = "a measurement"]
fn route_time() {
    let table = table(
        &json!({
            "critical": { "sources": "superna", "min_severity": "critical",
                "sinks": ["sophos", "soc"] },
            "lockouts": { "min_severity": "major", "states": ["locked_out", "delayed_lockout"],
                "except": { "users": ["CORP\\lab-*"], "client_ips": ["10.0.0.0/8"] },
                "sinks": "sophos" },
            "shares": { "shares": ["*:finance:*", "*:hr:*"], "sinks": "soc" },
        }),
        &json!({ "sinks": "archive" }),
    );
    let event = Finding {
        shares: vec!["prod-cluster-8:finance:System".into()],
        client_ips: vec!["172.31.1.45".into()],
        ..finding(Severity::Critical, "locked_out", "CORP\\lab-7")
    };
    let started = std::time::Instant::now();
    for _ in 0..1_000_000 {
        std::hint::black_box(table.pick("superna", std::hint::black_box(&event)));
    }
    println!("{:?} each", started.elapsed() / 1_000_000);
}
