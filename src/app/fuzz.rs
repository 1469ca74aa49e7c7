//! Fuzzing the configuration: any text is a plan, or has problems with their lines. No part of the
//! program.

use std::path::PathBuf;

use serde_json::Value;

use super::plan::Plan;
use crate::core::config::{Layers, Place, Problems};
use crate::core::fuzz::{SECRET, folder};
use crate::sinks::Catalogue;

/// A plan as a whole or problems, each with a message and a line that the file has; always the same;
/// no secret in any of it. `{{dir}}` stands for a folder with a secret in `key`.
pub(crate) fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data).replace("{{dir}}", &folder().to_string_lossy());
    let read = || Layers::of(vec![(PathBuf::from("fuzz.toml"), text.clone())]);
    let layers = match read() {
        Ok(layers) => layers,
        Err(problems) => return told(&text, &problems),
    };
    if names_a_device(&Value::Object(layers.root().table)) {
        return;
    }
    let of = |layers: &Layers| {
        Plan::of_layers(layers, &Catalogue::default()).map(|plan| (plan.hash, plan.warnings))
    };
    let plan = of(&layers);
    let again = read().map(|layers| of(&layers));
    match (plan, again) {
        (Ok((hash, warnings)), Ok(Ok((same, _)))) => {
            assert_eq!(hash, same);
            check(&text, &warnings);
        }
        (Err(problems), Ok(Err(same))) => {
            let shown =
                |problems: &Problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(shown(&problems), shown(&same));
            told(&text, &problems);
        }
        _ => panic!("the same text is read differently"),
    }
}

fn told(text: &str, problems: &Problems) {
    assert!(!problems.is_empty(), "refused without a reason");
    check(text, problems);
}

fn check(text: &str, problems: &Problems) {
    let lines = text.matches('\n').count() + 1;
    for problem in problems {
        assert!(!problem.message.trim().is_empty());
        let is_in_clear = text.contains(SECRET);
        assert!(is_in_clear || !problem.to_string().contains(SECRET), "a secret is told");
        if let Some(Place::Line { line, .. }) = &problem.place {
            assert!((1..=lines).contains(line), "line {line} of {lines}");
        }
    }
}

/// Reading a terminal or a device may never end; that is the user's own choice.
fn names_a_device(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("/dev") || text.contains("/proc"),
        Value::Array(items) => items.iter().any(names_a_device),
        Value::Object(table) => table.values().any(names_a_device),
        _ => false,
    }
}
