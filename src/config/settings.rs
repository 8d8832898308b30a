//! What applies to one user in one domain: the user's settings over the domain's.

use std::sync::Arc;
use std::time::Duration;

use super::{Config, Domain, HostRules, Mode, PoolMode, PoolOverrides, PoolSettings, UserRules};

impl Config {
    /// The settings of `user`'s pool in `domain` and `mode`: the user's keys over the domain's, and those
    /// are over `[pool]` already. `min` is at most `size`, whichever layer they come from. The mode
    /// `transactional` stays what it is.
    pub fn pool_settings(&self, domain: &Domain, user: &str, mode: Mode) -> Arc<PoolSettings> {
        let of_mode = domain.pool_of(mode);
        let Some(rules) = self.users.get(user) else { return Arc::clone(of_mode) };
        let mut settings = rules.pool.over(of_mode);
        if mode == Mode::Transactional {
            settings.pool_mode = PoolMode::Session;
        }
        Arc::new(settings)
    }

    /// How long `user`'s clients may idle. `None`: for ever.
    pub fn client_idle_timeout(&self, user: &str) -> Option<Duration> {
        self.users
            .get(user)
            .and_then(|rules| rules.client_idle_timeout)
            .unwrap_or(self.listen.client_idle_timeout)
    }

    /// The rules of `user`; those of nobody in particular if it has none.
    pub fn user_rules(&self, user: &str) -> UserRules {
        self.users.get(user).cloned().unwrap_or_default()
    }

    /// The rules of `host`; none if the file has none.
    pub fn host_rules(&self, host: &super::HostAddr) -> HostRules {
        self.hosts.get(host).copied().unwrap_or_default()
    }
}

impl PoolSettings {
    /// True if the pool's limit follows what its servers get done. A session that has a server to itself is not
    /// what holds others back.
    pub fn adapts(&self) -> bool {
        self.adaptive && self.pool_mode != PoolMode::Session
    }
}

impl PoolOverrides {
    fn over(&self, domain: &PoolSettings) -> PoolSettings {
        let size = self.size.unwrap_or(domain.size);
        PoolSettings {
            pool_mode: self.pool_mode.unwrap_or(domain.pool_mode),
            size,
            min: self.min.unwrap_or(domain.min).min(size),
            max_overflow: self.max_overflow.unwrap_or(domain.max_overflow),
            timeout: self.timeout.unwrap_or(domain.timeout),
            adaptive: self.adaptive.unwrap_or(domain.adaptive),
            query_timeout: self.query_timeout.unwrap_or(domain.query_timeout),
            transaction_timeout: self.transaction_timeout.unwrap_or(domain.transaction_timeout),
            idle_in_transaction_timeout: self
                .idle_in_transaction_timeout
                .unwrap_or(domain.idle_in_transaction_timeout),
            ..domain.clone()
        }
    }
}
