//! Which version of the protocol a host is asked for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::wire::version::Version;

/// What is known of the protocol version of a host.
///
/// Servers that speak an older version than they are asked for say so and go on. Some proxies refuse
/// the connection instead, or close it: those are asked for 3.0 until they may have been replaced.
#[derive(Debug, Default)]
pub struct Dialect {
    refuses_until: Mutex<Option<Instant>>,
}

/// For how long a host that refuses new versions is not asked for one.
const REMEMBERED: Duration = Duration::from_secs(3600);

impl Dialect {
    /// The version to ask for.
    pub fn to_ask(&self, now: Instant) -> Version {
        let until = *self.refuses_until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|until| now < until) { Version::V3_0 } else { Version::NEWEST }
    }

    /// Notes that the host refuses whatever is newer than 3.0.
    pub fn refuses_newer(&self, now: Instant) {
        let mut until = self.refuses_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = Some(now + REMEMBERED);
    }

    /// It is another host from now on.
    pub fn forget(&self) {
        *self.refuses_until.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_remembered_for_a_while() {
        let (dialect, now) = (Dialect::default(), Instant::now());
        assert_eq!(dialect.to_ask(now), Version::V3_2);
        dialect.refuses_newer(now);
        assert_eq!(dialect.to_ask(now), Version::V3_0);
        assert_eq!(dialect.to_ask(now + REMEMBERED), Version::V3_2);
        dialect.forget();
        assert_eq!(dialect.to_ask(now), Version::V3_2);
    }
}
