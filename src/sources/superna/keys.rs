//! Which key of a body gives which fact: the vendor's names, their aliases, the user's own.
//!
//! Guarantees: keys are compared without case, `_`, `-` and spaces (`clientIPs`, `client_ips`
//! and `CLIENT-IPS` are one key); where two keys of a body give one fact, the one listed first
//! wins, and the user's aliases are listed first.

use std::collections::BTreeMap;

use crate::core::config::{OneOrMany, Problem, Problems, Section};

/// A fact that a key may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Field {
    Id,
    EventSource,
    Kind,
    Severity,
    State,
    User,
    ClientIps,
    Clusters,
    Shares,
    Buckets,
    Files,
    FileCount,
    Time,
    Protocol,
    Link,
    /// Only its presence counts: what a detection carries.
    Evidence,
    /// Only its presence counts: a user activity report.
    Report,
    /// `"siemgate": {"simulated": true}`, written by `siemgate send`.
    Marker,
}

impl Field {
    /// How many there are.
    pub const COUNT: usize = Self::Marker as usize + 1;
}

/// Every fact, its name in the `aliases` setting, and its keys, first choice first.
///
/// Read in the vendor's documents: `clientIPs`, `severity`, `state`, `user`, `userName`,
/// `eventSource`, `objectBuckets`. That the other facts are sent is documented or likely; how
/// their keys are spelt is a guess, hence the aliases.
const FIELDS: [(Field, &str, &[&str]); Field::COUNT] = [
    (Field::Id, "id", &["id", "eventid", "incidentid"]),
    (Field::EventSource, "event_source", &["eventsource"]),
    (Field::Kind, "category", &["securityeventtype", "eventtype", "type", "category"]),
    (Field::Severity, "severity", &["severity"]),
    (Field::State, "state", &["state", "status"]),
    (Field::User, "user", &["username", "user"]),
    (Field::ClientIps, "client_ips", &["clientips", "clientip"]),
    (Field::Clusters, "clusters", &["nes", "networkelements", "clusters", "cluster"]),
    (Field::Shares, "shares", &["shares", "protectedshares"]),
    (Field::Buckets, "buckets", &["objectbuckets", "buckets"]),
    (Field::Files, "files", &["files", "affectedfiles"]),
    (Field::FileCount, "file_count", &["numfiles", "filecount"]),
    (Field::Time, "detected", &["detected", "detectedtime", "opened"]),
    (Field::Protocol, "protocol", &["protocol"]),
    (Field::Link, "link", &["link", "tiurl", "url"]),
    (Field::Evidence, "evidence", &["signalstrengths", "snapshots", "expires"]),
    (Field::Report, "activity_report", &["useractivityreport", "activityreport"]),
    (Field::Marker, "siemgate", &["siemgate"]),
];

/// Longest key that is compared without an allocation.
const SHORT: usize = 64;

/// The keys of one configured source, sorted for search.
#[derive(Debug)]
pub(super) struct Keys(Vec<(Box<[u8]>, Field, usize)>);

impl Keys {
    /// The built-in keys, with the user's aliases before them.
    pub fn new(key: &str, aliases: &BTreeMap<String, OneOrMany<String>>) -> Result<Self, Problems> {
        let known = || FIELDS.iter().map(|(_, name, _)| *name);
        let wrong = aliases.keys().filter(|name| known().all(|k| k != name.as_str()));
        let problems: Vec<Problem> = wrong
            .map(|name| {
                Section::unknown_name(format!("{key}.aliases.{name}"), "fact", name, known())
            })
            .collect();
        if problems.is_empty() { Ok(Self::merged(aliases)) } else { Err(problems) }
    }

    fn merged(aliases: &BTreeMap<String, OneOrMany<String>>) -> Self {
        let mut keys = Vec::new();
        // The user's first: a key that is taken from another fact leaves it, and ranks are places.
        for (field, name, _) in &FIELDS {
            let own = aliases.get(*name).map_or(&[][..], OneOrMany::as_slice);
            keys.extend(own.iter().enumerate().map(|(rank, own)| (squashed(own), *field, rank)));
        }
        for (field, _, built_in) in &FIELDS {
            let ranked = (keys.len()..).zip(*built_in);
            let built_in =
                ranked.map(|(rank, key)| (squashed(key), *field, rank)).collect::<Vec<_>>();
            keys.extend(built_in);
        }
        keys.sort_by(|a, b| a.0.cmp(&b.0)); // stable: of equal keys the user's stays first
        keys.dedup_by(|later, first| later.0 == first.0);
        Self(keys)
    }

    /// The fact that `key` gives, and the rank of this key among those that give it (0 is best).
    pub fn field(&self, key: &str) -> Option<(Field, usize)> {
        let mut short = [0; SHORT];
        match squash_into(key, &mut short) {
            Some(squashed) => self.find(squashed),
            None => self.find(&squashed(key)),
        }
    }

    fn find(&self, key: &[u8]) -> Option<(Field, usize)> {
        let at = self.0.binary_search_by(|(known, ..)| (**known).cmp(key)).ok()?;
        self.0.get(at).map(|(_, field, rank)| (*field, *rank))
    }
}

fn letters(key: &str) -> impl Iterator<Item = u8> {
    let counts = |byte: &u8| !matches!(byte, b'_' | b'-' | b' ');
    key.bytes().filter(counts).map(|byte| byte.to_ascii_lowercase())
}

/// `key` in lower case, without separators.
pub(super) fn squashed(key: &str) -> Box<[u8]> {
    letters(key).collect()
}

/// The same in `room`; `None` when it does not fit.
fn squash_into<'r>(key: &str, room: &'r mut [u8; SHORT]) -> Option<&'r [u8]> {
    if key.len() > SHORT {
        return None;
    }
    let mut used = 0;
    for (slot, byte) in room.iter_mut().zip(letters(key)) {
        *slot = byte;
        used += 1;
    }
    room.get(..used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_key_are_one() {
        let keys = Keys::new("s", &BTreeMap::new()).unwrap();
        for key in ["clientIPs", "client_ips", "CLIENT-IPS", "Client IPs"] {
            assert_eq!(keys.field(key).map(|(field, _)| field), Some(Field::ClientIps), "{key}");
        }
        assert!(keys.field("userName").unwrap().1 < keys.field("user").unwrap().1);
        assert_eq!(keys.field(&"x".repeat(500)), None);
    }

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (index, (field, ..)) in FIELDS.iter().enumerate() {
            assert_eq!(*field as usize, index);
        }
    }

    #[test]
    fn own_aliases_come_first_and_may_take_a_key_away() {
        let own = |name: &str, key: &str| (name.to_owned(), OneOrMany::One(key.to_owned()));
        let long = "k".repeat(100);
        let aliases =
            BTreeMap::from([own("user", "Account"), own("time", "x"), own("link", &long)]);
        let problems = Keys::new("sources.s", &aliases).unwrap_err();
        assert_eq!(problems[0].key, "sources.s.aliases.time");
        let aliases =
            BTreeMap::from([own("user", "Account"), own("severity", "status"), own("link", &long)]);
        let keys = Keys::new("sources.s", &aliases).unwrap();
        assert!(keys.field("account").unwrap().1 < keys.field("userName").unwrap().1);
        assert_eq!(keys.field("status").map(|(field, _)| field), Some(Field::Severity));
        assert_eq!(keys.field(&long).map(|(field, _)| field), Some(Field::Link));
    }
}
