//! One timer for a session, moved as rarely as possible.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

/// Wakes its task at a deadline, or somewhat before: the caller looks at the clock itself.
///
/// A deadline that moves back or goes away, as those of busy sessions do all the time, leaves the timer
/// where it is. It goes off too early then, once, and is set anew if there is a deadline still.
#[derive(Debug, Default)]
pub struct Alarm {
    /// `None` while nothing has been waited for since one went off: a session that is idle for long holds
    /// no timer. It has the waker of its task.
    sleep: Option<Pin<Box<Sleep>>>,
    deadline: Option<Instant>,
}

impl Alarm {
    /// Sets the next deadline; `None`: there is none.
    pub fn set(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Sees to it that the task is woken, and says whether the deadline has passed. For one task alone,
    /// which keeps its waker.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let is_on_time = |sleep: &Pin<Box<Sleep>>| match self.deadline {
                Some(deadline) => sleep.deadline() <= deadline,
                None => true,
            };
            match &self.sleep {
                Some(sleep) if is_on_time(sleep) => {
                    if !sleep.is_elapsed() {
                        return Poll::Pending;
                    }
                }
                Some(_) | None => {
                    let Some(deadline) = self.deadline else { return Poll::Pending };
                    if self.start(deadline, cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
            self.sleep = None;
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.deadline = None;
                return Poll::Ready(());
            }
        }
    }

    /// Sets the timer, and leaves the task's waker with it: nobody need poll it again until it goes off.
    fn start(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                sleep.as_mut().reset(deadline);
                sleep
            }
            none @ None => none.insert(Box::pin(sleep_until(deadline))),
        };
        let set = sleep.as_mut().poll(cx);
        if set.is_pending() && !has_budget_remaining() {
            // Nothing was left with it: the task is called again at once, and sets another.
            self.sleep = None;
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::task::coop::poll_proceed;
    use tokio::time::timeout;

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
    async fn a_deadline_that_went_away_leaves_a_timer_which_goes_when_it_is_over() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        alarm.set(Some(start + Duration::from_secs(1)));
        let first = poll_fn(|cx| Poll::Ready(alarm.poll(cx))).await;
        alarm.set(None);
        let second = poll_fn(|cx| Poll::Ready(alarm.poll(cx))).await;
        assert!(first.is_pending() && second.is_pending() && alarm.sleep.is_some());

        tokio::time::sleep(Duration::from_secs(1)).await;

        assert!(poll_fn(|cx| Poll::Ready(alarm.poll(cx))).await.is_pending());
        assert!(alarm.sleep.is_none());
        alarm.set(Some(start + Duration::from_secs(3)));
        poll_fn(|cx| alarm.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    /// Whose turn is over sets no timer, and must not be taken to have.
    #[tokio::test(start_paused = true)]
    async fn a_timer_that_was_set_behind_a_long_turn_goes_off() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        alarm.set(Some(start + Duration::from_secs(1)));
        let first = poll_fn(|cx| {
            while has_budget_remaining() {
                let Poll::Ready(turn) = poll_proceed(cx) else { break };
                turn.made_progress();
            }
            Poll::Ready(alarm.poll(cx).is_pending())
        })
        .await;
        assert!(first);

        let over = poll_fn(|cx| alarm.poll(cx));

        timeout(Duration::from_secs(5), over).await.expect("it goes off");
        assert_eq!(start.elapsed().as_secs(), 1);
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
