//! The parts that no configuration reaches alone.

use serde_json::json;

use super::run::Failure;
use super::*;

fn filter(source: &str) -> Filter {
    Filter::compile("k", source).unwrap_or_else(|problems| panic!("{problems:?}")).program
}

fn value(json: serde_json::Value) -> Value {
    serde_json::from_value(json).unwrap()
}

#[test]
fn failures_say_where_and_never_what() {
    let event = value(json!({ "secret": "hunter2" }));
    let failure = filter("to_int!(.secret) == 1").holds(&event).result.unwrap_err();
    assert_eq!(failure, Failure::Failed("function call error for \"to_int\" at (0:16)".into()));
    let failure = filter("if .x != 1 { abort string!(.secret) }\ntrue").holds(&event).result;
    assert_eq!(failure.unwrap_err(), Failure::Aborted);
}

#[test]
fn every_refusal_is_of_one_function_and_has_a_reason() {
    let mut names: Vec<_> = functions::REFUSED.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), functions::REFUSED.len());
    assert!(functions::offered().iter().all(|f| functions::refusal(f.identifier()).is_none()));
}

#[test]
fn the_excerpt_stands_under_its_line() {
    let problem = Filter::compile("k", "true &&\n  upcas(.x) == \"ü\"").err().unwrap().remove(0);
    let text = problem.to_string();
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(problem.row, Some(1), "{problem}");
    assert_eq!(lines[0].find("upcas"), lines[1].find("^^^^^"), "{problem}");
    assert!(!problem.help.contains("http"), "{problem}");
}

#[test]
fn a_filter_sees_paths_with_their_values() {
    let seen = filter(".a.b == 1 && exists(.c) && .a.b != 2").sees(&value(json!({"a": {"b": 1}})));
    assert!(seen.contains(&(".a.b".into(), "1".into())), "{seen:?}");
}
