//! How far two clocks are apart, for people.

/// A length of time in its largest whole unit: "4 hours", "1 day".
pub fn roughly(seconds: u64) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    // Rounded, so that two seconds short of four hours are four hours.
    let unit = units.iter().find(|(size, _)| seconds >= size * 9 / 10).unwrap_or(&units[3]);
    let count = ((seconds + unit.0 / 2) / unit.0).max(u64::from(seconds > 0));
    format!("{count} {}{}", unit.1, if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_unit_that_fits_is_rounded() {
        for (seconds, words) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (90, "2 minutes"),
            (3_599, "1 hour"),
            (14_398, "4 hours"),
            (86_400, "1 day"),
            (90 * 86_400, "90 days"),
        ] {
            assert_eq!(roughly(seconds), words);
        }
    }
}
