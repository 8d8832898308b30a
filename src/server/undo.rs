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
    /// Shared by those that spell its name otherwise.
    untried: Option<Arc<AtomicBool>>,
}

impl Given {
    pub fn new(name: &[u8], statement: Arc<Statement>) -> Self {
        Self { name: name.into(), statement, untried: None }
    }

    /// One whose client has been told nothing by a server of what it takes and gives: its Parse was
    /// answered without asking one.
    pub fn untried(name: &[u8], statement: Arc<Statement>) -> Self {
        Self { untried: Some(Arc::new(AtomicBool::new(true))), ..Self::new(name, statement) }
    }

    /// The same statement, by a name that is not told apart from its own.
    #[must_use]
    pub fn spelled(&self, name: &[u8]) -> Self {
        Self { untried: self.untried.clone(), ..Self::new(name, Arc::clone(&self.statement)) }
    }

    /// No use of it has worked yet.
    pub fn is_untried(&self) -> bool {
        self.untried.as_ref().is_some_and(|untried| untried.load(Relaxed))
    }

    /// Its client has parsed it again.
    pub fn forget_tries(&mut self) {
        match self.untried.as_mut().and_then(Arc::get_mut) {
            Some(untried) => *untried.get_mut() = true,
            None => self.untried = Some(Arc::new(AtomicBool::new(true))),
        }
    }

    pub fn note_tried(&self) {
        if let Some(untried) = &self.untried {
            untried.store(false, Relaxed);
        }
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
