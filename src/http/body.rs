//! Reading a request's body: decoded, bounded, and always to its end.
//!
//! Guarantees: never more than the limit in memory (twice the limit when the body goes to the
//! quarantine); what is in memory over all requests is paid for from one budget; a refused body is
//! drained, because a handler that leaves bytes unread makes the server close the connection. It
//! does not look at what it reads.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::{Decompress, Payload};
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::web::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most bytes that a refused sender may still send before the connection is closed.
const DRAIN: usize = 256 << 20;
/// How long a request waits for its share of the budget.
const PATIENCE: Duration = Duration::from_secs(5);
/// The budget is counted in pieces of this size.
const UNIT: usize = 64 << 10;

/// Bodies in memory, over all requests.
#[derive(Clone)]
pub struct Budget(Arc<Semaphore>);

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes).unwrap_or(usize::MAX) / UNIT;
        Self(Arc::new(Semaphore::new(units.clamp(1, Semaphore::MAX_PERMITS))))
    }

    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1);
        let waiting = self.0.clone().acquire_many_owned(units);
        tokio::time::timeout(PATIENCE, waiting).await.ok()?.ok()
    }
}

/// A whole body, and its share of the budget for as long as it lives.
pub struct Body {
    /// The decoded bytes.
    pub bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

/// Why there is no body.
pub enum BodyError {
    /// Larger than the limit. What was read of it, and whether that is all.
    TooLarge {
        /// The beginning, at most twice the limit.
        kept: Bytes,
        /// The end is missing.
        truncated: bool,
    },
    /// Broken compression or framing; the text says what.
    Broken(String),
    /// Too many bodies in memory.
    Busy,
    /// Not sent in time.
    Late,
}

/// Read the body of `request`, at most `limit` bytes after decoding.
pub async fn read(
    request: &HttpRequest,
    payload: Payload,
    limit: usize,
    timeout: Duration,
    budget: &Budget,
) -> Result<Body, BodyError> {
    if let Some(coding) = unsupported(request) {
        drain(payload).await;
        return Err(BodyError::Broken(format!(
            "Content-Encoding `{coding}` is not supported; use gzip or none"
        )));
    }
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let share = budget.take(announced.unwrap_or(UNIT).min(limit)).await;
    let Some(share) = share else {
        drain(payload).await;
        return Err(BodyError::Busy);
    };
    let reading = collect(request, payload, limit, share, budget);
    tokio::time::timeout(timeout, reading).await.unwrap_or(Err(BodyError::Late))
}

async fn collect(
    request: &HttpRequest,
    payload: Payload,
    limit: usize,
    mut share: OwnedSemaphorePermit,
    budget: &Budget,
) -> Result<Body, BodyError> {
    let mut stream = Decompress::from_headers(payload, request.headers());
    let (mut body, mut whole) = (BytesMut::new(), true);
    while let Some(chunk) = stream.next().await {
        let chunk =
            chunk.map_err(|error| BodyError::Broken(format!("the body broke off: {error}")))?;
        if !whole || body.len() + chunk.len() > 2 * limit {
            // Too large even for the quarantine: keep the beginning, read on to the end.
            whole = false;
            body.truncate(UNIT);
            continue;
        }
        if body.len() + chunk.len() > share.num_permits() * UNIT {
            let more = budget.take(chunk.len().max(UNIT)).await;
            let Some(more) = more else {
                drain_decoded(stream).await;
                return Err(BodyError::Busy);
            };
            share.merge(more);
        }
        body.extend_from_slice(&chunk);
    }
    if !whole || body.len() > limit {
        return Err(BodyError::TooLarge { kept: body.freeze(), truncated: !whole });
    }
    Ok(Body { bytes: body.freeze(), _share: share })
}

fn unsupported(request: &HttpRequest) -> Option<String> {
    let coding = request.headers().get(CONTENT_ENCODING)?;
    let coding = String::from_utf8_lossy(coding.as_bytes()).trim().to_ascii_lowercase();
    let known = matches!(coding.as_str(), "" | "identity" | "gzip" | "deflate");
    (!known).then_some(coding)
}

/// Read and forget what a refused sender still sends, up to a limit and for a while.
pub async fn drain(payload: Payload) {
    drain_decoded(payload).await;
}

async fn drain_decoded<S, E>(mut stream: S)
where
    S: futures_util::Stream<Item = Result<Bytes, E>> + Unpin,
{
    let reading = async {
        let mut left = DRAIN;
        while let Some(Ok(chunk)) = stream.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(30), reading).await;
}
