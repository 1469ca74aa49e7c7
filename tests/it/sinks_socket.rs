//! Sockets: the exact bytes, connections that end, and what they may have eaten.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::PrivateKeyDer;
use siemgate::core::sink::{Cause, Outcome, Reply};
use siemgate::sinks::Built;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::gateway::{Gateway, fixture, until};
use super::receiver::Receiver;
use super::sinks::{
    KEY, build, built, delivered, encode, failed, folder, now, send, sending, told,
};

/// A sink of type syslog with more settings.
fn syslog(to: &str, settings: &str) -> Built {
    built(&format!(
        "[sinks.s]\ntype = \"syslog\"\naddress = \"{to}\"\nhostname = \"gate\"\n{settings}"
    ))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn one(sink: &Built, body: &str) -> Reply {
    delivered(send(sink, &[body]).await)
}

#[test]
fn messages_look_so() {
    let (old, new) = (
        "<131>Jan 31 12:00:00 gate siemgate: ",
        "<131>1 2026-01-31T12:00:00.000Z gate siemgate - event ",
    );
    for (to, settings, expected) in [
        ("tcp://h", "", format!("63 {new}- {{\"a\":1}}")),
        ("tls://h", "", format!("63 {new}- {{\"a\":1}}")),
        ("tcp://h", "framing = \"lf\"", format!("{new}- {{\"a\":1}}\n")),
        ("udp://h", "", format!("{new}- {{\"a\":1}}")),
        ("udp://h", "bom = true", format!("{new}- \u{feff}{{\"a\":1}}")),
        ("udp://h", "header = \"rfc3164\"", format!("{old}{{\"a\":1}}")),
        (
            "udp://h",
            "facility = \"kern\"\napp_name = \"x-y\"\nheader = \"rfc3164\"",
            "<3>Jan 31 12:00:00 gate xy: {\"a\":1}".to_owned(),
        ),
        (
            "udp://h",
            r#"structured_data = { "a@1" = { x = "\"]\\" }, "b@1" = {} }"#,
            format!("{new}[a@1 x=\"\\\"\\]\\\\\"][b@1] {{\"a\":1}}"),
        ),
    ] {
        let piece = encode(&syslog(to, settings), "{ \"a\": 1 }").unwrap();
        assert_eq!(text(&piece.bytes), expected, "{to} {settings}");
    }
    let plain = built("[sinks.s]\ntype = \"tcp\"\naddress = \"tcp://h:1\"\nframing = \"octet\"\n");
    assert_eq!(text(&encode(&plain, "{ \"a\": 1 }").unwrap().bytes), "7 {\"a\":1}");
}

#[test]
fn a_message_is_never_longer_than_the_destination_takes() {
    let files: Vec<String> = (0..500).map(|number| format!("/ifs/{number}.doc")).collect();
    let body = serde_json::json!({ "files": files }).to_string();
    for (to, framing, frame) in [("tcp://h", "octet", 5), ("tcp://h", "lf", 1), ("udp://h", "", 0)]
    {
        let framing =
            if framing.is_empty() { String::new() } else { format!("framing = \"{framing}\"") };
        for format in ["raw", "cef", "leef", "leef1", "csv"] {
            let sink = syslog(to, &format!("{framing}\nformat = \"{format}\"\nmax_bytes = 1000"));
            let bytes = encode(&sink, body.clone()).unwrap().bytes;
            assert!(bytes.len() <= 1_000 + frame && sink.limits.event_bytes == 1_000 + frame);
            assert!(
                format != "raw" || text(&bytes).contains("\"siemgate_shortened\":[\"/files\"]")
            );
        }
    }
}

#[test]
fn settings_that_cannot_be_meant_are_told() {
    let sink = |kind: &str, text: &str| {
        let problems = build(&format!("[sinks.s]\ntype = \"{kind}\"\n{text}"));
        problems.err().map(told).unwrap_or_default()
    };
    for (kind, text, says) in [
        (
            "syslog",
            "address = \"udp://h\"\nframing = \"lf\"",
            "sinks.s.framing: has no meaning for udp://",
        ),
        (
            "syslog",
            "address = \"udp://h\"\nresend = \"1s\"",
            "sinks.s.resend: has no meaning for udp://",
        ),
        (
            "syslog",
            "address = \"tcp://h\"\nclient_cert_file = \"x\"",
            "sinks.s.client_cert_file: has no meaning without TLS",
        ),
        (
            "syslog",
            "address = \"tcp://h\"\nmax_bytes = 100",
            "sinks.s.max_bytes: must be 480B to 16MiB",
        ),
        (
            "syslog",
            "address = \"udp://h\"\nmax_bytes = 70000",
            "sinks.s.max_bytes: must be 480B to 65507B",
        ),
        (
            "syslog",
            "address = \"tcp://h\"\nheader = \"rfc3164\"\nbom = true",
            "sinks.s.bom: has no place",
        ),
        (
            "syslog",
            "address = \"tcp://h\"\nheader = \"rfc3164\"\nstructured_data = { \"a@1\" = {} }",
            "sinks.s.structured_data: has no place",
        ),
        (
            "syslog",
            "address = \"tcp://h\"\nhostname = \"a b\"",
            "sinks.s.hostname: must have 1 to 255",
        ),
        ("syslog", "address = \"tcp://h\"\napp_name = \"\"", "sinks.s.app_name: must have 1 to 48"),
        (
            "syslog",
            "address = \"tcp://h\"\nfacility = \"local9\"",
            "`local9` is no facility; known: kern",
        ),
        (
            "syslog",
            "address = \"tcp://h\"\nformat = \"cfe\"",
            "`cfe` is no format; known: raw, cef",
        ),
        (
            "syslog",
            "address = \"tcp://h\"\nstructured_data = { \"a b\" = {} }",
            "sinks.s.structured_data.a b: names have 1 to 32",
        ),
        ("tcp", "address = \"tcp://h\"", "sinks.s.address: has no port"),
        ("tcp", "address = \"udp://h:1\"", "sinks.s.address: must begin with tcp:// or tls://"),
        ("udp", "address = \"tcp://h:1\"", "sinks.s.address: must begin with udp://"),
        ("udp", "address = \"udp://h\"", "sinks.s.address: has no port"),
    ] {
        let told = sink(kind, text);
        assert!(told.contains(says), "{text}: {told}");
    }
    let long = format!("structured_data = {{ \"a@1\" = {{ x = \"{}\" }} }}", "y".repeat(500));
    let told = sink("syslog", &format!("address = \"tcp://h\"\nmax_bytes = 600\n{long}"));
    assert!(told.contains("sinks.s.max_bytes: leaves no room"), "{told}");
}

#[tokio::test]
async fn a_secret_in_structured_data_is_sent_and_never_shown() {
    let (dir, receiver) = (folder(), Receiver::udp().await);
    let key = dir.path().join("key");
    let sink = syslog(
        &receiver.url(),
        &format!("structured_data = {{ \"token@41058\" = {{ key = {{ file = {key:?} }} }} }}"),
    );
    let piece = encode(&sink, "{}").unwrap();
    let preview = sink.sink.preview(std::slice::from_ref(&piece)).unwrap();
    assert!(preview.body_masked && text(&preview.body).contains("[token@41058 key=\"***\"] {}"));
    delivered(sink.sink.send(&[piece], now()).await);
    let came = text(&receiver.wait_for(1).await[0]);
    assert!(came.contains(&KEY.replace('"', "\\\"")), "{came}");
}

#[tokio::test]
async fn a_connection_is_kept_and_a_closed_one_is_not_written_into() {
    let receiver = Receiver::tcp().await;
    let sink = syslog(&receiver.url(), "");
    for number in 0..3 {
        assert_eq!(one(&sink, &format!("{{\"n\":{number}}}")).await.resent, None);
    }
    receiver.wait_for(3).await;
    assert_eq!(receiver.came().len(), 1, "one connection");
    receiver.hang_up().await;
    // Whoever looks first finds it closed: the next batch, or the guard.
    let reply = until("a message goes over a new connection", async || {
        let reply = one(&sink, "{\"n\":3}").await;
        (receiver.came().len() > 1).then_some(reply)
    })
    .await;
    let texts: Vec<String> = receiver.wait_for(7).await.iter().map(|it| text(it)).collect();
    for number in 0..4 {
        let wanted = format!("{{\"n\":{number}}}");
        assert!(texts.iter().any(|text| text.ends_with(&wanted)), "{texts:?}");
    }
    assert!(reply.resent.is_some_and(|count| count.get() >= 3), "{reply:?}");
    assert!(reply.excerpt.contains("sent again") && reply.excerpt.contains("twice"), "{reply:?}");
}

#[tokio::test]
async fn what_a_reset_ate_is_sent_again_before_anything_new() {
    let receiver = Receiver::tcp().await;
    let sink = syslog(&receiver.url(), "");
    one(&sink, "{\"n\":0}").await;
    receiver.wait_for(1).await;
    receiver.stall(true);
    // On its way, and never read.
    one(&sink, "{\"n\":1}").await;
    assert_eq!(receiver.messages().len(), 1);
    receiver.hang_up().await;
    receiver.stall(false);
    // Nothing new comes, and yet it arrives.
    let messages = receiver.wait_for(3).await;
    let texts: Vec<String> = messages.iter().map(|it| text(it)).collect();
    assert!(texts[1].ends_with("{\"n\":0}") && texts[2].ends_with("{\"n\":1}"), "{texts:?}");
    let reply = one(&sink, "{\"n\":2}").await;
    assert_eq!(reply.resent, NonZeroU32::new(2), "{reply:?}");
    assert_eq!(one(&sink, "{\"n\":3}").await.resent, None, "told once");
    let last = receiver.wait_for(5).await;
    assert!(text(&last[4]).ends_with("{\"n\":3}"));
}

#[tokio::test]
async fn without_a_window_nothing_is_sent_twice() {
    let receiver = Receiver::tcp().await;
    let sink = syslog(&receiver.url(), "resend = \"0s\"");
    one(&sink, "{\"n\":0}").await;
    receiver.wait_for(1).await;
    receiver.hang_up().await;
    until("a message goes over a new connection", async || {
        assert_eq!(one(&sink, "{}").await.resent, None);
        (receiver.came().len() > 1).then_some(())
    })
    .await;
    let old = receiver.messages().iter().filter(|it| text(it).ends_with("{\"n\":0}")).count();
    assert_eq!(old, 1);
}

#[tokio::test]
async fn what_is_in_doubt_at_the_end_is_sent_again_while_there_is_time() {
    let receiver = Receiver::tcp().await;
    let sink = syslog(&receiver.url(), "");
    receiver.stall(true);
    one(&sink, "{\"n\":0}").await;
    until("it is connected", async || (receiver.came().len() == 1).then_some(())).await;
    receiver.hang_up().await;
    receiver.stall(false);
    sink.sink.close(Instant::now() + Duration::from_secs(5)).await;
    assert!(text(&receiver.wait_for(1).await[0]).ends_with("{\"n\":0}"));
}

/// A batch that was cancelled in the middle of a write leaves a broken connection, never a message
/// glued to half of another.
#[tokio::test]
async fn a_cancelled_batch_tears_nothing() {
    let receiver = Receiver::tcp().await;
    for framing in ["octet", "lf"] {
        receiver.stall(false);
        receiver.forget();
        let sink =
            syslog(&receiver.url(), &format!("framing = \"{framing}\"\nmax_bytes = \"16MiB\""));
        one(&sink, "{\"first\":0}").await;
        receiver.wait_for(1).await;
        receiver.stall(true);
        let big = serde_json::json!({ "big": "x".repeat(15 << 20) }).to_string();
        let piece = encode(&sink, big).unwrap();
        let batch = sending(sink.sink.clone(), vec![piece]);
        // Part of it has left, and the rest cannot: the buffers of both ends are full.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!batch.is_finished());
        batch.abort();
        assert!(batch.await.unwrap_err().is_cancelled());
        receiver.stall(false);
        let reply = one(&sink, "{\"last\":0}").await;
        assert_eq!(reply.resent, NonZeroU32::new(1), "{framing}");
        let texts = until("the last has come", async || {
            let texts: Vec<String> = receiver.messages().iter().map(|it| text(it)).collect();
            texts.iter().any(|text| text.ends_with("- {\"last\":0}")).then_some(texts)
        })
        .await;
        let odd = |text: &&String| {
            !text.ends_with("- {\"first\":0}") && !text.ends_with("- {\"last\":0}")
        };
        assert_eq!(texts.iter().filter(odd).count(), 0, "{framing}");
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_want_us_is_no_delivery() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let fault = failed(send(&syslog(&url, ""), &["{}"]).await, Cause::Down);
    assert!(fault.note.contains("closed as soon as it was open"), "{fault:?}");
    server.abort();
}

/// Such as one that counts octets and is sent lines: what it gets it throws away.
#[tokio::test]
async fn a_receiver_that_hangs_up_on_every_message_is_told_and_nothing_is_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
        }
    });
    let sink = syslog(&format!("tcp://127.0.0.1:{port}"), "framing = \"lf\"");
    let mut delivered = Vec::new();
    let fault = until("the receiver is suspected", async || {
        let body = format!("{{\"n\":{}}}", delivered.len());
        match send(&sink, &[&body]).await {
            Outcome::Failed(fault) if fault.cause == Cause::Setup => Some(fault),
            Outcome::Failed(_) => None,
            _ => {
                delivered.push(body);
                None
            }
        }
    })
    .await;
    assert!(fault.note.contains("check sinks.s.framing"), "{fault:?}");
    assert!(!delivered.is_empty());
    server.abort();
    let _ = server.await;
    // Mended there, it gets everything, also what had been called delivered.
    let mended = Receiver::tcp_at(port).await;
    until("everything has come", async || {
        let texts: Vec<String> = mended.messages().iter().map(|it| text(it)).collect();
        delivered.iter().all(|body| texts.iter().any(|text| text.ends_with(body))).then_some(())
    })
    .await;
    assert_eq!(one(&sink, "{}").await.status, None);
}

/// Leads to `port`; what comes after a client's first flight takes a moment, as over a long way.
async fn far(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(relay(client, TcpStream::connect(("127.0.0.1", port)).await.unwrap()));
        }
    });
    near
}

async fn relay(mut client: TcpStream, mut server: TcpStream) -> std::io::Result<()> {
    let mut flight = vec![0; 1 << 14];
    let count = client.read(&mut flight).await?;
    server.write_all(&flight[..count]).await?;
    let ((mut from, mut to), (mut back, mut there)) = (client.split(), server.split());
    let forth = async {
        let count = from.read(&mut flight).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        there.write_all(&flight[..count]).await?;
        tokio::io::copy(&mut from, &mut there).await
    };
    tokio::try_join!(forth, tokio::io::copy(&mut back, &mut to)).map(drop)
}

/// With TLS 1.3 a client's handshake succeeds before the server has judged its certificate, and
/// bytes written then go nowhere.
#[tokio::test]
async fn a_certificate_that_is_refused_after_the_handshake_is_no_delivery() {
    let (dir, key) = (folder(), rcgen::KeyPair::generate().unwrap());
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let pem = dir.path().join("root.pem");
    std::fs::write(&pem, certificate.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        provider.clone(),
    );
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    let port = far(port).await;
    let sink = syslog(&format!("tls://localhost:{port}"), &format!("ca_file = {pem:?}"));
    let fault = failed(send(&sink, &["{}"]).await, Cause::Setup);
    assert!(fault.note.contains("client_cert_file"), "{fault:?}");
    // And a name that the certificate does not have.
    let sink = syslog(&format!("tls://127.0.0.1:{port}"), &format!("ca_file = {pem:?}"));
    let fault = failed(send(&sink, &["{}"]).await, Cause::Setup);
    assert!(fault.note.contains("another name"), "{fault:?}");
    server.abort();
}

#[tokio::test]
async fn a_datagram_that_nobody_takes_is_down() {
    let receiver = Receiver::udp().await;
    let url = receiver.url();
    receiver.stop().await;
    let fault = failed(send(&syslog(&url, ""), &["{\"a\":1}", "{\"a\":2}"]).await, Cause::Down);
    assert!(fault.note.contains("nothing listens"), "{fault:?}");
}

#[tokio::test]
async fn an_unknown_name_is_down_and_told() {
    for to in ["tcp://no-such-host.invalid", "udp://no-such-host.invalid"] {
        let fault = failed(send(&syslog(to, ""), &["{}"]).await, Cause::Down);
        assert!(fault.note.contains("cannot find the name no-such-host.invalid"), "{fault:?}");
    }
}

/// The route's format goes before the sink's, for every sink that writes formats; what its
/// transform took out is in none.
#[tokio::test]
async fn a_route_says_how_its_sinks_write_and_a_redaction_holds() {
    let receiver = Receiver::tcp().await;
    let config = format!(
        r#"
[sources.superna]
type = "superna"
path = "/webhook"
[routes.all]
sinks = ["soc", "archive"]
format = "cef"
transform = "del(.user); del(.userName); .severity = \"MAJOR\""
[sinks.soc]
type = "syslog"
address = "{}"
format = "csv"
[sinks.archive]
type = "file"
path = "{{{{dir}}}}/events.cef"
"#,
        receiver.url()
    );
    let gateway = Gateway::start(&config).await;
    let posted =
        gateway.post("/webhook?wait=30s", fixture("superna-critical-locked-out.json")).await;
    assert_eq!(posted.json()["settled"], true, "{posted:?}");
    let message = text(&receiver.wait_for(1).await[0]);
    let [line] = &gateway.lines("events.cef")[..] else { panic!("one line") };
    assert!(message.ends_with(&format!(" {line}")), "{message}\n{line}");
    let started = format!(
        "CEF:0|Superna|Data Security Edition|{}|ransomware.locked_out|",
        env!("CARGO_PKG_VERSION")
    );
    // High, and not critical, in the line and in the header.
    assert!(
        line.starts_with(&started) && line.contains("|8|rt=") && message.starts_with("<131>1 "),
        "{message}"
    );
    assert!(
        !line.contains("demouser") && !line.contains("suser=") && !line.contains("S-1-5"),
        "{line}"
    );
    // The journal, the metrics and the routes go by what came in.
    let [id] = &posted.ids()[..] else { panic!() };
    assert_eq!(gateway.told_of("delivered", "soc", id)[0]["severity"], "critical");
    gateway.finish().await;
}

#[tokio::test]
async fn a_format_is_refused_where_a_destination_knows_one_form_only() {
    let config = r#"
[sources.superna]
type = "superna"
[routes.all]
sinks = ["xdr"]
format = "cef"
[routes.odd]
sinks = ["xdr"]
format = "leaf"
[sinks.xdr]
type = "taegis"
url = "https://h.example/x"
key = { env = "KEY" }
"#;
    let mut gateway = Gateway::prepared(config);
    gateway.set_env("KEY", "k");
    let told = gateway.cli(&["check"]).await;
    assert!(
        told.err.contains("routes.odd.format: there is no format `leaf`\n    did you mean `leef`?"),
        "{told:?}"
    );
    gateway.configure("10-test.toml", &config.replace("leaf", "cef"));
    let told = gateway.cli(&["check"]).await;
    assert_eq!(told.code, Some(78), "{told:?}");
    assert!(
        told.err
            .contains("routes.all.format: sink `xdr` cannot write cef: taegis knows one form only"),
        "{told:?}"
    );
}
