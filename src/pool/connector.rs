//! Opening servers: one task for each right.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::caps::{Asked, Places};
use super::core::{Home, Site};
use super::ledger::CapId;
use super::pool::{Pool, Right};
use super::pool_site::PoolSite;
use super::waiter::Failure;
use crate::config::Mode;
use crate::runtime::backoff::{Backoff, random};
use crate::server::Server;
use crate::server::connect::{ConnectError, connect};

/// Opens a server with `right`, on the worker that calls. It goes to the oldest waiter, who need not
/// be the one that it was begun for.
pub fn start(pool: Arc<Pool>, mut right: Right) {
    let home = crate::runtime::worker::current_home();
    let drain = pool.commons.drain.clone();
    drain.spawn(async move {
        let opened = tokio::select! {
            opened = open(&pool, &mut right, home) => opened,
            () = pool.commons.drain.soft().cancelled() => None,
        };
        match opened {
            Some((server, places)) => pool.on_opened(right, server, places),
            None => {
                pool.core().abandon(right);
                // Someone may have come to wait while this right was still counted.
                let is_draining = pool.commons.drain.soft().is_cancelled();
                if !is_draining && pool.core().counts().waiting > 0 {
                    pool.advance();
                }
            }
        }
    });
}

/// Tries until it works, until nobody wants it any more, until it is hopeless, or until there is no host to
/// open it at.
async fn open(
    pool: &Arc<Pool>,
    right: &mut Right,
    home: Home,
) -> Option<(Box<Server>, Option<Places>)> {
    let mut tries = Tries::default();
    let mut has_failed = false;
    loop {
        if !pool.core().settle(right, has_failed) {
            return None;
        }
        let site = right.site();
        let opening = async {
            let turn = *tries.turn.get_or_insert_with(|| Instant::now() + yields_for(pool));
            let places = wait_for_places(pool, right, turn).await?;
            let server = open_there(pool, right, &mut tries, home).await?;
            Ok((server, places))
        };
        let next = tokio::select! {
            opened = opening => match opened {
                Ok(opened) => return Some(opened),
                Err(next) => next,
            },
            () = pool.wait_until_out(site) => Next::LookAgain,
        };
        has_failed = match next {
            Next::GiveUp => return None,
            Next::Elsewhere => true,
            Next::LookAgain => false,
        };
    }
}

/// What was tried with one right.
#[derive(Debug, Default)]
struct Tries {
    attempts: u32,
    /// Where it was not let in.
    refused: Vec<Site>,
    /// Its place in the queues of caps, wherever it asks.
    turn: Option<Instant>,
    /// Between servers that were where their host had been.
    moves: Backoff,
}

/// What becomes of a right with which no server was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Elsewhere,
    LookAgain,
    GiveUp,
}

/// Tries at the site of the right, until another would do better.
async fn open_there(
    pool: &Arc<Pool>,
    right: &Right,
    tries: &mut Tries,
    home: Home,
) -> Result<Box<Server>, Next> {
    let (site, opening) = (pool.site(right.site()), right.kind());
    loop {
        let gate = site.host.gate(opening.map(|opening| &**opening)).acquire().await;
        let gate = gate.map_err(|_closed| Next::GiveUp)?;
        // Whoever was in front may have found out that it is pointless.
        if !pool.core().is_opening_wanted(right) {
            return Err(Next::GiveUp);
        }
        let now = Instant::now();
        if let Err(at) = site.admit(now).and_then(|()| site.host.admit(now)) {
            drop(gate);
            wait_or_leave(pool, at).await?;
            continue;
        }
        tries.attempts += 1;
        let begun = Instant::now();
        let generation = pool.generation.load(Relaxed);
        let result = connect(&site.target, opening, pool.commons.next_server_id(), home).await;
        drop(gate);
        match result {
            Ok(mut server) if !site.host.endpoint.is_at(server.record.address) => {
                // The name has come to lead elsewhere meanwhile.
                tracing::debug!(domain = %pool.domain, host = %site.host.endpoint,
                    "a server was opened where its host is no more");
                server.say_goodbye();
                // Not at once: a login costs more than a look-up.
                sleep(tries.moves.next(random())).await;
                return Err(Next::LookAgain);
            }
            Ok(mut server) => {
                server.generation = generation;
                on_success(pool, site, &server, begun);
                return Ok(Box::new(server));
            }
            Err(error) => on_failure(pool, right, error, tries)?,
        }
    }
}

/// Waits until `at`, if there is no other host to try meanwhile.
async fn wait_or_leave(pool: &Pool, at: Instant) -> Result<(), Next> {
    if pool.core().has_choice() {
        // Not at once: the other may be no better.
        sleep_until(at.min(Instant::now() + LOOK_ELSEWHERE)).await;
        return Err(Next::Elsewhere);
    }
    sleep_until(at).await;
    Ok(())
}

/// Waits for a place under each of the caps.
async fn wait_for_places(
    pool: &Arc<Pool>,
    right: &Right,
    turn: Instant,
) -> Result<Option<Places>, Next> {
    let caps = &pool.site(right.site()).caps;
    if caps.is_empty() {
        return Ok(None);
    }
    let mut wanted = match pool.commons.caps.ask(caps, turn) {
        Asked::Granted(places) => return Ok(Some(places)),
        // What `min` wants is no reason to take a place from others: the next tick asks again (P35).
        Asked::Queued(_) if pool.core().counts().waiting == 0 => return Err(Next::GiveUp),
        Asked::Queued(wanted) => wanted,
    };
    pool.commons.relieve.notify_one();
    loop {
        // The waiters may be served by other servers, or give up, meanwhile.
        let look_again = Instant::now() + LOOK_AGAIN;
        tokio::select! {
            places = &mut wanted => return places.map(Some).ok_or(Next::GiveUp),
            () = sleep_until(look_again) => {
                if !pool.core().is_opening_wanted(right) {
                    return Err(Next::GiveUp);
                }
                if pool.core().has_choice() && lacks_only_here(pool, caps) {
                    return Err(Next::Elsewhere);
                }
            }
        }
    }
}

/// True if what lacks a place is a cap of this host alone: another may have room.
fn lacks_only_here(pool: &Pool, caps: &[CapId]) -> bool {
    caps.iter().all(|cap| {
        let (used, limit) = pool.commons.caps.usage(*cap);
        used < limit || !pool.sites.iter().all(|site| site.caps.contains(cap))
    })
}

/// How long a pool's turn under a cap comes behind its arrival: long work yields to short work, but not for
/// ever.
pub(super) fn yields_for(pool: &Pool) -> Duration {
    match pool.mode {
        Mode::Batch => pool.settings.timeout / 2,
        Mode::ReadWrite | Mode::ReadOnly | Mode::Transactional => Duration::ZERO,
    }
}

const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The shortest time between two hosts that are tried with one right.
const LOOK_ELSEWHERE: Duration = Duration::from_millis(10);

fn on_success(pool: &Pool, site: &PoolSite, server: &Server, begun: Instant) {
    site.host.on_success();
    site.on_let_in();
    pool.stats.connects_ok.increment();
    pool.stats.server_connect.observe(begun.elapsed());
    tracing::debug!(domain = %pool.domain, host = %site.host.endpoint, server = server.id().0,
        pid = server.record.key.process_id, "server opened");
}

/// Takes note of a failed attempt. `Ok`: it is worth another one there.
fn on_failure(
    pool: &Pool,
    right: &Right,
    error: ConnectError,
    tries: &mut Tries,
) -> Result<(), Next> {
    let now = Instant::now();
    let site = pool.site(right.site());
    pool.stats.connects_failed.increment();
    tracing::warn!(domain = %pool.domain, host = %site.host.endpoint, user = %pool.user, %error,
        "cannot open a server");
    let failure = Failure { host: site.host.endpoint.to_string().into(), source: Arc::new(error) };
    let error = &failure.source;
    if let Some(opening) = right.kind().filter(|opening| error.is_for(opening)) {
        // Others may well have a server.
        pool.fail_waiters_of(opening, &failure);
        return Err(Next::GiveUp);
    }
    if error.is_final() {
        // The host is there; it is this login that does not work.
        if !tries.refused.contains(&right.site()) {
            tries.refused.push(right.site());
        }
        let until = site.on_turned_away(now);
        if tries.refused.len() < pool.core().sites_in_use() {
            pool.note_trouble(&failure);
            return Err(Next::Elsewhere);
        }
        pool.on_refused(&failure, until);
        return Err(Next::GiveUp);
    }
    if error.is_for_lack_of_room() {
        site.host.on_success();
        site.on_turned_away(now);
    } else {
        site.host.on_failure(error.to_string(), now);
    }
    pool.note_trouble(&failure);
    if pool.settings.connect_attempts.is_some_and(|most| tries.attempts >= most) {
        pool.fail_waiters(&failure);
        return Err(Next::GiveUp);
    }
    pool.stats.retries.increment();
    if pool.core().has_choice() { Err(Next::Elsewhere) } else { Ok(()) }
}
