//! Opening servers: one task for each right.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::{Instant, sleep_until};

use super::caps::{Asked, Places};
use super::core::Home;
use super::pool::{Pool, Right};
use crate::server::Server;
use crate::server::connect::{ConnectError, connect};
use crate::server::opening::Opening;

/// Opens a server with `right`, on the worker that calls. It goes to the oldest waiter, who need not
/// be the one that it was begun for.
pub fn start(pool: Arc<Pool>, right: Right) {
    let home = crate::runtime::worker::current_home();
    let drain = pool.commons.drain.clone();
    drain.spawn(async move {
        let opened = tokio::select! {
            opened = open(&pool, right.kind(), home) => opened,
            () = pool.commons.drain.soft().cancelled() => None,
        };
        match opened {
            Some((server, places)) => pool.on_opened(right, server, places),
            None => {
                pool.core().abandon(right);
                // Someone may have come to wait while this right was still counted.
                let is_draining = pool.commons.drain.soft().is_cancelled();
                if !is_draining && pool.core().counts().waiting > 0 {
                    pool.open_if_wanted();
                }
            }
        }
    });
}

/// Tries until it works, until nobody wants it any more, or until it is hopeless.
async fn open(
    pool: &Arc<Pool>,
    opening: Option<&Arc<Opening>>,
    home: Home,
) -> Option<(Box<Server>, Option<Places>)> {
    let places = wait_for_places(pool, opening).await?;
    let mut attempts = 0;
    loop {
        if !pool.core().is_opening_wanted(opening) {
            return None;
        }
        if let Err(at) = pool.admit(Instant::now()) {
            sleep_until(at).await;
            continue;
        }
        let gate = pool.host.gate(opening.map(|opening| &**opening)).acquire().await.ok()?;
        if let Err(at) = pool.host.admit(Instant::now()) {
            drop(gate);
            sleep_until(at).await;
            continue;
        }
        attempts += 1;
        let begun = Instant::now();
        let generation = pool.generation.load(Relaxed);
        let result = connect(&pool.target, opening, pool.commons.next_server_id(), home).await;
        drop(gate);
        match result {
            Ok(mut server) => {
                server.generation = generation;
                on_success(pool, &server, begun);
                return Some((Box::new(server), places));
            }
            Err(error) => {
                if on_failure(pool, opening, error, attempts) == Next::GiveUp {
                    return None;
                }
            }
        }
    }
}

/// Waits for a place under each of the pool's caps; `None` if it is not wanted any more.
async fn wait_for_places(
    pool: &Arc<Pool>,
    opening: Option<&Arc<Opening>>,
) -> Option<Option<Places>> {
    if pool.caps.is_empty() {
        return Some(None);
    }
    match pool.commons.caps.ask(&pool.caps, Instant::now()) {
        Asked::Granted(places) => Some(Some(places)),
        // What `min` wants is no reason to take a place from others: the next tick asks again (P35).
        Asked::Queued(_) if pool.core().counts().waiting == 0 => None,
        Asked::Queued(mut wanted) => {
            pool.commons.relieve.notify_one();
            loop {
                // The waiters may be served by other servers, or give up, meanwhile.
                let look_again = Instant::now() + LOOK_AGAIN;
                tokio::select! {
                    places = &mut wanted => return places.map(Some),
                    () = sleep_until(look_again) => {
                        if !pool.core().is_opening_wanted(opening) {
                            return None;
                        }
                    }
                }
            }
        }
    }
}

const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(250);

fn on_success(pool: &Pool, server: &Server, begun: Instant) {
    pool.host.on_success();
    pool.stats.connects_ok.increment();
    pool.stats.server_connect.observe(begun.elapsed());
    tracing::debug!(domain = %pool.domain, host = %pool.host.addr, server = server.id().0,
        pid = server.record.key.process_id, "server opened");
}

#[derive(PartialEq, Eq)]
enum Next {
    TryAgain,
    GiveUp,
}

fn on_failure(
    pool: &Pool,
    opening: Option<&Arc<Opening>>,
    error: ConnectError,
    attempts: u32,
) -> Next {
    let now = Instant::now();
    pool.stats.connects_failed.increment();
    tracing::warn!(domain = %pool.domain, host = %pool.host.addr, user = %pool.target.user, %error,
        "cannot open a server");
    let error = Arc::new(error);
    if let Some(opening) = opening.filter(|opening| error.is_for(opening)) {
        // Others may well have a server.
        pool.fail_waiters_of(opening, &error);
        return Next::GiveUp;
    }
    if error.is_final() {
        // The host is there; it is this login that does not work.
        pool.on_refused(&error, now);
        return Next::GiveUp;
    }
    if error.is_for_lack_of_room() {
        pool.host.on_success();
        pool.on_lack_of_room(now);
    } else {
        pool.host.on_failure(error.to_string(), now);
    }
    pool.note_trouble(&error);
    if pool.settings.connect_attempts.is_some_and(|most| attempts >= most) {
        pool.fail_waiters(&error);
        return Next::GiveUp;
    }
    pool.stats.retries.increment();
    Next::TryAgain
}
