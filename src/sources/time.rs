//! Times as products write them: epoch numbers of any unit, RFC 3339, and the usual texts.
//!
//! Guarantees: total; a time outside 2000 to 2099 is not believed (a counter, a zero, a wrong
//! unit); a time without a zone is read in the zone of the source's `timezone` setting. Forms
//! that can be read in two ways (`03/04/2025`) are not guessed at. Not a clock.

use jiff::civil::DateTime;
use jiff::fmt::{rfc2822, strtime};
use jiff::tz::TimeZone;

use crate::core::Timestamp;
use crate::core::config::Problem;

/// Believable seconds since 1970: the years 2000 to 2099.
const PLAUSIBLE: std::ops::Range<i64> = 946_684_800..4_102_444_800;

/// Longest text that is tried; the longest known form has about 60 bytes.
const LONGEST: usize = 80;

/// Texts that no standard covers, most frequent first. A year of two digits is read as one of the
/// first century, and so not believed.
const FORMS: [&str; 12] = [
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f %z",
    "%Y-%m-%dT%H:%M:%S%.f%z",
    "%a %b %d %H:%M:%S %Y",
    "%a %b %d %H:%M:%S %z %Y",
    "%b %d, %Y %I:%M:%S %p",
    "%b %d, %Y, %I:%M:%S %p",
    "%b %d, %Y %H:%M:%S",
    "%d %b %Y %H:%M:%S",
    "%d/%b/%Y:%H:%M:%S %z",
    "%d.%m.%Y %H:%M:%S",
    "%Y%m%d%H%M%S",
];

/// Reads times; knows the zone of those that come without one.
#[derive(Clone, Debug)]
pub(super) struct Times {
    zone: TimeZone,
}

impl Times {
    /// With the IANA zone `name`, from the setting `key`.
    pub fn in_zone(key: &str, name: &str) -> Result<Self, Problem> {
        TimeZone::get(name).map(|zone| Self { zone }).map_err(|_| {
            Problem::new(key, format!("there is no time zone `{name}`")).help(
                "write an IANA name such as \"UTC\" or \"Europe/Berlin\"; names other than UTC \
                 need the system's time zone database (package tzdata)",
            )
        })
    }

    /// The time that `text` gives, if it can be read and believed.
    pub fn read(&self, text: &str) -> Option<Timestamp> {
        let text = text.trim();
        if text.len() > LONGEST {
            return None;
        }
        epoch(text).or_else(|| self.written(text)).filter(plausible)
    }

    fn written(&self, text: &str) -> Option<Timestamp> {
        if let Ok(time) = text.parse::<Timestamp>() {
            return Some(time);
        }
        if let Ok(local) = text.parse::<DateTime>() {
            return self.zone.to_timestamp(local).ok();
        }
        if let Ok(time) = rfc2822::parse(text) {
            return Some(time.timestamp());
        }
        match without_utc(text) {
            Some(rest) => in_forms(&rest, &TimeZone::UTC),
            None => in_forms(text, &self.zone),
        }
    }
}

fn plausible(time: &Timestamp) -> bool {
    PLAUSIBLE.contains(&time.as_second())
}

/// Seconds, milli-, micro- or nanoseconds since 1970, told apart by magnitude; the ranges of two
/// believable units never overlap.
fn epoch(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 19 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let number: i128 = whole.parse().ok()?;
    let nanos_per_unit: i128 = match number {
        0..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    // Nine digits of the fraction: no unit needs more for a nanosecond.
    let billionths: i128 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let nanos = number * nanos_per_unit + billionths * nanos_per_unit / 1_000_000_000;
    Timestamp::from_nanosecond(nanos).ok().filter(plausible)
}

/// `text` without its word for UTC, if it has one. Other abbreviations name several zones.
fn without_utc(text: &str) -> Option<String> {
    let words = || text.split_whitespace();
    let is_utc = |word: &str| matches!(word, "UTC" | "GMT" | "Z");
    words().any(is_utc).then(|| words().filter(|word| !is_utc(word)).collect::<Vec<_>>().join(" "))
}

fn in_forms(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(local) = text.parse::<DateTime>() {
        return zone.to_timestamp(local).ok();
    }
    let parsed = FORMS.iter().find_map(|form| strtime::parse(form, text).ok())?;
    match parsed.offset() {
        Some(_) => parsed.to_timestamp().ok(),
        None => zone.to_timestamp(parsed.to_datetime().ok()?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utc() -> Times {
        Times { zone: TimeZone::UTC }
    }

    #[test]
    fn every_form_is_the_same_moment() {
        let moment: Timestamp = "2025-12-01T07:00:00Z".parse().unwrap();
        for text in [
            "1764572400",
            "1764572400000",
            "1764572400000000",
            "1764572400000000000",
            "1764572400.0",
            " 1764572400 ",
            "1764572400000.000",
            "2025-12-01T07:00:00Z",
            "2025-12-01t07:00:00z",
            "2025-12-01T07:00:00.000Z",
            "2025-12-01T08:00:00+01:00",
            "2025-12-01T08:00:00+0100",
            "2025-12-01T07:00:00.000+0000",
            "2025-12-01T08:00:00.000000000+01:00",
            "2025-12-01 07:00:00Z",
            "2025-12-01 07:00:00+00:00",
            "2025-12-01 07:00:00",
            "2025-12-01T07:00:00",
            "2025-12-01 07:00",
            "2025-12-01 07:00:00.000",
            "2025-12-01 07:00:00,000",
            "2025-12-01 07:00:00 UTC",
            "2025-12-01 07:00:00.000 GMT",
            "2025-12-01 08:00:00 +0100",
            "2025/12/01 07:00:00",
            "20251201T070000Z",
            "20251201070000",
            "Mon Dec 01 07:00:00 UTC 2025",
            "Mon Dec 01 07:00:00 2025",
            "Mon Dec  1 07:00:00 2025",
            "Mon Dec 01 08:00:00 +0100 2025",
            "Mon, 01 Dec 2025 07:00:00 GMT",
            "Mon, 1 Dec 2025 08:00:00 +0100",
            "Dec 1, 2025 7:00:00 AM",
            "Dec 1, 2025, 7:00:00 AM",
            "Dec 1, 2025 07:00:00",
            "01 Dec 2025 07:00:00",
            "01/Dec/2025:07:00:00 +0000",
            "01.12.2025 07:00:00",
        ] {
            assert_eq!(utc().read(text), Some(moment), "{text}");
        }
    }

    #[test]
    fn fractions_are_kept() {
        let of = |text| utc().read(text).map(Timestamp::as_nanosecond);
        assert_eq!(of("1764572400.5"), Some(1_764_572_400_500_000_000));
        assert_eq!(of("1764572400123.25"), Some(1_764_572_400_123_250_000));
        assert_eq!(of("2025-12-01T07:00:00.123456789Z"), Some(1_764_572_400_123_456_789));
        assert_eq!(of("2025/12/01 07:00:00.5"), Some(1_764_572_400_500_000_000));
    }

    #[test]
    fn what_cannot_be_believed_is_not_a_time() {
        for text in [
            "",
            "0",
            "-1",
            "12",
            "now",
            "3",
            "99999999999999999999",
            "1.2.3",
            ".5",
            "1e9",
            "NaN",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
            "2025-13-01 07:00:00",
            "true",
            "03/04/2025 07:00:00",
            "Dec 1, 25 07:00:00",
            "2025-12-01 07:00:00 EST",
            "7:00",
        ] {
            assert_eq!(utc().read(text), None, "{text}");
        }
    }

    #[test]
    fn a_naive_time_is_in_the_configured_zone() {
        let Ok(berlin) = Times::in_zone("k", "Europe/Berlin") else {
            return; // No tzdata on this machine, where the zone is refused at load.
        };
        let utc = |text: &str| berlin.read(text).map(|time| time.to_string());
        assert_eq!(utc("2025-12-01 08:00:00").as_deref(), Some("2025-12-01T07:00:00Z"));
        assert_eq!(utc("2025-07-01 09:00:00").as_deref(), Some("2025-07-01T07:00:00Z"));
        assert_eq!(utc("2025-07-01 07:00:00Z").as_deref(), Some("2025-07-01T07:00:00Z"));
        assert_eq!(utc("2025-07-01 07:00:00 UTC").as_deref(), Some("2025-07-01T07:00:00Z"));
    }

    #[test]
    fn a_wrong_zone_is_a_problem_with_help() {
        let problem = Times::in_zone("sources.x.timezone", "Europe/Berln").unwrap_err();
        assert_eq!(problem.key, "sources.x.timezone");
        assert!(problem.message.contains("Europe/Berln") && problem.help.contains("Europe/Berlin"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,90}", digits in "[0-9.]{0,40}") {
            let _ = (utc().read(&text), utc().read(&digits));
        }

        #[test]
        fn a_written_time_reads_back(second in PLAUSIBLE, milli in 0i64..1000) {
            let time = Timestamp::from_millisecond(second * 1000 + milli).unwrap();
            prop_assert_eq!(utc().read(&time.to_string()), Some(time));
            prop_assert_eq!(utc().read(&time.as_millisecond().to_string()), Some(time));
            prop_assert_eq!(utc().read(&time.as_nanosecond().to_string()), Some(time));
        }
    }
}
