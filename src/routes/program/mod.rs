//! VRL programs in routes: `when`, a read-only question, and `transform`, which changes the event.
//!
//! Guarantees: compiled when the configuration is read, with every mistake told at its line; a
//! program sees nothing but the event; a filter cannot change it; evaluation ends (see `run.rs`).
//! Not here: what an answer means for a route (`mod.rs` of the table).

mod functions;
mod mistakes;
mod run;

pub use functions::names as function_names;
pub(super) use run::{Failure, Ran};

use std::sync::Arc;

use vrl::compiler::state::ExternalEnv;
use vrl::compiler::{CompileConfig, compile_with_external};
use vrl::path::{OwnedTargetPath, PathPrefix};

use crate::core::config::{Problem, Problems};
use crate::core::event::Value;
use mistakes::{excerpt, problems};

/// Longest source of a program, in bytes.
const SOURCE: usize = 16 << 10;
/// Deepest nesting of brackets in a source: the compiler walks it on its stack.
const NESTING: usize = 64;
/// Most digits of an index: the compiler and assignments fill arrays up to it.
const DIGITS: usize = 4;

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
        let compiled = compile(key, source, CompileConfig::default())?;
        let Compiled { program, warnings } = compiled;
        Ok(Compiled { program: Self(program), warnings })
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
    if let Some(problem) = too_much(key, source) {
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

/// What the compiler should not even try.
fn too_much(key: &str, source: &str) -> Option<Problem> {
    if source.trim().is_empty() {
        let help = "write an expression, or leave the key out";
        return Some(Problem::new(key, "is empty").help(help));
    }
    if source.len() > SOURCE {
        let message = format!("is {} bytes long; at most {SOURCE} are allowed", source.len());
        return Some(Problem::new(key, message).help("split the rule into several routes"));
    }
    let (at, message) = match (too_deep(source), too_far(source)) {
        (Some(at), _) => (at, format!("nests brackets more than {NESTING} deep")),
        (None, at) => (at?, "has an index of more than four digits".to_owned()),
    };
    let (row, help) = excerpt(source, at, "here");
    Some(Problem::new(key, message).help(help).row(row))
}

/// Where `source` has an index of more than [`DIGITS`] digits: not a list such as `[10000]`, which
/// follows a space or an operator.
fn too_far(source: &str) -> Option<usize> {
    let indexed =
        |c: char| c.is_alphanumeric() || matches!(c, '_' | '"' | ']' | ')' | '}' | '.' | '%');
    source.match_indices('[').map(|(at, _)| at).find(|at| {
        let digits = source[at + 1..].trim_start().trim_start_matches('-');
        let count =
            digits.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'_').count();
        count > DIGITS && source[..*at].ends_with(indexed)
    })
}

/// Where the brackets of `source` nest too deep. Those in strings and comments count as well.
fn too_deep(source: &str) -> Option<usize> {
    let mut depth = 0_usize;
    source.char_indices().find_map(|(at, c)| {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        (depth > NESTING).then_some(at)
    })
}

#[cfg(test)]
mod tests;
