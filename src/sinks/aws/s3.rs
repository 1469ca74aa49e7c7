//! Amazon S3 and stores that speak its protocol: every batch an object of lines.
//!
//! Guarantees: an object is written once and never over another (`If-None-Match: *`); its name is made
//! of the time of arrival and the ids in it, so a batch that is sent again finds itself there and is
//! delivered; no object is empty. After a restart the events of an unanswered batch may stand in two
//! objects, because they may be batched otherwise: each line is an event, and its id tells.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH,
};
use reqwest::{Method, Url};
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::http::{Address, Answer, Connection, Request, delivery_id};
use super::super::{Built, Kind, Proof, joined, line_within};
use super::{Account, Intake, Taken};
use crate::core::Timestamp;
use crate::core::config::{Problem, Problems, Section};
use crate::core::route::{Format, Shaped};
use crate::core::sink::{Class, Idempotency, Limits, Piece};
use crate::formats::Named;

/// S3 in the table of sinks.
pub const KIND: Kind = Kind {
    name: "s3",
    about: "Amazon S3 and stores that speak its protocol: NDJSON objects, by date",
    sample: r#"[sinks.s3]
type = "s3"
bucket = "superna-events"
region = "eu-central-1"
access_key = { file = "{{dir}}/key" }
secret_key = { file = "{{dir}}/key" }
url = "{{peer}}" # documents: # url = "…": for other stores; that of the region unless set
"#,
    class: Class::Archive,
    idempotency: Idempotency::Native,
    formats: true,
    proof: Proof::Documented,
    proves: "that the bucket has stored the object; the receipt shows its ETag. The key needs s3:PutObject on the \
             bucket, and kms:GenerateDataKey where a key of its own encrypts. \
             `aws s3 ls --recursive s3://BUCKET/siemgate/` shows it. Set delivery.batch.wait to gather events \
             into larger objects",
    success: (200, ""),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// Most events of an object.
const EVENTS: usize = 10_000;
/// Most bytes of an object before compression; it is held in memory.
const BYTES: usize = 16 << 20;
/// What stands in a path as it is; a signature of S3 wants the rest encoded, once.
const KEPT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// What a template may hold, with the form of the time that it stands for.
const TIMES: [(&str, &str); 5] = [
    ("{{year}}", "%Y"),
    ("{{month}}", "%m"),
    ("{{day}}", "%d"),
    ("{{hour}}", "%H"),
    ("{{time}}", "%Y%m%dT%H%M%S.%3fZ"),
];
/// Longest key, in bytes.
const LONGEST: usize = 1_024;

/// A bucket. Every batch becomes one object with an event on each line.
#[derive(Deserialize, JsonSchema)]
struct Settings {
    /// The bucket.
    bucket: String,
    /// The objects' names: `{{id}}` stands for the events in it, `{{year}}`, `{{month}}`, `{{day}}`,
    /// `{{hour}}` and `{{time}}` for when the first of them arrived, in UTC. Needs `{{id}}`.
    #[serde(default = "by_day")]
    key: String,
    /// Compress objects; their names then end in `.gz`.
    #[serde(default)]
    gzip: bool,
    /// Write objects only where there is none of that name, which is what recognises repeated ones.
    /// Off for stores that do not know `If-None-Match`.
    #[serde(default = "yes")]
    create_only: bool,
    /// How the bucket is to encrypt, where its own default is not enough: `AES256` or `aws:kms`.
    encryption: Option<Encryption>,
    /// The KMS key's id or ARN, with `aws:kms`.
    kms_key: Option<String>,
    /// How the event is written, unless its route says so.
    #[serde(default)]
    format: Named,
    #[serde(flatten)]
    account: Account,
    #[serde(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
enum Encryption {
    /// With keys of S3.
    #[serde(rename = "AES256")]
    Aes256,
    /// With a key of KMS.
    #[serde(rename = "aws:kms")]
    Kms,
}

fn by_day() -> String {
    "siemgate/{{year}}/{{month}}/{{day}}/{{time}}-{{id}}.ndjson".into()
}

fn yes() -> bool {
    true
}

struct S3 {
    /// Address of the bucket, without a slash at its end.
    bucket: String,
    url: Url,
    key: String,
    gzip: bool,
    headers: HeaderMap,
    format: &'static Format,
}

fn build(section: &Section) -> Result<Built, Problems> {
    let settings: Settings = super::read(section)?;
    let mut problems = settings.account.mistakes(section);
    problems.extend(settings.mistakes(section));
    let Some((to, bucket)) = settings.place() else { return Err(problems) };
    if !problems.is_empty() {
        return Err(problems);
    }
    let client = settings.account.open(section, &settings.connection, "s3", &to)?;
    let s3 = S3 {
        bucket,
        url: to.url().clone(),
        headers: settings.headers(),
        key: settings.key,
        gzip: settings.gzip,
        format: settings.format.0,
    };
    let limits = Limits {
        event_bytes: BYTES,
        batch_events: EVENTS,
        batch_bytes: BYTES,
        in_flight: 4,
        ordered: false,
    };
    Ok(super::built(section, client, s3, limits))
}

impl Settings {
    fn mistakes(&self, section: &Section) -> Problems {
        let key = |name: &str| format!("{}.{name}", section.key);
        let mut problems = Problems::new();
        let plain =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if !(3..=63).contains(&self.bucket.len()) || !self.bucket.chars().all(plain) {
            problems.push(Problem::new(key("bucket"), "is no bucket's name"));
        }
        if let Err(wrong) = check(&self.key) {
            let problem = Problem::new(key("key"), wrong);
            problems.push(problem.help(format!("such as {}", by_day())));
        }
        let kms = self.encryption == Some(Encryption::Kms);
        if self.kms_key.is_some() && !kms {
            let problem =
                Problem::new(key("kms_key"), "has no meaning without encryption = \"aws:kms\"");
            problems.push(problem);
        }
        if self.kms_key.as_deref().is_some_and(|key| HeaderValue::from_str(key).is_err()) {
            problems.push(Problem::new(key("kms_key"), "cannot stand in a header"));
        }
        problems
    }

    /// Where requests go, and the bucket's address: by its own host at AWS, else by its path.
    fn place(&self) -> Option<(Address, String)> {
        let (own, bucket) = (self.account.url.clone(), &self.bucket);
        // A certificate with one star covers no name with more dots.
        let by_path = own.is_some() || bucket.contains('.');
        let host = if by_path { "s3".to_owned() } else { format!("{bucket}.s3") };
        let to = own.or_else(|| self.account.regional(&host))?;
        let base = to.url().as_str().trim_end_matches('/').to_owned();
        let address = if by_path { format!("{base}/{bucket}") } else { base };
        Some((to, address))
    }

    fn headers(&self) -> HeaderMap {
        let named = HeaderName::from_static;
        let fixed = HeaderValue::from_static;
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, fixed("application/x-ndjson"))]);
        if self.create_only {
            headers.insert(IF_NONE_MATCH, fixed("*"));
        }
        if self.gzip {
            headers.insert(CONTENT_ENCODING, fixed("gzip"));
        }
        let how = self.encryption.map(|how| match how {
            Encryption::Aes256 => fixed("AES256"),
            Encryption::Kms => fixed("aws:kms"),
        });
        headers.extend(how.map(|how| (named("x-amz-server-side-encryption"), how)));
        let key = self.kms_key.as_deref().and_then(|key| HeaderValue::from_str(key).ok());
        let name = named("x-amz-server-side-encryption-aws-kms-key-id");
        headers.extend(key.map(|key| (name, key)));
        headers
    }
}

/// What is wrong with a template.
fn check(template: &str) -> Result<(), &'static str> {
    let bare =
        TIMES.iter().fold(template.replace("{{id}}", ""), |text, (name, _)| text.replace(name, ""));
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.=".contains(c);
    match () {
        () if !template.contains("{{id}}") => Err("needs {{id}}, or objects would have one name"),
        () if bare.contains(['{', '}']) => Err("has a placeholder that names nothing"),
        () if !bare.chars().all(plain) => Err("may hold letters, digits and / - _ . = only"),
        () if template.starts_with('/')
            || template.split('/').any(|part| part.is_empty() || part == "." || part == "..") =>
        {
            Err("has an empty part, `.` or `..`")
        }
        () if template.len() > LONGEST / 2 => Err("is too long"),
        () => Ok(()),
    }
}

impl S3 {
    /// The name of the object of `pieces`: the same whenever they are sent together.
    fn key(&self, pieces: &[Piece]) -> String {
        let first = pieces.first().map_or(0, |piece| piece.id.unix_ms());
        let first = i64::try_from(first).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let first = first.unwrap_or_default();
        let key = TIMES.iter().fold(self.key.clone(), |key, (name, form)| {
            key.replace(name, &first.strftime(form).to_string())
        });
        let key = key.replace("{{id}}", &delivery_id(pieces));
        if self.gzip { format!("{key}.gz") } else { key }
    }

    fn compressed(&self, body: Bytes) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        // Writing to memory does not fail.
        match encoder.write_all(&body).and_then(|()| encoder.finish()) {
            Ok(bytes) => bytes.into(),
            Err(_) => body,
        }
    }
}

impl Intake for S3 {
    fn encode(&self, event: &Shaped, room: usize) -> Option<Bytes> {
        let format = event.format.unwrap_or(self.format);
        line_within(&event.clone().in_format(Some(format)), room).ok()
    }

    fn request(&self, pieces: &[Piece], _: Option<Timestamp>) -> Request {
        let path = match pieces {
            [] => String::new(),
            pieces => utf8_percent_encode(&self.key(pieces), KEPT).to_string(),
        };
        // The bucket is an address and the key is plain.
        let url = format!("{}/{path}", self.bucket).parse().unwrap_or_else(|_| self.url.clone());
        let body = joined(pieces);
        let body = if self.gzip { self.compressed(body) } else { body };
        Request { method: Method::PUT, url, headers: self.headers.clone(), body }
    }

    fn taken(&self, answer: &Answer, pieces: &[Piece]) -> Option<Taken> {
        // A body is what another than a store answers to a PUT.
        let is_store = answer.header("etag").is_some() || answer.body.trim_ascii().is_empty();
        let id = answer.header("etag").map(str::to_owned);
        is_store.then(|| Taken { id, told: pieces.len(), ..Taken::default() })
    }

    fn is_there(&self, answer: &Answer) -> bool {
        answer.status == 412 && self.headers.contains_key(IF_NONE_MATCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_checked_before_anything_is_written() {
        for good in [
            &*by_day(),
            "{{id}}",
            "a=b/dt={{year}}-{{month}}-{{day}}/h{{hour}}/{{time}}_{{id}}.json",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "x.ndjson",
            "{{id}}{{ear}}",
            "a b/{{id}}",
            "/{{id}}",
            "a//{{id}}",
            "../{{id}}",
            "{{id}}{",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
