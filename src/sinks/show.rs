//! What destinations where people read are shown of an event.
//!
//! Guarantees: a fact that is not to be shown has no value for the preset, so a placeholder with `?`
//! leaves its key or line out and no preset needs a condition for it. Severity, state, clusters, counts
//! and the link are always there.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::core::sink::Class;

/// Something about an event that not everybody should read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// The product's one line about it, which may hold any of the others.
    Title,
    /// The account.
    User,
    /// The client machines' addresses.
    Addresses,
    /// Shares, exports or buckets.
    Shares,
    /// File names.
    Files,
    /// The event as it was received.
    Event,
}

/// What the user may set for every preset where people read.
#[derive(Default, Deserialize, JsonSchema)]
pub struct Reading {
    /// What is shown beside severity, state, clusters, counts and the link: any of `"title"`,
    /// `"user"`, `"addresses"`, `"shares"`, `"files"` and `"event"` (the whole event, where the product
    /// has room for it). Messages to people show none of them unless set; alerts and tickets show
    /// user, addresses, shares and files.
    show: Option<Vec<Detail>>,
}

/// What may be shown; everything unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct Shown(Option<Vec<Detail>>);

impl Shown {
    /// What `reading` says of a destination of `class`.
    pub fn of(class: Class, reading: Reading) -> Self {
        use Detail::{Addresses, Files, Shares, User};
        match class {
            Class::Siem | Class::Archive => Self::default(),
            Class::People => Self(Some(reading.show.unwrap_or_default())),
            Class::Incident => {
                Self(Some(reading.show.unwrap_or_else(|| vec![User, Addresses, Shares, Files])))
            }
        }
    }

    /// Whether `detail` is shown.
    pub fn has(&self, detail: Detail) -> bool {
        self.0.as_ref().is_none_or(|shown| shown.contains(&detail))
    }
}

/// Whether people read what a destination of this class gets.
pub fn is_read(class: Class) -> bool {
    matches!(class, Class::People | Class::Incident)
}
