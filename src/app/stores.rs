//! The logs of a gateway: events, dead letters, quarantine, receipts.
//!
//! Guarantees: what recovery found is in the journal, once, with exact figures; damage never keeps
//! the gateway from starting, and no trouble with receipts does. It opens logs and does nothing else
//! with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{AppError, Plan, Stores};
use crate::core::Timestamp;
use crate::core::config::{Engine, QuarantineSettings};
use crate::core::letters::Letters;
use crate::core::log::{CursorsFound, FilesLog, Log, LogError, MemoryLog, Options, RecoveryReport};
use crate::core::metrics::Metrics;
use crate::core::receipts::{Receipt, Receipts};

/// A segment of the letters' logs holds the largest body that may be kept.
const LETTERS_SEGMENT: u64 = 64 << 20;

/// A segment of the receipts' log: what is read for one event is at least one.
const RECEIPTS_SEGMENT: u64 = 4 << 20;
/// What they may take without a disk.
const RECEIPTS_IN_MEMORY: u64 = 16 << 20;
/// How often the receipts' log stores its own marks: nobody has a cursor in it.
const RECEIPTS_MARKS: Duration = Duration::from_secs(10);

/// What a log without a disk may hold, whatever `max_bytes` says.
const IN_MEMORY: u64 = 256 << 20;

pub(super) async fn open(plan: &Plan, metrics: Arc<Metrics>) -> Result<Stores, AppError> {
    let events = blocking("the log", events_options(plan, metrics.clone())).await?;
    let dead = blocking("the dead letters' log", letters_options(plan, &plan.dead_letters, "dead"))
        .await?;
    let quarantine =
        blocking("the quarantine's log", letters_options(plan, &plan.quarantine, "quarantine"))
            .await?;
    let reading = |what| move |source| AppError::Log { what, source };
    Ok(Stores {
        events,
        dead: Arc::new(Letters::open(dead).await.map_err(reading("reading the dead letters"))?),
        quarantine: Arc::new(
            Letters::open(quarantine).await.map_err(reading("reading the quarantine"))?,
        ),
        receipts: Arc::new(receipts(plan, metrics).await),
    })
}

/// Receipts, or none where they cannot be kept: that is no reason not to deliver.
async fn receipts(plan: &Plan, metrics: Arc<Metrics>) -> Receipts {
    if !plan.receipts.enabled {
        return Receipts::default();
    }
    let Some(wanted) = receipts_options(plan) else {
        let most = plan.receipts.max_bytes.0.min(RECEIPTS_IN_MEMORY);
        return Receipts::kept_in(Arc::new(MemoryLog::new(most)), metrics);
    };
    match blocking("the receipts' log", Some(wanted)).await {
        Ok(log) => Receipts::kept_in(log, metrics),
        Err(error) => {
            tracing::error!(%error, "no receipts are kept until the next start: deliveries go on, but `siemgate events show` and `siemgate report` will not know of them");
            Receipts::default()
        }
    }
}

fn receipts_options(plan: &Plan) -> Wanted {
    let settings = &plan.receipts;
    let dir = settings.dir.clone().unwrap_or_else(|| plan.log.dir.with_file_name("receipts"));
    let options = Options {
        segment_bytes: RECEIPTS_SEGMENT,
        keep: settings.keep.0,
        max_bytes: settings.max_bytes.0,
        min_free: plan.log.min_free.0,
        index: Some(Receipt::marks),
        cursor_every: RECEIPTS_MARKS,
        ..Options::default()
    };
    (plan.log.engine == Engine::Files).then_some((dir, options))
}

/// Where a log is to be, or that it is to be in memory.
type Wanted = Option<(PathBuf, Options)>;

fn events_options(plan: &Plan, metrics: Arc<Metrics>) -> Wanted {
    let options = Options {
        segment_bytes: plan.log.segment_bytes.0,
        keep: plan.log.keep.0,
        max_bytes: plan.log.max_bytes.0,
        min_free: plan.log.min_free.0,
        when_full: plan.log.when_full,
        clock: Arc::new(Timestamp::now),
        observer: Arc::new(move |facts| metrics.committed(facts.events, facts.took)),
        ..Options::default()
    };
    (plan.log.engine == Engine::Files).then(|| (plan.log.dir.clone(), options))
}

fn letters_options(plan: &Plan, settings: &QuarantineSettings, name: &str) -> Wanted {
    let dir = settings.dir.clone().unwrap_or_else(|| plan.log.dir.with_file_name(name));
    let options = Options {
        segment_bytes: LETTERS_SEGMENT,
        keep: settings.keep.0,
        max_bytes: settings.max_bytes.0,
        min_free: 0,
        ..Options::default()
    };
    (plan.log.engine == Engine::Files).then_some((dir, options))
}

async fn blocking(what: &'static str, wanted: Wanted) -> Result<Arc<dyn Log>, AppError> {
    let Some((dir, options)) = wanted else { return Ok(Arc::new(MemoryLog::new(IN_MEMORY))) };
    let opened = tokio::task::spawn_blocking(move || {
        let (log, report) = FilesLog::open_dir(&dir, options)?;
        tell(what, &dir, &report);
        Ok::<Arc<dyn Log>, LogError>(log)
    });
    let opened = opened.await.unwrap_or(Err(LogError::Closed));
    opened.map_err(|source| AppError::Log { what, source })
}

/// What recovery found, and what to think of it.
fn tell(what: &str, dir: &Path, report: &RecoveryReport) {
    let dir = dir.display();
    let ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(%dir, events = report.events, segments = report.segments, ms, "opened {what}");
    if report.torn_bytes > 0 {
        tracing::info!(%dir, bytes = report.torn_bytes, "an unfinished write was dropped; its sender was never told that it was stored");
    }
    if report.damaged_bytes > 0 {
        tracing::error!(%dir, bytes = report.damaged_bytes, positions = ?report.damaged, files = ?report.set_aside, "damaged and set aside; everything else is served");
    }
    match report.cursors {
        CursorsFound::New | CursorsFound::Current | CursorsFound::Previous => {}
        CursorsFound::PreviousForDamaged => {
            tracing::warn!(%dir, "the cursors were damaged; the ones before are used, so some events will be delivered twice");
        }
        CursorsFound::Lost => {
            tracing::error!(%dir, "the cursors are lost; every sink begins again at the oldest event rather than miss one");
        }
    }
}
