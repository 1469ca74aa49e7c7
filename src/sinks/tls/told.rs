//! What TLS trouble means, and what to do about it.
//!
//! Guarantees: what only a change (here or there) can cure is `Setup`, what may pass by itself is
//! `Down`; what is a guess says "probably". Texts from certificates come cut and printable from
//! `core/certificate.rs`.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::Tls;
use super::clock;
use super::verify::{Refusal, Rule};
use crate::core::Timestamp;
use crate::core::certificate::Certificate;
use crate::core::clock::words;
use crate::core::sink::Cause;

/// Most names of a certificate that are told.
const MOST_NAMES: usize = 8;

impl Tls {
    pub(super) fn told(&self, error: &Error) -> (Cause, String) {
        let section = &self.section;
        let note = match error {
            Error::AlertReceived(AlertDescription::InternalError) => {
                return (Cause::Down, "its TLS has an internal error".into());
            }
            Error::AlertReceived(alert) => self.alert(*alert),
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => old(),
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => {
                format!("no common TLS version or cipher ({error})")
            }
            Error::InvalidMessage(_) => format!(
                "it does not speak TLS on this port; check {section}.{}: the port, or a form without TLS",
                self.address
            ),
            // Of the certificate itself it would be a refusal: this is the handshake's.
            Error::InvalidCertificate(CertificateError::BadSignature) => {
                "it cannot prove that it has the key of its certificate; whoever runs it must mend that, unless somebody stands in between".into()
            }
            Error::InvalidCertificate(why) => match Refusal::of(error) {
                Some(refusal) => self.refused(refusal, Timestamp::now()),
                None => format!("its certificate is not accepted ({why})"),
            },
            other => return (Cause::Down, self.broken(&other.to_string())),
        };
        (Cause::Setup, note)
    }

    /// A connection that ended without a reason. Some servers hang up on whom they do not know.
    pub fn broken(&self, how: &str) -> String {
        match self.identity.was_asked() && !self.identity.is_some() {
            true => format!(
                "the connection broke: {how}; it asks for a client certificate and {section}.client_cert_file is not set, which is probably why",
                section = self.section
            ),
            false => format!("the connection broke: {how}"),
        }
    }

    /// What the destination says is wrong with this side.
    fn alert(&self, alert: AlertDescription) -> String {
        use AlertDescription as A;
        let section = &self.section;
        let asked = self.identity.was_asked();
        match (alert, asked, self.identity.is_some()) {
            (A::ProtocolVersion, ..) => old(),
            (A::CertificateRequired, _, false)
            | (A::HandshakeFailure | A::BadCertificate | A::AccessDenied, true, false) => format!(
                "it demands a client certificate; get one from whoever runs it, and set {section}.client_cert_file and {section}.client_key_file"
            ),
            (
                A::CertificateRequired
                | A::HandshakeFailure
                | A::BadCertificate
                | A::UnsupportedCertificate
                | A::CertificateRevoked
                | A::CertificateExpired
                | A::CertificateUnknown
                | A::UnknownCA
                | A::AccessDenied
                | A::DecryptError,
                true,
                true,
            ) => format!(
                "it refuses the client certificate of {section}.client_cert_file: {}",
                self.own(alert, Timestamp::now())
            ),
            (A::UnrecognisedName, ..) => format!(
                "it does not know itself by that name; check the host in {section}.{}",
                self.address
            ),
            (A::HandshakeFailure | A::InsufficientSecurity, ..) => {
                "it refuses the TLS handshake: no common cipher, or it wants something else of this side; its own log may say what".into()
            }
            _ => format!("it refuses the TLS handshake ({alert:?}); its own log may say why"),
        }
    }

    fn own(&self, alert: AlertDescription, now: Timestamp) -> String {
        match (alert, self.identity.until()) {
            (_, Some(until)) if until < now => {
                format!("it expired {}; renew it", ago(until, now))
            }
            (AlertDescription::CertificateExpired, _) => {
                "it says that it has expired, which by this machine's clock it has not; compare both clocks".into()
            }
            (AlertDescription::UnknownCA, _) => {
                "it does not know the authority; the file must hold the certificates between too, after the client's own".into()
            }
            (AlertDescription::CertificateRevoked, _) => "it was revoked; get another".into(),
            _ => format!("{alert:?}; whoever runs it must allow this certificate"),
        }
    }

    fn refused(&self, refusal: &Refusal, now: Timestamp) -> String {
        use CertificateError as E;
        let section = &self.section;
        let certificate = refusal.certificate.as_ref();
        match &refusal.rule {
            Rule::Pins => format!(
                "its certificate is none of {section}.pins: it is {}; if that is meant, add it there",
                refusal.fingerprint
            ),
            Rule::Usual(E::NotValidForName | E::NotValidForNameContext { .. }) => format!(
                "its certificate is for another name: {}, not `{}`; check the host in {section}.{}",
                certificate.map(names).unwrap_or_default(),
                refusal.name,
                self.address
            ),
            Rule::Usual(
                E::Expired
                | E::ExpiredContext { .. }
                | E::NotValidYet
                | E::NotValidYetContext { .. },
            ) => match certificate {
                Some(certificate) => self.untimely(certificate, now, clock::other(now)),
                None => "its certificate is not valid at this time".into(),
            },
            Rule::Usual(why) => self.unknown(why, refusal),
        }
    }

    /// Not signed by anybody known, or not in a form that can be.
    fn unknown(&self, why: &CertificateError, refusal: &Refusal) -> String {
        let section = &self.section;
        let other_form = || format!("its certificate is not accepted ({why})");
        let Some(certificate) = &refusal.certificate else { return other_form() };
        if certificate.self_signed {
            // As an authority's own it could not be trusted through `ca_file` either.
            return format!(
                "its certificate (`{}`) is self-signed; make sure that it is the right one, and put \"{}\" into {section}.pins",
                certificate.subject, refusal.fingerprint
            );
        }
        let issuer = &certificate.issuer;
        match why {
            CertificateError::UnknownIssuer if self.own_authority => format!(
                "its certificate comes from `{issuer}`, which leads to no authority in {section}.ca_file{}",
                between(refusal)
            ),
            CertificateError::UnknownIssuer => format!(
                "its certificate comes from `{issuer}`, an unknown authority; if that is yours (or an inspecting proxy's), name its PEM file in {section}.ca_file{}",
                between(refusal)
            ),
            CertificateError::BadSignature => format!(
                "its certificate says that it comes from `{issuer}`, but was not signed with the key that is known of it; probably that authority was renewed: put its new certificate into {section}.ca_file"
            ),
            _ => other_form(),
        }
    }

    /// Expired, not valid yet, or this machine's clock is wrong. `other` is what others say it is.
    fn untimely(
        &self,
        certificate: &Certificate,
        now: Timestamp,
        other: Option<Timestamp>,
    ) -> String {
        let Certificate { from, until, .. } = certificate;
        let seconds = |a: Timestamp, b: Timestamp| a.as_second() - b.as_second();
        if let Some(there) = other.filter(|there| (from..=until).contains(&there)) {
            let off = seconds(there, now);
            return format!(
                "your clock is {} {} by what the last destination that answered says, and that is probably why its certificate ({from} to {until}) is not valid; set this machine's clock (NTP)",
                words(off),
                if off > 0 { "slow" } else { "fast" }
            );
        }
        if now < *from {
            return format!(
                "its certificate is not valid before {from}, in {} by this machine's clock; probably your clock is at least that slow: set it (NTP)",
                words(seconds(*from, now))
            );
        }
        let name = self.section.rsplit('.').next().unwrap_or_default();
        format!(
            "its certificate expired {}; whoever runs it must renew it (this machine's clock says {}: is that right?). `siemgate sinks pin {name} --until 4h` accepts it in the meantime",
            ago(*until, now),
            now.strftime("%F %R")
        )
    }
}

fn old() -> String {
    "it speaks no TLS version that can be used, probably TLS 1.1 or older; 1.2 is needed: update or configure it, or put a proxy with TLS 1.2 in front of it".into()
}

/// A chain that is not sent whole looks just like an unknown authority.
fn between(refusal: &Refusal) -> &'static str {
    match refusal.alone {
        true => "; or it does not send the certificates between, which whoever runs it must mend",
        false => "",
    }
}

fn names(certificate: &Certificate) -> String {
    let names = &certificate.names;
    match names.len() {
        0 => format!("none (`{}`; only subjectAltName counts)", certificate.subject),
        1..=MOST_NAMES => names.join(", "),
        more => format!("{} and {} more", names[..MOST_NAMES].join(", "), more - MOST_NAMES),
    }
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago, {then}", words(now.as_second() - then.as_second()))
}
