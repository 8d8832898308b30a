//! How many servers a pool may have in use: found by trying. Pure: the clock is passed in.
//!
//! PostgreSQL does more work with more servers up to a point, and from there on only takes longer for each. Where
//! that point is depends on cores, disks and statements, and moves with the load. So it is looked for: as long as
//! the limit is what clients wait for, it is tried against another one, in turns, window by window, and the better
//! is kept. What counts is work done for the number of clients in hand (`Window::merit`).
//!
//! - A window in which nobody waited says nothing: the limit stays.
//! - More servers have to bring a worthwhile share of their number in work ([`WORTH_MORE`]); fewer must not cost
//!   more than a small one ([`WORTH_KEEPING`]). Between the two it stays: that is what makes it stable.
//! - A trial ends as soon as what was measured tells the two apart, given how much it scatters. A leap by half is
//!   seen in the first window, a few per cent take many.
//! - Each step that pays is followed by a larger one; what did not pay bounds the search until it is begun anew.
//! - If nobody is served any more, it grows at once by the servers whose clients sit in their blocks, if that is
//!   most of them. Where they are at work, who knows what at (a lock, a stall of the database, long reports), it goes
//!   back to `size` at most, which is lent anyway in a pool that does not adapt.

mod trial;

use std::time::Duration;

use tokio::time::Instant;

pub use self::trial::Reading;
use self::trial::{PRIOR, Trial, Verdict, Window, count};

/// Bounds and search of one pool's limit.
#[derive(Debug)]
pub struct Limiter {
    least: usize,
    /// Where it began.
    size: usize,
    most: usize,
    /// What has been found best so far.
    limit: usize,
    /// A search has ended with it, and nothing has changed since.
    is_settled: bool,
    phase: Phase,
    clock: Clock,
    usual: Usual,
    /// By which factor the next trial differs from the limit.
    stride: f64,
    /// Fewer are tried first: fewer were better the last time, or more were not.
    shrinks: bool,
    /// Limits that were tried and refused since the search began: it stays between them.
    floor: Option<usize>,
    ceiling: Option<usize>,
    /// A number of servers that came to be held by clients that do nothing, and until when no fewer than one more
    /// are tried.
    stalled: Option<(usize, Instant)>,
    /// How long the next rest is.
    pause: Duration,
    last: Option<Seen>,
    /// How long transactions hold their servers, on average, in seconds.
    hold: Option<f64>,
    /// How far pairs of windows are apart by chance: the variance.
    scatter: f64,
}

#[derive(Debug)]
enum Phase {
    /// Nothing is tried until then, unless things change.
    Rest {
        until: Instant,
    },
    Trial(Trial),
}

/// What windows under the limit have been like.
#[derive(Debug, Default)]
struct Usual {
    /// Windows in a row in which nobody waited.
    calm: u32,
    /// The window before was the first behind many of these in which somebody did.
    came: bool,
    /// Work by the second, averaged over windows that were not calm.
    rate: Option<f64>,
    /// Windows in a row that were far from it.
    odd: u32,
}

/// Where the present window is.
#[derive(Debug, Clone, Copy)]
enum Clock {
    /// The limit was changed then: what is under way began before.
    Settling(Instant),
    Measuring(Seen),
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    reading: Reading,
    /// When a server was last lent, or nobody lacked one for the limit's sake.
    served: Instant,
}

impl Limiter {
    /// Begins with `limit`. All three are at least 1 and in order, or made so.
    pub fn new(limit: usize, least: usize, most: usize, now: Instant) -> Self {
        let least = least.max(1);
        let most = most.max(least);
        let size = limit.clamp(least, most);
        Self {
            least,
            size,
            most,
            limit: size,
            is_settled: false,
            phase: Phase::Rest { until: now },
            clock: Clock::Settling(now),
            usual: Usual { calm: CALM, ..Usual::default() },
            stride: COARSE,
            shrinks: false,
            floor: None,
            ceiling: None,
            stalled: None,
            pause: PAUSE_LEAST,
            last: None,
            hold: None,
            scatter: PRIOR,
        }
    }

    /// The limit that is in force: what was found best, or what is tried against it.
    pub const fn in_force(&self) -> usize {
        match &self.phase {
            Phase::Trial(trial) if trial.is_on => trial.candidate,
            Phase::Trial(_) | Phase::Rest { .. } => self.limit,
        }
    }

    /// What was found best so far.
    pub const fn found(&self) -> usize {
        self.limit
    }

    /// True if it is not looking for a better one.
    pub const fn is_at_rest(&self) -> bool {
        matches!(self.phase, Phase::Rest { .. })
    }

    /// True if others were tried, and none was better.
    pub const fn is_settled(&self) -> bool {
        self.is_settled && self.is_at_rest()
    }

    /// Takes note of what the pool has done up to `now`. To be called a few times each second.
    pub fn look(&mut self, now: Instant, reading: Reading) {
        let served = match &self.last {
            Some(last) if reading.lacks(self.in_force()) && !reading.has_served(&last.reading) => {
                last.served
            }
            _ => now,
        };
        let seen = Seen { at: now, reading, served };
        self.last = Some(seen);
        if let Some((held, until)) = &mut self.stalled
            && reading.resting * 2 > *held
        {
            *until = now + STALL_MEMORY;
        }
        if now.saturating_duration_since(served) >= self.patience() {
            self.on_stall(now, &reading);
        } else if let Some(window) = self.window(seen) {
            self.hold = window.hold.or(self.hold);
            self.weigh(&window, now);
        }
    }

    /// For how long nobody may be served before that is a stall: far longer than chance lets it be.
    fn patience(&self) -> Duration {
        let gap = self.hold.unwrap_or_default() / count(self.in_force());
        STALL_LEAST.max(Duration::from_secs_f64((GAPS * gap).min(PATIENCE_MOST)))
    }

    /// Things are not what they were, for a reason that has nothing to do with the limit: no window spans that, and
    /// no trial goes on across it.
    pub fn disturb(&mut self, now: Instant) {
        self.last = None;
        self.rest(now, PAUSE_LEAST);
    }

    /// Nobody is served. That says nothing of what is being tried.
    fn on_stall(&mut self, now: Instant, reading: &Reading) {
        let stalled = self.in_force();
        let enough = if reading.is_held() {
            self.stalled = Some((stalled, now + STALL_MEMORY));
            stalled.saturating_add(reading.resting).min(self.most)
        } else {
            self.limit.saturating_mul(2).min(self.size)
        };
        if enough > self.limit {
            self.limit = enough;
            self.is_settled = false;
            self.usual = Usual::default();
            // What is lent now has time to be served.
            if let Some(last) = &mut self.last {
                last.served = now;
            }
        }
        self.rest(now, PAUSE_LEAST);
    }

    /// The window that ends with `seen`, if one does.
    fn window(&mut self, seen: Seen) -> Option<Window> {
        match self.clock {
            Clock::Settling(since) => {
                if self.has_settled(since, &seen) {
                    self.clock = Clock::Measuring(seen);
                }
                None
            }
            Clock::Measuring(first) => {
                let took = seen.at.saturating_duration_since(first.at);
                let window = Window::between(&first.reading, &seen.reading, took);
                let is_over = window.is_telling() || !window.is_pressed || took >= WINDOW_MOST;
                if took < WINDOW_LEAST || !is_over {
                    return None;
                }
                self.clock = Clock::Measuring(seen);
                Some(window)
            }
        }
    }

    /// True if what is under way has begun under the limit in force.
    fn has_settled(&self, since: Instant, seen: &Seen) -> bool {
        let took = seen.at.saturating_duration_since(since);
        let hold = Duration::from_secs_f64(self.hold.unwrap_or_default().min(PATIENCE_MOST));
        let limit = self.in_force();
        let in_use = seen.reading.in_use;
        let is_reached = in_use == limit || (in_use < limit && seen.reading.waiting == 0);
        took >= SETTLE_LEAST && ((is_reached && took >= hold) || took >= SETTLE_MOST.max(hold * 2))
    }

    /// Goes by what a window says.
    fn weigh(&mut self, window: &Window, now: Instant) {
        let is_new = self.in_force() == self.limit && self.usual.note(window);
        match &mut self.phase {
            Phase::Rest { until } => {
                if !window.is_pressed || !(is_new || now >= *until) {
                    return;
                }
                if is_new {
                    self.is_settled = false;
                    self.stride = COARSE;
                    self.shrinks = false;
                    self.pause = PAUSE_LEAST;
                    self.floor = None;
                    self.ceiling = None;
                }
                self.try_next(*window, now);
            }
            Phase::Trial(trial) => {
                if !window.is_pressed && !trial.may_be_slack() {
                    // The limit is not what holds them back any more.
                    return self.rest(now, self.pause);
                }
                let was_on = trial.is_on;
                let verdict = trial.note(window);
                self.scatter = trial.variance();
                match verdict {
                    Some(Verdict::Accept) => self.accept(*window, now),
                    Some(Verdict::Refuse) => self.refuse(*window, now),
                    None if trial.is_on != was_on => self.clock = Clock::Settling(now),
                    None => {}
                }
            }
        }
    }

    /// The candidate is better: it is the limit, and what was is out of the question.
    fn accept(&mut self, window: Window, now: Instant) {
        let Phase::Trial(trial) = &self.phase else { return };
        let (candidate, was_on) = (trial.candidate, trial.is_on);
        self.shrinks = candidate < self.limit;
        if self.shrinks {
            self.ceiling = Some(self.limit);
        } else {
            self.floor = Some(self.limit);
        }
        self.limit = candidate;
        self.is_settled = false;
        self.usual = Usual { rate: was_on.then_some(window.rate), ..Usual::default() };
        self.stride = (self.stride * self.stride).min(COARSE);
        self.pause = PAUSE_LEAST;
        self.go_on(window, was_on, now);
    }

    fn refuse(&mut self, window: Window, now: Instant) {
        let Phase::Trial(trial) = &self.phase else { return };
        let was_on = trial.is_on;
        // The other side is next.
        self.shrinks = trial.candidate > self.limit;
        if self.shrinks {
            self.ceiling = Some(trial.candidate);
        } else {
            self.floor = Some(trial.candidate);
        }
        self.go_on(window, !was_on, now);
    }

    /// `is_measured`: `window` was under what is the limit now.
    fn go_on(&mut self, window: Window, is_measured: bool, now: Instant) {
        if is_measured && window.is_pressed {
            return self.try_next(window, now);
        }
        // The next begins behind a window under the limit.
        self.phase = Phase::Rest { until: now };
        self.clock = Clock::Settling(now);
    }

    /// Tries the next candidate against the limit, which gave `window`; rests if there is none.
    fn try_next(&mut self, window: Window, now: Instant) {
        let next = if self.shrinks {
            self.below(now).or_else(|| self.above())
        } else {
            self.above().or_else(|| self.below(now))
        };
        match next {
            Some(candidate) => {
                self.phase = Phase::Trial(Trial::new(self.limit, candidate, window, self.scatter));
                self.clock = Clock::Settling(now);
            }
            None => {
                self.is_settled = true;
                self.rest(now, self.pause);
                self.pause = (self.pause * 2).min(PAUSE_MOST);
            }
        }
    }

    /// The next larger one to try: a stride away, or half-way to one that was refused.
    fn above(&self) -> Option<usize> {
        let half_way = self.ceiling.map(|refused| (count(refused) * count(self.limit)).sqrt());
        let far = half_way.unwrap_or(f64::MAX).min(count(self.limit) * self.stride);
        let next = whole(far).max(self.limit + 1).min(self.most);
        self.is_apart(next, self.ceiling).then_some(next)
    }

    fn below(&self, now: Instant) -> Option<usize> {
        let stalled = self.stalled.filter(|(_, until)| now < *until).map_or(0, |(held, _)| held);
        let least = self.least.max(stalled + 1).min(self.limit);
        let half_way = self.floor.map(|refused| (count(refused) * count(self.limit)).sqrt());
        let far = half_way.unwrap_or(0.0).max(count(self.limit) / self.stride);
        let next = whole(far).min(self.limit - 1).max(least);
        self.is_apart(next, self.floor).then_some(next)
    }

    /// True if `next` is neither the limit, nor as good as it or as one that was refused.
    fn is_apart(&self, next: usize, refused: Option<usize>) -> bool {
        let Some(refused) = refused else { return next != self.limit };
        let (low, high) = (self.limit.min(refused), self.limit.max(refused));
        low < next && next < high && count(high) / count(low) > RESOLUTION
    }

    fn rest(&mut self, now: Instant, pause: Duration) {
        self.phase = Phase::Rest { until: now + pause };
        self.clock = Clock::Settling(now);
        self.stride = FINE;
        self.floor = None;
        self.ceiling = None;
    }
}

impl Usual {
    /// True if `window` shows that things are other than they were.
    fn note(&mut self, window: &Window) -> bool {
        if !window.is_pressed {
            self.calm = self.calm.saturating_add(1);
            self.came = false;
            return false;
        }
        // Clients may have come in the middle of this one: the next is the first that is all theirs.
        let came = std::mem::replace(&mut self.came, self.calm >= CALM);
        self.calm = 0;
        let usual = *self.rate.get_or_insert(window.rate);
        let is_odd = window.rate > usual * ODD || window.rate * ODD < usual;
        self.odd = if is_odd { self.odd + 1 } else { 0 };
        if !is_odd {
            self.rate = Some(usual + (window.rate - usual) / 8.0);
        }
        came || self.odd >= ODD_WINDOWS
    }
}

/// A limit is small: it is exact.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, and not below 0"
)]
fn whole(number: f64) -> usize {
    number.round().max(0.0) as usize
}

/// Factors between a limit and what is tried against it: where nothing is known, and where it was good a moment
/// ago.
const COARSE: f64 = 2.0;
const FINE: f64 = 1.25;

/// Between two limits that differ by no more nothing is looked for.
const RESOLUTION: f64 = 1.35;

/// How long a window is at least, and at most where little is done in it.
const WINDOW_LEAST: Duration = Duration::from_millis(400);
const WINDOW_MOST: Duration = Duration::from_secs(10);

/// How long it takes at least, and at most, until a changed limit has its effect.
const SETTLE_LEAST: Duration = Duration::from_millis(200);
const SETTLE_MOST: Duration = Duration::from_secs(2);

/// How long it rests when nothing better was found: the first time, and after many.
const PAUSE_LEAST: Duration = Duration::from_secs(4);
const PAUSE_MOST: Duration = Duration::from_secs(60);

/// A stall is at least so long, and so many times as long as it usually takes until the next is served.
const STALL_LEAST: Duration = Duration::from_secs(1);
const GAPS: f64 = 6.0;

/// For so long a number of servers that came to be held is not tried again once they are held no more.
const STALL_MEMORY: Duration = Duration::from_secs(30);

/// No wait for what is under way is longer, in seconds.
const PATIENCE_MOST: f64 = 30.0;

/// After so many windows in which nobody waited one in which somebody does is news.
const CALM: u32 = 4;

/// So many windows in a row in which this many times as much is done as usual, or as little, are news.
const ODD_WINDOWS: u32 = 2;
const ODD: f64 = 1.7;

#[cfg(test)]
mod tests;
