//! When an alarm is raised, told again and cleared.
//!
//! Guarantees: between two times that an alarm is told lies at least `every`, whatever happens and
//! whatever the wall clock does; what lasts is told at the latest `every` after it came; an alarm is
//! cleared once, only after it was raised, and not before its cause has been gone for a while; at
//! most [`MOST`] alarms are known at once. What has been told is said by the caller: until then an
//! alarm stays due. Pure: `now` comes in, and intervals are measured by a clock that never steps.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Key, Sighting};
use crate::core::Timestamp;

/// Alarms known at once; what comes on top of them is counted only.
pub const MOST: usize = 500;

/// The settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// An alarm that happens again is told again at most so often.
    pub every: Duration,
    /// An alarm that merely lasts is told again after this time.
    pub remind: Duration,
}

/// The time, twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the process began, by a clock that never steps.
    pub up: Duration,
    /// By the calendar, to be told.
    pub wall: Timestamp,
}

/// What is to be told of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is raised, or told again.
    Open,
    /// It is over.
    Cleared,
}

impl Turn {
    /// The word in notices.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Cleared => "cleared",
        }
    }
}

/// An alarm that is due to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Which.
    pub key: Key,
    /// What is to be told.
    pub turn: Turn,
    /// How often it happened since it was last told; 0 in a reminder.
    pub count: u64,
    /// When it began.
    pub since: Timestamp,
    /// One line for people.
    pub title: String,
    /// What more there is to know.
    pub note: String,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Policy {
    known: BTreeMap<Key, Known>,
    /// Where the counts stood at the last look.
    totals: BTreeMap<Key, u64>,
    /// Looks at which an alarm found no room.
    left_out: u64,
}

#[derive(Debug)]
struct Known {
    since: Timestamp,
    /// Since when it has been there without a break.
    held: Option<Duration>,
    /// When it was last there, or last happened.
    seen: Duration,
    /// How often it happened since it was last told.
    untold: u64,
    /// When it was last told as open.
    told: Option<Duration>,
    open: bool,
    /// Known from before the start: what its count says first is no news.
    restored: bool,
    title: String,
    note: String,
}

impl Known {
    fn new(now: Now) -> Self {
        Self {
            since: now.wall,
            held: None,
            seen: now.up,
            untold: 0,
            told: None,
            open: false,
            restored: false,
            title: String::new(),
            note: String::new(),
        }
    }

    /// Told longer ago than `time`, or never.
    fn told_before(&self, time: Duration, now: Now) -> bool {
        self.told.is_none_or(|told| now.up.saturating_sub(told) >= time)
    }

    fn quiet_for(&self, time: Duration, now: Now) -> bool {
        self.held.is_none() && now.up.saturating_sub(self.seen) >= time
    }

    fn due(&self, key: &Key, limits: &Limits, now: Now) -> Option<Turn> {
        let patience = key.cause.patience(limits.every);
        let lasts = self.held.is_some_and(|held| now.up.saturating_sub(held) >= patience);
        let news = self.untold > 0 && (lasts || key.cause.is_momentary());
        if news && self.told_before(limits.every, now) {
            return Some(Turn::Open);
        }
        if self.open && lasts && self.told_before(limits.remind.max(limits.every), now) {
            return Some(Turn::Open);
        }
        let over = self.open && self.quiet_for(key.cause.calm(limits.every), now);
        over.then_some(Turn::Cleared)
    }

    /// Nothing about it matters any more.
    fn is_past(&self, limits: &Limits, now: Now) -> bool {
        // What nobody could be told in all that time is not news any more.
        let old = self.untold == 0 || self.quiet_for(limits.every.saturating_mul(2), now);
        let is_there = self.open || self.held.is_some();
        !is_there && old && self.told_before(limits.every, now)
    }
}

impl Policy {
    /// A policy that knows of alarms which were told as open before the start.
    ///
    /// They count as told now, so that a gateway that starts again and again is no storm of alarms.
    pub fn restored(open: impl IntoIterator<Item = (Key, Timestamp)>, now: Now) -> Self {
        let known = |(key, since)| {
            let known =
                Known { since, told: Some(now.up), open: true, restored: true, ..Known::new(now) };
            (key, known)
        };
        Self { known: open.into_iter().take(MOST).map(known).collect(), ..Self::default() }
    }

    /// Look at everything that could be the matter: what is due to be told. What is not among the
    /// sightings any more (a sink that was removed) is not there any more.
    pub fn look(&mut self, limits: &Limits, now: Now, sightings: &[Sighting]) -> Vec<Alarm> {
        let mut gone: Vec<Key> = self.known.keys().cloned().collect();
        for sighting in sightings {
            self.see(now, sighting);
            gone.retain(|key| *key != sighting.key);
        }
        for key in gone {
            if let Some(known) = self.known.get_mut(&key) {
                known.held = None;
            }
        }
        if self.totals.len() > 4 * MOST {
            self.totals.retain(|key, _| sightings.iter().any(|seen| seen.key == *key));
        }
        self.known.retain(|_, known| !known.is_past(limits, now));
        self.due(limits, now)
    }

    fn see(&mut self, now: Now, sighting: &Sighting) {
        let before = self.totals.insert(sighting.key.clone(), sighting.total);
        let mut news = sighting.total.saturating_sub(before.unwrap_or_default());
        if !sighting.holds && news == 0 {
            if let Some(known) = self.known.get_mut(&sighting.key) {
                known.held = None;
                known.restored = false;
                if known.title.is_empty() {
                    known.title.clone_from(&sighting.title);
                }
            }
            return;
        }
        if !self.known.contains_key(&sighting.key) && self.known.len() >= MOST {
            self.left_out += 1;
            return;
        }
        let known = self.known.entry(sighting.key.clone()).or_insert_with(|| Known::new(now));
        if std::mem::take(&mut known.restored) && before.is_none() {
            known.held = Some(now.up).filter(|_| sighting.holds);
            news = 0;
        } else if !known.open && known.untold == 0 {
            known.since = now.wall;
        }
        let came = sighting.holds && known.held.is_none();
        known.untold += news.max(u64::from(came));
        known.seen = now.up;
        known.held = sighting.holds.then_some(known.held.unwrap_or(now.up));
        known.title.clone_from(&sighting.title);
        known.note.clone_from(&sighting.note);
    }

    fn due(&self, limits: &Limits, now: Now) -> Vec<Alarm> {
        let alarm = |(key, known): (&Key, &Known)| {
            let turn = known.due(key, limits, now)?;
            Some(Alarm {
                key: key.clone(),
                turn,
                count: known.untold,
                since: known.since,
                title: known.title.clone(),
                note: known.note.clone(),
            })
        };
        self.known.iter().filter_map(alarm).collect()
    }

    /// `alarm` has been told.
    pub fn told(&mut self, alarm: &Alarm, now: Now) {
        let Some(known) = self.known.get_mut(&alarm.key) else { return };
        known.open = alarm.turn == Turn::Open;
        known.untold = known.untold.saturating_sub(alarm.count);
        if known.open {
            known.told = Some(now.up);
        }
    }

    /// The alarms that were told as open and not yet as over, with their beginnings.
    pub fn open(&self) -> impl Iterator<Item = (&Key, Timestamp)> {
        self.known.iter().filter(|(_, known)| known.open).map(|(key, known)| (key, known.since))
    }

    /// How often an alarm found no room.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests;
