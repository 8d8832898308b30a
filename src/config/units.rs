//! Durations and sizes as text with a unit.

use std::time::Duration;

/// Reads `"30s"`, `"250ms"`, `"1h30m"`: whole numbers, each with a unit, the larger unit first.
/// `None` for anything else, and beyond [`DURATION_MAX`].
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    let mut last_unit = u64::MAX;
    loop {
        let (number, after) = leading_number(rest)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let (_, micros) = *DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        if micros >= last_unit {
            return None;
        }
        last_unit = micros;
        total = total.checked_add(Duration::from_micros(number.checked_mul(micros)?))?;
        rest = after.trim_start();
        if rest.is_empty() {
            return (total <= DURATION_MAX).then_some(total);
        }
    }
}

/// The shortest text that [`parse_duration`] reads as `duration`, cut to microseconds.
pub fn format_duration(duration: Duration) -> String {
    let mut left = duration.as_micros();
    let mut text = String::new();
    for (unit, micros) in FORMAT_UNITS {
        let count = left / u128::from(micros);
        left %= u128::from(micros);
        if count > 0 {
            text.push_str(&count.to_string());
            text.push_str(unit);
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A duration that was measured, to the millisecond.
pub fn format_millis(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    format_duration(Duration::from_millis(millis))
}

/// Reads `"1GiB"`, `"64KB"`, `"512B"` as bytes. KB and KiB are both 1024, as `PostgreSQL` has it.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = leading_number(text.trim())?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, bytes) = *SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(bytes)
}

/// `bytes` in the largest unit that divides it.
pub fn format_size(bytes: u64) -> String {
    let (unit, one) = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        .into_iter()
        .find(|(_, one)| bytes >= *one && bytes.is_multiple_of(*one))
        .unwrap_or(("B", 1));
    format!("{}{unit}", bytes / one)
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, rest))
}

/// A year and a day. A longer timeout is a slip, and sums of it could overflow a clock.
pub const DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);

const DURATION_UNITS: &[(&str, u64)] = &[
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

const FORMAT_UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("b", 1),
    ("kb", 1 << 10),
    ("kib", 1 << 10),
    ("mb", 1 << 20),
    ("mib", 1 << 20),
    ("gb", 1 << 30),
    ("gib", 1 << 30),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("30s", 30_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1h 30min", 5_400_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_duration("500us"), Some(Duration::from_micros(500)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "1x",
            "30m1h",
            "1h1h",
            "1h30",
            "s1",
            "400d",
            "1S",
            "99999999999999999999s",
            "9999999999999d",
            "１s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in
            [("0B", 0), ("64KB", 65_536), ("64 kiB", 65_536), ("3MB", 3 << 20), ("1GiB", 1 << 30)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "64", "KB", "1TB", "-1KB", "1.5MB", "99999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn what_was_measured_is_written_to_the_millisecond() {
        assert_eq!(format_millis(Duration::from_nanos(1_899_682_500)), "1s899ms");
        assert_eq!(format_millis(Duration::from_micros(999)), "0s");
    }

    proptest! {
        #[test]
        fn a_formatted_duration_reads_back(micros in 0..=u64::try_from(DURATION_MAX.as_micros()).unwrap()) {
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }

        #[test]
        fn a_formatted_size_reads_back(bytes in 0..1_u64 << 50) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,40}") {
            parse_duration(&text);
            parse_size(&text);
        }
    }
}
