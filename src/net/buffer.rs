//! A worker's scratch buffers: read into and written from by every session that runs on it.
//!
//! Idle sessions hold no buffer. What is read is looked at and written on from here within one call;
//! only what is left over moves into the connection's own.

use std::cell::RefCell;

/// Bytes that one read takes at most.
pub const READ_LEN: usize = 64 * 1024;

/// The longest frame, in bytes, that is held back until all of it is there. Longer ones are looked
/// at as far as their front goes, and streamed.
pub const HOLD_LEN: usize = 32 * 1024;

/// The longest description of a statement that is held back likewise where it is to be read:
/// PostgreSQL has at most 65535 parameters and 1664 columns.
pub const DESCRIPTION_LEN: usize = 320 * 1024;

/// The buffers of one worker.
#[derive(Debug)]
pub struct Scratch {
    /// What a read fills.
    pub input: Box<[u8]>,
    /// What a write is gathered in when it is not a range of `input`.
    pub output: Vec<u8>,
}

impl Scratch {
    fn new() -> Self {
        Self { input: vec![0; READ_LEN].into_boxed_slice(), output: Vec::with_capacity(READ_LEN) }
    }

    /// Empties `output`, and gives back what an unusually long message made it grow to.
    fn tidy(&mut self) {
        self.output.clear();
        self.output.shrink_to(4 * READ_LEN);
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
    /// What was read of an encrypted connection: lent while `SCRATCH` is, and made by the first one.
    static CIPHERTEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's buffer for ciphertext to `work`, which cannot wait.
pub(super) fn with_ciphertext<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    CIPHERTEXT.with_borrow_mut(|ciphertext| {
        ciphertext.resize(READ_LEN, 0);
        work(ciphertext)
    })
}

/// Lends this thread's scratch buffers to `work`, which cannot wait.
pub fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        let result = work(scratch);
        scratch.tidy();
        result
    })
}
