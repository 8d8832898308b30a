//! Settings that have changed without a word of the client's: a function that it called has set them, or the
//! server's configuration was read anew. The server is asked which: what a RESET would give is not the session's
//! own, and must not follow it to other servers, or outlive the configuration.

use std::pin::Pin;
use std::sync::Arc;

use super::link::{Link, Linked};
use super::serve::Session;
use crate::pool::Checkout;
use crate::state::settings::Settings;
use crate::telemetry::counters::CloseReason;

/// The server on its way back, and each of the settings in doubt with the value that it is configured to; `None`
/// where something else is in force. No server: it could not tell, and is closed.
pub(super) type Doubt = Pin<Box<dyn Future<Output = Option<Told>> + Send>>;

/// What a server was asked for has come.
pub(super) struct Told {
    checkout: Checkout,
    settings: Vec<(Box<str>, Option<String>)>,
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
        let mut checkout = std::mem::take(&mut linked.checkout);
        let (sql, limit) = (question(&names), self.pool.settings.connect_timeout);
        self.link = Link::Doubting(Box::pin(async move {
            let values = match checkout.server()?.query_row(&sql, limit).await {
                Ok(values) => values,
                Err(error) => {
                    tracing::debug!(%error, "a server does not tell what it is configured to");
                    checkout.close(CloseReason::ResetFailed);
                    return None;
                }
            };
            Some(Told { checkout, settings: names.into_iter().zip(values).collect() })
        }));
        None
    }

    /// Takes back what is not the session's own, and gives the server back.
    pub(super) fn end_doubt(&mut self, told: Option<Told>) {
        self.link = Link::Free;
        if let Some(Told { mut checkout, settings }) = told {
            let mut configured = Vec::new();
            for (name, value) in settings {
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
                let mut settings = Settings::clone(&self.settings);
                for (name, _) in &configured {
                    settings.remove(name);
                }
                self.settings = self.pool.share_settings(Arc::new(settings));
                self.settled = Arc::clone(&self.settings);
            }
            checkout.checkin(self.idle_since);
        }
    }
}

/// Asks for the value of each that is what a RESET would give, in a row.
fn question(names: &[Box<str>]) -> String {
    let column = |name: &str| {
        format!(
            "(SELECT reset_val FROM pg_catalog.pg_settings WHERE name = '{name}' AND setting = reset_val)"
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
            "SELECT (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'TimeZone' AND setting = reset_val), \
             (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only' \
             AND setting = reset_val)"
        );
        assert!(is_plain("search_path") && !is_plain("a'b"));
    }
}
