//! A certificate as people and rules see it: whose, from whom, for which names, until when.
//!
//! Guarantees: any bytes are read without panic, in bounded time, into bounded, printable facts, or
//! into none; a fingerprint is made of the bytes alone, whatever they are. It verifies nothing: that
//! is rustls' part, and no decision but a fingerprint's may rest on what is read here.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};

use super::Timestamp;

/// Longest text kept of a name.
const NAME_CHARS: usize = 200;
/// Most alternative names kept.
const MOST_NAMES: usize = 100;

/// The facts of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Of the whole certificate.
    pub fingerprint: Fingerprint,
    /// Of its public key (SubjectPublicKeyInfo): a renewal may keep it.
    pub key: Fingerprint,
    /// Whom it names, such as `CN=siem.example, O=Example`.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// Issued by the one it names, and signed with its own key.
    pub self_signed: bool,
    /// The hosts, addresses and other names that it is for.
    pub names: Vec<String>,
    /// Not valid before.
    pub from: Timestamp,
    /// Not valid after.
    pub until: Timestamp,
}

impl Certificate {
    /// Read the DER form of a certificate; `None` when it is none.
    pub fn read(der: &[u8]) -> Option<Self> {
        let mut outer = Der(der).part(SEQUENCE)?;
        let signed = outer.whole(SEQUENCE)?;
        let mut tbs = Der(signed).part(SEQUENCE)?;
        tbs.skip(0xa0);
        tbs.of(INTEGER)?;
        tbs.of(SEQUENCE)?;
        let issuer = tbs.of(SEQUENCE)?;
        let mut validity = tbs.part(SEQUENCE)?;
        let (from, until) = (validity.time()?, validity.time()?);
        let subject = tbs.of(SEQUENCE)?;
        let key = tbs.whole(SEQUENCE)?;
        let mut facts = Self {
            fingerprint: Fingerprint::of(der),
            key: Fingerprint::of(key),
            subject: distinguished(subject),
            issuer: distinguished(issuer),
            self_signed: issuer == subject && is_signed_with(key, signed, outer).unwrap_or(false),
            names: Vec::new(),
            from,
            until,
        };
        (0x81..=0x82).chain(0xa1..=0xa2).for_each(|unique_id| tbs.skip(unique_id));
        if let Some(extensions) = tbs.of(0xa3) {
            facts.extend(Der(extensions).part(SEQUENCE)?);
        }
        Some(facts)
    }

    fn extend(&mut self, mut extensions: Der<'_>) {
        while let Some(mut extension) = extensions.part(SEQUENCE) {
            let Some(oid) = extension.of(OID) else { continue };
            extension.skip(BOOLEAN);
            let Some(value) = extension.part(OCTETS).and_then(|mut der| der.part(SEQUENCE)) else {
                continue;
            };
            if oid == SUBJECT_ALT_NAME {
                self.names = names(value);
            }
        }
    }
}

/// Whether `key` made the signature in `rest` over `signed`.
fn is_signed_with(key: &[u8], signed: &[u8], mut rest: Der<'_>) -> Option<bool> {
    let mut key = Der(key).part(SEQUENCE)?;
    let (key_algorithm, key) = (key.of(SEQUENCE)?, key.of(BITS)?.get(1..)?);
    let (algorithm, signature) = (rest.of(SEQUENCE)?, rest.of(BITS)?.get(1..)?);
    let known = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    Some(known.iter().any(|known| {
        known.signature_alg_id().as_ref() == algorithm
            && known.public_key_alg_id().as_ref() == key_algorithm
            && known.verify_signature(key, signed, signature).is_ok()
    }))
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// What is left to read of a DER value.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// Tag, content and all bytes of the next value, which is taken.
    fn next(&mut self) -> Option<(u8, &'d [u8], &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        // Lengths of more than four bytes and tags of more than one have no place here.
        let count = usize::from(first & 0x7f) * usize::from(first >> 7);
        if tag & 0x1f == 0x1f || count > 4 || first == 0x80 {
            return None;
        }
        let (long, rest) = rest.split_at_checked(count)?;
        let length = match count {
            0 => usize::from(first),
            _ => long.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)),
        };
        let (content, left) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - left.len()];
        self.0 = left;
        Some((tag, content, whole))
    }

    /// The content of the next value if it has this tag; else nothing is taken.
    fn of(&mut self, wanted: u8) -> Option<&'d [u8]> {
        if self.0.first() != Some(&wanted) {
            return None;
        }
        self.next().map(|(_, content, _)| content)
    }

    /// The same, with its tag and length.
    fn whole(&mut self, wanted: u8) -> Option<&'d [u8]> {
        if self.0.first() != Some(&wanted) {
            return None;
        }
        self.next().map(|(_, _, whole)| whole)
    }

    /// The next value, to be read into, if it has this tag.
    fn part(&mut self, wanted: u8) -> Option<Der<'d>> {
        self.of(wanted).map(Der)
    }

    fn skip(&mut self, optional: u8) {
        self.of(optional);
    }

    /// UTCTime or GeneralizedTime, which certificates have in UTC and to the second.
    fn time(&mut self) -> Option<Timestamp> {
        let (tag, text, _) = self.next()?;
        let digits = std::str::from_utf8(text.strip_suffix(b"Z")?).ok()?;
        let digits = match (tag, digits.len()) {
            // Two digits of the year mean 1950 to 2049 (RFC 5280).
            (0x17, 12) if digits.as_bytes()[0] >= b'5' => format!("19{digits}"),
            (0x17, 12) => format!("20{digits}"),
            (0x18, 14) => digits.to_owned(),
            _ => return None,
        };
        let time = DateTime::strptime("%Y%m%d%H%M%S", digits).ok()?;
        TimeZone::UTC.to_timestamp(time).ok()
    }
}

/// A distinguished name in the usual short form, without attributes that nobody reads.
fn distinguished(name: &[u8]) -> String {
    let (mut name, mut parts) = (Der(name), Vec::new());
    while let Some(mut set) = name.part(SET) {
        while let Some(mut pair) = set.part(SEQUENCE) {
            let label = match pair.of(OID) {
                Some([0x55, 0x04, 0x03]) => "CN",
                Some([0x55, 0x04, 0x06]) => "C",
                Some([0x55, 0x04, 0x07]) => "L",
                Some([0x55, 0x04, 0x08]) => "ST",
                Some([0x55, 0x04, 0x0a]) => "O",
                Some([0x55, 0x04, 0x0b]) => "OU",
                _ => continue,
            };
            if let Some((tag, value, _)) = pair.next() {
                parts.push(format!("{label}={}", text(tag, value)));
            }
        }
    }
    // What most people look for stands at the end of most certificates.
    parts.sort_by_key(|part| !part.starts_with("CN="));
    match parts.is_empty() {
        true => "nobody".into(),
        false => cut(&parts.join(", ")),
    }
}

fn names(mut names: Der<'_>) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((tag, value, _)) = names.next() {
        match (tag, value.len()) {
            (0x81 | 0x82 | 0x86, _) => found.push(cut(&text(0x16, value))),
            (0x87, 4) => {
                found.extend(value.first_chunk().map(|ip| Ipv4Addr::from(*ip).to_string()))
            }
            (0x87, 16) => {
                found.extend(value.first_chunk().map(|ip| Ipv6Addr::from(*ip).to_string()));
            }
            _ => {}
        }
        if found.len() == MOST_NAMES {
            break;
        }
    }
    found
}

/// A string of a certificate: printable, and not to be taken for two.
fn text(tag: u8, value: &[u8]) -> String {
    let text = match tag {
        // BMPString: two bytes a character.
        0x1e => {
            let pairs = value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            String::from_utf16_lossy(&pairs.collect::<Vec<_>>()).into()
        }
        _ => String::from_utf8_lossy(value),
    };
    let plain = |c: char| if c.is_control() || c == ',' || c == '`' { '?' } else { c };
    text.chars().map(plain).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(NAME_CHARS).collect()
}

/// A SHA-256, written `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // openssl writes colons and upper case: taken as they are pasted.
        let hex: Option<Vec<u8>> = text.strip_prefix("sha256:").and_then(|digits| {
            let digits: Vec<char> = digits.chars().filter(|c| *c != ':').collect();
            let value = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            digits
                .chunks(2)
                .map(|pair| Some((value(pair[0])? << 4) | value(*pair.get(1)?)?))
                .collect()
        });
        let digest = hex.and_then(|hex| <[u8; 32]>::try_from(hex).ok());
        digest.map(Self).ok_or_else(|| {
            "must be `sha256:` and 64 hex digits, as `siemgate sinks pin NAME` shows them".into()
        })
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Fingerprint {
    fn schema_name() -> Cow<'static, str> {
        "Fingerprint".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "`sha256:` and 64 hex digits (colons between them do no harm).",
            "pattern": "^sha256:[0-9A-Fa-f:]+$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData, SanType};

    fn made() -> (Vec<u8>, Vec<u8>) {
        let names = vec!["siem.example".to_owned(), "*.siem.example".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.subject_alt_names.push(SanType::IpAddress("192.0.2.7".parse().unwrap()));
        params.subject_alt_names.push(SanType::IpAddress("2001:db8::7".parse().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example, CN=bank.example");
        params.distinguished_name.push(DnType::CommonName, "siem\n.example");
        params.not_before = rcgen::date_time_ymd(1999, 12, 31);
        params.not_after = rcgen::date_time_ymd(2061, 2, 3);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().der().to_vec(), key.subject_public_key_info())
    }

    #[test]
    fn the_facts_of_a_certificate_are_read() {
        let (der, key) = made();
        let read = Certificate::read(&der).unwrap();
        assert_eq!(read.subject, "CN=siem?.example, O=Example? CN=bank.example");
        assert_eq!(read.issuer, read.subject);
        assert!(read.self_signed);
        let names = ["siem.example", "*.siem.example", "192.0.2.7", "2001:db8::7"];
        assert_eq!(read.names, names);
        assert_eq!(read.from.to_string(), "1999-12-31T00:00:00Z");
        assert_eq!(read.until.to_string(), "2061-02-03T00:00:00Z");
        assert_eq!((read.fingerprint, read.key), (Fingerprint::of(&der), Fingerprint::of(&key)));
    }

    #[test]
    fn a_namesake_of_its_authority_is_not_self_signed() {
        let params = || CertificateParams::new(Vec::new()).unwrap();
        let (own, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let issuer = rcgen::Issuer::new(params(), own);
        let read = Certificate::read(params().signed_by(&key, &issuer).unwrap().der()).unwrap();
        assert_eq!(read.subject, read.issuer);
        assert!(!read.self_signed);
    }

    #[test]
    fn fingerprints_are_read_as_they_are_pasted() {
        let print = Fingerprint::of(b"x");
        let text = print.to_string();
        let pairs: Vec<&str> = (7..text.len()).step_by(2).map(|at| &text[at..at + 2]).collect();
        let pasted = format!("sha256:{}", pairs.join(":").to_uppercase());
        assert_eq!((text.parse(), pasted.parse()), (Ok(print), Ok(print)));
        for wrong in
            ["", "sha256:", &text[7..], &text[..70], &format!("{text}0"), &format!("{text}00")]
        {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Certificate::read(&bytes);
        }

        #[test]
        fn damaged_certificates_do_no_harm(
            at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
        ) {
            let (mut der, _) = made();
            let (at, cut) = (at.index(der.len()), cut.index(der.len()));
            prop_assert!(Certificate::read(&der[..cut]).is_none());
            der[at] = byte;
            if let Some(read) = Certificate::read(&der) {
                let texts = [&read.subject, &read.issuer].into_iter().chain(&read.names);
                for text in texts {
                    prop_assert!(text.chars().count() <= NAME_CHARS);
                    prop_assert!(!text.chars().any(char::is_control));
                }
            }
        }
    }
}
