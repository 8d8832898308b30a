//! Which replicas have replayed what a session has written (reads after own writes). Pure.
//!
//! A write is covered by the first position of the primary that was asked for after it: whoever has replayed that
//! has replayed the write.

use tokio::time::Instant;

use super::lag::Lsn;

/// One timeline of one cluster: positions on another say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    pub system: u64,
    pub timeline: u32,
}

/// What a session has written and may not read everywhere yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Before this moment; where that is in the log is not known yet.
    Before(Instant),
    /// Up to this position.
    UpTo { on: Timeline, lsn: Lsn },
}

/// Where the primary was when it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub on: Timeline,
    pub lsn: Lsn,
    /// When the question was sent, or before that.
    pub asked: Instant,
}

/// How far a replica has replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    pub lsn: Lsn,
    /// Of what it receives; 0: it does not tell.
    pub timeline: u32,
    /// When the question was sent, or before that.
    pub asked: Instant,
}

impl Mark {
    /// Finds out where in the log it is, if the primary was asked since. A mark on a timeline that is over is one of
    /// all that was written up to `now`: what of that is left, the new primary has.
    #[must_use]
    pub fn located(self, primary: Option<Written>, now: Instant) -> Self {
        let mark = match (self, primary) {
            (Self::UpTo { on, .. }, Some(primary)) if on != primary.on => Self::Before(now),
            (mark, _) => mark,
        };
        match (mark, primary) {
            (Self::Before(written), Some(primary)) if primary.asked > written => {
                Self::UpTo { on: primary.on, lsn: primary.lsn }
            }
            (mark, _) => mark,
        }
    }

    /// True if a replica has replayed it. `trusts_silence`: there has been one timeline only, so that who does not
    /// tell its own is on that.
    pub fn is_in(self, replica: Replayed, trusts_silence: bool) -> bool {
        let Self::UpTo { on, lsn } = self else { return false };
        let is_on = replica.timeline == on.timeline || (replica.timeline == 0 && trusts_silence);
        is_on && replica.lsn >= lsn
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FIRST: Timeline = Timeline { system: 7, timeline: 1 };
    const SECOND: Timeline = Timeline { system: 7, timeline: 2 };

    fn later(now: Instant, millis: u64) -> Instant {
        now + Duration::from_millis(millis)
    }

    #[test]
    fn a_write_is_covered_by_what_was_asked_for_after_it() {
        let now = Instant::now();
        let written = Mark::Before(now);
        let primary = |millis| Written { on: FIRST, lsn: Lsn(10), asked: later(now, millis) };

        assert_eq!(written.located(None, now), written);
        assert_eq!(written.located(Some(primary(0)), later(now, 9)), written);
        let located = written.located(Some(primary(1)), later(now, 9));
        assert_eq!(located, Mark::UpTo { on: FIRST, lsn: Lsn(10) });
        // Where it is does not change.
        let further = Written { lsn: Lsn(20), ..primary(5) };
        assert_eq!(located.located(Some(further), later(now, 9)), located);
    }

    #[test]
    fn a_replica_has_it_when_it_has_replayed_up_to_there_on_its_timeline() {
        let mark = Mark::UpTo { on: FIRST, lsn: Lsn(10) };
        let asked = Instant::now();
        let replica = |lsn, timeline| Replayed { lsn: Lsn(lsn), timeline, asked };
        assert!(mark.is_in(replica(10, 1), false));
        assert!(!mark.is_in(replica(9, 1), false));
        assert!(!mark.is_in(replica(11, 2), false));
        assert!(mark.is_in(replica(10, 0), true));
        assert!(!mark.is_in(replica(10, 0), false));
        assert!(!Mark::Before(Instant::now()).is_in(replica(99, 1), true));
    }

    /// After a failover it is asked for anew, for what is left of it.
    #[test]
    fn a_mark_of_a_timeline_that_is_over_is_located_anew() {
        let now = Instant::now();
        let mark = Mark::UpTo { on: FIRST, lsn: Lsn(10) };
        let promoted = Written { on: SECOND, lsn: Lsn(12), asked: now };
        let behind = mark.located(Some(promoted), later(now, 1));
        assert_eq!(behind, Mark::Before(later(now, 1)));
        let asked = Written { lsn: Lsn(15), asked: later(now, 2), ..promoted };
        let located = behind.located(Some(asked), later(now, 3));
        assert_eq!(located, Mark::UpTo { on: SECOND, lsn: Lsn(15) });
    }
}
