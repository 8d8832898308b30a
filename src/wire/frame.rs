//! The five bytes in front of every message after startup: a tag and a length.

use thiserror::Error;

/// Bytes of a frame's head.
pub const HEAD: usize = 5;

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The message type.
    pub tag: u8,
    /// Bytes of the whole frame, the tag included. At least [`HEAD`].
    pub len: usize,
}

/// A head that no peer may send.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    #[error("message {tag:?} says that it is {len} bytes long", tag = char::from(*.tag))]
    Length { tag: u8, len: u32 },
    #[error("message {tag:?} of {len} bytes is longer than max_message", tag = char::from(*.tag))]
    TooLong { tag: u8, len: usize },
}

impl FrameError {
    /// The type of the message.
    pub const fn tag(self) -> u8 {
        match self {
            Self::Length { tag, .. } | Self::TooLong { tag, .. } => tag,
        }
    }
}

/// Reads the head of the frame that starts at `buf`; `None` if not all of it is there.
///
/// `limit` bounds the length that the frame claims, in bytes.
#[inline]
pub fn head(buf: &[u8], limit: usize) -> Result<Option<Head>, FrameError> {
    let Some([tag, len @ ..]) = buf.first_chunk::<HEAD>() else { return Ok(None) };
    let (tag, claimed) = (*tag, u32::from_be_bytes(*len));
    // The length counts itself; PostgreSQL reads it as a signed number.
    if claimed < 4 || claimed > i32::MAX as u32 {
        return Err(FrameError::Length { tag, len: claimed });
    }
    let len = claimed as usize + 1;
    if len > limit {
        return Err(FrameError::TooLong { tag, len });
    }
    Ok(Some(Head { tag, len }))
}

/// Appends a frame whose body `fill` writes.
pub fn put(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    set_length(out, at);
}

/// Writes the number of bytes from `at` on into the four bytes at `at`.
pub(super) fn set_length(out: &mut [u8], at: usize) {
    let len = u32::try_from(out.len().saturating_sub(at)).unwrap_or(u32::MAX);
    if let Some(word) = out.get_mut(at..at + 4) {
        word.copy_from_slice(&len.to_be_bytes());
    }
}

/// Appends `text` and its terminator. A NUL inside would end it early, so it is cut there.
pub fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    out.extend_from_slice(text.get(..end).unwrap_or(text));
    out.push(0);
}

/// Takes a NUL-terminated text off the front of `body`.
pub fn take_text<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = memchr::memchr(0, body)?;
    let text = body.get(..end)?;
    *body = body.get(end + 1..)?;
    Some(text)
}

/// Takes a number of two bytes off the front of `body`.
pub fn take_u16(body: &mut &[u8]) -> Option<u16> {
    let (number, rest) = body.split_first_chunk::<2>()?;
    *body = rest;
    Some(u16::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn head_of_a_sync() {
        assert_eq!(head(b"S\0\0\0\x04", 1024), Ok(Some(Head { tag: b'S', len: 5 })));
    }

    #[test]
    fn lengths_that_nobody_may_send_are_refused() {
        assert_eq!(head(b"Q\0\0\0\x03", 1024), Err(FrameError::Length { tag: b'Q', len: 3 }));
        assert_eq!(
            head(b"Q\x80\0\0\0", usize::MAX),
            Err(FrameError::Length { tag: b'Q', len: 0x8000_0000 })
        );
        assert_eq!(head(b"Q\0\0\x10\0", 1024), Err(FrameError::TooLong { tag: b'Q', len: 4097 }));
    }

    proptest! {
        #[test]
        fn what_was_put_is_stepped_over(tag: u8, body in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            put(&mut out, tag, |out| out.extend_from_slice(&body));

            for cut in 0..HEAD {
                prop_assert_eq!(head(&out[..cut], usize::MAX), Ok(None));
            }
            prop_assert_eq!(head(&out, usize::MAX), Ok(Some(Head { tag, len: body.len() + HEAD })));
        }
    }
}
