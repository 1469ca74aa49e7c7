//! Handshakes: how some products greet an address before, or beside, sending events.
//!
//! Guarantees: only the kinds that a source asks for are looked for, after authentication; what is
//! not one beyond doubt is an event; no address that a body names is ever opened. Pure.

use actix_web::http::header::HeaderMap;
use serde_json::Value;

use crate::core::config::Handshake;

/// A greeting is short.
const MOST_BYTES: usize = 64 << 10;
/// Longest challenge sent back.
const MOST_CHALLENGE: usize = 4 << 10;

/// A greeting.
#[derive(Debug, PartialEq)]
pub enum Greeting {
    /// SNS waits for a person to open the body's `SubscribeURL`. What to tell that person.
    Sns(String),
    /// Send this back.
    Slack(String),
    /// Nothing to do.
    Github,
}

impl Greeting {
    /// Its kind.
    pub fn kind(&self) -> Handshake {
        match self {
            Self::Sns(_) => Handshake::Sns,
            Self::Slack(_) => Handshake::Slack,
            Self::Github => Handshake::Github,
        }
    }
}

/// The greeting in a request, if it is one of `kinds`.
pub fn recognise(kinds: &[Handshake], headers: &HeaderMap, body: &[u8]) -> Option<Greeting> {
    if kinds.is_empty() || body.len() > MOST_BYTES {
        return None;
    }
    let body: Value = serde_json::from_slice(body).ok().filter(Value::is_object)?;
    kinds.iter().find_map(|kind| match kind {
        Handshake::Sns => sns(&body),
        Handshake::Slack => slack(&body),
        Handshake::Github => github(headers, &body),
    })
}

/// <https://docs.aws.amazon.com/sns/latest/dg/http-subscription-confirmation-json.html>
fn sns(body: &Value) -> Option<Greeting> {
    let text = |name: &str| body[name].as_str();
    let asks = match text("Type")? {
        "SubscriptionConfirmation" => "asks to confirm the subscription to",
        "UnsubscribeConfirmation" => "says that the subscription has ended to",
        _ => return None,
    };
    let (topic, url) = (text("TopicArn")?, text("SubscribeURL")?);
    text("Token")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.');
    let topic = if topic.len() <= 400 && topic.chars().all(plain) { topic } else { "?" };
    let advice = match leads_to_sns(url) {
        true => "open the SubscribeURL in its body to confirm, then drop it",
        false => "its SubscribeURL does NOT lead to AWS SNS: do not open it, drop it",
    };
    Some(Greeting::Sns(format!("AWS SNS {asks} {topic}; {advice}")))
}

/// Whether `url` is one of SNS itself: https, no port, no user, and exactly its host.
fn leads_to_sns(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://sns.") else { return false };
    let host = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let region = host.strip_suffix(".amazonaws.com").or(host.strip_suffix(".amazonaws.com.cn"));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    region.is_some_and(|region| !region.is_empty() && region.chars().all(plain))
}

/// <https://docs.slack.dev/reference/events/url_verification>
fn slack(body: &Value) -> Option<Greeting> {
    let challenge = body["challenge"].as_str().filter(|text| text.len() <= MOST_CHALLENGE)?;
    (body["type"] == "url_verification").then(|| Greeting::Slack(challenge.to_owned()))
}

/// <https://docs.github.com/en/webhooks/webhook-events-and-payloads#ping>
fn github(headers: &HeaderMap, body: &Value) -> Option<Greeting> {
    let named = headers.get("x-github-event").is_some_and(|event| event == "ping");
    (named && body["hook_id"].is_u64()).then_some(Greeting::Github)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_sns_itself_is_called_sns() {
        for (url, is) in [
            ("https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&Token=x", true),
            ("https://sns.cn-north-1.amazonaws.com.cn/?Action=ConfirmSubscription", true),
            ("http://sns.eu-central-1.amazonaws.com/", false),
            ("https://sns.eu-central-1.amazonaws.com.attacker.example/", false),
            ("https://sns.eu-central-1.amazonaws.com@attacker.example/", false),
            ("https://sns.eu-central-1.amazonaws.com:8443/", false),
            ("https://sns.attacker.example/.amazonaws.com", false),
            ("https://sns.attacker.example\\.amazonaws.com", false),
            ("https://sns.a.b.amazonaws.com/", false),
            ("https://sns..amazonaws.com/", false),
            ("https://169.254.169.254/latest/meta-data", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(leads_to_sns(url), is, "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..100), text in "\\PC*") {
            let headers = HeaderMap::new();
            prop_assert_eq!(recognise(&Handshake::ALL, &headers, &body), None);
            let url = format!("https://sns.{text}");
            let _ = leads_to_sns(&url);
            // Only a host that begins with `sns.` and ends as Amazon's does.
            if leads_to_sns(&url) {
                prop_assert!(text.contains(".amazonaws.com"));
            }
        }

        #[test]
        fn what_is_nearly_a_greeting_is_an_event(drop in 0usize..4, name in "[A-Za-z_]{1,12}") {
            let whole = [("Type", "SubscriptionConfirmation"), ("TopicArn", "arn:aws:sns:x:1:t"), ("SubscribeURL", "https://x"), ("Token", "t")];
            let body: serde_json::Map<String, Value> = whole.iter().enumerate().filter(|(i, _)| *i != drop)
                .map(|(_, (k, v))| ((*k).to_owned(), Value::from(*v))).chain([(name, Value::from(1))]).collect();
            let body = Value::from(body).to_string();
            prop_assert_eq!(recognise(&Handshake::ALL, &HeaderMap::new(), body.as_bytes()), None);
        }
    }
}
