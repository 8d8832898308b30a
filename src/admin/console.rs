//! One session with the console: messages in, bytes out. No I/O.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::vec;

use bytes::BytesMut;

use super::frontend::{self, Bind, Execute, Parse, Target};
use super::parse::{Command, commands};
use super::refusal::Refusal;
use super::respond::{Formats, Reply, Severity};
use super::show::parameter::PARAMETERS;
use super::show::{SHOWS, Show};
use super::table::{Cell, Column};
use crate::error::{ClientFacing as _, ClientMessage, SqlState};
use crate::telemetry::averages::Averages;
use crate::telemetry::snapshot::Observe;

/// A session with the console, from the end of its login on.
pub struct Console {
    observe: Arc<dyn Observe>,
    averages: Arc<Averages>,
    access: Access,
    block: Block,
    /// After an error in the extended protocol, until Sync.
    skipping: bool,
    /// By name; `None` is the empty query.
    statements: HashMap<String, Option<Command>>,
    portals: HashMap<String, Portal>,
}

/// What a user of the console may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything: `admin.users`.
    Admin,
    /// SHOW: `admin.stats_users`.
    Stats,
}

/// Whether there is more to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum ConsoleStep {
    Continue,
    /// Send what was written, then close.
    Close,
}

/// The transaction block that drivers open around everything. There is nothing in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    None,
    Open,
    /// After an error in it.
    Failed,
}

#[derive(Debug)]
struct Portal {
    command: Option<Command>,
    formats: Formats,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    New,
    /// Rows that an Execute with a limit has left over.
    Suspended(vec::IntoIter<Vec<Cell>>),
    Done,
}

impl Console {
    /// Longest message in bytes, without its tag and length: more than any command needs. A caller
    /// may refuse longer ones before it has read them.
    pub const MAX_MESSAGE: usize = 64 * 1024;

    pub fn new(observe: Arc<dyn Observe>, averages: Arc<Averages>, access: Access) -> Self {
        Self {
            observe,
            averages,
            access,
            block: Block::None,
            skipping: false,
            statements: HashMap::new(),
            portals: HashMap::new(),
        }
    }

    /// The settings that a client is told at login, between `AuthenticationOk` and the first
    /// `ReadyForQuery`.
    pub fn greet(&self, out: &mut BytesMut) {
        let mut reply = Reply::new(out);
        for (_, name, value, told) in PARAMETERS {
            if told {
                reply.parameter_status(name, value);
            }
        }
    }

    /// Answers one message behind `out`. `body` is what follows the tag and the length.
    ///
    /// Send `out` before the next message is read: an answer is bounded, a pipeline of them is not.
    pub fn on_message(&mut self, tag: u8, body: &[u8], out: &mut BytesMut) -> ConsoleStep {
        let mut reply = Reply::new(out);
        match tag {
            b'X' => return ConsoleStep::Close,
            b'S' => {
                self.skipping = false;
                if self.block == Block::None {
                    self.portals.clear();
                }
                reply.ready(self.status());
            }
            // PostgreSQL ignores the end of a COPY that has failed.
            b'H' | b'd' | b'c' | b'f' => {}
            b'B' | b'C' | b'D' | b'E' | b'F' | b'P' | b'Q' if self.skipping => {}
            b'F' => {
                self.refuse(&Refusal::FunctionCall, &mut reply);
                reply.ready(self.status());
            }
            b'Q' => {
                if let Err(refusal) = self.query(body, &mut reply) {
                    self.refuse(&refusal, &mut reply);
                }
                reply.ready(self.status());
            }
            b'B' | b'C' | b'D' | b'E' | b'P' => {
                if let Err(refusal) = self.extended(tag, body, &mut reply) {
                    self.skipping = true;
                    self.refuse(&refusal, &mut reply);
                }
            }
            tag => {
                let message = Refusal::UnknownMessage { tag }.client_message();
                reply.error(Severity::Fatal, &message);
                return ConsoleStep::Close;
            }
        }
        ConsoleStep::Continue
    }

    fn query(&mut self, body: &[u8], reply: &mut Reply<'_>) -> Result<(), Refusal> {
        bounded(body)?;
        let commands = commands(frontend::query(body)?, MAX_COMMANDS)?;
        if commands.is_empty() {
            reply.bare(EMPTY_QUERY);
        }
        for command in commands {
            if let Command::Show(show) = command {
                reply.row_description(&show.columns(), &Formats::TEXT);
            }
            let mut portal = Portal::new(Some(command), Formats::TEXT);
            self.run(&mut portal, usize::MAX, reply)?;
        }
        Ok(())
    }

    fn extended(&mut self, tag: u8, body: &[u8], reply: &mut Reply<'_>) -> Result<(), Refusal> {
        bounded(body)?;
        match tag {
            b'P' => self.parse(&frontend::parse(body)?, reply),
            b'B' => self.bind(frontend::bind(body)?, reply),
            b'D' => self.describe(&frontend::target(body, "Describe")?, reply),
            b'E' => self.execute(&frontend::execute(body)?, reply),
            _ => {
                match frontend::target(body, "Close")? {
                    Target::Statement(name) => drop(self.statements.remove(name)),
                    Target::Portal(name) => drop(self.portals.remove(name)),
                }
                reply.bare(CLOSE_COMPLETE);
                Ok(())
            }
        }
    }

    fn parse(&mut self, parse: &Parse<'_>, reply: &mut Reply<'_>) -> Result<(), Refusal> {
        let commands = commands(parse.sql, MAX_COMMANDS)?;
        let command = match commands.as_slice() {
            [] => None,
            [command] => Some(*command),
            _ => return Err(Refusal::MultipleCommands),
        };
        if !parse.name.is_empty() && self.statements.contains_key(parse.name) {
            return Err(Refusal::DuplicateStatement { name: parse.name.to_owned() });
        }
        room(&self.statements, parse.name, "prepared statements", MAX_STATEMENTS)?;
        self.statements.insert(parse.name.to_owned(), command);
        reply.bare(PARSE_COMPLETE);
        Ok(())
    }

    fn bind(&mut self, bind: Bind<'_>, reply: &mut Reply<'_>) -> Result<(), Refusal> {
        let command = *self
            .statements
            .get(bind.statement)
            .ok_or_else(|| Refusal::NoStatement { name: bind.statement.to_owned() })?;
        if bind.parameters > 0 {
            return Err(Refusal::Parameters { given: bind.parameters });
        }
        let columns = columns(command).map_or(0, |columns| columns.len());
        if bind.formats.len() > 1 && bind.formats.len() != columns {
            return Err(Refusal::Malformed { message: "Bind" });
        }
        if !bind.portal.is_empty() && self.portals.contains_key(bind.portal) {
            return Err(Refusal::DuplicatePortal { name: bind.portal.to_owned() });
        }
        room(&self.portals, bind.portal, "portals", MAX_PORTALS)?;
        let portal = Portal::new(command, Formats(bind.formats));
        self.portals.insert(bind.portal.to_owned(), portal);
        reply.bare(BIND_COMPLETE);
        Ok(())
    }

    fn describe(&self, target: &Target<'_>, reply: &mut Reply<'_>) -> Result<(), Refusal> {
        let (command, formats) = match target {
            Target::Statement(name) => {
                let command = self.statements.get(*name);
                let command =
                    command.ok_or_else(|| Refusal::NoStatement { name: (*name).into() })?;
                reply.no_parameters();
                (*command, &Formats::TEXT)
            }
            Target::Portal(name) => {
                let portal = self.portals.get(*name);
                let portal = portal.ok_or_else(|| Refusal::NoPortal { name: (*name).into() })?;
                (portal.command, &portal.formats)
            }
        };
        match columns(command) {
            Some(columns) => reply.row_description(&columns, formats),
            None => reply.bare(NO_DATA),
        }
        Ok(())
    }

    fn execute(&mut self, execute: &Execute<'_>, reply: &mut Reply<'_>) -> Result<(), Refusal> {
        let (name, mut portal) = self
            .portals
            .remove_entry(execute.portal)
            .ok_or_else(|| Refusal::NoPortal { name: execute.portal.to_owned() })?;
        let limit = if execute.max_rows == 0 { usize::MAX } else { execute.max_rows };
        self.run(&mut portal, limit, reply)?;
        self.portals.insert(name, portal);
        Ok(())
    }

    /// Runs a portal for at most `limit` rows, up to its `CommandComplete` or `PortalSuspended`.
    fn run(
        &mut self,
        portal: &mut Portal,
        limit: usize,
        reply: &mut Reply<'_>,
    ) -> Result<(), Refusal> {
        let Some(command) = portal.command else {
            reply.bare(EMPTY_QUERY);
            return Ok(());
        };
        if self.block == Block::Failed && !matches!(command, Command::Commit | Command::Rollback) {
            return Err(Refusal::FailedBlock);
        }
        match command {
            Command::Show(show) => return self.show(show, portal, limit, reply),
            Command::Help => {
                reply.notice(&help());
                reply.command_complete("SHOW");
            }
            Command::Begin => {
                self.block = Block::Open;
                reply.command_complete("BEGIN");
            }
            Command::Commit if self.block != Block::Failed => {
                self.block = Block::None;
                reply.command_complete("COMMIT");
            }
            Command::Commit | Command::Rollback => {
                self.block = Block::None;
                reply.command_complete("ROLLBACK");
            }
            Command::Accept(tag) => reply.command_complete(tag),
            Command::Control(command) => {
                let command = command.to_owned();
                return Err(match self.access {
                    Access::Admin => Refusal::NotBuilt { command },
                    Access::Stats => Refusal::Denied { command },
                });
            }
        }
        Ok(())
    }

    fn show(
        &self,
        show: Show,
        portal: &mut Portal,
        limit: usize,
        reply: &mut Reply<'_>,
    ) -> Result<(), Refusal> {
        let columns = show.columns();
        let mut rows = match std::mem::replace(&mut portal.progress, Progress::Done) {
            Progress::New => show.table(&*self.observe, &self.averages).rows.into_iter(),
            Progress::Suspended(rows) => rows,
            Progress::Done => Vec::new().into_iter(),
        };
        for row in rows.by_ref().take(limit) {
            reply.data_row(&columns, &row, &portal.formats)?;
        }
        if rows.len() > 0 {
            portal.progress = Progress::Suspended(rows);
            reply.bare(PORTAL_SUSPENDED);
        } else {
            reply.command_complete(show.tag());
        }
        Ok(())
    }

    fn refuse(&mut self, refusal: &Refusal, reply: &mut Reply<'_>) {
        if self.block == Block::Open {
            self.block = Block::Failed;
        }
        reply.error(Severity::Error, &refusal.client_message());
    }

    /// What `ReadyForQuery` says.
    const fn status(&self) -> u8 {
        match self.block {
            Block::None => b'I',
            Block::Open => b'T',
            Block::Failed => b'E',
        }
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("access", &self.access)
            .field("block", &self.block)
            .field("skipping", &self.skipping)
            .field("statements", &self.statements.len())
            .field("portals", &self.portals.len())
            .finish_non_exhaustive()
    }
}

impl Portal {
    const fn new(command: Option<Command>, formats: Formats) -> Self {
        Self { command, formats, progress: Progress::New }
    }
}

/// The columns of what a command answers; `None` if it answers no rows.
fn columns(command: Option<Command>) -> Option<Vec<Column>> {
    match command {
        Some(Command::Show(show)) => Some(show.columns()),
        Some(
            Command::Help
            | Command::Begin
            | Command::Commit
            | Command::Rollback
            | Command::Accept(_)
            | Command::Control(_),
        )
        | None => None,
    }
}

fn bounded(body: &[u8]) -> Result<(), Refusal> {
    let limit = Console::MAX_MESSAGE;
    if body.len() > limit { Err(Refusal::TooLong { limit }) } else { Ok(()) }
}

/// Fails if `name` would be one too many.
fn room<T>(
    held: &HashMap<String, T>,
    name: &str,
    what: &'static str,
    limit: usize,
) -> Result<(), Refusal> {
    if held.len() < limit || held.contains_key(name) {
        return Ok(());
    }
    Err(Refusal::TooMany { what, limit })
}

fn help() -> ClientMessage {
    let shows = SHOWS
        .iter()
        .map(|(name, _, about)| format!("\tSHOW {:<16} {about}\n", name.to_uppercase()));
    let detail: String = std::iter::once("\n".to_owned()).chain(shows).collect();
    ClientMessage::new(SqlState(*b"00000"), "Console usage").detail(detail)
}

/// In one Query: each may answer with a row for every client.
const MAX_COMMANDS: usize = 16;
const MAX_STATEMENTS: usize = 256;
/// Few: one that is suspended holds the rows that are left.
const MAX_PORTALS: usize = 16;

const PARSE_COMPLETE: u8 = b'1';
const BIND_COMPLETE: u8 = b'2';
const CLOSE_COMPLETE: u8 = b'3';
const EMPTY_QUERY: u8 = b'I';
const NO_DATA: u8 = b'n';
const PORTAL_SUSPENDED: u8 = b's';

#[cfg(test)]
mod tests;
