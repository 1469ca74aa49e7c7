//! Why there was no answer: connection, name or proxy; `sinks/tls` says it of certificates.
//!
//! Guarantees: what only a change of the configuration (here or there) can cure is `Setup`, what
//! may pass by itself is `Down`; notes show scheme and host only. It does not look at replies.

use std::error::Error;

use super::Http;
use crate::core::sink::{Cause, Fault};
use crate::sinks::tls;

/// The fault of a request over `http` that got no complete answer from `place`.
pub fn fault(error: reqwest::Error, place: &str, http: &Http) -> Fault {
    let error = error.without_url();
    let fault = match (tls::find(&error), &http.tls) {
        (Some(error), Some(tls)) => tls.fault(error),
        _ => {
            let (cause, note) = plain(&error, &http.advice.section, http.tls.as_ref());
            Fault::new(cause, note)
        }
    };
    Fault { note: http.masks.clean(&format!("{place}: {}", fault.note)), ..fault }
}

/// No TLS trouble: the proxy, the name, the connection or the time.
fn plain(error: &reqwest::Error, section: &str, tls: Option<&tls::Tls>) -> (Cause, String) {
    let roots = roots(error);
    // hyper-util's tunnel errors are private: their words are the only way to tell.
    if roots.contains("proxy authorization required") {
        return (
            Cause::Setup,
            format!("the proxy wants a login; let it pass this machine, or change {section}.proxy"),
        );
    }
    if error.is_builder() {
        return (Cause::Setup, format!("the request cannot be built ({roots}); check {section}"));
    }
    let what = match (error.is_timeout(), error.is_connect()) {
        (true, true) => "no connection in time".to_owned(),
        (true, false) => "no answer in time".to_owned(),
        (false, true) => format!("cannot connect: {roots}"),
        (false, false) => match tls {
            Some(tls) => tls.broken(&roots),
            None => format!("the connection broke: {roots}"),
        },
    };
    (Cause::Down, what)
}

/// The error's causes in one line, without the outermost (which only says that sending failed).
pub fn roots(error: &(dyn Error + 'static)) -> String {
    let mut told: Vec<String> = tls::causes(error).skip(1).map(ToString::to_string).collect();
    told.dedup();
    match told.is_empty() {
        true => error.to_string(),
        false => told.join(": "),
    }
}
