//! What is noted of a message that is sent, in case it comes to nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::shape::Describes;
use super::statements::Evicted;
use super::store::Statement;
use super::unnamed::UnnamedBefore;

/// A statement under the name that a client gave it.
#[derive(Debug)]
pub struct Given {
    pub name: Box<[u8]>,
    pub statement: Arc<Statement>,
    is_untried: AtomicBool,
}

impl Given {
    pub fn new(name: &[u8], statement: Arc<Statement>) -> Self {
        Self { name: name.into(), statement, is_untried: AtomicBool::new(false) }
    }

    /// Its Parse was answered without asking a server, and none has been asked since.
    pub fn note_untried(&self) {
        self.is_untried.store(true, Relaxed);
    }

    /// Its client has been told nothing by a server of what it takes and gives.
    pub fn is_untried(&self) -> bool {
        self.is_untried.load(Relaxed)
    }

    pub fn note_tried(&self) {
        self.is_untried.store(false, Relaxed);
    }
}

/// How to take back what was noted when a message was sent, if it comes to nothing.
#[derive(Debug)]
pub enum Undo {
    /// A Parse under a client's name. `sent`: it went to the server, which did not have it, as the
    /// request with this serial number.
    Parse { given: Arc<Given>, sent: Option<u64> },
    /// A Parse of ours, in front of a Bind or a Describe.
    Reparse { statement: Arc<Statement>, serial: u64 },
    /// What was to change the unnamed statement.
    Unnamed(UnnamedBefore),
    /// A Close under a client's name: the statement was still its.
    Close(Arc<Given>),
    /// A Bind or a Describe: the statement that it is of.
    Uses(Arc<Given>),
    /// A Describe that tells what a statement takes and gives.
    Describes(Box<Describes>),
    /// A Close of ours: to make room, or to prepare it anew.
    Evict(Box<Evicted>),
}
