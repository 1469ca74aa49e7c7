//! Greetings of products are answered where a source asks for it, and are no events; everything
//! that only looks like one is an event.

use serde_json::{Value, json};

use super::gateway::{Gateway, Told, told};

const CONFIG: &str = r#"
[sources.polite]
type = "json"
handshakes = ["sns", "slack", "github"]
[sources.plain]
type = "json"
[sources.guarded]
type = "json"
handshakes = ["slack"]
auth = [{ header = "X-Token", secret = { env = "TOKEN" } }]
[unmatched]
sinks = ["archive"]
[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
"#;

async fn started() -> Gateway {
    let mut gateway = Gateway::prepared(CONFIG);
    gateway.set_env("TOKEN", "open-sesame");
    gateway.launch().await;
    gateway
}

/// As AWS documents it, sent as `text/plain`.
fn confirmation(kind: &str, url: &str) -> String {
    json!({
        "Type": kind,
        "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "Token": "2336412f37",
        "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
        "Message": "You have chosen to subscribe to the topic.",
        "SubscribeURL": url,
        "Timestamp": "2012-04-26T20:45:04.751Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLEpH+DcEwjAPg8O9mY8dReBSwksfg2S7WKQcikcNKWLQjwu6A4VbeS0QHVCkhRS7fUQvi2egU3N858fiTDN6bkkOxYDVrY0Ad8L10Hs3zH81mtnPk5uvvolIC1CXGu43obcgFxeL3khZl8IKvO61GWB6jI9b5+gLPoBc1Q=",
        "SigningCertURL": "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
    })
    .to_string()
}

const GENUINE: &str = "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:us-west-2:123456789012:MyTopic&Token=2336412f37";

async fn counted(gateway: &Gateway, source: &str, kind: &str) -> f64 {
    let labels = [("source", source), ("kind", kind)];
    gateway.metric("siemgate_ingress_handshakes_total", &labels).await.unwrap()
}

async fn ping(gateway: &Gateway, path: &str, event: &str, body: &str) -> Told {
    let request = gateway.request(path).header("X-GitHub-Event", event);
    told(request.header("X-GitHub-Delivery", "72d3162e").body(body.to_owned())).await
}

#[tokio::test]
async fn greetings_are_answered_and_are_no_events() {
    let gateway = started().await;
    let challenge = json!({ "token": "Jhj5dZrVaK7ZwHHjRyZWjbDl", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P", "type": "url_verification" });
    let answer = gateway.post("/webhook/polite", challenge.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.json(), json!({ "challenge": challenge["challenge"] }));

    let zen =
        r#"{"zen":"Keep it logically awesome.","hook_id":109948940,"hook":{"type":"Repository"}}"#;
    let answer = ping(&gateway, "/webhook/polite", "ping", zen).await;
    assert_eq!((answer.status, &answer.json()["accepted"]), (200, &0.into()), "{answer:?}");

    for kind in ["sns", "slack", "github"] {
        let expected = f64::from(u8::from(kind != "sns"));
        assert_eq!(counted(&gateway, "polite", kind).await, expected, "{kind}");
        assert_eq!(counted(&gateway, "plain", kind).await, 0.0, "{kind}");
    }
    let told_of = |kind: &str| {
        let is = |line: &Value| line["kind"] == kind && line["source"] == "polite";
        gateway.journal().iter().any(is)
    };
    assert!(told_of("slack") && told_of("github"));
    assert_eq!(gateway.metric("siemgate_log_head_position", &[]).await, Some(0.0));
    gateway.finish().await;
}

#[tokio::test]
async fn a_subscription_waits_for_a_person_and_no_address_is_opened() {
    let mut gateway = started().await;
    let decoy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let inside = format!("http://{}/latest/meta-data", decoy.local_addr().unwrap());
    for (kind, url, advice) in [
        ("SubscriptionConfirmation", GENUINE, "open the SubscribeURL"),
        ("UnsubscribeConfirmation", GENUINE, "has ended"),
        ("SubscriptionConfirmation", inside.as_str(), "do not open it"),
    ] {
        let body = confirmation(kind, url);
        let answer = gateway.post("/webhook/polite", body.clone()).await;
        assert_eq!(answer.status, 200, "SNS would repeat it: {answer:?}");
        let number = answer.json()["quarantined"].to_string();
        // On stable storage before the answer, like an event.
        gateway.kill();
        gateway.launch().await;
        let shown = gateway.cli(&["quarantine", "show", &number]).await;
        let shown: Value = serde_json::from_str(&shown.out).unwrap();
        assert_eq!((&shown["reason"], &shown["body"]), (&"handshake".into(), &body.into()));
        let detail = shown["detail"].as_str().unwrap();
        assert!(detail.contains(advice) && detail.contains(":MyTopic"), "{detail}");
        assert_eq!(gateway.cli(&["quarantine", "drop", &number]).await.code, Some(0));
    }
    assert!(!gateway.journal_text().contains("2336412f37"), "the token is in no journal");
    assert_eq!(gateway.metric("siemgate_log_head_position", &[]).await, Some(0.0));
    let called = decoy.into_std().unwrap().accept();
    assert!(called.is_err(), "nobody has called: {called:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn what_was_not_asked_for_or_only_looks_like_a_greeting_is_an_event() {
    let gateway = started().await;
    let challenge = r#"{"type":"url_verification","challenge":"c"}"#;
    gateway.post("/webhook/plain", challenge).await.ids();
    gateway.post("/webhook/plain", confirmation("SubscriptionConfirmation", GENUINE)).await.ids();
    ping(&gateway, "/webhook/plain", "ping", r#"{"zen":"z","hook_id":1}"#).await.ids();
    for body in [
        r#"{"type":"url_verification"}"#,
        r#"{"type":"url_verification","challenge":3}"#,
        r#"{"type":"alert","challenge":"c"}"#,
        r#"[{"type":"url_verification","challenge":"c"}]"#,
        r#"{"Type":"SubscriptionConfirmation"}"#,
        r#"{"Type":"Notification","TopicArn":"a","SubscribeURL":"u","Token":"t"}"#,
    ] {
        gateway.post("/webhook/polite", body).await.ids();
    }
    // The header alone may come with anything.
    ping(&gateway, "/webhook/polite", "ping", r#"{"severity":"critical"}"#).await.ids();
    ping(&gateway, "/webhook/polite", "push", r#"{"hook_id":1}"#).await.ids();
    assert_eq!(gateway.metric("siemgate_log_head_position", &[]).await, Some(11.0));
    gateway.finish().await;
}

#[tokio::test]
async fn a_greeting_needs_the_token_that_events_need() {
    let gateway = started().await;
    let challenge = r#"{"type":"url_verification","challenge":"c"}"#;
    let stranger = gateway.post("/webhook/guarded", challenge).await;
    assert!(stranger.status == 401 && !stranger.text.contains("challenge"), "{stranger:?}");
    let request = gateway.request("/webhook/guarded").header("X-Token", "open-sesame");
    assert_eq!(told(request.body(challenge)).await.json(), json!({ "challenge": "c" }));
    assert_eq!(counted(&gateway, "guarded", "slack").await, 1.0);
    // This source asked for one kind: another is an event.
    let request = gateway.request("/webhook/guarded").header("X-Token", "open-sesame");
    let ping = request.header("X-GitHub-Event", "ping").body(r#"{"hook_id":1}"#);
    told(ping).await.ids();
    gateway.finish().await;
}
