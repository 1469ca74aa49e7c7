//! What the service manager is told: ready, reloading, stopping, and alive as long as it is true.
//!
//! Guarantees: the watchdog hears from a gateway only after its log's commit thread has answered,
//! on the runtime that the deliveries need too: a gateway that cannot store or not deliver falls
//! silent, and is started again. Without a service manager (`NOTIFY_SOCKET`) nothing happens. It
//! decides nothing.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::core::log::Log;

/// What stopping takes beyond the drain: the doors' last requests, cursors, logs.
const CLOSING: Duration = Duration::from_secs(20);

/// Webhooks are being accepted.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Another configuration is being read; `ready` must follow, whatever comes of it.
pub(super) fn reloading() {
    // Without the clock's reading newer managers take the message for a mistake.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now, NotifyState::Status("reloading")]),
        Err(error) => tracing::warn!(%error, "the monotonic clock cannot be read"),
    }
}

/// The gateway drains, for `drain` at most, and ends.
pub(super) fn stopping(drain: Duration) {
    let limit = u32::try_from((drain + CLOSING).as_micros()).unwrap_or(u32::MAX);
    let status = NotifyState::Status("draining: what is not delivered now stays in the log");
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(limit), status]);
}

/// Keep the watchdog quiet while the log is alive, for ever.
pub(super) async fn watchdog(log: Arc<dyn Log>) {
    // A third of the limit, so that one late answer is not the end.
    let Some(every) = sd_notify::watchdog_enabled().map(|limit| limit / 3) else { return };
    let mut beats = tokio::time::interval(every.max(Duration::from_millis(1)));
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        match tokio::time::timeout(every, log.alive()).await {
            Ok(Ok(())) => tell(&[NotifyState::Watchdog]),
            Ok(Err(error)) => tracing::error!(%error, "the watchdog is not told that all is well"),
            Err(_) => tracing::error!(
                after = ?every,
                "the log's commit thread does not answer; the watchdog is not told that all is well"
            ),
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
