//! What one Query or Parse text tells about itself.

use std::fmt;

/// Facts about a statement text, read from its words alone. A forecast: the command tags and
/// `ParameterStatus` messages of the server tell what really happened.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Traits(pub(super) u32);

impl Traits {
    /// Something outlives the transaction on the server: it has to be discarded before another
    /// session gets that server.
    ///
    /// SET (but not LOCAL or TRANSACTION), PREPARE, LISTEN, LOAD, DO, temporary objects, WITH HOLD,
    /// session-level advisory locks, `set_config`, UPDATE of `pg_settings`, functions that run a text.
    /// Not CALL and not functions of the user's own:
    /// what they do cannot be known (P87), and marking all of them would discard after each.
    pub const fn leaves_state(self) -> bool {
        self.has(Self::LEAVES_REPORTED) || self.has(Self::LEAVES_OTHER)
    }

    /// All that is left behind are parameters that `PostgreSQL` reports with `ParameterStatus`, so
    /// that tracking those is enough and nothing has to be discarded.
    pub const fn sets_only_reported(self) -> bool {
        self.has(Self::LEAVES_REPORTED) && !self.has(Self::LEAVES_OTHER)
    }

    /// What it leaves outlives DISCARD ALL as well: the server is of no use to another session.
    pub const fn outlives_discard(self) -> bool {
        self.has(Self::OUTLIVES_DISCARD)
    }

    /// BEGIN or START TRANSACTION and nothing else.
    pub const fn is_lone_begin(self) -> bool {
        self.has(Self::BEGINS) && !self.has(Self::SEVERAL)
    }

    /// COMMIT, END, ROLLBACK, ABORT or PREPARE TRANSACTION and nothing else. Not ROLLBACK TO.
    pub const fn ends_block(self) -> bool {
        self.has(Self::ENDS_BLOCK) && !self.has(Self::SEVERAL)
    }

    /// AND CHAIN: behind the end of its block another begins, which is like it.
    pub const fn chains(self) -> bool {
        self.has(Self::CHAINS)
    }

    /// DEALLOCATE ALL or DISCARD ALL.
    pub const fn deallocates_all(self) -> bool {
        self.has(Self::DEALLOCATES_ALL)
    }

    /// A setting, or all of them, may go back to what it was when the connection was opened:
    /// [`super::Resets`] tells which.
    pub const fn resets(self) -> bool {
        self.has(Self::RESETS)
    }

    /// A role, a database or the server as a whole is altered or dropped: [`super::Affected`] tells
    /// which.
    pub const fn affects_others(self) -> bool {
        self.has(Self::AFFECTS_OTHERS)
    }

    /// False only if no statement can have changed a row if it committed: reading statements that
    /// call nothing but well-known built-in functions, and statements about transactions and
    /// settings other than COMMIT.
    ///
    /// A view or an operator that hides a function with side effects is not seen through.
    pub const fn may_write(self) -> bool {
        self.has(Self::WRITES)
    }

    /// More than one statement that is not empty.
    pub const fn several_statements(self) -> bool {
        self.has(Self::SEVERAL)
    }

    /// COPY of whatever kind: what is sent behind it may go into a copy.
    pub const fn may_copy(self) -> bool {
        self.has(Self::COPIES)
    }

    /// The same text may mean something else behind it, or until the end of its transaction: tables
    /// or settings are other ones.
    pub const fn changes_meaning(self) -> bool {
        self.has(Self::CHANGES_MEANING)
    }

    /// Texts that were parsed may give other columns behind it, in every session: ALTER, DROP, DO and
    /// CREATE, for what is new may hide what is further behind in the search path. Not of what is
    /// temporary, which no other session sees.
    pub const fn alters_results(self) -> bool {
        self.has(Self::ALTERS_RESULTS)
    }

    /// Until the end of the transaction, what is made without the name of a schema may go to any:
    /// `search_path` is set, or what is set is not known.
    pub const fn moves(self) -> bool {
        self.has(Self::MOVES)
    }

    /// SET of whatever form is among its statements.
    pub const fn sets(self) -> bool {
        self.has(Self::SETS)
    }

    /// It names prepared statements: DEALLOCATE, EXECUTE and PREPARE of one.
    pub const fn names_statements(self) -> bool {
        self.has(Self::NAMES_STATEMENTS)
    }

    /// All it does is to begin, end or divide transactions, to set or show settings, or to give up
    /// statements: nothing is read or looked up when it is parsed.
    pub const fn is_control(self) -> bool {
        self.has(Self::CONTROLS) && !self.has(Self::SEVERAL)
    }

    /// FETCH: what it gives is up to the cursor that the session has of that name when it is parsed.
    pub const fn fetches(self) -> bool {
        self.has(Self::FETCHES)
    }

    /// It is about a setting that is pgweir's own: [`super::Ours`] reads it, if it is about nothing else.
    pub const fn names_ours(self) -> bool {
        self.has(Self::NAMES_OURS)
    }

    pub(super) const LEAVES_REPORTED: Self = Self(1);
    pub(super) const LEAVES_OTHER: Self = Self(1 << 1);
    pub(super) const BEGINS: Self = Self(1 << 2);
    pub(super) const ENDS_BLOCK: Self = Self(1 << 3);
    pub(super) const CHANGES_MEANING: Self = Self(1 << 4);
    pub(super) const DEALLOCATES_ALL: Self = Self(1 << 5);
    pub(super) const CHAINS: Self = Self(1 << 6);
    pub(super) const WRITES: Self = Self(1 << 7);
    pub(super) const SEVERAL: Self = Self(1 << 8);
    pub(super) const RESETS: Self = Self(1 << 9);
    pub(super) const AFFECTS_OTHERS: Self = Self(1 << 10);
    pub(super) const NAMES_STATEMENTS: Self = Self(1 << 11);
    pub(super) const COPIES: Self = Self(1 << 12);
    pub(super) const ALTERS_RESULTS: Self = Self(1 << 13);
    pub(super) const CONTROLS: Self = Self(1 << 14);
    pub(super) const OUTLIVES_DISCARD: Self = Self(1 << 15);
    pub(super) const MOVES: Self = Self(1 << 16);
    pub(super) const SETS: Self = Self(1 << 17);
    pub(super) const FETCHES: Self = Self(1 << 18);
    pub(super) const NAMES_OURS: Self = Self(1 << 19);

    /// The facts that make us more careful.
    const WARNINGS: Self = Self::LEAVES_REPORTED
        .and(Self::LEAVES_OTHER)
        .and(Self::OUTLIVES_DISCARD)
        .and(Self::BEGINS)
        .and(Self::COPIES)
        .and(Self::CHANGES_MEANING)
        .and(Self::ALTERS_RESULTS)
        .and(Self::MOVES)
        .and(Self::FETCHES)
        .and(Self::NAMES_STATEMENTS)
        .and(Self::NAMES_OURS)
        .and(Self::WRITES)
        .and(Self::RESETS)
        .and(Self::AFFECTS_OTHERS)
        .and(Self::SEVERAL);

    pub(super) const fn has(self, fact: Self) -> bool {
        self.0 & fact.0 != 0
    }

    /// Both sets of facts.
    pub(super) const fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// These facts less some.
    pub(super) const fn without(self, less: Self) -> Self {
        Self(self.0 & !less.0)
    }

    /// What holds when only one of two readings is true and nobody knows which.
    pub(super) const fn either(self, other: Self) -> Self {
        Self((self.0 & other.0) | ((self.0 | other.0) & Self::WARNINGS.0))
    }
}

impl fmt::Debug for Traits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = [
            (self.has(Self::LEAVES_REPORTED), "leaves reported"),
            (self.has(Self::LEAVES_OTHER), "leaves other"),
            (self.has(Self::OUTLIVES_DISCARD), "outlives discard"),
            (self.has(Self::BEGINS), "begins"),
            (self.has(Self::COPIES), "copies"),
            (self.has(Self::ENDS_BLOCK), "ends block"),
            (self.has(Self::CHAINS), "chains"),
            (self.has(Self::CHANGES_MEANING), "changes meaning"),
            (self.has(Self::ALTERS_RESULTS), "alters results"),
            (self.has(Self::MOVES), "moves"),
            (self.has(Self::SETS), "sets"),
            (self.has(Self::NAMES_STATEMENTS), "names statements"),
            (self.has(Self::DEALLOCATES_ALL), "deallocates all"),
            (self.has(Self::RESETS), "resets"),
            (self.has(Self::AFFECTS_OTHERS), "affects others"),
            (self.has(Self::WRITES), "may write"),
            (self.has(Self::SEVERAL), "several"),
            (self.has(Self::CONTROLS), "controls"),
            (self.has(Self::FETCHES), "fetches"),
            (self.has(Self::NAMES_OURS), "names ours"),
        ];
        let held = facts.iter().filter(|(holds, _)| *holds).map(|(_, name)| name);
        f.debug_set().entries(held).finish()
    }
}
