//! What asks for a reload: a change in the configuration folder, SIGHUP, or the end of a pin.
//!
//! Guarantees: a burst of changes (an editor's save, a copy) is one reload, within two seconds of the
//! first; files that are no layers ask for nothing. If the folder cannot be watched, that is said
//! once, and SIGHUP and the API still work.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use super::reload::Live;
use crate::core::config::is_layer;

/// Quiet time after which a burst of changes counts as over.
const QUIET: Duration = Duration::from_millis(300);
/// A burst is not waited out longer than this.
const BURST: Duration = Duration::from_millis(1_500);
/// How often the ends of pins are looked at. TLS itself looks at every handshake: what waits for this
/// is only a connection that is open.
const LOOK: Duration = Duration::from_secs(2);
/// The same after a reload that was refused, so that its problems are not told without pause.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The ways to ask for a reload, opened. From here on nothing that is asked is missed, and a SIGHUP
/// no longer ends the process.
pub(super) struct Asked {
    live: Arc<Live>,
    changed: Arc<Notify>,
    hangup: Signal,
    /// Dropping it ends the watch.
    _watcher: Option<RecommendedWatcher>,
}

impl Asked {
    pub fn listen(live: Arc<Live>) -> std::io::Result<Self> {
        let changed = Arc::new(Notify::new());
        let watcher = watch(&live.config, changed.clone()).map_err(|error| {
            tracing::warn!(folder = %live.config.display(), %error, "cannot watch the configuration; after a change send SIGHUP or POST /-/reload");
        });
        Ok(Self { live, changed, hangup: signal(SignalKind::hangup())?, _watcher: watcher.ok() })
    }

    /// Reload whenever asked to, for ever.
    pub async fn reload(mut self) {
        let mut look = LOOK;
        loop {
            tokio::select! {
                () = self.changed.notified() => settle(&self.changed).await,
                _ = self.hangup.recv() => {}
                () = tokio::time::sleep(look) => match self.live.pin_has_ended().await {
                    true => tracing::warn!("a pin has ended; its certificate is judged like any other"),
                    false => continue,
                },
            }
            // What came of it is in the journal and the metrics.
            look = if self.live.reload().await.is_ok() { LOOK } else { LOOK_AGAIN };
        }
    }
}

/// Wait until nothing has changed for a moment.
async fn settle(changed: &Notify) {
    let burst = async { while tokio::time::timeout(QUIET, changed.notified()).await.is_ok() {} };
    let _ = tokio::time::timeout(BURST, burst).await;
}

fn watch(folder: &Path, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let concerns_us = |event: &notify::Event| {
            !matches!(event.kind, EventKind::Access(_))
                && event.paths.iter().any(|path| is_read(path))
        };
        // An error means that events may have been missed: look.
        if event.as_ref().map_or(true, concerns_us) {
            changed.notify_one();
        }
    })?;
    watcher.watch(folder, RecursiveMode::Recursive)?;
    Ok(watcher)
}

/// Whether `path` is a file of the configuration or of its presets: other folders, such as that of
/// the test cases, change nothing.
fn is_read(path: &Path) -> bool {
    let is_layer = path.file_name().is_some_and(|name| is_layer(&name.to_string_lossy()));
    let beside = path.parent().and_then(Path::file_name);
    is_layer && beside.is_none_or(|folder| folder != "tests")
}
