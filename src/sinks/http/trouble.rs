//! Why there was no answer: connection, name, certificate or proxy.
//!
//! Guarantees: what only a change of the configuration (here or there) can cure is `Setup`, what
//! may pass by itself is `Down`; notes show scheme and host only. It does not look at replies.

use std::error::Error;
use std::io;

use rustls::CertificateError;

use super::Advice;
use super::reply::Masks;
use crate::core::sink::{Cause, Fault};

/// The fault of a request that got no complete answer from `place`.
pub fn fault(error: reqwest::Error, place: &str, advice: &Advice, masks: &Masks) -> Fault {
    let error = error.without_url();
    let section = &advice.section;
    let (cause, note) = match tls(&error) {
        Some(tls) => secured(tls, section),
        None => plain(&error, section),
    };
    Fault::new(cause, masks.clean(&format!("{place}: {note}")))
}

/// No TLS trouble: the proxy, the name, the connection or the time.
fn plain(error: &reqwest::Error, section: &str) -> (Cause, String) {
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
        (false, false) => format!("the connection broke: {roots}"),
    };
    (Cause::Down, what)
}

fn secured(error: &rustls::Error, section: &str) -> (Cause, String) {
    use rustls::Error as Tls;
    let note = match error {
        Tls::InvalidCertificate(why) => return (Cause::Setup, certificate(why, section)),
        Tls::AlertReceived(alert) => format!("it refuses the TLS handshake ({alert:?})"),
        Tls::PeerIncompatible(_) | Tls::NoApplicationProtocol => {
            format!("no common TLS version or cipher ({error})")
        }
        Tls::InvalidMessage(_) => {
            format!("it does not speak TLS on this port; check {section}.url")
        }
        other => return (Cause::Down, format!("the TLS connection broke: {other}")),
    };
    (Cause::Setup, note)
}

fn certificate(why: &CertificateError, section: &str) -> String {
    match why {
        CertificateError::UnknownIssuer => format!(
            "its certificate comes from an unknown authority; if that is yours (or an inspecting proxy's), name its PEM file in {section}.ca_file"
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is for another name; check the host in {section}.url")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired (or the clock of this machine is wrong)".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet (or the clock of this machine is wrong)".into()
        }
        other => format!("its certificate is not accepted ({other:?})"),
    }
}

/// The TLS error somewhere below.
fn tls<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// An error and all below it. An `io::Error` hides the error that it wraps from `source()`.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
        Some(error)
    })
}

/// The error's causes in one line, without the outermost (which only says that sending failed).
pub fn roots(error: &(dyn Error + 'static)) -> String {
    let mut told: Vec<String> = causes(error).skip(1).map(ToString::to_string).collect();
    told.dedup();
    match told.is_empty() {
        true => error.to_string(),
        false => told.join(": "),
    }
}
