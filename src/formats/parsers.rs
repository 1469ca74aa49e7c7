//! Parsers that know nothing of the writers, for tests and fuzzing: each reads one format by its
//! standard, and fails where a line breaks it. No part of the program.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is what they are for")]

use std::collections::BTreeMap;

use super::*;
use crate::core::Timestamp;

pub(super) fn written(name: &str, event: &Shaped, room: usize) -> Option<String> {
    let bytes = (format(name).unwrap().write)(event, room)?;
    Some(String::from_utf8(bytes.to_vec()).unwrap())
}

/// What may arrive of `text` under a key that takes so many bytes: said again, naively.
pub(super) fn expected(text: &str, most: usize, keeps: &[char]) -> String {
    let blank = |c: char| c.is_whitespace() || c.is_control() || "\u{2028}\u{2029}".contains(c);
    let mut kept = text.trim_matches(blank).to_owned();
    while kept.len() > most {
        kept.pop();
    }
    let kept = kept.trim_matches(blank).chars();
    let control = |c: char| c.is_control() || "\u{2028}\u{2029}".contains(c);
    kept.map(|c| if control(c) && !keeps.contains(&c) { ' ' } else { c }).collect()
}

/// Header fields and extension of a CEF line, by the rules of the standard.
pub(super) fn parse_cef(line: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let mut header = vec![String::new()];
    let mut chars = line.chars();
    while header.len() < 8 {
        match chars.next().expect("seven bars") {
            '\\' => header.last_mut().unwrap().push(chars.next().unwrap()),
            '|' => header.push(String::new()),
            c => header.last_mut().unwrap().push(c),
        }
    }
    assert_eq!(header.pop().unwrap(), "");
    // Left to right: a key is the word before an `=` that no backslash escapes.
    let rest: Vec<char> = chars.collect();
    let mut starts = Vec::new();
    let mut at = 0;
    while at < rest.len() {
        if rest[at] == '\\' {
            at += 1;
        } else if rest[at] == '=' {
            let key = rest[..at].iter().rposition(|c| *c == ' ').map_or(0, |space| space + 1);
            starts.push((key, at));
        }
        at += 1;
    }
    let mut pairs = BTreeMap::new();
    for (index, (key, equals)) in starts.iter().enumerate() {
        let end = starts.get(index + 1).map_or(rest.len(), |(next, _)| next - 1);
        let key: String = rest[*key..*equals].iter().collect();
        let mut value = String::new();
        let mut raw = rest[equals + 1..end].iter();
        while let Some(c) = raw.next() {
            value.push(match c {
                '\\' => match raw.next().unwrap() {
                    'n' => '\n',
                    'r' => '\r',
                    c @ ('\\' | '=') => *c,
                    c => panic!("\\{c} is no escape of CEF"),
                },
                c => *c,
            });
        }
        assert!(pairs.insert(key.clone(), value).is_none(), "{key} comes twice: {line}");
    }
    (header, pairs)
}

/// Header fields and attributes of a LEEF line.
pub(super) fn parse_leef(line: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let bars = if line.starts_with("LEEF:2.0|") { 6 } else { 5 };
    let parts: Vec<&str> = line.splitn(bars + 1, '|').collect();
    let header: Vec<String> = parts[..bars].iter().map(ToString::to_string).collect();
    let between = header.get(5).map_or("\t", String::as_str);
    let mut pairs = BTreeMap::new();
    for pair in parts[bars].split(between) {
        let (key, value) = pair.split_once('=').unwrap();
        assert!(pairs.insert(key.to_owned(), value.to_owned()).is_none(), "{key} comes twice");
    }
    (header, pairs)
}

/// The columns of a line, as RFC 4180 reads them.
pub(super) fn parse_csv(line: &str) -> Vec<String> {
    let (mut columns, mut quoted) = (vec![String::new()], false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                columns.last_mut().unwrap().push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(String::new()),
            c => columns.last_mut().unwrap().push(c),
        }
    }
    assert!(!quoted);
    columns
}

/// The fields of a message by the rules of GELF 1.1.
pub(super) fn parse_gelf(line: &str) -> BTreeMap<String, Value> {
    struct Once(BTreeMap<String, Value>);
    impl<'de> Deserialize<'de> for Once {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Keys;
            impl<'de> serde::de::Visitor<'de> for Keys {
                type Value = Once;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(
                    self,
                    mut map: A,
                ) -> Result<Once, A::Error> {
                    let mut pairs = BTreeMap::new();
                    while let Some((key, value)) = map.next_entry::<String, Value>()? {
                        assert!(pairs.insert(key.clone(), value).is_none(), "{key} comes twice");
                    }
                    Ok(Once(pairs))
                }
            }
            deserializer.deserialize_map(Keys)
        }
    }
    let Once(pairs) = serde_json::from_str(line).unwrap();
    for (key, value) in &pairs {
        let standard = ["version", "host", "short_message", "full_message", "timestamp", "level"];
        let name = key.strip_prefix('_');
        let legal =
            |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        let good =
            name.map_or(standard.contains(&key.as_str()), |name| name != "id" && legal(name));
        assert!(good && (value.is_string() || value.is_number()), "{key}: {value}");
    }
    assert_eq!(pairs["version"], "1.1");
    assert!(
        ["host", "short_message"]
            .iter()
            .all(|key| pairs[*key].as_str().is_some_and(|it| !it.is_empty()))
    );
    assert!(
        pairs["timestamp"].is_number() && pairs["level"].as_u64().is_some_and(|level| level <= 7)
    );
    pairs
}

/// Keys of CEF that are written, with what each may take.
pub(super) const CEF_KEYS: [(&str, usize); 24] = [
    ("rt", 20),
    ("start", 20),
    ("externalId", 40),
    ("cat", 1_023),
    ("act", 63),
    ("suser", 1_023),
    ("src", 15),
    ("c6a2", 45),
    ("shost", 1_023),
    ("dhost", 1_023),
    ("app", 31),
    ("cn1", 20),
    ("fname", 1_023),
    ("filePath", 1_023),
    ("request", 1_023),
    ("cs1", 4_000),
    ("cs2", 4_000),
    ("cs3", 4_000),
    ("cs4", 4_000),
    ("cs5", 4_000),
    ("cs6", 4_000),
    ("flexString1", 1_023),
    ("flexString2", 1_023),
    ("msg", 1_023),
];

/// A finding as AWS documents it: what must be there, and what each attribute may hold.
pub(super) fn check_asff(line: &str) -> Value {
    let finding: Value = serde_json::from_str(line).unwrap();
    let text = |place: &str| finding.pointer(place).and_then(Value::as_str).unwrap_or_default();
    for (place, most) in [
        ("/Id", 512),
        ("/ProductArn", 2_048),
        ("/ProductName", 128),
        ("/CompanyName", 128),
        ("/GeneratorId", 512),
        ("/Title", 256),
        ("/Description", 1_024),
        ("/Severity/Original", 64),
    ] {
        assert!(!text(place).trim().is_empty() && text(place).len() <= most, "{place}: {line}");
    }
    assert_eq!((text("/SchemaVersion"), text("/AwsAccountId").len()), ("2018-10-08", 12));
    for place in ["/CreatedAt", "/UpdatedAt", "/FirstObservedAt", "/LastObservedAt"] {
        let time: Timestamp = text(place).parse().unwrap();
        assert!(text(place).len() == 24 && text(place).ends_with('Z'), "{place}: {time}");
    }
    assert!(text("/CreatedAt") <= text("/UpdatedAt"));
    let label = ["INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"];
    assert!(label.contains(&text("/Severity/Label")));
    assert_eq!(finding["Severity"], finding["FindingProviderFields"]["Severity"]);
    assert_eq!(finding["Types"], finding["FindingProviderFields"]["Types"]);
    assert!(matches!(text("/Workflow/Status"), "NEW" | "RESOLVED"));
    assert_eq!(text("/Workflow/Status") == "RESOLVED", text("/RecordState") == "ARCHIVED");
    let resources = finding["Resources"].as_array().unwrap();
    assert!((1..=32).contains(&resources.len()));
    for resource in resources {
        let id = resource["Id"].as_str().unwrap();
        assert!(id.len() <= 512 && !id.trim().is_empty() && resource["Type"] == "Other");
    }
    let fields = finding["ProductFields"].as_object().unwrap();
    let good = |(key, value): (&String, &Value)| {
        key.len() <= 128 && value.as_str().is_some_and(|value| (1..=2_048).contains(&value.len()))
    };
    assert!(fields.len() <= 50 && fields.iter().all(good), "{fields:?}");
    let malware = finding.get("Malware").and_then(Value::as_array);
    assert!(malware.is_none_or(|list| (1..=5).contains(&list.len())
        && list.iter().all(|it| it["Path"].as_str().is_some_and(|path| path.len() <= 512))));
    if let Some(url) = finding.get("SourceUrl") {
        assert!(url.as_str().unwrap().starts_with("http"));
    }
    finding
}

pub(super) fn one_line(line: &str, allowed: &[char]) {
    let odd = |c: char| (c.is_control() || "\u{2028}\u{2029}".contains(c)) && !allowed.contains(&c);
    assert!(!line.contains(odd), "{line:?}");
}
