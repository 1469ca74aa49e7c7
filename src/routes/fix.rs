//! A program that a person gives with a replay: it changes bodies that a destination refused.
//!
//! Guarantees: compiled before anything is sent; sees and leaves what a `transform` does, with the same
//! limits; a body that it fails on is told, and goes nowhere.

use std::time::Duration;

use bytes::Bytes;

use super::body;
use super::program::{Failure, Ran, Transform};
use crate::core::config::Problems;
use crate::core::event::Draft;

/// See the module.
pub struct Fix(Transform);

impl Fix {
    /// Compile `source`, or say everything that is wrong with it.
    pub fn compile(source: &str) -> Result<Self, Problems> {
        match Transform::compile("fix", source)?.parts() {
            (Some(program), _) => Ok(Self(program)),
            (None, problems) => Err(problems),
        }
    }

    /// The body of `event` as it is to be.
    pub fn apply(&self, event: &Draft) -> Result<Bytes, String> {
        let ran = match body::parse(&event.body) {
            Ok(value) => self.0.apply(value),
            Err(why) => Ran { result: Err(Failure::Unreadable(why)), took: Duration::ZERO },
        };
        ran.result.map_err(|failure| failure.to_string()).and_then(|value| body::write(&value))
    }
}
