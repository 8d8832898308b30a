//! Links that are over, for those that begin on the same worker: none is allocated for an exchange.

use std::cell::RefCell;

use tokio::time::Instant;

use super::link::Linked;
use crate::pool::Checkout;

thread_local! {
    /// What is left in them of a link that is over is dropped when the next one begins.
    #[expect(clippy::vec_box, reason = "the boxes are what is kept")]
    static SPARE: RefCell<Vec<Box<Linked>>> = const { RefCell::new(Vec::new()) };
}

/// Links that a worker keeps. As many as are begun and ended in turns, not as there are at once.
const KEPT_MOST: usize = 64;

/// A link that begins at `now`.
pub(super) fn link(checkout: Checkout, now: Instant) -> Box<Linked> {
    let new = Linked::new(checkout, now);
    match SPARE.with_borrow_mut(Vec::pop) {
        Some(mut spare) => {
            *spare = new;
            spare
        }
        None => Box::new(new),
    }
}

/// Ends a link; its server.
pub(super) fn unlink(mut linked: Box<Linked>) -> Checkout {
    let checkout = std::mem::take(&mut linked.checkout);
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < KEPT_MOST {
            spare.push(linked);
        }
    });
    checkout
}
