//! What NATS and JetStream mean by their answers.
//!
//! Guarantees: pure. Facts: the acknowledgement and the numbers of errors come from nats-server's own
//! `errors.json`; what it writes behind `-ERR` from its client protocol.

use serde::Deserialize;

use crate::core::sink::{Cause, Fault};

/// The acknowledgement of one message.
#[derive(Debug, Default, Deserialize)]
pub struct Ack {
    /// The stream that has it.
    #[serde(default)]
    pub stream: String,
    /// Its place there; 0 where there is an error instead.
    #[serde(default)]
    pub seq: u64,
    /// It was there already.
    #[serde(default)]
    pub duplicate: bool,
    error: Option<Trouble>,
}

/// Why JetStream did not do something.
#[derive(Debug, Deserialize)]
pub struct Trouble {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    err_code: u16,
    #[serde(default)]
    description: String,
}

/// Numbers of errors that are not what their status says.
const TOO_LARGE: u16 = 10_054;
const OTHER_STREAM: u16 = 10_060;
const FULL: u16 = 10_077;
const NOT_ENABLED: [u16; 3] = [10_039, 10_076, 10_120];
const SEALED: u16 = 10_109;
const NO_ROOM: [u16; 4] = [10_002, 10_023, 10_028, 10_047];

/// What JetStream has answered to a message.
pub fn acknowledged(payload: &[u8], section: &str) -> Result<Ack, Fault> {
    let ack: Ack = serde_json::from_slice(payload).unwrap_or_default();
    match &ack.error {
        Some(trouble) => Err(troubled(trouble, section)),
        None if ack.seq > 0 && !ack.stream.is_empty() => Ok(ack),
        None => Err(Fault::new(
            Cause::Setup,
            format!(
                "something that is no stream answered for the subject; check {section}.subject, and that no other service listens there"
            ),
        )),
    }
}

/// What an error of JetStream means.
pub fn troubled(trouble: &Trouble, section: &str) -> Fault {
    let Trouble { code, err_code, .. } = *trouble;
    let description: String =
        trouble.description.chars().filter(|c| !c.is_control()).take(200).collect();
    let told = format!("JetStream says: {description} ({code}, {err_code})");
    let (cause, advice) = match err_code {
        TOO_LARGE => (Cause::TooLarge, format!("; lower {section}.max_bytes, or raise the stream's")),
        OTHER_STREAM => (Cause::Setup, format!("; check {section}.stream")),
        SEALED => (Cause::Setup, "; the stream takes nothing any more".to_owned()),
        FULL => (
            Cause::Busy,
            "; the stream is full and refuses what is new: raise its limits, or let it drop the old".to_owned(),
        ),
        _ if NO_ROOM.contains(&err_code) => (Cause::Busy, "; it has no room".to_owned()),
        _ if NOT_ENABLED.contains(&err_code) => {
            (Cause::Setup, format!("; enable JetStream for the account of {section}"))
        }
        _ => match code {
            401 | 403 | 404 => (Cause::Setup, format!("; check {section}")),
            503 => (Cause::Busy, String::new()),
            500.. => (Cause::Down, String::new()),
            _ => (Cause::Refused, String::new()),
        },
    };
    Fault::new(cause, told + &advice)
}

/// Nobody listens on the subject: no stream has it.
pub fn no_stream(section: &str) -> Fault {
    let note = format!(
        "no stream takes the subject; create one for it, or check {section}.subject (while a cluster chooses a leader it says the same)"
    );
    Fault::new(Cause::Setup, note)
}

/// What a server means by what it writes behind `-ERR`.
pub fn refused(text: &str, section: &str) -> Fault {
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    let low = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| low.contains(word));
    let (cause, advice) = if has(&["maximum payload"]) {
        (Cause::TooLarge, format!("; lower {section}.max_bytes"))
    } else if has(&["permissions violation for subscription"]) {
        (Cause::Setup, "; the user needs the permission to subscribe to _INBOX.>".to_owned())
    } else if has(&["permissions violation"]) {
        (Cause::Setup, format!("; the user needs the permission to publish on {section}.subject"))
    } else if has(&["authorization", "authentication expired", "revoked", "no auth"]) {
        (Cause::Setup, format!("; check user, password, token, nkey or credentials of {section}"))
    } else if has(&["tls required"]) {
        (Cause::Setup, format!("; write tls:// in {section}.servers"))
    } else if has(&["invalid subject", "unknown protocol", "parser error"]) {
        (Cause::Setup, format!("; check {section}.servers and {section}.subject"))
    } else {
        (Cause::Down, String::new())
    };
    Fault::new(cause, format!("the server says: {text}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_cause() {
        let error = |code: u16, err_code: u16| {
            format!(
                r#"{{"error":{{"code":{code},"err_code":{err_code},"description":"what\nit says"}},"stream":"S","seq":0}}"#
            )
        };
        for (code, err_code, cause) in [
            (503, 10_077, Cause::Busy),
            (503, 10_023, Cause::Busy),
            (400, 10_054, Cause::TooLarge),
            (400, 10_060, Cause::Setup),
            (503, 10_039, Cause::Setup),
            (500, 10_109, Cause::Setup),
            (500, 1, Cause::Down),
            (503, 1, Cause::Busy),
            (400, 1, Cause::Refused),
            (404, 10_059, Cause::Setup),
        ] {
            let fault = acknowledged(error(code, err_code).as_bytes(), "sinks.n").unwrap_err();
            assert_eq!(fault.cause, cause, "{err_code}: {fault:?}");
            assert!(fault.note.contains("whatit says"), "{fault:?}");
        }
        let ack = acknowledged(br#"{"stream":"S","seq":7,"duplicate":true}"#, "sinks.n").unwrap();
        assert!(ack.duplicate && ack.seq == 7 && ack.stream == "S");
        for odd in ["", "{}", "thank you", r#"{"stream":"S"}"#] {
            assert_eq!(acknowledged(odd.as_bytes(), "sinks.n").unwrap_err().cause, Cause::Setup);
        }
    }

    #[test]
    fn what_a_server_refuses_has_its_cause_and_says_where_to_look() {
        for (text, cause, words) in [
            ("'Authorization Violation'", Cause::Setup, "sinks.n"),
            ("'User Authentication Expired'", Cause::Setup, "sinks.n"),
            ("'Permissions Violation for Publish to \"a\"'", Cause::Setup, "sinks.n.subject"),
            ("'Permissions Violation for Subscription to \"_INBOX.x.*\"'", Cause::Setup, "_INBOX"),
            ("'Secure Connection - TLS Required'", Cause::Setup, "sinks.n.servers"),
            ("'Maximum Payload Violation'", Cause::TooLarge, "max_bytes"),
            ("'Stale Connection'", Cause::Down, "Stale"),
            ("'maximum connections exceeded'", Cause::Down, "maximum"),
            ("'Authentication Timeout'", Cause::Down, "Timeout"),
        ] {
            let fault = refused(text, "sinks.n");
            assert_eq!(fault.cause, cause, "{fault:?}");
            assert!(fault.note.contains(words), "{fault:?}");
        }
    }
}
