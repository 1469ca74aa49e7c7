//! From an attempt's outcome to its receipt.
//!
//! Guarantees: pure; names every event of the batch once, and every one that was not taken with its
//! reason; nothing is copied for each event but a place in a stretch of positions.

use std::time::Duration;

use super::batch::{Item, Origin};
use crate::core::receipts::{Attempt, What};
use crate::core::sink::{Fault, Outcome};

/// What is kept of `outcome`, which came back for `items` after `took`.
pub(super) fn receipt(items: &[Item], outcome: &Outcome, took: Duration) -> What {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let mut attempt = Attempt { us, ..Attempt::default() };
    for item in items {
        match item.origin {
            Origin::Log => {
                attempt.add(&item.route, item.event.position);
                if item.event.finding().simulated {
                    attempt.drills.add(item.event.position.0);
                }
            }
            Origin::Replay(letter) => attempt.letters.add(letter.0),
            _ => attempt.others += 1,
        }
    }
    match outcome {
        Outcome::Delivered(reply) => attempt.said(None, "", Some(reply)),
        Outcome::Failed(fault) => {
            attempt.said(Some(fault.cause), &fault.note, fault.reply.as_ref());
        }
        Outcome::Partly { reply, faults } => {
            attempt.said(None, "", Some(reply));
            for (index, fault) in faults {
                if let Some(item) = items.get(*index) {
                    refused(&mut attempt, item, fault);
                }
            }
        }
    }
    What::Attempt(attempt)
}

fn refused(attempt: &mut Attempt, item: &Item, fault: &Fault) {
    let refused = attempt.refused(fault.cause, &fault.note, fault.reply.as_ref());
    match item.origin {
        Origin::Log => refused.positions.add(item.event.position.0),
        Origin::Replay(letter) => refused.letters.add(letter.0),
        _ => {}
    }
}
