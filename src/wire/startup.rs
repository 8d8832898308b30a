//! The packet in front of everything: startup, cancel, or a wish for encryption.

use thiserror::Error;

use super::frame::take_text;
use super::version::Version;

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
    /// The protocol version that was asked for.
    pub version: Version,
    pub user: String,
    /// The user's name if the client named none.
    pub database: String,
    /// `None`: an ordinary connection.
    pub replication: Option<Replication>,
    /// The parameters beside those above, as the client spells them and in its order.
    pub parameters: Vec<(String, String)>,
    /// Command-line options for the server, as the client wrote them.
    pub options: String,
    /// Settings of ours (`pgweir.…`), by parameter or in the options. No server is sent these.
    pub own: Vec<(String, String)>,
    /// `_pq_.` protocol options, none of which we know.
    pub protocol_options: Vec<String>,
}

/// What kind of replication connection a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    Physical,
    /// To one database, where SQL is understood as well.
    Logical,
}

impl Replication {
    /// What the console calls it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Physical => "physical",
            Self::Logical => "logical",
        }
    }
}

/// A startup packet that no login can follow.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum StartupError {
    #[error("invalid length of startup packet: {len}")]
    Length { len: u32 },
    #[error(
        "unsupported frontend protocol {major}.{minor}: server supports 3.0 to {newest}",
        newest = Version::NEWEST
    )]
    Version { major: u32, minor: u32 },
    #[error("invalid startup packet layout: {problem}")]
    Layout { problem: &'static str },
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    #[error(
        "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"
    )]
    Options,
    #[error("invalid value for parameter \"replication\": \"{value}\"")]
    Replication { value: String },
}

impl StartupError {
    /// A code that stands where a version should.
    pub const fn of_version(code: u32) -> Self {
        Self::Version { major: code >> 16, minor: code & 0xffff }
    }
}

/// How the names of our own settings begin.
const OWN: &str = "pgweir.";

impl LoginRequest {
    /// True if the client has to be told that it does not get all that it asked for.
    pub fn must_negotiate(&self) -> bool {
        self.version.agreed() != self.version || !self.protocol_options.is_empty()
    }

    /// Settings in the order in which PostgreSQL applies them: those inside `options`, and then the
    /// parameters.
    pub fn settings(&self) -> Result<Vec<(String, String)>, StartupError> {
        let mut settings = Vec::new();
        for switch in switches(&self.options) {
            settings.push(switch.setting.ok_or(StartupError::Options)?);
        }
        settings.extend(self.parameters.iter().cloned());
        Ok(settings)
    }

    /// The value of a setting of ours; the last one counts.
    pub fn own(&self, name: &str) -> Option<&str> {
        let found = self.own.iter().rev().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    fn take_options(&mut self, value: String) {
        let is_own =
            |switch: &Switch| switch.setting.as_ref().is_some_and(|(name, _)| is_own_setting(name));
        let switches = switches(&value);
        if !switches.iter().any(is_own) {
            self.options = value;
            return;
        }
        let (own, others): (Vec<_>, Vec<_>) = switches.into_iter().partition(is_own);
        let own = own.into_iter().filter_map(|switch| switch.setting);
        self.own.extend(own.map(|(name, value)| (name.to_ascii_lowercase(), value)));
        let words: Vec<_> = others.iter().flat_map(|switch| &switch.words).collect();
        self.options = words.iter().map(|word| quote_option(word)).collect::<Vec<_>>().join(" ");
    }
}

fn is_own_setting(name: &str) -> bool {
    name.get(..OWN.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN))
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
        code => match Version::from_code(code) {
            Some(version) => login(version, body).map(Startup::Login),
            None => Err(StartupError::of_version(code)),
        },
    }
}

fn login(version: Version, mut body: &[u8]) -> Result<LoginRequest, StartupError> {
    let layout = |problem| StartupError::Layout { problem };
    let mut request = LoginRequest { version, ..LoginRequest::default() };
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
            "replication" => request.replication = replication(value)?,
            "options" => request.take_options(value),
            _ if name.starts_with("_pq_.") => request.protocol_options.push(name),
            _ if is_own_setting(&name) => request.own.push((name.to_ascii_lowercase(), value)),
            _ => request.parameters.push((name, value)),
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

/// `database`, or a Boolean as PostgreSQL spells it.
fn replication(value: String) -> Result<Option<Replication>, StartupError> {
    if value == "database" {
        return Ok(Some(Replication::Logical));
    }
    let is_wanted = boolean(&value).ok_or(StartupError::Replication { value })?;
    Ok(is_wanted.then_some(Replication::Physical))
}

/// A Boolean in any of PostgreSQL's spellings: a word may be cut where it stays unique.
fn boolean(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let is_start_of = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    if text == "1" || is_start_of("true", 1) || is_start_of("yes", 1) || is_start_of("on", 2) {
        Some(true)
    } else if text == "0"
        || is_start_of("false", 1)
        || is_start_of("no", 1)
        || is_start_of("off", 2)
    {
        Some(false)
    } else {
        None
    }
}

/// A switch of a command line, with the word behind it that belongs to it.
struct Switch {
    words: Vec<String>,
    /// `None`: it is no setting, or a malformed one.
    setting: Option<(String, String)>,
}

/// Splits the `options` parameter as PostgreSQL does: white space separates, a backslash keeps the
/// next character; `-c name=value`, `-cname=value` and `--name=value` are settings.
fn switches(value: &str) -> Vec<Switch> {
    let mut words = split_options(value).into_iter();
    let mut switches = Vec::new();
    while let Some(word) = words.next() {
        let mut words =
            if word == "-c" { vec![word, words.next().unwrap_or_default()] } else { vec![word] };
        words.retain(|word| !word.is_empty());
        let text = match words.as_slice() {
            [dash, text] if dash == "-c" => Some(text.as_str()),
            [word] => word.strip_prefix("--").or_else(|| word.strip_prefix("-c")),
            _ => None,
        };
        let pair = text.and_then(|text| text.split_once('=')).filter(|(name, _)| !name.is_empty());
        // The server takes a dash in an option's name for an underscore.
        let setting = pair.map(|(name, value)| (name.replace('-', "_"), value.to_owned()));
        switches.push(Switch { words, setting });
    }
    switches
}

/// The words of the `options` parameter.
pub fn split_options(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut open = false;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if is_space(c) {
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

/// White space as C has it.
const fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

/// A word as it stands in `options`.
pub fn quote_option(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        if is_space(c) || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::frontend::put_startup;

    fn packet(parameters: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        put_startup(&mut out, Version::V3_0, parameters.iter().copied());
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

        let settings = request.settings().unwrap();
        let settings: Vec<_> = settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
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
            let request = login_of(&[("user", "a"), ("options", bad)]).unwrap();
            assert_eq!(request.settings(), Err(StartupError::Options), "{bad}");
            // A server that is the client's alone says what it thinks of them.
            assert_eq!(request.options, bad);
        }
    }

    #[test]
    fn settings_of_our_own_are_kept_from_the_server() {
        let request = login_of(&[
            ("user", "ann"),
            ("options", r"-c search_path=a,\ b -c PGWEIR.domain=x --pgweir.mode=y -d 5 -cx=\\"),
            ("pgweir.domain", "z"),
        ])
        .unwrap();

        assert_eq!(request.own("pgweir.domain"), Some("z"));
        assert_eq!(request.own("pgweir.mode"), Some("y"));
        assert_eq!(request.options, r"-c search_path=a,\ b -d 5 -cx=\\");
        assert_eq!(request.parameters, []);
    }

    /// P59: PostgreSQL's own rule for what makes a replication connection.
    #[test]
    fn replication_is_a_boolean_or_a_database() {
        let of = |value| login_of(&[("user", "a"), ("replication", value)]).map(|r| r.replication);
        for physical in ["true", "t", "TRUE", "on", "yes", "y", "1"] {
            assert_eq!(of(physical), Ok(Some(Replication::Physical)), "{physical}");
        }
        for none in ["false", "f", "off", "of", "no", "n", "0"] {
            assert_eq!(of(none), Ok(None), "{none}");
        }
        assert_eq!(of("database"), Ok(Some(Replication::Logical)));
        for bad in ["", "o", "2", "Database", "truest"] {
            assert_eq!(of(bad), Err(StartupError::Replication { value: bad.into() }), "{bad}");
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

    /// P16: PostgreSQL's own rule, of which 3.1 is a part.
    #[test]
    fn only_what_is_not_given_as_asked_for_is_negotiated() {
        let request = |minor: u8, more: &[(&str, &str)]| {
            let mut packet = packet(&[&[("user", "ann")], more].concat());
            packet[7] = minor;
            match parse(&packet) {
                Ok(Startup::Login(request)) => request,
                other => panic!("{other:?}"),
            }
        };
        for (minor, negotiates) in [(0, false), (1, false), (2, false), (3, true), (255, true)] {
            assert_eq!(request(minor, &[]).must_negotiate(), negotiates, "3.{minor}");
            let asks = request(minor, &[("_pq_.b", "1"), ("_pq_.a", "2")]);
            assert!(asks.must_negotiate());
            assert_eq!(asks.protocol_options, ["_pq_.b", "_pq_.a"]);
        }
    }

    #[test]
    fn cancel_keys_of_4_to_256_bytes_are_read() {
        for len in [4, 32, 256] {
            let mut packet = Vec::new();
            crate::wire::frontend::put_cancel(&mut packet, 42, &vec![7; len]);
            let secret = vec![7; len];
            assert_eq!(parse(&packet), Ok(Startup::Cancel { process_id: 42, secret }));
        }
        for len in [0, 3, 257] {
            let mut packet = Vec::new();
            crate::wire::frontend::put_cancel(&mut packet, 42, &vec![7; len]);
            assert!(matches!(parse(&packet), Err(StartupError::Layout { .. })), "{len}");
        }
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
            let mut request = LoginRequest::default();
            request.take_options(value.clone());
            let _settings = request.settings();
            let words: Vec<_> = split_options(&value).iter().map(|w| quote_option(w)).collect();
            prop_assert_eq!(split_options(&words.join(" ")), split_options(&value));
        }
    }
}
