//! Messages of PostgreSQL's protocol 3.0, as far as loads need them.

/// A message with this tag and body.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&len_of(body));
    bytes.extend_from_slice(body);
    bytes
}

/// A startup packet of protocol 3.0.
pub(crate) fn startup(user: &str, database: &str) -> Vec<u8> {
    let body = format!("\0\x03\0\0user\0{user}\0database\0{database}\0\0");
    [&len_of(body.as_bytes())[..], body.as_bytes()].concat()
}

pub(crate) fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

pub(crate) fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

/// A Bind of a statement without parameters to the unnamed portal.
pub(crate) fn bind(name: &str) -> Vec<u8> {
    message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes())
}

pub(crate) fn describe_portal() -> Vec<u8> {
    message(b'D', b"P\0")
}

pub(crate) fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

pub(crate) fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub(crate) fn terminate() -> Vec<u8> {
    message(b'X', b"")
}

/// What runs a prepared statement as libpq does it.
pub(crate) fn run_prepared(name: &str) -> Vec<u8> {
    [bind(name), describe_portal(), execute(), sync()].concat()
}

/// What runs a text as libpq does it with parameters apart.
pub(crate) fn run_extended(text: &str) -> Vec<u8> {
    [parse("", text), run_prepared("")].concat()
}

fn len_of(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4).expect("a message of less than 4 GB").to_be_bytes()
}
