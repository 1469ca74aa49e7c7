//! What every sink writes, for arbitrary facts in arbitrary rooms: within its room, the same every
//! time, and where the request says that it is JSON, JSON. For all kinds in the catalogue.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::de::IgnoredAny;
use siemgate::core::event::{Draft, Event, EventId, Position};
use siemgate::core::finding::{Finding, Severity, State};
use siemgate::core::route::Shaped;
use siemgate::core::sink::{Cause, Piece, Preview};
use siemgate::sinks::{Built, Catalogue};

use crate::sinks::{built, folder, now, told};

/// Texts with what ends fields, lines, strings, tags and mentions somewhere.
fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[|=^,\";<>&@*_`#{}\\]\\[\\\\\r\n\t\u{0}\u{1b}\u{85}\u{2028}\u{202e}äß漢🦀a]{0,60}",
        "[a漢\"\\\\]{1000,5000}",
    ]
}

prop_compose! {
    fn events()(
        texts in prop::collection::vec(prop::option::of(nasty()), 7),
        lists in prop::collection::vec(prop::collection::vec(nasty(), 0..4), 4),
        severity in prop::sample::select(vec![Severity::Unknown, Severity::Info, Severity::Critical]),
        (ended, simulated) in any::<(bool, bool)>(),
        time in prop::option::of(-9_999_999_999i64..99_999_999_999),
        count in prop::option::of(any::<u64>()),
    ) -> Shaped {
        let finding = Finding {
            severity, ended, simulated,
            title: texts[0].clone(), incident: texts[1].clone(), user: texts[2].clone(),
            protocol: texts[3].clone(), link: texts[4].clone(),
            category: texts[5].clone().map(Into::into),
            state: texts[6].clone().map_or(State::Missing, State::Unknown),
            client_ips: lists[0].clone(), clusters: lists[1].clone(),
            shares: lists[2].clone(), files: lists[3].clone().into(),
            file_count: count,
            time: time.map(|second| siemgate::core::Timestamp::from_second(second).unwrap()),
            ..Finding::default()
        };
        let body = serde_json::json!({ "user": texts[2], "files": lists[3], "title": texts[0] });
        let draft = Draft::new(EventId::fresh(), now(), "gate".into(), body.to_string().into());
        draft.decoded_by(|| finding);
        Shaped::unshaped(Arc::new(Event { position: Position(0), draft }))
    }
}

#[test]
fn every_sink_keeps_to_its_room_and_its_form() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    for kind in Catalogue::default().all().map_err(told).unwrap() {
        let dir = folder();
        let sample = kind.sample_with("http://127.0.0.1:9", &dir.path().display().to_string());
        let built = built(&sample);
        let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
        let parts = 0u32..1_200;
        let ran = TestRunner::new(config).run(&(events(), parts), |(event, part)| {
            let most = built.limits.event_bytes;
            for room in [most, most.min(9_000) * part as usize / 1_000] {
                written(&built, &event, room.min(most))?;
            }
            Ok(())
        });
        assert!(ran.is_ok(), "{}: {ran:?}", kind.name());
    }
}

fn written(built: &Built, event: &Shaped, room: usize) -> Result<(), TestCaseError> {
    let bytes = match built.sink.encode(event, room) {
        Ok(bytes) => bytes,
        Err(fault) => {
            prop_assert_eq!(fault.cause, Cause::TooLarge, "{:?}", fault);
            return Ok(());
        }
    };
    prop_assert!(bytes.len() <= room, "{} of {}", bytes.len(), room);
    prop_assert_eq!(&built.sink.encode(event, room).ok(), &Some(bytes.clone()));
    let pieces = vec![Piece::of(&event.event, bytes); built.limits.batch_events.min(2)];
    if let Some(preview) = built.sink.preview(&pieces) {
        prop_assert!(is_in_form(&preview), "{}", text(&preview));
    }
    Ok(())
}

fn text(preview: &Preview) -> String {
    format!("{:?} {}", preview.headers, String::from_utf8_lossy(&preview.body))
}

/// Whether a body that says it is JSON is, one value or several.
fn is_in_form(preview: &Preview) -> bool {
    let header = |wanted: &str| {
        preview.headers.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value)
    };
    if !header("content-encoding").is_empty() || !header("content-type").contains("json") {
        return true;
    }
    let values = serde_json::Deserializer::from_slice(&preview.body).into_iter::<IgnoredAny>();
    values.collect::<Result<Vec<_>, _>>().is_ok_and(|values| !values.is_empty())
}
