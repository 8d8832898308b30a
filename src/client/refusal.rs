//! What a server refuses, in the words that the client is told it in.

use std::sync::Arc;

use super::batch::Batch;
use super::link::{Link, Replacement, Words};
use super::serve::Session;
use super::shapes::{OUTDATED_ROUTINE, outdated};
use crate::server::exchange::Verdict;
use crate::server::statements::{Given, Undo};
use crate::wire::error_response::{self, ErrorFields, Severity};
use crate::wire::sqlstate;

/// The functions of PostgreSQL that refuse while somebody is connected to a database.
const WANT_TO_BE_ALONE: [&[u8]; 4] = [b"createdb", b"dropdb", b"movedb", b"RenameDatabase"];

impl Session {
    /// An error for the client: in our words, if it answers something that we made it refuse.
    pub(super) fn on_error(
        &mut self,
        batch: &mut Batch<'_>,
        body: &[u8],
        is_whole: bool,
        serial: u64,
        verdict: Verdict,
    ) -> Verdict {
        let fields = ErrorFields::parse(body);
        let used = self.failed_use();
        if let Some(given) = &used {
            match fields.sqlstate {
                Some(sqlstate::FEATURE_NOT_SUPPORTED)
                    if fields.routine == Some(OUTDATED_ROUTINE.as_bytes()) =>
                {
                    self.on_outdated(given);
                }
                Some(sqlstate::INVALID_STATEMENT_NAME) => self.lost_statement(given),
                _ => {}
            }
        }
        // Anybody may raise an error with this code, but not from there.
        if fields.sqlstate == Some(sqlstate::OBJECT_IN_USE)
            && fields.routine.is_some_and(|routine| WANT_TO_BE_ALONE.contains(&routine))
        {
            self.on_database_in_use();
        }
        if let Link::Linked(linked) = &mut self.link
            && linked.checkout.server().is_some_and(|server| server.exchange.has_undone())
        {
            self.undo();
        }
        let Link::Linked(linked) = &mut self.link else { return verdict };
        linked.restores.failed(serial);
        linked.replacements.retain(|replacement| replacement.serial >= serial);
        let at = linked.replacements.iter().position(|r| r.serial == serial);
        let replacement = at.map(|at| linked.replacements.remove(at));
        match replacement.filter(|replacement| fields.sqlstate == Some(replacement.when)) {
            Some(Replacement { with: Words::Ours(message), .. }) => {
                batch.gather();
                error_response::put(batch.out, Severity::Error, &message);
            }
            Some(Replacement { with: Words::Outdated { name, statement }, .. }) => {
                batch.gather();
                error_response::put(batch.out, Severity::Error, &outdated());
                self.renew(&name, &statement);
            }
            Some(Replacement { with: Words::Renamed { from, to }, .. }) => {
                batch.gather();
                error_response::put_renamed(batch.out, body, &from, &to);
            }
            // The server knows the statement by our name, and the client by its own. An error is long
            // for what it quotes, and names no statement then.
            None => match used.filter(|_| is_whole) {
                Some(given) => {
                    let name = given.statement.name().as_bytes();
                    batch.gather();
                    error_response::put_renamed(batch.out, body, name, &given.name);
                }
                None => return verdict,
            },
        }
        Verdict::Swallow
    }

    /// The statement of the Bind or Describe that just failed, if it was one.
    fn failed_use(&mut self) -> Option<Arc<Given>> {
        let Link::Linked(linked) = &mut self.link else { return None };
        match linked.checkout.server()?.exchange.failed() {
            Some(Undo::Uses(given)) => Some(Arc::clone(given)),
            _ => None,
        }
    }

    /// The server does not have a statement after all: something took it that no text shows.
    fn lost_statement(&mut self, given: &Given) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        server.statements.remove(&given.statement);
    }
}
