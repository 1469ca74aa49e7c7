//! The default verdict: what a status means, before a kind looks closer.
//!
//! Guarantees: a pure function of the answer and the time; every status has exactly one cause, the
//! one in ARCHITECTURE.md's table; every note says what to do. A kind may be stricter than this,
//! never laxer: see `api.rs`.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use reqwest::Url;

use super::reply::Answer;
use super::{Advice, address};
use crate::core::Timestamp;
use crate::core::sink::{Cause, Fault, Reply};

/// A destination cannot send us to sleep for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// What `answer` means.
pub fn verdict(answer: &Answer, advice: &Advice, now: Timestamp) -> Result<Reply, Fault> {
    if (200..300).contains(&answer.status) && !is_page(&answer.body) {
        return Ok(answer.reply());
    }
    let wait = answer.header("retry-after").and_then(|text| retry_after(text, now));
    let cause = cause(answer.status, wait.is_some());
    let note = format!("{}: {}", answer.status, note(answer, cause, advice));
    Err(Fault::new(cause, note).with_reply(answer.reply()).with_wait(wait))
}

/// The cause of a status that is no success; a success gets here only with a proxy's page.
/// `wait` says whether the destination named a time to wait.
pub fn cause(status: u16, wait: bool) -> Cause {
    match status {
        425 | 429 => Cause::Busy,
        503 if wait => Cause::Busy,
        413 => Cause::TooLarge,
        401 | 403 | 404 | 405 | 407 | 410 | 501 | 508 => Cause::Setup,
        408 | 500..=599 => Cause::Down,
        400..=499 => Cause::Refused,
        _ => Cause::Setup,
    }
}

fn note(answer: &Answer, cause: Cause, advice: &Advice) -> String {
    let Advice { section, credential } = advice;
    match (answer.status, cause) {
        (401, _) => {
            format!("the destination does not accept the credentials; check {section}.{credential}")
        }
        (403, _) => format!(
            "the credentials lack a permission, or a proxy forbids this; check {section}.{credential}"
        ),
        (404 | 410, _) => format!("nothing takes events at this address; check {section}.url"),
        (405 | 501, _) => {
            format!("this address does not take this kind of request; check {section}.url")
        }
        (508, _) => format!(
            "this destination leads back to where the events come from; check {section}.url"
        ),
        (407, _) => format!("the proxy wants a login; check {section}.proxy"),
        (300..=399, _) => format!(
            "the destination points elsewhere{}, and redirects are never followed; put the final address into {section}.url",
            elsewhere(answer)
        ),
        (200..=299, _) => format!(
            "a web page answered instead of the destination: a proxy, a login or a portal stands in between; check {section}.url and {section}.proxy"
        ),
        (_, Cause::Busy) => "the destination asks to slow down".into(),
        (_, Cause::Down) => "the destination is in trouble".into(),
        (_, Cause::TooLarge) => "too large for the destination".into(),
        (_, Cause::Refused) => "the destination refuses these bytes; its reply says why".into(),
        (_, Cause::Setup) => format!("not an answer of this protocol; check {section}.url"),
    }
}

/// Where a redirect points, by scheme and host: its path may be as secret as ours.
fn elsewhere(answer: &Answer) -> String {
    let to = answer.header("location").and_then(|text| Url::parse(text).ok());
    to.map(|url| format!(" ({})", address::shown(&url))).unwrap_or_default()
}

/// Whether a body is a web page. By its bytes: plenty of honest endpoints label "ok" as HTML.
fn is_page(body: &[u8]) -> bool {
    let start = body.trim_ascii_start();
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|tag| start.get(..tag.len()).is_some_and(|head| head.eq_ignore_ascii_case(tag)))
}

/// The wait that a `Retry-After` asks for: seconds, or a date in one of HTTP's three forms.
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<f64>() {
        // Some products send fractions, although RFC 9110 has whole seconds only.
        Ok(seconds) => {
            let longest = LONGEST_WAIT.as_secs_f64();
            // Unlike `min`, `clamp` lets NaN through, to be refused here.
            Duration::try_from_secs_f64(seconds.clamp(f64::NEG_INFINITY, longest)).ok()?
        }
        Err(_) => until(http_date(text)?, now),
    };
    Some(wait.min(LONGEST_WAIT))
}

fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

fn http_date(text: &str) -> Option<Timestamp> {
    if let Ok(date) = rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text) {
        return Some(date);
    }
    // RFC 9110 section 5.6.7: recipients must also take the two obsolete forms.
    let forms = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let date = forms.iter().find_map(|form| DateTime::strptime(form, text).ok())?;
    TimeZone::UTC.to_timestamp(date).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "1994-11-06T08:49:00Z".parse().unwrap()
    }

    #[test]
    fn every_form_of_retry_after() {
        let seconds = |text| retry_after(text, now()).map(|wait| wait.as_secs_f64());
        assert_eq!(seconds("0"), Some(0.0));
        assert_eq!(seconds(" 120 "), Some(120.0));
        assert_eq!(seconds("1.5"), Some(1.5));
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(seconds(date), Some(37.0), "{date}");
        }
        assert_eq!(seconds("Sat, 05 Nov 1994 08:49:37 GMT"), Some(0.0), "the past");
        for cut in ["86400", "1e300", "inf", "Sun, 06 Nov 2094 08:49:37 GMT"] {
            assert_eq!(seconds(cut), Some(3_600.0), "{cut}");
        }
        for bad in ["", "-1", "soon", "NaN", "-inf", "Sun, 06 Nov"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn pages_are_known_by_their_beginning() {
        for page in ["<!DOCTYPE html><p>", " \r\n<HTML lang=en>", "\u{feff}<html>"] {
            assert!(is_page(page.as_bytes()), "{page}");
        }
        for body in ["", "ok", "{}", "<xml/>", "{\"a\":\"<html>\"}"] {
            assert!(!is_page(body.as_bytes()), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics_or_waits_too_long(text in "\\PC{0,40}") {
            prop_assert!(retry_after(&text, now()).is_none_or(|wait| wait <= LONGEST_WAIT));
        }
    }
}
