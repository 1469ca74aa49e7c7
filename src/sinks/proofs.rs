//! Which real servers a kind was tried against: `proofs.toml`, which those tests write.
//!
//! Guarantees: nothing is claimed by hand. A test that has delivered to a real server says so in one
//! line, and fails where the file does not; another one finds what the file claims and no test says.

use std::collections::BTreeMap;

/// A table: the servers by the kind's name.
const WRITTEN: &str = include_str!("proofs.toml");

/// The servers that tests have delivered to with the kind called `name`.
pub fn of(name: &str) -> Vec<String> {
    let read = toml_edit::de::from_str::<BTreeMap<String, Vec<String>>>(WRITTEN);
    read.unwrap_or_default().remove(name).unwrap_or_default()
}
