//! What an exchange says of itself. Pure, as the rest of it.

use super::{Copy, Entry, Exchange, Request, Segment, TxStatus, Verdict};

impl<U> Exchange<U> {
    /// What was noted of the message that failed, until it is taken.
    pub fn failed(&self) -> Option<&U> {
        self.undone.iter().find(|undone| undone.failed).map(|undone| &undone.undo)
    }

    /// Something was noted of the Describe that is being answered.
    pub fn awaits_description(&self) -> bool {
        let is_the_servers = |entry: &&Entry| !matches!(entry.request, Request::MadeUp(_));
        let next = match self.owed.first() {
            Some(Entry { request: Request::MadeUp(_), .. }) => {
                self.owed.iter().find(is_the_servers)
            }
            next => next,
        };
        next.is_some_and(|next| matches!(next.request, Request::Describe(_)) && next.is_noted)
    }

    /// What was noted of messages that nobody knows yet whether they work, and that do not share the fate
    /// of what is sent now ([`Self::is_open_question`]).
    pub fn open_questions(&self) -> impl Iterator<Item = &U> {
        let is_open = |(serial, _): &(u64, &U)| self.is_open_question(*serial);
        self.owed.undos().filter(is_open).map(|(_, undo)| undo)
    }

    pub fn has_undone(&self) -> bool {
        !self.undone.is_empty()
    }

    /// Nothing is owed in either direction.
    pub fn is_settled(&self) -> bool {
        self.owed.is_empty() && self.copy == Copy::None && !self.skipping && !self.segment_open
    }

    /// Nothing is owed, and no block is open.
    pub fn is_at_rest(&self) -> bool {
        self.is_settled() && self.tx == TxStatus::Idle
    }

    /// True when the server may be lent to another session, as far as the exchange goes.
    pub fn may_checkin(&self) -> bool {
        self.is_at_rest() && !self.doubtful
    }

    /// True when it may once its block is rolled back.
    pub fn may_roll_back(&self) -> bool {
        self.is_settled() && self.tx != TxStatus::Idle && !self.doubtful
    }

    /// The transaction status of the last `ReadyForQuery`.
    pub const fn tx(&self) -> TxStatus {
        self.tx
    }

    /// The block has failed, as far as was answered. All that a failed one executes is its end, which
    /// need not be at a `ReadyForQuery`.
    pub fn is_in_failed_block(&self) -> bool {
        self.tx == TxStatus::Failed && !self.has_executed
    }

    /// The request that the next answer belongs to.
    pub fn head(&self) -> Option<Request> {
        self.owed.first().map(|entry| entry.request)
    }

    /// Serial number of the request that is being answered; later requests have higher ones.
    pub fn head_serial(&self) -> u64 {
        self.owed.first().map_or(self.next, |entry| entry.serial)
    }

    /// The first of the client's messages owed that runs something, or ends what was to be, and its serial
    /// number.
    pub fn first_to_run(&self) -> Option<(u64, Request)> {
        let runs = |request| {
            matches!(request, Request::Simple(Verdict::Forward) | Request::Sync | Request::Execute)
        };
        self.owed.iter().map(|entry| (entry.serial, entry.request)).find(|(_, one)| runs(*one))
    }

    /// Serial number that the next request will have.
    pub const fn next_serial(&self) -> u64 {
        self.next
    }

    /// True if nobody knows yet whether the request with this serial number works, and what is sent now
    /// does not share its fate: a Sync or a Query stands between them.
    pub fn is_open_question(&self, serial: u64) -> bool {
        self.owed.has_boundary() && serial < self.last_boundary && serial >= self.head_serial()
    }

    /// True if an unanswered message may have changed which statements there are: without one, there is no
    /// open question about any.
    pub fn may_change_statements(&self) -> bool {
        self.last_change >= self.head_serial()
    }

    /// What is sent now comes behind a Sync or a Query that is not answered yet.
    pub const fn has_boundary(&self) -> bool {
        self.owed.has_boundary()
    }

    /// True if a Sync or Query of the client's is not answered yet: what is sent now may be of another transaction.
    pub fn has_clients_boundary(&self) -> bool {
        let is_clients =
            |request| matches!(request, Request::Sync | Request::Simple(Verdict::Forward));
        self.owed.has_boundary() && self.owed.iter().any(|entry| is_clients(entry.request))
    }

    /// A statement was executed, and told of, since the last `ReadyForQuery`.
    pub const fn has_executed(&self) -> bool {
        self.has_executed
    }

    /// Nothing is to be heard from the server before it gets more.
    pub fn is_answered(&self) -> bool {
        let is_ours = |entry: &Entry| matches!(entry.request, Request::MadeUp(_));
        match self.owed.first() {
            Some(first) if !is_ours(first) => self.takes_copy_data(),
            _ => self.owed.iter().all(is_ours) || self.takes_copy_data(),
        }
    }

    /// The next answers are ours, and none of the server's comes behind them that they could go with.
    #[inline]
    pub fn owes_made_up_alone(&self) -> bool {
        self.owes_made_up_first() && self.owes_nothing_of_the_servers()
    }

    #[cold]
    fn owes_nothing_of_the_servers(&self) -> bool {
        // The end of a copy that there is none of is answered by nobody.
        let is_silent =
            |entry: &Entry| matches!(entry.request, Request::MadeUp(_) | Request::CopyEnd);
        self.owed.iter().all(is_silent)
    }

    /// The next answer is ours, and comes in front of what the server says now.
    #[inline]
    pub fn owes_made_up_first(&self) -> bool {
        self.may_owe_made_up && matches!(self.head(), Some(Request::MadeUp(_)))
    }

    /// Requests that are not answered yet.
    pub fn depth(&self) -> usize {
        self.owed.len()
    }

    /// The extended messages with no Sync behind them yet.
    pub const fn segment(&self) -> Segment {
        match (self.skipping, self.segment_open) {
            (true, _) => Segment::Failed,
            (false, true) => Segment::Open,
            (false, false) => Segment::None,
        }
    }

    /// The server waits for `CopyData`, as far as is known, and what ends it has not been sent.
    pub fn takes_copy_data(&self) -> bool {
        matches!(self.copy, Copy::In | Copy::Both)
            && self.owed.iter().skip(1).all(|entry| entry.request == Request::Sync)
    }

    /// The same, and nothing else is copied at the same time.
    pub fn copies_in(&self) -> bool {
        self.copy == Copy::In && self.takes_copy_data()
    }

    /// Extended messages were sent with no Sync behind them, and all of them are answered: the
    /// client's Flush keeps the server.
    pub fn is_held_open(&self) -> bool {
        self.owed.is_empty() && (self.segment_open || self.skipping)
    }

    /// True if a `ParseComplete` of ours cannot turn out to be a lie: a server in a failed block
    /// would refuse, and whether an earlier segment fails is not known before it is answered.
    pub fn may_make_up(&self) -> bool {
        !self.is_in_failed_block() && !self.may_be_in_other_block() && self.copy == Copy::None
    }

    /// An earlier segment is not answered yet. One of ours outside of a block neither begins nor fails any.
    fn may_be_in_other_block(&self) -> bool {
        let may_be = |entry: &Entry| {
            let is_ours =
                self.tx == TxStatus::Idle && entry.request == Request::Simple(Verdict::Swallow);
            entry.request.ends_with_ready() && !is_ours
        };
        self.owed.has_boundary() && self.owed.iter().any(may_be)
    }
}
