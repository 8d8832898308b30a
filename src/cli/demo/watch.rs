//! The run itself: a line every second until it is over, then the summary.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use super::DemoError;
use super::load::SampleLoad;
use super::report;
use super::samples::SAMPLES;
use super::screen::Screen;
use super::tally::{Tally, errors};
use crate::telemetry::snapshot::Observe;

/// Shows what the pools do for `duration` or until `stop`. Cancel-safe: it only looks on.
pub(super) async fn watch(
    observe: &dyn Observe,
    load: &mut SampleLoad<'_>,
    screen: &Screen,
    duration: Option<Duration>,
    stop: &CancellationToken,
) -> Result<(), DemoError> {
    let begin = Instant::now();
    let mut lines = Lines::new(begin);
    let mut ticks = interval_at(begin + EVERY, EVERY);
    // A reader that was slow gets the next line in time and not a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = async {
        match duration {
            Some(duration) => sleep_until(begin + duration).await,
            None => stop.cancelled().await,
        }
    };
    let mut end = std::pin::pin!(end);
    loop {
        // The last line falls together with the end and goes first.
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = ticks.tick() => {
                for note in load.keep_up()? {
                    screen.show(format!("{note}\n")).await?;
                }
                screen.show(lines.next(observe)).await?;
            }
            () = &mut end => break,
        }
    }
    screen.show(lines.summary(observe)).await?;
    Ok(())
}

/// Remembers what the next line is compared with.
struct Lines {
    begin: Instant,
    at: Instant,
    before: Vec<Tally>,
    /// The most servers of each domain that a line has seen.
    most: Vec<usize>,
    count: usize,
}

impl Lines {
    fn new(begin: Instant) -> Self {
        let nothing = vec![Tally::default(); SAMPLES.len()];
        Self { begin, at: begin, before: nothing, most: vec![0; SAMPLES.len()], count: 0 }
    }

    fn next(&mut self, observe: &dyn Observe) -> String {
        let now = Instant::now();
        let tallies = self.look(observe);
        let line = report::line(now - self.begin, now - self.at, &self.before, &tallies);
        let text = if self.count.is_multiple_of(LINES) { report::heading() + &line } else { line };
        self.count += 1;
        self.at = now;
        self.before = tallies;
        text
    }

    fn summary(&mut self, observe: &dyn Observe) -> String {
        let tallies = self.look(observe);
        report::summary(self.begin.elapsed(), &tallies, &self.most, &errors(&observe.process()))
    }

    fn look(&mut self, observe: &dyn Observe) -> Vec<Tally> {
        let pools = observe.pools();
        let tallies: Vec<_> =
            SAMPLES.iter().map(|sample| Tally::of(sample.domain, &pools)).collect();
        for (most, tally) in self.most.iter_mut().zip(&tallies) {
            *most = (*most).max(tally.servers);
        }
        tallies
    }
}

const EVERY: Duration = Duration::from_secs(1);
/// Lines between two headings.
const LINES: usize = 20;
