//! What a pool's sessions and servers have one copy of.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use hashlink::LruCache;
use tokio::time::Instant;

use super::pool::Pool;
use crate::config::Mode;
use crate::server::Server;
use crate::server::parameters::Parameters;
use crate::state::settings::Settings;

/// Reported by PostgreSQL from 14 on.
const IN_HOT_STANDBY: &str = "in_hot_standby";
const READ_ONLY: &str = "default_transaction_read_only";

/// The shortest time between two logins that look for a better greeting.
const DOUBT_AGAIN: Duration = Duration::from_secs(1);

/// How long it holds that functions set something.
const FUNCTIONS_FOR: Duration = Duration::from_secs(10);

impl Pool {
    /// What its servers report; `None` before the first one was opened.
    pub fn welcome(&self) -> Option<Arc<Parameters>> {
        self.welcome.load_full()
    }

    /// True if a login at `now` should not go by that, but by a server: it tells of a host that the pool uses only
    /// for want of a better one, or of one that takes no writes. Whoever is told so hangs up if that is not what it
    /// is looking for, so that no server would be opened to learn better from. One login a second is enough.
    pub fn doubts_welcome(&self, welcome: &Parameters, now: Instant) -> bool {
        let is = |name: &str, value: &str| welcome.value(name) == Some(value);
        let is_odd = match self.mode {
            // The only host of a domain is what it is.
            Mode::ReadOnly => {
                is(IN_HOT_STANDBY, "off") && self.outlook.patience(self.mode).is_some()
            }
            Mode::ReadWrite | Mode::Batch | Mode::Transactional => {
                is(IN_HOT_STANDBY, "on") || is(READ_ONLY, "on")
            }
        };
        if !is_odd {
            return false;
        }
        let mut doubted = self.welcome_doubted.lock().unwrap_or_else(PoisonError::into_inner);
        if doubted.is_some_and(|last| now.saturating_duration_since(last) < DOUBT_AGAIN) {
            return false;
        }
        *doubted = Some(now);
        true
    }

    /// Has the greeting tell of the host of `server` what that reports by now, and returns it: it was promoted, or its
    /// configuration is another.
    pub fn renew_welcome(&self, server: &mut Server) -> Arc<Parameters> {
        for name in [IN_HOT_STANDBY, READ_ONLY] {
            let Some(value) = server.parameters.value(name) else { continue };
            if server.applied.value(name).is_none() && server.base.value(name) != Some(value) {
                let value = value.to_owned();
                Arc::make_mut(&mut server.base).note(name, &value);
            }
        }
        self.share_base(server);
        Arc::clone(&server.base)
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
