//! NATS JetStream, against a real nats-server: what is stored, once, across its end; what it refuses;
//! every way to log in, with and without TLS.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use siemgate::core::sink::{Cause, Outcome, Probe};
use tempfile::TempDir;

use super::certificates::Authority;
use super::gateway::{Gateway, until};
use super::products::{Process, free_port, have, python};
use super::proofs::proved;
use super::sinks::{build, built, delivered, failed, now, send, told};

/// Asks a server: `URL SUBJECT BODY`, and prints the answer; or, for a stream alone, all it has.
const ASK: &str = r#"
import asyncio, json, nats, sys
async def main():
    nc = await nats.connect(sys.argv[1])
    ask = lambda to, body: nc.request("$JS.API.STREAM." + to, body.encode(), timeout=20)
    if len(sys.argv) == 4:
        print((await ask(sys.argv[2], sys.argv[3])).data.decode())
    else:
        info = json.loads((await ask("INFO." + sys.argv[2], "")).data)
        for seq in range(info["state"]["first_seq"], info["state"]["last_seq"] + 1):
            print((await ask("MSG.GET." + sys.argv[2], json.dumps({"seq": seq}))).data.decode())
    await nc.close()
asyncio.run(main())
"#;

/// A running server, which can be killed and started again.
struct Server {
    dir: TempDir,
    port: u16,
    python: PathBuf,
    process: Option<Process>,
}

fn program() -> String {
    format!("{}/target/python/bin/nats-server", env!("CARGO_MANIFEST_DIR"))
}

impl Server {
    /// One with these lines in its configuration, if a server can be had.
    async fn start(config: &str) -> Option<Self> {
        let python = python("nats")?;
        if !have(&program(), "nothing: tests/setup.sh installs it") {
            return None;
        }
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let store = dir.path().join("store").display().to_string();
        let config = format!(
            "host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: {store:?} }}\n{}",
            config.replace("{{dir}}", &dir.path().display().to_string())
        );
        std::fs::write(dir.path().join("conf"), config).unwrap();
        let mut server = Self { dir, port, python, process: None };
        server.launch().await;
        Some(server)
    }

    async fn launch(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(program());
        command.arg("-c").arg(self.dir.path().join("conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(Process(command.spawn().unwrap()));
        until("nats-server listens", async || {
            std::fs::read_to_string(self.dir.path().join("log"))
                .unwrap()
                .contains("Server is ready")
                .then_some(())
        })
        .await;
    }

    fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        kill_process(Pid::from_child(&process.0), Signal::KILL).unwrap();
        process.0.wait().unwrap();
    }

    fn asked(&self, arguments: &[&str]) -> Vec<Value> {
        let url = format!("nats://127.0.0.1:{}", self.port);
        let asked = Command::new(&self.python).args(["-c", ASK, &url]).args(arguments).output();
        let asked = asked.unwrap();
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        let text = String::from_utf8(asked.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Create a stream on the subject, with more settings.
    fn stream(&self, more: Value) {
        let mut config =
            json!({ "name": "ALERTS", "subjects": ["security.alerts"], "storage": "file" });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let [made] = &self.asked(&["CREATE.ALERTS", &config.to_string()])[..] else { panic!() };
        assert!(made.get("error").is_none(), "{made}");
    }

    /// All events of the stream.
    fn stored(&self) -> Vec<Value> {
        use base64::Engine as _;
        let decode = |answer: Value| {
            let text = answer["message"]["data"].as_str().unwrap();
            let body = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
            serde_json::from_slice(&body).unwrap()
        };
        self.asked(&["ALERTS"]).into_iter().map(decode).collect()
    }

    fn sink(&self, more: &str) -> String {
        format!(
            "[sinks.stream]\ntype = \"nats_jetstream\"\nservers = \"tcp://127.0.0.1:{}\"\nsubject = \"security.alerts\"\n{more}\n",
            self.port
        )
    }

    async fn gateway(&self, more: &str) -> Gateway {
        let source = "[sources.s]\ntype = \"json\"\n[routes.all]\nsinks = \"stream\"\n";
        Gateway::start(&format!("{source}{}", self.sink(more))).await
    }
}

fn lines(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

#[tokio::test]
async fn every_event_is_stored_once_though_the_server_dies_twice() {
    const EVENTS: u64 = 4_000;
    let Some(mut server) = Server::start("").await else { return };
    server.stream(json!({}));
    let gateway = server.gateway("delivery = { rate = \"1500/s\" }").await;
    for chunk in 0..EVENTS / 1_000 {
        let posted = gateway.post("/webhook/s", lines(chunk * 1_000..(chunk + 1) * 1_000)).await;
        assert_eq!(posted.status, 200);
    }
    for least in [EVENTS / 4, EVENTS / 2] {
        until("a part is stored", async || {
            (gateway.settled("stream", "delivered").await >= least).then_some(())
        })
        .await;
        server.kill();
        server.launch().await;
    }
    gateway.until_settled("stream", "delivered", EVENTS).await;
    let mut numbers: Vec<u64> =
        server.stored().iter().map(|event| event["n"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>());
    gateway.finish().await;
    proved("nats_jetstream", "nats-server");
}

/// As after an answer that was lost on the way.
#[tokio::test]
async fn what_comes_again_is_recognised() {
    let Some(server) = Server::start("").await else { return };
    server.stream(json!({}));
    let sink = built(&server.sink("stream = \"ALERTS\""));
    let piece = super::sinks::encode(&sink, "{\"n\":1}").unwrap();
    let first = delivered(sink.sink.send(std::slice::from_ref(&piece), now()).await);
    let again = delivered(sink.sink.send(&[piece], now()).await);
    assert_eq!((first.id, again.id), (Some("ALERTS/1".into()), Some("ALERTS/1".into())));
    assert_eq!(server.stored(), [json!({ "n": 1 })]);
}

#[tokio::test]
async fn without_a_stream_the_sink_is_parked_until_there_is_one() {
    let Some(server) = Server::start("").await else { return };
    let gateway = server.gateway("").await;
    assert_eq!(gateway.post("/webhook/s", lines(0..3)).await.status, 200);
    until("it is parked", async || {
        gateway.journal_text().contains("no stream takes the subject").then_some(())
    })
    .await;
    server.stream(json!({}));
    gateway.until_settled("stream", "delivered", 3).await;
    assert_eq!(server.stored().len(), 3);
    gateway.finish().await;
}

#[tokio::test]
async fn a_full_stream_is_busy_and_takes_what_it_can() {
    let Some(server) = Server::start("").await else { return };
    server.stream(json!({ "max_msgs": 2, "discard": "new" }));
    let sink = built(&server.sink(""));
    let Outcome::Partly { faults, .. } =
        send(&sink, &["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"]).await
    else {
        panic!("all taken")
    };
    let [(2, fault)] = &faults[..] else { panic!("{faults:?}") };
    assert_eq!(fault.cause, Cause::Busy, "{fault:?}");
    assert!(fault.note.contains("maximum messages exceeded"), "{fault:?}");
    failed(send(&sink, &["{\"n\":4}"]).await, Cause::Busy);
    server.asked(&["PURGE.ALERTS", ""]);
    delivered(send(&sink, &["{\"n\":3}"]).await);
}

#[tokio::test]
async fn what_is_too_large_for_the_server_is_shortened() {
    let Some(server) = Server::start("max_payload: 65536").await else { return };
    server.stream(json!({}));
    let gateway = server.gateway("").await;
    let big = json!({ "n": 1, "text": "x".repeat(100_000) }).to_string();
    let posted = gateway.post("/webhook/s?wait=30s", big + "\n{\"n\":2}").await;
    assert_eq!(posted.json()["settled"], true, "{posted:?}");
    let mut stored = server.stored();
    stored.sort_by_key(|event| event["n"].as_u64());
    assert_eq!(stored.len(), 2);
    assert!(
        stored[0]["siemgate_shortened"].is_object() || stored[0]["siemgate_shortened"].is_array()
    );
    gateway.finish().await;
}

/// A pair of the documents of NATS.
const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

/// Let in with the right secret; parked with the wrong one, or none, which is not told.
#[tokio::test]
async fn every_way_to_log_in() {
    for (config, right, wrong, secret) in [
        ("authorization { token: right-secret }", "token", "token", "right-secret"),
        (
            "authorization { user: gate, password: right-secret }",
            "user = \"gate\"\npassword",
            "user = \"other\"\npassword",
            "right-secret",
        ),
        (&format!("authorization {{ users: [{{ nkey: {PUBLIC} }}] }}"), "nkey", "token", SEED),
    ] {
        let Some(server) = Server::start(config).await else { return };
        let file = server.dir.path().join("secret");
        std::fs::write(&file, secret).unwrap();
        let other = server.dir.path().join("other");
        std::fs::write(&other, "hidden-secret").unwrap();
        let good = built(&server.sink(&format!("{right} = {{ file = {file:?} }}")));
        // Let in; and nobody has made a stream.
        let fault = failed(send(&good, &["{}"]).await, Cause::Setup);
        assert!(fault.note.contains("no stream takes the subject"), "{fault:?}");
        for bad in [String::new(), format!("{wrong} = {{ file = {other:?} }}")] {
            let fault = failed(send(&built(&server.sink(&bad)), &["{}"]).await, Cause::Setup);
            assert!(fault.note.contains("Authorization Violation"), "{config}: {fault:?}");
            assert!(!fault.note.contains("hidden-secret"), "{fault:?}");
        }
    }
}

#[tokio::test]
async fn permissions_that_lack_are_named() {
    let users = r#"authorization { users: [
      { user: mute, password: pa55word, permissions: { publish: { deny: "security.>" } } }
      { user: deaf, password: pa55word, permissions: { subscribe: { deny: "_INBOX.>" } } }
      { user: shy, password: pa55word, permissions: { publish: { allow: "security.>" } } }
      { user: boss, password: pa55word }
    ] }"#;
    let Some(server) = Server::start(users).await else { return };
    std::fs::write(server.dir.path().join("p"), "pa55word").unwrap();
    let as_user = |name: &str| {
        let file = server.dir.path().join("p");
        built(&server.sink(&format!("user = {name:?}\npassword = {{ file = {file:?} }}")))
    };
    for (user, words) in [("mute", "permission to publish"), ("deaf", "_INBOX.>")] {
        let fault = failed(send(&as_user(user), &["{}"]).await, Cause::Setup);
        assert!(fault.note.contains(words), "{user}: {fault:?}");
    }
    assert_eq!(as_user("shy").sink.probe(now()).await, Ok(Probe::ReachableOnly));
    let none = as_user("boss").sink.probe(now()).await.unwrap_err();
    assert!(none.cause == Cause::Setup && none.note.contains("no stream"), "{none:?}");
}

/// With the handshake after the greeting, as servers do it, and before it.
#[tokio::test]
async fn tls_with_a_client_certificate() {
    let authority = Authority::new("ours");
    for first in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root.pem");
        std::fs::write(&root, &authority.pem).unwrap();
        let (cert, key) = authority.leaf("localhost").write(dir.path(), "server");
        let config = format!(
            "tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {root:?}, verify: true, handshake_first: {first} }}"
        );
        let Some(server) = Server::start(&config).await else { return };
        let (pem, own) = authority.leaf("gateway").write(dir.path(), "client");
        let plain = server.sink("");
        let encrypted = plain.replace("tcp://127.0.0.1", "tls://localhost");
        let trust = format!("tls_first = {first}\nca_file = {root:?}\n");
        let identity = format!("client_cert_file = {pem:?}\nclient_key_file = {own:?}\n");
        let sink = built(&format!("{encrypted}{trust}{identity}"));
        let fault = failed(send(&sink, &["{}"]).await, Cause::Setup);
        assert!(fault.note.contains("no stream takes the subject"), "it got through: {fault:?}");
        let nobody = built(&format!("{encrypted}{trust}"));
        failed(send(&nobody, &["{}"]).await, Cause::Setup);
        if !first {
            let fault = failed(send(&built(&plain), &["{}"]).await, Cause::Setup);
            assert!(fault.note.contains("demands TLS"), "{fault:?}");
        }
    }
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let dir = super::sinks::folder();
    let key = dir.path().join("key");
    let sink = |servers: &str, more: &str| {
        let more = more.replace("KEY", &format!("{{ file = {key:?} }}"));
        format!(
            "[sinks.n]\ntype = \"nats_jetstream\"\nservers = {servers}\nsubject = \"a.b\"\n{more}\n"
        )
    };
    for (servers, more, words) in [
        ("[]", "", ".servers: names no server"),
        ("[\"tcp://a\", \"tls://b\"]", "", ".servers: has tcp:// beside tls://"),
        ("\"udp://a\"", "", ".servers: must begin with tcp:// or tls://"),
        ("\"tcp://a\"", "tls_first = true", ".tls_first: has no meaning without TLS"),
        ("\"tcp://a\"", "ca_file = \"/x\"", "write tls:// in servers"),
        ("\"tcp://a\"", "token = KEY\nnkey = KEY", ".nkey: cannot stand beside token"),
        ("\"tcp://a\"", "nkey = KEY", ".nkey: is no seed"),
        ("\"tcp://a\"", "credentials = KEY", ".credentials: has no NATS USER JWT"),
        ("\"tcp://a\"", "user = \"x\"", ".user: needs password"),
        ("\"tcp://a\"", "password = KEY", ".password: needs user"),
        ("\"tcp://a\"", "stream = \"a.b\"", ".stream: is no name"),
        ("\"tcp://a\"", "max_bytes = \"1\"", ".max_bytes: must be 256"),
    ] {
        let problems = build(&sink(servers, more)).err().map(told).unwrap_or_default();
        assert!(problems.contains(words), "`{words}` in {problems}");
    }
    for subject in ["", "a..b", "a.*", "a.>", "a b", "$JS.API", "a\\r\\nPUB b"] {
        let toml = sink("\"tcp://a\"", "").replace("a.b", subject);
        let problems = build(&toml).err().map(told).unwrap_or_default();
        assert!(problems.contains(".subject: is no name"), "{subject:?}: {problems}");
    }
}
