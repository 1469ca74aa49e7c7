//! Which alarms were open before a restart: the log knows.
//!
//! Guarantees: reads the log backwards and stops at the newest notice, which names all alarms that
//! were open after it, so this costs a page where there are heartbeats; otherwise it looks back for
//! twice the time after which an open alarm is told again. Only reads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::{INTERNAL, Key, Notice};
use crate::core::Timestamp;
use crate::core::event::{Event, Position};
use crate::core::log::{Item, Limit, Log, LogError};

/// Positions looked at in one step back.
const STEP: u64 = 2_000;
/// How much of a step is read at once.
const PAGE: Limit = Limit { events: STEP as usize, bytes: 4 << 20 };

/// What a stretch of the log says.
#[derive(Default)]
struct Found {
    /// The alarms that were open after its last notice, with their beginnings.
    open: Option<BTreeMap<Key, Timestamp>>,
    newest: Option<Timestamp>,
}

impl Found {
    fn note(&mut self, event: &Event) {
        self.newest = self.newest.max(Some(event.received));
        let notice = Some(event).filter(|event| *event.source == *INTERNAL);
        if let Some(notice) = notice.and_then(|event| Notice::read(&event.body)) {
            let open = notice.open.iter();
            let open = open.filter_map(|(name, since)| Some((Key::read(name)?, *since)));
            self.open = Some(open.collect());
        }
    }
}

/// The alarms that were open by the last notice in `log`, if that is younger than `window`.
pub async fn past(
    log: &dyn Log,
    window: Duration,
    now: Timestamp,
) -> Result<BTreeMap<Key, Timestamp>, LogError> {
    let oldest = log.stats().oldest;
    let mut end = log.head().borrow().next;
    while end > oldest {
        let begin = Position(end.0.saturating_sub(STEP)).max(oldest);
        let found = look(log, begin..end).await?;
        if let Some(open) = found.open {
            return Ok(open);
        }
        let age = |at: Timestamp| now.duration_since(at).unsigned_abs();
        if found.newest.is_some_and(|at| age(at) > window) {
            break;
        }
        end = begin;
    }
    Ok(BTreeMap::new())
}

/// What `positions` say. Bodies may be large, so only a page of them is in memory.
async fn look(log: &dyn Log, positions: Range<Position>) -> Result<Found, LogError> {
    let (mut found, mut next) = (Found::default(), positions.start);
    while next < positions.end {
        let page = log.read(next, PAGE).await?;
        if page.items.is_empty() || page.next <= next {
            break;
        }
        for item in page.items {
            match item {
                Item::Event(event) if event.position < positions.end => found.note(&event),
                Item::Event(_) | Item::Gap { .. } => {}
            }
        }
        next = page.next;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::core::alarms::notice::Origin;
    use crate::core::alarms::{Alarm, Cause, Turn};
    use crate::core::event::{Draft, EventId};
    use crate::core::log::MemoryLog;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    async fn append(log: &MemoryLog, source: &str, second: i64, body: impl Into<bytes::Bytes>) {
        let draft = Draft::new(EventId::fresh(), at(second), source.into(), body.into());
        log.append(vec![draft]).await.unwrap();
    }

    fn notice(turn: Turn, open: &[&str]) -> bytes::Bytes {
        let open = open.iter().map(|name| ((*name).to_owned(), at(5))).collect();
        let alarm = Alarm {
            key: Key::new(Cause::Parked, "soc"),
            turn,
            count: 1,
            since: at(5),
            title: String::new(),
            note: String::new(),
        };
        Notice::alarm(&alarm, Origin { host: "h", time: at(5), open }).written()
    }

    async fn ask(log: &MemoryLog, window: u64) -> Vec<String> {
        let open = past(log, Duration::from_secs(window), at(1_000_000)).await.unwrap();
        open.keys().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn the_newest_notice_says_which_were_open() {
        let log = MemoryLog::new(64 << 20);
        append(&log, INTERNAL, 20, notice(Turn::Open, &["late:soc", "other:x"])).await;
        // Several steps back.
        for second in 0..5_000 {
            append(&log, "busy", 999_000 + second, "{}").await;
        }
        let known = ["parked:soc", "late:soc"];
        assert_eq!(ask(&log, 10_000).await, known, "and nothing that this version does not know");
        append(&log, "forger", 6_000, notice(Turn::Cleared, &["parked:soc"])).await;
        assert_eq!(ask(&log, 10_000).await, known, "whoever posts the like is nobody");
        append(&log, INTERNAL, 6_000, notice(Turn::Cleared, &["parked:soc"])).await;
        assert!(ask(&log, 10).await.is_empty());
    }

    #[tokio::test]
    async fn it_does_not_look_back_for_ever() {
        let log = MemoryLog::new(64 << 20);
        append(&log, INTERNAL, 20, notice(Turn::Open, &[])).await;
        for second in 0..5_000 {
            append(&log, "busy", 100 + second, "{}").await;
        }
        assert!(ask(&log, 10).await.is_empty(), "older than the window");
        assert_eq!(ask(&log, 2_000_000).await, ["parked:soc"]);
        assert!(ask(&MemoryLog::new(1 << 20), 10).await.is_empty());
    }
}
