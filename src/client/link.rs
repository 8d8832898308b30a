//! A session's association with a server, and what is kept while it lasts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::affects::Affecting;
use super::again::Again;
use super::doubt::Doubt;
use super::first_use::FirstUse;
use super::naming::Naming;
use super::resets::Restores;
use super::stand_in::StandIn;
use crate::error::{ClientMessage, SqlState};
use crate::pool::Checkout;
use crate::pool::checkout::Wait;
use crate::server::Server;
use crate::server::exchange::{Request, Verdict};
use crate::server::fate::Effect;
use crate::server::store::Statement;
use crate::server::unnamed::Unnamed;
use crate::sql::Traits;
use crate::state::settings::Settings;
use crate::wire::backend::TxStatus;
use crate::wire::frontend;

/// The session's association with a server.
pub(super) enum Link {
    /// None, and none is wanted.
    Free,
    Waiting(Box<Waiting>),
    /// An idle server was found that has to be proved alive first.
    Proving {
        proof: Proof,
        since: Instant,
    },
    Linked(Box<Linked>),
    /// The server is asked, on its way back, where it has a setting from.
    Doubting(Doubt),
    /// The server is gone in the middle of something, and we answer in its place.
    StandIn(Box<StandIn>),
}

pub(super) type Proof = std::pin::Pin<Box<dyn Future<Output = Option<Checkout>> + Send>>;

/// In the queue for a server.
pub(super) struct Waiting {
    pub(super) wait: Wait,
    pub(super) since: Instant,
    pub(super) was_told: bool,
}

/// How long the end of a server is waited for to which nothing can be written any more. It comes at once;
/// but the worker that hears of it need not be this one.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// Linked to a server.
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub(super) struct Linked {
    pub(super) checkout: Checkout,
    pub(super) since: Instant,
    /// When the request under way began; `None` while nothing is owed.
    pub(super) request_since: Option<Instant>,
    /// Until when nothing was owed, as far as is known: the end of the last request, or of the time that
    /// the exchange was held open by a Flush.
    pub(super) quiet_since: Instant,
    /// What is still to come of a server's frame whose front was taken.
    pub(super) server_rest: Rest,
    /// What the requests since the last time that nothing was owed may do.
    pub(super) in_flight: InFlight,
    pub(super) portals: Portals,
    /// What the client's next message waits for.
    pub(super) awaits: Awaits,
    /// A server of the client's own would have read a text in this segment, outside of a block.
    pub(super) has_unread: bool,
    /// A RESET or DISCARD ALL was seen since the last `ReadyForQuery`.
    pub(super) reset_seen: bool,
    pub(super) restores: Restores,
    /// What is under way that names statements, if anything does.
    pub(super) naming: Option<Box<Naming>>,
    /// What the statements of the transaction concern besides this session.
    pub(super) affecting: Option<Box<Affecting>>,
    /// The statement of the message that waits takes or gives something else here than its client was
    /// told; for others it may be what it was.
    pub(super) differs: Option<Arc<Statement>>,
    /// The exchange under way is the first use of a statement, and may be sent once more.
    pub(super) first_use: Option<Box<FirstUse>>,
    /// In the mode `read_only`: what may be sent to another server.
    pub(super) again: Option<Box<Again>>,
    /// Errors of the server that the client gets in words of ours.
    pub(super) replacements: Replacements,
    /// What the server has said before it closes.
    pub(super) last_words: Option<Box<ClientMessage>>,
    /// It was the client that broke the protocol: it was told, and its session ends too.
    pub(super) is_told: bool,
    /// When a write failed: whatever the server still had to say is read, then it is lost.
    pub(super) broken_since: Option<Instant>,
    /// When the server told of something for which it ends the connection: it has more to say.
    pub(super) ends_since: Option<Instant>,
    /// The copy that was under way was ended in the place of a client that broke the protocol.
    pub(super) has_ended_copy: bool,
    /// When the request under way had taken longer than `query_timeout`, and was cancelled for that.
    pub(super) cancel_sent: Option<Instant>,
    /// The client has said goodbye, or broken the protocol, and is still owed answers.
    pub(super) is_leaving: bool,
    /// Settings that have changed, and no text of the client's has set.
    pub(super) doubts: Vec<Box<str>>,
    /// The exchange is over, and the server goes back when what was read of it is dealt with.
    pub(super) is_done: bool,
}

/// The rest of a frame, in bytes, and whether it goes on to the client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    pub(super) len: usize,
    pub(super) verdict: Verdict,
}

impl Rest {
    /// A frame has gone to the client in part: nothing may come in between.
    pub(super) const fn is_cut(self) -> bool {
        self.len > 0 && matches!(self.verdict, Verdict::Forward)
    }
}

/// What is known of the requests in flight.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub(super) struct InFlight {
    /// More than Parse and Describe was sent: the server holds something for the client.
    pub(super) has_bound: bool,
    /// Statements that were prepared before may be gone by the time of what comes behind.
    pub(super) deallocates: bool,
    /// What comes behind may go into a copy.
    pub(super) may_copy: bool,
    /// Settings, the role or tables may be other than those of the sessions that share statements:
    /// a text that is parsed now may mean something else. Holds until the link ends, for only then
    /// is it certain that nothing of it is left.
    pub(super) changes_meaning: bool,
    /// What other sessions have parsed may give other columns when this transaction ends.
    pub(super) alters_results: bool,
    /// What is made may go to the schema of temporary objects, without a word of it. Holds as
    /// `changes_meaning` does.
    pub(super) moves: bool,
    /// A SET was among them.
    pub(super) sets: bool,
    /// A text among them is only known by its front.
    pub(super) is_unseen: bool,
    /// What was run may have changed something that others read. Holds until the link ends.
    pub(super) writes: bool,
    /// If there is a block, nothing was run in it yet but control statements, as far as is known.
    pub(super) begins: bool,
}

impl InFlight {
    /// Adds what a request has to do with, whether it runs that or only binds it.
    pub(super) fn add(&mut self, traits: Traits) {
        self.changes_meaning |= traits.changes_meaning();
        self.alters_results |= traits.alters_results();
        self.moves |= traits.moves();
        self.sets |= traits.sets();
    }

    /// Adds what is run now, behind what has left the transaction as `tx`, as far as is answered.
    pub(super) fn run(&mut self, deeds: Deeds, tx: TxStatus) {
        self.begins = tx == TxStatus::Idle || deeds.chains || (self.begins && deeds.is_control);
        self.deallocates |= deeds.deallocates;
        self.may_copy |= deeds.may_copy;
        self.writes |= deeds.writes;
    }

    /// True if what comes behind what has left the transaction as `tx` is the first of a block, as far as is
    /// known.
    pub(super) fn is_first_of_block(&self, tx: TxStatus) -> bool {
        self.begins && tx != TxStatus::Idle
    }

    /// What was run is answered.
    pub(super) const fn ran(&mut self) {
        self.deallocates = false;
        self.may_copy = false;
    }

    /// Everything is answered.
    pub(super) fn answered(&mut self, tx: TxStatus) {
        *self = Self {
            changes_meaning: self.changes_meaning,
            moves: self.moves,
            alters_results: self.alters_results && tx != TxStatus::Idle,
            begins: self.begins,
            writes: self.writes,
            ..Self::default()
        };
    }
}

/// What something does when it is run.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub(super) struct Deeds {
    pub(super) effect: Effect,
    pub(super) may_copy: bool,
    /// It may change something itself: the end of a transaction does not.
    writes: bool,
    /// It reads nothing.
    is_control: bool,
    /// A block begins behind the one that it ends.
    chains: bool,
    /// Statements may be gone behind it.
    deallocates: bool,
}

impl Deeds {
    /// What nobody has read does, or what is executed under a name that is not ours.
    pub(super) const UNREAD: Self = Self {
        effect: Effect::Anything,
        may_copy: true,
        writes: true,
        is_control: false,
        chains: false,
        deallocates: true,
    };
    /// What SQL's PREPARE has made does.
    pub(super) const PREPARED_BY_SQL: Self =
        Self { may_copy: false, deallocates: false, ..Self::UNREAD };

    pub(super) const fn of(traits: Traits) -> Self {
        Self {
            effect: Effect::of(traits),
            may_copy: traits.may_copy(),
            writes: traits.may_write() && !(traits.is_control() && traits.ends_block()),
            is_control: traits.is_control(),
            chains: traits.chains(),
            deallocates: traits.deallocates_all() || traits.names_statements(),
        }
    }

    /// Those of one of two, and nobody knows which.
    fn or(self, other: Self) -> Self {
        Self {
            effect: self.effect.or(other.effect),
            may_copy: self.may_copy || other.may_copy,
            writes: self.writes || other.writes,
            is_control: self.is_control && other.is_control,
            chains: self.chains || other.chains,
            deallocates: self.deallocates || other.deallocates,
        }
    }
}

/// What the portals that were bound do when they are executed: maybe in a later segment of their block.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Portals {
    unnamed: Deeds,
    /// Of all that have names.
    named: Deeds,
    /// What the unnamed statement does, where statements are not ours: unknown if it was parsed before.
    parsed: Option<Deeds>,
}

impl Portals {
    pub(super) fn bind(&mut self, portal: &[u8], deeds: Deeds) {
        if portal.is_empty() {
            self.unnamed = deeds;
        } else {
            self.named = self.named.or(deeds);
        }
    }

    /// The unnamed statement is parsed. `is_uncertain`: this may be skipped, and the one before stay.
    pub(super) fn parse(&mut self, deeds: Deeds, is_uncertain: bool) {
        let before = self.parsed();
        self.parsed = Some(if is_uncertain { before.or(deeds) } else { deeds });
    }

    /// What the unnamed statement does.
    pub(super) fn parsed(self) -> Deeds {
        self.parsed.unwrap_or(Deeds::UNREAD)
    }

    /// What was bound last does this as well.
    pub(super) fn add(&mut self, portal: &[u8], deeds: Deeds) {
        let bound = if portal.is_empty() { &mut self.unnamed } else { &mut self.named };
        *bound = bound.or(deeds);
    }

    /// What the Execute with this body does.
    pub(super) fn deeds(self, execute: &[u8]) -> Deeds {
        if execute.first() == Some(&0) { self.unnamed } else { self.named }
    }
}

/// Why a client's message is held back that has come: it waits in the inbox, and all behind it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Awaits {
    /// What it means only the answers to everything in front of it tell.
    pub(super) answers: bool,
    /// Too much is unanswered.
    pub(super) room: bool,
    /// A cancel is under way that is not meant for it.
    pub(super) cancels: bool,
}

impl Awaits {
    pub(super) const fn any(self) -> bool {
        self.answers || self.room || self.cancels
    }
}

/// Errors to put into other words, in the order of the requests that they answer.
#[derive(Default)]
pub(super) struct Replacements(VecDeque<Replacement>);

impl Replacements {
    pub(super) fn put(&mut self, replacement: Replacement) {
        let at = self.0.partition_point(|other| other.serial <= replacement.serial);
        self.0.insert(at, replacement);
    }

    /// Takes the words for an error of the request `serial`. Those for earlier ones are of no use.
    pub(super) fn take(&mut self, serial: u64, code: Option<SqlState>) -> Option<Words> {
        self.drop_before(serial);
        self.0.front().filter(|first| first.serial == serial)?;
        let replacement = self.0.pop_front()?;
        (code == Some(replacement.when)).then_some(replacement.with)
    }

    /// What is before the request `serial` is answered.
    pub(super) fn drop_before(&mut self, serial: u64) {
        while self.0.front().is_some_and(|first| first.serial < serial) {
            self.0.pop_front();
        }
    }
}

/// The error of one request, put into other words.
pub(super) struct Replacement {
    /// Serial number of the request in the exchange.
    pub(super) serial: u64,
    /// The error that is replaced; any other is passed on as it is.
    pub(super) when: SqlState,
    pub(super) with: Words,
}

/// What a client is told in the place of the server's error.
pub(super) enum Words {
    Ours(ClientMessage),
    /// The statement that it calls so is not what it was. The client goes on with another in its place.
    Outdated {
        name: Box<[u8]>,
        statement: Arc<Statement>,
    },
    /// The server's own words, with the name that the client knows in the place of `from`.
    Renamed {
        from: Box<[u8]>,
        to: Box<[u8]>,
    },
}

impl Linked {
    /// The server's exchange has nothing left that the client waits for.
    pub(super) fn is_settled(&self) -> bool {
        self.checkout.peek().is_some_and(|server| server.exchange.is_settled())
    }

    /// A link that begins at `now`.
    pub(super) fn new(checkout: Checkout, now: Instant) -> Self {
        let moves = checkout.peek().is_some_and(|server| server.applied.names_pg_temp());
        Self {
            checkout,
            since: now,
            request_since: None,
            quiet_since: now,
            server_rest: Rest { len: 0, verdict: Verdict::Forward },
            in_flight: InFlight { moves, ..InFlight::default() },
            portals: Portals::default(),
            awaits: Awaits::default(),
            reset_seen: false,
            restores: Restores::default(),
            naming: None,
            affecting: None,
            differs: None,
            first_use: None,
            again: None,
            has_unread: false,
            replacements: Replacements::default(),
            last_words: None,
            is_told: false,
            broken_since: None,
            ends_since: None,
            has_ended_copy: false,
            cancel_sent: None,
            is_leaving: false,
            doubts: Vec::new(),
            is_done: false,
        }
    }

    /// Nothing is to come that a client which sends no more would still get: a copy waits for its data.
    pub(super) fn may_be_left(&self) -> bool {
        self.checkout.peek().is_none_or(|server| {
            let has_more_to_say = self.server_rest.len > 0 || self.is_to_end();
            let is_answered = server.exchange.depth() == 0 && !has_more_to_say;
            is_answered || server.exchange.takes_copy_data()
        })
    }

    /// The server is about to say its last words.
    pub(super) fn is_to_end(&self) -> bool {
        self.ends_since.is_some_and(|since| since.elapsed() < LAST_WORDS)
    }

    /// No request is under way, and no block is open.
    pub(super) fn is_at_boundary(&self) -> bool {
        // A server is looked at through the checkout, which lends it mutably.
        self.request_since.is_none() && !self.is_in_block()
    }

    fn is_in_block(&self) -> bool {
        self.checkout.peek().is_some_and(|server| server.exchange.tx() != TxStatus::Idle)
    }
}

/// Puts what carries a client's settings over to its server in front of everything that the client
/// sends: in the same write, and without a round trip of its own.
pub(super) fn carry_over(server: &mut Server, settings: &Arc<Settings>) {
    let Some(change) = server.change_to(settings) else {
        // The same, maybe in another copy: next time that is seen at once.
        if !Arc::ptr_eq(&server.applied, settings) {
            server.applied = Arc::clone(settings);
        }
        return;
    };
    frontend::put_query(&mut server.outbox, change.as_bytes());
    server.exchange.on_request(Request::Simple(Verdict::Swallow), None);
    // A simple query takes it along.
    server.statements.unnamed = Unnamed::None;
    server.applied = Arc::clone(settings);
    server.applied_is_unknown = false;
    server.record.set_application_name(settings.value("application_name").unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sqlstate;

    fn put(replacements: &mut Replacements, serial: u64, text: &str) {
        let when = sqlstate::SYNTAX_ERROR;
        let with = Words::Ours(ClientMessage::new(when, text));
        replacements.put(Replacement { serial, when, with });
    }

    #[test]
    fn each_request_has_its_own_words_in_whatever_order_they_were_put() {
        let mut replacements = Replacements::default();
        for (serial, text) in [(3, "three"), (9, "nine"), (4, "four"), (6, "six")] {
            put(&mut replacements, serial, text);
        }
        let mut words = |serial, code| match replacements.take(serial, Some(code)) {
            Some(Words::Ours(message)) => message.message,
            _ => String::new(),
        };

        assert_eq!(words(4, sqlstate::SYNTAX_ERROR), "four");
        assert_eq!(words(3, sqlstate::SYNTAX_ERROR), "", "it was answered before");
        assert_eq!(words(5, sqlstate::SYNTAX_ERROR), "");
        assert_eq!(words(6, sqlstate::QUERY_CANCELED), "", "another error");
        assert_eq!(words(9, sqlstate::SYNTAX_ERROR), "nine");
    }
}
