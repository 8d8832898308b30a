//! A client's prepared statements, by the names that it gave them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::ClientMessage;
use crate::pool::core::ServerId;
use crate::server::Server;
use crate::server::exchange::Undone;
use crate::server::shape::{Describes, Why};
use crate::server::store::Statement;
use crate::server::undo::{Given, Undo};
use crate::server::unnamed::{Unnamed, UnnamedBefore, UnnamedParse};
use crate::state::settings::Settings;
use crate::wire::sqlstate;

/// The statements of a client.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Allocates nothing before the first one is prepared: most clients never do.
    named: Names,
    pub(super) unnamed: Option<UnnamedParse>,
    /// The last unnamed statement that servers had under its own name.
    pub(super) shared: Option<Box<Shared>>,
    /// Parses of the unnamed statement so far.
    unnamed_parses: u64,
}

/// An unnamed statement that servers have as they have those to which clients give names.
#[derive(Debug)]
pub(super) struct Shared {
    /// As it is known of one that has a name: this one's is empty.
    pub(super) given: Arc<Given>,
    /// Which of the client's unnamed statements it is.
    pub(super) number: u64,
    /// The client's settings when its text was looked up, and how often any tables had been altered: as
    /// long as both are the same, the text means the same statement.
    pub(super) settings: Arc<Settings>,
    pub(super) alterations: u64,
}

type Names = HashMap<Box<[u8]>, Named, foldhash::fast::RandomState>;

#[derive(Debug)]
pub(super) struct Named {
    given: Arc<Given>,
    /// Where and when its Parse was sent: a DEALLOCATE ALL takes only what came before it.
    server: ServerId,
    serial: u64,
}

impl Named {
    pub(super) const fn new(given: Arc<Given>, server: ServerId, serial: u64) -> Self {
        Self { given, server, serial }
    }
}

/// Bytes of a name that PostgreSQL tells apart (NAMEDATALEN).
const NAME_LEN: usize = 63;

pub(super) fn key(name: &[u8]) -> &[u8] {
    name.get(..NAME_LEN).unwrap_or(name)
}

impl Prepared {
    /// What the client calls `name` is another statement from now on, with the same text, of which it was
    /// told.
    pub(super) fn replace(&mut self, name: &[u8], statement: Arc<Statement>) {
        if name.is_empty() {
            self.replace_unnamed(Given::new(name, statement));
        } else if let Some(named) = self.named.get_mut(key(name)) {
            named.given = Arc::new(Given::new(&named.given.name, statement));
        }
    }

    /// The unnamed statement goes on by the name that it went by.
    fn replace_unnamed(&mut self, given: Given) {
        let is_shared = self.ours(b"").is_some();
        let parse = self.parse_unnamed(Arc::clone(&given.statement));
        if let Some(shared) = self.shared.as_mut().filter(|_| is_shared) {
            shared.given = Arc::new(given);
            shared.number = parse.number;
            // It was not looked up for a Parse: the next one looks.
            shared.alterations = u64::MAX;
        }
        self.unnamed = Some(parse);
    }

    /// The same, but what the client had been told of it is all that it has been told.
    pub(super) fn replace_unheard(&mut self, name: &[u8], statement: Arc<Statement>) {
        if !self.ours(name).is_some_and(|given| given.is_untried()) {
            return self.replace(name, statement);
        }
        match self.named.get_mut(key(name)) {
            Some(named) => named.given = Arc::new(Given::untried(&named.given.name, statement)),
            None => self.replace_unnamed(Given::untried(name, statement)),
        }
    }

    /// The statement that the client calls so, the unnamed one included.
    pub(super) fn statement(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        if name.is_empty() {
            return self.unnamed.as_ref().map(|parse| &parse.statement);
        }
        self.find(name).map(|given| &given.statement)
    }

    /// The statement that the client has given this name.
    pub(super) fn find(&self, name: &[u8]) -> Option<&Arc<Given>> {
        self.named.get(key(name)).map(|named| &named.given)
    }

    /// The statement that the client calls so, if servers have it under a name of ours.
    pub(super) fn ours(&self, name: &[u8]) -> Option<&Arc<Given>> {
        if name.is_empty() {
            let shared = self.shared.as_ref()?;
            return self.is_unnamed(shared.number).then_some(&shared.given);
        }
        self.find(name)
    }

    /// True if the client's unnamed statement is its `number`th.
    fn is_unnamed(&self, number: u64) -> bool {
        self.unnamed.as_ref().is_some_and(|parse| parse.number == number)
    }

    /// The statement that a message uses by the name in it, which an error repeats: it may differ from
    /// the one that was given where names are not told apart.
    pub(super) fn used(&self, name: &[u8]) -> Option<Arc<Given>> {
        let given = self.ours(name)?;
        // A shorter one has nothing behind what is told apart.
        if name.len() < NAME_LEN || *given.name == *name {
            return Some(Arc::clone(given));
        }
        Some(Arc::new(given.spelled(name)))
    }

    /// True if what `name` is depends on answers that `server` still owes.
    pub(super) fn is_open_question(&self, name: &[u8], server: &Server) -> bool {
        if !server.exchange.may_change_statements() {
            debug_assert!(!self.is_asked_about(name, server), "a change was not noted");
            return false;
        }
        self.is_asked_about(name, server)
    }

    fn is_asked_about(&self, name: &[u8], server: &Server) -> bool {
        let (exchange, statements) = (&server.exchange, &server.statements);
        let is_asked_about_on_server = |statement: &Arc<Statement>| {
            let serial = statements.serial(statement);
            serial.is_some_and(|serial| exchange.is_open_question(serial))
        };
        if name.is_empty() {
            let ours = self.ours(name);
            return exchange.is_open_question(statements.unnamed_since)
                || ours.is_some_and(|given| is_asked_about_on_server(&given.statement));
        }
        let Some(named) = self.named.get(key(name)) else {
            let is_of = |given: &Given| key(&given.name) == key(name);
            let mut unanswered = exchange.open_questions();
            return unanswered.any(|undo| matches!(undo, Undo::Close(given) if is_of(given)));
        };
        (named.server == server.id() && exchange.is_open_question(named.serial))
            || is_asked_about_on_server(&named.given.statement)
    }

    /// True if the client may have a statement of that name whose Parse `server` has not answered yet.
    pub(super) fn is_being_parsed(&self, name: &[u8], server: &Server) -> bool {
        self.named.get(key(name)).is_some_and(|named| {
            named.server == server.id() && named.serial >= server.exchange.head_serial()
        })
    }

    /// True if the client has never named a statement. Capacity is never given up.
    pub(super) fn never_had_one(&self) -> bool {
        self.named.capacity() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.named.len()
    }

    /// Refuses one more if there are as many as `max`.
    pub(super) fn check_room(&self, max: usize) -> Result<(), ClientMessage> {
        check_room(self.len(), max)
    }

    pub(super) fn insert(&mut self, named: Named) {
        let key = key(&named.given.name).into();
        self.named.insert(key, named);
    }

    /// The client parses its unnamed statement.
    pub(super) fn parse_unnamed(&mut self, statement: Arc<Statement>) -> UnnamedParse {
        self.unnamed_parses += 1;
        UnnamedParse { statement, number: self.unnamed_parses }
    }

    /// Notes a statement that no server has: one of a stand-in's.
    pub(super) fn note_parse(&mut self, name: &[u8], statement: Arc<Statement>) {
        if name.is_empty() {
            self.unnamed = Some(self.parse_unnamed(statement));
        } else {
            let given = Arc::new(Given::new(name, statement));
            self.insert(Named::new(given, ServerId(0), 0));
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Arc<Given>> {
        self.named.remove(key(name)).map(|named| named.given)
    }

    /// The server is lost: what was not answered was never prepared.
    pub(super) fn abandon(&mut self, server: &mut Server) {
        let undone: Vec<_> = server.exchange.abandon().collect();
        for undone in undone {
            take_back(self, server, undone);
        }
    }

    /// `server` has deallocated the statement that the client calls `name` as the request with this
    /// serial number.
    pub(super) fn deallocated(&mut self, name: &[u8], server: ServerId, serial: u64) {
        if let Some(named) = self.named.get(key(name))
            && (named.server != server || named.serial < serial)
        {
            self.named.remove(key(name));
        }
    }

    /// `server` has done a DEALLOCATE ALL or DISCARD ALL as the request with this serial number.
    pub(super) fn deallocated_all(&mut self, server: ServerId, serial: u64) {
        self.named.retain(|_, named| named.server == server && named.serial > serial);
    }
}

/// Notes that the next request makes the unnamed statement of the client and that of the server what is
/// said here; what they were stays so if it is skipped.
pub(super) fn change_unnamed(
    prepared: &mut Prepared,
    server: &mut Server,
    client_has: Option<UnnamedParse>,
    server_has: Unnamed,
) -> Undo {
    Undo::Unnamed(change(prepared, server, client_has, server_has))
}

/// Notes that the next request makes the client's unnamed statement one that servers have under its own
/// name. That of the server stays what it is.
pub(super) fn share_unnamed(
    prepared: &mut Prepared,
    server: &mut Server,
    client_has: UnnamedParse,
) -> UnnamedBefore {
    let server_has = server.statements.unnamed.clone();
    UnnamedBefore { is_apart: true, ..change(prepared, server, Some(client_has), server_has) }
}

fn change(
    prepared: &mut Prepared,
    server: &mut Server,
    client_has: Option<UnnamedParse>,
    server_has: Unnamed,
) -> UnnamedBefore {
    let serial = server.exchange.next_serial();
    let statements = &mut server.statements;
    let number = |parse: &Option<UnnamedParse>| parse.as_ref().map(|parse| parse.number);
    UnnamedBefore {
        is_again: client_has.is_some() && number(&client_has) == number(&prepared.unnamed),
        client: std::mem::replace(&mut prepared.unnamed, client_has),
        server: std::mem::replace(&mut statements.unnamed, server_has),
        since: std::mem::replace(&mut statements.unnamed_since, serial),
        serial,
        is_apart: false,
        parse: None,
    }
}

/// Notes that the client's unnamed statement goes with the next request, and the server's with it.
pub(super) fn drop_unnamed(prepared: &mut Prepared, server: &mut Server) -> Option<Undo> {
    has_unnamed(prepared, server).then(|| change_unnamed(prepared, server, None, Unnamed::None))
}

/// There is an unnamed statement, or may be one by the time of what is sent now.
pub(super) fn has_unnamed(prepared: &Prepared, server: &Server) -> bool {
    prepared.unnamed.is_some()
        || !matches!(server.statements.unnamed, Unnamed::None)
        || server.exchange.has_boundary()
}

/// Takes back what was noted of a message that came to nothing.
pub(super) fn take_back(prepared: &mut Prepared, server: &mut Server, undone: Undone<Undo>) {
    let Undone { failed, undo } = undone;
    match undo {
        Undo::Parse { given, sent } => {
            let Given { name, statement, .. } = &*given;
            if prepared.find(name).is_some_and(|found| Arc::ptr_eq(&found.statement, statement)) {
                prepared.remove(name);
            }
            if let Some(serial) = sent {
                server.statements.take_back(statement, serial);
            }
        }
        Undo::Reparse { statement, serial } => server.statements.take_back(&statement, serial),
        Undo::Unnamed(before) => take_back_unnamed(prepared, server, before, failed),
        Undo::Close(given) => prepared.insert(Named::new(given, server.id(), 0)),
        // A use changes nothing.
        Undo::Uses(_) => {}
        Undo::Describes(described) => take_back_description(server, &described),
        Undo::Evict(evicted) => server.statements.restore(*evicted),
    }
}

/// Whether the server has prepared what it was to prepare is not known.
fn take_back_description(server: &mut Server, described: &Describes) {
    if described.why == Why::Asked {
        return;
    }
    distrust(server, described);
}

/// What the server has prepared is to be prepared anew.
pub(super) fn distrust(server: &mut Server, described: &Describes) {
    let Describes { statement, serial, .. } = described;
    server.statements.distrust(statement, *serial);
    if server.statements.unnamed.is_of(statement) {
        server.statements.unnamed = Unnamed::Passing;
    }
}

fn take_back_unnamed(
    prepared: &mut Prepared,
    server: &mut Server,
    before: UnnamedBefore,
    failed: bool,
) {
    // A Parse that failed has dropped the old unnamed statement, unless it was of another name there; a
    // skipped one has not. The client knows nothing of one of ours.
    let server_had = if failed && !before.is_apart { Unnamed::None } else { before.server };
    let client_had = before.client.filter(|_| !failed || before.is_again);
    if let Some(serial) = before.parse {
        server.statements.take_back_parse(serial);
    }
    if server.statements.unnamed_since == before.serial {
        prepared.unnamed = client_had;
        server.statements.unnamed = server_had;
        server.statements.unnamed_since = before.since;
        return;
    }
    // Something behind it has changed the unnamed statement: should that come to nothing as well, this
    // is what there was before it.
    let later = server.exchange.undos_mut().find_map(|undo| match undo {
        Undo::Unnamed(later) => Some(later).filter(|later| later.since == before.serial),
        Undo::Parse { .. }
        | Undo::Reparse { .. }
        | Undo::Close(_)
        | Undo::Uses(_)
        | Undo::Describes(_)
        | Undo::Evict(_) => None,
    });
    if let Some(later) = later {
        (later.client, later.server, later.since) = (client_had, server_had, before.since);
    }
}

/// True if a client that has `count` prepared statements may have one more.
pub(super) fn check_room(count: usize, max: usize) -> Result<(), ClientMessage> {
    if count < max {
        return Ok(());
    }
    let text =
        format!("a client may have at most {max} prepared statements (max_statements_per_client)");
    Err(ClientMessage::new(sqlstate::CONFIGURATION_LIMIT, text))
}
