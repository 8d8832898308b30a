//! Messages from a client, read where they lie, and those that we send to a server as its client.

use super::frame::{self, FrameError, Head, put, put_text, take_text};
use super::version::Version;

/// Statement or portal: the kind byte of Describe and Close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Statement,
    Portal,
}

/// A Parse message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    pub name: &'a [u8],
    pub text: &'a [u8],
    /// The parameter types as they stand in the message: a count and OIDs.
    pub types: &'a [u8],
    /// `text`, its terminator and `types` as one slice.
    pub rest: &'a [u8],
}

/// The names at the front of a Bind message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    pub portal: &'a [u8],
    pub statement: &'a [u8],
    /// Bytes of the body up to what follows the names.
    pub names_len: usize,
}

/// A Describe or Close message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'a> {
    pub target: Target,
    pub name: &'a [u8],
}

/// The longest length of a message that has a name or less in it. `PostgreSQL` leaves who claims a longer
/// one without a word (`PQ_SMALL_MESSAGE_LIMIT`).
const SHORT_MAX: usize = 10_000;

/// Reads the head of the frame that starts at `buf`; `None` if not all of it is there.
///
/// `limit` bounds the length that the frame claims, in bytes.
#[inline]
pub fn head(buf: &[u8], limit: usize) -> Result<Option<Head>, FrameError> {
    let head = frame::head(buf, limit)?;
    if let Some(Head { tag, len }) = head
        && len > SHORT_MAX + 1
        && matches!(tag, b'D' | b'C' | b'E' | b'S' | b'H' | b'X' | b'c' | b'f')
    {
        let len = u32::try_from(len - 1).unwrap_or(u32::MAX);
        return Err(FrameError::Length { tag, len });
    }
    Ok(head)
}

/// Reads the body of a Parse message; `None` if it breaks the protocol.
pub fn parse(body: &[u8]) -> Option<Parse<'_>> {
    let mut left = body;
    let name = take_text(&mut left)?;
    let rest = left;
    let text = take_text(&mut left)?;
    let [a, b, oids @ ..] = left else { return None };
    let count = usize::from(u16::from_be_bytes([*a, *b]));
    (oids.len() == count * 4).then_some(Parse { name, text, types: left, rest })
}

/// Reads the names of a Bind message, of whose body only the front may be there yet; `None` if they
/// are not complete.
pub fn bind(body: &[u8]) -> Option<Bind<'_>> {
    let mut left = body;
    let portal = take_text(&mut left)?;
    let statement = take_text(&mut left)?;
    Some(Bind { portal, statement, names_len: body.len() - left.len() })
}

/// Reads the body of a Describe or Close message; `None` if it breaks the protocol.
pub fn named(body: &[u8]) -> Option<Named<'_>> {
    let (kind, mut left) = body.split_first()?;
    let target = match kind {
        b'S' => Target::Statement,
        b'P' => Target::Portal,
        _ => return None,
    };
    let name = take_text(&mut left)?;
    left.is_empty().then_some(Named { target, name })
}

/// The text of a Query message, without its terminator. A body that keeps to the protocol ends there: it
/// is one byte longer.
pub fn query_text(body: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, body).unwrap_or(body.len());
    body.get(..end).unwrap_or(body)
}

/// Appends a Query.
pub fn put_query(out: &mut Vec<u8>, text: &[u8]) {
    put(out, b'Q', |out| put_text(out, text));
}

/// Appends a Query whose text `put` appends.
pub fn put_query_with(out: &mut Vec<u8>, put_text: impl FnOnce(&mut Vec<u8>)) {
    put(out, b'Q', |out| {
        put_text(out);
        out.push(0);
    });
}

/// Appends a Parse of `rest` (text, terminator, types) under `name`.
pub fn put_parse(out: &mut Vec<u8>, name: &[u8], rest: &[u8]) {
    put(out, b'P', |out| {
        put_text(out, name);
        out.extend_from_slice(rest);
    });
}

/// Appends the head and the names of a Bind whose frame is `len` bytes long in all once `tail` more
/// bytes follow.
pub fn put_bind_names(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], tail: usize) {
    out.push(b'B');
    let len = 4 + portal.len() + 1 + statement.len() + 1 + tail;
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    put_text(out, portal);
    put_text(out, statement);
}

/// Appends what runs a statement without parameters in a portal of the same name, from Bind to Close.
pub fn put_run(out: &mut Vec<u8>, name: &[u8]) {
    // No formats, no parameters, no formats of results.
    const REST: [u8; 6] = [0; 6];
    put_bind_names(out, name, name, REST.len());
    out.extend_from_slice(&REST);
    put(out, b'E', |out| {
        put_text(out, name);
        out.extend_from_slice(&0_u32.to_be_bytes());
    });
    put(out, b'C', |out| {
        out.push(b'P');
        put_text(out, name);
    });
}

/// Appends a Describe of a statement.
pub fn put_describe_statement(out: &mut Vec<u8>, name: &[u8]) {
    put(out, b'D', |out| {
        out.push(b'S');
        put_text(out, name);
    });
}

/// Appends a Close of a statement.
pub fn put_close_statement(out: &mut Vec<u8>, name: &[u8]) {
    put(out, b'C', |out| {
        out.push(b'S');
        put_text(out, name);
    });
}

/// Appends a Sync.
pub fn put_sync(out: &mut Vec<u8>) {
    put(out, b'S', |_| {});
}

/// Appends a Flush.
pub fn put_flush(out: &mut Vec<u8>) {
    put(out, b'H', |_| {});
}

/// Appends a `CopyFail` that gives no reason.
pub fn put_copy_fail(out: &mut Vec<u8>) {
    put(out, b'f', |out| out.push(0));
}

/// Appends a Terminate.
pub fn put_terminate(out: &mut Vec<u8>) {
    put(out, b'X', |_| {});
}

/// Appends a startup packet with `parameters`.
pub fn put_startup<'a>(
    out: &mut Vec<u8>,
    version: Version,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&version.code().to_be_bytes());
    for (name, value) in parameters {
        put_text(out, name.as_bytes());
        put_text(out, value.as_bytes());
    }
    out.push(0);
    if let Some(tail) = out.get_mut(at..) {
        frame::set_length(tail, 0);
    }
}

/// Appends an `SSLRequest`.
pub fn put_ssl_request(out: &mut Vec<u8>) {
    out.extend_from_slice(&8_u32.to_be_bytes());
    out.extend_from_slice(&super::startup::SSL.to_be_bytes());
}

/// Appends a `CancelRequest`.
pub fn put_cancel(out: &mut Vec<u8>, process_id: i32, secret: &[u8]) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&super::startup::CANCEL.to_be_bytes());
    out.extend_from_slice(&process_id.to_be_bytes());
    out.extend_from_slice(secret);
    if let Some(tail) = out.get_mut(at..) {
        frame::set_length(tail, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_always_short_may_not_be_long() {
        let head_of = |tag, len: u32| head(&[&[tag][..], &len.to_be_bytes()].concat(), 1 << 30);
        for tag in *b"DCESHXcf" {
            assert!(head_of(tag, 10_000).is_ok());
            assert_eq!(head_of(tag, 10_001), Err(FrameError::Length { tag, len: 10_001 }));
        }
        assert!(head_of(b'Q', 10_001).is_ok());
    }

    #[test]
    fn parse_is_split_into_its_parts() {
        let body = b"s1\0select $1\0\0\x01\0\0\0\x17";

        let parsed = parse(body).unwrap();

        assert_eq!((parsed.name, parsed.text), (&b"s1"[..], &b"select $1"[..]));
        assert_eq!(parsed.types, b"\0\x01\0\0\0\x17");
        assert_eq!(parsed.rest, b"select $1\0\0\x01\0\0\0\x17");
    }

    #[test]
    fn parse_with_types_missing_is_refused() {
        assert_eq!(parse(b"s1\0select $1\0\0\x02\0\0\0\x17"), None);
        assert_eq!(parse(b"s1\0select $1"), None);
    }

    #[test]
    fn bind_is_read_as_soon_as_its_names_are_there() {
        assert_eq!(bind(b"p\0s"), None);
        let bound = bind(b"p\0s\0\0\x01").unwrap();
        assert_eq!((bound.portal, bound.statement, bound.names_len), (&b"p"[..], &b"s"[..], 4));
    }

    #[test]
    fn a_rewritten_bind_has_its_true_length() {
        let mut out = Vec::new();
        put_bind_names(&mut out, b"", b"pgweir_7", 3);
        out.extend_from_slice(b"xyz");

        let head = frame::head(&out, usize::MAX).unwrap().unwrap();
        assert_eq!(head.len, out.len());
    }

    #[test]
    fn a_cancel_request_is_sixteen_bytes() {
        let mut out = vec![7];
        put_cancel(&mut out, 42, &[1, 2, 3, 4]);
        assert_eq!(out, b"\x07\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x2a\x01\x02\x03\x04");
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let _parse = parse(&body);
            let _bind = bind(&body);
            let _named = named(&body);
            let _text = query_text(&body);
        }
    }
}
