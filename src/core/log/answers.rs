//! The answers to a group, on their way back from the commit thread.
//!
//! Guarantees: every append of the group is answered, also when one that carries the answers of others
//! is given up. Waking a task on another thread costs a system call, so the commit thread wakes one a
//! thread; that one answers the others there. Appends that were begun are to be polled or dropped, as
//! every task does with what it waits for.

use std::ops::Range;
use std::sync::Arc;
use std::thread::ThreadId;

use tokio::sync::oneshot;

use super::Refusal;
use crate::core::event::{Event, Position};

/// Where an append waits for its answer.
pub(super) struct Reply {
    to: oneshot::Sender<Result<Stored, Refusal>>,
    thread: ThreadId,
}

/// What an append that is stored is answered with.
pub(super) struct Stored {
    pub positions: Range<Position>,
    /// As many events, about, as the tail has forgotten for these: memory is freed by the threads that
    /// take it, beside the commits and where the allocator has use for it again.
    pub forgotten: Vec<Arc<Event>>,
    /// The answers of others that wait on the same thread.
    pub mates: Mates,
}

/// Answered when dropped, wherever that is.
#[derive(Default)]
pub(super) struct Mates(Vec<(Reply, Stored)>);

impl Drop for Mates {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|(reply, stored)| reply.send(Ok(stored)));
    }
}

impl Reply {
    /// For an append that waits on this thread.
    pub fn here() -> (Self, oneshot::Receiver<Result<Stored, Refusal>>) {
        let (to, answer) = oneshot::channel();
        (Self { to, thread: std::thread::current().id() }, answer)
    }

    pub fn send(self, answer: Result<Stored, Refusal>) {
        // The caller may have gone: what is stored is stored all the same.
        let _ = self.to.send(answer);
    }
}

/// Answer a group whose appends got these positions; they take away what the tail has forgotten.
pub(super) fn hand_over(answers: Vec<(Reply, Range<Position>)>, forgotten: Vec<Arc<Event>>) {
    let share = forgotten.len().div_ceil(answers.len().max(1));
    let mut forgotten = forgotten.into_iter();
    let mut first: Vec<(Reply, Stored)> = Vec::new();
    for (reply, positions) in answers {
        let forgotten = forgotten.by_ref().take(share).collect();
        let stored = Stored { positions, forgotten, mates: Mates::default() };
        match first.iter_mut().find(|(of, _)| of.thread == reply.thread) {
            Some((_, first)) => first.mates.0.push((reply, stored)),
            None => first.push((reply, stored)),
        }
    }
    first.into_iter().for_each(|(reply, stored)| reply.send(Ok(stored)));
}

#[cfg(test)]
mod tests {
    use super::*;

    type Waiting = oneshot::Receiver<Result<Stored, Refusal>>;

    /// The answers that have come, with those that they carried.
    fn come(waiting: &mut [Waiting]) -> Vec<u64> {
        let come = waiting.iter_mut().filter_map(|answer| answer.try_recv().ok()?.ok());
        come.map(|stored| stored.positions.start.0).collect()
    }

    fn group(count: u64) -> (Vec<(Reply, Range<Position>)>, Vec<Waiting>) {
        let one = |at| {
            let (reply, waiting) = Reply::here();
            ((reply, Position(at)..Position(at + 1)), waiting)
        };
        (0..count).map(one).unzip()
    }

    #[test]
    fn one_a_thread_is_woken_and_answers_the_others() {
        let (mut answers, mut waiting) = group(3);
        let (others, mut elsewhere) = std::thread::spawn(|| group(2)).join().unwrap();
        answers.extend(others);
        hand_over(answers, Vec::new());
        let first = waiting[0].try_recv().unwrap().unwrap();
        assert!(come(&mut waiting[1..]).is_empty());
        drop(first.mates);
        assert_eq!(come(&mut waiting[1..]), [1, 2]);
        assert_eq!(come(&mut elsewhere), [0, 1]);
    }

    #[test]
    fn whoever_goes_leaves_the_others_answered() {
        let (answers, mut waiting) = group(3);
        drop(waiting.remove(0)); // before its answer comes
        hand_over(answers, Vec::new());
        assert_eq!(come(&mut waiting), [1, 2]);
        let (answers, mut waiting) = group(3);
        hand_over(answers, Vec::new());
        drop(waiting.remove(0)); // with the answer that it has not looked at
        assert_eq!(come(&mut waiting), [1, 2]);
    }
}
