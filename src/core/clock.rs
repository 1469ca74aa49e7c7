//! How far clocks are apart, for people.

/// A span of time in words, the largest unit that fits: `4 hours`.
pub fn words(seconds: i64) -> String {
    let seconds = seconds.abs();
    let (unit, size) = match seconds {
        0..60 => ("second", 1),
        60..7_200 => ("minute", 60),
        7_200..172_800 => ("hour", 3_600),
        _ => ("day", 86_400),
    };
    // Rounded, so that a clock that is set by whole hours is told in whole hours.
    let count = (seconds + size / 2) / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_the_unit_people_use() {
        for (seconds, told) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (3_600, "60 minutes"),
            (4 * 3_600 - 3, "4 hours"),
            (-4 * 3_600, "4 hours"),
            (3 * 86_400 + 50, "3 days"),
        ] {
            assert_eq!(words(seconds), told);
        }
    }
}
