//! What a pool's sessions and servers have one copy of.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use hashlink::LruCache;
use tokio::time::Instant;

use super::pool::Pool;
use crate::server::Server;
use crate::server::parameters::Parameters;
use crate::state::settings::Settings;

/// How long it holds that functions set something.
const FUNCTIONS_FOR: Duration = Duration::from_secs(10);

impl Pool {
    /// What its servers report; `None` before the first one was opened.
    pub fn welcome(&self) -> Option<Arc<Parameters>> {
        self.welcome.load_full()
    }

    /// Notes what a server reports by itself. Servers that report the same have one copy of it.
    pub fn share_base(&self, server: &mut Server) {
        match &*self.welcome.load() {
            Some(welcome) if **welcome == *server.base => server.base = Arc::clone(welcome),
            _ if server.opening.is_none() => self.welcome.store(Some(Arc::clone(&server.base))),
            _ => {}
        }
    }

    /// Startup settings as its servers spell them, if one has taken the same before.
    pub fn checked(&self, settings: &Settings) -> Option<Arc<Settings>> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.get(settings).map(Arc::clone)
    }

    /// Notes that a server has taken `settings`, which it spells as `spelled`.
    pub fn note_checked(&self, settings: &Settings, spelled: &Arc<Settings>) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.insert(settings.clone(), Arc::clone(spelled));
    }

    /// A setting was changed by something that a client has called, as may happen all the time.
    pub fn note_set_by_functions(&self, name: &str) {
        self.set_by_functions().insert(name.into(), Instant::now());
    }

    /// True if that was so of late: it need not be asked for each time.
    pub fn is_set_by_functions(&self, name: &str) -> bool {
        let mut known = self.set_by_functions();
        known.get(name).is_some_and(|at| at.elapsed() < FUNCTIONS_FOR)
    }

    fn set_by_functions(&self) -> MutexGuard<'_, LruCache<Box<str>, Instant>> {
        self.set_by_functions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The copy that others have of the same settings, if anybody has: two sessions that share one need not
    /// be compared.
    pub fn share_settings(&self, settings: Arc<Settings>) -> Arc<Settings> {
        let mut copies = self.shared_settings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copy) = copies.get(&settings) {
            return Arc::clone(copy);
        }
        copies.insert(Arc::clone(&settings), Arc::clone(&settings));
        settings
    }
}
