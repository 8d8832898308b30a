//! What the pool's core is asked and what it answers: plain values.

use super::super::queue::Ticket;
use super::super::sites::Site;

/// A server's number, unique in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u64);

/// The number of a worker: where a server's socket is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Home(pub usize);

/// What sets servers apart that are not plain.
pub trait Kind: Eq + Clone {
    /// True if one that its client has done with is kept for the next who wishes for the same.
    fn may_idle(&self) -> bool;
}

/// What the pool knows a server by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label<K> {
    pub id: ServerId,
    pub home: Home,
    pub site: Site,
    /// `None`: a plain one.
    pub kind: Option<K>,
}

/// The right to open one server, of a kind or plain. Its place is counted already.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a right that is neither used nor given back blocks a place for ever"]
pub struct Right<K> {
    pub(super) kind: Option<K>,
    pub(super) site: Site,
    /// It is to even out the sites, whether somebody waits or not.
    pub(super) evens_out: bool,
}

impl<K> Right<K> {
    /// The kind of server that it is for; `None`: a plain one.
    pub const fn kind(&self) -> Option<&K> {
        self.kind.as_ref()
    }

    /// Where to open it.
    pub const fn site(&self) -> Site {
        self.site
    }
}

/// How many servers a pool may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub size: usize,
    pub min: usize,
    pub max_overflow: usize,
    /// `None`: no bound on the queue.
    pub max_waiting: Option<usize>,
}

impl Limits {
    /// The most servers at once.
    pub const fn most(&self) -> usize {
        self.size + self.max_overflow
    }
}

/// What a checkout leads to.
#[derive(Debug)]
pub enum Decision<S, K> {
    Lend(S),
    /// In the queue; `connect`: someone has to open a server as well. `displaced`: one that was idle
    /// and does not fit, to be closed to make room.
    Wait {
        ticket: Ticket,
        connect: Option<Right<K>>,
        displaced: Option<S>,
    },
    /// `max_waiting` are waiting already.
    QueueFull,
}

/// What becomes of a server that was given back or has been opened.
#[derive(Debug)]
pub enum Given<S, W> {
    /// It is the oldest waiter's whom it fits.
    HandTo(W, S),
    Idle,
    /// It is to be closed.
    Close(S, Surplus),
}

/// Why a server that has come back is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surplus {
    /// It is in the way of someone who waits for another kind, or of no use to anybody else.
    Displaced,
    /// Its site is out.
    SiteOut,
    /// There are too few elsewhere.
    Uneven,
}

/// Where a server is that the pool does not hold itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Lent,
    /// Being reset, tested, or held back for a cancel.
    Aside,
}

/// What evening out the sites leads to.
#[derive(Debug)]
pub enum Evened<S, K> {
    /// There is nothing to be done.
    Even,
    Open(Right<K>),
    Close(S),
}

/// Why an idle server was taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    Overflow,
    Idle,
}

/// How many servers are in each place, and how many waiters there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub opening: usize,
    pub idle: usize,
    pub lent: usize,
    pub aside: usize,
    pub closing: usize,
    pub waiting: usize,
}

impl Counts {
    /// True if there is a server that clients may get.
    pub const fn has_open(&self) -> bool {
        self.idle + self.lent + self.aside > 0
    }
}
