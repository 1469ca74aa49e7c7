//! The journal of one delivery: a line an event, and repeated faults only now and then.
//!
//! Guarantees: ids, counts and verdicts only: no user, address or file name, and no secret. A
//! fault that repeats is written at most once a minute, with the number left out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::batch::Item;
use crate::core::Timestamp;
use crate::core::event::Event;
use crate::core::sink::{Cause, Fault, Reply};

/// How often an unchanged fault is repeated.
const REPEAT: Duration = Duration::from_secs(60);

/// Writes what happens to one sink's events.
pub(super) struct Journal {
    sink: Arc<str>,
    last: Option<(Cause, Option<u16>, Instant)>,
    left_out: u64,
}

impl Journal {
    pub fn new(sink: Arc<str>) -> Self {
        Self { sink, last: None, left_out: 0 }
    }

    pub fn delivered(&self, item: &Item, reply: &Reply, now: Timestamp) {
        let finding = item.event.finding();
        let ms = now.duration_since(item.event.received).as_millis();
        info!(
            id = %item.event.id, sink = %self.sink, route = %item.route,
            severity = %finding.severity, state = finding.state.as_str(),
            status = reply.status, "successCount" = reply.accepted,
            attempt = item.attempts, ms = i64::try_from(ms).unwrap_or(i64::MAX),
            "delivered"
        );
    }

    /// A connection had ended, and what it may have lost went out again.
    pub fn resent(&self, reply: &Reply) {
        if let Some(resent) = reply.resent {
            info!(
                sink = %self.sink, resent,
                "sent again what a broken connection may have lost: the destination may have these events twice"
            );
        }
    }

    /// The guard kept it back; `reason` says why.
    pub fn held(&self, event: &Event, reason: &str) {
        let finding = event.finding();
        info!(
            id = %event.id, sink = %self.sink, severity = %finding.severity,
            state = finding.state.as_str(), reason, "held back"
        );
    }

    pub fn dead(&self, item: &Item, fault: &Fault) {
        let finding = item.event.finding();
        error!(
            id = %item.event.id, sink = %self.sink, route = %item.route,
            severity = %finding.severity, state = finding.state.as_str(),
            cause = fault.cause.as_str(), status = fault.reply.as_ref().and_then(|r| r.status),
            attempt = item.attempts, note = %fault.note,
            "dead letter: see `siemgate dead list`"
        );
    }

    /// A failed request: once a minute while nothing changes.
    pub fn failed(&mut self, fault: &Fault, events: usize, now: Instant) {
        let status = fault.reply.as_ref().and_then(|reply| reply.status);
        let repeats = self.last.is_some_and(|(cause, known, at)| {
            cause == fault.cause && known == status && now < at + REPEAT
        });
        if repeats {
            self.left_out += 1;
            return;
        }
        let left_out = std::mem::take(&mut self.left_out);
        self.last = Some((fault.cause, status, now));
        let (sink, cause, note) = (&self.sink, fault.cause.as_str(), &fault.note);
        if fault.cause == Cause::Setup {
            error!(%sink, cause, status, events, left_out, %note, "parked: nothing is lost, delivery resumes by itself when this is mended");
        } else {
            warn!(%sink, cause, status, events, left_out, %note, "not delivered, will be tried again");
        }
    }

    /// The destination takes events again after failures.
    pub fn recovered(&mut self) {
        if self.last.take().is_some() {
            let left_out = std::mem::take(&mut self.left_out);
            info!(sink = %self.sink, left_out, "delivering again");
        }
    }

    pub fn refusing(&self, count: usize, fault: &Fault) {
        error!(
            sink = %self.sink, refused = count, note = %fault.note,
            "parked: the destination refuses every event, which looks like a wrong setting; none was dead-lettered"
        );
    }

    pub fn letter_failed(&self, error: &dyn std::fmt::Display) {
        error!(sink = %self.sink, %error, "a dead letter could not be stored; the event stays queued");
    }
}
