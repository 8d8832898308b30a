//! Versions of the protocol: 3.0, which everybody speaks, and 3.2, which PostgreSQL 18 brought.

use std::fmt;

/// A minor version of protocol 3.
///
/// 3.1 was never published: PostgreSQL speaks 3.0 under that name, and so do we.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u16);

impl Version {
    pub const V3_0: Self = Self(0);
    /// The first with long cancel keys.
    pub const V3_2: Self = Self(2);
    /// The newest that we speak.
    pub const NEWEST: Self = Self::V3_2;

    /// The version of a startup packet; `None` if it is not one of protocol 3.
    pub fn from_code(code: u32) -> Option<Self> {
        (code >> 16 == 3).then_some(Self((code & 0xffff) as u16))
    }

    /// What a `NegotiateProtocolVersion` names: a version or, from servers that took PostgreSQL's
    /// documentation by its word, a minor one.
    pub fn from_answer(word: u32) -> Option<Self> {
        u16::try_from(word).map(Self).ok().or_else(|| Self::from_code(word))
    }

    /// As it stands in a startup packet.
    pub fn code(self) -> u32 {
        (3 << 16) | u32::from(self.0)
    }

    /// What is spoken with a client that asks for this version.
    #[must_use]
    pub fn agreed(self) -> Self {
        self.min(Self::NEWEST)
    }

    /// Bytes of the cancel key's secret that a client of this version is given.
    pub fn secret_len(self) -> usize {
        if self >= Self::V3_2 { 32 } else { 4 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3.{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_agreed_on_is_never_newer_than_what_was_asked_for() {
        for (asked, agreed) in [(0, 0), (1, 1), (2, 2), (3, 2), (9999, 2)] {
            assert_eq!(Version(asked).agreed(), Version(agreed));
        }
    }

    #[test]
    fn an_answer_is_a_version_or_a_minor_one() {
        assert_eq!(Version::from_answer(0x0003_0002), Some(Version::V3_2));
        assert_eq!(Version::from_answer(0x0003_0000), Some(Version::V3_0));
        assert_eq!(Version::from_answer(0), Some(Version::V3_0));
        assert_eq!(Version::from_answer(2), Some(Version::V3_2));
        assert_eq!(Version::from_answer(0x0002_0000), None);
        assert_eq!(Version::from_answer(u32::MAX), None);
    }

    #[test]
    fn a_code_is_read_as_it_is_written() {
        assert_eq!(Version::V3_2.code(), 196_610);
        assert_eq!(Version::from_code(Version::V3_2.code()), Some(Version::V3_2));
        assert_eq!(Version::from_code(2 << 16), None);
        assert_eq!(Version::V3_2.to_string(), "3.2");
    }
}
