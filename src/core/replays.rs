//! The replays that are under way: stretches of the log that a person wants delivered once more.
//!
//! Guarantees: one that was begun is on disk, in one file beside the log, before anybody is told so, and
//! goes on after a restart; how far it has come is its cursor's in the log. A file that cannot be read
//! means that none goes on; the log is untouched. It delivers nothing: the sink's worker does.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Timestamp;
use super::alarms::INTERNAL;
use super::config::private;
use super::event::{Draft, Position};
use super::log::Terms;
use super::route::{Choice, RouteId};

/// Replays under way at once.
const MOST: usize = 100;
/// Ended ones that are remembered until the process ends.
const ENDED: usize = 20;

/// A stretch of the log, chosen for one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Its number.
    #[serde(default)]
    pub number: u64,
    /// Who gets it.
    pub sink: Arc<str>,
    /// What this route takes; what the routes give the sink without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Arc<str>>,
    /// Where it begins.
    pub from: Position,
    /// Where it ends.
    pub until: Position,
    /// When somebody asked for it.
    pub asked: Timestamp,
}

impl Replay {
    /// The name of its cursor: no sink can have it.
    pub fn cursor(&self) -> String {
        format!("replay:{}", self.number)
    }

    /// The route by which it takes `event`; the gateway's own are never replayed.
    pub fn route_of(&self, event: &Draft, choice: &Choice) -> Option<RouteId> {
        if *event.source == *INTERNAL {
            return None;
        }
        match &self.route {
            None => choice.route_for(&self.sink).cloned(),
            Some(route) => choice.picks().map(|(_, of)| of).find(|of| *of == route).cloned(),
        }
    }
}

/// How a replay ended.
#[derive(Clone, Debug, Serialize)]
pub struct Ended {
    /// Which.
    #[serde(flatten)]
    pub replay: Replay,
    /// What became of its events; none where it was cancelled.
    pub terms: Option<Terms>,
}

/// See the module.
pub struct Replays {
    file: Option<PathBuf>,
    kept: Mutex<Kept>,
    ended: Mutex<VecDeque<Ended>>,
    changes: watch::Sender<u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kept {
    last: u64,
    replays: Vec<Replay>,
}

impl Default for Replays {
    fn default() -> Self {
        Self::new(None, Kept::default())
    }
}

impl Replays {
    fn new(file: Option<PathBuf>, kept: Kept) -> Self {
        let (kept, ended, changes) = (Mutex::new(kept), Mutex::default(), watch::Sender::new(0));
        Self { file, kept, ended, changes }
    }

    /// Those that `file` names.
    pub fn open(file: PathBuf) -> Self {
        let kept = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(file = %file.display(), %error, "cannot be read; the replays that were under way have ended");
                Kept::default()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::error!(file = %file.display(), %error, "cannot be read; the replays that were under way do not go on");
                }
                Kept::default()
            }
        };
        Self::new(Some(file), kept)
    }

    /// Begin one. It is on disk, and has a number, when this returns.
    pub fn begin(&self, replay: Replay) -> io::Result<u64> {
        self.change(|kept| {
            if kept.replays.len() >= MOST {
                let error = "too many replays are under way; wait for one to end, or cancel one";
                return Err(io::Error::other(error));
            }
            kept.last += 1;
            let number = kept.last;
            kept.replays.push(Replay { number, ..replay });
            Ok(number)
        })
    }

    /// It is over; false if it was before.
    pub fn end(&self, number: u64, terms: Option<Terms>) -> io::Result<bool> {
        let found = self.change(|kept| {
            let index = kept.replays.iter().position(|replay| replay.number == number);
            Ok(index.map(|index| kept.replays.remove(index)))
        })?;
        let Some(replay) = found else { return Ok(false) };
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push_back(Ended { replay, terms });
        while ended.len() > ENDED {
            ended.pop_front();
        }
        Ok(true)
    }

    /// Those under way.
    pub fn all(&self) -> Vec<Replay> {
        self.kept().replays.clone()
    }

    /// The last that ended.
    pub fn ended(&self) -> Vec<Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Follows what begins and ends.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn change<T>(&self, act: impl FnOnce(&mut Kept) -> io::Result<T>) -> io::Result<T> {
        let mut kept = self.kept();
        let mut next = kept.clone();
        let done = act(&mut next)?;
        if let Some(file) = &self.file {
            private::replace(file, &serde_json::to_vec_pretty(&next)?)?;
        }
        *kept = next;
        drop(kept);
        self.changes.send_modify(|count| *count += 1);
        Ok(done)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
