//! The error codes of AWS: where they stand in an answer, and what they mean.
//!
//! Guarantees: a code goes before the status, because these services answer 400 to nearly everything;
//! a code that is not known keeps the status's verdict. Notes hold codes and no messages: a message
//! may repeat what was signed.

use serde_json::Value;

use super::super::http::Answer;
use crate::core::sink::{Cause, Fault};

/// Longest code that is believed to be one.
const CODE: usize = 80;

/// They ask to slow down.
const BUSY: [&str; 15] = [
    "Throttling",
    "Throttled",
    "ThrottledClient",
    "RequestThrottled",
    "RequestLimitExceeded",
    "TooManyRequests",
    "ProvisionedThroughputExceeded",
    "BandwidthLimitExceeded",
    "LimitExceeded",
    "OverLimit",
    "SlowDown",
    "KMSThrottling",
    "KmsThrottled",
    "PriorRequestNotComplete",
    "TransactionInProgress",
];
/// They are in trouble, or somebody else was writing.
const DOWN: [&str; 9] = [
    "Internal",
    "InternalFailure",
    "InternalError",
    "InternalServer",
    "InternalServerError",
    "ServiceUnavailable",
    "RequestTimeout",
    "OperationAborted",
    "ConditionalRequestConflict",
];
const TOO_LARGE: [&str; 6] = [
    "BatchRequestTooLong",
    "TooManyEntriesInBatchRequest",
    "EntityTooLarge",
    "RequestEntityTooLarge",
    "MaxMessageLengthExceeded",
    "MessageTooLong",
];
/// There is no such queue, topic, stream or bucket here.
const ABSENT: [&str; 11] = [
    "ResourceNotFound",
    "NotFound",
    "NonExistentQueue",
    "QueueDoesNotExist",
    "QueueDeletedRecently",
    "NoSuchBucket",
    "NoSuchEntity",
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraint",
    "EndpointDisabled",
];
/// The credentials, or what they may do.
const FORBIDDEN: [&str; 24] = [
    "AccessDenied",
    "AllAccessDisabled",
    "AuthFailure",
    "AuthorizationError",
    "NotAuthorized",
    "UnauthorizedOperation",
    "Unauthorized",
    "UnrecognizedClient",
    "InvalidAccess",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidSignature",
    "InvalidToken",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "OptInRequired",
    "SubscriptionRequired",
    "KMSAccessDenied",
    "KMSDisabled",
    "KMSInvalidState",
    "KMSNotFound",
    "KMSOptInRequired",
];
/// The credentials were good once.
const EXPIRED: [&str; 3] = ["ExpiredToken", "TokenRefreshRequired", "CredentialsExpired"];
/// The signature's time is not theirs.
const CLOCK: [&str; 3] = ["RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"];
/// The service does not know what it is asked.
const ELSEWHERE: [&str; 6] = [
    "UnknownOperation",
    "UnsupportedOperation",
    "InvalidAction",
    "InvalidAddress",
    "NoSuchVersion",
    "NotImplemented",
];

/// The code in an answer: of a JSON service, of one that writes XML, or in a header.
pub fn code(answer: &Answer) -> Option<String> {
    let text = String::from_utf8_lossy(&answer.body);
    let json: Option<Value> = serde_json::from_str(&text).ok();
    let named = |key: &str| Some(json.as_ref()?.get(key)?.as_str()?.to_owned());
    let code = (named("__type").or_else(|| named("code")).or_else(|| named("Code")))
        .or_else(|| answer.header("x-amzn-errortype").map(str::to_owned))
        .or_else(|| element(&text, "Code").map(str::to_owned))?;
    plain(&code)
}

/// The bare code: without the name space before it and the address behind it.
fn plain(code: &str) -> Option<String> {
    let code = code.rsplit('#').next()?.split([':', ';']).next()?.rsplit('.').next()?.trim();
    let code = code.strip_suffix("Exception").unwrap_or(code);
    let is_one = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let good = (1..=CODE).contains(&code.len()) && code.chars().all(is_one);
    good.then(|| code.to_owned())
}

/// The text of the first element called `name`.
pub fn element<'t>(xml: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// What `code` means; `None` where only the status tells.
pub fn cause(code: &str) -> Option<Cause> {
    let code = plain(code)?;
    let is = |list: &[&str]| list.contains(&code.as_str());
    if is(&BUSY) {
        Some(Cause::Busy)
    } else if is(&DOWN) {
        Some(Cause::Down)
    } else if is(&TOO_LARGE) {
        Some(Cause::TooLarge)
    } else if [&ABSENT[..], &FORBIDDEN, &EXPIRED, &CLOCK, &ELSEWHERE].iter().any(|list| is(list)) {
        Some(Cause::Setup)
    } else {
        None
    }
}

/// What people are told of `code`.
pub fn meaning(code: &str, cause: Cause) -> &'static str {
    let is = |list: &[&str]| list.contains(&code);
    match cause {
        Cause::Busy => "AWS asks to slow down",
        Cause::Down => "AWS is in trouble",
        Cause::TooLarge => "too large for AWS",
        Cause::Refused => "AWS refuses these bytes; its reply says why",
        Cause::Setup if is(&ABSENT) => {
            "what is written to does not exist there; check its name and the region"
        }
        Cause::Setup if is(&EXPIRED) => {
            "the session token has run out; put new credentials in their place and reload"
        }
        Cause::Setup if is(&CLOCK) => {
            "the signature's time is not AWS's; set the clock of this machine"
        }
        Cause::Setup if is(&ELSEWHERE) => "this address does not take this request; check url",
        Cause::Setup => {
            "the credentials are not accepted or lack a permission; check access_key, secret_key and the policy"
        }
    }
}

/// The default verdict on a refusal, corrected by the code in it. `section` is where people look.
pub fn corrected(answer: &Answer, fault: Fault, section: &str) -> Fault {
    let Some(code) = code(answer) else { return fault };
    let Some(cause) = cause(&code) else {
        return Fault { note: format!("{} ({code})", fault.note), ..fault };
    };
    let note = format!("{} {code}: {}{}", answer.status, meaning(&code, cause), at(section));
    Fault { cause, note, ..fault }
}

fn at(section: &str) -> String {
    if section.is_empty() { String::new() } else { format!(" ({section})") }
}

/// What is wrong with one piece of several: `otherwise` where the code is not known.
pub fn of_piece(code: &str, why: &str, otherwise: Cause, section: &str) -> Fault {
    let code = plain(code).unwrap_or_else(|| "unknown".to_owned());
    let cause = cause(&code).unwrap_or(otherwise);
    let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    Fault::new(cause, format!("{code}: {}{}{why}", meaning(&code, cause), at(section)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use reqwest::header::{HeaderMap, HeaderValue};

    use super::*;

    fn answer(body: &str) -> Answer {
        let (headers, body) = (HeaderMap::new(), Bytes::from(body.to_owned()));
        Answer { status: 400, headers, body, excerpt: String::new() }
    }

    #[test]
    fn a_code_is_found_wherever_a_service_puts_it() {
        for (body, wanted) in [
            (
                r#"{"__type":"com.amazonaws.kinesis.v20131202#ProvisionedThroughputExceededException","message":"x"}"#,
                "ProvisionedThroughputExceeded",
            ),
            (r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist"}"#, "QueueDoesNotExist"),
            (r#"{"Code":"AWS.SimpleQueueService.NonExistentQueue"}"#, "NonExistentQueue"),
            (
                "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>m</Message></Error>",
                "SlowDown",
            ),
            (
                "<ErrorResponse><Error><Type>Sender</Type><Code>AuthorizationError</Code></Error></ErrorResponse>",
                "AuthorizationError",
            ),
        ] {
            assert_eq!(code(&answer(body)).as_deref(), Some(wanted), "{body}");
        }
        let mut named = answer("{\"message\":\"m\"}");
        let value = HeaderValue::from_static("AccessDeniedException:http://internal.amazon.com/x/");
        named.headers.insert("x-amzn-errortype", value);
        assert_eq!(code(&named).as_deref(), Some("AccessDenied"));
        for none in ["", "{}", "[]", "{\"__type\":1}", "<Code>a b</Code>", "<Code>"] {
            assert_eq!(code(&answer(none)), None, "{none}");
        }
    }

    #[test]
    fn codes_have_their_causes() {
        for (code, wanted) in [
            ("ThrottlingException", Some(Cause::Busy)),
            ("LimitExceededException", Some(Cause::Busy)),
            ("InternalException", Some(Cause::Down)),
            ("ServiceUnavailableException", Some(Cause::Down)),
            ("BatchRequestTooLong", Some(Cause::TooLarge)),
            ("AccessDeniedException", Some(Cause::Setup)),
            ("UnrecognizedClientException", Some(Cause::Setup)),
            ("InvalidAccessException", Some(Cause::Setup)),
            ("ResourceNotFoundException", Some(Cause::Setup)),
            ("ExpiredTokenException", Some(Cause::Setup)),
            ("KMSAccessDeniedException", Some(Cause::Setup)),
            ("ValidationException", None),
            ("InvalidParameterValue", None),
            ("SerializationException", None),
        ] {
            assert_eq!(cause(code), wanted, "{code}");
        }
        let expired = meaning("ExpiredToken", Cause::Setup);
        assert!(expired.contains("session token"), "{expired}");
    }

    #[test]
    fn no_code_is_in_two_lists() {
        let lists =
            [&BUSY[..], &DOWN, &TOO_LARGE, &ABSENT, &FORBIDDEN, &EXPIRED, &CLOCK, &ELSEWHERE];
        let mut all: Vec<&str> = lists.concat();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(all.iter().all(|code| plain(code).as_deref() == Some(code)));
    }

    proptest! {
        #[test]
        fn no_answer_panics_or_puts_text_into_a_note(body in "\\PC{0,80}") {
            if let Some(code) = code(&answer(&body)) {
                prop_assert!(code.len() <= CODE && code.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
            }
        }
    }
}
