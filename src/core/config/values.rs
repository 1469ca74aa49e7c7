//! Every bad value of a table, where serde alone would stop at the first.
//!
//! Guarantees: a value that cannot be read is reported with its full key, taken out, and reading
//! goes on, at most [`MOST`] times; what is only a consequence of taking out is not reported. What
//! serde says for programmers is said for people.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::keys::nearest;
use super::problem::{Problem, Problems};

/// Most bad values reported of one table.
const MOST: usize = 100;

/// Read `value`, which stands at `key`, or add every value that is wrong to `problems`, which has
/// what is already known to be wrong.
pub(super) fn read<T: DeserializeOwned>(
    key: &str,
    mut value: Value,
    mut problems: Problems,
) -> Result<T, Problems> {
    let mut taken = Taken::default();
    for _ in 0..MOST {
        let error = match serde_path_to_error::deserialize::<_, T>(value.clone()) {
            Ok(read) if problems.is_empty() => return Ok(read),
            Ok(_) => break,
            Err(error) => error,
        };
        let steps = steps(error.path());
        let at = taken.key(key, &steps);
        let text = error.inner().to_string();
        let name = quoted(&text);
        match name.filter(|_| text.starts_with("missing field")) {
            Some(name) => {
                let told = format!("`{name}` is missing");
                add(&mut problems, Problem::new(format!("{at}.{name}"), told));
            }
            None => add(&mut problems, plain(at, &text, found(&value, &steps))),
        }
        if !taken.out(&mut value, key, &steps) {
            break;
        }
    }
    Err(problems)
}

/// Add `problem` unless its key has one.
fn add(problems: &mut Problems, problem: Problem) {
    if problems.iter().all(|known| known.key != problem.key) {
        problems.push(problem);
    }
}

/// One step into a value.
enum Step {
    Key(String),
    Item(usize),
}

fn steps(path: &serde_path_to_error::Path) -> Vec<Step> {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(Step::Item(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().map_while(step).collect()
}

fn found<'v>(value: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Key(name) => value.get(name),
        Step::Item(index) => value.get(index),
    })
}

fn found_mut<'v>(value: &'v mut Value, steps: &[Step]) -> Option<&'v mut Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Key(name) => value.get_mut(name),
        Step::Item(index) => value.get_mut(index),
    })
}

/// What was taken out of lists: later items have moved up.
#[derive(Default)]
struct Taken(BTreeMap<String, Vec<usize>>);

impl Taken {
    /// The key at `steps` as it was before anything was taken out.
    fn key(&self, key: &str, steps: &[Step]) -> String {
        steps.iter().fold(key.to_owned(), |key, step| match step {
            Step::Key(name) if key.is_empty() => name.clone(),
            Step::Key(name) => format!("{key}.{name}"),
            Step::Item(index) => format!("{key}[{}]", self.original(&key, *index)),
        })
    }

    fn original(&self, list: &str, index: usize) -> usize {
        let gone = self.0.get(list).into_iter().flatten();
        gone.fold(index, |index, gone| if *gone <= index { index + 1 } else { index })
    }

    /// Take out what is at `steps`; false when nothing is.
    fn out(&mut self, value: &mut Value, key: &str, steps: &[Step]) -> bool {
        let Some((last, parents)) = steps.split_last() else { return false };
        let list = self.key(key, parents);
        match (last, found_mut(value, parents)) {
            (Step::Key(name), Some(Value::Object(table))) => table.remove(name).is_some(),
            (Step::Item(index), Some(Value::Array(items))) if *index < items.len() => {
                items.remove(*index);
                let original = self.original(&list, *index);
                let gone = self.0.entry(list).or_default();
                gone.push(original);
                gone.sort_unstable();
                true
            }
            _ => false,
        }
    }
}

/// The first name in backquotes.
fn quoted(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

/// What serde says, for people.
fn plain(key: String, text: &str, value: Option<&Value>) -> Problem {
    let wrong_type = text.starts_with("invalid type: ") || text.starts_with("invalid value: ");
    if let Some((_, expected)) = text.split_once(", expected ").filter(|_| wrong_type) {
        let shown = value.map(|value| format!(", not {}", shown(value))).unwrap_or_default();
        return Problem::new(key, format!("must be {}{shown}", expectation(expected)));
    }
    if let Some((_, known)) =
        text.split_once(", expected ").filter(|_| text.starts_with("unknown variant"))
    {
        let name = quoted(text).unwrap_or_default();
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let problem = Problem::new(key, format!("`{name}` is not one of: {}", known.join(", ")));
        return match nearest(name, known.into_iter()) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem,
        };
    }
    if text == "invalid socket address syntax" {
        let shown = value.map(shown).unwrap_or_default();
        return Problem::new(key, format!("{shown} is not an IP address with a port"))
            .help("write it like \"127.0.0.1:5000\", \"0.0.0.0:5000\" (every IPv4 interface) or \"[::1]:5000\"");
    }
    if text.starts_with("unknown field") {
        let name = quoted(text).unwrap_or_default();
        return Problem::new(key, format!("unknown key `{name}`"));
    }
    Problem::new(key, text)
}

fn expectation(expected: &str) -> &str {
    match expected {
        "usize" | "u64" | "u32" | "u16" | "u8" | "i64" => "a whole number",
        "a string" | "path string" | "a path string" | "a borrowed string" => "text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list: [ … ]",
        "a value or a list of values" => "text in quotes, or a list of such",
        "a map" => "a table: { … }",
        other if other.starts_with("struct ") => "a table: { … }",
        other => other,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a table".to_owned(),
        Value::String(text) if text.chars().count() > 40 => "a long text".to_owned(),
        Value::String(text) => format!("\"{text}\""),
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        name: String,
        count: u32,
        addresses: Vec<std::net::SocketAddr>,
        inner: Vec<Inner>,
    }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        on: bool,
        off: bool,
    }

    #[test]
    fn every_bad_value_is_told_once_with_its_place() {
        let value = json!({
            "name": 1, "count": "many", "odd": 1,
            "addresses": ["x", "127.0.0.1:1", "y", "z"],
            "inner": [{ "on": true, "off": true }, { "on": 1, "off": 2 }, { "on": true }],
        });
        let problems = read::<Outer>("a", value, Problems::new()).unwrap_err();
        let mut keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        keys.sort_unstable();
        let expected = [
            "a.addresses[0]",
            "a.addresses[2]",
            "a.addresses[3]",
            "a.count",
            "a.inner[1].off",
            "a.inner[1].on",
            "a.inner[2].off",
            "a.name",
            "a.odd",
        ];
        assert_eq!(keys, expected, "{problems:#?}");
        let count = problems.iter().find(|problem| problem.key == "a.count").unwrap();
        assert_eq!(count.message, "must be a whole number, not \"many\"");
    }
}
