//! What every session of a process shares.

use std::sync::Arc;
use std::time::SystemTime;

use super::registry::Registry;
use crate::auth::{Account, ServerSecret, StoredSecret, UsersFile};
use crate::config::{Config, Domain, Mode, PoolSettings};
use crate::domain::Router;
use crate::pool::pool::Commons;
use crate::server::store::Store;
use crate::telemetry::averages::Averages;
use crate::telemetry::counters::ProcessStats;
use crate::telemetry::slow::SlowLog;

/// Handles to everything that outlives a session.
#[derive(Debug)]
pub struct Context {
    pub config: Arc<Config>,
    pub router: Router,
    pub registry: Arc<Registry>,
    pub users: Option<UsersFile>,
    pub commons: Arc<Commons>,
    pub store: Store,
    pub process: Arc<ProcessStats>,
    pub averages: Arc<Averages>,
    pub slow: SlowLog,
    pub started: SystemTime,
    /// Drawn once for the process: unknown users get the same challenge each time.
    pub mock_key: [u8; 32],
}

impl Context {
    /// What is known of a user that a client names.
    pub fn account(&self, user: &str) -> Account<'_> {
        self.users.as_ref().map_or(Account::NoUsersFile, |users| users.account(user))
    }

    /// What a domain's servers are logged in to with as its own user: its password, else what the
    /// users file has for that name.
    pub fn domain_secret(&self, domain: &Domain, user: &str) -> ServerSecret {
        match &domain.password {
            Some(password) => ServerSecret::Plain(password.clone()),
            None => self.secret_for_server(user),
        }
    }

    /// What a client's own user logs in to a server with.
    pub fn secret_for_server(&self, user: &str) -> ServerSecret {
        let secret = self.users.as_ref().and_then(|users| users.secret(user));
        secret.map_or(ServerSecret::None, StoredSecret::for_server)
    }

    /// The settings of a client's sessions in `mode`: its user's over the domain's.
    pub fn pool_settings(&self, domain: &Domain, user: &str, mode: Mode) -> Arc<PoolSettings> {
        self.config.pool_settings(domain, user, mode)
    }
}
