//! GELF over sockets: what a receiver puts together from datagrams and streams is what was sent.

use std::collections::BTreeMap;
use std::io::Read;

use bytes::Bytes;
use serde_json::{Value, json};
use siemgate::core::sink::{Cause, Piece};
use siemgate::sinks::Built;

use crate::gateway::{Gateway, fixture, until};
use crate::people::event_at;
use crate::receiver::Receiver;
use crate::sinks::{build, built, delivered, failed, now, told};

fn config(url: &str, more: &str) -> String {
    format!("[sinks.graylog]\ntype = \"gelf\"\naddress = \"{url}\"\n{more}")
}

/// The messages that datagrams make, as the standard says; those that lack a chunk are none.
fn put_together(datagrams: &[Bytes]) -> Vec<Value> {
    let mut whole = Vec::new();
    let mut parts: BTreeMap<&[u8], BTreeMap<u8, &[u8]>> = BTreeMap::new();
    for datagram in datagrams {
        if datagram[..2] != [0x1e, 0x0f] {
            whole.push(datagram.to_vec());
            continue;
        }
        let (id, number, count) = (&datagram[2..10], datagram[10], datagram[11]);
        assert!(number < count && count <= 128, "chunk {number} of {count}");
        let known = parts.entry(id).or_default();
        known.insert(number, &datagram[12..]);
        if known.len() == usize::from(count) {
            whole.push(parts.remove(id).unwrap().into_values().flatten().copied().collect());
        }
    }
    whole.iter().map(|bytes| serde_json::from_slice(&unpacked(bytes)).unwrap()).collect()
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match bytes {
        [0x1f, 0x8b, ..] => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap(),
        [0x78, ..] => flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut plain).unwrap(),
        _ => return bytes.to_vec(),
    };
    plain
}

/// An alert about so many files.
fn alert(sink: &Built, files: usize) -> (Piece, String) {
    let mut random = fastrand::Rng::with_seed(7);
    let mut name = |at| format!("/ifs/{at}/{:016x}{:016x}.doc", random.u64(..), random.u64(..));
    let files: Vec<String> = (0..files).map(&mut name).collect();
    let body = json!({ "severity": "CRITICAL", "state": "LOCKED_OUT", "userName": "CORP\\j\ndoe", "files": files });
    let event = event_at(&body, now());
    let bytes = sink.sink.encode(&event, sink.limits.event_bytes).unwrap();
    (Piece::of(&event.event, bytes), body.to_string())
}

#[tokio::test]
async fn datagrams_are_put_together_to_what_was_sent() {
    for (more, packed) in [
        ("", false),
        ("chunk_size = \"512B\"\n", false),
        ("chunk_size = \"8KB\"\ncompression = \"gzip\"\n", true),
        ("compression = \"zlib\"\n", true),
    ] {
        let receiver = Receiver::udp().await;
        let sink = built(&config(&receiver.url(), more));
        let size = if more.contains("512B") {
            512
        } else if more.contains("8KB") {
            8_000
        } else {
            1_420
        };
        for files in [0, 3, 40, 400] {
            receiver.forget();
            let (piece, body) = alert(&sink, files);
            delivered(sink.sink.send(std::slice::from_ref(&piece), now()).await);
            let messages = until("a message is whole", async || {
                Some(put_together(&receiver.came())).filter(|messages| !messages.is_empty())
            })
            .await;
            let [message] = &messages[..] else { panic!("{messages:?}") };
            let came = receiver.came();
            assert!(came.iter().all(|datagram| datagram.len() <= size), "{more}");
            assert!(files < 40 || size > 1_420 || came.len() > 1, "{more}: chunks");
            assert!(!packed || !came.concat().windows(8).any(|it| it == b"\"version"), "{more}");
            assert_eq!(*message, serde_json::from_slice::<Value>(&piece.bytes).unwrap());
            assert_eq!(message["full_message"], body, "{files}");
            assert_eq!((&message["_user"], &message["level"]), (&json!("CORP\\j\ndoe"), &json!(2)));
        }
    }
}

/// Longer than 128 chunks can be, or than it may be: the original gives way, and the facts arrive.
#[tokio::test]
async fn what_no_chunks_can_hold_is_shortened_and_says_so() {
    let receiver = Receiver::udp().await;
    for more in ["chunk_size = \"512B\"\n", "max_bytes = \"6KiB\"\n"] {
        receiver.forget();
        let sink = built(&config(&receiver.url(), more));
        let (piece, body) = alert(&sink, 3_000);
        delivered(sink.sink.send(std::slice::from_ref(&piece), now()).await);
        let [message] = &until("a message is whole", async || {
            Some(put_together(&receiver.came())).filter(|messages| !messages.is_empty())
        })
        .await[..] else {
            panic!("{more}")
        };
        assert!(piece.bytes.len() < body.len() && receiver.came().len() <= 128);
        let full = message["full_message"].as_str();
        let says = full.is_some_and(|full| full.contains("siemgate_shortened"));
        assert!(says || message["_shortened"] == "full_message", "{more}: {message}");
        assert_eq!(message["_user"], "CORP\\j\ndoe");
    }
}

#[tokio::test]
async fn a_null_byte_ends_a_message_of_a_connection_and_nothing_else_does() {
    let receiver = Receiver::tcp().await;
    let sink = built(&config(&receiver.url(), ""));
    let pieces: Vec<Piece> = [0, 3, 400].map(|files| alert(&sink, files).0).into();
    delivered(sink.sink.send(&pieces, now()).await);
    let came = until("three null bytes have come", async || {
        let came = receiver.came().concat();
        (came.iter().filter(|byte| **byte == 0).count() == 3).then_some(came)
    })
    .await;
    assert!(came.ends_with(b"\0") && !came.contains(&b'\n'));
    let messages: Vec<&[u8]> = came.split(|byte| *byte == 0).filter(|it| !it.is_empty()).collect();
    for (message, piece) in messages.iter().zip(&pieces) {
        assert_eq!([message, &b"\0"[..]].concat(), piece.bytes);
        serde_json::from_slice::<Value>(message).unwrap();
    }
    // Some inputs want lines.
    let lines = built(&config("tcp://h", "framing = \"lf\"\n"));
    assert!(alert(&lines, 1).0.bytes.ends_with(b"}\n"));
}

#[tokio::test]
async fn settings_that_mean_nothing_are_told() {
    for (url, more, words) in [
        ("tcp://h", "compression = \"gzip\"\n", "compression: is for udp:// only"),
        ("tls://h", "chunk_size = \"1KB\"\n", "chunk_size: is for udp:// only"),
        ("udp://h", "resend = \"1s\"\n", "resend: has no meaning for udp://"),
        ("udp://h", "chunk_size = \"100B\"\n", "chunk_size: must be 512B to 65507B"),
        ("udp://h", "max_bytes = \"1MiB\"\n", "max_bytes: must be 480B to 176KiB"),
    ] {
        let problems = build(&config(url, more)).err().map(told).unwrap_or_default();
        assert!(problems.contains(words), "{words} in {problems}");
    }
    let sink = built(&config("udp://127.0.0.1:1", ""));
    let (piece, _) = alert(&sink, 1);
    failed(sink.sink.send(&[piece], now()).await, Cause::Down);
}

/// Any sink with sockets writes it, and a file too.
#[tokio::test]
async fn the_format_is_there_for_other_sinks() {
    let (tcp, udp) = (Receiver::tcp().await, Receiver::udp().await);
    let mut gateway = Gateway::prepared(&format!(
        r#"[sources.superna]
type = "superna"
path = "/webhook"
[routes.all]
sinks = ["lines", "logs", "datagrams"]
format = "gelf"
[sinks.lines]
type = "tcp"
address = "{}"
framing = "nul"
[sinks.logs]
type = "syslog"
address = "{}"
[sinks.datagrams]
type = "udp"
address = "{}"
"#,
        tcp.url(),
        tcp.url(),
        udp.url()
    ));
    gateway.launch().await;
    let posted = gateway.post("/webhook?wait=30s", fixture("superna-critical-locked-out.json"));
    let id = posted.await.ids()[0].clone();
    let messages = [tcp.wait_for(2).await, udp.wait_for(1).await].concat();
    for message in &messages {
        let start = message.iter().position(|byte| *byte == b'{').unwrap();
        let message: Value = serde_json::from_slice(&message[start..]).unwrap();
        assert_eq!((&message["_event_id"], &message["version"]), (&json!(id), &json!("1.1")));
    }
    gateway.finish().await;
}
