//! The packet in front of everything: startup, cancel, or a wish for encryption.

use thiserror::Error;

use super::frame::take_text;

/// Protocol version 3.0 as it stands in a startup packet.
pub const VERSION_3_0: u32 = 3 << 16;
/// The request codes that stand where a version would.
pub const CANCEL: u32 = 80_877_102;
pub const SSL: u32 = 80_877_103;
pub const GSSENC: u32 = 80_877_104;

/// Longest startup packet in bytes (PostgreSQL's own bound).
pub const MAX_LEN: u32 = 10_000;

/// What a client sends first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Startup {
    Login(LoginRequest),
    /// Stop the statement of the session that these belong to.
    Cancel {
        process_id: i32,
        secret: Vec<u8>,
    },
    Ssl,
    GssEnc,
}

/// A wish to log in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoginRequest {
    /// The minor protocol version that was asked for.
    pub minor: u32,
    pub user: String,
    /// The user's name if the client named none.
    pub database: String,
    pub replication: bool,
    /// Settings in the order given: startup parameters, and those inside `options`.
    pub settings: Vec<(String, String)>,
    /// `_pq_.` protocol options, none of which we know.
    pub protocol_options: Vec<String>,
}

/// A startup packet that no login can follow.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum StartupError {
    #[error("invalid length of startup packet: {len}")]
    Length { len: u32 },
    #[error("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0")]
    Version { major: u32, minor: u32 },
    #[error("invalid startup packet layout: {problem}")]
    Layout { problem: &'static str },
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    #[error(
        "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"
    )]
    Options,
}

/// The length of the packet that starts at `buf`, itself included; `None` if it is not there yet.
pub fn length(buf: &[u8]) -> Result<Option<usize>, StartupError> {
    let Some(word) = buf.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_be_bytes(*word);
    if (8..=MAX_LEN).contains(&len) {
        Ok(Some(len as usize))
    } else {
        Err(StartupError::Length { len })
    }
}

/// Reads a whole packet, its length word included.
pub fn parse(packet: &[u8]) -> Result<Startup, StartupError> {
    let layout = |problem| StartupError::Layout { problem };
    let (code, body) = packet
        .get(4..)
        .and_then(|rest| rest.split_first_chunk::<4>())
        .ok_or_else(|| layout("too short"))?;
    match u32::from_be_bytes(*code) {
        SSL if body.is_empty() => Ok(Startup::Ssl),
        GSSENC if body.is_empty() => Ok(Startup::GssEnc),
        CANCEL => {
            let (id, secret) = body
                .split_first_chunk::<4>()
                .ok_or_else(|| layout("cancel request without a key"))?;
            if !(4..=256).contains(&secret.len()) {
                return Err(layout("cancel key of an impossible length"));
            }
            Ok(Startup::Cancel { process_id: i32::from_be_bytes(*id), secret: secret.to_vec() })
        }
        version if version >> 16 == 3 => login(version & 0xffff, body).map(Startup::Login),
        version => Err(StartupError::Version { major: version >> 16, minor: version & 0xffff }),
    }
}

fn login(minor: u32, mut body: &[u8]) -> Result<LoginRequest, StartupError> {
    let layout = |problem| StartupError::Layout { problem };
    let mut request = LoginRequest { minor, ..LoginRequest::default() };
    loop {
        let name =
            take_text(&mut body).ok_or_else(|| layout("expected terminator as last byte"))?;
        if name.is_empty() {
            break;
        }
        let value = take_text(&mut body).ok_or_else(|| layout("a parameter without a value"))?;
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).map_err(|_| layout("a parameter is not UTF-8"))
        };
        let (name, value) = (text(name)?, text(value)?);
        match name.as_str() {
            "user" => request.user = value,
            "database" => request.database = value,
            "replication" => request.replication = is_replication(&value),
            "options" => request.settings.extend(options(&value)?),
            _ if name.starts_with("_pq_.") => request.protocol_options.push(name),
            _ => request.settings.push((name, value)),
        }
    }
    if !body.is_empty() {
        return Err(layout("expected terminator as last byte"));
    }
    if request.user.is_empty() {
        return Err(StartupError::NoUser);
    }
    if request.database.is_empty() {
        request.database.clone_from(&request.user);
    }
    Ok(request)
}

/// True for `database` and every spelling of true.
fn is_replication(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    !matches!(value.as_str(), "" | "0" | "f" | "false" | "off" | "of" | "n" | "no")
}

/// Splits the `options` parameter as PostgreSQL's `pg_split_opts` does: white space separates, a
/// backslash keeps the next character; `-c name=value`, `-cname=value` and `--name=value`.
fn options(value: &str) -> Result<Vec<(String, String)>, StartupError> {
    let mut words = split_words(value).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next().ok_or(StartupError::Options)?
        } else if let Some(rest) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            rest.to_owned()
        } else {
            return Err(StartupError::Options);
        };
        let (name, value) = setting.split_once('=').ok_or(StartupError::Options)?;
        if name.is_empty() {
            return Err(StartupError::Options);
        }
        // The server takes a dash in a long option's name for an underscore.
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn split_words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut open = false;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c.is_ascii_whitespace() {
            if std::mem::take(&mut open) {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        open = true;
        word.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    if open {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::frontend::put_startup;

    fn packet(parameters: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        put_startup(&mut out, parameters.iter().copied());
        out
    }

    fn login_of(parameters: &[(&str, &str)]) -> Result<LoginRequest, StartupError> {
        match parse(&packet(parameters))? {
            Startup::Login(request) => Ok(request),
            Startup::Cancel { .. } | Startup::Ssl | Startup::GssEnc => panic!("no login"),
        }
    }

    #[test]
    fn database_is_the_user_unless_it_is_named() {
        assert_eq!(login_of(&[("user", "ann")]).unwrap().database, "ann");
        assert_eq!(login_of(&[("user", "ann"), ("database", "db")]).unwrap().database, "db");
    }

    /// P79: options in all their forms become settings.
    #[test]
    fn options_are_split_as_the_server_splits_them() {
        let request = login_of(&[
            ("user", "ann"),
            ("options", r"-c search_path=a,\ b -cwork_mem=1MB  --statement-timeout=5s"),
            ("application_name", ""),
        ])
        .unwrap();

        let settings: Vec<_> =
            request.settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            settings,
            [
                ("search_path", "a, b"),
                ("work_mem", "1MB"),
                ("statement_timeout", "5s"),
                ("application_name", ""),
            ]
        );
    }

    #[test]
    fn options_that_are_no_settings_are_refused() {
        for bad in ["-d 5", "-c", "-c x", "--", "-c =1", "x=1"] {
            assert_eq!(
                login_of(&[("user", "a"), ("options", bad)]),
                Err(StartupError::Options),
                "{bad}"
            );
        }
    }

    /// P11: no terminator, bytes behind it, no user.
    #[test]
    fn broken_packets_get_a_precise_error() {
        assert_eq!(login_of(&[]), Err(StartupError::NoUser));
        let mut longer = packet(&[("user", "ann")]);
        longer.push(b'x');
        assert!(matches!(parse(&longer), Err(StartupError::Layout { .. })));
        let whole = packet(&[("user", "ann")]);
        for cut in 8..whole.len() {
            assert!(matches!(parse(&whole[..cut]), Err(StartupError::Layout { .. })), "{cut}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(length(b"\0\0"), Ok(None));
        assert_eq!(length(b"\0\0\0\x07"), Err(StartupError::Length { len: 7 }));
        assert_eq!(length(b"\x80\0\0\0"), Err(StartupError::Length { len: 1 << 31 }));
        assert_eq!(length(b"\0\0\0\x08"), Ok(Some(8)));
    }

    #[test]
    fn version_2_is_refused() {
        let error = parse(b"\0\0\0\x08\0\x02\0\0").unwrap_err();
        assert_eq!(error, StartupError::Version { major: 2, minor: 0 });
    }

    proptest! {
        #[test]
        fn no_packet_panics(packet in prop::collection::vec(any::<u8>(), 0..200)) {
            let _startup = parse(&packet);
        }

        #[test]
        fn no_options_panic(value in ".*") {
            let _settings = options(&value);
        }
    }
}
