//! A moment as people give it: a time back such as `24h`, or a date and time.

use std::fmt;
use std::str::FromStr;

use crate::core::Timestamp;
use crate::core::config::Span;

/// See the module. Shown as RFC 3339, as the admin API reads it.
#[derive(Clone, Copy, Debug)]
pub(super) struct When(pub Timestamp);

impl FromStr for When {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(back) = text.parse::<Span>() {
            let at = Timestamp::now().checked_sub(back.0);
            return at.map(Self).map_err(|_| format!("{text} is too long ago"));
        }
        text.parse().map(Self).map_err(|_| {
            format!("`{text}` is no time; write how long ago, such as 24h or 7d, or a time such as 2026-01-31T07:00:00Z")
        })
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
