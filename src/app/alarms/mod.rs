//! The watcher: looks at the gateway once a second, and tells some of its sinks what is the matter.
//!
//! Guarantees: alarms and heartbeats are appended to the log like any event, so they are durable,
//! retried and counted; what the log cannot take goes to the sinks from memory, and what they cannot
//! take either stays due. One task, owned by the gateway and ended in its `stop`, after a last look.
//! It decides neither what is an alarm (`sightings.rs`) nor when it is told (`core/alarms`).

mod own;
mod sightings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub(super) use own::{Own, own};

use super::plan::Plan;
use super::reload::Live;
use crate::core::Timestamp;
use crate::core::alarms::{
    Alarm, Beat, Cause, INTERNAL, Key, Limits, LogBeat, Notice, Now, Origin, Policy, Silence,
    SinkBeat, Turn, past,
};
use crate::core::config::{AlarmSettings, HeartbeatSettings};
use crate::core::event::{Draft, Event, EventId, Position};
use crate::core::log::Refusal;
use crate::core::metrics::{STATES, SinkMetrics};
use crate::core::route::RouteId;

/// How often the gateway looks at itself.
const LOOK: Duration = Duration::from_secs(1);

/// What of a configuration the watcher goes by; replaced by a reload.
pub(super) struct Watched {
    alarms: AlarmSettings,
    heartbeat: HeartbeatSettings,
    beats: bool,
    sources: Vec<Arc<str>>,
    routes: Vec<RouteId>,
    config: String,
}

impl Watched {
    pub fn of(plan: &Plan) -> Self {
        Self {
            alarms: plan.own.alarms.clone(),
            heartbeat: plan.own.heartbeat.clone(),
            beats: !plan.own.internal.heartbeat.is_empty(),
            sources: plan.sources.iter().map(|source| source.name.clone()).collect(),
            routes: plan.table.routes().map(|(route, _)| route.clone()).collect(),
            config: plan.hash.clone(),
        }
    }

    fn limits(&self) -> Limits {
        Limits { every: self.alarms.every.0, remind: self.alarms.remind.0 }
    }
}

/// See the module.
pub(super) struct Watcher {
    live: Arc<Live>,
    began: Instant,
    started: Timestamp,
    host: String,
    policy: Policy,
    silence: Silence,
    /// When the next heartbeat is due.
    next_beat: Duration,
    /// Alarms that no sink is left for, told in the journal already.
    unheard: BTreeSet<Key>,
    /// How often the policy had no room, told in the journal already.
    left_out: u64,
}

impl Watcher {
    pub fn new(live: Arc<Live>) -> Self {
        Self {
            started: (live.engine.clock)(),
            live,
            began: Instant::now(),
            host: host(),
            policy: Policy::default(),
            silence: Silence::default(),
            next_beat: Duration::ZERO,
            unheard: BTreeSet::new(),
            left_out: 0,
        }
    }

    /// Look once a second until `stop`, and then once more.
    pub async fn run(mut self, stop: CancellationToken) {
        self.remember().await;
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = ticks.tick() => self.beat().await,
            }
            self.look().await;
        }
    }

    fn now(&self) -> Now {
        Now { up: self.began.elapsed(), wall: (self.live.engine.clock)() }
    }

    /// What the log still knows from before this start.
    async fn remember(&mut self) {
        let watched = self.live.watched.load_full();
        if watched.alarms.sinks.as_slice().is_empty() {
            return;
        }
        let now = self.now();
        let window = 2 * watched.alarms.remind.0.max(watched.alarms.every.0);
        match past(&*self.live.engine.log, window, now.wall).await {
            Ok(mut open) => {
                // Told from memory, so the log does not know of it.
                if let Some(since) = self.live.engine.log.stats().failed_before {
                    open.entry(Key::new(Cause::LogFailed, "")).or_insert(since);
                }
                let unheard = self.live.ingress.heard.silences(now.wall).into_iter();
                for silence in unheard.filter(|silence| silence.last.is_none()) {
                    if open.contains_key(&Key::new(Cause::Silent, silence.source.clone())) {
                        self.silence.remember(silence.source, now.up);
                    }
                }
                self.policy = Policy::restored(open, now);
            }
            Err(error) => {
                tracing::error!(%error, "cannot read which alarms were open before the start");
            }
        }
    }

    async fn look(&mut self) {
        let (watched, now) = (self.live.watched.load_full(), self.now());
        let seen = sightings::of(&self.live, &watched, &mut self.silence, now);
        for alarm in self.policy.look(&watched.limits(), now, &seen) {
            self.tell(&alarm, now).await;
        }
        let left_out = self.policy.left_out();
        if left_out > 0 && self.left_out == 0 {
            tracing::error!("too many alarms at once; some are in journal and metrics only");
        }
        self.left_out = left_out;
    }

    async fn tell(&mut self, alarm: &Alarm, now: Now) {
        let notice = Notice::alarm(alarm, self.origin(now)).written();
        let draft = self.draft(notice.clone(), now);
        if self.live.engine.rules.load().select.choose(&draft).is_empty() {
            return self.nobody_to_tell(alarm, now);
        }
        if !self.send(draft, now).await {
            return;
        }
        self.unheard.remove(&alarm.key);
        self.policy.told(alarm, now);
        let (cause, subject, count) = (alarm.key.cause.as_str(), &alarm.key.subject, alarm.count);
        if alarm.turn == Turn::Open {
            self.live.engine.metrics.alarm_raised(alarm.key.cause);
            tracing::warn!(cause, %subject, count, "alarm: {}", alarm.title);
        } else {
            tracing::info!(cause, %subject, "alarm is over: {}", alarm.title);
        }
    }

    /// It stays due, in case a reload names another sink; but an end of which nobody knows the
    /// beginning is no news.
    fn nobody_to_tell(&mut self, alarm: &Alarm, now: Now) {
        if alarm.turn == Turn::Cleared {
            return self.policy.told(alarm, now);
        }
        let watched = self.live.watched.load();
        if watched.alarms.sinks.as_slice().is_empty() || !self.unheard.insert(alarm.key.clone()) {
            return;
        }
        let (cause, subject) = (alarm.key.cause.as_str(), &alarm.key.subject);
        tracing::error!(cause, %subject, "alarm that no sink is told of, because it is about the only sink of [alarms]; name another one there: {}", alarm.title);
    }

    async fn beat(&mut self) {
        let (watched, now) = (self.live.watched.load_full(), self.now());
        let every = watched.heartbeat.every.0;
        // A shorter interval since a reload counts at once.
        self.next_beat = self.next_beat.min(now.up.saturating_add(every));
        if !watched.beats || now.up < self.next_beat {
            return;
        }
        let beat = self.state(&watched, now);
        let notice = Notice::heartbeat(beat, self.origin(now)).written();
        let draft = self.draft(notice, now);
        if self.send(draft, now).await {
            // From when it was due, so that the looks' grain adds nothing to the interval.
            let next = self.next_beat.saturating_add(every);
            self.next_beat = if next > now.up { next } else { now.up.saturating_add(every) };
        }
    }

    fn state(&self, watched: &Watched, now: Now) -> Beat {
        let engine = &self.live.engine;
        let log = engine.log.stats();
        let sinks = engine.metrics.sinks();
        let differences = sinks.iter().map(|(_, sink)| SinkMetrics::unaccounted(&sink.vitals()));
        let sink = |sink: &SinkMetrics| {
            let vitals = sink.vitals();
            let oldest = vitals.oldest.map(|at| now.wall.duration_since(at).as_secs());
            SinkBeat {
                state: STATES[vitals.state].into(),
                lag: vitals.lag(log.head.next),
                oldest_seconds: oldest.and_then(|age| u64::try_from(age).ok()).unwrap_or(0),
                last_success: sink.last_success(),
            }
        };
        Beat {
            started: self.started,
            config: watched.config.clone(),
            every_seconds: watched.heartbeat.every.0.as_secs(),
            unaccounted: differences.sum(),
            log: LogBeat {
                head: log.head.next.0,
                bytes: log.bytes,
                max_bytes: log.max_bytes,
                undelivered_percent: log.fill(),
            },
            sinks: sinks.iter().map(|(name, metrics)| (name.clone(), sink(metrics))).collect(),
        }
    }

    fn origin(&self, now: Now) -> Origin<'_> {
        let open = self.policy.open().map(|(key, since)| (key.to_string(), since));
        Origin { host: &self.host, time: now.wall, open: open.collect::<BTreeMap<_, _>>() }
    }

    fn draft(&self, notice: bytes::Bytes, now: Now) -> Draft {
        Draft::new(EventId::fresh(), now.wall, INTERNAL.into(), notice)
    }

    /// Into the log, or past it into the hands of the sinks; false when neither takes it.
    async fn send(&self, draft: Draft, now: Now) -> bool {
        let engine = &self.live.engine;
        let (id, body) = (draft.id, draft.body.clone());
        // So that the log knows what is urgent.
        engine.rules.load().select.choose(&draft);
        let refusal = match engine.log.append(vec![draft]).await {
            Ok(_) => {
                engine.metrics.accepted(INTERNAL, body.len());
                return true;
            }
            Err(refusal) => refusal,
        };
        if !matches!(refusal, Refusal::Full(_) | Refusal::Poisoned(_)) {
            return false;
        }
        let draft = Draft::new(id, now.wall, INTERNAL.into(), body);
        (self.live.ingress.spill)(Arc::new(Event { position: Position(0), draft }))
    }
}

/// The machine's name, as far as it can stand in a name.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let name: String = name.trim().chars().filter(plain).take(253).collect();
    if name.is_empty() { "unknown".into() } else { name }
}
