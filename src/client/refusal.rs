//! What a server refuses, in the words that the client is told it in.

use super::batch::Batch;
use super::link::{Link, Replacement, Words};
use super::prepared::OUTDATED_ROUTINE;
use super::serve::Session;
use crate::server::exchange::Verdict;
use crate::wire::error_response::{self, ErrorFields, Severity};
use crate::wire::sqlstate;

impl Session {
    /// An error for the client: in our words, if it answers something that we made it refuse.
    pub(super) fn on_error(
        &mut self,
        batch: &mut Batch<'_>,
        body: &[u8],
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
                    self.outdate(given);
                }
                Some(sqlstate::INVALID_STATEMENT_NAME) => self.lost_statement(given),
                _ => {}
            }
        }
        if fields.sqlstate == Some(sqlstate::OBJECT_IN_USE) {
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
            Some(Replacement { with: Words::Renamed { from, to }, .. }) => {
                batch.gather();
                error_response::put_renamed(batch.out, body, &from, &to);
            }
            // The server knows the statement by our name, and the client by its own.
            None => match used {
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
}
