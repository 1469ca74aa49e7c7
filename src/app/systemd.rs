//! What the service manager is told: ready, reloading, stopping, and alive as long as it is true.
//!
//! Guarantees: the watchdog hears from a gateway only after its log's commit thread has answered,
//! on the runtime that the deliveries need too: a gateway that cannot store or not deliver falls
//! silent, and is started again. A manager that does not listen holds nothing up: what it is told
//! goes out on a thread of its own. Without a service manager (`NOTIFY_SOCKET`) nothing happens.
//! It decides nothing.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::core::log::Log;

/// What stopping takes beyond the drain: the doors' last requests, cursors, logs.
const CLOSING: Duration = Duration::from_secs(20);

/// Most messages that wait for the manager; what comes then is dropped, as it is old when it arrives.
const WAITING: usize = 64;

/// The way to the thread that speaks; sending to the manager blocks while its queue is full.
static MANAGER: LazyLock<SyncSender<String>> = LazyLock::new(|| {
    let (queue, messages) = sync_channel(WAITING);
    let speaking = std::thread::Builder::new().name("systemd".into()).spawn(|| speak(messages));
    if let Err(error) = speaking {
        tracing::warn!(%error, "the service manager cannot be told anything");
    }
    queue
});

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
    let lines: Vec<String> = state.iter().map(ToString::to_string).collect();
    // Fails while the manager does not listen.
    let _ = MANAGER.try_send(lines.join("\n"));
}

/// Pass on what is told, as long as the process lives.
#[allow(clippy::needless_pass_by_value)] // it is this thread's
fn speak(messages: Receiver<String>) {
    while let Ok(message) = messages.recv() {
        if let Err(error) = sd_notify::notify(&[NotifyState::Custom(&message)]) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}
