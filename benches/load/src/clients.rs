//! The clients of a load: connected, with what they will ask made beforehand.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::connection::Connection;
use crate::{Load, Target, messages};

/// Streams: PostgreSQL makes it as it is read, and it is not at its end before a load is.
const ENDLESS: &str = "select repeat('x', 1000), generate_series(1, 10000000)";

/// Connections that have asked nothing yet, or have prepared every text and run it once: behind them are
/// servers that know it too.
pub(crate) async fn connect(target: &Target, load: &Load) -> anyhow::Result<Vec<Connection>> {
    let mut opened = Vec::new();
    for number in 0..load.clients {
        opened.push(Connection::open(target, number).await?);
    }
    if !load.prepared {
        return Ok(opened);
    }
    let prepare: Rc<[Vec<u8>]> = texts(load).map(|(name, text)| prepare(&name, &text)).collect();
    let mut preparing = JoinSet::new();
    for mut connection in opened {
        let prepare = Rc::clone(&prepare);
        preparing.spawn_local(async move {
            for bytes in &*prepare {
                connection.ask(bytes, 1).await?;
            }
            anyhow::Ok(connection)
        });
    }
    preparing.join_all().await.into_iter().collect()
}

/// Who is connected beside the clients of the load, and for how long: until this is dropped.
pub(crate) struct Company {
    _idle: Vec<Connection>,
    /// Aborts it when dropped.
    slow: JoinSet<anyhow::Result<()>>,
}

impl Company {
    pub(crate) async fn join(target: &Target, load: &Load) -> anyhow::Result<Self> {
        let mut idle = Vec::new();
        for number in 0..load.idle {
            idle.push(Connection::open(target, number).await?);
        }
        let mut slow = JoinSet::new();
        if let Some(bytes_per_second) = load.slow_reader {
            let mut reader = Connection::open(target, 0).await?;
            slow.spawn_local(async move { reader.read_slowly(ENDLESS, bytes_per_second).await });
        }
        Ok(Self { _idle: idle, slow })
    }

    /// An error if somebody has left before the load was over.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.slow.try_join_next() {
            Some(ended) => ended?,
            None => Ok(()),
        }
    }
}

/// What one client asks, each thing in its turn.
pub(crate) struct Requests {
    all: Rc<[Vec<u8>]>,
    next: usize,
}

impl Requests {
    /// For so many clients, each of which begins at another place.
    pub(crate) fn of(load: &Load) -> impl Iterator<Item = Self> + use<> {
        let all: Rc<[Vec<u8>]> =
            texts(load)
                .map(|(name, text)| {
                    if load.prepared {
                        messages::run_prepared(&name)
                    } else {
                        messages::query(&text)
                    }
                })
                .collect();
        let (clients, len) = (load.clients as usize, all.len());
        (0..clients).map(move |number| Self { all: Rc::clone(&all), next: number * len / clients })
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        let taken = self.next;
        self.next = (taken + 1) % self.all.len();
        &self.all[taken]
    }
}

/// Tells on standard error when the measured time begins and when it ends, for whoever weighs others meanwhile.
pub(crate) async fn announce(begin: Instant, end: Instant) {
    sleep_until(begin).await;
    eprintln!("begin");
    sleep_until(end).await;
    eprintln!("end");
}

/// When the measured time begins, and when it ends.
pub(crate) fn measured_time(load: &Load) -> (Instant, Instant) {
    let begin = Instant::now() + Duration::from_secs_f64(load.warm_up);
    (begin, begin + load.seconds())
}

/// The names and texts of the statements.
fn texts(load: &Load) -> impl Iterator<Item = (String, String)> + '_ {
    (1..=load.texts).map(|n| (format!("s{n}"), load.text.replace("{}", &n.to_string())))
}

fn prepare(name: &str, text: &str) -> Vec<u8> {
    [messages::parse(name, text), messages::run_prepared(name)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(clients: u32, texts: u32, prepared: bool) -> Load {
        Load {
            clients,
            seconds: 1.0,
            warm_up: 1.0,
            text: "select {}".to_owned(),
            texts,
            prepared,
            idle: 0,
            slow_reader: None,
        }
    }

    #[test]
    fn each_client_asks_everything_in_turn_from_a_place_of_its_own() {
        let mut clients: Vec<_> = Requests::of(&load(2, 4, false)).collect();

        let first: Vec<_> = (0..5).map(|_| clients[0].next().to_vec()).collect();

        let expected = ["select 1", "select 2", "select 3", "select 4", "select 1"];
        assert_eq!(first, expected.map(messages::query));
        assert_eq!(clients[1].next(), messages::query("select 3"));
    }

    #[test]
    fn what_is_prepared_is_run_by_its_name() {
        let mut client = Requests::of(&load(1, 2, true)).next().expect("one client");

        assert_eq!(client.next(), messages::run_prepared("s1"));
        assert_eq!(client.next(), messages::run_prepared("s2"));
    }
}
