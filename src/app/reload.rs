//! Reload: another configuration for a running gateway.
//!
//! Guarantees: everything is read, checked and built before anything changes, and what cannot be
//! used changes nothing; a sink whose section, secrets and files are the same is not touched; a
//! new sink's cursor is stored before the rules that name it are in force; a changed sink goes on
//! from its mark; a removed one goes on by the old rules up to the moment of the change, for two
//! seconds at most, and what it has not delivered by then stays with its cursor; never two workers
//! for one name. Listeners, logs and workers' threads stay as they are: a change of those needs a
//! restart, and is reported.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use actix_web::web::Data;
use arc_swap::ArcSwap;
use futures_util::future::{join, join_all};
use serde::Serialize;
use tokio::sync::Mutex;

use super::alarms::Watched;
use super::explain::Explainer;
use super::plan::{Plan, SinkPlan};
use super::systemd;
use super::workers::{Workers, spec};
use crate::core::Timestamp;
use crate::core::config::{
    LogSettings, Problem, Problems, QuarantineSettings, ReceiptSettings, ServerSettings,
};
use crate::core::delivery::{Delivery, Engine, Halt, Rules};
use crate::core::log::{LogError, Reader};
use crate::http::door::Doors;
use crate::http::ingress::Ingress;
use crate::http::tls::Tls;

/// How long a sink that leaves may finish. One that keeps up needs milliseconds; what one that lags
/// behind has not delivered stays with its cursor, and must not hold up the others.
const PARTING: Duration = Duration::from_secs(2);

/// What a reload can change.
pub(super) struct Live {
    pub config: PathBuf,
    pub engine: Arc<Engine>,
    pub workers: Arc<Workers>,
    pub ingress: Data<Ingress>,
    /// The TLS of the webhook listeners and of the admin listener.
    pub tls: [Option<Arc<Tls>>; 2],
    pub draining: Arc<AtomicBool>,
    /// Where workers live, wherever a reload is asked for.
    pub runtime: tokio::runtime::Handle,
    pub current: Mutex<Current>,
    /// Swapped together with the rules.
    pub explainer: ArcSwap<Explainer>,
    /// What the watcher goes by.
    pub watched: ArcSwap<Watched>,
    /// The first problem of the last reload, if it failed.
    pub failed: std::sync::Mutex<Option<Problem>>,
}

/// What is in force, as far as the next reload must know it.
pub(super) struct Current {
    hash: String,
    sinks: BTreeMap<Arc<str>, [u8; 32]>,
    /// When the first pin that was given by hand ends.
    pins_end: Option<Timestamp>,
    fixed: Fixed,
}

/// What only a restart changes.
#[derive(Clone, PartialEq)]
struct Fixed {
    listen: Vec<SocketAddr>,
    secure: Vec<SocketAddr>,
    admin: SocketAddr,
    admin_tls: bool,
    admin_socket: Option<PathBuf>,
    metrics: Option<SocketAddr>,
    workers: usize,
    bodies: u64,
    log: LogSettings,
    dead_letters: QuarantineSettings,
    quarantine: QuarantineSettings,
    receipts: ReceiptSettings,
}

impl Fixed {
    fn of(plan: &Plan) -> Self {
        let ServerSettings { admin, workers, bodies_in_flight, .. } = &plan.server;
        Self {
            listen: plan.server.plain().to_vec(),
            secure: plan.server.secure().to_vec(),
            admin: *admin,
            admin_tls: plan.admin_tls.is_some(),
            admin_socket: plan.admin_socket(),
            metrics: plan.server.metrics,
            workers: *workers,
            bodies: bodies_in_flight.0,
            log: plan.log.clone(),
            dead_letters: plan.dead_letters.clone(),
            quarantine: plan.quarantine.clone(),
            receipts: plan.receipts.clone(),
        }
    }

    /// Names of what differs.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let pairs = [
            ("server.listen", self.listen != other.listen),
            ("server.tls", self.secure != other.secure),
            ("server.admin", self.admin != other.admin),
            ("server.admin_tls", self.admin_tls != other.admin_tls),
            ("server.admin_socket", self.admin_socket != other.admin_socket),
            ("server.metrics", self.metrics != other.metrics),
            ("server.workers", self.workers != other.workers),
            ("server.bodies_in_flight", self.bodies != other.bodies),
            ("log", self.log != other.log),
            ("dead_letters", self.dead_letters != other.dead_letters),
            ("quarantine", self.quarantine != other.quarantine),
            ("receipts", self.receipts != other.receipts),
        ];
        pairs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }
}

impl Current {
    pub fn of(plan: &Plan) -> Self {
        let sinks = plan.sinks.iter().map(|sink| (sink.name.clone(), sink.fingerprint)).collect();
        let pins = plan.sinks.iter().flat_map(|sink| sink.pins.pins());
        let pins_end = pins.map(|pin| pin.until).min();
        Self { hash: plan.hash.clone(), sinks, pins_end, fixed: Fixed::of(plan) }
    }
}

/// What a reload did.
#[derive(Debug, Default, Serialize)]
pub struct Change {
    /// Fingerprint of the configuration now in force.
    pub config: String,
    /// Sinks that are new.
    pub added: Vec<Arc<str>>,
    /// Sinks that were built anew and go on from their mark.
    pub changed: Vec<Arc<str>>,
    /// Sinks that were removed; their cursors are kept.
    pub removed: Vec<Arc<str>>,
    /// Sinks that were not touched.
    pub kept: usize,
    /// Settings that differ but take effect at the next start only.
    pub needs_restart: Vec<&'static str>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
    /// Sorts of events that do not all reach a sink.
    pub coverage: Vec<String>,
}

impl Live {
    /// Whether a pin has ended that is still built into a sink, perhaps with a connection open.
    pub async fn pin_has_ended(&self) -> bool {
        self.current.lock().await.pins_end.is_some_and(|end| end <= Timestamp::now())
    }

    /// Read the configuration again and put it into force, or say why not.
    pub async fn reload(&self) -> Result<Change, Problems> {
        let mut current = self.current.lock().await;
        if self.draining.load(Ordering::Relaxed) {
            return Err(vec![Problem::new("", "the gateway is stopping")]);
        }
        systemd::reloading();
        let done = self.try_reload(&mut current).await;
        if !self.draining.load(Ordering::Relaxed) {
            systemd::ready(match &done {
                Ok(_) => "reloaded",
                Err(_) => "the configuration could not be reloaded; the last good one is in force",
            });
            let problem = done.as_ref().err().and_then(|problems| problems.first().cloned());
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        }
        match &done {
            Ok(change) => tracing::info!(
                config = %change.config, added = ?change.added, changed = ?change.changed,
                removed = ?change.removed, kept = change.kept,
                needs_restart = ?change.needs_restart, "reloaded"
            ),
            Err(problems) => {
                self.engine.metrics.not_configured();
                for problem in problems {
                    tracing::error!("configuration not reloaded: {problem}");
                }
            }
        }
        done
    }

    /// What was wrong with the configuration at the last reload, if it is not in force.
    pub fn failed_reload(&self) -> Option<Problem> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn try_reload(&self, current: &mut Current) -> Result<Change, Problems> {
        let config = self.config.clone();
        let plan = tokio::task::spawn_blocking(move || Plan::read(&config)).await;
        let plan = plan.map_err(|error| vec![Problem::new("", error.to_string())])??;
        self.apply(plan, current).await
    }

    async fn apply(&self, plan: Plan, current: &mut Current) -> Result<Change, Problems> {
        let next = Current::of(&plan);
        let mut change = compare(current, &next);
        change.needs_restart = current.fixed.differences(&next.fixed);
        change.warnings = plan.warnings.iter().map(ToString::to_string).collect();
        change.coverage = plan.coverage.iter().map(ToString::to_string).collect();
        let readers = self.open_new(&plan.sinks, &change.added).await?;
        // From here on nothing can fail.
        super::announce(&plan, &self.engine);
        let old = self.engine.rules.load_full();
        let pinned = Halt { rules: old, until: None, at_once: false };
        self.halt(&change.changed, &Halt { at_once: true, ..pinned.clone() });
        self.halt(&change.removed, &pinned);
        self.engine
            .rules
            .store(Arc::new(Rules { select: plan.table.clone(), shape: plan.table.clone() }));
        let built = |name: &Arc<str>| change.added.contains(name) || change.changed.contains(name);
        let explainer = Explainer::of(&plan).keeping(&self.explainer.load(), |name| !built(name));
        self.explainer.store(Arc::new(explainer));
        self.watched.store(Arc::new(Watched::of(&plan)));
        let doors = plan.sources.iter().map(|source| source.door.clone()).collect();
        self.ingress.doors.store(Arc::new(Doors::new(doors)));
        self.ingress.heard.expect(super::expected(&plan.sources), Timestamp::now());
        self.ingress.settings.store(Arc::new(plan.server.clone()));
        for (tls, material) in self.tls.iter().zip([&plan.tls, &plan.admin_tls]) {
            if let (Some(tls), Some(material)) = (tls, material) {
                tls.replace(material.clone());
            }
        }
        let until = Some(self.engine.log.head().borrow().next);
        self.halt(&change.removed, &Halt { until, ..pinned });
        let lost = self.replace(plan, &change, readers).await;
        // What only a restart changes stays as it was.
        *current = Current { fixed: current.fixed.clone(), ..next };
        // A sink that could not be started counts as new the next time.
        current.sinks.retain(|name, _| !lost.contains(name));
        Ok(change)
    }

    /// The cursors of new sinks, stored before anything refers to them.
    async fn open_new(&self, sinks: &[SinkPlan], added: &[Arc<str>]) -> Result<Readers, Problems> {
        let mut readers = Readers::new();
        for sink in sinks.iter().filter(|sink| added.contains(&sink.name)) {
            let reader = self.engine.log.open(&sink.name, sink.start).await;
            let told = |error: LogError| {
                vec![Problem::new(
                    format!("sinks.{}", sink.name),
                    format!("cannot store its cursor: {error}"),
                )]
            };
            readers.insert(sink.name.clone(), reader.map_err(told)?);
        }
        Ok(readers)
    }

    fn halt(&self, sinks: &[Arc<str>], halt: &Halt) {
        for sink in sinks {
            self.workers.with(sink, |worker| worker.halt(halt.clone()));
        }
    }

    /// Start the new, replace the changed, end the removed; returns those that could not be started.
    async fn replace(&self, plan: Plan, change: &Change, mut readers: Readers) -> Vec<Arc<str>> {
        let (count, limit) = (plan.sinks.len(), plan.server.drain.0.min(PARTING));
        let mut changed = Vec::new();
        for sink in plan.sinks {
            if let Some(reader) = readers.remove(&sink.name) {
                let spec = spec(sink, count);
                let name = spec.name.clone();
                self.workers.add(name, Delivery::start_at(self.engine.clone(), spec, reader));
            } else if change.changed.contains(&sink.name) {
                changed.push(self.rebuild(sink, count, limit));
            }
        }
        let removed = change.removed.iter().map(|sink| self.remove(sink, limit));
        let (lost, _) = join(join_all(changed), join_all(removed)).await;
        lost.into_iter().flatten().collect()
    }

    async fn rebuild(&self, sink: SinkPlan, count: usize, limit: Duration) -> Option<Arc<str>> {
        let name = sink.name.clone();
        if let Some(worker) = self.workers.take(&name) {
            worker.finish(limit).await;
        }
        match Delivery::start(self.engine.clone(), spec(sink, count)).await {
            Ok(worker) => {
                self.workers.add(name, worker);
                None
            }
            Err(error) => {
                tracing::error!(sink = %name, %error, "the changed sink could not be started; its cursor is safe, reload again");
                Some(name)
            }
        }
    }

    async fn remove(&self, sink: &Arc<str>, limit: Duration) {
        if let Some(worker) = self.workers.take(sink) {
            worker.finish(limit).await;
        }
        if let Err(error) = self.engine.log.detach(sink).await {
            tracing::error!(%sink, %error, "the removed sink's cursor still holds the log");
        }
        let left =
            self.engine.log.stats().deliveries.into_iter().find(|(name, _)| **name == **sink);
        let queued = left
            .map_or(0, |(_, standing)| self.engine.log.head().borrow().next.since(standing.mark));
        self.engine.metrics.forget_sink(sink);
        tracing::warn!(%sink, behind = queued, "removed; its cursor is kept and it goes on from there if it comes back");
    }
}

type Readers = BTreeMap<Arc<str>, Box<dyn Reader>>;

fn compare(old: &Current, new: &Current) -> Change {
    let mut change = Change { config: new.hash.clone(), ..Change::default() };
    for (name, fingerprint) in &new.sinks {
        match old.sinks.get(name) {
            None => change.added.push(name.clone()),
            Some(known) if known != fingerprint => change.changed.push(name.clone()),
            Some(_) => change.kept += 1,
        }
    }
    change.removed =
        old.sinks.keys().filter(|name| !new.sinks.contains_key(*name)).cloned().collect();
    change
}
