//! Coverage: `check`, start and reload tell which events go nowhere, and refuse it for critical ones.

use super::gateway::Gateway;

const BASE: &str = r#"
[sources.superna]
type = "superna"
[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
start = "oldest"
"#;

const ALLOWED: &str = "allow_unrouted = true\n";

async fn check(config: &str) -> super::gateway::Printed {
    Gateway::prepared(config).cli(&["check"]).await
}

/// The coverage lines of `check` for these routes, which are allowed to lose what they lose.
async fn gaps(routes: &str) -> Vec<String> {
    let checked = check(&[ALLOWED, BASE, routes].concat()).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    checked
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("coverage: ").map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn every_sort_of_event_that_goes_nowhere_is_one_short_line() {
    let cases: [(&str, &[&str]); 8] = [
        ("[routes.all]\nsinks = \"archive\"", &[]),
        ("[unmatched]\nsinks = \"archive\"", &[]),
        (
            "[routes.r]\nmin_severity = \"major\"\nsinks = \"archive\"",
            &["medium, low or info, any state: no sink"],
        ),
        // Unknown and missing states pass; what ends an incident is info, whatever it repeats.
        (
            "[routes.r]\nmin_severity = \"low\"\nstates = [\"locked_out\", \"delayed_lockout\", \"error\"]\nsinks = \"archive\"",
            &[
                "critical, high, medium, low or unknown, state warning, monitor, monitor_only, monitoring, learning or unresolved: no sink",
                "info, any state: no sink",
            ],
        ),
        (
            "[routes.r]\ncategories = \"ransom*\"\nsinks = \"archive\"",
            &["any severity, any state, any category but ransomware or ransom: no sink"],
        ),
        (
            "[routes.r]\nexcept = { states = \"warning\", categories = \"test\" }\nsinks = \"archive\"",
            &["any severity, state warning, category test: no sink"],
        ),
        (
            "[routes.r]\nusers = \"vip*\"\nsinks = \"archive\"",
            &[
                "any severity, any state: no sink but for the users, clusters, shares or addresses that a route names",
            ],
        ),
        (
            "[routes.r]\nexcept = { users = \"lab*\" }\nsinks = \"archive\"",
            &["any severity, any state: no sink for what an `except` leaves out"],
        ),
    ];
    for (routes, expected) in cases {
        assert_eq!(gaps(routes).await, expected, "{routes}");
    }
}

#[tokio::test]
async fn sources_with_the_same_gaps_share_a_line() {
    let other = "[sources.other]\ntype = \"json\"\n[sources.more]\ntype = \"json\"\n";
    let told = gaps(&format!(
        "{other}[routes.r]\nsources = [\"superna\"]\nsinks = \"archive\"\n[routes.s]\nstates = \"x\"\nsources = [\"other\", \"more\"]\nsinks = \"archive\""
    ))
    .await;
    assert_eq!(told, ["more, other: any severity, state (any other): no sink"]);
}

#[tokio::test]
async fn critical_events_without_a_sink_are_refused_unless_allowed() {
    for routes in [
        "",
        "[routes.r]\nstates = \"locked_out\"\nsinks = \"archive\"",
        "[routes.r]\nusers = \"vip*\"\nsinks = \"archive\"",
        "[routes.r]\ncategories = \"ransomware\"\nsinks = \"archive\"",
    ] {
        let config = [BASE, routes].concat();
        let refused = check(&config).await;
        assert_eq!(refused.code, Some(78), "{routes}: {refused:?}");
        for says in ["routes: critical events would go nowhere", "[unmatched]", "allow_unrouted"] {
            assert!(refused.err.contains(says), "{says}: {refused:?}");
        }
        assert_eq!(check(&[ALLOWED, &config].concat()).await.code, Some(0), "{routes}");
    }
    for routes in [
        "[routes.r]\nmin_severity = \"critical\"\nsinks = \"archive\"",
        "[routes.r]\nexcept = { users = \"lab*\" }\nsinks = \"archive\"",
        "[routes.r]\nexcept = { states = \"access restored\" }\nsinks = \"archive\"",
    ] {
        assert_eq!(check(&[BASE, routes].concat()).await.code, Some(0), "{routes}");
    }
    let wrong = check(&["allow_unrouted = \"yes\"\n", BASE].concat()).await;
    assert!(wrong.err.contains("allow_unrouted: must be true or false"), "{wrong:?}");
    let misspelt = check(&["allow_unruoted = true\n", BASE].concat()).await;
    assert!(misspelt.err.contains("did you mean `allow_unrouted`?"), "{misspelt:?}");
}

#[tokio::test]
async fn a_configuration_without_a_sink_is_refused_unless_allowed() {
    let none = "[sources.superna]\ntype = \"superna\"\n";
    let refused = check(none).await;
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.err.contains("sinks: there is no sink"), "{refused:?}");
    assert!(refused.err.contains("1 problem found"), "{refused:?}");
    assert_eq!(check(&[ALLOWED, none].concat()).await.code, Some(0));
}

#[tokio::test]
async fn a_reload_tells_the_gaps_and_refuses_to_lose_critical_events_or_the_last_sink() {
    let route = |keys: &str| format!("{BASE}[routes.r]\n{keys}\nsinks = \"archive\"\n");
    let gateway = Gateway::start(&route("min_severity = \"high\"")).await;
    assert!(gateway.journal_text().contains("coverage: medium, low or info, any state: no sink"));
    let reload = async || gateway.steer("/-/reload").await;
    gateway.configure("10-test.toml", &route("min_severity = \"critical\""));
    let answer = reload().await.json();
    assert_eq!(answer["coverage"][0], "high, medium, low or info, any state: no sink", "{answer}");
    for broken in [route("states = \"locked_out\""), "[sources.superna]\ntype = \"superna\"".into()]
    {
        gateway.configure("10-test.toml", &broken);
        let refused = reload().await;
        assert_eq!(refused.status, 422, "{refused:?}");
        assert!(refused.text.contains("go nowhere"), "{refused:?}");
    }
    gateway.post("/webhook/superna?wait=10s", r#"{"severity":"CRITICAL"}"#).await.ids();
    assert_eq!(gateway.settled("archive", "delivered").await, 1, "the one before is in force");
    gateway.configure("10-test.toml", &[ALLOWED, &route("states = \"locked_out\"")].concat());
    assert_eq!(reload().await.status, 200);
    gateway.finish().await;
}
