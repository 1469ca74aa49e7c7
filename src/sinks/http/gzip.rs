//! Compression of request bodies.
//!
//! Guarantees: pure; what is too small to gain by it stays as it is.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, HeaderValue};

use super::Request;

/// Smaller bodies are not worth compressing.
const SMALL: usize = 1_024;

/// Compress the body of `request`.
pub fn compress(request: &mut Request) {
    if request.body.len() < SMALL {
        return;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail.
    if encoder.write_all(&request.body).is_ok()
        && let Ok(bytes) = encoder.finish()
    {
        request.body = bytes.into();
        request.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
}
