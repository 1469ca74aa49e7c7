//! VRL programs in routes: `when`, a read-only question, and `transform`, which changes the event.
//!
//! Guarantees: compiled when the configuration is read, with every mistake told at its line; a
//! program sees nothing but the event; a filter cannot change it; evaluation ends (see `run.rs`).
//! Not here: what an answer means for a route (`mod.rs` of the table).

mod functions;
mod mistakes;
mod run;
mod size;

pub use functions::names as function_names;
pub(super) use run::{Failure, Ran};

use std::sync::Arc;

use vrl::compiler::state::ExternalEnv;
use vrl::compiler::{CompileConfig, compile_with_external};
use vrl::path::{OwnedTargetPath, PathPrefix};

use crate::core::config::{Problem, Problems};
use crate::core::event::Value;
use mistakes::problems;

/// Stack for compiling: address space, of which only what is used becomes memory.
const ROOM: usize = 256 << 20;

/// A program and what `check` should say about it.
pub(super) struct Compiled<P> {
    /// Ready to run.
    pub program: P,
    /// Correct, but probably not meant.
    pub warnings: Problems,
}

impl<P> Compiled<P> {
    /// Both.
    pub fn parts(self) -> (Option<P>, Problems) {
        (Some(self.program), self.warnings)
    }
}

/// A `when`: true takes the event.
pub(super) struct Filter(vrl::compiler::Program);

/// A `transform`: what it leaves of the event is sent.
pub(super) struct Transform(vrl::compiler::Program);

impl Filter {
    /// Compile the value of `key`, or say everything that is wrong with it.
    pub fn compile(key: &str, source: &str) -> Result<Compiled<Self>, Problems> {
        with_room(key, || Self::judge(key, source))
    }

    fn judge(key: &str, source: &str) -> Result<Compiled<Self>, Problems> {
        let mut config = CompileConfig::default();
        config.set_read_only();
        let Compiled { program, warnings } = compile(key, source, config)?;
        let result = program.final_type_info().result;
        // A `return` in the middle answers too.
        let answers = result.kind().union(result.returns().clone());
        if !answers.is_boolean() {
            let message = format!("must be true or false, but this is {answers}");
            let last = source.trim_end().lines().count().saturating_sub(1);
            let help = "compare it with something, such as `.simulated == true`";
            return Err(vec![Problem::new(key, message).help(help).row(last)]);
        }
        Ok(Compiled { program: Self(program), warnings })
    }

    /// The paths that the program may look at, with what `event` has there as JSON.
    pub fn sees(&self, event: &Value) -> Vec<(String, String)> {
        let paths = &self.0.info().target_queries;
        let there = |path: &OwnedTargetPath| {
            let value =
                event.get(&path.path).map_or_else(|| "nothing".to_owned(), Value::to_string);
            (path.to_string(), value)
        };
        let mut seen: Vec<_> = paths.iter().map(there).collect();
        seen.sort();
        seen.dedup();
        seen
    }

    /// Whether `event` is wanted.
    pub fn holds(&self, event: &Value) -> Ran<bool> {
        run::filter(&self.0, event)
    }
}

impl Transform {
    /// Compile the value of `key`, or say everything that is wrong with it.
    pub fn compile(key: &str, source: &str) -> Result<Compiled<Self>, Problems> {
        with_room(key, || {
            let Compiled { program, warnings } = compile(key, source, CompileConfig::default())?;
            Ok(Compiled { program: Self(program), warnings })
        })
    }

    /// What the program leaves of `event`.
    pub fn apply(&self, event: Arc<Value>) -> Ran<Value> {
        run::transform(&self.0, event)
    }
}

fn compile(
    key: &str,
    source: &str,
    config: CompileConfig,
) -> Result<Compiled<vrl::compiler::Program>, Problems> {
    if let Some(problem) = size::too_much(key, source) {
        return Err(vec![problem]);
    }
    let external = ExternalEnv::default();
    let result = compile_with_external(source, functions::offered(), &external, config)
        .map_err(|found| problems(key, source, found))?;
    if let Some(path) =
        result.program.info().target_queries.iter().find(|path| path.prefix == PathPrefix::Metadata)
    {
        let message = format!("{path} is always null: there is no metadata here");
        return Err(vec![
            Problem::new(key, message).help("paths into the event begin with a dot, such as .user"),
        ]);
    }
    let warnings = problems(key, source, result.warnings);
    Ok(Compiled { program: result.program, warnings })
}

/// Compile on a stack of [`ROOM`]: the compiler calls itself for every level of an expression, and
/// a long one in a file must not end a gateway that runs.
fn with_room<P: Send>(
    key: &str,
    compile: impl FnOnce() -> Result<Compiled<P>, Problems> + Send,
) -> Result<Compiled<P>, Problems> {
    let failed = |why: &str| vec![Problem::new(key, format!("cannot be compiled: {why}"))];
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("vrl".to_owned()).stack_size(ROOM);
        let compiling = thread.spawn_scoped(scope, compile);
        let compiling = compiling.map_err(|error| failed(&error.to_string()))?;
        compiling.join().unwrap_or_else(|_| Err(failed("the compiler panicked, a bug in it")))
    })
}

#[cfg(test)]
mod tests;
