//! Reading a request's body: decoded, bounded, and always to its end.
//!
//! Guarantees: never more than the limit in memory (twice the limit when the body goes to the
//! quarantine); what is in memory over all requests is paid for from one budget; a refused body is
//! drained, because a handler that leaves bytes unread makes the server close the connection. It
//! does not look at what it reads.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::{Decompress, Payload};
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::web::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
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
pub async fn read<S: Wire>(
    request: &HttpRequest,
    payload: &mut S,
    limit: usize,
    timeout: Duration,
    budget: &Budget,
) -> Result<Body, BodyError> {
    let reading = start(request, payload, limit, budget);
    let read = tokio::time::timeout(timeout, reading).await.unwrap_or(Err(BodyError::Late));
    if matches!(read, Err(BodyError::Broken(_) | BodyError::Busy)) {
        drain(payload).await;
    }
    read
}

async fn start<S: Wire>(
    request: &HttpRequest,
    payload: &mut S,
    limit: usize,
    budget: &Budget,
) -> Result<Body, BodyError> {
    if let Some(coding) = unsupported(request) {
        return Err(BodyError::Broken(format!(
            "Content-Encoding `{coding}` is not supported; use gzip or none"
        )));
    }
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let share = budget.take(announced.unwrap_or(UNIT).min(limit)).await;
    collect(request, payload, limit, share.ok_or(BodyError::Busy)?, budget).await
}

async fn collect<S: Wire>(
    request: &HttpRequest,
    payload: &mut S,
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
            share.merge(more.ok_or(BodyError::Busy)?);
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
pub async fn drain<S: Wire>(stream: &mut S) {
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

/// A body on its way in, as it was sent.
pub trait Wire: Stream<Item = Result<Bytes, PayloadError>> + Unpin {}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Wire for S {}

/// A body on its way in that shows every byte to somebody else, too.
pub struct Watched<F> {
    payload: Payload,
    shown: F,
}

impl<F: FnMut(&[u8])> Watched<F> {
    /// Show the bytes of `payload`, still compressed, to `shown`.
    pub fn new(payload: Payload, shown: F) -> Self {
        Self { payload, shown }
    }
}

impl<F: FnMut(&[u8]) + Unpin> Stream for Watched<F> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.payload).poll_next(task);
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            (self.shown)(bytes);
        }
        next
    }
}
