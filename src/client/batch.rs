//! What one read brought, on its way on: as it is, or gathered where something comes in between.

use crate::server::exchange::Verdict;

/// Bytes on their way from one side to the other.
pub(super) struct Batch<'a> {
    pub(super) data: &'a [u8],
    /// Bytes of `data` that have been dealt with.
    pub(super) at: usize,
    /// Where the bytes begin that go on as they are and are not in `out` yet.
    pub(super) pass_from: usize,
    /// What goes to the other side in front of `data[pass_from..at]`.
    pub(super) out: &'a mut Vec<u8>,
}

impl Batch<'_> {
    /// Moves what goes on as it is into `out`, because something else comes next.
    pub(super) fn gather(&mut self) {
        let passed = self.data.get(self.pass_from..self.at).unwrap_or_default();
        self.out.extend_from_slice(passed);
        self.pass_from = self.at;
    }

    /// Steps over `len` bytes, which go on as they are.
    pub(super) const fn pass(&mut self, len: usize) {
        self.at += len;
    }

    /// Steps over `len` bytes, which do not go on.
    pub(super) fn swallow(&mut self, len: usize) {
        self.gather();
        self.at += len;
        self.pass_from = self.at;
    }

    /// Steps over `len` bytes, which go on or not.
    pub(super) fn step(&mut self, len: usize, verdict: Verdict) {
        match verdict {
            Verdict::Forward => self.pass(len),
            Verdict::Swallow => self.swallow(len),
        }
    }
}
