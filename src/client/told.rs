//! What a client has been told of its settings, and what it is told when they are others.

use std::sync::Arc;

use super::serve::Session;
use crate::server::Server;
use crate::server::parameters::Parameters;
use crate::state::settings::{Settings, is_fixed};
use crate::wire::backend;

/// A parameter that has become other than the client was told.
pub(super) struct News {
    name: Box<str>,
    value: Box<str>,
}

impl Session {
    /// Tells the client of parameters, and whoever looks of its name.
    pub(super) fn tell(&self, news: &[News], out: &mut Vec<u8>) {
        for News { name, value } in news {
            if &**name == "application_name" {
                self.registered.record.set_application_name(value);
            }
            backend::put_parameter_status(out, name.as_bytes(), value.as_bytes());
        }
    }

    /// The transaction is over: what is in force by now outlives it.
    pub(super) fn keep_settings(&mut self) {
        if !Arc::ptr_eq(&self.settings, &self.settled) {
            self.settings = self.pool.share_settings(Arc::clone(&self.settings));
            self.settled = Arc::clone(&self.settings);
        }
    }

    /// The transaction is rolled back: its settings are as they were in front of it, and the client is
    /// told.
    pub(super) fn undo_settings(&mut self, out: &mut Vec<u8>) {
        if Arc::ptr_eq(&self.settings, &self.settled) {
            return;
        }
        let undone = std::mem::replace(&mut self.settings, Arc::clone(&self.settled));
        let mut news = Vec::new();
        for (name, base) in self.reported.iter().filter(|(name, _)| !is_fixed(name)) {
            let value = self.settings.value(name).unwrap_or(base);
            if undone.value(name).unwrap_or(base) != value {
                news.push(News { name: name.into(), value: value.into() });
            }
        }
        self.tell(&news, out);
    }

    /// Tells the client what its server reports by itself, if that is not what the one before did: the
    /// server's configuration may have been changed (pitfall P73).
    pub(super) fn tell_base(&mut self, base: &Arc<Parameters>) {
        if Arc::ptr_eq(&self.reported, base) {
            return;
        }
        let before = self.outbox.len();
        put_changes(&self.reported, base, &self.settings, &mut self.outbox);
        self.traffic.bytes_sent.add((self.outbox.len() - before) as u64);
        self.reported = Arc::clone(base);
    }
}

/// Appends what the server's own parameters are by now of which the client was told otherwise. What
/// it set itself it has on every server.
pub(super) fn put_changes(
    told: &Parameters,
    base: &Parameters,
    settings: &Settings,
    out: &mut Vec<u8>,
) {
    for (name, value) in base.iter() {
        if settings.value(name).is_none() && told.value(name) != Some(value) {
            backend::put_parameter_status(out, name.as_bytes(), value.as_bytes());
        }
    }
}

/// Takes what the server reports for what the client has, and gives what it was told otherwise.
/// `is_reset`: of a name, and whether its value is neither what the client was told nor what it was in
/// front of the transaction. If that is the server's own, a RESET left it there which nothing has
/// followed yet.
pub(super) fn settle(
    server: &mut Server,
    startup: &Settings,
    settings: &mut Arc<Settings>,
    settled: &Settings,
    is_reset: impl Fn(&str, bool) -> bool,
) -> Vec<News> {
    let mut news = Vec::new();
    for (name, value) in server.parameters.iter().filter(|(name, _)| !is_fixed(name)) {
        let base = server.base.value(name);
        let told = settings.value(name).or(base);
        let asked = startup.value(name);
        let is_news = told != Some(value) && settled.value(name).or(base) != Some(value);
        let is_left = base == Some(value) && is_reset(name, is_news);
        let wanted = asked.filter(|_| is_left).unwrap_or(value);
        server.applied_is_unknown |= wanted != value;
        if told == Some(wanted) {
            continue;
        }
        news.push(News { name: name.into(), value: wanted.into() });
        if asked.is_none() && base == Some(wanted) {
            Arc::make_mut(settings).remove(name);
        } else {
            Arc::make_mut(settings).set(name, wanted);
        }
    }
    news
}
