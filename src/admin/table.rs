//! What a SHOW answers: columns with their types, and rows.
#![expect(clippy::unnecessary_wraps, reason = "a cell may be NULL, and rows are made of cells")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
}

/// A column's name and type.
pub type Column = (&'static str, Type);

/// A value in text format; `None` is NULL.
pub type Cell = Option<String>;

/// A column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Text,
    Int4,
    Numeric,
}

impl Type {
    /// Its row in `pg_type`.
    pub const fn oid(self) -> u32 {
        match self {
            Self::Text => 25,
            Self::Int4 => 23,
            Self::Numeric => 1700,
        }
    }

    /// Its `typlen`; -1 for a length of its own in each value.
    pub const fn length(self) -> i16 {
        match self {
            Self::Int4 => 4,
            Self::Text | Self::Numeric => -1,
        }
    }

    /// Puts a value's binary form behind `out`. `None` if `text` is not of this type.
    pub fn encode_binary(self, text: &str, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Text => out.extend_from_slice(text.as_bytes()),
            Self::Int4 => out.extend_from_slice(&text.parse::<i32>().ok()?.to_be_bytes()),
            Self::Numeric => encode_numeric(text.parse().ok()?, out)?,
        }
        Some(())
    }
}

pub(super) fn text(value: impl AsRef<str>) -> Cell {
    Some(value.as_ref().to_owned())
}

/// An int4. Beyond its range, the end of it: better than an answer that a driver cannot read.
pub(super) fn int4(value: impl TryInto<i32>) -> Cell {
    Some(value.try_into().unwrap_or(i32::MAX).to_string())
}

/// Whole seconds.
pub(super) fn seconds(duration: Duration) -> Cell {
    int4(duration.as_secs())
}

/// The microseconds beyond whole seconds.
pub(super) fn subsec_micros(duration: Duration) -> Cell {
    int4(duration.subsec_micros())
}

/// `2026-11-20 12:00:00 UTC`
pub(super) fn timestamp(time: SystemTime) -> Cell {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LATEST);
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + since_1970).to_string();
    Some(text.replace('T', " ").replace('Z', " UTC"))
}

/// The binary form of numeric: number of digits to the base 10000, weight of the first, sign,
/// decimals, digits (`numeric_send` in `PostgreSQL`'s numeric.c).
fn encode_numeric(value: u64, out: &mut Vec<u8>) -> Option<()> {
    const BASE: u64 = 10_000;
    let mut digits = Vec::new();
    let mut rest = value;
    while rest > 0 {
        digits.push(i16::try_from(rest % BASE).ok()?);
        rest /= BASE;
    }
    let weight = i16::try_from(digits.len().saturating_sub(1)).ok()?;
    digits.reverse();
    while digits.last() == Some(&0) {
        digits.pop();
    }
    let count = i16::try_from(digits.len()).ok()?;
    for word in [count, weight, 0, 0].into_iter().chain(digits) {
        out.extend_from_slice(&word.to_be_bytes());
    }
    Some(())
}

/// The last second of the year 9999, the last that has four digits.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::fake::noon;

    fn words(value: u64) -> Vec<i16> {
        let mut out = Vec::new();
        Type::Numeric.encode_binary(&value.to_string(), &mut out).unwrap();
        out.chunks(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    /// The right sides are what `SELECT numeric_send(..)` of `PostgreSQL` 15 gives.
    #[test]
    fn numeric_is_sent_as_postgresql_sends_it() {
        assert_eq!(words(0), [0, 0, 0, 0]);
        assert_eq!(words(7), [1, 0, 0, 0, 7]);
        assert_eq!(words(10_000), [1, 1, 0, 0, 1]);
        assert_eq!(words(120_030_000), [2, 2, 0, 0, 1, 2003]);
        assert_eq!(words(u64::MAX), [5, 4, 0, 0, 1844, 6744, 737, 955, 1615]);
    }

    #[test]
    fn a_value_of_another_type_is_not_encoded() {
        assert_eq!(Type::Int4.encode_binary("x", &mut Vec::new()), None);
        assert_eq!(Type::Numeric.encode_binary("-1", &mut Vec::new()), None);
    }

    #[test]
    fn an_int4_stays_in_its_range() {
        assert_eq!(int4(5_u64), text("5"));
        assert_eq!(int4(u64::MAX), text("2147483647"));
    }

    #[test]
    fn a_time_is_text_in_utc_whatever_the_clock_says() {
        assert_eq!(timestamp(noon()), text("2026-11-20 12:00:00 UTC"));
        assert_eq!(timestamp(UNIX_EPOCH - Duration::from_secs(1)), text("1970-01-01 00:00:00 UTC"));
        let far = UNIX_EPOCH + LATEST + LATEST;
        assert_eq!(timestamp(far), text("9999-12-31 23:59:59 UTC"));
    }
}
