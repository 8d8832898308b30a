//! How far a replica is behind: by where the primary was when. Pure.
//!
//! The time since the last transaction says nothing about it: on an idle primary it grows for ever (pitfall
//! P93). What counts is the age of the oldest position of the primary that the replica has not replayed.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A position in the write-ahead log, in bytes from its beginning (PostgreSQL's `pg_lsn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// As PostgreSQL writes it: `16/B374D848`.
    pub fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let part = |text: &str| u32::from_str_radix(text, 16).ok();
        Some(Self(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// How far a replica is behind its primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    pub bytes: u64,
    pub time: Duration,
}

/// Where the primary was when, on one timeline: the newest last, each further than the one before it.
#[derive(Debug, Default)]
pub struct Positions {
    samples: VecDeque<Sample>,
    /// When the primary was last asked.
    asked: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    lsn: Lsn,
}

/// Samples that are kept. When there are more, every other one goes: the old ones are needed only for replicas
/// that are far behind, for which a coarse answer is as good.
const SAMPLES_MOST: usize = 1024;

impl Positions {
    /// The primary was at `lsn` at `now`.
    pub fn note(&mut self, lsn: Lsn, now: Instant) {
        self.asked = Some(now);
        if self.samples.back().is_some_and(|last| last.lsn >= lsn) {
            return;
        }
        self.samples.push_back(Sample { at: now, lsn });
        if self.samples.len() > SAMPLES_MOST {
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }

    /// Positions of another timeline say nothing.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// How far a replica is behind that has replayed up to `replayed`. While the primary is not heard of nobody
    /// falls behind. `None`: no primary has been seen yet.
    pub fn lag(&self, replayed: Lsn, now: Instant) -> Option<Lag> {
        let newest = self.samples.back()?;
        if newest.lsn <= replayed {
            return Some(Lag::default());
        }
        let first = self.samples.partition_point(|sample| sample.lsn <= replayed);
        let oldest_missing = self.samples.get(first).unwrap_or(newest);
        let until = self.asked.unwrap_or(now).min(now);
        Some(Lag {
            bytes: newest.lsn.0 - replayed.0,
            time: until.saturating_duration_since(oldest_missing.at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn positions_are_read_as_postgresql_writes_them() {
        assert_eq!(Lsn::parse("16/B374D848"), Some(Lsn(0x16_B374_D848)));
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
        for text in ["", "16", "16/", "/1", "1/123456789", "x/1"] {
            assert_eq!(Lsn::parse(text), None, "{text:?}");
        }
    }

    /// P93: the age of the last transaction would have grown.
    #[test]
    fn on_an_idle_primary_nobody_falls_behind() {
        let start = Instant::now();
        let mut positions = Positions::default();
        for second in 0..3600 {
            positions.note(Lsn(100), start + second * SECOND);
        }
        let lag = positions.lag(Lsn(100), start + 3600 * SECOND);
        assert_eq!(lag, Some(Lag::default()));
    }

    #[test]
    fn the_lag_is_the_age_of_the_oldest_position_that_is_missing() {
        let start = Instant::now();
        let mut positions = Positions::default();
        for second in 0..10 {
            positions.note(Lsn(100 + u64::from(second)), start + second * SECOND);
        }
        let now = start + 9 * SECOND;
        // At second 4 it was at 104, which the replica has not replayed.
        assert_eq!(positions.lag(Lsn(103), now), Some(Lag { bytes: 6, time: 5 * SECOND }));
        assert_eq!(positions.lag(Lsn(200), now), Some(Lag::default()));
        // Without a word from the primary it does not grow.
        assert_eq!(positions.lag(Lsn(103), now + 100 * SECOND).unwrap().time, 5 * SECOND);
    }

    #[test]
    fn samples_are_thinned_out_and_not_lost() {
        let start = Instant::now();
        let mut positions = Positions::default();
        for second in 0..10_000 {
            positions.note(Lsn(u64::from(second)), start + second * SECOND);
        }
        assert!(positions.samples.len() <= SAMPLES_MOST);
        let lag = positions.lag(Lsn(9_998), start + 9_999 * SECOND).unwrap();
        assert_eq!(lag, Lag { bytes: 1, time: Duration::ZERO });
        let lag = positions.lag(Lsn(0), start + 9_999 * SECOND).unwrap();
        // Of what is far behind no more than half is lost.
        assert!(lag.time >= 4_500 * SECOND, "{lag:?}");
    }
}
