//! For how long each source has been silent, whatever the machine's clock does.
//!
//! Guarantees: the wall clock counts once, at the first look, for what was before the start; from
//! then on silence is measured by a clock that never steps, so setting the clock makes nobody silent
//! and hides no silence. Pure. When a source was last heard is for `core/heard.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::Timestamp;

/// See the module.
#[derive(Debug, Default)]
pub struct Silence {
    sources: BTreeMap<Arc<str>, Since>,
}

#[derive(Debug)]
struct Since {
    last: Option<Timestamp>,
    /// When this was first seen, and how long ago it was by then.
    at: Duration,
    before: Duration,
}

impl Silence {
    /// `source` was silent before the start already, for longer than the log remembers.
    pub fn remember(&mut self, source: Arc<str>, up: Duration) {
        self.sources.insert(source, Since { last: None, at: up, before: Duration::MAX });
    }

    /// `source` was heard at `last`, which by the wall clock is `silent` ago. Returns for how long
    /// it has really been silent.
    pub fn look(
        &mut self,
        source: &Arc<str>,
        last: Option<Timestamp>,
        silent: Duration,
        up: Duration,
    ) -> Duration {
        let first = || Since { last, at: up, before: silent };
        let since = self.sources.entry(source.clone()).or_insert_with(first);
        if since.last != last {
            *since = Since { last, at: up, before: Duration::ZERO };
        }
        up.saturating_sub(since.at).saturating_add(since.before)
    }

    /// Forget the sources that are not configured any more.
    pub fn keep(&mut self, sources: impl Fn(&str) -> bool) {
        self.sources.retain(|source, _| sources(source));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_clock_counts_once_and_then_never() {
        let mut silence = Silence::default();
        let source: Arc<str> = "a".into();
        // An hour ago, in an earlier run; then the clock is set forwards, and back.
        assert_eq!(silence.look(&source, at(100), secs(3_600), secs(1)), secs(3_600));
        assert_eq!(silence.look(&source, at(100), secs(90_000), secs(11)), secs(3_610));
        assert_eq!(silence.look(&source, at(100), secs(0), secs(21)), secs(3_620));
        assert_eq!(silence.look(&source, at(50), secs(0), secs(31)), secs(0), "heard");
        assert_eq!(silence.look(&source, at(50), secs(0), secs(36)), secs(5));
    }

    #[test]
    fn silence_that_the_log_has_forgotten_lasts_until_an_event_comes() {
        let mut silence = Silence::default();
        let source: Arc<str> = "a".into();
        silence.remember(source.clone(), secs(1));
        assert_eq!(silence.look(&source, None, secs(2), secs(3)), Duration::MAX);
        assert_eq!(silence.look(&source, at(7), secs(0), secs(4)), secs(0));
        silence.keep(|_| false);
        assert_eq!(silence.look(&source, at(7), secs(9), secs(99)), secs(9), "known anew");
    }
}
