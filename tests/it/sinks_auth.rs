//! Credentials of presets on the wire: tokens that are fetched once and renewed, signatures that other
//! people's libraries accept, ways of which one is chosen; and a real Alertmanager.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use siemgate::core::Timestamp;
use siemgate::core::sink::{Cause, Outcome, Piece};
use siemgate::sinks::{Built, Catalogue};

use super::gateway::until;
use super::peer::{Answer, Peer};
use super::products::{have, python};
use super::proofs::proved;
use super::sinks::{build, built, delivered, encode, failed, folder, now, told};

/// A sink of `kind` with its sample, towards `peer`.
fn sink(kind: &str, peer: &str, more: &str) -> Built {
    let dir = folder();
    let entry = Catalogue::default().get(kind).map_err(told).unwrap().unwrap();
    built(&format!("{}{more}", entry.sample_with(peer, &dir.path().display().to_string())))
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + seconds).unwrap()
}

async fn send(sink: &Built, now: Timestamp) -> Outcome {
    sink.sink.send(&[encode(sink, "{}").unwrap()], now).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_once_for_all_and_renewed_in_time() {
    let peer = Peer::start().await;
    peer.always(Answer::new(204, "").after(Duration::from_millis(20)));
    let sink = sink("sentinel", &peer.url(), "");
    let piece = encode(&sink, "{}").unwrap();
    let sends: Vec<_> =
        (0..8).map(|_| super::sinks::sending(sink.sink.clone(), vec![piece.clone()])).collect();
    for send in sends {
        delivered(send.await.unwrap());
    }
    let [asked] = &peer.tokens()[..] else { panic!("not one token: {:?}", peer.tokens()) };
    assert_eq!(asked.path, "/00000000-0000-0000-0000-000000000001/oauth2/v2.0/token");
    assert!(asked.text().starts_with("grant_type=client_credentials&client_id="), "{asked:?}");
    assert!(
        asked.text().ends_with("&scope=https%3A%2F%2Fmonitor.azure.com%2F.default"),
        "{asked:?}"
    );
    let bearers = |peer: &Peer| -> Vec<String> {
        peer.requests().iter().map(|r| r.header("authorization").unwrap().to_owned()).collect()
    };
    assert_eq!(bearers(&peer), vec!["Bearer token-1"; 8]);
    // Four fifths of its hour.
    peer.forget();
    delivered(send(&sink, later(2_879)).await);
    delivered(send(&sink, later(2_880)).await);
    assert_eq!(bearers(&peer), ["Bearer token-1", "Bearer token-2"]);
}

#[tokio::test]
async fn a_token_that_is_refused_is_fetched_anew_once() {
    let peer = Peer::start().await;
    let sink = sink("sentinel", &peer.url(), "");
    peer.answer(|request| match request.header("authorization") {
        Some("Bearer token-1") => Answer::new(401, "{}"),
        _ => Answer::new(204, ""),
    });
    // A young token is not the reason.
    failed(send(&sink, now()).await, Cause::Setup);
    delivered(send(&sink, later(120)).await);
    assert_eq!((peer.tokens().len(), peer.requests().len()), (2, 3));
    peer.always(Answer::new(401, "{}"));
    failed(send(&sink, later(300)).await, Cause::Setup);
    assert_eq!((peer.tokens().len(), peer.requests().len()), (3, 5), "one more try and no loop");
}

#[tokio::test]
async fn a_login_gives_wazuh_its_token() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(r#"{"error":0}"#));
    let sink = sink("wazuh", &peer.url(), "");
    delivered(send(&sink, now()).await);
    let [login] = &peer.tokens()[..] else { panic!("not one login") };
    assert_eq!((&*login.method, &*login.path), ("POST", "/security/user/authenticate"));
    assert!(login.header("authorization").unwrap().starts_with("Basic "));
    let [sent] = &peer.requests()[..] else { panic!("not one request") };
    assert_eq!((&*sent.path, sent.header("authorization")), ("/events", Some("Bearer token-1")));
    assert_eq!(sent.json()["events"][0], "{}");
}

/// Stops what it holds when dropped.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_real_token_server_gives_tokens() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = root.join("target/node/node_modules/.bin/oauth2-mock-server");
    if !program.exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "oauth2-mock-server is missing: run tests/setup.sh"
        );
        eprintln!("SKIPPED: oauth2-mock-server is missing; run tests/setup.sh");
        return;
    }
    let port = free_port();
    let mut command = Command::new(program);
    command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
    let _running = Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let peer = Peer::start().await;
    let dir = folder();
    let sink = built(&format!(
        r#"[sinks.hook]
type = "http"
url = "{}/hook"
fields = {{ secret = {{ file = "{}/key" }} }}
auth = {{ oauth2 = {{ token_url = "http://127.0.0.1:{port}/token", client_id = "gate", client_secret = "{{{{secret}}}}", scope = "events" }} }}
"#,
        peer.url(),
        dir.path().display()
    ));
    until("the token server gives a token", async || match send(&sink, now()).await {
        Outcome::Delivered(_) => Some(()),
        Outcome::Failed(fault) if fault.cause == Cause::Down => None,
        other => panic!("{other:?}"),
    })
    .await;
    let sent = peer.requests().remove(0);
    let token = sent.header("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    assert_eq!(token.split('.').count(), 3, "a signed token: {token}");
    proved("http", "oauth2-mock-server");
}

/// Checked by the library of Standard Webhooks itself.
#[tokio::test]
async fn standard_webhooks_own_library_accepts_the_signature() {
    let Some(python) = python("standardwebhooks") else { return };
    let peer = Peer::start().await;
    let sink = sink("standard_webhook", &peer.url(), "");
    let at = Timestamp::now();
    let piece: Piece = encode(&sink, "{\"user\":\"\u{e4}\", \"n\":1}").unwrap();
    delivered(sink.sink.send(std::slice::from_ref(&piece), at).await);
    delivered(sink.sink.send(&[piece], at).await);
    let [sent, again] = &peer.requests()[..] else { panic!("not two requests") };
    assert_eq!(sent.header("webhook-id"), again.header("webhook-id"));
    let verify = |body: &str| {
        let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"]
            .map(|name| (name, sent.header(name).unwrap()));
        let told = serde_json::json!({ "headers": std::collections::BTreeMap::from(headers), "body": body });
        let code = "import json,sys\nfrom standardwebhooks import Webhook\nt=json.loads(sys.argv[1])\nWebhook('whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD').verify(t['body'].encode(), t['headers'])";
        Command::new(&python)
            .args(["-c", code, &told.to_string()])
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(verify(&sent.text()));
    assert!(!verify(&sent.text().replace("1", "2")), "another body");
    proved("standard_webhook", "standardwebhooks");
}

/// Checked by the signer of AWS's own library: signed again from what arrived, it is the same. The
/// query and a path with a space are part of it, and so is a token.
#[tokio::test]
async fn the_signer_of_aws_signs_the_same() {
    let Some(python) = python("botocore") else { return };
    let peer = Peer::start().await;
    peer.always(Answer::ok(r#"{"errors":false,"items":[{"create":{"status":201}}]}"#));
    let dir = folder();
    let key = dir.path().join("key");
    let sink = built(&format!(
        "[sinks.a]\ntype = \"opensearch\"\nurl = \"{}\"\nindex = \"superna events\"\n\
         pipeline = \"a b/\u{e4}\"\nregion = \"eu-central-1\"\naccess_key = \"AKIDEXAMPLE\"\n\
         secret_key = {{ file = {key:?} }}\nsession_token = {{ file = {key:?} }}\n",
        peer.url()
    ));
    delivered(send(&sink, Timestamp::now()).await);
    let sent = peer.requests().remove(0);
    let secret = std::fs::read_to_string(&key).unwrap();
    let told = serde_json::json!({
        "url": format!("{}{}", peer.url(), sent.path), "headers": sent.headers,
        "hex": sent.body.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "key": secret.trim(),
    });
    let mut signer = Command::new(&python)
        .args(["-c", SIGNED_AGAIN])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut signer.stdin.take().unwrap(), told.to_string().as_bytes())
        .unwrap();
    let output = signer.wait_with_output().unwrap();
    let theirs = String::from_utf8(output.stdout).unwrap();
    assert_eq!(sent.header("authorization"), Some(theirs.trim()), "{sent:?}");
}

/// Signs a request that was received once more, at the time that it names.
const SIGNED_AGAIN: &str = r#"
import json, sys
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
told = json.load(sys.stdin)
had = {name.lower(): value for name, value in told["headers"]}
request = AWSRequest("POST", told["url"], data=bytes.fromhex(told["hex"]))
for name in ("host", "content-type", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"):
    request.headers[name] = had[name]
request.context["timestamp"] = had["x-amz-date"]
signer = SigV4Auth(Credentials("AKIDEXAMPLE", told["key"], told["key"]), "es", "eu-central-1")
canonical = signer.canonical_request(request)
to_sign = signer.string_to_sign(request, canonical)
signature = signer.signature(to_sign, request)
names = signer.signed_headers(signer.headers_to_sign(request))
print(f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, Signature={signature}")
"#;

#[test]
fn one_way_is_chosen_by_the_keys_that_are_set() {
    let dir = folder();
    let elastic = |keys: &str| {
        let toml =
            format!("[sinks.e]\ntype = \"elasticsearch\"\nurl = \"http://127.0.0.1:9\"\n{keys}");
        build(&toml.replace("KEY", &format!("{{ file = \"{}/key\" }}", dir.path().display())))
            .map(drop)
            .map_err(told)
    };
    for good in ["", "api_key = KEY", "user = \"u\"\npassword = KEY"] {
        assert_eq!(elastic(good), Ok(()), "{good}");
    }
    for (bad, says) in [
        ("user = \"u\"", "sinks.e.password"),
        ("password = KEY", "sinks.e.user"),
        ("api_key = KEY\nuser = \"u\"\npassword = KEY", "second way"),
    ] {
        let told = elastic(bad).unwrap_err();
        assert!(told.contains(says), "{bad}: {told}");
    }
}

/// Where each preset goes: method, path and query, which previews do not show.
#[tokio::test]
async fn addresses_are_built_as_the_products_have_them() {
    for (kind, path) in [
        (
            "elasticsearch",
            "/logs-superna.event-default/_bulk?filter_path=errors%2Citems.%2A.status%2Citems.%2A.error",
        ),
        (
            "sentinel",
            "/dataCollectionRules/dcr-00000000000000000000000000000000/streams/Custom-Superna?api-version=2023-01-01",
        ),
        (
            "google_secops",
            "/v1alpha/projects/my-project/locations/us/instances/00000000-0000-0000-0000-000000000003/logTypes/SUPERNA_EYEGLASS/logs:import",
        ),
        (
            "google_secops_udm",
            "/v1alpha/projects/my-project/locations/us/instances/00000000-0000-0000-0000-000000000003/events:import",
        ),
        ("loki", "/loki/api/v1/push"),
        ("otlp", "/v1/logs"),
        ("pubsub", "/v1/projects/my-project/topics/superna:publish"),
        ("event_hubs", "/superna/messages?api-version=2014-01&timeout=60"),
        (
            "victorialogs",
            "/insert/jsonline?_msg_field=message&_stream_fields=service%2Csource&_time_field=time",
        ),
        (
            "fortisiem",
            "/rawupload?model=DataSecurity&reptIp=192.0.2.10&reptName=siemgate&vendor=Superna",
        ),
        ("datadog", "/api/v2/logs"),
    ] {
        let peer = Peer::start().await;
        let (status, body) =
            Catalogue::default().get(kind).map_err(told).unwrap().unwrap().success();
        peer.always(Answer::new(status, body));
        delivered(send(&sink(kind, &peer.url(), ""), now()).await);
        assert_eq!(peer.requests()[0].path, path, "{kind}");
    }
}

#[tokio::test]
async fn a_real_alertmanager_fires_and_resolves_with_the_incident() {
    if !have("prometheus-alertmanager", "prometheus-alertmanager") {
        return;
    }
    let (dir, port) = (folder(), free_port());
    let config = dir.path().join("am.yml");
    std::fs::write(&config, "route: { receiver: none }\nreceivers:\n- name: none\n").unwrap();
    let mut command = Command::new("prometheus-alertmanager");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", dir.path().join("am").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--cluster.listen-address=");
    let _running = Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let url = format!("http://127.0.0.1:{port}");
    let sink = sink("alertmanager", &url, "");
    let alerts = async || -> Option<Vec<Value>> {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(format!("{url}/api/v2/alerts")).send().await.ok()?;
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    };
    let at = |state: &str| {
        let body = serde_json::json!({
            "id": "inc-9", "severity": "CRITICAL", "state": state, "userName": "CORP\\eve", "nes": ["nas-1"],
        });
        let event = super::people::event_at(&body, Timestamp::now());
        Piece::of(&event.event, sink.sink.encode(&event, sink.limits.event_bytes).unwrap())
    };
    until("Alertmanager takes the alert", async || {
        let sent = sink.sink.send(&[at("LOCKED_OUT")], Timestamp::now()).await;
        matches!(sent, Outcome::Delivered(_)).then_some(())
    })
    .await;
    let alert = until("it fires", async || alerts().await?.into_iter().next()).await;
    assert_eq!(alert["labels"]["incident"], "inc-9");
    assert!(alert["annotations"]["summary"].as_str().unwrap().starts_with("Critical: "), "{alert}");
    delivered(sink.sink.send(&[at("ACCESS_RESTORED")], Timestamp::now()).await);
    until("it is resolved", async || alerts().await?.is_empty().then_some(())).await;
    proved("alertmanager", "Alertmanager");
}
