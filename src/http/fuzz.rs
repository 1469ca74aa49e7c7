//! Fuzzing what comes through the doors: bodies and signatures. No part of the program.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is what targets are for")]

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::auth::{Shown, Ways, verdict};
use super::split::{Malformed, split};
use crate::core::Timestamp;
use crate::core::fuzz::{SECRET, folder};

/// Most events of a body here.
const LIMIT: usize = 8;
/// Our time while signatures are checked.
const NOW: i64 = 1_767_578_584;

/// Pieces are the body's own bytes, in order, and JSON objects; they are what another reader of JSON
/// finds in the body.
pub(crate) fn body(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let found = split(&body, LIMIT);
    if let Ok(pieces) = &found {
        assert!((1..=LIMIT).contains(&pieces.len()));
        let mut at = body.as_ptr() as usize;
        for piece in pieces {
            let start = piece.as_ptr() as usize;
            assert!(start >= at && start + piece.len() <= body.as_ptr() as usize + body.len());
            at = start + piece.len();
            assert_eq!(piece.trim_ascii().first(), Some(&b'{'));
            serde_json::from_slice::<serde::de::IgnoredAny>(piece).expect("a piece is JSON");
        }
    }
    let values = serde_json::Deserializer::from_slice(data).into_iter::<Value>();
    // A stricter reader: what it cannot read says nothing.
    let Ok(values) = values.collect::<Result<Vec<_>, _>>() else { return };
    let values = match &values[..] {
        [Value::Array(items)] => items.clone(),
        _ => values,
    };
    let all_objects = !values.is_empty() && values.iter().all(Value::is_object);
    match found {
        Ok(pieces) => {
            let read: Vec<Value> =
                pieces.iter().map(|piece| serde_json::from_slice(piece).unwrap()).collect();
            assert_eq!(read, values);
        }
        Err(Malformed::TooMany { .. }) => assert!(values.len() > LIMIT),
        Err(_) => assert!(!all_objects, "a good body is refused"),
    }
}

/// How senders sign: a table of `auth`, and what is signed before and after the body.
fn schemes() -> [(Value, &'static str); 4] {
    let secret = json!({ "file": folder().join("key") });
    [
        (json!({ "standard_webhooks": secret }), "webhook-signature"),
        (
            json!({ "hmac": { "header": "X-Hub-Signature-256", "secret": secret } }),
            "x-hub-signature-256",
        ),
        (
            json!({ "hmac": { "header": "X-Sign", "secret": secret, "encoding": "base64", "prefix": "v0=",
            "timestamp_header": "X-Time", "signed": "v0:{timestamp}:{body}" } }),
            "x-sign",
        ),
        (
            json!({ "hmac": { "header": "X-Sign", "secret": secret, "timestamp_header": "X-Time",
            "tolerance": "60s", "signed": "{body}.{timestamp}" } }),
            "x-sign",
        ),
    ]
}

/// A request with a signature is believed only if that is what the secret makes of its bytes, at a
/// time that is near; what we sign is believed, and one flipped bit is not. The input is a scheme's
/// number, lines of headers, an empty line and a body.
pub(crate) fn signature(data: &[u8]) {
    let (first, rest) = data.split_first().unwrap_or((&0, &[]));
    let scheme = usize::from(*first) % 4;
    let (head, body) = match rest.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (&rest[..at], &rest[at + 2..]),
        None => (rest, &[][..]),
    };
    let (settings, place) = schemes()[scheme].clone();
    let ways = Ways::new("auth", vec![serde_json::from_value(settings).unwrap()]).unwrap();
    let headers = headers(head);
    if believed(&ways, &headers, body) {
        let value = headers.get(place).unwrap().to_str().unwrap();
        assert!(is_signed(scheme, &headers, body, value), "believed without a signature");
    }
    let signed = ways.credentials(body, "msg_1", now()).unwrap();
    let signed: Vec<String> =
        signed.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let signed = self::headers(signed.join("\n").as_bytes());
    assert!(believed(&ways, &signed, body));
    let mut other = body.to_vec();
    match other.get_mut(usize::from(*first) * 7 % body.len().max(1)) {
        Some(byte) => *byte ^= 1 << (first % 8),
        None => other.push(*first),
    }
    assert!(!believed(&ways, &signed, &other), "one flipped bit is believed");
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn headers(head: &[u8]) -> HeaderMap {
    let pair = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in head.split(|byte| *byte == b'\n').filter_map(pair) {
        headers.insert(name, value);
    }
    headers
}

fn believed(ways: &Ways, headers: &HeaderMap, body: &[u8]) -> bool {
    match ways.look(headers, &[], now()) {
        Shown::Enough => panic!("a header alone is no signature"),
        Shown::Nothing(_) => false,
        Shown::Signatures(mut checks) => {
            // Bodies come in pieces.
            let (one, two) = body.split_at(body.len() / 3);
            checks.iter_mut().for_each(|check| check.feed(one));
            checks.iter_mut().for_each(|check| check.feed(two));
            verdict(checks).is_ok()
        }
    }
}

/// Whether the secret's signature stands in `value`, and the time is near: said again, naively.
fn is_signed(scheme: usize, headers: &HeaderMap, body: &[u8], value: &str) -> bool {
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap().trim());
    let made = |key: &[u8], parts: &[&[u8]]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().to_vec()
    };
    let near = |time: &str, most: i64| {
        let seconds = time.parse::<i64>().unwrap();
        let seconds = if seconds >= 100_000_000_000 { seconds / 1_000 } else { seconds };
        (NOW - seconds).abs() <= most
    };
    let hex = |mac: &[u8]| mac.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let key = SECRET.as_bytes();
    match scheme {
        0 => {
            let (id, time) = (header("webhook-id"), header("webhook-timestamp"));
            let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
            let mac = made(&key, &[id.as_bytes(), b".", time.as_bytes(), b".", body]);
            near(time, 300) && value.contains(&format!("v1,{}", STANDARD_NO_PAD.encode(mac)))
        }
        1 => value.to_ascii_lowercase().contains(&hex(&made(key, &[body]))),
        2 => {
            let time = header("x-time");
            let mac = made(key, &[b"v0:", time.as_bytes(), b":", body]);
            near(time, 300) && value.starts_with(&format!("v0={}", STANDARD_NO_PAD.encode(mac)))
        }
        _ => {
            let time = header("x-time");
            let mac = made(key, &[body, b".", time.as_bytes()]);
            near(time, 60) && value.to_ascii_lowercase().contains(&hex(&mac))
        }
    }
}
