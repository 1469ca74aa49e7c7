//! Running a program on an event.
//!
//! Guarantees: a run ends with an answer or a failure, whatever the event holds. VRL asks before
//! every expression whether to go on, so a run has two limits: expressions, which does not depend
//! on the machine's load and so gives the same answer every time, and time, for when single
//! expressions are slow. A panic inside a function is a failure like any other. Failures carry no
//! value of the event: they go to the journal.
//!
//! Not guaranteed: one call of one function cannot be interrupted. What it may take is bounded by
//! the body's size and by leaving out functions that are not linear in their input. Memory is not
//! limited as such: a program that multiplies strings (`"x" * .n`) can exhaust it, and one
//! that nests a value thousands of levels deep in a loop (`x = [x]`) the stack. Either ends the
//! process: no event does that alone, a program must be written so.

use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use vrl::compiler::runtime::{Runtime, Terminate};
use vrl::compiler::{ExpressionError, Program, SecretTarget, Target, TargetValueRef, TimeZone};
use vrl::path::{OwnedTargetPath, PathPrefix};
use vrl::value::Secrets;

use crate::core::event::Value;

/// Most expressions that one run may evaluate.
const EXPRESSIONS: u32 = 1_000_000;
/// How often the clock is read: once in so many expressions.
const GLANCE: u32 = 64;
/// Longest run of a filter: it runs at the door, and failing takes the event.
const FILTER_TIME: Duration = Duration::from_millis(250);
/// Longest run of a transform: failing dead-letters the event, which a busy machine must not do.
const TRANSFORM_TIME: Duration = Duration::from_secs(2);

/// What a run came to, and how long it took.
pub(in crate::routes) struct Ran<T> {
    /// The answer.
    pub result: Result<T, Failure>,
    /// Time on the clock.
    pub took: Duration,
}

/// Why a run has no answer. Shows where, never a value of the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::routes) enum Failure {
    /// The program says `abort`.
    Aborted,
    /// An expression failed.
    Failed(String),
    /// It was stopped.
    TooLong,
    /// A function of VRL panicked.
    Panicked,
    /// A filter answered neither true nor false.
    NotBoolean,
    /// The body is not what programs can work on.
    Unreadable(Arc<str>),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted => f.write_str("the program aborted"),
            Self::Failed(what) => f.write_str(what),
            Self::TooLong => write!(
                f,
                "stopped: more than {EXPRESSIONS} expressions, or longer than {FILTER_TIME:?} \
                 (when) or {TRANSFORM_TIME:?} (transform)"
            ),
            Self::Panicked => f.write_str("a function of VRL panicked, which is a bug in it"),
            Self::NotBoolean => f.write_str("the answer was neither true nor false"),
            Self::Unreadable(why) => write!(f, "the body cannot be read: {why}"),
        }
    }
}

/// Ask `program` about `event`.
pub(super) fn filter(program: &Program, event: &Value) -> Ran<bool> {
    let answer = run(program, &mut Seen(event), FILTER_TIME);
    let result = answer.result.and_then(|answer| answer.as_boolean().ok_or(Failure::NotBoolean));
    Ran { result, took: answer.took }
}

/// Let `program` change `event`.
pub(super) fn transform(program: &Program, event: Arc<Value>) -> Ran<Value> {
    let started = Instant::now();
    let mut value = Arc::unwrap_or_clone(event);
    let (mut metadata, mut secrets) = (nothing(), Secrets::new());
    let mut target =
        TargetValueRef { value: &mut value, metadata: &mut metadata, secrets: &mut secrets };
    let result = run(program, &mut target, TRANSFORM_TIME).result.map(|_| value);
    Ran { result, took: started.elapsed() }
}

fn run(program: &Program, target: &mut dyn Target, limit: Duration) -> Ran<Value> {
    static UTC: OnceLock<TimeZone> = OnceLock::new();
    // Times without a zone are UTC on every machine.
    let zone = UTC.get_or_init(|| TimeZone::parse("UTC").unwrap_or_default());
    let started = Instant::now();
    let mut count = 0_u32;
    let mut control = || {
        count += 1;
        let late = count.is_multiple_of(GLANCE) && started.elapsed() > limit;
        if late || count > EXPRESSIONS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    // Nothing outlives the call but the target, which is dropped when this fails.
    let ran = catch_unwind(AssertUnwindSafe(|| {
        Runtime::default().resolve_with_control(target, program, zone, &mut control)
    }));
    let result = match ran {
        Ok(ran) => ran.map_err(failure),
        Err(_) => Err(Failure::Panicked),
    };
    Ran { result, took: started.elapsed() }
}

fn failure(end: Terminate) -> Failure {
    match end {
        Terminate::Interrupted => Failure::TooLong,
        Terminate::Abort(ExpressionError::Abort { .. }) => Failure::Aborted,
        Terminate::Abort(error) | Terminate::Error(error) => Failure::Failed(place(&error)),
    }
}

/// `function call error for "to_int" at (7:20): …` without what follows: it may quote the event.
fn place(error: &ExpressionError) -> String {
    let message = error.to_string();
    let head = message.starts_with("function call error for").then(|| message.split("): ").next());
    match head.flatten() {
        Some(head) if head.len() < message.len() => format!("{head})"),
        _ => "an expression failed".to_owned(),
    }
}

fn nothing() -> Value {
    Value::Object(vrl::value::ObjectMap::new())
}

/// An event that can only be looked at. The compiler refuses assignments; this would as well.
struct Seen<'e>(&'e Value);

impl fmt::Debug for Seen<'_> {
    // Bodies carry user and file names: never in a Debug.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seen")
    }
}

/// The answer to whoever tries to change it.
fn read_only<T>() -> Result<T, String> {
    Err("the event is read-only in `when`".to_owned())
}

impl Target for Seen<'_> {
    fn target_insert(&mut self, _: &OwnedTargetPath, _: Value) -> Result<(), String> {
        read_only()
    }
    fn target_get(&self, path: &OwnedTargetPath) -> Result<Option<&Value>, String> {
        Ok(match path.prefix {
            PathPrefix::Event => self.0.get(&path.path),
            PathPrefix::Metadata => None,
        })
    }
    fn target_get_mut(&mut self, _: &OwnedTargetPath) -> Result<Option<&mut Value>, String> {
        read_only()
    }
    fn target_remove(&mut self, _: &OwnedTargetPath, _: bool) -> Result<Option<Value>, String> {
        read_only()
    }
}

impl SecretTarget for Seen<'_> {
    fn get_secret(&self, _: &str) -> Option<&str> {
        None
    }
    fn insert_secret(&mut self, _: &str, _: &str) {}
    fn remove_secret(&mut self, _: &str) {}
}
