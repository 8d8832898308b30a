//! Messages from a server, read where they lie, and those that we send to a client as its server.

use super::frame::{put, put_text, take_text};
use super::version::Version;

/// The transaction status that `ReadyForQuery` carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxStatus {
    /// Not in a transaction block.
    Idle,
    /// In a transaction block.
    Block,
    /// In a failed transaction block.
    Failed,
}

impl TxStatus {
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::Block),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }

    pub const fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Block => b'T',
            Self::Failed => b'E',
        }
    }
}

/// Reads the body of a `ParameterStatus`; `None` if it breaks the protocol.
pub fn parameter_status(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut left = body;
    Some((take_text(&mut left)?, take_text(&mut left)?))
}

/// Reads the body of a `BackendKeyData`: process id and secret (4 bytes in 3.0, up to 256 in 3.2).
pub fn backend_key(body: &[u8]) -> Option<(i32, &[u8])> {
    let (id, secret) = body.split_first_chunk::<4>()?;
    (4..=256).contains(&secret.len()).then_some((i32::from_be_bytes(*id), secret))
}

/// A `NegotiateProtocolVersion`: what the server speaks instead of what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    pub version: Version,
    /// How many of the protocol options it does not know.
    pub unknown: usize,
}

/// Reads the body of a `NegotiateProtocolVersion`; `None` if it breaks the protocol.
pub fn negotiated(body: &[u8]) -> Option<Negotiated> {
    let (word, left) = body.split_first_chunk::<4>()?;
    let (count, mut left) = left.split_first_chunk::<4>()?;
    let version = Version::from_answer(u32::from_be_bytes(*word))?;
    let count = u32::from_be_bytes(*count);
    let mut unknown = 0;
    while !left.is_empty() {
        take_text(&mut left)?;
        unknown += 1;
    }
    (usize::try_from(count) == Ok(unknown)).then_some(Negotiated { version, unknown })
}

/// A column of a `RowDescription`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    pub name: &'a [u8],
    pub type_oid: [u8; 4],
    pub type_modifier: [u8; 4],
}

/// Reads the body of a `RowDescription`, as far as it keeps to the protocol.
pub fn columns(body: &[u8]) -> impl Iterator<Item = Column<'_>> {
    // How many there are is told by their end as well.
    let mut left = body.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        let name = take_text(&mut left)?;
        // Table (4), attribute (2), type (4), length of the type (2), modifier (4), format (2).
        let (fields, rest) = left.split_first_chunk::<18>()?;
        left = rest;
        let [_, _, _, _, _, _, t0, t1, t2, t3, _, _, m0, m1, m2, m3, _, _] = *fields;
        Some(Column { name, type_oid: [t0, t1, t2, t3], type_modifier: [m0, m1, m2, m3] })
    })
}

/// The values of a `DataRow` (PostgreSQL documentation, 55.7); `None`: NULL. What is malformed ends it.
pub fn row(body: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = body.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (len, behind) = rest.split_first_chunk::<4>()?;
        let Ok(len) = usize::try_from(i32::from_be_bytes(*len)) else {
            rest = behind;
            return Some(None);
        };
        let (value, behind) = behind.split_at_checked(len)?;
        rest = behind;
        Some(Some(value))
    })
}

/// The tag of a `CommandComplete`, without its terminator.
pub fn command_tag(body: &[u8]) -> &[u8] {
    body.strip_suffix(b"\0").unwrap_or(body)
}

/// Appends an `AuthenticationOk`.
pub fn put_authentication_ok(out: &mut Vec<u8>) {
    put(out, b'R', |out| out.extend_from_slice(&[0; 4]));
}

/// Appends a `ParameterStatus`.
pub fn put_parameter_status(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put(out, b'S', |out| {
        put_text(out, name);
        put_text(out, value);
    });
}

/// Appends a `BackendKeyData`.
pub fn put_backend_key(out: &mut Vec<u8>, process_id: i32, secret: &[u8]) {
    put(out, b'K', |out| {
        out.extend_from_slice(&process_id.to_be_bytes());
        out.extend_from_slice(secret);
    });
}

/// Appends a `ReadyForQuery`.
pub fn put_ready(out: &mut Vec<u8>, status: TxStatus) {
    put(out, b'Z', |out| out.push(status.byte()));
}

/// Appends a `NegotiateProtocolVersion`: the version that we speak with this client, and the options
/// that we do not know.
pub fn put_negotiate(out: &mut Vec<u8>, version: Version, unknown: &[String]) {
    put(out, b'v', |out| {
        out.extend_from_slice(&version.code().to_be_bytes());
        let count = u32::try_from(unknown.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for name in unknown {
            put_text(out, name.as_bytes());
        }
    });
}

/// Appends a `RowDescription` of one column of text. `format`: 0 for text, 1 for binary.
pub fn put_text_column(out: &mut Vec<u8>, name: &[u8], format: u16) {
    put(out, b'T', |out| {
        out.extend_from_slice(&1_u16.to_be_bytes());
        put_text(out, name);
        // Of no table, and no attribute of one.
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&TEXT_OID.to_be_bytes());
        // Of no fixed length, and without a modifier.
        out.extend_from_slice(&(-1_i16).to_be_bytes());
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        out.extend_from_slice(&format.to_be_bytes());
    });
}

/// Appends a `DataRow` of one text.
pub fn put_text_row(out: &mut Vec<u8>, value: &[u8]) {
    put(out, b'D', |out| {
        out.extend_from_slice(&1_u16.to_be_bytes());
        let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(value);
    });
}

/// The type `text`.
const TEXT_OID: u32 = 25;

/// A `ParseComplete`, whole.
pub const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
/// A `BindComplete`, whole.
pub const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
/// A `NoData`, whole.
pub const NO_DATA: &[u8] = b"n\0\0\0\x04";
/// A `ParameterDescription` of none, whole.
pub const NO_PARAMETERS: &[u8] = b"t\0\0\0\x06\0\0";
/// A `CloseComplete`, whole.
pub const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn backend_keys_of_both_protocol_versions_are_read() {
        assert_eq!(backend_key(b"\0\0\0\x2aabcd"), Some((42, &b"abcd"[..])));
        assert_eq!(backend_key(&[0; 4 + 256]).map(|(_, secret)| secret.len()), Some(256));
        assert_eq!(backend_key(&[0; 4 + 257]), None);
        assert_eq!(backend_key(b"\0\0\0\x2aab"), None);
    }

    #[test]
    fn a_negotiation_that_counts_wrongly_is_refused() {
        let read = |body: &[u8]| negotiated(body).map(|n| (n.version, n.unknown));
        assert_eq!(read(b"\0\x03\0\0\0\0\0\0"), Some((Version::V3_0, 0)));
        assert_eq!(read(b"\0\x03\0\x02\0\0\0\x02_pq_.a\0_pq_.b\0"), Some((Version::V3_2, 2)));
        assert_eq!(read(b"\0\x03\0\0\0\0\0\x01"), None);
        assert_eq!(read(b"\0\x03\0\0\0\0\0\0_pq_.a\0"), None);
        assert_eq!(read(b"\0\x03\0\0\0\0\0\x01_pq_.a"), None);
        assert_eq!(read(b"\0\x02\0\0\0\0\0\0"), None);
        assert_eq!(read(b"\0\x03\0\0\0\0\0"), None);
    }

    proptest! {
        #[test]
        fn a_negotiation_is_read_as_it_is_written(
            code in 0_u32..4,
            names in prop::collection::vec("_pq_\\.[a-z]{0,9}", 0..5),
        ) {
            let version = Version::from_answer(code).unwrap();
            let mut out = Vec::new();
            put_negotiate(&mut out, version, &names);
            prop_assert_eq!(
                negotiated(&out[5..]),
                Some(Negotiated { version, unknown: names.len() })
            );
        }

        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let _status = parameter_status(&body);
            let _key = backend_key(&body);
            let _negotiated = negotiated(&body);
            let _tag = command_tag(&body);
            let _values = row(&body).count();
        }
    }
}
