//! Destinations where people read: what they are shown, what they cannot be made to see, and that an
//! incident has one ticket.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use siemgate::core::Timestamp;
use siemgate::core::event::{Draft, Event, EventId, Position};
use siemgate::core::route::Shaped;
use siemgate::core::sink::{Cause, Class, Piece};
use siemgate::sinks::{Built, Catalogue, Entry};

use crate::peer::{Answer, Peer, Request};
use crate::sinks::{built, delivered, failed, folder, now, told};

/// Everything in the catalogue where people read.
fn kinds() -> Vec<Entry> {
    let all = Catalogue::default().all().map_err(told).unwrap();
    all.into_iter().filter(|k| matches!(k.class(), Class::People | Class::Incident)).collect()
}

/// An event that was read by the decoder for Superna.
fn event(body: &Value) -> Shaped {
    event_at(body, now())
}

/// The same, received at `time`.
pub fn event_at(body: &Value, time: Timestamp) -> Shaped {
    let body = Bytes::from(body.to_string());
    let draft = Draft::new(EventId::fresh(), time, "superna".into(), body.clone());
    let section = siemgate::core::config::Section::new("sources.superna", serde_json::Map::new());
    let source = (siemgate::sources::kind("superna").unwrap().build)(&section).unwrap();
    draft.decoded_by(|| source.decode(&body));
    Shaped::unshaped(Arc::new(Event { position: Position(0), draft }))
}

fn piece(built: &Built, event: &Shaped) -> Piece {
    let bytes = built.sink.encode(event, built.limits.event_bytes).unwrap();
    Piece::of(&event.event, bytes)
}

/// A sink of `kind` that shows `show` (its default without), with `more` settings.
fn sink(kind: &Entry, peer: &str, show: Option<&str>, more: &str) -> Built {
    let dir = folder();
    let sample = kind.sample_with(peer, &dir.path().display().to_string());
    let show = show.map(|show| format!("show = [{show}]\n")).unwrap_or_default();
    built(&format!("{sample}{show}{more}"))
}

/// What would leave, percent-decoded where it is a form.
fn written(built: &Built, event: &Shaped) -> String {
    let piece = piece(built, event);
    let body = built.sink.preview(std::slice::from_ref(&piece)).map_or(piece.bytes, |p| p.body);
    let text = String::from_utf8(body.to_vec()).unwrap();
    if let Some((head, base64)) = text.split_once("Content-Transfer-Encoding: base64\r\n\r\n") {
        let body = STANDARD.decode(base64.replace("\r\n", "")).unwrap();
        return json!({ "head": head, "text": String::from_utf8(body).unwrap() }).to_string();
    }
    match text.starts_with(['{', '[']) {
        true => text,
        false => {
            let pairs = reqwest::Url::parse(&format!("x:?{text}")).unwrap();
            let pairs: serde_json::Map<String, Value> = pairs
                .query_pairs()
                .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
                .collect();
            Value::Object(pairs).to_string()
        }
    }
}

const ALL: &str = r#""title", "user", "addresses", "shares", "files", "event""#;

fn alarm() -> Value {
    json!({
        "id": "inc-77", "severity": "CRITICAL", "state": "LOCKED_OUT", "userName": "CORP\\zsecretuser",
        "clientIPs": ["203.0.113.77"], "nes": ["prodnine"], "shares": ["zsecretshare"],
        "files": ["/ifs/zsecretfile.doc"], "numFiles": 4711,
        "link": "https://dse.example/incidents/77?a=1&b=2",
    })
}

#[test]
fn people_are_shown_names_only_where_that_is_asked_for() {
    let secrets = ["zsecretuser", "203.0.113.77", "zsecretshare", "zsecretfile"];
    for kind in kinds() {
        let has = |show| {
            let text = written(&sink(&kind, "http://127.0.0.1:9", show, ""), &event(&alarm()));
            for fact in ["prodnine", "4711", "dse.example/incidents/77"] {
                assert!(text.contains(fact), "{}: {fact} is not in {text}", kind.name());
            }
            let critical = text.to_lowercase().contains("critical");
            assert!(critical && text.to_lowercase().contains("locked"), "{}: {text}", kind.name());
            secrets.map(|secret| text.contains(secret))
        };
        assert_eq!(has(Some("")), [false; 4], "{}", kind.name());
        assert_eq!(has(Some(ALL)), [true; 4], "{}", kind.name());
        assert_eq!(has(Some(r#""user""#)), [true, false, false, false], "{}", kind.name());
        let default = if kind.class() == Class::People { [false; 4] } else { [true; 4] };
        assert_eq!(has(None), default, "{}", kind.name());
    }
}

/// What the texts of a message hold: all of its strings.
fn strings(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) => out.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, out)),
        Value::Object(table) => table.values().for_each(|value| strings(value, out)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_name_mentions_links_or_formats_anything(
        words in prop::collection::vec(prop_oneof![
            Just("@everyone"), Just("<!channel>"), Just("<@U123>"), Just("<users/all>"), Just("@**all**"),
            Just("[x](https://evil.example)"), Just("<https://evil.example|x>"), Just("https://evil.example"),
            Just("www.evil.example"), Just("<a href=\"https://evil.example\">x</a>"), Just("<at>all</at>"), Just("**bold**"),
            Just("[~admin]"), Just("{noformat}"), Just("[code]<b>x</b>[/code]"), Just("\r\nBcc: x@evil.example"), Just("\u{202e}"),
        ], 1..6),
        glue in "[ /\\\\a-z.]{0,3}",
    ) {
        let hostile = words.join(&glue);
        let mut body = alarm();
        for key in ["userName", "state"] {
            body[key] = hostile.clone().into();
        }
        for key in ["files", "nes", "shares"] {
            body[key] = json!([hostile]);
        }
        let event = event(&body);
        for kind in kinds() {
            let text = written(&sink(&kind, "http://127.0.0.1:9", Some(ALL), ""), &event);
            let message: Value = serde_json::from_str(&text).unwrap();
            let mut texts = Vec::new();
            strings(&message, &mut texts);
            let people = kind.class() == Class::People;
            for text in &texts {
                for bad in ["@everyone", "<!channel>", "<@U123>", "<users/", "<at>", "://evil", "www.evil", "\u{202e}"] {
                    // A mail is plain text: tags are none.
                    if kind.name() == "smtp" && bad.starts_with('<') {
                        continue;
                    }
                    // Behind a backslash it is a character like others.
                    let live = text.match_indices(bad).any(|(at, _)| !text[..at].ends_with('\\'));
                    prop_assert!(!people || !live, "{}: {bad:?} in {text:?}", kind.name());
                }
                if kind.name() == "jira" {
                    prop_assert!(text.matches("{noformat}").count() <= 2, "{text:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_ended_incident_closes_the_alert_that_it_opened() {
    for name in ["opsgenie", "jsm"] {
        let kind = Catalogue::default().get(name).map_err(told).unwrap().unwrap();
        let peer = Peer::start().await;
        peer.always(Answer::new(202, r#"{"requestId":"r-1"}"#));
        let sink = sink(&kind, &format!("{}/v2/alerts", peer.url()), None, "");
        let mut ended = alarm();
        ended["state"] = "ACCESS_RESTORED".into();
        for body in [alarm(), ended] {
            let piece = piece(&sink, &event(&body));
            let reply = delivered(sink.sink.send(&[piece], now()).await);
            assert_eq!(reply.id.as_deref(), Some("r-1"));
        }
        let [opened, closed] = &peer.requests()[..] else { panic!("not two requests") };
        assert_eq!(opened.path, "/v2/alerts");
        assert_eq!(
            (&opened.json()["alias"], &opened.json()["priority"]),
            (&json!("inc-77"), &json!("P1"))
        );
        assert_eq!(closed.path, "/v2/alerts/inc-77/close?identifierType=alias", "{name}");
        assert_eq!(closed.json()["user"], "siemgate");
    }
}

/// Keys that a name could be in are digests, and stay the same.
#[test]
fn an_incident_is_named_without_naming_its_user() {
    let kind = Catalogue::default().get("pagerduty").map_err(told).unwrap().unwrap();
    let sink = sink(&kind, "http://127.0.0.1:9", Some(""), "");
    let mut body = alarm();
    body.as_object_mut().unwrap().remove("id");
    let key = |body: &Value| {
        let sent: Value = serde_json::from_str(&written(&sink, &event(body))).unwrap();
        (sent["dedup_key"].as_str().unwrap().to_owned(), sent["event_action"].clone())
    };
    let (opened, trigger) = key(&body);
    body["state"] = "ACCESS_RESTORED".into();
    let (closed, resolve) = key(&body);
    assert_eq!((&trigger, &resolve), (&json!("trigger"), &json!("resolve")));
    assert!(opened.starts_with("incident-") && opened.len() < 64, "{opened}");
    assert_eq!(opened, closed);
    body["userName"] = "CORP\\other".into();
    assert_ne!(key(&body).0, opened);
}

/// Answer as ServiceNow with these open tickets.
fn service_now(open: &'static str) -> impl Fn(&Request) -> Answer {
    move |request| match &*request.method {
        "GET" => Answer::ok(format!(r#"{{"result":[{open}]}}"#)),
        _ => Answer::new(201, r#"{"result":{"sys_id":"abc1","number":"INC7"}}"#),
    }
}

#[tokio::test]
async fn a_servicenow_ticket_is_opened_noted_in_and_resolved() {
    for (name, table, resolved) in
        [("servicenow_incident", "incident", "6"), ("servicenow_sir", "sn_si_incident", "100")]
    {
        let kind = Catalogue::default().get(name).map_err(told).unwrap().unwrap();
        let peer = Peer::start().await;
        let sink = sink(&kind, &peer.url(), None, "assignment_group = \"SOC\"\n");
        let mut ended = alarm();
        ended["state"] = "ACCESS_RESTORED".into();
        let send = async |body: &Value| sink.sink.send(&[piece(&sink, &event(body))], now()).await;

        peer.answer(service_now(""));
        assert_eq!(delivered(send(&alarm()).await).id.as_deref(), Some("INC7"));
        let nothing = delivered(send(&ended).await);
        assert!(nothing.excerpt.contains("nothing to resolve"), "{nothing:?}");
        peer.answer(service_now(r#"{"sys_id":"abc1"}"#));
        delivered(send(&alarm()).await);
        delivered(send(&ended).await);

        let requests = peer.requests();
        let writes: Vec<&Request> = requests.iter().filter(|r| r.method != "GET").collect();
        let [opened, noted, closed] = &writes[..] else { panic!("{requests:?}") };
        let path = format!("/api/now/table/{table}");
        assert_eq!((&*opened.method, &opened.path), ("POST", &path));
        let ticket = opened.json();
        assert_eq!(ticket["correlation_id"], "inc-77");
        assert_eq!((&ticket["urgency"], &ticket["assignment_group"]), (&json!("1"), &json!("SOC")));
        assert!(ticket["description"].as_str().unwrap().contains("User: CORP\\zsecretuser"));
        assert_eq!((&*noted.method, noted.path.clone()), ("PATCH", format!("{path}/abc1")));
        assert_eq!(noted.json().as_object().unwrap().keys().collect::<Vec<_>>(), ["work_notes"]);
        assert_eq!((&closed.json()["state"], &closed.path), (&json!(resolved), &noted.path));
        let asked = requests.iter().find(|r| r.method == "GET").unwrap();
        let query = "sysparm_query=correlation_id%3Dinc-77%5Ecorrelation_display%3Dsiemgate%5Eactive%3Dtrue";
        assert!(asked.path.contains(query), "{}", asked.path);

        peer.always(Answer::ok("[1, 2]"));
        let fault = failed(send(&alarm()).await, Cause::Setup);
        assert!(fault.note.contains("sinks."), "{fault:?}");
    }
}

#[tokio::test]
async fn a_jira_issue_is_opened_commented_on_and_resolved() {
    let kind = Catalogue::default().get("jira").map_err(told).unwrap().unwrap();
    let peer = Peer::start().await;
    let sink = sink(&kind, &peer.url(), None, "resolve_transition = \"31\"\n");
    let mut ended = alarm();
    ended["state"] = "ACCESS_RESTORED".into();
    let send = async |body: &Value| sink.sink.send(&[piece(&sink, &event(body))], now()).await;
    let jira = |issues: &'static str| {
        move |request: &Request| match &*request.method {
            "GET" => Answer::ok(format!(r#"{{"issues":[{issues}]}}"#)),
            _ if request.path.ends_with("transitions") => Answer::new(204, ""),
            _ => Answer::new(201, r#"{"id":"1","key":"SEC-9"}"#),
        }
    };
    peer.answer(jira(""));
    assert_eq!(delivered(send(&alarm()).await).id.as_deref(), Some("SEC-9"));
    delivered(send(&ended).await);
    peer.answer(jira(r#"{"key":"SEC-9"}"#));
    delivered(send(&alarm()).await);
    delivered(send(&ended).await);
    let requests = peer.requests();
    let writes: Vec<&Request> = requests.iter().filter(|r| r.method != "GET").collect();
    let [opened, noted, closed] = &writes[..] else { panic!("{requests:?}") };
    assert_eq!(opened.path, "/rest/api/2/issue");
    assert_eq!(opened.json()["fields"]["labels"], json!(["siemgate", "siemgate-inc-77"]));
    assert_eq!(noted.path, "/rest/api/2/issue/SEC-9/comment");
    assert_eq!(closed.path, "/rest/api/2/issue/SEC-9/transitions");
    assert_eq!(closed.json()["transition"]["id"], "31");
    assert!(requests[0].path.starts_with("/rest/api/2/search/jql?jql="), "{}", requests[0].path);

    peer.answer(|request| match &*request.method {
        "GET" => Answer::ok(r#"{"issues":[]}"#),
        _ => Answer::new(400, r#"{"errorMessages":[],"errors":{"issuetype":"is not valid"}}"#),
    });
    failed(send(&alarm()).await, Cause::Setup);
}
