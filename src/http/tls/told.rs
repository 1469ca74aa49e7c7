//! Why a handshake failed, and what to do about it.
//!
//! Guarantees: what the sender refuses (our certificate) is told apart from what we refuse; a clock
//! is named where it may be the cause. Pure: time comes in as `now`. Texts from certificates come cut
//! and printable from `core/certificate.rs`.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::Material;
use crate::core::Timestamp;
use crate::core::certificate::Certificate;
use crate::core::clock::words;

/// A certificate that is off by less than this may be good, and a clock wrong.
const CLOCK: i64 = 86_400;
/// Most names that are told.
const MOST_NAMES: usize = 8;

/// The metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// No TLS at all.
    Plain,
    /// No version or cipher in common.
    Protocol,
    /// The sender has no certificate, and needs one.
    NoCertificate,
    /// The sender's certificate is not accepted.
    Certificate,
    /// It has expired or is not valid yet.
    Validity,
    /// The sender does not accept ours.
    Distrust,
    Other,
}

impl Reason {
    pub const ALL: [Self; 7] = [
        Self::Plain,
        Self::Protocol,
        Self::NoCertificate,
        Self::Certificate,
        Self::Validity,
        Self::Distrust,
        Self::Other,
    ];

    pub fn as_str(self) -> &'static str {
        crate::core::metrics::TLS_FAILURES[self as usize]
    }
}

/// What `error` means, on a listener with this `material`. `refused` is the sender's certificate.
pub(super) fn failure(
    error: &Error,
    material: &Material,
    refused: Option<&Certificate>,
    now: Timestamp,
) -> (Reason, String) {
    match error {
        Error::NoCertificatesPresented => (
            Reason::NoCertificate,
            format!(
                "it shows no certificate and must: give it one from an authority in {}.client_ca_file, with its key",
                material.key
            ),
        ),
        Error::InvalidCertificate(why) => match refused {
            Some(certificate) => of_sender(why, certificate, material, now),
            None => (Reason::Certificate, format!("its certificate is not accepted ({why})")),
        },
        Error::PeerIncompatible(
            // What only TLS 1.2 has is missed before the version is looked at.
            PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => (
            Reason::Protocol,
            "it offers TLS 1.1 or older; 1.2 is needed: update it, or switch TLS 1.2 on there"
                .into(),
        ),
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => {
            (Reason::Protocol, format!("no common version or cipher ({error}): update it"))
        }
        Error::AlertReceived(alert) => of_ours(*alert, material, now),
        Error::InvalidMessage(_) => {
            (Reason::Protocol, format!("what it sends is no TLS ({error})"))
        }
        other => (Reason::Other, format!("the handshake failed: {other}")),
    }
}

/// We do not accept the sender's certificate.
fn of_sender(
    why: &CertificateError,
    certificate: &Certificate,
    material: &Material,
    now: Timestamp,
) -> (Reason, String) {
    use CertificateError as E;
    let Certificate { subject, issuer, from, until, .. } = certificate;
    let file = format!("{}.client_ca_file", material.key);
    match why {
        E::Expired | E::ExpiredContext { .. } => {
            let off = now.as_second() - until.as_second();
            let clock = if off <= CLOCK {
                format!("; or your clock is {} fast: compare it (NTP)", words(off))
            } else {
                String::new()
            };
            let text = format!(
                "its certificate (`{subject}`) expired {} ago by this machine's clock, at {until}: renew it there{clock}",
                words(off)
            );
            (Reason::Validity, text)
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            let off = words(from.as_second() - now.as_second());
            let text = format!(
                "its certificate (`{subject}`) is not valid before {from}: probably your clock is {off} slow, or the clock that made it was fast; compare them (NTP)"
            );
            (Reason::Validity, text)
        }
        E::UnknownIssuer if certificate.self_signed => (
            Reason::Certificate,
            format!(
                "its certificate (`{subject}`) is self-signed: give it one from an authority in {file}"
            ),
        ),
        E::UnknownIssuer => (
            Reason::Certificate,
            format!(
                "its certificate (`{subject}`) comes from `{issuer}`, which leads to no authority in {file}: add that authority there, or let the sender send the certificates between, too"
            ),
        ),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => (
            Reason::Certificate,
            format!(
                "its certificate (`{subject}`) is not for clients: get one for client authentication"
            ),
        ),
        _ => {
            (Reason::Certificate, format!("its certificate (`{subject}`) is not accepted ({why})"))
        }
    }
}

/// The sender says what it does not like, usually about our certificate.
fn of_ours(alert: AlertDescription, material: &Material, now: Timestamp) -> (Reason, String) {
    use AlertDescription as A;
    let Certificate { subject, issuer, from, until, names, self_signed, .. } =
        &material.certificate;
    let file = format!("{}.cert_file", material.key);
    match alert {
        A::UnknownCA
        | A::BadCertificate
        | A::CertificateUnknown
        | A::CertificateExpired
        | A::CertificateRevoked
        | A::UnsupportedCertificate
        | A::AccessDenied => {}
        A::ProtocolVersion | A::HandshakeFailure | A::InsufficientSecurity => {
            return (
                Reason::Protocol,
                format!("it finds no common version or cipher ({alert:?}): update it"),
            );
        }
        _ => return (Reason::Other, format!("it ends the handshake ({alert:?})")),
    }
    let text = if now > *until {
        format!(
            "it refuses the certificate of {file}, which expired {} ago, at {until}: renew it, then `siemgate reload`",
            words(now.as_second() - until.as_second())
        )
    } else if now < *from {
        format!(
            "it refuses the certificate of {file}, which is not valid before {from}, in {} by this machine's clock: set the clock (NTP)",
            words(from.as_second() - now.as_second())
        )
    } else if alert == A::CertificateExpired {
        format!(
            "it says that the certificate of {file} is not valid now; by this machine's clock ({now}) it is, from {from} to {until}: compare both clocks (NTP)"
        )
    } else {
        let shown: Vec<&str> = names.iter().take(MOST_NAMES).map(String::as_str).collect();
        let trust = match self_signed {
            true => "it is self-signed: give the sender this certificate to trust".to_owned(),
            false => format!("give the sender the authority `{issuer}` to trust"),
        };
        format!(
            "it does not trust the certificate of {file} (`{subject}`; {alert:?}): {trust}, and let it call this gateway by a name in it: {}",
            if shown.is_empty() { "it has none".to_owned() } else { shown.join(", ") }
        )
    };
    (Reason::Distrust, text)
}
