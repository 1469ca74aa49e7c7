//! Pieces of a fuzzer's bytes, and events made of them, for the targets in the folders' `fuzz.rs`.
//!
//! Guarantees: any bytes are an input, so that nothing a fuzzer tries is wasted; the same bytes are
//! the same input. No part of the program.
#![allow(clippy::expect_used, reason = "a failure is what targets are for")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::Timestamp;
use super::event::{Draft, Event, EventId, Position};
use super::finding::{Finding, Severity, State};
use super::route::Shaped;

/// The only secret there is while fuzzing; it is a key of Standard Webhooks, too.
pub(crate) const SECRET: &str = "whsec_c2llbWdhdGUtaXMtYmVpbmctZnV6emVk";
/// Between the texts of an event.
const TEXT: u8 = 0x1e;
/// Between the items of a list in a text.
const ITEM: char = '\u{1f}';
/// Bytes of numbers before the texts.
const NUMBERS: usize = 16;

/// The folder that holds [`SECRET`] in a file called `key`, for settings that refer to one.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("siemgate-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        std::fs::write(folder.join("key"), SECRET).expect("a file in it");
        folder
    })
}

/// What is left of the bytes. What is no longer there reads as zeros.
pub(crate) struct Input<'d>(pub(crate) &'d [u8]);

impl<'d> Input<'d> {
    /// So many bytes, or what is left.
    pub(crate) fn take(&mut self, count: usize) -> &'d [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A number of eight bytes.
    pub(crate) fn long(&mut self) -> u64 {
        self.number(8)
    }

    /// A number of two bytes.
    pub(crate) fn short(&mut self) -> usize {
        self.number(2) as usize
    }

    /// One byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.number(1) as u8
    }

    fn number(&mut self, bytes: usize) -> u64 {
        self.take(bytes).iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
}

/// An event of arbitrary facts, and a room to write it in. Bytes are numbers first, then texts with
/// [`TEXT`] between them, so that a corpus can be read and a mutation hits one fact.
pub(crate) fn event(data: &[u8]) -> (Shaped, usize) {
    let mut numbers = Input(data);
    let (severity, flags, room) = (numbers.byte(), numbers.byte(), numbers.short());
    let (time, count) = (numbers.long(), numbers.number(4));
    let mut texts = data.get(NUMBERS..).unwrap_or_default().split(|byte| *byte == TEXT);
    // No door takes an empty body.
    let body = texts.next().filter(|body| !body.is_empty()).unwrap_or(b"{}");
    let mut text = || texts.next().map(|text| String::from_utf8_lossy(text).into_owned());
    let has = |bit: u8| flags & (1 << bit) != 0;
    let severity_of = |nth: u8| match nth % 6 {
        0 => Severity::Unknown,
        nth => Severity::SCALE[usize::from(nth) - 1],
    };
    let known = has(0);
    let state = move |word: String| match (word.is_empty(), known) {
        (true, _) => State::Missing,
        (false, true) => State::Known(word.into()),
        (false, false) => State::Unknown(word),
    };
    let mut finding = Finding {
        severity: severity_of(severity),
        reported_severity: severity_of(severity / 6),
        simulated: has(1),
        ended: has(2),
        time: Timestamp::from_millisecond(time.cast_signed()).ok().filter(|_| has(3)),
        file_count: has(4).then_some(count),
        ..Finding::default()
    };
    finding.state = text().map(state).unwrap_or_default();
    let facts = &mut [
        &mut finding.title,
        &mut finding.incident,
        &mut finding.user,
        &mut finding.protocol,
        &mut finding.link,
    ];
    facts.iter_mut().for_each(|fact| **fact = text());
    finding.vendor = text().map(Into::into);
    finding.product = text().map(Into::into);
    finding.category = text().map(Into::into);
    let items = |text: String| text.split(ITEM).map(str::to_owned).collect::<Vec<_>>();
    let lists = &mut [&mut finding.client_ips, &mut finding.clusters, &mut finding.shares];
    lists.iter_mut().for_each(|list| **list = text().map(items).unwrap_or_default());
    finding.files = text().map(items).unwrap_or_default().into();
    let received = Timestamp::from_millisecond(1_767_578_584_056).unwrap_or_default();
    let draft =
        Draft::new(EventId::from_bytes([7; 16]), received, "gate".into(), body.to_vec().into());
    draft.decoded_by(|| finding);
    (Shaped::unshaped(Arc::new(Event { position: Position(0), draft })), room)
}
