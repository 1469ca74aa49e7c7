//! Properties of all formats: what is written is read back by parsers that know nothing of the
//! writers, whatever stood in the event.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::parsers::*;
use super::*;
use crate::core::Timestamp;
use crate::core::event::{Draft, Event, EventId, Position};
use crate::core::finding::{Finding, Severity, State};

pub(super) const ROOM: usize = 1 << 20;

pub(super) fn shaped(finding: Finding, body: impl Into<Bytes>) -> Shaped {
    let received: Timestamp = "2026-01-05T02:03:04.056789123Z".parse().unwrap();
    let draft = Draft::new(EventId::fresh(), received, "gate".into(), body.into());
    draft.decoded_by(|| finding);
    Shaped::unshaped(Arc::new(Event { position: Position(0), draft }))
}

/// Texts with everything that ends fields, lines and strings somewhere.
pub(super) fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        "[\\PC]{0,40}",
        any::<String>(),
        "[|=\\\\^,\";\\] \\[\r\n\t\u{0}\u{1b}\u{7f}\u{85}\u{2028}äß漢🦀a]{0,40}",
        Just("x suser=root act=none|10|^usrName=root\tsev=1\\".to_owned()),
        "[a漢🦀=|\\\\]{3990,4100}",
    ]
}

prop_compose! {
    pub(super) fn findings()(
        severity in prop::sample::select(vec![Severity::Unknown, Severity::Info, Severity::Critical]),
        state in prop_oneof![
            Just(State::Missing),
            nasty().prop_map(State::Unknown),
            Just(State::Known("locked_out".into())),
        ],
        texts in prop::collection::vec(prop::option::of(nasty()), 6),
        lists in prop::collection::vec(prop::collection::vec(nasty(), 0..4), 4),
        names in prop::collection::vec(prop::option::of(nasty()), 2),
        simulated: bool,
        time in prop::option::of(-99_999_999_999i64..900_000_000_000),
        count in prop::option::of(any::<u64>()),
    ) -> Finding {
        let [title, incident, user, protocol, link, category] = &texts[..] else { unreachable!() };
        Finding {
            severity,
            state,
            vendor: names[0].clone().map(Into::into),
            product: names[1].clone().map(Into::into),
            category: category.clone().map(Into::into),
            simulated,
            title: title.clone(),
            incident: incident.clone(),
            user: user.clone(),
            protocol: protocol.clone(),
            link: link.clone(),
            client_ips: lists[0].iter().cloned().chain(["10.0.0.1".into(), "fe80::1".into()]).collect(),
            clusters: lists[1].clone(),
            shares: lists[2].clone(),
            files: lists[3].clone().into(),
            file_count: count,
            time: time.and_then(|second| Timestamp::from_second(second).ok()),
            ..Finding::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn cef_is_read_back(finding in findings(), body in nasty()) {
        let event = shaped(finding.clone(), body);
        let line = written("cef", &event, ROOM).unwrap();
        one_line(&line, &[]);
        let (header, pairs) = parse_cef(&line);
        let vendor = finding.vendor.as_deref().unwrap_or("siemgate");
        prop_assert_eq!(&header[0], "CEF:0");
        prop_assert!(header[1].len() <= 63 && vendor.trim().starts_with(header[1].split(' ').next().unwrap()));
        prop_assert!(header[2].len() <= 63 && header[4].len() <= 1_023 && header[5].len() <= 512);
        let level = match finding.severity { Severity::Critical => "10", Severity::Info => "1", _ => "8" };
        prop_assert_eq!(&header[6], level);
        for (key, value) in &pairs {
            if let Some(key) = key.strip_suffix("Label") {
                prop_assert!(pairs.contains_key(key), "{} names nothing", key);
                continue;
            }
            let (_, most) = CEF_KEYS.iter().find(|(known, _)| known == key).unwrap();
            prop_assert!(value.len() <= *most && !value.is_empty(), "{}: {}", key, value.len());
        }
        let breaks = &['\r', '\n'];
        let file = finding.files.iter().map(|file| expected(file, 4_000, breaks)).find(|file| !file.is_empty());
        for (key, text, most) in [
            ("suser", finding.user.as_deref(), 1_023),
            ("msg", finding.title.as_deref(), 1_023),
            ("cs2", finding.incident.as_deref(), 4_000),
            ("app", finding.protocol.as_deref(), 31),
            ("request", finding.link.as_deref(), 1_023),
            ("filePath", finding.files.first().map(String::as_str), 1_023),
        ] {
            let expected = text.map(|text| expected(text, most, breaks)).filter(|text| !text.is_empty());
            prop_assert_eq!(pairs.get(key), expected.as_ref(), "{}", key);
        }
        if let (Some(file), Some(list)) = (file, pairs.get("cs5")) {
            prop_assert!(list.starts_with(&file), "{:?} {:?}", list, file);
        }
        prop_assert_eq!(&pairs["externalId"], &event.event.id.to_string());
        prop_assert_eq!(&pairs["rt"], "1767578584056");
        prop_assert_eq!((&*pairs["src"], &*pairs["c6a2"]), ("10.0.0.1", "fe80::1"));
    }

    #[test]
    fn leef_is_read_back(finding in findings(), tabs: bool) {
        let event = shaped(finding.clone(), "{}");
        let (name, version, between) = if tabs { ("leef1", "LEEF:1.0", '\t') } else { ("leef", "LEEF:2.0", '^') };
        let line = written(name, &event, ROOM).unwrap();
        one_line(&line, if tabs { &['\t'] } else { &[] });
        let (header, pairs) = parse_leef(&line);
        prop_assert_eq!(&header[0], version);
        prop_assert_eq!(header.len(), if tabs { 5 } else { 6 });
        let (_, known) = parse_leef(&written(name, &shaped(everything(), "{}"), ROOM).unwrap());
        for key in pairs.keys() {
            prop_assert!(known.contains_key(key) && key.chars().all(|c| c.is_ascii_alphanumeric()), "{}", key);
        }
        for (key, text, most) in [
            ("usrName", &finding.user, 255),
            ("msg", &finding.title, 4_000),
            ("incident", &finding.incident, 4_000),
            ("url", &finding.link, 4_000),
        ] {
            let expected = text.as_deref().map(|text| expected(text, most, &[]).replace(between, " "));
            let expected = expected.filter(|text| !text.is_empty());
            prop_assert_eq!(pairs.get(key), expected.as_ref(), "{}", key);
        }
        prop_assert_eq!(&pairs["eventId"], &event.event.id.to_string());
        prop_assert!((1..=10).contains(&pairs["sev"].parse::<u8>().unwrap()));
    }

    #[test]
    fn csv_is_read_back(finding in findings()) {
        let event = shaped(finding.clone(), "{}");
        let line = written("csv", &event, ROOM).unwrap();
        one_line(&line, &[]);
        let columns = parse_csv(&line);
        prop_assert_eq!(columns.len(), 18);
        prop_assert_eq!(&columns[0], "2026-01-05T02:03:04.056Z");
        prop_assert_eq!(&columns[2], finding.severity.as_str());
        let text = |text: &Option<String>, most| expected(text.as_deref().unwrap_or(""), most, &[]);
        prop_assert_eq!(&columns[5], &text(&finding.user, 1_023));
        prop_assert_eq!(&columns[12], &text(&finding.incident, 4_000));
        prop_assert_eq!(&columns[13], &event.event.id.to_string());
        prop_assert_eq!(&columns[15], &text(&finding.title, 1_023));
    }

    #[test]
    fn gelf_is_read_back(finding in findings(), body in nasty()) {
        let event = shaped(finding.clone(), body.clone());
        let line = written("gelf", &event, ROOM).unwrap();
        one_line(&line, &[]);
        let pairs = parse_gelf(&line);
        for (key, text, most) in [
            ("_user", finding.user.as_deref(), 8_000),
            ("_title", finding.title.as_deref(), 8_000),
            ("_incident", finding.incident.as_deref(), 8_000),
            ("_link", finding.link.as_deref(), 8_000),
            ("_protocol", finding.protocol.as_deref(), 255),
        ] {
            let everything: Vec<char> = (0..=0x2029).filter_map(char::from_u32).collect();
            let expected = text.map(|text| expected(text, most, &everything)).filter(|text| !text.is_empty());
            let expected = expected.map(Value::from);
            prop_assert_eq!(pairs.get(key), expected.as_ref(), "{}", key);
        }
        prop_assert_eq!(&pairs["_event_id"], &event.event.id.to_string());
        let level = match finding.severity { Severity::Critical => 2, Severity::Info => 6, _ => 3 };
        prop_assert_eq!(&pairs["level"], level);
        let count = finding.file_count.map(Value::from);
        prop_assert_eq!(pairs.get("_file_count"), count.as_ref());
        let received = Value::from(1_767_578_584.056);
        let usual = finding.time.filter(|time| (0..253_402_300_800).contains(&time.as_second()));
        prop_assert_eq!(&pairs["timestamp"], &usual.map_or(received, |time| Value::from(time.as_second() as f64)));
        let original = lines::line(body.as_bytes());
        let original = String::from_utf8_lossy(&original);
        prop_assert_eq!(&pairs["full_message"], original.trim_end_matches('\n'));
    }

    #[test]
    fn asff_is_read_back(finding in findings(), ended: bool, body in nasty()) {
        let event = shaped(Finding { ended, ..finding.clone() }, body);
        let line = written("asff", &event, ROOM).unwrap();
        one_line(&line, &[]);
        let read = check_asff(&line);
        let field = |name: &str| read["ProductFields"][format!("siemgate/{name}")].as_str().map(str::to_owned);
        for (name, text, most) in [
            ("User", finding.user.as_deref(), 2_048),
            ("Protocol", finding.protocol.as_deref(), 2_048),
            ("Category", finding.category.as_deref(), 2_048),
        ] {
            // Said again, naively: trimmed, without control characters, cut.
            let mut wanted: String = text.unwrap_or("").trim().chars().map(text::shown).collect();
            while wanted.len() > most {
                wanted.pop();
            }
            let wanted = wanted.trim().to_owned();
            prop_assert_eq!(field(name).unwrap_or_default(), wanted, "{}", name);
        }
        prop_assert_eq!(field("EventId").unwrap(), event.event.id.to_string());
        let label = match finding.severity { Severity::Critical => "CRITICAL", Severity::Info => "INFORMATIONAL", _ => "HIGH" };
        prop_assert_eq!(&read["Severity"]["Label"], label);
        prop_assert_eq!(read["RecordState"] == "ARCHIVED", ended);
        prop_assert_eq!(&read["Sample"], finding.simulated);
        prop_assert_eq!(&read["Network"]["SourceIpV4"], "10.0.0.1");
        prop_assert_eq!(&read["UpdatedAt"], "2026-01-05T02:03:04.056Z");
        // One id an incident, whatever else the event holds.
        let again = shaped(Finding { incident: finding.incident.clone(), ..Finding::default() }, "{}");
        let again = check_asff(&written("asff", &again, ROOM).unwrap());
        prop_assert_eq!(read["Id"] == again["Id"], finding.incident.is_some());
    }

    #[test]
    fn every_format_keeps_to_its_room(finding in findings(), room in 0usize..6_000) {
        let event = shaped(finding, "{\"a\":1}");
        for format in FORMATS {
            let Some(line) = written(format.name, &event, room) else { continue };
            prop_assert!(line.len() <= room);
            let whole = written(format.name, &event, ROOM).unwrap();
            match format.name {
                "cef" => {
                    let ((head, pairs), (first, all)) = (parse_cef(&line), parse_cef(&whole));
                    prop_assert_eq!(head, first);
                    for key in ["rt", "externalId", "start", "act", "cn1", "cs6"] {
                        prop_assert_eq!(pairs.get(key), all.get(key));
                    }
                }
                "leef" | "leef1" => {
                    let (pairs, all) = (parse_leef(&line).1, parse_leef(&whole).1);
                    for key in ["eventId", "sev", "devTime", "devTimeFormat", "state", "fileCount"] {
                        prop_assert_eq!(pairs.get(key), all.get(key));
                    }
                }
                "csv" => prop_assert_eq!(parse_csv(&line).len(), 18),
                "gelf" => {
                    let (pairs, all) = (parse_gelf(&line), parse_gelf(&whole));
                    for key in ["version", "host", "short_message", "timestamp", "level", "_event_id", "_severity", "_state", "_file_count", "_simulated"] {
                        prop_assert_eq!(pairs.get(key), all.get(key));
                    }
                    let full = pairs.contains_key("full_message");
                    prop_assert_eq!(pairs.contains_key("_shortened"), !full);
                }
                "asff" => drop(check_asff(&line)),
                "raw" => prop_assert_eq!(line, whole),
                _ => {}
            }
        }
        // What must stay fits into a kilobyte or so.
        prop_assert!(room < 2_500 || FORMATS.iter().all(|it| (it.write)(&event, room).is_some()));
    }

    #[test]
    fn headers_are_words_of_ascii(host in nasty(), app in nasty(), value in nasty(), finding in findings()) {
        let event = shaped(finding, "{}");
        let data = rfc5424::element("origin@32473", [("env", value.as_str())]).unwrap();
        let header = rfc5424::Header::new(16, &host, &app, std::slice::from_ref(&data));
        let line = header.write(&event);
        prop_assert!(line.len() <= header.longest());
        let head = line.strip_suffix(&format!(" {data} ")).unwrap();
        let words: Vec<&str> = head.split(' ').collect();
        prop_assert_eq!(words.len(), 6, "{}", head);
        prop_assert!(head.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
        prop_assert_eq!(words[1], "2026-01-05T02:03:04.056Z");
        prop_assert!((1..=255).contains(&words[2].len()) && (1..=48).contains(&words[3].len()) && words[5].len() <= 32);
        // Read the value back: to the first quote that no backslash escapes.
        let quoted = data.strip_prefix("[origin@32473 env=\"").unwrap().strip_suffix("\"]").unwrap();
        let (mut read, mut chars) = (String::new(), quoted.chars());
        while let Some(c) = chars.next() {
            prop_assert!(!matches!(c, '"' | ']'));
            read.push(if c == '\\' { chars.next().unwrap() } else { c });
        }
        let kept: String = value.chars().map(text::shown).collect();
        prop_assert_eq!(read, kept);
        let old = rfc3164::Header::new(1, &host, &rfc3164::tag(&app));
        let line = old.write(&event);
        prop_assert!(line.len() <= old.longest());
        let (head, tag) = line.strip_suffix(": ").unwrap().rsplit_once(' ').unwrap();
        prop_assert!(head.starts_with(['<']) && head.contains(">Jan  5 02:03:04 "), "{}", head);
        prop_assert!(tag.len() <= 32 && tag.chars().all(|c| c.is_ascii_alphanumeric()));
    }

    #[test]
    fn a_long_object_is_shortened_to_an_object(
        lists in prop::collection::btree_map(nasty(), prop::collection::vec(nasty(), 0..200), 1..4),
        text in nasty(),
        room in 300usize..3_000,
    ) {
        let mut body = serde_json::json!({ "first": text, "n": 1.0e2, "user": "CORP\\jdoe" });
        for (key, list) in &lists {
            body[key] = list.clone().into();
        }
        let whole = body.to_string();
        let event = shaped(Finding::default(), whole.clone());
        let Some(line) = written("raw", &event, room) else {
            // Only long keys are never cut.
            let keys: usize = lists.keys().map(|key| 2 * Value::from(key.as_str()).to_string().len()).sum();
            prop_assert!(keys * 2 + lists.len() * 600 + 300 > room, "{}", whole);
            return Ok(());
        };
        prop_assert!(line.len() <= room);
        let read: Value = serde_json::from_str(&line).unwrap();
        if whole.len() <= room {
            prop_assert_eq!(line, whole);
        } else {
            prop_assert!(read["siemgate_shortened"].as_array().is_some_and(|told| !told.is_empty()));
            prop_assert_eq!(&read["user"], "CORP\\jdoe");
            for (key, list) in &lists {
                let kept = read[key].as_array().unwrap();
                prop_assert!(kept.len() <= list.len() && kept.is_empty() == list.is_empty());
            }
        }
    }
}

fn everything() -> Finding {
    let list = || vec!["a".to_owned(), "b".to_owned()];
    Finding {
        severity: Severity::Critical,
        reported_severity: Severity::High,
        ended: false,
        state: State::Known("locked_out".into()),
        vendor: Some("Superna".into()),
        product: Some("Data Security Edition".into()),
        category: Some("ransomware".into()),
        simulated: true,
        title: Some("A title".into()),
        time: Some("2026-01-31T12:00:00.5Z".parse().unwrap()),
        incident: Some("29a8".into()),
        user: Some("AD01\\jdoe".into()),
        client_ips: vec!["10.1.2.3".into(), "2001:db8::1".into(), "pc-7".into()],
        clusters: list(),
        shares: list(),
        files: vec!["\\ifs\\a=b|c.doc".into(), "/ifs/d^e.doc".into()].into(),
        file_count: Some(2),
        protocol: Some("SMB2".into()),
        link: Some("https://dse.example/?id=1".into()),
        unknown: Vec::new(),
    }
}

#[test]
fn lines_look_so() {
    let event = shaped(everything(), "{ \"a\": 1 }");
    let id = event.event.id;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(written("raw", &event, ROOM).unwrap(), "{\"a\":1}");
    assert_eq!(
        written("cef", &event, ROOM).unwrap(),
        format!(
            "CEF:0|Superna|Data Security Edition|{version}|ransomware.locked_out|Ransomware event, locked out|10|\
             rt=1767578584056 start=1769860800500 externalId={id} cat=ransomware act=locked_out \
             suser=AD01\\\\jdoe src=10.1.2.3 c6a2Label=Source IPv6 Address c6a2=2001:db8::1 shost=pc-7 dhost=a app=SMB2 \
             cn1Label=Files cn1=2 fname=a\\=b|c.doc filePath=\\\\ifs\\\\a\\=b|c.doc \
             request=https://dse.example/?id\\=1 cs1Label=Shares cs1=a, b cs2Label=Incident cs2=29a8 \
             cs3Label=Clients cs3=10.1.2.3, 2001:db8::1, pc-7 cs4Label=Clusters cs4=a, b \
             cs5Label=File list cs5=\\\\ifs\\\\a\\=b|c.doc, /ifs/d^e.doc cs6Label=Simulated cs6=true \
             flexString1Label=Source flexString1=gate flexString2Label=Reported severity flexString2=high \
             msg=A title"
        )
    );
    let pairs = |between: &str| {
        [
            "devTime=Jan 31 2026 12:00:00.500 UTC",
            "devTimeFormat=MMM dd yyyy HH:mm:ss.SSS z",
            "sev=10",
            "cat=ransomware",
            "usrName=AD01\\jdoe",
            "src=10.1.2.3",
            "identHostName=pc-7",
            "resource=a, b",
            "url=https://dse.example/?id=1",
            &format!("eventId={id}"),
            "state=locked_out",
            "incident=29a8",
            "cluster=a",
            "clusters=a, b",
            "clients=10.1.2.3, 2001:db8::1, pc-7",
            "accessProtocol=SMB2",
            "fileCount=2",
            "simulated=true",
            "reportedSeverity=high",
            "source=gate",
            "msg=A title",
            if between == "^" {
                "files=\\ifs\\a=b|c.doc, /ifs/d e.doc"
            } else {
                "files=\\ifs\\a=b|c.doc, /ifs/d^e.doc"
            },
        ]
        .join(between)
    };
    assert_eq!(
        written("leef", &event, ROOM).unwrap(),
        format!(
            "LEEF:2.0|Superna|Data Security Edition|{version}|ransomware.locked_out|^|{}",
            pairs("^")
        )
    );
    assert_eq!(
        written("leef1", &event, ROOM).unwrap(),
        format!(
            "LEEF:1.0|Superna|Data Security Edition|{version}|ransomware.locked_out|{}",
            pairs("\t")
        )
    );
    assert_eq!(
        written("csv", &event, ROOM).unwrap(),
        format!(
            "2026-01-05T02:03:04.056Z,2026-01-31T12:00:00.500Z,critical,locked_out,ransomware,AD01\\jdoe,\
             \"10.1.2.3, 2001:db8::1, pc-7\",\"a, b\",\"a, b\",SMB2,2,true,29a8,{id},gate,A title,\
             https://dse.example/?id=1,\"\\ifs\\a=b|c.doc, /ifs/d^e.doc\""
        )
    );
}

#[test]
fn a_finding_says_what_was_hit_and_how() {
    let event = shaped(everything(), "{ \"a\": 1 }");
    let finding = check_asff(&written("asff", &event, ROOM).unwrap());
    assert_eq!(finding["Id"], "siemgate/gate/29a8");
    assert_eq!(finding["GeneratorId"], "gate/ransomware");
    let arn = "arn:aws:securityhub:us-east-1:000000000000:product/000000000000/default";
    assert_eq!(finding["ProductArn"], arn);
    assert_eq!(finding["Types"], serde_json::json!(["Effects/Data Destruction"]));
    let ids: Vec<&Value> =
        finding["Resources"].as_array().unwrap().iter().map(|it| &it["Id"]).collect();
    assert_eq!(ids, ["cluster/a", "cluster/b", "share/a", "share/b"]);
    assert_eq!(finding["Malware"][0]["Path"], "\\ifs\\a=b|c.doc");
    assert_eq!(finding["Severity"], serde_json::json!({ "Label": "CRITICAL", "Original": "high" }));
    let fields = &finding["ProductFields"];
    assert_eq!(
        (&fields["siemgate/User"], &fields["siemgate/Original"]),
        (&"AD01\\jdoe".into(), &"{\"a\":1}".into())
    );
    assert_eq!(
        (&finding["CreatedAt"], &finding["FirstObservedAt"]),
        (&"2026-01-05T02:03:04.056Z".into(), &"2026-01-31T12:00:00.500Z".into()),
        "a clock that is ahead"
    );
    let china = asff::Account::new("210987654321", "aws-cn", "cn-north-1");
    let bytes = asff::write(&event, &china, ROOM).unwrap();
    let finding = check_asff(std::str::from_utf8(&bytes).unwrap());
    let arn = "arn:aws-cn:securityhub:cn-north-1:210987654321:product/210987654321/default";
    assert_eq!(
        (&finding["ProductArn"], &finding["AwsAccountId"]),
        (&arn.into(), &"210987654321".into())
    );
    let ended = shaped(Finding { ended: true, ..everything() }, "{}");
    let ended = check_asff(&written("asff", &ended, ROOM).unwrap());
    assert_eq!(
        (&ended["Workflow"]["Status"], &ended["RecordState"]),
        (&"RESOLVED".into(), &"ARCHIVED".into())
    );
}

#[test]
fn the_list_of_files_goes_first_and_who_it_was_last() {
    let files: Vec<String> = (0..1_000).map(|index| format!("/ifs/{index:04}.doc")).collect();
    let event = shaped(Finding { files: files.into(), ..everything() }, "{}");
    let (_, pairs) = parse_cef(&written("cef", &event, 1_200).unwrap());
    let list = pairs["cs5"].split(", ").collect::<Vec<_>>();
    assert!(list.len() > 5 && list.iter().all(|file| file.len() == 13), "whole names: {list:?}");
    assert_eq!(pairs["msg"], "A title");
    let (_, pairs) = parse_cef(&written("cef", &event, 420).unwrap());
    assert!(!pairs.contains_key("cs5") && !pairs.contains_key("msg"), "{pairs:?}");
    assert_eq!((&*pairs["suser"], &*pairs["src"]), ("AD01\\jdoe", "10.1.2.3"));
    assert_eq!(written("cef", &event, 200), None);
}

#[test]
fn a_shortened_body_says_so_and_keeps_the_rest_as_it_was() {
    let files: Vec<String> = (0..100).map(|index| format!("/ifs/{index:04}.doc")).collect();
    let body = format!(
        "{{ \"b\": 1.50e3, \"files\": {}, \"b\": \"\\u00e4\", \"a\": {{\"x\":[1,2]}} }}",
        serde_json::to_string(&files).unwrap()
    );
    let line = written("raw", &shaped(Finding::default(), body), 200).unwrap();
    assert_eq!(
        line,
        "{\"b\":1.50e3,\"files\":[\"/ifs/0000.doc\",\"/ifs/0001.doc\",\"/ifs/0002.doc\",\"/ifs/0003.doc\",\"/ifs/0004.doc\",\"/ifs/0005.doc\",\"/ifs/0006.doc\"],\"b\":\"ä\",\"a\":{\"x\":[1,2]},\"siemgate_shortened\":[\"/files\"]}"
    );
    for hopeless in ["[1,2,3]", "{\"a\":{}}", "\"text\"", "no json at all", ""] {
        assert_eq!(shorten::json(hopeless.as_bytes(), 5), None, "{hopeless}");
    }
}

#[test]
fn shortening_is_bounded_work() {
    let texts: Vec<String> =
        (0..5_000).map(|index| format!("\"k{index}\":\"{}\"", "x".repeat(70))).collect();
    let body = format!("{{{}}}", texts.join(","));
    let begun = std::time::Instant::now();
    assert_eq!(written("raw", &shaped(Finding::default(), body), 8_192), None);
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn names_of_formats_are_read_and_mistakes_told() {
    let Named(format) = serde_json::from_value("leef1".into()).unwrap();
    assert_eq!(format.name, "leef1");
    let told = serde_json::from_value::<Named>("cfe".into()).unwrap_err().to_string();
    assert!(
        told.contains("`cfe` is no format") && told.contains("raw, cef, leef, leef1, csv, gelf"),
        "{told}"
    );
}
