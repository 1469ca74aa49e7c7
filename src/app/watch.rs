//! What asks for a reload: a change in the configuration folder, or SIGHUP.
//!
//! Guarantees: a burst of changes (an editor's save, a copy) is one reload, within a second of the
//! last of them and two of the first; files that are no layers ask for nothing. If the folder cannot be watched, that is
//! said once, and SIGHUP and the API still work.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::reload::Live;
use crate::core::config::is_layer;

/// Quiet time after which a burst of changes counts as over.
const QUIET: Duration = Duration::from_millis(300);
/// A burst is not waited out longer than this.
const BURST: Duration = Duration::from_millis(1_500);

/// Reload whenever asked to, for ever.
pub(super) async fn reload_when_asked(live: Arc<Live>) {
    let changed = Arc::new(Notify::new());
    // Dropping it ends the watch.
    let watcher = watch(&live.config, changed.clone());
    if let Err(error) = &watcher {
        tracing::warn!(folder = %live.config.display(), %error, "cannot watch the configuration; after a change send SIGHUP or POST /-/reload");
    }
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => return tracing::warn!(%error, "cannot listen for SIGHUP"),
    };
    loop {
        tokio::select! {
            () = changed.notified() => settle(&changed).await,
            _ = hangup.recv() => {}
        }
        // What came of it is in the journal and the metrics.
        let _ = live.reload().await;
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
            let names = event.paths.iter().filter_map(|path| path.file_name());
            !matches!(event.kind, EventKind::Access(_))
                && names.into_iter().any(|name| is_layer(&name.to_string_lossy()))
        };
        // An error means that events may have been missed: look.
        if event.as_ref().map_or(true, concerns_us) {
            changed.notify_one();
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
