//! Fuzzing the formats: lines of arbitrary events, read back by `parsers.rs`. No part of the program.
#![allow(clippy::unwrap_used, reason = "a failure is what targets are for")]

use serde_json::Value;

use super::document::schemas::{DOCUMENTS, checked};
use super::parsers::{
    CEF_KEYS, check_asff, expected, one_line, parse_cef, parse_csv, parse_gelf, parse_leef, written,
};
use super::{lines, rfc3164, rfc5424, text};
use crate::core::fuzz::event;
use crate::core::route::Shaped;

/// Room for everything.
const ROOM: usize = 1 << 24;

/// The line of `event` in the room there is, if it fits, and in any room.
fn both(name: &str, event: &Shaped, room: usize) -> (Option<String>, String) {
    let line = written(name, event, room);
    assert!(line.as_ref().is_none_or(|line| line.len() <= room), "{name} leaves its room");
    (line, written(name, event, ROOM).unwrap())
}

/// What may arrive of an optional text, if anything.
fn arrives(text: Option<&str>, most: usize, keeps: &[char]) -> Option<String> {
    text.map(|text| expected(text, most, keeps)).filter(|text| !text.is_empty())
}

/// Seven header fields, keys of CEF, each once and within its length, with the event's own words.
pub(crate) fn cef(data: &[u8]) {
    let (event, room) = event(data);
    let (fitted, whole) = both("cef", &event, room);
    let finding = event.finding();
    for line in fitted.iter().chain([&whole]) {
        one_line(line, &[]);
        let (header, pairs) = parse_cef(line);
        assert_eq!(header.len(), 7);
        for (key, value) in &pairs {
            match key.strip_suffix("Label") {
                Some(key) => assert!(pairs.contains_key(key), "{key}Label names nothing"),
                None => {
                    let most = CEF_KEYS.iter().find(|(known, _)| known == key).unwrap().1;
                    assert!((1..=most).contains(&value.len()), "{key}: {}", value.len());
                }
            }
        }
    }
    let (_, pairs) = parse_cef(&whole);
    for (key, text, most) in [
        ("suser", &finding.user, 1_023),
        ("msg", &finding.title, 1_023),
        ("cs2", &finding.incident, 4_000),
        ("app", &finding.protocol, 31),
        ("request", &finding.link, 1_023),
    ] {
        assert_eq!(pairs.get(key), arrives(text.as_deref(), most, &['\r', '\n']).as_ref(), "{key}");
    }
}

/// The same for both versions of LEEF.
pub(crate) fn leef(data: &[u8]) {
    let (event, room) = event(data);
    let finding = event.finding();
    for (name, fields, between) in [("leef", 6, '^'), ("leef1", 5, '\t')] {
        let (fitted, whole) = both(name, &event, room);
        for line in fitted.iter().chain([&whole]) {
            one_line(line, if between == '\t' { &['\t'] } else { &[] });
            let (header, pairs) = parse_leef(line);
            assert_eq!(header.len(), fields);
            assert!(pairs.keys().all(|key| key.chars().all(|c| c.is_ascii_alphanumeric())));
            assert!((1..=10).contains(&pairs["sev"].parse::<u8>().unwrap()));
        }
        let (_, pairs) = parse_leef(&whole);
        for (key, text, most) in [
            ("usrName", &finding.user, 255),
            ("msg", &finding.title, 4_000),
            ("incident", &finding.incident, 4_000),
            ("url", &finding.link, 4_000),
        ] {
            let text = arrives(text.as_deref(), most, &[]).map(|text| text.replace(between, " "));
            assert_eq!(pairs.get(key), text.as_ref(), "{name} {key}");
        }
    }
}

/// Always eighteen columns, with the event's own words.
pub(crate) fn csv(data: &[u8]) {
    let (event, room) = event(data);
    let (fitted, whole) = both("csv", &event, room);
    for line in fitted.iter().chain([&whole]) {
        one_line(line, &[]);
        assert_eq!(parse_csv(line).len(), 18);
    }
    let (finding, columns) = (event.finding(), parse_csv(&whole));
    let text =
        |text: &Option<String>, most| arrives(text.as_deref(), most, &[]).unwrap_or_default();
    assert_eq!(columns[5], text(&finding.user, 1_023));
    assert_eq!(columns[12], text(&finding.incident, 4_000));
    assert_eq!(columns[15], text(&finding.title, 1_023));
}

/// GELF 1.1, with the whole original where there is room.
pub(crate) fn gelf(data: &[u8]) {
    let (event, room) = event(data);
    let (fitted, whole) = both("gelf", &event, room);
    for line in fitted.iter().chain([&whole]) {
        one_line(line, &[]);
        parse_gelf(line);
    }
    let pairs = parse_gelf(&whole);
    let original = lines::line(&event.body);
    let original = String::from_utf8_lossy(&original).trim_end_matches('\n').to_owned();
    let told = pairs.get("full_message").and_then(Value::as_str).unwrap_or_default();
    assert_eq!(told, original);
}

/// A finding that Security Hub takes, in any room.
pub(crate) fn asff(data: &[u8]) {
    let (event, room) = event(data);
    let (fitted, whole) = both("asff", &event, room);
    fitted.iter().chain([&whole]).for_each(|line| {
        one_line(line, &[]);
        check_asff(line);
    });
}

/// ECS, OCSF, UDM and CloudEvents by the tables of their schemas, in any room, and the event's own
/// JSON in one line.
pub(crate) fn documents(data: &[u8]) {
    let (event, room) = event(data);
    for name in DOCUMENTS {
        both(name, &event, room);
        checked(name, &event, room);
        assert!(checked(name, &event, ROOM).is_some());
    }
    let raw = |room| super::format("raw").and_then(|raw| (raw.write)(&event, room));
    let fitted = raw(room);
    assert!(fitted.as_ref().is_none_or(|line| line.len() <= room && !line.contains(&b'\n')));
    if let Ok(Value::Object(read)) = serde_json::from_slice::<Value>(&event.body) {
        let whole: Value = serde_json::from_slice(&raw(ROOM).unwrap()).unwrap();
        assert_eq!(whole, Value::Object(read));
        let is_object = |line: &[u8]| serde_json::from_slice::<Value>(line).unwrap().is_object();
        assert!(fitted.is_none_or(|line| is_object(&line)));
    }
}

/// Headers of syslog by their grammars, and structured data read back.
pub(crate) fn syslog(data: &[u8]) {
    let (event, _) = event(data);
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let finding = event.finding();
    let (host, app, value) = (of(&finding.title), of(&finding.user), of(&finding.link));
    let facility = data.first().map_or(0, |byte| byte % 24);
    let element = rfc5424::element("origin@32473", [("env", value.as_str())]).unwrap();
    let header = rfc5424::Header::new(facility, &host, &app, std::slice::from_ref(&element));
    let line = header.write(&event);
    assert!(line.len() <= header.longest());
    let (words, read) = parse_rfc5424(&line);
    assert_eq!(words[0], format!("<{}>1", u32::from(facility) * 8 + priority(&line) % 8));
    for (word, most) in [(2, 255), (3, 48), (4, 128), (5, 32)] {
        assert!((1..=most).contains(&words[word].len()), "{line}");
    }
    assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_graphic())), "{line}");
    assert_eq!(read, value.chars().map(text::shown).collect::<String>());
    let old = rfc3164::Header::new(facility, &host, &rfc3164::tag(&app));
    let line = old.write(&event);
    assert!(line.len() <= old.longest() && line.is_ascii());
    let (head, tag) = line.strip_suffix(": ").unwrap().rsplit_once(' ').unwrap();
    assert!((1..=32).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert!(head.contains(">Jan  5 02:03:04 ") && priority(&line) / 8 == u32::from(facility));
    // Names of elements and parameters are taken as they are, or not at all.
    if let Ok(element) = rfc5424::element(&host, [(app.as_str(), "")]) {
        assert_eq!(element, format!("[{host} {app}=\"\"]"));
        let odd = |c: char| !c.is_ascii_graphic() || matches!(c, '=' | ']' | '"');
        assert!(![&host, &app].into_iter().any(|name| name.is_empty() || name.contains(odd)));
    }
}

fn priority(line: &str) -> u32 {
    line.strip_prefix('<').unwrap().split_once('>').unwrap().0.parse().unwrap()
}

/// The six words before the structured data, and the value of its only parameter.
fn parse_rfc5424(line: &str) -> (Vec<String>, String) {
    let parts: Vec<&str> = line.splitn(7, ' ').collect();
    let words = parts[..6].iter().map(ToString::to_string).collect();
    let mut rest = parts[6].strip_prefix("[origin@32473 env=\"").unwrap().chars();
    let mut value = String::new();
    loop {
        match rest.next().unwrap() {
            '\\' => value.push(rest.next().unwrap()),
            '"' => break,
            ']' => panic!("a bracket in a value: {line}"),
            c => value.push(c),
        }
    }
    assert_eq!(rest.as_str(), "] ");
    (words, value)
}
