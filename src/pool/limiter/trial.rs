//! One limit against another: windows of both in turns, until they can be told apart.

use std::time::Duration;

use crate::telemetry::traffic::Work;

/// What a pool has done up to a moment, and what it is at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    pub work: Work,
    /// Servers that are lent or being cleaned, and clients that wait.
    pub in_use: usize,
    pub waiting: usize,
    /// Those of the lent whose clients sit in their blocks, with nothing under way.
    pub resting: usize,
}

impl Reading {
    /// True if somebody waits for no other reason than that `limit` is reached.
    pub(super) const fn lacks(&self, limit: usize) -> bool {
        self.waiting > 0 && self.in_use >= limit
    }

    /// True if most of what is in use does nothing: it is held by its clients.
    pub(super) const fn is_held(&self) -> bool {
        self.resting * 2 > self.in_use
    }

    /// True if a server was lent since `earlier`.
    pub(super) const fn has_served(&self, earlier: &Self) -> bool {
        self.work.checkouts != earlier.work.checkouts
    }
}

/// What was done between two readings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) transactions: f64,
    /// Transactions by the second.
    pub(super) rate: f64,
    /// Clients that had a server or waited for one, on average (by Little's law: rate × time from asking for a
    /// server to giving it back).
    in_hand: f64,
    /// Seconds for which a transaction held its server, if there was any.
    pub(super) hold: Option<f64>,
    /// Clients waited.
    pub(super) is_pressed: bool,
}

impl Window {
    pub(super) fn between(first: &Reading, last: &Reading, took: Duration) -> Self {
        let seconds = took.as_secs_f64().max(1e-3);
        let work = last.work.since(&first.work);
        let transactions = number(work.transactions);
        let held = number(work.held_micros) / 1e6;
        let waited = number(work.waited_micros) / 1e6;
        Self {
            transactions,
            rate: transactions / seconds,
            in_hand: (held + waited) / seconds,
            hold: (transactions > 0.0).then(|| held / transactions),
            is_pressed: waited / seconds >= PRESSURE || (first.waiting > 0 && last.waiting > 0),
        }
    }

    /// True if enough was done in it to say something.
    pub(super) fn is_telling(&self) -> bool {
        self.transactions >= ENOUGH
    }

    /// The logarithm of how well it went. With so many clients that a server never lacks one, that is the rate.
    /// With fewer, who wait now and then, the rate is theirs whatever the limit: what they gain by it is time.
    fn merit(&self) -> f64 {
        self.rate.max(1e-3).ln() - self.in_hand.max(1e-2).ln() / 2.0
    }
}

/// A candidate against the limit.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) candidate: usize,
    /// The candidate is in force, and not the limit.
    pub(super) is_on: bool,
    /// How much better the candidate has to be.
    bar: f64,
    is_larger: bool,
    /// The window that waits for one of the other side.
    half: Option<Window>,
    pairs: f64,
    mean: f64,
    /// Sum of the squared distances from the mean.
    scatter: f64,
    /// Sum of what chance alone makes of counts of this size.
    chance: f64,
    /// How far pairs were apart in trials before.
    prior: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Refuse,
}

impl Trial {
    /// `window`: under the limit, just before.
    pub(super) fn new(limit: usize, candidate: usize, window: Window, prior: f64) -> Self {
        let is_larger = candidate > limit;
        let worth = if is_larger { WORTH_MORE } else { WORTH_KEEPING };
        Self {
            candidate,
            is_on: true,
            bar: worth * (count(candidate) / count(limit)).ln(),
            is_larger,
            half: Some(window),
            pairs: 0.0,
            mean: 0.0,
            scatter: 0.0,
            chance: 0.0,
            prior,
        }
    }

    /// True if it says something that nobody waited under what is in force: there was room for all.
    pub(super) const fn may_be_slack(&self) -> bool {
        self.is_on && self.is_larger
    }

    /// Takes in a window under what is in force, and changes over to the other if it is its turn. Every second
    /// pair is the other way round, so that what drifts meanwhile cancels out.
    pub(super) fn note(&mut self, window: &Window) -> Option<Verdict> {
        let Some(other) = self.half.take() else {
            self.half = Some(*window);
            self.is_on = !self.is_on;
            return None;
        };
        let (limit, candidate) = if self.is_on { (&other, window) } else { (window, &other) };
        let gain = candidate.merit() - limit.merit();
        self.pairs += 1.0;
        let off = gain - self.mean;
        self.mean += off / self.pairs;
        self.scatter += off * (gain - self.mean);
        self.chance += 1.0 / limit.transactions.max(1.0) + 1.0 / candidate.transactions.max(1.0);
        self.verdict()
    }

    /// The variance of pairs, by this trial and those before.
    pub(super) fn variance(&self) -> f64 {
        (self.scatter + PRIOR_WEIGHT * self.prior) / ((self.pairs - 1.0).max(0.0) + PRIOR_WEIGHT)
    }

    fn verdict(&self) -> Option<Verdict> {
        let variance = self.variance().max(self.chance / self.pairs);
        let margin = CONFIDENCE * (variance / self.pairs).sqrt();
        let surplus = self.mean - self.bar;
        if surplus.abs() < margin && margin > ALIKE && self.pairs < PAIRS_MOST {
            return None;
        }
        // Where they are as good as alike, fewer will do.
        let doubt = if self.is_larger { 0.0 } else { margin / 4.0 };
        Some(if surplus + doubt > 0.0 { Verdict::Accept } else { Verdict::Refuse })
    }
}

/// A limit is small: it is exact.
#[expect(clippy::cast_precision_loss, reason = "pools have far fewer than 2^52 servers")]
pub(super) const fn count(n: usize) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "what a window holds is far below 2^52")]
const fn number(n: u64) -> f64 {
    n as f64
}

/// More servers are worth it if the work grows by this power of their number at least: by a seventh of what it
/// would grow by if they did not stand in each other's way.
const WORTH_MORE: f64 = 0.15;

/// Fewer servers are as good if the work shrinks by no more than this power of their number.
const WORTH_KEEPING: f64 = 0.07;

/// Clients that wait, on average, if the limit is what holds them back.
const PRESSURE: f64 = 0.5;

/// Transactions that a window has to have.
const ENOUGH: f64 = 30.0;

/// The variance of pairs as long as nothing is known of it (as if they were off by a tenth), and how many pairs'
/// worth what is known before a trial counts in it.
pub(super) const PRIOR: f64 = 0.01;
const PRIOR_WEIGHT: f64 = 2.0;

/// What is known to differ from the bar by less than this is as good as what does not.
const ALIKE: f64 = 0.05;

/// Standard errors that have to be between a gain and the bar.
const CONFIDENCE: f64 = 2.0;

/// After so many pairs it is decided by what there is.
const PAIRS_MOST: f64 = 16.0;
