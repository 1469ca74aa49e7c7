//! AWS Signature Version 4, for the services that take events.
//!
//! Guarantees: the signature covers method, path, query, the headers named in it and the body, as
//! they are sent; temporary credentials add their token. Checked against botocore's own signer
//! (`tests/it/sinks_auth.rs`).

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::super::http::Request;
use super::hex;
use super::hmac::mac;
use crate::core::Timestamp;

/// Credentials, and where they count.
pub struct Sigv4 {
    /// The service's signing name, such as `sqs`.
    pub service: String,
    /// The region.
    pub region: String,
    /// The access key's id.
    pub access_key: String,
    /// The secret access key.
    pub secret_key: SecretString,
    /// The session token of temporary credentials.
    pub session_token: Option<SecretString>,
}

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

impl Sigv4 {
    /// The headers that signing adds.
    pub fn headers(&self) -> Vec<HeaderName> {
        let mut names = vec![AUTHORIZATION, DATE, HASH];
        names.extend(self.session_token.as_ref().map(|_| TOKEN));
        names
    }

    /// Sign.
    pub fn sign(&self, request: &mut Request, now: Timestamp) {
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let hash = hex(&Sha256::digest(&request.body));
        put(request, DATE, &time, false);
        put(request, HASH, &hash, false);
        if let Some(token) = &self.session_token {
            put(request, TOKEN, token.expose_secret(), true);
        }
        let (names, headers) = signed_headers(request);
        let canonical = format!(
            "{}\n{}\n{}\n{headers}\n{names}\n{hash}",
            request.method,
            self.path(request),
            query(request)
        );
        let day = &time[..8];
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let digest = hex(&Sha256::digest(canonical));
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let signature = hex(&mac(&self.key(day), &[to_sign.as_bytes()]));
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.access_key
        );
        put(request, AUTHORIZATION, &value, true);
    }

    fn key(&self, day: &str) -> [u8; 32] {
        let secret = format!("AWS4{}", self.secret_key.expose_secret());
        let day = mac(secret.as_bytes(), &[day.as_bytes()]);
        let region = mac(&day, &[self.region.as_bytes()]);
        let service = mac(&region, &[self.service.as_bytes()]);
        mac(&service, &[b"aws4_request"])
    }

    /// S3 takes the path as it is sent; the others encode what is encoded once more.
    fn path(&self, request: &Request) -> String {
        let path = request.url.path();
        match self.service.as_str() {
            "s3" => path.to_owned(),
            _ => path.replace('%', "%25"),
        }
    }
}

fn put(request: &mut Request, name: HeaderName, value: &str, secret: bool) {
    if let Ok(mut value) = HeaderValue::from_str(value) {
        value.set_sensitive(secret);
        request.headers.insert(name, value);
    }
}

/// The names of the headers that are signed, and the lines with their values.
fn signed_headers(request: &Request) -> (String, String) {
    let host = match (request.url.host_str().unwrap_or_default(), request.url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let mut headers = vec![(HOST.to_string(), host)];
    for (name, value) in &request.headers {
        if *name == CONTENT_TYPE || name.as_str().starts_with("x-amz-") {
            let value = String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
            headers.push((name.to_string(), value));
        }
    }
    headers.sort();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let lines = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    (names.join(";"), lines)
}

/// The query, each pair encoded, in order of names and values.
fn query(request: &Request) -> String {
    let mut pairs: Vec<(String, String)> =
        request.url.query_pairs().map(|(name, value)| (encoded(&name), encoded(&value))).collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
