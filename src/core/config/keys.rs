//! The keys of a table, held against the JSON Schema of its settings.
//!
//! Guarantees: all unknown keys, all missing ones and all numbers out of range are reported at any
//! depth, each with what to do. Whether values can be read is for `values.rs`.

use serde_json::Value;

use super::problem::{Problem, Problems};

/// Collect what is wrong with the keys of `value`, which stands at `key`.
pub(super) fn check(key: &str, value: &Value, schema: &Value) -> Problems {
    let mut found = Problems::new();
    look(key, value, schema, schema, &mut found);
    found
}

/// Follow one `$ref` into the root's definitions.
pub(super) fn resolved<'s>(schema: &'s Value, root: &'s Value) -> &'s Value {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'));
    target.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

fn look(key: &str, value: &Value, schema: &Value, root: &Value, found: &mut Problems) {
    let schema = resolved(schema, root);
    if let Some(option) = alternative(value, schema, root) {
        return look(key, value, option, root, found);
    }
    match value {
        Value::Object(table) => look_into(key, table, schema, root, found),
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    look(&format!("{key}[{index}]"), item, schema, root, found);
                }
            }
        }
        Value::Number(_) => found.extend(out_of_range(key, value, schema)),
        _ => {}
    }
}

/// Of alternatives (an optional table, an enum) the one that knows most of the keys of `value`.
fn alternative<'s>(value: &Value, schema: &'s Value, root: &'s Value) -> Option<&'s Value> {
    if schema.get("properties").is_some() {
        return None;
    }
    let options = ["anyOf", "oneOf"].into_iter().find_map(|part| schema.get(part)?.as_array())?;
    let best = options.iter().map(|o| resolved(o, root)).max_by_key(|o| known_in(value, o))?;
    (known_in(value, best) > 0).then_some(best)
}

fn known_in(value: &Value, schema: &Value) -> usize {
    let properties = schema.get("properties").and_then(Value::as_object);
    match (value.as_object(), properties) {
        (Some(table), Some(known)) => 1 + table.keys().filter(|k| known.contains_key(*k)).count(),
        _ => 0,
    }
}

fn look_into(
    key: &str,
    table: &serde_json::Map<String, Value>,
    schema: &Value,
    root: &Value,
    found: &mut Problems,
) {
    let none = serde_json::Map::new();
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    let known = schema.get("properties").and_then(Value::as_object);
    let Some(known) = known.or(closed.then_some(&none)) else { return };
    let open = !closed && schema.get("additionalProperties").is_some();
    for (name, inner) in table {
        let path = format!("{key}.{name}");
        match known.get(name) {
            Some(schema) => look(&path, inner, schema, root, found),
            None if open => {}
            None => found.push(unknown(path, name, known.keys())),
        }
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required.filter_map(Value::as_str).filter(|name| !table.contains_key(*name)) {
        found.push(missing(key, name, known.get(name), root));
    }
}

fn unknown<'n>(
    path: String,
    name: &str,
    known: impl Iterator<Item = &'n String> + Clone,
) -> Problem {
    let problem = Problem::new(path, format!("unknown key `{name}`"));
    match nearest(name, known.clone().map(String::as_str)) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => {
            let all = known.map(String::as_str).collect::<Vec<_>>().join(", ");
            problem.help(match all.is_empty() {
                true => "there are no settings of its own here; remove it".to_owned(),
                false => format!("known here: {all}"),
            })
        }
    }
}

fn missing(key: &str, name: &str, schema: Option<&Value>, root: &Value) -> Problem {
    let about = |schema: &Value| Some(schema.get("description")?.as_str()?.replace('\n', " "));
    let about = schema.and_then(|schema| about(schema).or_else(|| about(resolved(schema, root))));
    Problem::new(format!("{key}.{name}"), format!("`{name}` is missing"))
        .help(about.map(|about| format!("{name}: {about}")).unwrap_or_default())
}

fn out_of_range(key: &str, value: &Value, schema: &Value) -> Option<Problem> {
    let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
    let (least, most, number) = (limit("minimum"), limit("maximum"), value.as_f64()?);
    if least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most) {
        return None;
    }
    let range = match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, most) => format!("at most {}", most.unwrap_or_default()),
    };
    Some(Problem::new(key, format!("must be {range}, not {value}")))
}

/// The known name that `name` was probably meant to be.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    known
        .map(|k| (strsim::damerau_levenshtein(&name.to_lowercase(), k), k))
        .min()
        .filter(|(distance, k)| 2 * distance < k.len().max(name.len()))
        .map(|(_, k)| k)
}
