//! One timer for a session, moved as rarely as possible.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// Wakes its task at a deadline, or somewhat before: the caller looks at the clock itself.
///
/// A deadline that moves back, as those of busy sessions do all the time, leaves the timer where it
/// is. It goes off too early then, once, and is set anew.
#[derive(Debug, Default)]
pub struct Alarm {
    /// `None` while nothing has been waited for, so that an idle session holds no timer.
    sleep: Option<Pin<Box<Sleep>>>,
    deadline: Option<Instant>,
}

impl Alarm {
    /// Sets the next deadline; `None`: there is none.
    pub fn set(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Registers the task to be woken, and says whether the deadline has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        loop {
            let sleep = match &mut self.sleep {
                Some(sleep) => {
                    if sleep.deadline() > deadline {
                        sleep.as_mut().reset(deadline);
                    }
                    sleep
                }
                none @ None => none.insert(Box::pin(sleep_until(deadline))),
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
            if Instant::now() >= deadline {
                self.deadline = None;
                return Poll::Ready(());
            }
        }
    }

    /// Gives the timer back, for a session that will be idle for long.
    pub fn release(&mut self) {
        if self.deadline.is_none() {
            self.sleep = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moved_back_is_kept() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        alarm.set(Some(start + Duration::from_secs(1)));
        let first = poll_fn(|cx| Poll::Ready(alarm.poll(cx))).await;
        alarm.set(Some(start + Duration::from_secs(3)));

        poll_fn(|cx| alarm.poll(cx)).await;

        assert!(first.is_pending());
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moved_forward_is_kept() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        alarm.set(Some(start + Duration::from_secs(9)));
        let first = poll_fn(|cx| Poll::Ready(alarm.poll(cx))).await;
        alarm.set(Some(start + Duration::from_secs(2)));

        poll_fn(|cx| alarm.poll(cx)).await;

        assert!(first.is_pending());
        assert_eq!(start.elapsed().as_secs(), 2);
    }
}
