//! `siemgate run`: the gateway itself, until a signal.

use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::MakeWriterExt;

use super::{Exit, failed, plan};
use crate::app::{AppError, Gateway, Inherited, Plan};
use crate::core::config::JournalFormat;
use crate::core::recent::Recent;

pub(super) fn run(config: &Path) -> Exit {
    // Before there are threads, because it cleans the environment.
    let held = match Inherited::take() {
        Ok(held) => held,
        Err(error) => {
            failed(error);
            return Exit::Config;
        }
    };
    let plan = match plan(config) {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    let recent = Recent::default();
    journal(&plan, recent.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The gateway is a guest on the appliance: two threads, whatever the machine has.
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(plan, config, held, recent)),
        Err(error) => failed(error),
    }
}

/// The journal goes to standard error, where a supervisor expects it, and its newest lines to
/// `recent`.
fn journal(plan: &Plan, recent: Recent) {
    let filter = EnvFilter::try_from_env("SIEMGATE_LOG_LEVEL")
        .unwrap_or_else(|_| EnvFilter::new("info,actix_server=warn,actix_http=warn"));
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr.and(recent))
        .with_target(false);
    let ansi = super::coloured(&std::io::stderr());
    // Fails only if a journal exists already, which then serves.
    let _ = match plan.journal.format {
        JournalFormat::Text => base.with_ansi(ansi).try_init(),
        JournalFormat::Json => base.json().flatten_event(true).try_init(),
    };
}

async fn serve(plan: Plan, config: &Path, held: Inherited, recent: Recent) -> Exit {
    let stop = match stop_on_signal() {
        Ok(stop) => stop,
        Err(error) => return failed(error),
    };
    let gateway = match Gateway::start(plan, config.to_owned(), held, recent).await {
        Ok(gateway) => gateway,
        Err(error @ AppError::Unclaimed(_)) => {
            failed(error);
            return Exit::Config;
        }
        Err(error) => return failed(error),
    };
    match gateway.run(stop).await {
        Ok(()) => Exit::Ok,
        Err(error @ AppError::Poisoned) => {
            failed(error);
            Exit::Disk
        }
        Err(error) => failed(error),
    }
}

/// Cancelled by SIGTERM or Ctrl-C; a second signal ends the process at once.
fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    #[allow(clippy::disallowed_methods)] // lives as long as the process
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if token.is_cancelled() {
                eprintln!(
                    "stopped at once; what was accepted is in the log and will be delivered after the next start"
                );
                std::process::exit(130);
            }
            token.cancel();
        }
    });
    Ok(stop)
}
