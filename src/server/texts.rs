//! The texts of the statements under way, for the log of slow ones. Pure.

use std::collections::VecDeque;

/// The front of the newest text of each request that ends with a `ReadyForQuery`.
#[derive(Debug, Default)]
pub struct Texts {
    owed: VecDeque<Text>,
    /// That of the last request that was answered.
    last: Text,
    /// Memory of others, for the next pipeline.
    spare: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Text {
    /// Serial number, in the exchange, of the message that it came with.
    serial: u64,
    front: Vec<u8>,
}

impl Texts {
    /// Notes the text that comes with the message `serial`. `boundary`: the newest message so far that
    /// ends with a `ReadyForQuery`.
    pub fn note(&mut self, serial: u64, boundary: u64, text: &[u8]) {
        let front = text.get(..TEXT_KEPT).unwrap_or(text);
        let is_new = self.owed.back().is_none_or(|newest| newest.serial <= boundary);
        if is_new && self.owed.len() < TEXTS_MOST {
            self.owed.push_back(Text { serial, front: self.spare.pop().unwrap_or_default() });
        } else if is_new {
            return;
        }
        if let Some(newest) = self.owed.back_mut() {
            newest.serial = serial;
            newest.front.clear();
            newest.front.extend_from_slice(front);
        }
    }

    /// The text of the request that ends with the message `serial`, which is answered; empty if it is
    /// not known.
    pub fn answered(&mut self, serial: u64) -> &[u8] {
        self.last.front.clear();
        while self.owed.front().is_some_and(|text| text.serial <= serial)
            && let Some(text) = self.owed.pop_front()
        {
            let before = std::mem::replace(&mut self.last, text);
            self.keep(before);
        }
        &self.last.front
    }

    pub fn clear(&mut self) {
        while let Some(text) = self.owed.pop_front() {
            self.keep(text);
        }
    }

    fn keep(&mut self, text: Text) {
        if self.spare.len() < SPARE_MOST && text.front.capacity() > 0 {
            self.spare.push(text.front);
        }
    }
}

/// Texts whose memory is kept, for each server: one of them has at most twice [`TEXT_KEPT`].
const SPARE_MOST: usize = 16;

/// How much is kept of a text.
const TEXT_KEPT: usize = 1024;

/// Requests of a pipeline whose texts are kept.
const TEXTS_MOST: usize = 256;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_second_pipeline_takes_the_memory_of_the_first() {
        let mut texts = Texts::default();
        let run = |texts: &mut Texts| {
            for serial in 1..=10 {
                texts.note(serial, serial - 1, b"select 1");
            }
            let memory: BTreeSet<_> = texts.owed.iter().map(|text| text.front.as_ptr()).collect();
            for serial in 1..=10 {
                assert_eq!(texts.answered(serial), b"select 1");
            }
            memory
        };

        // The last one keeps what it has until there is another.
        let (_, first, second) = (run(&mut texts), run(&mut texts), run(&mut texts));

        assert!(first.intersection(&second).count() >= 9, "{first:?} {second:?}");
    }

    #[test]
    fn the_memory_of_a_long_pipeline_is_not_kept() {
        let mut texts = Texts::default();
        for serial in 1..=100 {
            texts.note(serial, serial - 1, b"select 1");
        }

        texts.clear();

        assert_eq!((texts.owed.len(), texts.spare.len()), (0, SPARE_MOST));
    }

    #[test]
    fn each_request_of_a_pipeline_has_its_own_text() {
        let mut texts = Texts::default();
        // Two queries, a segment with two statements, and one with none.
        texts.note(1, 0, b"one");
        texts.note(2, 1, b"two");
        texts.note(3, 2, b"three");
        texts.note(6, 2, b"four");
        texts.note(12, 11, b"five");

        assert_eq!(texts.answered(1), b"one");
        assert_eq!(texts.answered(2), b"two");
        assert_eq!(texts.answered(9), b"four");
        assert_eq!(texts.answered(11), b"");
        assert_eq!(texts.answered(12), b"five");
    }

    #[test]
    fn a_pipeline_of_any_depth_takes_little_memory() {
        let mut texts = Texts::default();
        for serial in 1..10_000 {
            texts.note(serial, serial - 1, &[b'x'; 5000]);
        }
        assert_eq!(texts.owed.len(), TEXTS_MOST);
        assert_eq!(texts.answered(TEXTS_MOST as u64).len(), TEXT_KEPT);
        assert_eq!(texts.answered(5000), b"");
    }
}
