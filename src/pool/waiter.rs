//! Where a waiter finds the server that it has been handed.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::server::Server;
use crate::server::connect::ConnectError;

/// What a waiter gets: a server, which is counted as lent, or why there is none.
pub type Outcome = Result<Box<Server>, Failure>;

/// A server could not be opened.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Where, as it was called then: another may have its place by the time somebody is told.
    pub host: Arc<str>,
    pub source: Arc<ConnectError>,
}

/// A session's letter box. It is used for one wait after the other.
#[derive(Debug, Default)]
pub struct Waiter {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

impl Waiter {
    /// Puts `outcome` in; the session's task is the caller's to wake.
    ///
    /// Called with the pool's core locked: a waiter that leaves the queue finds itself there, or
    /// finds what it was given here.
    #[must_use = "the session sleeps until it is woken"]
    pub fn put(&self, outcome: Outcome) -> Option<Waker> {
        let mut held = self.held();
        held.outcome = Some(outcome);
        held.waker.take()
    }

    /// Takes what was delivered, or registers the task to be woken when it is.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<Outcome> {
        let mut held = self.held();
        if let Some(outcome) = held.outcome.take() {
            return Poll::Ready(outcome);
        }
        match &mut held.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none @ None => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// The waker of the session's task, which is to look at what has changed.
    pub fn nudge(&self) -> Option<Waker> {
        self.held().waker.take()
    }

    /// Takes what was delivered to someone who no longer waits.
    pub fn take(&self) -> Option<Outcome> {
        let mut held = self.held();
        held.waker = None;
        held.outcome.take()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        // Held for a move of two options: nothing can panic in between.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
