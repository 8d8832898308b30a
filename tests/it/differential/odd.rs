//! What no driver sends: messages that break the protocol, lengths that nobody may claim.

use super::generate::Generator;
use super::sequence::Frame;
use crate::support::messages::{message, sync};

/// Bodies that break the protocol, types that do not exist, and values at the edge of what there is.
const BODIES: &[(u8, &[u8])] = &[
    (b'P', b"a\0select 1"),
    (b'P', b"a\0select 1\0\0\x02\0\0\0\x17"),
    (b'P', b"a\0select 1\0\0\0more"),
    (b'P', b""),
    (b'P', b"\0\0\0\0"),
    (b'P', b"\0\0\xff\xff"),
    (b'P', b"\0select $1\0\0\x01\0\0\0\0"),
    (b'P', b"\0select $1\0\0\x01\0\x01\x86\x9f"),
    (b'P', b"\0select $2\0\0\0"),
    (b'P', b"a\0select \xff\0\0\0"),
    (b'B', b"p"),
    (b'B', b"p\0a"),
    (b'B', b"p\0a\0"),
    (b'B', b"\0\0\0\0\0\x01\0\0\0\x09x"),
    (b'B', b"\0\0\0\0\0\0\0\0more"),
    (b'B', b"\0\0\0\0\0\x02\0\0\0\x011"),
    (b'B', b"\0\0\0\x02\0\x01\0\x01\0\x01\0\0\0\x011\0\0"),
    (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
    (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff1\0\0"),
    (b'B', b"\0a\0\0\x01\0\x01\0\x01\0\0\0\x03abc\0\0"),
    (b'B', b"\0a\0\0\0\0\0\0\x03\0\x01\0\x01\0\x01"),
    (b'B', b"\0\xff\0\0\0\0\0\0\0"),
    (b'D', b""),
    (b'D', b"S"),
    (b'D', b"Xa\0"),
    (b'D', b"Sa\0more"),
    (b'D', b"Sa"),
    (b'D', b"S\0"),
    (b'D', b"P\0"),
    (b'C', b""),
    (b'C', b"Xa\0"),
    (b'C', b"Sa\0more"),
    (b'C', b"Pa"),
    (b'C', b"S\0"),
    (b'C', b"P\0"),
    (b'E', b"p"),
    (b'E', b""),
    (b'E', b"\0\0\0\0\0more"),
    (b'E', b"\0\xff\xff\xff\xff"),
    (b'E', b"p\0\0\0"),
    (b'S', b"more"),
    (b'H', b"more"),
    (b'Q', b""),
    (b'Q', b"select 1"),
    (b'Q', b"select 1\0more"),
    (b'Q', b"select 1\0; select 2\0"),
    (b'Q', b"select '\xff'\0"),
    (b'F', b""),
    (b'F', b"\0\0"),
    (b'F', b"\0\0\0\xb1\0\x01\0\x07\0\x02\0\0\0\x011\0\0\0\x012\0\0"),
    (b'F', b"\0\0\0\xb1\0\0\0\x02\0\0\0\x011\xff\xff\xff\xff\0\0"),
    (b'F', b"\0\0\0\xb1\0\0\0\x02\0\0\0\x011\0\0\0\x012\0\0more"),
    (b'd', b""),
    (b'c', b"more"),
    (b'f', b"why"),
    (b'f', b"why\0more"),
    (b'!', b""),
    (b'p', b"password\0"),
    (b'R', b"\0\0\0\0"),
    (b'\0', b""),
];

impl Generator {
    pub(super) fn malformed(&mut self, frames: &mut Vec<Frame>) {
        let (tag, body) = *self.random.one(BODIES);
        frames.push(Frame(message(tag, body)));
        if self.random.chance(80) {
            frames.push(Frame(sync()));
        }
    }

    /// A head whose length PostgreSQL takes for the end of the connection.
    pub(super) fn impossible_length(&mut self) -> Frame {
        let tag = *self.random.one(b"QPBDECSHFdcfX!");
        let claimed: u32 = match self.random.below(6) {
            0 => 0,
            1 => 3,
            2 => 0x8000_0000,
            3 => u32::MAX,
            4 => 0x7fff_ffff,
            // Of a message that is always short.
            _ => return Frame(message(*self.random.one(b"DECSHX"), &[b'S'; 10_001])),
        };
        Frame([&[tag][..], &claimed.to_be_bytes()].concat())
    }
}
