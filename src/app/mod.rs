//! The composition root: the only place that knows every folder. Builds, starts and drains.
//!
//! Guarantees: the order of starting (logs, cursors, workers, then the doors) means that nothing is
//! accepted before it can be kept and delivered; the order of stopping (drain with the door open,
//! then the doors, then the cursors, then the logs) means that a restart loses nothing. It contains
//! no rule of its own.

mod alarms;
pub mod cases;
mod effective;
mod explain;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod plan;
mod reload;
mod schema;
mod secrets;
mod stores;
mod systemd;
mod watch;
mod workers;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::web::Data;
use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use effective::{Setting, effective};
pub use explain::{Explainer, Explanation, Sent};
pub use plan::{Plan, SinkPlan, SourcePlan, Whereabouts};
pub use reload::Change;
pub use schema::schema;
pub use secrets::{SecretUse, secrets};

use self::alarms::{Watched, Watcher};
use self::reload::{Current, Live};
use self::workers::Workers;
use crate::core::Timestamp;
use crate::core::alarms::INTERNAL;
use crate::core::config::Problem;
use crate::core::delivery::{Delivery, Engine, Extra, Fates, Lookout, Rules};
use crate::core::duplicates::Duplicates;
use crate::core::event::Event;
use crate::core::heard::Heard;
use crate::core::letters::Letters;
use crate::core::log::LogError;
use crate::core::metrics::Metrics;
use crate::core::recent::Recent;
use crate::core::replays::Replays;
use crate::http::Listeners;
use crate::http::admin::Admin;
use crate::http::body::Budget;
use crate::http::door::Doors;
use crate::http::ingress::Ingress;
pub use crate::http::listen::Inherited;
use crate::http::listen::listen;
use crate::http::tls::Tls;
use crate::{core, http};

/// Largest body that is offered from memory when the log cannot take it. Each worker holds at most a
/// thousand of them, so that a sender that repeats itself cannot fill the memory.
const SPILL_BYTES: usize = 64 << 10;
/// How long connections that were accepted last have to reach a thread that serves them.
const HANDOVER: Duration = Duration::from_millis(50);
/// How long the watcher's last look may take.
const LAST_LOOK: Duration = Duration::from_secs(2);
/// How often the gateway looks whether its log has failed.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Why a gateway cannot start or must stop.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A log.
    #[error("{what}: {source}")]
    Log {
        /// Which.
        what: &'static str,
        /// Why.
        source: LogError,
    },
    /// A listener.
    #[error("{0}")]
    Listen(#[from] std::io::Error),
    /// The socket unit and the configuration differ.
    #[error("{0}")]
    Unclaimed(#[from] http::listen::Unclaimed),
    /// A bug in the metrics' names.
    #[error("metrics: {0}")]
    Metrics(String),
    /// The log failed while running.
    #[error(
        "the log's disk failed; a restart begins a new segment, and nothing acknowledged is lost"
    )]
    Poisoned,
}

/// A running gateway.
pub struct Gateway {
    engine: Arc<Engine>,
    workers: Arc<Workers>,
    letters: Vec<Arc<dyn core::log::Log>>,
    servers: Vec<ServerHandle>,
    reloading: JoinHandle<()>,
    watchdog: JoinHandle<()>,
    watching: JoinHandle<()>,
    /// Ends `watching`.
    watched: CancellationToken,
    draining: Arc<AtomicBool>,
    drain: Duration,
    /// Addresses that take webhooks.
    pub listen: Vec<SocketAddr>,
    /// Address of the admin listener.
    pub admin: SocketAddr,
    /// Removed with the gateway.
    _socket: Option<http::socket::File>,
}

impl Gateway {
    /// Start everything of `plan`. On return webhooks are being accepted.
    ///
    /// `config` is the folder it was read from, for reloads; `held` are the listening sockets that
    /// the service manager passed on; `recent` is what the journal also writes to.
    pub async fn start(
        plan: Plan,
        config: PathBuf,
        mut held: Inherited,
        recent: Recent,
    ) -> Result<Self, AppError> {
        let started = Instant::now();
        // First the ports: a second gateway fails here, before it touches a log.
        let plain = listen("server.listen", plan.server.plain(), &mut held)?;
        let secure = listen("server.tls.listen", plan.server.secure(), &mut held)?;
        held.all_claimed()?;
        let admin = listen("server.admin", &[plan.server.admin], &mut Inherited::default())?;
        let open =
            listen("server.metrics", plan.server.metrics.as_slice(), &mut Inherited::default())?;
        let metrics =
            Metrics::new(Timestamp::now()).map_err(|error| AppError::Metrics(error.to_string()))?;
        let stores = stores::open(&plan, metrics.clone()).await?;
        let replays = Arc::new(replays(&plan));
        let engine = Arc::new(Engine {
            log: stores.events,
            dead: stores.dead,
            rules: ArcSwap::from_pointee(Rules {
                select: plan.table.clone(),
                shape: plan.table.clone(),
            }),
            fates: Arc::new(Fates::default()),
            receipts: stores.receipts,
            lookout: Lookout::default(),
            replays,
            metrics,
            clock: Timestamp::now,
        });
        announce(&plan, &engine);
        // After the logs: whoever holds their lock may replace what a dead gateway left.
        let socket = plan.admin_socket().and_then(socket);
        let tls = [("webhook", &plan.tls), ("admin", &plan.admin_tls)].map(|(name, material)| {
            Some(Tls::new(name, material.clone()?, engine.metrics.clone()))
        });
        let duplicates = Arc::new(Duplicates::default());
        let rebuilt = duplicates.rebuild(&*engine.log, Timestamp::now()).await;
        rebuilt.map_err(|source| AppError::Log { what: "reading the newest events", source })?;
        let heard = Arc::new(Heard::default());
        heard.expect(expected(&plan.sources), Timestamp::now());
        if let Err(error) = heard.rebuild(&*engine.log).await {
            tracing::warn!(%error, "cannot tell when the sources were last heard; they count from now");
        }
        let workers = Arc::new(Workers::default());
        let current = Mutex::new(Current::of(&plan));
        let explainer = ArcSwap::from_pointee(Explainer::of(&plan));
        let watched = ArcSwap::from_pointee(Watched::of(&plan));
        let Plan { server, sources, sinks, hash, .. } = plan;
        start_workers(&engine, &workers, sinks).await?;
        let doors = Doors::new(sources.iter().map(|source| source.door.clone()).collect());
        let ingress = Data::new(Ingress {
            engine: engine.clone(),
            doors: ArcSwap::from_pointee(doors),
            duplicates,
            heard,
            quarantine: stores.quarantine.clone(),
            budget: Budget::new(server.bodies_in_flight.0),
            slowdown: std::sync::Mutex::default(),
            settings: ArcSwap::from_pointee(server.clone()),
            spill: spill(workers.clone(), engine.clone()),
        });
        let draining = Arc::new(AtomicBool::new(false));
        let (listens, secures) = (addresses(&plain)?, addresses(&secure)?);
        let admin_address = admin[0].local_addr()?;
        let live = Arc::new(Live {
            config,
            engine: engine.clone(),
            workers: workers.clone(),
            ingress: ingress.clone(),
            tls: tls.clone(),
            draining: draining.clone(),
            runtime: tokio::runtime::Handle::current(),
            current,
            explainer,
            watched,
            failed: std::sync::Mutex::default(),
        });
        let instead = instead(socket.as_ref().map(|(_, file)| file.path()));
        let side = admin_side(&live, admin_address, instead, recent);
        let [webhook_tls, side_tls] = tls;
        let admin_tls = side_tls.is_some();
        let webhooks = Listeners { plain, secure, tls: webhook_tls };
        let metrics = addresses(&open)?;
        let mut servers = http::metrics(Listeners::one(open, side_tls.clone()), side.clone())?;
        let (unix, socket) = socket.unzip();
        if let Some(unix) = unix {
            servers.push(http::admin_socket(unix, side.clone())?);
        }
        servers.extend(http::admin(Listeners::one(admin, side_tls), side)?);
        servers.extend(http::webhooks(webhooks, ingress, draining.clone(), server.workers)?);
        let handles = servers.iter().map(actix_web::dev::Server::handle).collect();
        for server in servers {
            // Ends when its handle is stopped, in `stop`.
            #[allow(clippy::disallowed_methods)]
            tokio::spawn(server);
        }
        let watched = CancellationToken::new();
        // Ends with the gateway, in `stop`.
        #[allow(clippy::disallowed_methods)]
        let watching = tokio::spawn(Watcher::new(live.clone()).run(watched.clone()));
        // Ends with the gateway, in `stop`.
        #[allow(clippy::disallowed_methods)]
        let reloading = tokio::spawn(watch::Asked::listen(live)?.reload());
        // Ends with the gateway, in `stop`.
        #[allow(clippy::disallowed_methods)]
        let watchdog = tokio::spawn(systemd::watchdog(engine.log.clone()));
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(listen = ?listens, listen_tls = ?secures, admin = %admin_address, admin_tls, metrics = ?metrics, config = %hash, ms, "ready");
        let all: Vec<SocketAddr> = listens.iter().chain(&secures).copied().collect();
        systemd::ready(&format!("listening on {all:?}"));
        let letters = vec![engine.dead.log().clone(), stores.quarantine.log().clone()];
        Ok(Self {
            engine,
            workers,
            letters,
            servers: handles,
            reloading,
            watchdog,
            watching,
            watched,
            draining,
            drain: server.drain.0,
            listen: listens,
            admin: admin_address,
            _socket: socket,
        })
    }

    /// Run until `stop`, or until the log fails; then drain and let go. A failed log is held for as
    /// long as a drain may take: monitoring must see it, and what comes meanwhile still goes to the
    /// sinks from memory.
    pub async fn run(self, stop: CancellationToken) -> Result<(), AppError> {
        let poisoned = async {
            while !self.engine.log.stats().poisoned {
                tokio::time::sleep(HEARTBEAT).await;
            }
        };
        let failed = tokio::select! {
            () = stop.cancelled() => false,
            () = poisoned => true,
        };
        if failed {
            tracing::error!(hold = ?self.drain, "the log's disk failed: nothing is accepted any more");
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.drain) => {}
            }
        }
        self.stop().await;
        if failed { Err(AppError::Poisoned) } else { Ok(()) }
    }

    /// Drain, with the door open while there is something to deliver; then close, in order.
    pub async fn stop(self) {
        tracing::info!(limit = ?self.drain, "draining");
        // In this order: once the manager has heard of the end, no reload may say "ready".
        self.draining.store(true, Ordering::Relaxed);
        systemd::stopping(self.drain);
        self.reloading.abort();
        // What it finds at its last look is delivered like everything else.
        self.watched.cancel();
        let mut watching = self.watching;
        if tokio::time::timeout(LAST_LOOK, &mut watching).await.is_err() {
            watching.abort();
        }
        let deadline = tokio::time::Instant::now() + self.drain;
        self.workers.each(Delivery::drain);
        while !self.workers.all_finished() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // A server that stops drops what it has accepted and not begun to read: accept nothing more,
        // and let what is there be begun.
        for server in &self.servers {
            server.pause().await;
        }
        tokio::time::sleep(HANDOVER).await;
        for server in self.servers {
            server.stop(true).await;
        }
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let finishing = self.workers.take_all().into_iter().map(|worker| worker.finish(left));
        futures_util::future::join_all(finishing).await;
        self.engine.receipts.close().await;
        for log in self.letters.iter().chain([&self.engine.log]) {
            if let Err(error) = log.close().await {
                tracing::error!(%error, "a log could not be closed; nothing is lost");
            }
        }
        self.watchdog.abort();
        tracing::info!("stopped");
    }
}

/// The replays that were under way; without a disk there are none.
fn replays(plan: &Plan) -> Replays {
    match plan.log.engine {
        core::config::Engine::Files => Replays::open(plan.log.dir.with_file_name("replays.json")),
        core::config::Engine::Memory => Replays::default(),
    }
}

fn announce(plan: &Plan, engine: &Engine) {
    plan.sources.iter().for_each(|source| engine.metrics.add_source(&source.name));
    plan.table.routes().for_each(|(route, _)| engine.metrics.add_route(route));
    let sinks = plan.sinks.iter();
    engine.metrics.sinks_are(sinks.map(|sink| (&*sink.name, sink.kind.name(), sink.kind.class())));
    if plan.table.internal().next().is_some() {
        engine.metrics.add_source(INTERNAL);
    }
    engine.metrics.configured(&plan.hash, Timestamp::now());
    engine.receipts.configured(&plan.hash);
    for warning in &plan.warnings {
        tracing::warn!("configuration: {warning}");
    }
    for gap in &plan.coverage {
        tracing::warn!("coverage: {gap}");
    }
}

/// How often each source sends something at least.
fn expected(sources: &[SourcePlan]) -> Vec<(Arc<str>, Option<Duration>)> {
    sources.iter().map(|source| (source.name.clone(), source.door.expect_every())).collect()
}

async fn start_workers(
    engine: &Arc<Engine>,
    workers: &Workers,
    sinks: Vec<SinkPlan>,
) -> Result<(), AppError> {
    let count = sinks.len();
    for sink in sinks {
        let name = sink.name.clone();
        let worker = Delivery::start(engine.clone(), workers::spec(sink, count)).await;
        let worker =
            worker.map_err(|source| AppError::Log { what: "opening a sink's cursor", source });
        workers.add(name, worker?);
    }
    Ok(())
}

/// The way out for events that the log could not take: straight to the workers, from memory.
fn spill(workers: Arc<Workers>, engine: Arc<Engine>) -> http::ingress::Spill {
    Arc::new(move |event: Arc<Event>| {
        if event.body.len() > SPILL_BYTES {
            return false;
        }
        let choice = engine.rules.load().select.choose(&event);
        choice.sinks().fold(false, |any, sink| {
            any | workers.offer(sink, Extra::Spill(event.clone())).unwrap_or(false)
        })
    })
}

/// The admin's Unix socket. Without it webhooks arrive all the same, and the token still opens `admin`.
fn socket(path: PathBuf) -> Option<(UnixListener, http::socket::File)> {
    let told = |error: &std::io::Error| {
        tracing::error!(path = %path.display(), %error, "no admin socket: commands need server.admin_token now; name another file in server.admin_socket, or \"\" for none");
    };
    http::socket::bind(&path).inspect_err(told).ok()
}

/// Where to ask for what the network may not have.
fn instead(socket: Option<&Path>) -> String {
    match socket {
        Some(path) => format!(
            "ask over the socket {}, as the commands do for the user that runs siemgate",
            path.display()
        ),
        None => "this gateway has no admin socket".to_owned(),
    }
}

fn admin_side(
    live: &Arc<Live>,
    address: SocketAddr,
    instead: String,
    recent: Recent,
) -> Data<Admin> {
    let port = address.port();
    let names = live.tls[1].as_ref().map(|tls| tls.names()).unwrap_or_default();
    let ours = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).into_iter().chain(names);
    let mut hosts: Vec<String> = ours.map(|name| format!("{name}:{port}")).collect();
    if !hosts.contains(&address.to_string()) {
        hosts.push(address.to_string());
    }
    let (workers, state, reloads) = (live.workers.clone(), live.clone(), live.clone());
    let (explaining, guarded) = (live.clone(), live.workers.clone());
    Data::new(Admin {
        ingress: live.ingress.clone(),
        offer: Arc::new(move |sink, extra| workers.offer(sink, extra)),
        guarded: Arc::new(move |sink| guarded.is_guarded(sink)),
        not_ready: Arc::new(move || {
            if state.engine.log.stats().poisoned {
                Some("the log's disk failed".to_owned())
            } else {
                state.draining.load(Ordering::Relaxed).then(|| "draining".to_owned())
            }
        }),
        reload: Arc::new(move || {
            let live = reloads.clone();
            // On the gateway's own runtime: what a reload starts must outlive this listener's.
            #[allow(clippy::disallowed_methods)]
            let reloading = live.runtime.clone().spawn(async move { live.reload().await });
            Box::pin(async move {
                let change = reloading.await.unwrap_or_else(|error| {
                    Err(vec![Problem::new("", format!("the reload failed: {error}"))])
                });
                change.map(|change| serde_json::to_value(change).unwrap_or_default())
            })
        }),
        fix: Arc::new(|program| {
            let fix = crate::routes::Fix::compile(program)?;
            Ok(Box::new(move |event| fix.apply(event)))
        }),
        explain: Arc::new(move |asked| explaining.explainer.load().answer(asked)),
        recent,
        hosts,
        address,
        instead,
    })
}

fn addresses(listeners: &[TcpListener]) -> std::io::Result<Vec<SocketAddr>> {
    listeners.iter().map(TcpListener::local_addr).collect()
}

/// The letters' stores, the receipts and the events' log, opened.
struct Stores {
    events: Arc<dyn core::log::Log>,
    dead: Arc<Letters<core::letters::DeadNote>>,
    quarantine: Arc<Letters<core::letters::QuarantineNote>>,
    receipts: Arc<core::receipts::Receipts>,
}
