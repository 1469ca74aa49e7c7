//! How senders prove who they are: every way, with the right secret, an older one, and wrong ones.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use siemgate::core::Timestamp;

use super::gateway::{Gateway, Told, told};
use super::products::python;

/// A secret of Standard Webhooks, and the key in it.
const WHSEC: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

const CONFIG: &str = r#"
[server]
trusted_proxies = ["127.0.0.1"]
[sources.header]
type = "json"
auth = [{ header = "X-Token", secret = [{ env = "NEW" }, { env = "OLD" }] }]
[sources.bearer]
type = "json"
auth = [{ bearer = { env = "NEW" } }]
[sources.basic]
type = "json"
auth = [{ basic = { user = "defender", password = [{ env = "NEW" }, { env = "OLD" }] } }]
[sources.standard]
type = "json"
auth = [{ standard_webhooks = { env = "WHSEC" } }]
[sources.github]
type = "json"
auth = [{ hmac = { secret = [{ env = "NEW" }, { env = "OLD" }] } }]
[sources.slack]
type = "json"
auth = [{ hmac = { secret = { env = "NEW" }, header = "X-Slack-Signature", prefix = "v0=", timestamp_header = "X-Slack-Request-Timestamp", signed = "v0:{timestamp}:{body}" } }]
[sources.base64]
type = "json"
auth = [{ hmac = { secret = { env = "NEW" }, header = "X-Sig", encoding = "base64" } }]
[sources.several]
type = "json"
auth = [{ bearer = { env = "NEW" } }, { hmac = { secret = { env = "OLD" } } }]
[unmatched]
sinks = ["archive"]
[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
"#;

async fn started() -> Gateway {
    let mut gateway = Gateway::prepared(CONFIG);
    for (name, value) in [("NEW", "new-secret"), ("OLD", "old-secret"), ("WHSEC", WHSEC)] {
        gateway.set_env(name, value);
    }
    gateway.launch().await;
    gateway
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    let mac = parts.iter().fold(mac, |mac, part| mac.chain_update(part));
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

/// From an address of its own, so that nobody waits for what others did wrong.
async fn post(gateway: &Gateway, source: &str, headers: &[(&str, String)], body: &[u8]) -> Told {
    static SENDERS: AtomicU32 = AtomicU32::new(0x7f01_0000);
    let sender = Ipv4Addr::from_bits(SENDERS.fetch_add(1, Ordering::Relaxed));
    let request = gateway.request(&format!("/webhook/{source}")).body(body.to_vec());
    let request = request.header("X-Forwarded-For", sender.to_string());
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
    told(request).await
}

async fn refused(gateway: &Gateway, source: &str, reason: &str) -> f64 {
    let labels = [("source", source), ("reason", reason)];
    gateway.metric("siemgate_ingress_refused_total", &labels).await.unwrap()
}

async fn quarantined(gateway: &Gateway) -> Vec<Value> {
    let listed = gateway.cli(&["quarantine", "list", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    listed["letters"].as_array().unwrap().clone()
}

fn github(key: &str, body: &[u8]) -> (&'static str, String) {
    ("X-Hub-Signature-256", format!("sha256={}", hex(&mac(key.as_bytes(), &[body]))))
}

fn slack(time: i64, body: &[u8]) -> [(&'static str, String); 2] {
    let text = time.to_string();
    let mac = mac(b"new-secret", &[b"v0:", text.as_bytes(), b":", body]);
    [("X-Slack-Signature", format!("v0={}", hex(&mac))), ("X-Slack-Request-Timestamp", text)]
}

fn basic(both: &str) -> (&'static str, String) {
    ("Authorization", format!("Basic {}", STANDARD.encode(both)))
}

#[tokio::test]
async fn every_way_takes_its_own_secrets_and_nothing_else() {
    let gateway = started().await;
    let body = br#"{"severity":"critical"}"#;
    let bearer = |token: &str| ("Authorization", format!("Bearer {token}"));
    let token = |token: &str| ("X-Token", token.to_owned());
    let sig = ("X-Sig", STANDARD.encode(mac(b"new-secret", &[body])));
    let unpadded = ("X-Sig", sig.1.trim_end_matches('=').to_owned());
    for (source, headers, status) in [
        ("header", vec![token("new-secret")], 200),
        ("header", vec![token("old-secret")], 200),
        ("header", vec![token("new-secre")], 401),
        ("header", vec![bearer("new-secret")], 401),
        ("bearer", vec![bearer("new-secret")], 200),
        ("bearer", vec![("Authorization", "bEARER  new-secret ".to_owned())], 200),
        ("bearer", vec![bearer("old-secret")], 401),
        ("bearer", vec![("Authorization", "Bearernew-secret".to_owned())], 401),
        ("bearer", vec![("Authorization", "Be".to_owned())], 401),
        ("bearer", vec![basic("new-secret:")], 401),
        ("basic", vec![basic("defender:new-secret")], 200),
        ("basic", vec![basic("defender:old-secret")], 200),
        ("basic", vec![basic("defender:wrong")], 401),
        ("basic", vec![basic("somebody:new-secret")], 401),
        ("basic", vec![("Authorization", "Basic ***".to_owned())], 401),
        ("github", vec![github("new-secret", body)], 200),
        ("github", vec![github("old-secret", body)], 200),
        ("github", vec![github("other", body)], 401),
        ("github", vec![github("new-secret", b"{}")], 401),
        ("github", vec![("X-Hub-Signature-256", "sha256=".to_owned())], 401),
        ("github", vec![("X-Hub-Signature-256", "sha256=zz".to_owned())], 401),
        ("base64", vec![sig], 200),
        ("base64", vec![unpadded], 200),
        ("several", vec![bearer("new-secret")], 200),
        ("several", vec![github("old-secret", body)], 200),
        ("several", vec![bearer("wrong"), github("old-secret", body)], 200),
        ("several", vec![github("new-secret", body)], 401),
        ("several", vec![], 401),
    ] {
        let answer = post(&gateway, source, &headers, body).await;
        assert_eq!(answer.status, status, "{source} {headers:?}: {answer:?}");
    }
    for (source, reason, count) in [
        ("header", "token", 2.0),
        ("bearer", "token", 4.0),
        ("basic", "token", 3.0),
        ("github", "signature", 4.0),
        ("several", "signature", 1.0),
        ("several", "token", 1.0),
    ] {
        assert_eq!(refused(&gateway, source, reason).await, count, "{source} {reason}");
    }
    let asked = post(&gateway, "basic", &[], body).await;
    assert_eq!(asked.headers["www-authenticate"], "Basic realm=\"siemgate\"");
    assert!(asked.text.contains("Authorization: Basic"), "says what to send: {asked:?}");
    let shown = gateway.cli(&["config", "show"]).await.out + &gateway.journal_text();
    assert!(!shown.contains("-secret") && !shown.contains("C2FVsB"), "{shown}");
    assert!(shown.contains("OLD"), "where secrets are is no secret: {shown}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_signature_is_over_the_bytes_as_they_were_sent() {
    let gateway = started().await;
    let plain = br#"{"compressed":true}"#;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    let packed = encoder.finish().unwrap();
    let gzip = ("Content-Encoding", "gzip".to_owned());
    for (signed, status) in [(&packed[..], 200), (plain, 401)] {
        let headers = [gzip.clone(), github("new-secret", signed)];
        assert_eq!(post(&gateway, "github", &headers, &packed).await.status, status);
    }
    // In pieces, as large bodies come.
    let large = format!("{{\"text\":\"{}\"}}", "x".repeat(3 << 20));
    let headers = [github("new-secret", large.as_bytes())];
    post(&gateway, "github", &headers, large.as_bytes()).await.ids();
    gateway.until_settled("archive", "delivered", 2).await;
    assert_eq!(gateway.lines("events.ndjson"), [std::str::from_utf8(plain).unwrap(), &large]);
    // What cannot be unpacked is only told to whoever signed it.
    let broken = &packed[..packed.len() / 2];
    for (key, status) in [("new-secret", 400), ("other", 401)] {
        let headers = [gzip.clone(), github(key, broken)];
        assert_eq!(post(&gateway, "github", &headers, broken).await.status, status);
    }
    gateway.finish().await;
}

#[tokio::test]
async fn of_a_body_with_a_wrong_signature_nothing_is_kept() {
    let gateway = Gateway::prepared(CONFIG);
    gateway.configure("20-limit.toml", "[server]\nbody_limit = \"1KiB\"\n");
    let mut gateway = gateway;
    for (name, value) in [("NEW", "new-secret"), ("OLD", "old-secret"), ("WHSEC", WHSEC)] {
        gateway.set_env(name, value);
    }
    gateway.launch().await;
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1_500));
    let monstrous = "x".repeat(1 << 20);
    let bodies = [("{\"a\": tru}", 400), (&large[..], 413), (&monstrous[..], 413)];
    for (body, _) in bodies {
        let headers = [github("other", body.as_bytes())];
        assert_eq!(post(&gateway, "github", &headers, body.as_bytes()).await.status, 401);
        assert_eq!(post(&gateway, "github", &[], body.as_bytes()).await.status, 401);
    }
    assert!(quarantined(&gateway).await.is_empty());
    assert_eq!(gateway.metric("siemgate_log_head_position", &[]).await, Some(0.0));
    for (body, status) in bodies {
        let headers = [github("new-secret", body.as_bytes())];
        assert_eq!(post(&gateway, "github", &headers, body.as_bytes()).await.status, status);
    }
    assert_eq!(quarantined(&gateway).await.len(), 3, "of its own sender it is");
    gateway.finish().await;
}

#[tokio::test]
async fn a_time_that_is_off_is_told_and_the_body_kept_for_a_person() {
    let gateway = started().await;
    for (seconds, words) in [(-4 * 3_600, "4 hours before"), (2 * 3_600, "2 hours after")] {
        let body = format!("{{\"off\":{seconds}}}");
        let headers = slack(now() + seconds, body.as_bytes());
        let answer = post(&gateway, "slack", &headers, body.as_bytes()).await;
        assert!(answer.status == 401 && answer.text.contains(words), "{answer:?}");
        assert!(answer.text.contains("clock"), "{answer:?}");
    }
    // Another time than the one that was signed, or none.
    let mut headers = slack(now() - 4 * 3_600, b"{}");
    headers[1].1 = now().to_string();
    assert_eq!(post(&gateway, "slack", &headers, b"{}").await.status, 401);
    assert_eq!(post(&gateway, "slack", &headers[..1], b"{}").await.status, 401);
    assert_eq!(refused(&gateway, "slack", "timestamp").await, 2.0);
    assert_eq!(refused(&gateway, "slack", "signature").await, 2.0);
    let kept = quarantined(&gateway).await;
    assert_eq!(kept.len(), 2, "only what the secret's owner made: {kept:?}");
    assert_eq!(kept[0]["reason"], "timestamp");
    let number = kept[0]["number"].to_string();
    assert_eq!(gateway.cli(&["quarantine", "replay", &number]).await.code, Some(0));
    gateway.until_settled("archive", "delivered", 1).await;
    assert_eq!(gateway.lines("events.ndjson"), ["{\"off\":-14400}"]);
    gateway.finish().await;
}

#[tokio::test]
async fn a_captured_request_is_delivered_once_however_often_it_is_sent() {
    let mut gateway = started().await;
    let body = br#"{"n":1}"#;
    let headers = slack(now(), body);
    let [first] = &post(&gateway, "slack", &headers, body).await.ids()[..] else { panic!() };
    gateway.kill();
    gateway.launch().await;
    for extra in ["", "a", "b"] {
        // A name that is not signed makes no new request of it.
        let mut headers = headers.to_vec();
        headers.push(("webhook-id", extra.to_owned()));
        let again = post(&gateway, "slack", &headers, body).await;
        assert_eq!(again.json()["events"][0]["duplicate_of"], first.as_str(), "{again:?}");
    }
    // Without a time, equal bodies are different events: the json source takes them as such.
    for _ in 0..2 {
        post(&gateway, "github", &[github("new-secret", body)], body).await.ids();
    }
    gateway.until_settled("archive", "delivered", 3).await;
    gateway.finish().await;
}

#[tokio::test]
async fn whoever_guesses_waits_and_the_good_sender_beside_it_does_not() {
    let gateway = started().await;
    let guess = |n: usize| {
        let request = gateway.request("/webhook/bearer").bearer_auth(n).body("{}");
        tokio::spawn(told(request))
    };
    let guesses: Vec<_> = (0..60).map(guess).collect();
    gateway
        .until_metric_above(
            "siemgate_ingress_refused_total",
            &[("source", "bearer"), ("reason", "slowed")],
            0.0,
        )
        .await;
    told(gateway.request("/webhook/bearer").bearer_auth("new-secret").body("{}")).await.ids();
    let waiting = guesses.iter().filter(|guess| !guess.is_finished()).count();
    assert!(waiting > 0, "it was not behind those who guess");
    let (mut wrong, mut slowed) = (0, 0);
    for guess in guesses {
        match guess.await.unwrap() {
            answer if answer.status == 401 => wrong += 1,
            answer => {
                assert_eq!(
                    (answer.status, answer.headers["connection"].to_str().unwrap()),
                    (429, "close")
                );
                slowed += 1;
            }
        }
    }
    assert!(wrong >= 8 + 16 && slowed > 0, "{wrong} told and {slowed} turned away");
    gateway.finish().await;
}

#[tokio::test]
async fn send_proves_itself_in_every_way() {
    let gateway = started().await;
    for source in ["header", "bearer", "basic", "standard", "github", "slack", "base64", "several"]
    {
        let sent = gateway.cli(&["send", "--source", source, "--wait", "30s"]).await;
        assert_eq!(sent.code, Some(0), "{source}: {sent:?}");
    }
    gateway.finish().await;
}

/// The reference library signs, and judges what we sign.
#[tokio::test]
async fn the_reference_library_of_standard_webhooks_agrees() {
    let Some(python) = python("standardwebhooks") else { return };
    let gateway = started().await;
    let script = r#"
import sys, json, datetime
from standardwebhooks.webhooks import Webhook
secret, body = sys.argv[1], sys.argv[2]
at = datetime.datetime.now(tz=datetime.timezone.utc)
for id, offset in [("msg_a", 0), ("msg_b", -290), ("msg_c", 290), ("msg_d", -310), ("msg_e", 400)]:
    time = at + datetime.timedelta(seconds=offset)
    print(json.dumps([id, offset, str(int(time.timestamp())), Webhook(secret).sign(id, time, body)]))
"#;
    let body = "{\"user\":\"J\u{fc}rgen\",\"n\": 1}";
    let output = Command::new(&python).args(["-c", script, WHSEC, body]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let [id, offset, time, signature] = &serde_json::from_str::<[Value; 4]>(line).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let headers = |id: String, time: String, signature: String| {
            [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)]
        };
        let good = headers(text(id), text(time), text(signature));
        let fresh = offset.as_i64().unwrap().abs() < 300;
        let answer = post(&gateway, "standard", &good, body.as_bytes()).await;
        assert_eq!(answer.status, if fresh { 200 } else { 401 }, "{line}: {answer:?}");
        let several = format!("v1,{} v1a,x {}", STANDARD.encode("older"), text(signature));
        let rotated = headers(text(id), text(time), several);
        let answer = post(&gateway, "standard", &rotated, body.as_bytes()).await;
        assert_eq!(answer.status, if fresh { 200 } else { 401 }, "{line}: {answer:?}");
        // Tampered with: another id, time, body, no time.
        for bad in [
            headers("msg_x".into(), text(time), text(signature)),
            headers(text(id), (now() - 1).to_string(), text(signature)),
            headers(text(id), text(time), text(signature).replace("v1,", "v1,A")),
            headers(text(id), String::new(), text(signature)),
        ] {
            assert_eq!(post(&gateway, "standard", &bad, body.as_bytes()).await.status, 401);
        }
        let answer = post(&gateway, "standard", &good, body.replace('1', "2").as_bytes()).await;
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    assert_eq!(
        gateway.metric("siemgate_ingress_events_total", &[("source", "standard")]).await,
        Some(3.0),
        "each id once"
    );
    gateway.finish().await;
    the_library_believes_what_we_sign(&python).await;
}

/// `siemgate send` signs; a peer hands what it gets to the library.
async fn the_library_believes_what_we_sign(python: &std::path::Path) {
    let peer = super::peer::Peer::start().await;
    let mut gateway = Gateway::prepared(CONFIG);
    for (name, value) in [("NEW", "n"), ("OLD", "o"), ("WHSEC", WHSEC)] {
        gateway.set_env(name, value);
    }
    gateway.set_env("SIEMGATE_SERVER__LISTEN", &format!("127.0.0.1:{}", peer.port()));
    let _ = gateway.cli(&["send", "--source", "standard"]).await;
    let request = peer.wait_for(1).await.remove(0);
    let headers: serde_json::Map<String, Value> =
        ["webhook-id", "webhook-timestamp", "webhook-signature"]
            .into_iter()
            .map(|name| (name.to_owned(), request.header(name).unwrap().into()))
            .collect();
    let script = r#"
import sys, json
from standardwebhooks.webhooks import Webhook
Webhook(sys.argv[1]).verify(sys.stdin.buffer.read().decode(), json.loads(sys.argv[2]))
"#;
    let mut library = Command::new(python)
        .args(["-c", script, WHSEC, &Value::from(headers).to_string()])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    library.stdin.take().unwrap().write_all(&request.body).unwrap();
    let output = library.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
