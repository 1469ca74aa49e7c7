//! Taegis: what goes over the wire, and what its replies mean.

use serde_json::json;
use siemgate::core::sink::Cause;

use crate::peer::{Answer, Peer};
use crate::sinks::{KEY, build, built, delivered, encode, failed, folder, send, told};

fn toml(url: &str, dir: &tempfile::TempDir, more: &str) -> String {
    let key = dir.path().join("key");
    format!(
        "[sinks.sophos]\ntype = \"taegis\"\nurl = \"{url}\"\nkey = {{ file = {key:?} }}\n{more}\n"
    )
}

#[tokio::test]
async fn the_original_goes_out_unchanged_to_the_exact_address() {
    let (peer, dir) = (Peer::start().await, folder());
    let built = built(&toml(&format!("{}/http-endpoint/v1/a%2Fb?x=%7B1%7D", peer.url()), &dir, ""));
    let body = "{ \"b\" : 1.000, \"a\":\"\\u00e4\\/\",\r\n\t\"b\": 12345678901234567890 }\n";
    delivered(send(&built, &[body]).await);
    let request = &peer.requests()[0];
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", "/http-endpoint/v1/a%2Fb?x=%7B1%7D")
    );
    assert_eq!(request.text(), body);
    assert_eq!(request.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert!(request.header("user-agent").unwrap().starts_with("siemgate/"));
    assert_eq!(request.header("content-length"), Some(body.len().to_string().as_str()));
    let names = request.headers.iter().map(|(name, _)| name.to_lowercase());
    let known = [
        "authorization",
        "content-type",
        "user-agent",
        "content-length",
        "accept",
        "host",
        "siemgate-hop",
    ];
    assert!(names.into_iter().all(|name| known.contains(&name.as_str())), "{:?}", request.headers);
}

#[tokio::test]
async fn replies_are_judged_by_their_count() {
    let (peer, dir) = (Peer::start().await, folder());
    let built = built(&toml(&peer.url(), &dir, ""));
    let accepted = [
        ("{\"successCount\":1}", Some(1)),
        ("{\"successCount\":\"1\",\"x\":2}", Some(1)),
        ("{\"successCount\":1.0}", Some(1)),
        ("{\"successCount\":5}", Some(5)),
        ("{\"successCount\":null}", None),
        ("{\"successCount\":\"many\"}", None),
        ("{}", None),
        ("[]", None),
        ("\"ok\"", None),
        ("", None),
        (" \r\n", None),
    ];
    for (reply, count) in accepted {
        peer.always(Answer::ok(reply));
        let got = delivered(send(&built, &["{}"]).await);
        assert_eq!((got.accepted, got.status), (count, Some(200)), "{reply}");
    }
    for refused in [
        "{\"successCount\":0,\"error\":\"bad schema\"}",
        "{\"successCount\":\"0\",\"error\":\"bad schema\"}",
    ] {
        peer.always(Answer::ok(refused));
        let fault = failed(send(&built, &["{}"]).await, Cause::Refused);
        assert!(fault.reply.unwrap().excerpt.contains("bad schema"));
    }
    for page in ["<html>Sign in</html>", "OK", "<?xml version='1.0'?><ok/>", "{\"successCount\":1"]
    {
        peer.always(Answer::ok(page));
        let fault = failed(send(&built, &["{}"]).await, Cause::Setup);
        assert!(fault.note.contains("sinks.sophos.url"), "{fault:?}");
    }
}

#[tokio::test]
async fn batches_are_lines_and_a_short_count_fails_them_all() {
    let (peer, dir) = (Peer::start().await, folder());
    let built = built(&toml(&peer.url(), &dir, "batch_events = 100"));
    assert_eq!(built.limits.batch_events, 100);
    peer.always(Answer::ok("{\"successCount\":3}"));
    let bodies = ["{ \"a\": \"x y\" }", "{\n  \"n\": 1.0\n}\n", "\"\""];
    assert_eq!(delivered(send(&built, &bodies).await).accepted, Some(3));
    assert_eq!(peer.requests()[0].text(), "{\"a\":\"x y\"}\n{\"n\":1.0}\n\"\"\n");
    peer.always(Answer::ok("{\"successCount\":2}"));
    let fault = failed(send(&built, &bodies).await, Cause::Refused);
    assert_eq!(fault.reply.unwrap().accepted, Some(2));
}

#[test]
fn what_is_too_large_is_never_shortened() {
    let dir = folder();
    let built = built(&toml("http://127.0.0.1:9", &dir, "event_bytes = \"1KiB\""));
    assert_eq!((built.limits.event_bytes, built.limits.batch_events), (1_024, 1));
    let body = |bytes: usize| json!("x".repeat(bytes - 2)).to_string();
    assert_eq!(encode(&built, body(1_024)).unwrap().bytes, body(1_024));
    assert_eq!(encode(&built, body(1_025)).unwrap_err().cause, Cause::TooLarge);
}

#[tokio::test]
async fn an_address_may_be_a_secret_and_a_proxy_is_used_when_set() {
    let (peer, dir) = (Peer::start().await, folder());
    std::fs::write(dir.path().join("url"), "http://taegis.invalid/hidden-path\n").unwrap();
    let url = format!("url = {{ file = {:?} }}", dir.path().join("url"));
    let toml = toml("-", &dir, &format!("proxy = \"{}\"", peer.url())).replace("url = \"-\"", &url);
    let built = built(&toml);
    peer.answer(|request| Answer::new(404, format!("no {} here", request.path)));
    let fault = failed(send(&built, &["{}"]).await, Cause::Setup);
    assert_eq!(peer.requests()[0].path, "http://taegis.invalid/hidden-path");
    assert!(!format!("{fault:?}").contains("hidden"), "{fault:?}");
    assert!(fault.note.contains("sinks.sophos.url"), "{fault:?}");
}

#[tokio::test]
async fn long_replies_are_cut() {
    let (peer, dir) = (Peer::start().await, folder());
    let built = built(&toml(&peer.url(), &dir, ""));
    peer.always(Answer::new(400, "ä".repeat(4 << 20)));
    let fault = failed(send(&built, &["{}"]).await, Cause::Refused);
    assert_eq!(fault.reply.unwrap().excerpt.len(), 512);
}

#[test]
fn every_mistake_is_told_at_once_with_its_key() {
    let dir = folder();
    let more = "batch_events = 0\nevent_bytes = \"1TiB\"\nca_file = \"/nowhere.pem\"";
    let problems = build(&toml("https://h.example", &dir, more)).err().map(told).unwrap();
    for key in ["sinks.sophos.batch_events", "sinks.sophos.event_bytes", "sinks.sophos.ca_file"] {
        assert!(problems.contains(key), "{key}: {problems}");
    }
    let more = "connect_timeout = \"soon\"\nprox = \"x\"";
    let problems = build(&toml("http://h", &dir, more)).err().map(told).unwrap();
    assert!(problems.contains("sinks.sophos.connect_timeout: `soon`"), "{problems}");
    assert!(problems.contains("did you mean `proxy`?"), "{problems}");
    assert_eq!(problems.matches("soon").count(), 1, "{problems}");
}
