//! Whole behaviours, in one binary so that it is linked once.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what went wrong by panicking

mod routes;
mod scripted;
mod sources;
mod worker;
