//! Settings that have changed without a word of the client's: a function that it called has set them, or the
//! server's configuration was read anew. The server is asked which: what a RESET would give is not the session's
//! own, and must not follow it to other servers, or outlive the configuration.

use std::pin::Pin;
use std::sync::Arc;

use super::link::{Link, Linked};
use super::serve::Session;
use crate::pool::Checkout;
use crate::state::settings::Settings;

/// What comes of the question.
pub(super) type Doubt = Pin<Box<dyn Future<Output = Told> + Send>>;

/// What a server has told of the settings in doubt.
pub(super) struct Told {
    names: Vec<Box<str>>,
    /// The server on its way back, and the value that each is configured to, if that is in force. `None`: it could
    /// not tell, and is closed.
    answer: Option<(Checkout, Vec<Option<String>>)>,
}

/// Settings of one link that are asked about.
const DOUBTS_MOST: usize = 16;

impl Linked {
    /// The server reports `name` as changed. If no text that is in flight has set anything, it is asked about
    /// before the server goes back.
    pub(super) fn doubt(&mut self, name: &str) {
        let in_flight = self.in_flight;
        let is_explained = in_flight.sets || in_flight.changes_meaning || in_flight.is_unseen;
        if !is_explained
            && is_plain(name)
            && self.doubts.len() < DOUBTS_MOST
            && !self.doubts.iter().any(|known| &**known == name)
        {
            self.doubts.push(name.into());
        }
    }
}

impl Session {
    /// Asks the server of a link that is over about the settings in doubt, in front of its way back. The link, if
    /// there is nothing to ask.
    pub(super) fn begin_doubt(&mut self, mut linked: Box<Linked>) -> Option<Box<Linked>> {
        linked.doubts.retain(|name| !self.pool.is_set_by_functions(name));
        if linked.doubts.is_empty() {
            return Some(linked);
        }
        let names = std::mem::take(&mut linked.doubts);
        let checkout = std::mem::take(&mut linked.checkout);
        let pool = Arc::clone(&self.pool);
        self.link = Link::Doubting(Box::pin(async move {
            let answer = pool.ask_aside(checkout, &question(&names)).await;
            Told { names, answer }
        }));
        None
    }

    /// Takes back what is not the session's own, and gives the server back.
    pub(super) fn end_doubt(&mut self, told: Told) {
        self.link = Link::Free;
        let Told { names, answer } = told;
        let Some((mut checkout, values)) = answer else { return self.disown(&names) };
        let mut configured = Vec::new();
        for (name, value) in names.into_iter().zip(values) {
            match value.filter(|_| self.startup.value(&name).is_none()) {
                Some(value) => configured.push((name, value)),
                None => self.pool.note_set_by_functions(&name),
            }
        }
        if let Some(server) = checkout.server().filter(|_| !configured.is_empty()) {
            let base = Arc::make_mut(&mut server.base);
            let applied = Arc::make_mut(&mut server.applied);
            for (name, value) in &configured {
                base.note(name, value);
                applied.remove(name);
            }
            self.pool.share_base(server);
            if !self.is_away() {
                // It was told by the server.
                self.reported = Arc::clone(&server.base);
            }
            let names: Vec<_> = configured.into_iter().map(|(name, _)| name).collect();
            self.disown(&names);
        }
        checkout.checkin(self.idle_since);
    }

    /// Takes settings for the server's, not the session's: where it could not be asked too, for then no text of the
    /// client's has set them, and nothing that it calls does so as a habit.
    pub(super) fn disown(&mut self, names: &[Box<str>]) {
        if names.is_empty() {
            return;
        }
        let is_settled = Arc::ptr_eq(&self.settings, &self.settled);
        let without = |settings: &Settings| {
            let mut rest = settings.clone();
            for name in names.iter().filter(|name| self.startup.value(name).is_none()) {
                rest.remove(name);
            }
            Arc::new(rest)
        };
        let (settings, settled) = (without(&self.settings), without(&self.settled));
        self.settled = self.pool.share_settings(settled);
        self.settings = if is_settled { Arc::clone(&self.settled) } else { settings };
    }
}

/// Asks for the value of each that is what a RESET would give, in a row.
fn question(names: &[Box<str>]) -> String {
    let column = |name: &str| {
        format!(
            "(SELECT reset_val FROM pg_catalog.pg_settings \
             WHERE name OPERATOR(pg_catalog.=) '{name}' AND setting OPERATOR(pg_catalog.=) reset_val)"
        )
    };
    format!("SELECT {}", names.iter().map(|name| column(name)).collect::<Vec<_>>().join(", "))
}

/// True of a name that needs no care in a text.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_a_column_of_the_question() {
        let names = ["TimeZone".into(), "default_transaction_read_only".into()];
        assert_eq!(
            question(&names),
            "SELECT (SELECT reset_val FROM pg_catalog.pg_settings \
             WHERE name OPERATOR(pg_catalog.=) 'TimeZone' AND setting OPERATOR(pg_catalog.=) reset_val), \
             (SELECT reset_val FROM pg_catalog.pg_settings \
             WHERE name OPERATOR(pg_catalog.=) 'default_transaction_read_only' \
             AND setting OPERATOR(pg_catalog.=) reset_val)"
        );
        assert!(is_plain("search_path") && !is_plain("a'b"));
    }
}
