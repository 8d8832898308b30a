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
        // What was seen at once was enough as well, if nobody waited then.
        let enough = servers_for(load.busiest).max(load.most);
        let is_full = load.full_at_waits >= FULL;
        let (servers, text) = if pool.pool_mode == PoolMode::Session {
            in_session_mode(pool, has_waited(pool) && is_full)
        } else if !has_waited(pool) {
            (enough, without_waits(pool, enough))
        } else if let Some((servers, slower)) = strained(pool) {
            (servers, with_strain(pool, servers, slower))
        } else if !is_full {
            (enough, with_places_left(pool))
        } else if pool.adaptive {
            adapting(pool, enough)
        } else {
            with_waits(pool, enough)
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

/// Where clients waited for all that there may be: how many to try.
fn more_than(limit: usize) -> usize {
    limit.saturating_add(limit.div_ceil(4))
}

fn in_session_mode(pool: &PoolSnapshot, is_short: bool) -> (usize, String) {
    let (most, size, limit) = (pool.load.most.max(1), pool.size, pool.limit);
    let waited = if has_waited(pool) { waits(pool) + "; " } else { String::new() };
    if is_short {
        let more = more_than(limit);
        let text = format!("{waited}all {limit} were lent: try {more}, if PostgreSQL bears it");
        return (more, text);
    }
    let text =
        format!("{waited}up to {most} sessions at once: {} for that; size is {size}", are(most));
    (most, text)
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
        "{}, but {servers} may do: a transaction takes {slower:.1} times as long as when few servers are at \
         work; if they are of the same kinds then, more would not help",
        waits(pool)
    )
}

fn with_places_left(pool: &PoolSnapshot) -> String {
    let limit = pool.limit;
    format!(
        "{}, though all {limit} were not seen lent then: for servers being opened (min opens some ahead), for \
         a cap (max_connections), or in a burst too short to be seen",
        waits(pool)
    )
}

fn with_waits(pool: &PoolSnapshot, enough: usize) -> (usize, String) {
    let (limit, full) = (pool.limit, percent(pool.load.full_at_waits));
    // Over half a minute a short burst is hardly anything.
    let more = if enough > limit { enough } else { more_than(limit) };
    let text = format!(
        "{}, with all {limit} lent {full} of those half-minutes: try {more}, if PostgreSQL bears it; \
         adaptive = true tries by itself",
        waits(pool)
    );
    (more, text)
}

fn adapting(pool: &PoolSnapshot, enough: usize) -> (usize, String) {
    let (limit, most, waits) = (pool.limit, pool.most(), waits(pool));
    if limit >= most {
        let more = if enough > limit { enough } else { more_than(limit) };
        let what = "raise max_overflow, if PostgreSQL bears it";
        (more, format!("{waits}, with all {most} lent that may be: {what}"))
    } else if pool.is_settled {
        (limit, format!("{waits}: adaptive keeps to {limit}, for more did not do more when tried"))
    } else {
        let text =
            format!("{waits}: adaptive is still looking, and at {limit} of at most {most} now");
        (enough.max(limit), text)
    }
}

/// Small shares with a decimal.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 10.0 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
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

/// All servers are lent for at least this share of the half-minutes with waits, if that is why clients wait.
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
            full: 0.05,
            full_at_waits: 0.35,
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
            "clients waited up to 1s200ms, with all 20 lent 35 % of those half-minutes: try 29, if PostgreSQL bears it; \
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
            "clients waited up to 1s200ms, but 6 may do: a transaction takes 7.0 times as long as when few \
             servers are at work; if they are of the same kinds then, more would not help"
        );
    }

    #[test]
    fn waits_beside_free_places_have_other_reasons() {
        let (_, text) = advice(Load { full_at_waits: 0.0, ..waiting() }, |_| {});
        assert!(text.contains("though all 30 were not seen lent"), "{text}");
    }

    #[test]
    fn an_adaptive_pool_says_what_it_keeps_to() {
        let (servers, text) = advice(waiting(), |pool| {
            (pool.adaptive, pool.limit, pool.is_settled) = (true, 4, true);
        });
        assert_eq!(servers, Some(4));
        assert!(
            text.ends_with("adaptive keeps to 4, for more did not do more when tried"),
            "{text}"
        );
        let (_, text) = advice(waiting(), |pool| (pool.adaptive, pool.limit) = (true, 4));
        assert!(text.ends_with("adaptive is still looking, and at 4 of at most 30 now"), "{text}");
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

        // Five seconds of a half-minute.
        let burst = Load { busiest: 3.3, most: 20, ..load() };
        let (servers, text) = advice(burst, |pool| pool.pool_mode = PoolMode::Session);
        assert_eq!(servers, Some(20));
        assert_eq!(text, "up to 20 sessions at once: 20 are enough for that; size is 20");

        let (servers, text) = advice(waiting(), |pool| {
            (pool.pool_mode, pool.limit) = (PoolMode::Session, 20);
        });
        assert_eq!(servers, Some(25));
        assert!(text.ends_with("all 20 were lent: try 25, if PostgreSQL bears it"), "{text}");
    }

    #[test]
    fn a_burst_is_not_averaged_away() {
        let calm = Load { busiest: 0.5, most: 15, ..load() };
        assert_eq!(advice(calm, |_| {}).0, Some(15));

        // All 30, for four seconds in a quarter of an hour.
        let burst =
            Load { busiest: 6.0, most: 30, full: 0.0044, full_at_waits: 0.067, ..waiting() };
        let (servers, text) = advice(burst, |_| {});
        assert_eq!(servers, Some(38));
        assert!(text.contains("with all 30 lent 6.7 % of those half-minutes: try 38"), "{text}");
    }
}
