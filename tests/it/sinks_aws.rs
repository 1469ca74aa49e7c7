//! The services of AWS: events go in at the front door, and are read back from servers that speak each
//! service's own protocol (moto; SeaweedFS for S3, which checks signatures, too); and botocore's
//! signer signs what we sent the same.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use siemgate::core::Timestamp;
use siemgate::core::event::{Draft, Event, EventId, Position};
use siemgate::core::finding::Finding;
use siemgate::core::route::Shaped;
use siemgate::core::sink::{Cause, Outcome, Piece};
use siemgate::sinks::Built;

use super::gateway::{Gateway, fixture, until};
use super::peer::{Answer, Peer};
use super::products::{Process, free_port, python};
use super::proofs::proved;
use super::sinks::{KEY, build, built, delivered, encode, failed, folder, lines, now, told};

const EVENTS: [&str; 3] =
    ["superna-critical-locked-out", "superna-major-delayed-lockout", "superna-access-restored"];

const KEYS: &str = r#"region = "eu-central-1"
access_key = { env = "ACCESS" }
secret_key = { env = "SECRET" }
session_token = { env = "TOKEN" }
"#;

fn body(name: &str) -> Vec<u8> {
    fixture(&format!("{name}.json"))
}

fn bodies() -> Vec<Value> {
    EVENTS.iter().map(|name| serde_json::from_slice(&body(name)).unwrap()).collect()
}

// ---- moto ----------------------------------------------------------------------------------------

struct Moto {
    url: String,
    client: reqwest::Client,
    _running: Process,
}

impl Moto {
    /// A running one; `None` where it is not installed.
    async fn start() -> Option<Self> {
        let python = python("moto.server")?;
        let port = free_port();
        let mut command = Command::new(python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        let running = Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let moto = Self { url: format!("http://127.0.0.1:{port}"), client, _running: running };
        until("moto answers", async || {
            moto.client.get(format!("{}/moto-api/", moto.url)).send().await.ok()
        })
        .await;
        Some(moto)
    }

    /// It tells services apart by the scope of a signature, and looks at no more of it.
    async fn ask(
        &self,
        service: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> String {
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=x/20260101/eu-central-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let mut request =
            self.client.post(format!("{}{path}", self.url)).header("authorization", scope);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.body(body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{service}{path}: {status} {text}");
        text
    }

    async fn call(&self, service: &str, target: &str, version: &str, body: Value) -> Value {
        let kind = format!("application/x-amz-json-{version}");
        let headers = [("x-amz-target", target), ("content-type", &*kind)];
        let text = self.ask(service, "/", &headers, body.to_string()).await;
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn sqs(&self, action: &str, body: Value) -> Value {
        self.call("sqs", &format!("AmazonSQS.{action}"), "1.0", body).await
    }

    async fn queue(&self, name: &str) -> (String, String) {
        let attributes = match name.ends_with(".fifo") {
            true => json!({ "FifoQueue": "true" }),
            false => json!({}),
        };
        let made =
            self.sqs("CreateQueue", json!({ "QueueName": name, "Attributes": attributes })).await;
        let arn = format!("arn:aws:sqs:eu-central-1:123456789012:{name}");
        (made["QueueUrl"].as_str().unwrap().to_owned(), arn)
    }

    /// So many messages of a queue.
    async fn messages(&self, queue: &str, count: usize) -> Vec<Value> {
        let mut all = Vec::new();
        until(&format!("{count} messages are in {queue}"), async || {
            let ask = json!({ "QueueUrl": queue, "MaxNumberOfMessages": 10, "AttributeNames": ["All"], "MessageAttributeNames": ["All"] });
            let got = self.sqs("ReceiveMessage", ask).await;
            let got = got["Messages"].as_array().cloned().unwrap_or_default();
            for message in &got {
                let done = json!({ "QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"] });
                self.sqs("DeleteMessage", done).await;
            }
            all.extend(got);
            (all.len() >= count).then_some(())
        })
        .await;
        assert_eq!(all.len(), count, "{all:?}");
        all
    }
}

fn texts(messages: &[Value]) -> Vec<Value> {
    messages
        .iter()
        .map(|message| serde_json::from_str(message["Body"].as_str().unwrap()).unwrap())
        .collect()
}

fn sorted(mut values: Vec<Value>) -> Vec<String> {
    values.sort_by_key(Value::to_string);
    values.iter().map(Value::to_string).collect()
}

async fn gateway(sinks: &str) -> Gateway {
    let sections = sinks.split("[sinks.").skip(1).map(|rest| rest.split(']').next().unwrap());
    let names: Vec<&str> = sections.filter(|name| !name.contains('.')).collect();
    let config =
        format!("[sources.superna]\ntype = \"superna\"\n[routes.all]\nsinks = {names:?}\n{sinks}");
    let mut gateway = Gateway::prepared(&config);
    for (name, value) in [("ACCESS", "AKIDEXAMPLE"), ("SECRET", KEY), ("TOKEN", "t0ken-0123456789")]
    {
        gateway.set_env(name, value);
    }
    gateway.launch().await;
    gateway
}

/// Post all events, and wait until every sink has them.
async fn post_all(gateway: &Gateway) -> Vec<String> {
    let mut ids = Vec::new();
    for name in EVENTS {
        let told = gateway.post("/webhook?wait=30s", body(name)).await;
        assert!(!told.text.contains("\"queued\""), "{}", told.text);
        ids.extend(told.ids());
    }
    ids
}

#[tokio::test]
async fn sqs_queues_have_every_event_and_fifo_queues_their_order() {
    let Some(moto) = Moto::start().await else { return };
    let ((plain, _), (fifo, _)) = (moto.queue("events").await, moto.queue("events.fifo").await);
    let sink = |name: &str, queue: &str| {
        format!(
            "[sinks.{name}]\ntype = \"sqs\"\nqueue = \"{queue}\"\nurl = \"{}\"\n{KEYS}",
            moto.url
        )
    };
    let gateway = gateway(&(sink("plain", &plain) + &sink("fifo", &fifo))).await;
    let ids = post_all(&gateway).await;
    let got = moto.messages(&plain, 3).await;
    assert_eq!(sorted(texts(&got)), sorted(bodies()));
    let severities: Vec<_> =
        got.iter().map(|it| it["MessageAttributes"]["severity"]["StringValue"].clone()).collect();
    assert!(severities.contains(&"critical".into()), "{got:?}");
    let got = moto.messages(&fifo, 3).await;
    assert_eq!(sorted(texts(&got)), sorted(bodies()));
    for message in &got {
        let attributes = &message["Attributes"];
        let event: Value = serde_json::from_str(message["Body"].as_str().unwrap()).unwrap();
        assert_eq!(attributes["MessageGroupId"], event["id"], "{message}");
        assert!(ids.contains(&attributes["MessageDeduplicationId"].as_str().unwrap().to_owned()));
    }
    gateway.finish().await;
    proved("sqs", "moto");
}

#[tokio::test]
async fn sns_topics_pass_every_event_on() {
    let Some(moto) = Moto::start().await else { return };
    let (queue, queue_arn) = moto.queue("from-topic").await;
    let sns = async |form: String| {
        let form = format!("{form}&Version=2010-03-31");
        moto.ask("sns", "/", &[("content-type", "application/x-www-form-urlencoded")], form).await
    };
    let made = sns("Action=CreateTopic&Name=events".into()).await;
    let arn = made.split("<TopicArn>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    sns(format!(
        "Action=Subscribe&TopicArn={arn}&Protocol=sqs&Endpoint={queue_arn}&Attributes.entry.1.key=RawMessageDelivery&Attributes.entry.1.value=true"
    ))
    .await;
    let sink =
        format!("[sinks.topic]\ntype = \"sns\"\ntopic = \"{arn}\"\nurl = \"{}\"\n{KEYS}", moto.url);
    let gateway = gateway(&sink).await;
    post_all(&gateway).await;
    let got = moto.messages(&queue, 3).await;
    assert_eq!(sorted(texts(&got)), sorted(bodies()));
    gateway.finish().await;
    proved("sns", "moto");
}

#[tokio::test]
async fn kinesis_has_every_event_by_incident() {
    let Some(moto) = Moto::start().await else { return };
    let kinesis = async |action: &str, body: Value| {
        moto.call("kinesis", &format!("Kinesis_20131202.{action}"), "1.1", body).await
    };
    kinesis("CreateStream", json!({ "StreamName": "events", "ShardCount": 1 })).await;
    let url = &moto.url;
    let gateway = gateway(&format!(
        "[sinks.k]\ntype = \"kinesis\"\nstream = \"events\"\nurl = \"{url}\"\n{KEYS}"
    ))
    .await;
    post_all(&gateway).await;
    let ask = json!({ "StreamName": "events", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON" });
    let at = kinesis("GetShardIterator", ask).await["ShardIterator"].clone();
    let got = kinesis("GetRecords", json!({ "ShardIterator": at })).await;
    let records = got["Records"].as_array().unwrap();
    let data = |record: &Value| -> Value {
        serde_json::from_slice(&STANDARD.decode(record["Data"].as_str().unwrap()).unwrap()).unwrap()
    };
    assert_eq!(records.iter().map(data).collect::<Vec<_>>(), bodies());
    assert!(records.iter().all(|record| record["PartitionKey"] == data(record)["id"]), "{got}");
    gateway.finish().await;
    proved("kinesis", "moto");
}

#[tokio::test]
async fn eventbridge_gives_every_event_to_its_rules() {
    let Some(moto) = Moto::start().await else { return };
    let (queue, queue_arn) = moto.queue("from-bus").await;
    let events = async |action: &str, body: Value| {
        moto.call("events", &format!("AWSEvents.{action}"), "1.1", body).await
    };
    let pattern = json!({ "source": ["siemgate"] }).to_string();
    events("PutRule", json!({ "Name": "r", "EventPattern": pattern })).await;
    events("PutTargets", json!({ "Rule": "r", "Targets": [{ "Id": "q", "Arn": queue_arn }] }))
        .await;
    let url = &moto.url;
    let gateway =
        gateway(&format!("[sinks.bus]\ntype = \"eventbridge\"\nurl = \"{url}\"\n{KEYS}")).await;
    let ids = post_all(&gateway).await;
    let got = texts(&moto.messages(&queue, 3).await);
    let details: Vec<Value> = got.iter().map(|event| event["detail"].clone()).collect();
    assert_eq!(sorted(details), sorted(bodies()));
    for event in &got {
        assert_eq!(event["detail-type"], "Security Event", "{event}");
        assert!(ids.contains(&event["resources"][0].as_str().unwrap().to_owned()), "{event}");
    }
    gateway.finish().await;
    proved("eventbridge", "moto");
}

/// Without the stream the sink is parked and nothing is lost; it goes on when there is one.
#[tokio::test]
async fn cloudwatch_logs_have_every_event_once_their_stream_exists() {
    let Some(moto) = Moto::start().await else { return };
    let logs = async |action: &str, body: Value| {
        moto.call("logs", &format!("Logs_20140328.{action}"), "1.1", body).await
    };
    let url = &moto.url;
    let gateway = gateway(&format!(
        "[sinks.logs]\ntype = \"cloudwatch_logs\"\ngroup = \"/superna\"\nurl = \"{url}\"\n{KEYS}"
    ))
    .await;
    gateway.post("/webhook", body(EVENTS[0])).await.ids();
    gateway.until_state("logs", "parked").await;
    assert!(gateway.journal_text().contains("ResourceNotFound"), "{}", gateway.journal_text());
    logs("CreateLogGroup", json!({ "logGroupName": "/superna" })).await;
    let stream = json!({ "logGroupName": "/superna", "logStreamName": "siemgate" });
    logs("CreateLogStream", stream.clone()).await;
    for name in &EVENTS[1..] {
        gateway.post("/webhook", body(name)).await.ids();
    }
    gateway.until_settled("logs", "delivered", 3).await;
    let got = logs("GetLogEvents", stream).await;
    let events = got["events"].as_array().unwrap();
    let texts =
        events.iter().map(|it| serde_json::from_str(it["message"].as_str().unwrap()).unwrap());
    assert_eq!(sorted(texts.collect()), sorted(bodies()));
    gateway.finish().await;
    proved("cloudwatch_logs", "moto");
}

#[tokio::test]
async fn security_hub_has_one_finding_an_incident_and_archives_it_at_its_end() {
    let Some(moto) = Moto::start().await else { return };
    let findings = async || -> Vec<Value> {
        let json = [("content-type", "application/json")];
        let text = moto.ask("securityhub", "/findings", &json, "{}".into()).await;
        let got: Value = serde_json::from_str(&text).unwrap();
        got["Findings"].as_array().unwrap().clone()
    };
    let url = &moto.url;
    let gateway = gateway(&format!(
        "[sinks.hub]\ntype = \"security_hub\"\naccount = \"123456789012\"\nurl = \"{url}\"\n{KEYS}"
    ))
    .await;
    let opened: Value = serde_json::from_slice(&body(EVENTS[0])).unwrap();
    gateway.post("/webhook?wait=30s", body(EVENTS[0])).await.ids();
    let [first] = &findings().await[..] else { panic!("not one finding") };
    assert_eq!(
        (&first["RecordState"], &first["Severity"]["Label"]),
        (&"ACTIVE".into(), &"CRITICAL".into())
    );
    let original = first["ProductFields"]["siemgate/Original"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(original).unwrap(), opened);
    let mut ended = opened;
    ended["state"] = "ACCESS_RESTORED".into();
    gateway.post("/webhook?wait=30s", ended.to_string()).await.ids();
    let [again] = &findings().await[..] else { panic!("not one finding") };
    assert_eq!((&again["Id"], &again["RecordState"]), (&first["Id"], &"ARCHIVED".into()));
    assert!(again["UpdatedAt"].as_str() > first["UpdatedAt"].as_str());
    gateway.finish().await;
    proved("security_hub", "moto");
}

// ---- S3 ------------------------------------------------------------------------------------------

/// SeaweedFS with a bucket in which only our keys may write; strangers may read.
struct Weed {
    url: String,
    client: reqwest::Client,
    _running: Process,
    _dir: tempfile::TempDir,
}

impl Weed {
    async fn start() -> Option<Self> {
        let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/weed");
        if !program.exists() {
            assert!(std::env::var_os("CI").is_none(), "SeaweedFS is missing: run tests/setup.sh");
            eprintln!("SKIPPED: SeaweedFS is missing; run tests/setup.sh");
            return None;
        }
        // Its ports were free a moment ago; should one not be any more, others are.
        for _ in 0..3 {
            match Self::try_start(&program).await {
                Ok(weed) => return Some(weed),
                Err(told) => eprintln!("SeaweedFS ended: {told}"),
            }
        }
        panic!("SeaweedFS does not start");
    }

    async fn try_start(program: &Path) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let identities = json!({ "identities": [
            { "name": "gate", "credentials": [{ "accessKey": "AKIDEXAMPLE", "secretKey": KEY }], "actions": ["Write:superna-events"] },
            { "name": "anonymous", "actions": ["Admin", "Read", "List"] },
        ]});
        std::fs::write(dir.path().join("s3.json"), identities.to_string()).unwrap();
        let mut command = Command::new(program);
        command.args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]);
        command.args(["-volume.max=5", "-master.volumeSizeLimitMB=64"]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.arg(format!("-dir={}", dir.path().display()));
        command.arg(format!("-s3.config={}", dir.path().join("s3.json").display()));
        let port = free_port();
        command.arg(format!("-s3.port={port}"));
        for name in [
            "s3.port.grpc",
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
        ] {
            command.arg(format!("-{name}={}", free_port()));
        }
        let log = dir.path().join("log");
        let file = std::fs::File::create(&log).unwrap();
        let mut running = Process(
            command.stdout(Stdio::null()).stderr(file).current_dir(dir.path()).spawn().unwrap(),
        );
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://127.0.0.1:{port}");
        until("SeaweedFS makes a bucket", async || {
            if running.0.try_wait().unwrap().is_some() {
                return Some(Err(std::fs::read_to_string(&log).unwrap()));
            }
            let made = client.put(format!("{url}/superna-events")).send().await.ok()?;
            made.status().is_success().then_some(Ok(()))
        })
        .await?;
        Ok(Self { url, client, _running: running, _dir: dir })
    }

    /// Names of all objects.
    async fn keys(&self) -> Vec<String> {
        let list = self.client.get(format!("{}/superna-events?list-type=2", self.url));
        let text = list.send().await.unwrap().text().await.unwrap();
        let keys = text.split("<Key>").skip(1).map(|rest| rest.split('<').next().unwrap());
        keys.map(str::to_owned).collect()
    }

    async fn object(&self, key: &str) -> (HeaderMap, Vec<u8>) {
        let key = key.replace('=', "%3D");
        let object =
            self.client.get(format!("{}/superna-events/{key}", self.url)).send().await.unwrap();
        assert!(object.status().is_success(), "{key}: {}", object.status());
        (object.headers().clone(), object.bytes().await.unwrap().to_vec())
    }
}

#[tokio::test]
async fn s3_has_every_event_in_objects_by_date_and_none_twice() {
    let Some(weed) = Weed::start().await else { return };
    let keys =
        KEYS.lines().filter(|line| !line.starts_with("session")).collect::<Vec<_>>().join("\n");
    let sink = |name: &str, more: &str| {
        format!(
            "[sinks.{name}]\ntype = \"s3\"\nbucket = \"superna-events\"\nurl = \"{}\"\n{keys}\n{more}\n",
            weed.url
        )
    };
    let plain =
        sink("plain", "key = \"plain/dt={{year}}-{{month}}-{{day}}/{{time}}_{{id}}.ndjson\"");
    let packed = sink("packed", "gzip = true\n[sinks.packed.delivery]\nbatch = { wait = \"1s\" }");
    let gateway = gateway(&(plain.clone() + &packed)).await;
    let mut ids = Vec::new();
    for name in EVENTS {
        ids.extend(gateway.post("/webhook", body(name)).await.ids());
    }
    gateway.until_settled("plain", "delivered", 3).await;
    gateway.until_settled("packed", "delivered", 3).await;
    let day = Timestamp::now().strftime("%Y-%m-%d").to_string();
    let (mut loose, mut tight) = (Vec::new(), Vec::new());
    for key in weed.keys().await {
        let (headers, bytes) = weed.object(&key).await;
        if key.ends_with(".gz") {
            assert!(key.starts_with(&format!("siemgate/{}/", day.replace('-', "/"))), "{key}");
            assert_eq!(headers["content-encoding"], "gzip");
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut text)
                .unwrap();
            tight.extend(lines(&text));
        } else {
            assert!(key.starts_with(&format!("plain/dt={day}/")), "{key}");
            loose.extend(lines(&bytes));
        }
    }
    assert_eq!((sorted(loose), sorted(tight)), (sorted(bodies()), sorted(bodies())));
    gateway.finish().await;
    // What is sent again finds itself there, and is written over nothing.
    let dir = folder();
    let sink = plain
        .replace("{ env = \"SECRET\" }", &format!("{{ file = {:?} }}", dir.path().join("key")));
    std::fs::write(dir.path().join("access"), "AKIDEXAMPLE").unwrap();
    let sink = sink
        .replace("{ env = \"ACCESS\" }", &format!("{{ file = {:?} }}", dir.path().join("access")));
    let sink = built(&sink);
    let before = weed.keys().await.len();
    let mut piece = encode(&sink, "{\"n\":1}").unwrap();
    let first = delivered(sink.sink.send(&[piece.clone()], Timestamp::now()).await);
    assert!(first.id.is_some_and(|tag| tag.len() > 10));
    piece.bytes = "{\"n\":2}\n".into();
    assert_eq!(delivered(sink.sink.send(&[piece], Timestamp::now()).await).status, Some(412));
    assert_eq!(weed.keys().await.len(), before + 1);
    // And a wrong key is a matter of settings, by a server that looks at signatures.
    std::fs::write(dir.path().join("key"), "another").unwrap();
    let wrong = plain
        .replace("{ env = \"SECRET\" }", &format!("{{ file = {:?} }}", dir.path().join("key")));
    let wrong = wrong
        .replace("{ env = \"ACCESS\" }", &format!("{{ file = {:?} }}", dir.path().join("access")));
    let wrong = built(&wrong);
    let piece = encode(&wrong, "{}").unwrap();
    let fault = failed(wrong.sink.send(&[piece], Timestamp::now()).await, Cause::Setup);
    assert!(fault.note.contains("SignatureDoesNotMatch"), "{fault:?}");
    proved("s3", "SeaweedFS");
}

// ---- Signatures ----------------------------------------------------------------------------------

/// Signs a request that was received once more, at the time that it names.
const SIGNED_AGAIN: &str = r#"
import json, sys
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
told = json.load(sys.stdin)
had = {name.lower(): value for name, value in told["headers"]}
request = AWSRequest(told["method"], told["url"], data=bytes.fromhex(told["hex"]))
for name in ["host", "content-type"] + [name for name in had if name.startswith("x-amz-")]:
    request.headers[name] = had[name]
request.context["timestamp"] = had["x-amz-date"]
request.context["payload_signing_enabled"] = True
sort = S3SigV4Auth if told["service"] == "s3" else SigV4Auth
signer = sort(Credentials(told["key"], told["key"], told["key"]), told["service"], "eu-central-1")
canonical = signer.canonical_request(request)
to_sign = signer.string_to_sign(request, canonical)
signature = signer.signature(to_sign, request)
names = signer.signed_headers(signer.headers_to_sign(request))
print(f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, Signature={signature}")
"#;

fn keys(dir: &Path) -> String {
    let key = format!("{{ file = {:?} }}", dir.join("key"));
    format!(
        "region = \"eu-central-1\"\naccess_key = {key}\nsecret_key = {key}\nsession_token = {key}\n"
    )
}

/// A JSON service, one with forms, REST, and S3, whose path has a character that must be encoded once.
#[tokio::test]
async fn the_signer_of_aws_signs_every_protocol_the_same() {
    let Some(python) = python("botocore") else { return };
    let peer = Peer::start().await;
    let dir = folder();
    for (service, settings) in [
        ("sqs", "type = \"sqs\"\nqueue = \"https://sqs.example/123456789012/a\""),
        ("sns", "type = \"sns\"\ntopic = \"arn:aws:sns:eu-central-1:123456789012:a\""),
        ("kinesis", "type = \"kinesis\"\nstream = \"a\""),
        ("securityhub", "type = \"security_hub\"\naccount = \"123456789012\""),
        (
            "s3",
            "type = \"s3\"\nbucket = \"superna-events\"\nkey = \"dt={{day}}/{{id}}\"\nencryption = \"aws:kms\"\nkms_key = \"a/b\"",
        ),
    ] {
        peer.forget();
        let sink = built(&format!(
            "[sinks.a]\n{settings}\nurl = \"{}\"\n{}",
            peer.url(),
            keys(dir.path())
        ));
        let piece = encode(&sink, "{\"user\":\"\u{e4} +&=\"}").unwrap();
        // What is answered does not matter here.
        let _ = sink.sink.send(&[piece], Timestamp::now()).await;
        let sent = peer.requests().remove(0);
        let told = json!({
            "method": sent.method, "url": format!("{}{}", peer.url(), sent.path), "headers": sent.headers,
            "hex": sent.body.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "key": KEY, "service": service,
        });
        let mut signer = Command::new(&python)
            .args(["-c", SIGNED_AGAIN])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut signer.stdin.take().unwrap(), told.to_string().as_bytes())
            .unwrap();
        let theirs = String::from_utf8(signer.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(sent.header("authorization"), Some(theirs.trim()), "{service}: {sent:?}");
        if service == "s3" {
            assert_eq!(sent.header("if-none-match"), Some("*"));
            assert!(
                sent.path.starts_with("/superna-events/dt%3D31/") || sent.path.contains("/dt%3D"),
                "{}",
                sent.path
            );
        }
    }
}

// ---- What answers mean, and what is kept to before sending -----------------------------------------

fn sink(peer: &Peer, dir: &Path, settings: &str) -> Built {
    built(&format!("[sinks.a]\n{settings}\nurl = \"{}\"\n{}", peer.url(), keys(dir)))
}

fn causes(outcome: Outcome) -> Vec<(usize, Cause)> {
    match outcome {
        Outcome::Partly { faults, .. } => {
            faults.into_iter().map(|(index, fault)| (index, fault.cause)).collect()
        }
        other => panic!("not partly: {other:?}"),
    }
}

async fn three(sink: &Built) -> (Vec<Piece>, Vec<String>) {
    let pieces: Vec<Piece> =
        (0..3).map(|n| encode(sink, format!("{{\"n\":{n}}}")).unwrap()).collect();
    let ids = pieces.iter().map(|piece| piece.id.to_string()).collect();
    (pieces, ids)
}

#[tokio::test]
async fn what_an_answer_names_and_nothing_else_is_at_fault() {
    let (peer, dir) = (Peer::start().await, folder());
    let wanted = [(1, Cause::Refused), (2, Cause::Busy)];

    let sqs = sink(&peer, dir.path(), "type = \"sqs\"\nqueue = \"https://sqs.example/1/a\"");
    let (pieces, ids) = three(&sqs).await;
    let told = json!({ "Successful": [{ "Id": ids[0], "MessageId": "m-1" }], "Failed": [
        { "Id": ids[2], "SenderFault": false, "Code": "ThrottlingException" },
        { "Id": ids[1], "SenderFault": true, "Code": "InvalidMessageContents", "Message": "bad" },
    ]});
    peer.always(Answer::ok(told.to_string()));
    let mut found = causes(sqs.sink.send(&pieces, now()).await);
    found.sort_by_key(|(index, _)| *index);
    assert_eq!(found, wanted);
    // A failure of nobody that was sent, and a result that is missing: not delivered, by no means.
    let odd = json!({ "Successful": [{ "Id": ids[0] }, { "Id": ids[1] }], "Failed": [{ "Id": "?", "Code": "x" }] });
    peer.always(Answer::ok(odd.to_string()));
    failed(sqs.sink.send(&pieces, now()).await, Cause::Refused);
    peer.always(Answer::ok(json!({ "Successful": [{ "Id": ids[0] }] }).to_string()));
    failed(sqs.sink.send(&pieces, now()).await, Cause::Down);

    let sns =
        sink(&peer, dir.path(), "type = \"sns\"\ntopic = \"arn:aws:sns:eu-central-1:1:a.fifo\"");
    let (pieces, ids) = three(&sns).await;
    let told = format!(
        "<PublishBatchResponse xmlns=\"x\"><PublishBatchResult><Failed><member><Id>{}</Id><Code>InvalidParameter</Code><Message>m</Message><SenderFault>true</SenderFault></member><member><Code>Throttled</Code><Id>{}</Id><SenderFault>false</SenderFault></member></Failed><Successful><member><Id>{}</Id><MessageId>m-1</MessageId></member></Successful></PublishBatchResult></PublishBatchResponse>",
        ids[1], ids[2], ids[0]
    );
    peer.forget();
    peer.always(Answer::ok(told));
    assert_eq!(causes(sns.sink.send(&pieces, now()).await), wanted);
    let form = peer.requests()[0].text();
    assert!(
        form.contains("PublishBatchRequestEntries.member.3.MessageGroupId=incident-1&"),
        "{form}"
    );
    assert!(form.contains(&format!("member.3.MessageDeduplicationId={}&", ids[2])), "{form}");

    let hub = sink(&peer, dir.path(), "type = \"security_hub\"\naccount = \"123456789012\"");
    let pieces: Vec<Piece> = (0..3).map(|n| finding(&hub, &format!("i-{n}"), now())).collect();
    let told = json!({ "SuccessCount": 1, "FailedCount": 2, "FailedFindings": [
        { "Id": "siemgate/test/i-2", "ErrorCode": "LimitExceededException", "ErrorMessage": "m" },
        { "Id": "siemgate/test/i-1", "ErrorCode": "InvalidInput", "ErrorMessage": "m" },
    ]});
    peer.always(Answer::ok(told.to_string()));
    let mut found = causes(hub.sink.send(&pieces, now()).await);
    found.sort_by_key(|(index, _)| *index);
    assert_eq!(found, wanted);
}

/// An event of an incident, at a time.
fn finding(sink: &Built, incident: &str, time: Timestamp) -> Piece {
    let draft = Draft::new(EventId::fresh(), now(), "test".into(), "{}".into());
    let finding =
        Finding { incident: Some(incident.into()), time: Some(time), ..Finding::default() };
    draft.decoded_by(|| finding);
    let event = Shaped::unshaped(std::sync::Arc::new(Event { position: Position(0), draft }));
    Piece::of(&event.event, sink.sink.encode(&event, sink.limits.event_bytes).unwrap())
}

#[tokio::test]
async fn a_code_goes_before_the_status() {
    let (peer, dir) = (Peer::start().await, folder());
    let json = |code: &str| {
        json!({ "__type": format!("com.amazonaws#{code}"), "message": "m" }).to_string()
    };
    let xml = |code: &str| {
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>")
    };
    for (settings, status, body, cause) in [
        ("type = \"sqs\"\nqueue = \"https://h/1/a\"", 400, json("QueueDoesNotExist"), Cause::Setup),
        ("type = \"sqs\"\nqueue = \"https://h/1/a\"", 403, json("RequestThrottled"), Cause::Busy),
        (
            "type = \"sqs\"\nqueue = \"https://h/1/a\"",
            400,
            json("BatchRequestTooLong"),
            Cause::TooLarge,
        ),
        (
            "type = \"sns\"\ntopic = \"arn:aws:sns:r:1:a\"",
            400,
            xml("InvalidClientTokenId"),
            Cause::Setup,
        ),
        (
            "type = \"sns\"\ntopic = \"arn:aws:sns:r:1:a\"",
            400,
            xml("InvalidParameter"),
            Cause::Refused,
        ),
        ("type = \"kinesis\"\nstream = \"a\"", 400, json("AccessDeniedException"), Cause::Setup),
        ("type = \"eventbridge\"", 400, json("ThrottlingException"), Cause::Busy),
        ("type = \"eventbridge\"", 400, json("ExpiredTokenException"), Cause::Setup),
        (
            "type = \"cloudwatch_logs\"\ngroup = \"g\"",
            400,
            json("UnrecognizedClientException"),
            Cause::Setup,
        ),
        (
            "type = \"security_hub\"\naccount = \"123456789012\"",
            400,
            json("InvalidInputException"),
            Cause::Refused,
        ),
        ("type = \"s3\"\nbucket = \"bucket\"", 503, xml("SlowDown"), Cause::Busy),
        ("type = \"s3\"\nbucket = \"bucket\"", 409, xml("ConditionalRequestConflict"), Cause::Down),
        ("type = \"s3\"\nbucket = \"bucket\"", 400, xml("ExpiredToken"), Cause::Setup),
        ("type = \"s3\"\nbucket = \"bucket\"", 400, xml("EntityTooLarge"), Cause::TooLarge),
    ] {
        let sink = sink(&peer, dir.path(), settings);
        peer.always(Answer::new(status, body.clone()));
        let piece = encode(&sink, "{\"a\":1}").unwrap();
        let fault = failed(sink.sink.send(&[piece], now()).await, cause);
        if body.contains("ExpiredToken") {
            assert!(fault.note.contains("session token has run out"), "{fault:?}");
        }
    }
}

#[tokio::test]
async fn the_log_streams_window_and_order_are_kept() {
    let (peer, dir) = (Peer::start().await, folder());
    peer.always(Answer::ok("{}"));
    let logs = sink(&peer, dir.path(), "type = \"cloudwatch_logs\"\ngroup = \"g\"");
    let at = |hours: i64| Timestamp::from_second(now().as_second() + hours * 3_600).unwrap();
    // A clock that is far off is not believed: the time of arrival counts.
    let pieces: Vec<Piece> =
        [-1, -3, 400, -2].map(|hours| finding(&logs, &format!("i{hours}"), at(hours))).into();
    delivered(logs.sink.send(&pieces, now()).await);
    let sent = peer.requests()[0].json();
    let times: Vec<i64> = sent["logEvents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["timestamp"].as_i64().unwrap())
        .collect();
    assert_eq!(times, [-3, -2, -1, 0].map(|hours| at(hours).as_millisecond()));
    // After three weeks in the log they still get in, and those of another day wait for the next request.
    peer.forget();
    let pieces = vec![finding(&logs, "a", at(0)), finding(&logs, "b", at(-30))];
    let late = at(21 * 24);
    assert_eq!(causes(logs.sink.send(&pieces, late).await), [(0, Cause::Busy)]);
    let sent = peer.requests()[0].json();
    let age = late.as_millisecond() - sent["logEvents"][0]["timestamp"].as_i64().unwrap();
    assert!(age > 13 * 86_400_000 && age < 14 * 86_400_000, "{age}");
}

#[tokio::test]
async fn limits_are_the_vendors() {
    let (peer, dir) = (Peer::start().await, folder());
    let large = json!({ "files": vec!["\\\"x\u{1}".repeat(20); 40_000] }).to_string();
    for (settings, events, most) in [
        ("type = \"sqs\"\nqueue = \"https://h/1/a\"", 10, 262_144),
        ("type = \"sns\"\ntopic = \"arn:aws:sns:r:1:a\"", 10, 262_144),
        ("type = \"eventbridge\"", 10, 256_000),
        ("type = \"kinesis\"\nstream = \"a\"", 500, 1_398_101),
        ("type = \"cloudwatch_logs\"\ngroup = \"g\"", 10_000, 1_048_576 - 26),
        ("type = \"security_hub\"\naccount = \"123456789012\"", 100, 240_000),
    ] {
        let sink = sink(&peer, dir.path(), settings);
        assert_eq!(sink.limits.batch_events, events, "{settings}");
        let piece = encode(&sink, large.clone()).unwrap();
        assert!(piece.bytes.len() <= most, "{settings}: {}", piece.bytes.len());
    }
    // What XML cannot hold is refused by the services themselves.
    let sqs = sink(&peer, dir.path(), "type = \"sqs\"\nqueue = \"https://h/1/a\"");
    let piece = encode(&sqs, "{\"a\":\"\u{ffff}\"}").unwrap();
    let entry: Value = serde_json::from_slice(&piece.bytes).unwrap();
    assert_eq!(entry["MessageBody"], "{\"a\":\"\\uffff\"}");
}

#[test]
fn mistakes_in_settings_are_told_with_their_key() {
    let dir = folder();
    for (settings, says) in [
        ("type = \"sqs\"\nqueue = \"https://sqs.example\"", "sinks.a.queue"),
        ("type = \"sqs\"\nqueue = \"https://h/1/a\"\nmax_bytes = \"2MiB\"", "sinks.a.max_bytes"),
        ("type = \"sns\"\ntopic = \"events\"", "sinks.a.topic"),
        ("type = \"cloudwatch_logs\"\ngroup = \"a b\"", "sinks.a.group"),
        ("type = \"security_hub\"\naccount = \"12\"", "sinks.a.account"),
        ("type = \"s3\"\nbucket = \"B\"", "sinks.a.bucket"),
        ("type = \"s3\"\nbucket = \"bucket\"\nkey = \"x\"", "sinks.a.key"),
        ("type = \"s3\"\nbucket = \"bucket\"\nkms_key = \"k\"", "sinks.a.kms_key"),
        ("type = \"eventbridge\"\nsource = \"aws.own\"", "sinks.a.source"),
    ] {
        let problems = build(&format!("[sinks.a]\n{settings}\n{}", keys(dir.path())));
        let problems = problems.err().map(told).unwrap_or_default();
        assert!(problems.contains(says), "{settings}: {problems}");
    }
    let odd = keys(dir.path()).replace("eu-central-1", "EU/Central");
    let odd = build(&format!("[sinks.a]\ntype = \"s3\"\nbucket = \"bucket\"\n{odd}"));
    assert!(odd.err().map(told).unwrap_or_default().contains("sinks.a.region"));
    // Without an address it is the region's.
    for (settings, host) in [
        ("type = \"sns\"\ntopic = \"arn:aws:sns:r:1:a\"", "sns.eu-central-1.amazonaws.com"),
        ("type = \"s3\"\nbucket = \"bucket\"", "bucket.s3.eu-central-1.amazonaws.com"),
        ("type = \"s3\"\nbucket = \"a.bucket\"", "s3.eu-central-1.amazonaws.com"),
        ("type = \"kinesis\"\nstream = \"a\"", "kinesis.eu-central-1.amazonaws.com"),
        ("type = \"sqs\"\nqueue = \"https://sqs.example/1/a\"", "sqs.example"),
    ] {
        let sink = built(&format!("[sinks.a]\n{settings}\n{}", keys(dir.path())));
        assert_eq!(sink.sink.reaches(), [(host.to_owned(), 443)], "{settings}");
    }
}
