//! Fuzzing programs in routes: any text is a program or has problems. No part of the program.

use std::time::{Duration, Instant};

use super::program::{Filter, Transform};
use crate::core::config::Problems;

/// Nothing that a file may hold keeps a start or a reload waiting for longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Compiling ends, and tells what is wrong with a line of the text. Running is not part of it: what
/// a program written for that may take is bounded in time only (`program/run.rs`).
pub(crate) fn program(data: &[u8]) {
    let source = String::from_utf8_lossy(data);
    let begun = Instant::now();
    let filter = Filter::compile("routes.x.when", &source).map(|compiled| compiled.warnings);
    let transform = Transform::compile("routes.x.transform", &source);
    for result in [filter, transform.map(|compiled| compiled.warnings)] {
        told(&source, &result);
    }
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

fn told(source: &str, result: &Result<Problems, Problems>) {
    let (Ok(problems) | Err(problems)) = result;
    assert!(result.is_ok() || !problems.is_empty(), "refused without a reason");
    for problem in problems {
        assert!(
            problem.row.unwrap_or(0) <= source.matches('\n').count() && !problem.message.is_empty()
        );
        let shown = problem.to_string();
        // The threads' own panics are caught where they happen.
        assert!(!shown.contains("panicked"), "{shown}");
    }
}
