//! VRL in routes: what programs may do, what their answers and failures mean, what they cost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use siemgate::core::Timestamp;
use siemgate::core::config::{Problem, Problems, Section};
use siemgate::core::event::{Draft, Event, EventId, Position};
use siemgate::core::finding::{Finding, Severity, State, normalise};
use siemgate::core::route::{Choice, Select, Shape, Trouble};
use siemgate::core::sink::{Cause, Fault};
use siemgate::core::source::{Decoders, Source};
use siemgate::routes::Table;

/// Reads the fields that these tests use.
struct Plain;

impl Source for Plain {
    fn decode(&self, body: &[u8]) -> Finding {
        let read: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |key: &str| read[key].as_str().map(str::to_owned);
        Finding {
            severity: text("severity").and_then(|s| Severity::read(&s)).unwrap_or_default(),
            state: text("state").map_or(State::Missing, |s| State::Known(normalise(&s).into())),
            user: text("user"),
            simulated: read["simulated"] == true,
            ..Finding::default()
        }
    }
}

fn section(key: &str, table: &Value) -> Section {
    Section::new(key, table.as_object().cloned().unwrap())
}

fn build(routes: &Value) -> Result<Table, Problems> {
    let decoders = BTreeMap::from([("superna".into(), Arc::new(Plain) as Arc<dyn Source>)]);
    let sinks: [Arc<str>; 2] = ["soc".into(), "archive".into()];
    let unmatched = section("unmatched", &json!({ "sinks": "archive" }));
    let (routes, sources) = (section("routes", routes), ["superna".into()]);
    Table::build(
        &routes,
        &unmatched,
        &sources,
        &sinks,
        &siemgate::formats::FORMATS,
        Decoders::new(decoders),
    )
}

fn table(routes: &Value) -> Table {
    build(routes).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// The one route `r` to `soc`, with these keys.
fn one(mut route: Value) -> Table {
    route["sinks"] = json!("soc");
    table(&json!({ "r": route }))
}

fn mistakes(key: &str, source: &str) -> String {
    let problems = build(&json!({ "r": { key: source, "sinks": "soc" } })).err().unwrap();
    assert!(problems.iter().all(|problem| problem.key == format!("routes.r.{key}")));
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn event(body: impl Into<Bytes>) -> Arc<Event> {
    let source = "superna".into();
    let draft = Draft::new(EventId::fresh(), Timestamp::UNIX_EPOCH, source, body.into());
    Arc::new(Event { position: Position(0), draft })
}

fn takes(choice: &Choice) -> bool {
    choice.route_for("soc").is_some()
}

fn failed(choice: &Choice) -> bool {
    choice.troubles().iter().any(|(route, what)| &**route == "r" && *what == Trouble::Failed)
}

fn shaped(table: &Table, body: &str) -> Result<String, Fault> {
    let event = event(body.to_owned());
    let choice = table.choose(&event);
    let shaped = table.shape(&event, choice.route_for("soc").unwrap())?;
    Ok(String::from_utf8(shaped.body.to_vec()).unwrap())
}

#[test]
fn a_filter_answers_about_the_event() {
    let table = one(json!({ "when": "length(array(.files) ?? []) > 0" }));
    for (body, wanted) in [
        (r#"{"files":["a"]}"#, true),
        (r#"{"files":[]}"#, false),
        (r#"{"files":"a"}"#, false),
        ("{}", false),
    ] {
        let choice = table.choose(&event(body));
        assert_eq!((takes(&choice), choice.troubles()), (wanted, &[][..]), "{body}");
    }
}

#[test]
fn native_keys_are_asked_first() {
    // The body is no JSON, so that asking the program would be trouble.
    let table = one(json!({ "users": "jdoe", "when": ".x == 1" }));
    let choice = table.choose(&event("no JSON"));
    assert!(!takes(&choice) && choice.troubles().is_empty());
    assert!(takes(
        &table.pick("superna", &Finding { user: Some("jdoe".into()), ..Finding::default() })
    ));
}

#[test]
fn a_filter_without_an_answer_takes_the_event() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    for (when, body) in [
        ("to_int!(.n) > 5", r#"{"n":"many"}"#),
        ("if .n == 1 { abort }\nfalse", r#"{"n":1}"#),
        (".n == 1", "not JSON"),
        (".n == 1", ""),
        (".n == 1", deep.as_str()),
        (".n == 1", large.as_str()),
        (".n == 1", r#"{"n":1e999}"#),
    ] {
        let choice = one(json!({ "when": when })).choose(&event(body.to_owned()));
        assert!(takes(&choice) && failed(&choice), "{when} on {} bytes", body.len());
    }
    // Other JSON than an object is an event without the fields that are asked for.
    assert!(!takes(&one(json!({ "when": ".n == 1" })).choose(&event("[1]"))));
}

#[test]
fn a_rule_that_never_ends_is_stopped() {
    let source = "n = 0\nfor_each(range!(0, 100000)) -> |_i, _v| { \
        for_each(range!(0, 100000)) -> |_i, _v| { n = n + 1 } }\n";
    let started = Instant::now();
    let choice = one(json!({ "when": format!("{source} n == 0") })).choose(&event("{}"));
    assert!(takes(&choice) && failed(&choice));
    let fault = shaped(&one(json!({ "transform": format!("{source} .n = n") })), "{}").unwrap_err();
    assert!(fault.note.contains("stopped"), "{}", fault.note);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_transform_changes_what_is_sent() {
    let table = one(json!({ "transform": "
        .user = downcase(string!(.user))
        del(.internal)
        .score = to_int!(.score) + 1
        .at = parse_timestamp!(.at, \"%Y-%m-%d %H:%M:%S\")
    " }));
    let body = r#" { "z" : [1, 2.50, "ü\u0000\n"], "user":"JDOE", "internal":{"x":1},
        "score":"41", "at":"2026-01-02 03:04:05", "big":9007199254740993, "user2":null } "#;
    let expected = concat!(
        r#"{"at":"2026-01-02T03:04:05Z","big":9007199254740993,"score":42,"user":"jdoe","#,
        r#""user2":null,"z":[1,2.5,"ü\u0000\n"]}"#
    );
    assert_eq!(shaped(&table, body).unwrap(), expected);
}

#[test]
fn without_a_transform_the_bytes_are_those_received() {
    let body = " { \"b\" : 1.50 , \"a\" : 1 } ";
    assert_eq!(shaped(&one(json!({ "when": ".a == 1" })), body).unwrap(), body);
}

#[test]
fn each_route_makes_its_own_of_the_event() {
    let table = table(&json!({
        "a": { "transform": ".route = \"a\"", "sinks": "soc" },
        "b": { "transform": ".route = \"b\"", "sinks": ["soc", "archive"] },
    }));
    let event = event(r#"{"n":1}"#);
    let choice = table.choose(&event);
    for (sink, body) in [("soc", r#"{"n":1,"route":"a"}"#), ("archive", r#"{"n":1,"route":"b"}"#)] {
        let route = choice.route_for(sink).unwrap();
        let made = table.shape(&event, route).unwrap();
        assert_eq!(made.body, body);
        // The same bytes again, not merely equal ones: made once for all sinks of the route.
        let again = table.shape(&event, route).unwrap();
        assert_eq!(made.body.as_ptr(), again.body.as_ptr());
    }
    assert_eq!(&event.body[..], br#"{"n":1}"#);
}

#[test]
fn a_transform_without_a_result_never_sends_the_event() {
    let secret = "hunter2";
    for (transform, why) in [
        (".n = to_int!(.secret)", "to_int"),
        ("abort", "aborted"),
        ("abort \"because \" + string!(.secret)", "aborted"),
        ("assert!(.secret == 1, message: string!(.secret))", "assert"),
        ("del(.)", "nothing of the event"),
        (". = {}", "nothing of the event"),
        (". = [.secret]", "instead of an object"),
        (
            ".x = \"x\"; for_each(range!(0, 23)) -> |_i, _v| { .x = string!(.x) + string!(.x) }",
            "over",
        ),
    ] {
        let body = format!("{{\"secret\":\"{secret}\"}}");
        let fault = shaped(&one(json!({ "transform": transform })), &body).unwrap_err();
        assert_eq!(fault.cause, Cause::Refused);
        assert!(fault.note.contains("route `r`") && fault.note.contains(why), "{}", fault.note);
        assert!(!fault.note.contains(secret), "{}", fault.note);
    }
    let fault = shaped(&one(json!({ "transform": ".x = 1" })), "no JSON").unwrap_err();
    assert!(fault.note.contains("not JSON"), "{}", fault.note);
}

#[test]
fn a_filter_cannot_change_the_event() {
    for when in [
        ".x = 1\ntrue",
        "del(.x)\ntrue",
        ". = {}\ntrue",
        "%x = 1\ntrue",
        ".x, err = to_int(.y)\ntrue",
    ] {
        let text = mistakes("when", when);
        assert!(text.contains("read-only"), "{when}: {text}");
    }
    // Variables of its own are no part of the event.
    assert!(takes(&one(json!({ "when": "x = .a; x == 1" })).choose(&event(r#"{"a":1}"#))));
}

#[test]
fn a_filter_must_be_true_or_false() {
    for (when, what) in [
        (".simulated", "must be true or false"),
        ("\"text\"", "must be true or false"),
        ("if .x == 1 { true }", "must be true or false"),
        ("if .x == 1 { return 7 }\ntrue", "must be true or false"),
        ("", "is empty"),
        (" \n ", "is empty"),
        ("%x == 1", "no metadata"),
        (".n > 5", "error"),
        (".x +", "syntax error"),
    ] {
        let text = mistakes("when", when);
        assert!(text.contains(what), "{when}: {text}");
        assert!(!text.contains('\u{1b}') && !text.contains("https://"), "{text}");
    }
}

#[test]
fn what_programs_may_not_do_is_named_with_the_reason() {
    for (call, reason) in [
        ("now()", "depends on when it is asked"),
        ("random_int(1, 2)", "differs from call to call"),
        ("uuid_v4()", "differs from call to call"),
        ("uuid_v7()", "depends on when"),
        ("log(\"x\")", "journal"),
        ("get_env_var!(\"HOME\")", "environment"),
        ("get_secret(\"x\")", "secrets"),
        ("dns_lookup!(\"x\")", "network"),
        ("http_request!(\"http://x\")", "network"),
        ("parse_grok!(\"x\", \"%{WORD}\")", "parse_regex"),
    ] {
        let name = call.split(['(', '!']).next().unwrap();
        for key in ["when", "transform"] {
            let text = mistakes(key, &format!("x = {call}\n.y == x"));
            assert!(text.contains(&format!("`{name}` is not available in routes")), "{text}");
            assert!(text.contains(reason) && text.contains("^^^"), "{text}");
        }
    }
    assert!(mistakes("when", "upcas(\"x\") == \"X\"").contains("did you mean \"upcase\"?"));
}

#[test]
fn the_offered_functions_are_those_that_were_judged() {
    let judged = include_str!("../fixtures/vrl-functions.txt");
    let offered = siemgate::routes::function_names().join("\n");
    // A new one: is it pure, deterministic, bounded? Then list it; else refuse it with a reason.
    assert_eq!(offered.trim(), judged.trim());
    for part in ["now", "random", "uuid_v", "env", "secret", "dns", "http", "log\n"] {
        let odd = offered.lines().find(|name| name.starts_with(part) || *name == part.trim());
        assert_eq!(odd, None);
    }
}

#[test]
fn programs_that_are_too_much_are_not_compiled() {
    let nested = format!("{}1{} == 1", "(".repeat(1_000), ")".repeat(1_000));
    assert!(mistakes("when", &nested).contains("deep"));
    assert!(mistakes("when", &format!("true{}", " ".repeat(20_000))).contains("bytes long"));
    for assigned in
        [".a[100000000]", "a = []\na[ 100000000 ]", ".\"a\"[-100000000]", ".a[0][10000]"]
    {
        let text = mistakes("transform", &format!("{assigned} = 1\n.x = [10000]"));
        assert!(text.contains("an index of more than 4 digits"), "{text}");
    }
    one(json!({ "transform": ".a[7] = [10000]" }));
    let loops = format!("{}.x = 1{}", "for_each([1]) -> |_i, _v| {".repeat(9), "}".repeat(9));
    assert!(mistakes("transform", &loops).contains("nests loops"));
    for long in [
        format!("{}true", "!".repeat(5_000)),
        format!("1{} == 1", " +\n 1".repeat(2_000)),
        format!("true{}", "\n && (true)".repeat(500)),
        format!(
            "if .a == 1 {{ true }}{} else {{ true }}",
            "\nelse if .a == 2 { true }".repeat(300)
        ),
        format!("{}true", "a = ".repeat(3_000)),
    ] {
        let text = mistakes("when", &long);
        assert!(text.contains("operator signs in one expression"), "{text}");
    }
    assert!(mistakes("when", "match(\"x\", r'(a{1000}){1000}')").contains("regex"));
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let table = one(json!({ "transform": "upcase(\"x\")\nunused = 1\n.x = 1" }));
    let of_program = |problem: &&Problem| problem.key == "routes.r.transform";
    let warnings = table.warnings();
    let told: Vec<(Option<usize>, &str)> = warnings
        .iter()
        .filter(of_program)
        .map(|problem| (problem.row, problem.message.as_str()))
        .collect();
    let expected = [
        (Some(0), "unused result for function call `upcase(\"x\")`"),
        (Some(1), "unused variable `unused`"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_table_explains_itself() {
    let table = table(&json!({
        "a": { "min_severity": "high", "except": { "users": "lab-*" }, "when": ".n == 1",
            "sinks": "soc" },
        "b": { "users": "nobody", "when": ".n == 1", "sinks": "soc" },
    }));
    let verdicts =
        |body: &str| serde_json::to_value(table.explain(&event(body.to_owned()))).unwrap();
    let said = verdicts(r#"{"severity":"critical","user":"jdoe","n":2}"#);
    assert_eq!(
        said[0],
        json!({ "route": "a", "takes": false, "sinks": ["soc"],
            "keys": [{ "key": "min_severity", "holds": true, "wanted": "high", "seen": "critical" }],
            "except": [{ "key": "users", "holds": false, "wanted": "lab-*", "seen": "jdoe" }],
            "when": { "holds": false, "seen": [[".n", "2"]] } })
    );
    // Nobody asked: the native keys had decided.
    assert_eq!((&said[1]["takes"], &said[1]["when"]), (&json!(false), &Value::Null));
    assert_eq!((&said[2]["takes"], &said[2]["sinks"]), (&json!(true), &json!(["archive"])));
    let said = verdicts("no JSON");
    assert_eq!((&said[0]["takes"], &said[0]["when"]["holds"]), (&json!(true), &json!(true)));
    assert!(said[0]["when"]["failure"].as_str().unwrap().contains("not JSON"));
}

#[test]
fn programs_as_large_as_allowed_compile_and_run_on_a_small_stack() {
    let around = |open: &str, inner: &str, close: &str, n: usize| {
        format!(".x = {}{inner}{}", open.repeat(n), close.repeat(n))
    };
    // 256 signs and 64 brackets are the most; a thread of a test has 2 MiB.
    for program in [
        format!(".x = 1{}", "+1".repeat(255)),
        format!(".x = true{}", "&&true".repeat(127)),
        format!(".x = {}true", "!".repeat(255)),
        format!(".x = if .a == 1 {{ 1 }}{}", " else if .a == 1 { 1 }".repeat(80)),
        format!("{}1\n.x = 1", "a = ".repeat(250)),
        format!(".x = {}1", ".a".repeat(1_000)),
        around("(", "1", ")", 64),
        around("{", "1", "}", 64),
        around("[", "1", "]", 64),
        around("upcase(", "\"a\"", ")", 64),
        format!("{}.x = 1{}", "if .b != 1 {".repeat(60), "}".repeat(60)),
        format!("{}.x = 1{}", "for_each([1]) -> |_i, _v| {".repeat(8), "}".repeat(8)),
        // What signs in strings and comments say is no matter; lines are expressions of their own.
        format!(
            "# don't {}\n{}.x = \"{}\"",
            "-".repeat(300),
            ".a = 1 + 1 # it's\n".repeat(300),
            "=".repeat(300)
        ),
        ".x = s'[12345] a[12345]'".to_owned(),
    ] {
        let built = build(&json!({ "r": { "transform": program, "sinks": "soc" } }));
        let table = built.unwrap_or_else(|problems| panic!("{}", problems[0]));
        assert!(shaped(&table, r#"{"a":2}"#).is_ok(), "{program}");
    }
}

/// A native key and the same in VRL.
fn equal_rules() -> impl Strategy<Value = (Value, String)> {
    let quoted = |values: &[&str]| serde_json::to_string(values).unwrap();
    let severity = prop::sample::select(&Severity::SCALE[..]).prop_map(move |least| {
        let low: Vec<&str> =
            Severity::SCALE.iter().filter(|s| **s < least).map(|s| s.as_str()).collect();
        // Unknown and missing pass.
        let vrl = format!("!includes({}, downcase(to_string(.severity) ?? \"\"))", quoted(&low));
        (json!({ "min_severity": least.as_str() }), vrl)
    });
    let state =
        prop::sample::subsequence(vec!["locked_out", "warning"], 1..=2).prop_map(move |states| {
            let vrl = format!("(is_null(.state) || includes({}, .state))", quoted(&states));
            (json!({ "states": states }), vrl)
        });
    let user = prop::sample::select(vec!["lab-", "jdoe"]).prop_map(|start| {
        let vrl = format!("starts_with(string(.user) ?? \"\", \"{start}\", case_sensitive: false)");
        (json!({ "users": format!("{start}*") }), vrl)
    });
    let simulated = any::<bool>().prop_map(|wanted| {
        (json!({ "simulated": wanted }), format!("(.simulated == true) == {wanted}"))
    });
    (
        prop::option::of(severity),
        prop::option::of(state),
        prop::option::of(user),
        prop::option::of(simulated),
    )
        .prop_map(|(a, b, c, d)| {
            let (mut keys, mut vrl) = (json!({}), vec!["true".to_owned()]);
            for (key, rule) in [a, b, c, d].into_iter().flatten() {
                keys.as_object_mut().unwrap().extend(key.as_object().cloned().unwrap());
                vrl.push(rule);
            }
            (keys, vrl.join(" && "))
        })
}

fn bodies() -> impl Strategy<Value = String> {
    let word = |words: &'static [&'static str]| prop::option::of(prop::sample::select(words));
    let severity = word(&["info", "LOW", "medium", "High", "critical", "odd"]);
    let state = word(&["locked_out", "warning", "access_restored"]);
    let user = word(&["lab-1", "LAB-2", "jdoe", "x"]);
    (severity, state, user, prop::option::of(any::<bool>())).prop_map(
        |(severity, state, user, simulated)| {
            let mut body = serde_json::Map::new();
            let texts = [("severity", severity), ("state", state), ("user", user)];
            body.extend(
                texts.into_iter().filter_map(|(key, text)| Some((key.into(), json!(text?)))),
            );
            body.extend(simulated.map(|simulated| ("simulated".into(), json!(simulated))));
            Value::Object(body).to_string()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn native_keys_and_an_equal_program_agree(
        (keys, program) in equal_rules(),
        bodies in prop::collection::vec(bodies(), 1..20),
    ) {
        let (native, vrl) = (one(keys), one(json!({ "when": program })));
        for body in bodies {
            let (a, b) = (native.choose(&event(body.clone())), vrl.choose(&event(body.clone())));
            prop_assert_eq!(takes(&a), takes(&b), "{} on {}", program, body);
            prop_assert!(b.troubles().is_empty(), "{} on {}", program, body);
            for (table, choice) in [(&native, &a), (&vrl, &b)] {
                let said = table.explain(&event(body.clone()));
                prop_assert_eq!(said[0].takes, takes(choice), "{} on {}", program, body);
            }
        }
    }

    #[test]
    fn a_transform_that_changes_nothing_keeps_what_the_body_says(body in bodies()) {
        let table = one(json!({ "transform": ".x = 1\ndel(.x)" }));
        prop_assume!(body != "{}");
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        prop_assert_eq!(read(&shaped(&table, &body).unwrap()), read(&body));
    }
}

/// Run with `cargo test --release -- --ignored --nocapture vrl_time`.
#[test]
#[ignore = "a measurement"]
fn vrl_time() {
    let files: Vec<String> =
        (0..30).map(|n| format!("/ifs/finance/2026/report-{n:04}.xlsx.locked")).collect();
    let body = json!({ "id": "2B-7f3a", "severity": "CRITICAL", "state": "LOCKED_OUT", "user": "CORP\\jdoe",
        "files": files, "clients": ["10.1.2.3"], "shares": ["c8:finance:System"] });
    let body = Bytes::from(body.to_string());
    let time = |what: &str, table: &Table, shape: bool| {
        let events: Vec<_> = (0..20_000).map(|_| event(body.clone())).collect();
        let started = Instant::now();
        for event in &events {
            let choice = table.choose(event);
            if shape {
                table.shape(event, choice.route_for("soc").unwrap()).unwrap();
            }
        }
        println!(
            "{what}: {} ns an event of {} bytes",
            started.elapsed().as_nanos() / 20_000,
            body.len()
        );
    };
    let when = "length(array(.files) ?? []) > 0 && .severity == \"CRITICAL\"";
    time("native", &one(json!({ "min_severity": "high" })), false);
    time("parse", &one(json!({ "when": "true" })), false);
    time("parse, filter", &one(json!({ "when": when })), false);
    let three = json!({ "a": { "when": when, "sinks": "soc" }, "b": { "when": when, "sinks": "soc" },
        "c": { "when": when, "sinks": "soc" } });
    time("parse, 3 filters", &table(&three), false);
    let transform =
        ".user = downcase(string!(.user))\n.count = length(array!(.files))\ndel(.files)";
    time("parse, transform, write", &one(json!({ "transform": transform })), true);
    time(
        "parse, 3 keys, filter, transform",
        &one(json!({ "when": when, "transform": transform })),
        true,
    );
}
