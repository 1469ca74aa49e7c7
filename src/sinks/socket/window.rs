//! The last messages sent on a connection: what its end may have eaten.
//!
//! A write into a connection succeeds when the bytes are on their way. What the receiver had not
//! read when it went is lost, and nothing says how much that was. So the latest messages are kept
//! and sent again on the next connection.
//!
//! Guarantees: pure; bounded by bytes and by age; once the connection is in doubt nothing is
//! forgotten until it was sent again; no message is sent again more than [`TIMES`] times, so that a
//! receiver which closes every connection does not get it for ever. It dies with the process.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// Most bytes kept: more than the buffers of both ends hold.
pub const MOST_BYTES: usize = 8 << 20;
/// What a kept message takes beside its bytes.
const EACH: usize = 64;
/// How often a message is sent again at most.
pub const TIMES: u8 = 3;
/// A receiver that closes in order has read everything (else its kernel resets), and may only have
/// lost what was still in its memory: not more than this time's.
const IN_MEMORY: Duration = Duration::from_secs(10);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The peer closed it when it had read everything.
    Closed,
    /// A reset, a timeout, a write that was given up.
    Broken,
}

#[derive(Debug)]
struct Kept {
    message: Bytes,
    sent: Instant,
    again: u8,
}

/// The latest messages.
#[derive(Debug)]
pub struct Window {
    span: Duration,
    kept: VecDeque<Kept>,
    bytes: usize,
    in_doubt: bool,
}

impl Window {
    /// A window of the messages of the last `span`; none at all if that is zero.
    pub fn new(span: Duration) -> Self {
        Self { span, kept: VecDeque::new(), bytes: 0, in_doubt: false }
    }

    /// Whether nothing can be missing.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether something may have been eaten.
    pub fn is_in_doubt(&self) -> bool {
        self.in_doubt && !self.kept.is_empty()
    }

    /// These were written on the current connection.
    pub fn sent(&mut self, messages: impl IntoIterator<Item = Bytes>, now: Instant) {
        if self.span.is_zero() {
            return;
        }
        for message in messages {
            self.bytes += message.len() + EACH;
            self.kept.push_back(Kept { message, sent: now, again: 0 });
        }
        self.forget(now);
    }

    /// Forget what the receiver has had long enough to read.
    pub fn forget(&mut self, now: Instant) {
        self.forget_older(self.span, now);
    }

    fn forget_older(&mut self, span: Duration, now: Instant) {
        let old = |kept: &Kept| !self.in_doubt && now.duration_since(kept.sent) > span;
        while self.kept.front().is_some_and(|kept| old(kept) || self.bytes > MOST_BYTES) {
            self.bytes -= self.kept.pop_front().map_or(0, |kept| kept.message.len() + EACH);
        }
    }

    /// The connection ended, at `at` or somewhat before.
    pub fn doubt(&mut self, at: Instant, ending: Ending) {
        let span = if ending == Ending::Closed { self.span.min(IN_MEMORY) } else { self.span };
        self.forget_older(span, at);
        self.in_doubt = true;
    }

    /// What to send again, oldest first.
    pub fn due(&self) -> Vec<Bytes> {
        match self.in_doubt {
            true => self.kept.iter().map(|kept| kept.message.clone()).collect(),
            false => Vec::new(),
        }
    }

    /// What was due was written on a new connection.
    pub fn settled(&mut self, now: Instant) {
        if std::mem::take(&mut self.in_doubt) {
            self.kept.iter_mut().for_each(|kept| (kept.sent, kept.again) = (now, kept.again + 1));
            self.kept.retain(|kept| kept.again < TIMES);
            self.bytes = self.kept.iter().map(|kept| kept.message.len() + EACH).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPAN: Duration = Duration::from_secs(60);

    fn message(byte: u8) -> Bytes {
        vec![byte].into()
    }

    #[test]
    fn a_quiet_end_long_after_repeats_nothing() {
        let (mut window, start) = (Window::new(SPAN), Instant::now());
        window.sent([message(1)], start);
        window.doubt(start + SPAN * 2, Ending::Broken);
        assert!(window.due().is_empty() && !window.is_in_doubt());
    }

    #[test]
    fn doubt_keeps_until_it_is_settled() {
        let (mut window, start) = (Window::new(SPAN), Instant::now());
        window.sent([message(1)], start);
        window.sent([message(2)], start + SPAN);
        window.doubt(start + SPAN + SPAN / 2, Ending::Broken);
        window.forget(start + SPAN * 100);
        assert_eq!(window.due(), [message(2)]);
        window.doubt(start + SPAN * 100, Ending::Broken);
        assert_eq!(window.due(), [message(2)], "a second failure forgets nothing");
        window.settled(start + SPAN * 100);
        assert!(window.due().is_empty());
        // It may be eaten again.
        window.doubt(start + SPAN * 101, Ending::Broken);
        assert_eq!(window.due(), [message(2)]);
    }

    #[test]
    fn an_orderly_end_repeats_the_latest_only_and_nothing_is_repeated_for_ever() {
        let (mut window, start) = (Window::new(SPAN), Instant::now());
        window.sent([message(1)], start);
        window.sent([message(2)], start + IN_MEMORY);
        let mut now = start + IN_MEMORY * 2;
        for _ in 0..TIMES {
            window.doubt(now, Ending::Closed);
            assert_eq!(window.due(), [message(2)]);
            window.settled(now);
            now += IN_MEMORY;
        }
        window.doubt(now, Ending::Broken);
        assert!(window.due().is_empty() && window.bytes == 0);
    }

    #[test]
    fn without_a_span_nothing_is_kept() {
        let (mut window, start) = (Window::new(Duration::ZERO), Instant::now());
        window.sent([message(1)], start);
        window.doubt(start, Ending::Broken);
        assert!(window.is_empty() && window.due().is_empty());
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_keeps_the_latest(
            steps in prop::collection::vec((0usize..3 << 20, 0u64..90, any::<bool>()), 1..40)
        ) {
            let (mut window, mut now) = (Window::new(SPAN), Instant::now());
            for (size, seconds, breaks) in steps {
                now += Duration::from_secs(seconds);
                let latest = Bytes::from(vec![0; size]);
                window.sent([latest.clone()], now);
                let bytes: usize = window.kept.iter().map(|kept| kept.message.len() + EACH).sum();
                prop_assert_eq!(bytes, window.bytes);
                prop_assert!(bytes <= MOST_BYTES);
                prop_assert_eq!(window.kept.back().map(|kept| kept.message.len()), Some(size));
                if breaks {
                    window.doubt(now, Ending::Broken);
                    prop_assert_eq!(window.due().pop(), Some(latest));
                    window.settled(now);
                }
            }
        }
    }
}
