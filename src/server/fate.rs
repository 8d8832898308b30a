//! What becomes of requests whose server is lost before they were answered. Pure.
//!
//! Somewhere among what was in flight the server stopped, nobody knows where. What could not have
//! been committed, however far it came, is rolled back for certain; of everything else the outcome
//! is unknown.

use crate::sql::Traits;
use crate::wire::backend::TxStatus;

/// What one request may do to the transaction that it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effect {
    /// Nothing that a commit could make last.
    #[default]
    Reads,
    /// Outside of a block its end is a commit.
    Writes,
    /// Opens a block and does nothing else.
    Begins,
    /// Ends a block and makes it last.
    Commits,
    /// Ends a block and makes nothing last.
    RollsBack,
    Anything,
}

impl Effect {
    /// The effect of a statement text.
    pub const fn of(traits: Traits) -> Self {
        if traits.several_statements() {
            Self::Anything
        } else if traits.ends_block() && traits.may_write() {
            Self::Commits
        } else if traits.ends_block() {
            Self::RollsBack
        } else if traits.is_lone_begin() {
            Self::Begins
        } else if traits.may_write() {
            Self::Writes
        } else {
            Self::Reads
        }
    }

    /// That of one of two, and nobody knows which.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (one, two) if one == two => one,
            (Self::Reads, one) | (one, Self::Reads) => one,
            _ => Self::Anything,
        }
    }
}

/// What becomes of the requests up to a `ReadyForQuery` whose server is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// What they did may have been committed.
    pub may_commit: bool,
    /// The client was told of a block, and nothing that was in flight ends it: it has failed.
    pub in_block: bool,
}

/// What is known of the transaction at some point of what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    /// A BEGIN is unanswered. If it failed, the server skips the rest of its segment.
    Opening,
    /// A BEGIN is unanswered, in an earlier segment. If it failed, this is outside of a block.
    Unsure,
    Block,
    Failed,
}

/// A walk along what was sent, in its order.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    place: Place,
    may_commit: bool,
}

impl Course {
    /// The course that begins behind a `ReadyForQuery`.
    pub const fn from(tx: TxStatus) -> Self {
        let place = match tx {
            TxStatus::Idle => Place::Outside,
            TxStatus::Block => Place::Block,
            TxStatus::Failed => Place::Failed,
        };
        Self { place, may_commit: false }
    }

    /// Goes past a request that was answered.
    pub const fn answered(&mut self, effect: Effect) {
        self.pass(effect);
        if matches!(self.place, Place::Opening) {
            self.place = Place::Block;
        }
    }

    /// Goes past a request that may have run.
    pub const fn pass(&mut self, effect: Effect) {
        match (effect, self.place) {
            (Effect::Reads, _)
            | (Effect::Writes, Place::Opening | Place::Block | Place::Failed)
            | (Effect::Begins, Place::Opening | Place::Unsure | Place::Block | Place::Failed) => {}
            (Effect::Writes, Place::Outside | Place::Unsure) => self.may_commit = true,
            (Effect::Begins, Place::Outside) => self.place = Place::Opening,
            // A COMMIT of a failed block is a ROLLBACK.
            (Effect::RollsBack, _) | (Effect::Commits, Place::Failed) => {
                self.place = Place::Outside;
            }
            (Effect::Commits | Effect::Anything, _) => {
                self.place = Place::Outside;
                self.may_commit = true;
            }
        }
    }

    /// What becomes of the requests so far, as far as these themselves decide it.
    pub const fn fate(self) -> Fate {
        let in_block = matches!(self.place, Place::Block | Place::Failed) && !self.may_commit;
        Fate { may_commit: self.may_commit, in_block }
    }

    /// Goes past a `ReadyForQuery` that is owed; the fate of what came before it.
    pub const fn ready(&mut self) -> Fate {
        let fate = self.fate();
        self.may_commit = false;
        if matches!(self.place, Place::Opening) {
            self.place = Place::Unsure;
        }
        fate
    }

    /// The transaction that was under way is over, for better or worse.
    const fn is_over(self) -> bool {
        matches!(self.place, Place::Outside)
    }
}

/// A step of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A request that may have run.
    Run(Effect),
    /// A `ReadyForQuery` that the client is owed.
    Ready,
}

/// What becomes of everything in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fates {
    /// One for each `ReadyForQuery` that the client is owed.
    pub owed: Vec<Fate>,
    /// Of what comes behind: a segment without a Sync, or nothing but the block.
    pub last: Fate,
}

impl Fates {
    /// Walks along `steps` from where `course` stands. A commit in flight decides for everything
    /// that its transaction did in front of it.
    pub fn along(mut course: Course, steps: impl Iterator<Item = Step>) -> Self {
        let mut owed: Vec<Fate> = Vec::new();
        // Where the transaction begins that is under way.
        let mut begin = 0;
        for step in steps {
            match step {
                Step::Run(effect) => course.pass(effect),
                Step::Ready => {
                    let fate = course.ready();
                    owed.push(fate);
                    Self::spread(&mut owed, begin, fate);
                    if course.is_over() {
                        begin = owed.len();
                    }
                }
            }
        }
        let last = course.fate();
        Self::spread(&mut owed, begin, last);
        Self { owed, last }
    }

    fn spread(owed: &mut [Fate], begin: usize, fate: Fate) {
        if fate.may_commit {
            owed.iter_mut().skip(begin).for_each(|earlier| *earlier = fate);
        }
    }

    /// Of everything together.
    pub fn overall(&self) -> Fate {
        let may_commit = self.last.may_commit || self.owed.iter().any(|fate| fate.may_commit);
        Fate { may_commit, in_block: self.last.in_block && !may_commit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::classify;

    /// Walks along statements: those of one segment separated by `,`, segments by `;`. For each
    /// segment `?` (unknown), `-` (rolled back), `E` (rolled back, and the block has failed).
    fn fates(tx: TxStatus, sent: &str) -> String {
        let mut steps = Vec::new();
        for segment in sent.split(';').filter(|segment| !segment.trim().is_empty()) {
            for text in segment.split(',') {
                steps.push(Step::Run(Effect::of(classify(text.as_bytes()))));
            }
            steps.push(Step::Ready);
        }
        let fates = Fates::along(Course::from(tx), steps.into_iter());
        let sign = |fate: &Fate| match (fate.may_commit, fate.in_block) {
            (true, _) => '?',
            (false, true) => 'E',
            (false, false) => '-',
        };
        fates.owed.iter().map(sign).collect()
    }

    #[test]
    fn outside_of_a_block_whatever_writes_may_have_been_committed() {
        for (sent, expected) in [
            ("select 1", "-"),
            ("insert into t values (1)", "?"),
            ("call p()", "?"),
            ("vacuum", "?"),
            ("commit prepared 'x'", "?"),
            ("rollback", "-"),
            ("begin", "-"),
            ("select 1; insert into t values (1); select 1", "-?-"),
            ("insert into t values (1), select 1", "?"),
        ] {
            assert_eq!(fates(TxStatus::Idle, sent), expected, "{sent}");
        }
    }

    #[test]
    fn inside_a_block_only_what_ends_it_may_commit() {
        for (sent, expected) in [
            ("select 1", "E"),
            ("insert into t values (1)", "E"),
            ("rollback to a", "E"),
            ("insert into t values (1); delete from t", "EE"),
            ("commit", "?"),
            ("end", "?"),
            ("prepare transaction 'x'", "?"),
            ("rollback", "-"),
            ("abort", "-"),
            // A commit is one of everything that its transaction did.
            ("insert into t values (1); select 1; commit", "???"),
            ("insert into t values (1); rollback", "E-"),
            ("insert into t values (1); rollback; select 1", "E--"),
            ("insert into t values (1); rollback; delete from t", "E-?"),
            ("commit; select 1", "?-"),
        ] {
            assert_eq!(fates(TxStatus::Block, sent), expected, "{sent}");
        }
    }

    #[test]
    fn a_commit_of_a_failed_block_commits_nothing() {
        for (sent, expected) in [
            ("select 1", "E"),
            ("commit", "-"),
            ("insert into t values (1); commit; select 1", "E--"),
            ("commit; insert into t values (1)", "-?"),
        ] {
            assert_eq!(fates(TxStatus::Failed, sent), expected, "{sent}");
        }
    }

    /// A BEGIN that failed lets what comes behind its segment run on its own.
    #[test]
    fn a_begin_in_flight_holds_for_its_own_segment_alone() {
        for (sent, expected) in [
            ("begin, insert into t values (1)", "-"),
            ("begin, insert into t values (1), commit", "?"),
            ("begin, insert into t values (1), rollback", "-"),
            ("begin, insert into t values (1); select 1", "--"),
            ("begin; insert into t values (1)", "??"),
            ("begin; select 1; commit", "???"),
            ("begin; select 1; rollback", "---"),
            ("insert into t values (1), begin", "?"),
        ] {
            assert_eq!(fates(TxStatus::Idle, sent), expected, "{sent}");
        }
    }

    #[test]
    fn behind_a_begin_that_was_answered_is_a_block() {
        let mut course = Course::from(TxStatus::Idle);
        course.answered(Effect::Begins);
        let steps = [Step::Run(Effect::Writes), Step::Ready, Step::Run(Effect::Writes)];

        let fates = Fates::along(course, steps.into_iter());

        let rolled_back = Fate { may_commit: false, in_block: true };
        assert_eq!(fates, Fates { owed: vec![rolled_back], last: rolled_back });
    }

    /// Rule 3: several statements in one Query.
    #[test]
    fn of_several_statements_in_one_text_nothing_is_known() {
        for tx in [TxStatus::Idle, TxStatus::Block, TxStatus::Failed] {
            let steps = [Step::Run(Effect::of(classify(b"select 1; select 2"))), Step::Ready];
            assert!(Fates::along(Course::from(tx), steps.into_iter()).overall().may_commit);
        }
    }

    #[test]
    fn of_two_effects_the_more_careful_one_holds() {
        assert_eq!(Effect::Reads.or(Effect::Commits), Effect::Commits);
        assert_eq!(Effect::Writes.or(Effect::Writes), Effect::Writes);
        assert_eq!(Effect::Writes.or(Effect::RollsBack), Effect::Anything);
    }
}
