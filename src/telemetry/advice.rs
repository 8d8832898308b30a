//! How many servers a pool would do with, in a number and in a sentence: `SHOW ADVICE` and `/status`.

use super::snapshot::PoolSnapshot;
use crate::config::{PoolMode, format_millis};

/// What is said of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// `None`: nothing came that would tell.
    pub servers: Option<usize>,
    pub text: String,
}

impl Advice {
    /// By what was asked of `pool` in the last quarter of an hour.
    pub fn of(pool: &PoolSnapshot) -> Self {
        let load = &pool.load;
        if load.period.is_zero() {
            let when = if pool.traffic.checkouts.value() > 0 { " of late" } else { " yet" };
            return Self { servers: None, text: format!("nothing came{when}") };
        }
        let enough = servers_for(load.busiest);
        let (servers, text) = if pool.pool_mode == PoolMode::Session {
            (enough, in_session_mode(pool, enough))
        } else if !has_waited(pool) {
            (enough, without_waits(pool, enough))
        } else if let Some((servers, slower)) = strained(pool) {
            (servers, with_strain(pool, servers, slower))
        } else if load.full < FULL {
            (enough, with_places_left(pool))
        } else {
            (enough, with_waits(pool, enough))
        };
        Self { servers: Some(servers), text }
    }
}

/// Servers for a load of so many in use on average, with two standard deviations of room: that many requests that
/// come independently of each other vary by the root of their number.
fn servers_for(load: f64) -> usize {
    whole((load + 2.0 * load.sqrt()).ceil()).max(1)
}

fn has_waited(pool: &PoolSnapshot) -> bool {
    pool.load.queued >= 0.1 || pool.load.longest_wait.as_millis() >= 100
}

/// If servers are so many that they are in each other's way: how many would do the same work, and how many times
/// as long as with few of them a transaction takes.
fn strained(pool: &PoolSnapshot) -> Option<(usize, f64)> {
    let strain = pool.load.strain.filter(|strain| strain.slower >= STRAINED)?;
    let servers = servers_for(strain.servers);
    (servers < pool.limit).then_some((servers, strain.slower))
}

fn in_session_mode(pool: &PoolSnapshot, enough: usize) -> String {
    let (most, size) = (pool.load.most, pool.size);
    let waited = if has_waited(pool) { waits(pool) + "; " } else { String::new() };
    format!("{waited}up to {most} sessions at once: {} for that; size is {size}", are(enough))
}

fn without_waits(pool: &PoolSnapshot, enough: usize) -> String {
    let (period, size) = (format_millis(minutes(pool)), pool.size);
    if enough < size {
        format!("{} for what came in the last {period}; size is {size}", are(enough))
    } else {
        format!("nobody waited in the last {period}: size {size} fits")
    }
}

fn with_strain(pool: &PoolSnapshot, servers: usize, slower: f64) -> String {
    format!(
        "{}, but {servers} would do: a transaction takes {slower:.1} times as long as when few servers \
         are at work, and more would not help",
        waits(pool)
    )
}

fn with_places_left(pool: &PoolSnapshot) -> String {
    let limit = pool.limit;
    format!(
        "{}, though hardly ever were all {limit} lent: for servers being opened (min opens some ahead) \
         or for a cap (max_connections)",
        waits(pool)
    )
}

fn with_waits(pool: &PoolSnapshot, enough: usize) -> String {
    let (limit, most, full) = (pool.limit, pool.most(), whole(pool.load.full * 100.0));
    let waits = waits(pool);
    if !pool.adaptive {
        format!(
            "{waits}, with all {limit} lent {full} % of the time: try {enough}, if PostgreSQL bears it; \
             adaptive = true tries by itself"
        )
    } else if limit < most {
        format!(
            "{waits}: adaptive keeps to {limit}, for more of the {most} that may be do not do more"
        )
    } else {
        format!(
            "{waits}, with all {most} lent that may be: raise max_overflow, if PostgreSQL bears it"
        )
    }
}

fn are(enough: usize) -> String {
    if enough == 1 { "1 is enough".to_owned() } else { format!("{enough} are enough") }
}

fn waits(pool: &PoolSnapshot) -> String {
    format!("clients waited up to {}", format_millis(pool.load.longest_wait))
}

/// The time looked at, without seconds where it is long.
const fn minutes(pool: &PoolSnapshot) -> std::time::Duration {
    let seconds = pool.load.period.as_secs();
    let seconds = if seconds < 60 { seconds } else { (seconds + 30) / 60 * 60 };
    std::time::Duration::from_secs(seconds)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of servers")]
const fn whole(number: f64) -> usize {
    number as usize
}

/// Transactions that take so many times as long have too many beside them.
const STRAINED: f64 = 2.0;

/// All servers are lent for at least this share of the time, if that is why clients wait.
const FULL: f64 = 0.005;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::fake;
    use crate::telemetry::snapshot::{Load, Strain};

    fn advice(load: Load, change: impl FnOnce(&mut PoolSnapshot)) -> (Option<usize>, String) {
        let mut pool = fake::pool("markets", "markets_db", "postgres");
        pool.load = load;
        change(&mut pool);
        let Advice { servers, text } = Advice::of(&pool);
        (servers, text)
    }

    fn load() -> Load {
        Load {
            period: Duration::from_secs(907),
            transactions: 9_000,
            hold: Duration::from_millis(10),
            busiest: 1.0,
            most: 3,
            ..Load::default()
        }
    }

    fn waiting() -> Load {
        Load {
            busiest: 20.0,
            queued: 12.0,
            most: 20,
            full: 0.35,
            waits: 100,
            longest_wait: Duration::from_millis(1_200),
            ..load()
        }
    }

    #[test]
    fn room_is_left_for_what_comes_at_once() {
        assert_eq!([0.0, 0.04, 1.0, 4.0, 25.0].map(servers_for), [1, 1, 3, 8, 35]);
    }

    #[test]
    fn without_traffic_there_is_nothing_to_say() {
        let silent = advice(Load::default(), |pool| pool.traffic = std::sync::Arc::default());
        assert_eq!(silent, (None, "nothing came yet".to_owned()));
        assert_eq!(advice(Load::default(), |_| {}).1, "nothing came of late");
    }

    #[test]
    fn where_nobody_waits_fewer_may_be_enough() {
        let (servers, text) = advice(load(), |_| {});
        assert_eq!(servers, Some(3));
        assert_eq!(text, "3 are enough for what came in the last 15m; size is 20");
        let busy = Load { busiest: 16.0, ..load() };
        assert_eq!(advice(busy, |_| {}).1, "nobody waited in the last 15m: size 20 fits");
    }

    #[test]
    fn who_waits_for_a_full_pool_may_need_more() {
        let (servers, text) = advice(waiting(), |pool| pool.limit = 20);
        assert_eq!(servers, Some(29));
        assert_eq!(
            text,
            "clients waited up to 1s200ms, with all 20 lent 35 % of the time: try 29, if PostgreSQL bears it; \
             adaptive = true tries by itself"
        );
    }

    #[test]
    fn servers_in_each_others_way_need_no_company() {
        let strain = Some(Strain { slower: 7.04, servers: 2.5 });
        let (servers, text) = advice(Load { strain, ..waiting() }, |_| {});
        assert_eq!(servers, Some(6));
        assert_eq!(
            text,
            "clients waited up to 1s200ms, but 6 would do: a transaction takes 7.0 times as long as when few \
             servers are at work, and more would not help"
        );
    }

    #[test]
    fn waits_beside_free_places_have_other_reasons() {
        let (_, text) = advice(Load { full: 0.0, ..waiting() }, |_| {});
        assert!(text.contains("hardly ever were all 30 lent"), "{text}");
    }

    #[test]
    fn an_adaptive_pool_says_what_it_keeps_to() {
        let (_, text) = advice(waiting(), |pool| (pool.adaptive, pool.limit) = (true, 4));
        assert!(
            text.ends_with("adaptive keeps to 4, for more of the 30 that may be do not do more")
        );
        let (_, text) = advice(waiting(), |pool| pool.adaptive = true);
        assert!(
            text.ends_with(
                "with all 30 lent that may be: raise max_overflow, if PostgreSQL bears it"
            )
        );
    }

    #[test]
    fn sessions_are_counted_as_they_are() {
        let (_, text) = advice(load(), |pool| pool.pool_mode = PoolMode::Session);
        assert_eq!(text, "up to 3 sessions at once: 3 are enough for that; size is 20");
    }
}
