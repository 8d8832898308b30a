//! Looking at a host: a connection of its own, and one question. The connection is a new one each time, unless
//! looks come thick and fast: that a login works is a part of what is looked at.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::health::{Facts, Look, Reason};
use super::lag::Lsn;
use crate::error::ClientMessage;
use crate::pool::core::{Home, ServerId};
use crate::server::Server;
use crate::server::connect::{ConnectError, Target, connect};
use crate::server::server::CommandError;

/// What a host is asked. The control file's timeline lags behind a promotion: a primary tells its own by the
/// name of the file that it writes, a replica by its receiver, to those who may see that (pitfall P93).
const QUESTION: &str = "\
SELECT s.r::pg_catalog.int4,
       (SELECT system_identifier FROM pg_catalog.pg_control_system()),
       CASE WHEN s.r THEN (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver)
            ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::pg_catalog.bit(32)::pg_catalog.int4
       END,
       CASE WHEN s.r THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_lsn()
       END,
       CASE WHEN NOT s.r THEN pg_catalog.pg_current_wal_insert_lsn() END
FROM (SELECT pg_catalog.pg_is_in_recovery() AS r OFFSET 0) AS s";

/// What a probe's connection calls itself.
pub const APPLICATION_NAME: &str = "pgweir probe";

/// The connection of a probe, kept from one look to the next.
#[derive(Debug, Default)]
pub struct Probe {
    server: Option<Box<Server>>,
    /// What was heard of the host when it was last looked at.
    heard: Heard,
}

/// How much each server at a host had read, by its number: whatever has grown, or is new, was heard.
pub type Heard = HashMap<ServerId, u64>;

impl Probe {
    /// Looks at the host of `target` for at most `limit`. `heard` counts what comes from it on other
    /// connections.
    ///
    /// Cancel-safe in that nothing but the connection is lost.
    pub async fn look(
        &mut self,
        target: &Target,
        limit: Duration,
        heard: impl Fn() -> Heard,
    ) -> Look {
        let deadline = Instant::now() + limit;
        let before = heard();
        let look = timeout_at(deadline, self.ask(target, limit)).await;
        let mut look = look.unwrap_or_else(|_elapsed| {
            // Its answer would be taken for that to the next question.
            self.server = None;
            Look::Silent { why: format!("no answer within {limit:?}"), heard: false }
        });
        let now = heard();
        let is_other = |then: &Heard| now.iter().any(|(id, read)| then.get(id) != Some(read));
        if let Look::Silent { heard, .. } | Look::Unreachable { heard, .. } = &mut look {
            // What came before the question says nothing of the silence behind it. In front of one that was over at
            // once there was no time for anything to come.
            let was_silence = Instant::now() >= deadline;
            *heard = is_other(if was_silence { &before } else { &self.heard });
        }
        self.heard = now;
        look
    }

    /// Closes the connection: the next look opens another.
    pub fn disconnect(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.say_goodbye();
        }
    }

    async fn ask(&mut self, target: &Target, limit: Duration) -> Look {
        if let Some(mut server) = self.server.take() {
            // Whatever is wrong with the old connection says little: a new one says more.
            if let Ok(look) = question(&mut server, limit).await {
                self.server = Some(server);
                return look;
            }
        }
        let opened = connect(target, None, ServerId(0), Home(0)).await;
        let mut server = match opened {
            Ok(server) => Box::new(server),
            Err(error) => return failed(&error),
        };
        match question(&mut server, limit).await {
            Ok(look) => {
                self.server = Some(server);
                look
            }
            // Whatever it says, it is there.
            Err(CommandError::Refused { message }) => {
                Look::Alive { why: refused(&message), reason: Reason::Other }
            }
            Err(error) => Look::Silent { why: error.to_string(), heard: false },
        }
    }
}

fn refused(message: &ClientMessage) -> String {
    format!("the probe is refused: {} ({})", message.message, message.sqlstate.as_str())
}

/// What a connection that came to nothing says of the host.
fn failed(error: &ConnectError) -> Look {
    let why = error.to_string();
    if error.is_unreachable() {
        Look::Unreachable { why, heard: false }
    } else if error.is_silence() {
        Look::Silent { why, heard: false }
    } else if error.is_ours() {
        Look::Missed { why }
    } else {
        let reason = if error.is_of_login() {
            Reason::Login
        } else if error.is_of_start() {
            Reason::Starting
        } else {
            Reason::Other
        };
        Look::Alive { why, reason }
    }
}

/// Asks what the host is. An error if the connection is of no more use.
async fn question(server: &mut Server, limit: Duration) -> Result<Look, CommandError> {
    match server.query_row(QUESTION, limit).await {
        Ok(row) => Ok(match facts(&row) {
            Some(facts) => Look::Seen(facts),
            None => {
                let why = format!("it gave no sense of what it is: {row:?}");
                Look::Alive { why, reason: Reason::Other }
            }
        }),
        // It may not look: that will be no better with another connection.
        Err(CommandError::Refused { message }) if message.sqlstate.class() == "42" => {
            Ok(Look::Alive { why: refused(&message), reason: Reason::Login })
        }
        Err(error) => Err(error),
    }
}

fn facts(row: &[Option<String>]) -> Option<Facts> {
    let [in_recovery, system, timeline, position, inserted] = row else { return None };
    let lsn = |text: &Option<String>| text.as_deref().and_then(Lsn::parse).unwrap_or_default();
    Some(Facts {
        in_recovery: in_recovery.as_deref()? == "1",
        system: system.as_deref()?.parse().ok()?,
        timeline: timeline.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0),
        // One that has replayed nothing yet has no position.
        position: lsn(position),
        inserted: lsn(inserted),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use tokio::net::TcpListener;

    use super::*;
    use crate::auth::ServerSecret;
    use crate::config::HostAddr;
    use crate::pool::core::Site;
    use crate::server::endpoint::{Endpoint, Whereabouts};
    use crate::tls::Ladder;

    fn target(port: u16) -> Target {
        let endpoint = Endpoint::new(HostAddr::Tcp { host: "127.0.0.1".into(), port });
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        endpoint.be(Whereabouts::At(Arc::new([address])));
        Target {
            host: Arc::new(endpoint),
            site: Site(0),
            tls: Ladder::disabled(),
            database: "app".into(),
            user: "app".into(),
            secret: ServerSecret::None,
            options: Arc::default(),
            connect_query: Arc::default(),
            connect_timeout: Duration::from_secs(1),
        }
    }

    const LIMIT: Duration = Duration::from_millis(100);

    /// Looks at a host that accepts, and `hangs_up` or says nothing, when something has come from it since the look
    /// before; whether that counts.
    async fn counts_as_heard(hangs_up: bool) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = async {
            let mut held = Vec::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if !hangs_up {
                    held.push(stream);
                }
            }
        };
        let read = AtomicU64::new(0);
        let heard = || Heard::from([(ServerId(1), read.load(Relaxed))]);
        let look = async {
            let mut probe = Probe::default();
            probe.look(&target(port), LIMIT, heard).await;
            read.store(100, Relaxed);
            probe.look(&target(port), LIMIT, heard).await
        };
        tokio::select! {
            look = look => {
                let Look::Silent { heard, .. } = look else { panic!("{look:?}") };
                heard
            }
            () = host => unreachable!(),
        }
    }

    #[tokio::test]
    async fn what_came_before_the_question_says_nothing_of_the_silence_behind_it() {
        assert!(!Box::pin(counts_as_heard(false)).await);
    }

    /// It has no room for one more connection, and serves those that it has.
    #[tokio::test]
    async fn a_host_that_hangs_up_at_once_is_heard_by_what_came_before() {
        assert!(Box::pin(counts_as_heard(true)).await);
    }

    fn row(values: [Option<&str>; 5]) -> Vec<Option<String>> {
        values.into_iter().map(|value| value.map(str::to_owned)).collect()
    }

    #[test]
    fn a_replica_without_a_receiver_does_not_tell_its_timeline() {
        let seen = facts(&row([Some("1"), Some("7"), None, Some("0/3000148"), None]));
        let expected = Facts {
            in_recovery: true,
            system: 7,
            timeline: 0,
            position: Lsn(0x300_0148),
            inserted: Lsn(0),
        };
        assert_eq!(seen, Some(expected));
    }

    #[test]
    fn what_makes_no_sense_is_no_fact() {
        assert_eq!(facts(&[]), None);
        assert_eq!(facts(&row([Some("1"), None, None, None, None])), None);
        assert_eq!(facts(&row([Some("1"), Some("x"), None, None, None])), None);
    }
}
