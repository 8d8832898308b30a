//! Looking once more when a worker has heard of everything that has come to its sockets.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::yield_now;

/// A look at a socket that found nothing, although something may have come: what one socket brings first, a
/// worker may hear of last. One that is due again when the worker has asked the operating system since.
#[derive(Debug, Default)]
pub struct SecondLook(Option<Arc<Turn>>);

/// The end of a worker's turn.
#[derive(Debug)]
struct Turn {
    is_over: AtomicBool,
    /// The task that looks.
    task: Waker,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Release);
        self.task.wake_by_ref();
    }
}

impl SecondLook {
    /// Ready if this is the second look. Else the task is woken when that is due.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        match &self.0 {
            Some(turn) if turn.is_over.load(Acquire) => {
                self.0 = None;
                return Poll::Ready(());
            }
            Some(_) => {}
            None => {
                let turn =
                    Arc::new(Turn { is_over: AtomicBool::new(false), task: cx.waker().clone() });
                let waker = Waker::from(Arc::clone(&turn));
                let _pending: Poll<()> = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
                self.0 = Some(turn);
            }
        }
        Poll::Pending
    }

    /// The next look is the first one.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Others that are ready, and wake the task, do not make its second look come early.
    #[tokio::test]
    async fn it_is_due_when_the_worker_has_asked_for_events() {
        let mut look = SecondLook::default();
        let mut polls = 0;

        poll_fn(|cx| {
            polls += 1;
            for _ in 0..3 {
                if look.poll(cx).is_ready() {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;

        assert_eq!(polls, 2);
        let again = poll_fn(|cx| Poll::Ready(look.poll(cx))).await;
        assert_eq!(again, Poll::Pending, "it begins anew");
        look.forget();
    }
}
