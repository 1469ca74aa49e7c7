//! When each source was last heard, so that its silence can be told from peace.
//!
//! Guarantees: only configured sources are held. After a restart the newest events of the log say
//! when a source last sent something, so a restart neither ends a silence nor begins one; a source
//! that they do not show counts as silent from the start on. It raises no alarm itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Timestamp;
use super::event::Position;
use super::log::{Item, Limit, Log, LogError};

/// How many of the newest events are looked through at start, and how many bytes of them.
const EVENTS: u64 = 20_000;
const BYTES: usize = 64 << 20;
/// Events that are looked through at once, newest first.
const STRIDE: u64 = 1_000;

/// See the module.
#[derive(Default)]
pub struct Heard(Mutex<BTreeMap<Arc<str>, Ear>>);

struct Ear {
    /// Since when it has been listened for.
    since: Timestamp,
    last: Option<Timestamp>,
    expected: Option<Duration>,
}

/// How a source stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Which source.
    pub source: Arc<str>,
    /// When it last sent an event, if that is known.
    pub last: Option<Timestamp>,
    /// How long ago that was, or how long it has been listened for in vain.
    pub silent: Duration,
    /// `expect_every`
    pub expected: Option<Duration>,
}

impl Silence {
    /// Whether it has been silent for longer than it should be.
    pub fn is_too_long(&self) -> bool {
        self.expected.is_some_and(|expected| self.silent > expected)
    }
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Ear>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listen for these sources from now on, each with its `expect_every`, and for no others. What
    /// was known of them stays known.
    pub fn expect(&self, sources: Vec<(Arc<str>, Option<Duration>)>, now: Timestamp) {
        let mut ears = self.lock();
        let mut known = std::mem::take(&mut *ears);
        ears.extend(sources.into_iter().map(|(source, expected)| {
            let fresh = Ear { since: now, last: None, expected };
            let ear = known.remove(&source).map_or(fresh, |ear| Ear { expected, ..ear });
            (source, ear)
        }));
    }

    /// `source` sent an event at `at`.
    pub fn note(&self, source: &str, at: Timestamp) {
        if let Some(ear) = self.lock().get_mut(source) {
            ear.last = ear.last.max(Some(at));
        }
    }

    /// How every source stands.
    pub fn silences(&self, now: Timestamp) -> Vec<Silence> {
        let silence = |(source, ear): (&Arc<str>, &Ear)| {
            let from = ear.last.unwrap_or(ear.since);
            let silent = Duration::try_from(now.duration_since(from)).unwrap_or_default();
            Silence { source: source.clone(), last: ear.last, silent, expected: ear.expected }
        };
        self.lock().iter().map(silence).collect()
    }

    /// Learn from the newest events of `log` when the sources were last heard.
    pub async fn rebuild(&self, log: &dyn Log) -> Result<(), LogError> {
        let mut missing: BTreeSet<Arc<str>> = self.lock().keys().cloned().collect();
        let mut end = log.head().borrow().next;
        let first = Position(end.0.saturating_sub(EVENTS)).max(log.stats().oldest);
        let mut bytes = 0;
        while end > first && !missing.is_empty() && bytes < BYTES {
            let start = Position(end.0.saturating_sub(STRIDE)).max(first);
            bytes += self.learn(log, start, end, &mut missing).await?;
            end = start;
        }
        Ok(())
    }

    /// From the events in `start..end`; returns their bytes.
    async fn learn(
        &self,
        log: &dyn Log,
        start: Position,
        end: Position,
        missing: &mut BTreeSet<Arc<str>>,
    ) -> Result<usize, LogError> {
        let (mut next, mut bytes) = (start, 0);
        while next < end {
            let page = log.read(next, Limit { events: STRIDE as usize, bytes: 4 << 20 }).await?;
            if page.items.is_empty() {
                break;
            }
            for item in &page.items {
                if let Item::Event(event) = item {
                    bytes += event.body.len();
                    missing.remove(&event.source);
                    self.note(&event.source, event.received);
                }
            }
            next = page.next;
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::{Draft, EventId};
    use crate::core::log::MemoryLog;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn at(seconds: u64) -> Timestamp {
        START + Duration::from_secs(seconds)
    }

    fn expecting(sources: &[(&str, Option<u64>)]) -> Vec<(Arc<str>, Option<Duration>)> {
        let one = |(name, every): &(&str, Option<u64>)| {
            (Arc::from(*name), every.map(Duration::from_secs))
        };
        sources.iter().map(one).collect()
    }

    fn of(heard: &Heard, source: &str, now: Timestamp) -> Silence {
        let found = heard.silences(now).into_iter().find(|silence| &*silence.source == source);
        found.expect("it is listened for")
    }

    #[test]
    fn a_silence_is_too_long_when_nothing_came_for_longer_than_expected() {
        let heard = Heard::default();
        heard.expect(expecting(&[("a", Some(60)), ("b", None)]), START);
        assert!(!of(&heard, "a", at(60)).is_too_long() && of(&heard, "a", at(61)).is_too_long());
        heard.note("a", at(50));
        let silence = of(&heard, "a", at(61));
        assert_eq!((silence.last, silence.silent.as_secs()), (Some(at(50)), 11));
        assert!(!silence.is_too_long() && !of(&heard, "b", at(1_000_000)).is_too_long());
        // A clock that was set back is no silence, and an older event ends none.
        heard.note("a", at(40));
        assert_eq!(of(&heard, "a", at(45)).silent, Duration::ZERO);
    }

    #[test]
    fn another_configuration_changes_what_is_expected_and_not_what_was_heard() {
        let heard = Heard::default();
        heard.expect(expecting(&[("a", Some(60)), ("gone", Some(1))]), START);
        heard.note("a", at(5));
        heard.expect(expecting(&[("a", None), ("new", Some(60))]), at(100));
        assert_eq!(of(&heard, "a", at(100)).last, Some(at(5)));
        assert_eq!(of(&heard, "new", at(101)).silent, Duration::from_secs(1));
        heard.note("gone", at(101));
        assert_eq!(heard.silences(at(101)).len(), 2);
    }

    #[tokio::test]
    async fn after_a_restart_the_log_tells_when_a_source_was_last_heard() {
        let log = MemoryLog::new(64 << 20);
        for second in 0..5_000 {
            let source = if second == 1_500 { "rare" } else { "busy" };
            let draft = Draft::new(EventId::fresh(), at(second), source.into(), "{}".into());
            log.append(vec![draft]).await.expect("there is room");
        }
        let heard = Heard::default();
        heard.expect(expecting(&[("busy", None), ("rare", None), ("never", None)]), at(9_000));
        heard.rebuild(&log).await.expect("memory can be read");
        assert_eq!(of(&heard, "busy", at(9_000)).last, Some(at(4_999)));
        assert_eq!(of(&heard, "rare", at(9_000)).last, Some(at(1_500)));
        let never = of(&heard, "never", at(9_007));
        assert_eq!((never.last, never.silent.as_secs()), (None, 7));
    }
}
