//! Messages of a client as bytes, written without the code under test.

/// A message: tag, length, body.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&length(body.len()));
    out.extend_from_slice(body);
    out
}

/// The length word of a message whose body is `body_len` bytes long.
fn length(body_len: usize) -> [u8; 4] {
    u32::try_from(body_len + 4).unwrap().to_be_bytes()
}

/// Texts, each with its terminator.
fn texts(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| text.bytes().chain([0])).collect()
}

/// A startup packet of protocol `major.minor`.
pub fn startup_version(version: (u16, u16), parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&version.0.to_be_bytes());
    body.extend_from_slice(&version.1.to_be_bytes());
    for (name, value) in parameters {
        body.extend(texts(&[name, value]));
    }
    body.push(0);
    packet(&body)
}

pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    startup_version((3, 0), parameters)
}

/// A packet without a tag.
pub fn packet(body: &[u8]) -> Vec<u8> {
    let mut out = length(body.len()).to_vec();
    out.extend_from_slice(body);
    out
}

pub fn ssl_request() -> Vec<u8> {
    packet(&80_877_103_u32.to_be_bytes())
}

pub fn gssenc_request() -> Vec<u8> {
    packet(&80_877_104_u32.to_be_bytes())
}

pub fn cancel_request(process_id: i32, secret: &[u8]) -> Vec<u8> {
    let mut body = 80_877_102_u32.to_be_bytes().to_vec();
    body.extend_from_slice(&process_id.to_be_bytes());
    body.extend_from_slice(secret);
    packet(&body)
}

pub fn query(text: &str) -> Vec<u8> {
    message(b'Q', &texts(&[text]))
}

pub fn parse(name: &str, text: &str) -> Vec<u8> {
    parse_typed(name, text, &[])
}

/// A Parse with parameter types.
pub fn parse_typed(name: &str, text: &str, types: &[u32]) -> Vec<u8> {
    let mut body = texts(&[name, text]);
    body.extend_from_slice(&u16::try_from(types.len()).unwrap().to_be_bytes());
    body.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
    message(b'P', &body)
}

/// A Bind of the unnamed portal with text parameters.
pub fn bind(statement: &str, values: &[&str]) -> Vec<u8> {
    bind_portal("", statement, values)
}

pub fn bind_portal(portal: &str, statement: &str, values: &[&str]) -> Vec<u8> {
    let mut body = texts(&[portal, statement]);
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(&u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    message(b'B', &body)
}

pub fn describe_statement(name: &str) -> Vec<u8> {
    message(b'D', &texts(&[&format!("S{name}")]))
}

pub fn describe_portal(name: &str) -> Vec<u8> {
    message(b'D', &texts(&[&format!("P{name}")]))
}

/// An Execute of the unnamed portal.
pub fn execute() -> Vec<u8> {
    execute_portal("", 0)
}

/// An Execute of at most `most` rows; 0: all.
pub fn execute_portal(portal: &str, most: u32) -> Vec<u8> {
    let mut body = texts(&[portal]);
    body.extend_from_slice(&most.to_be_bytes());
    message(b'E', &body)
}

pub fn close_statement(name: &str) -> Vec<u8> {
    message(b'C', &texts(&[&format!("S{name}")]))
}

pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub fn flush() -> Vec<u8> {
    message(b'H', b"")
}

pub fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

pub fn copy_done() -> Vec<u8> {
    message(b'c', b"")
}

pub fn copy_fail(why: &str) -> Vec<u8> {
    message(b'f', &texts(&[why]))
}

pub fn terminate() -> Vec<u8> {
    message(b'X', b"")
}

/// Bind and Execute of a statement: one run of it.
pub fn run(statement: &str, values: &[&str]) -> Vec<u8> {
    [bind(statement, values), execute()].concat()
}

/// A statement run by the unnamed statement and portal, up to its Sync.
pub fn extended(text: &str, values: &[&str]) -> Vec<u8> {
    [parse("", text), run("", values), sync()].concat()
}
