//! Fuzzing the decoders: bodies of a product, and any. No part of the program.
#![allow(clippy::expect_used, reason = "a failure is what targets are for")]

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::{TITLE, web_link};
use crate::core::config::Section;
use crate::core::finding::{Finding, State};
use crate::core::source::Source;

/// Superna's webhook.
pub(crate) fn superna(data: &[u8]) {
    static SOURCE: OnceLock<Arc<dyn Source>> = OnceLock::new();
    decoded(SOURCE.get_or_init(|| built("superna", json!({ "guard_user": "guard" }))), data);
}

/// Any JSON, by paths of every sort.
pub(crate) fn json_paths(data: &[u8]) {
    static SOURCE: OnceLock<Arc<dyn Source>> = OnceLock::new();
    let settings = || {
        json!({
            "severity": ["/severity", "/labels/severity"], "severities": { "p1": "critical" },
            "state": "/status", "category": "/kind", "title": ["/title", "/message"],
            "time": ["/time", "/ts"], "incident": "/id", "user": "/user/name",
            "client_ips": "/ips", "clusters": "/hosts", "shares": "/shares", "files": "/files",
            "link": "/url", "timezone": "Europe/Berlin",
        })
    };
    decoded(SOURCE.get_or_init(|| built("json", settings())), data);
}

fn built(kind: &str, settings: Value) -> Arc<dyn Source> {
    let Value::Object(table) = settings else { panic!("a table") };
    let kind = super::kind(kind).expect("a kind");
    (kind.build)(&Section::new("sources.fuzz", table)).unwrap_or_else(|told| panic!("{told:?}"))
}

/// Any bytes have a finding, always the same, no larger than the body accounts for, with a title of
/// one line and a link that is one.
fn decoded(source: &Arc<dyn Source>, data: &[u8]) {
    let finding = source.decode(data);
    assert_eq!(finding, source.decode(data));
    let title = finding.title.as_deref().unwrap_or_default();
    assert!(title.chars().count() <= TITLE && !title.contains(char::is_control), "{title:?}");
    assert!(finding.link.as_deref().is_none_or(web_link));
    assert!(size(&finding) <= 4 * data.len() + 1_024, "{} of {}", size(&finding), data.len());
    assert!(matches!(&finding.state, State::Missing) || !finding.state.as_str().is_empty());
    let unread = source.unread(data);
    assert!(unread.len() <= 100 && unread.iter().all(|key| !key.contains(char::is_control)));
}

fn size(finding: &Finding) -> usize {
    let lists: [&[String]; 4] =
        [&finding.client_ips, &finding.clusters, &finding.shares, &finding.files];
    let texts = [&finding.incident, &finding.user, &finding.protocol, &finding.link];
    let lists = lists.into_iter().flatten().map(String::len).sum::<usize>();
    lists
        + texts.into_iter().flatten().map(String::len).sum::<usize>()
        + finding.state.as_str().len()
}
