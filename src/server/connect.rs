//! Opening a connection to `PostgreSQL` and logging in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

pub use super::connect_error::ConnectError;
use super::encrypt::Way;
use super::endpoint::Endpoint;
use super::exchange::Exchange;
use super::opening::Opening;
use super::parameters::Parameters;
use super::record::{BackendKey, ServerRecord};
use super::server::Server;
use super::statements::Statements;
use super::texts::Texts;
use crate::auth::{Answer, ServerLogin, ServerSecret};
use crate::net::resolve::Address;
use crate::net::stream::Stream;
use crate::pool::core::{Home, ServerId, Site};
use crate::state::settings::Settings;
use crate::tls::Ladder;
use crate::wire::error_response::ErrorFields;
use crate::wire::version::Version;
use crate::wire::{backend, frame, frontend, startup};

/// Where to connect, and as whom.
#[derive(Debug, Clone)]
pub struct Target {
    pub host: Arc<Endpoint>,
    /// The same, by its place in the domain.
    pub site: Site,
    pub tls: Ladder,
    pub database: Arc<str>,
    pub user: Arc<str>,
    pub secret: ServerSecret,
    /// Startup parameters beside user and database.
    pub options: Arc<[(String, String)]>,
    /// Run on each new server; empty: nothing.
    pub connect_query: Arc<str>,
    pub connect_timeout: Duration,
}

/// The longest message that a server may send during its login, in bytes.
const LOGIN_MESSAGE_MAX: usize = 64 * 1024;

/// Bytes of notices during the login that are kept.
const NOTICES_MAX: usize = 16 * 1024;

/// Connects and logs in within `target.connect_timeout`: a plain server, or one for `opening`.
///
/// Cancel-safe: dropping the future closes the connection.
pub async fn connect(
    target: &Target,
    opening: Option<&Arc<Opening>>,
    id: ServerId,
    home: Home,
) -> Result<Server, ConnectError> {
    let after = target.connect_timeout;
    timeout(after, Box::pin(climb(target, opening, id, home))).await.unwrap_or_else(|_elapsed| {
        let is_as_asked = opening.is_some_and(|opening| opening.delays());
        Err(if is_as_asked {
            ConnectError::SlowStart { after }
        } else {
            ConnectError::Timeout { after }
        })
    })
}

/// Tries the first step of `target.tls`, and the next one if encryption was the matter.
async fn climb(
    target: &Target,
    opening: Option<&Arc<Opening>>,
    id: ServerId,
    home: Home,
) -> Result<Server, ConnectError> {
    let (first, second) = target.tls.steps();
    let mut way = Way::new(first);
    let failed = match connect_in_some_version(target, opening, &mut way, id, home).await {
        Ok(server) => return Ok(server),
        Err(error) => error,
    };
    let Some(second) = second.filter(|_| way.was_the_matter(&failed)) else { return Err(failed) };
    tracing::debug!(host = %target.host, error = %failed, step = ?second, "encrypting otherwise");
    way = Way::new(second);
    let result = connect_in_some_version(target, opening, &mut way, id, home).await;
    // Where both are barred, what bars the one that the mode prefers tells more.
    result.map_err(|error| if way.is_open(&error) { error } else { failed })
}

/// Asks for the newest version, and for 3.0 at once where that is refused.
async fn connect_in_some_version(
    target: &Target,
    opening: Option<&Arc<Opening>>,
    way: &mut Way,
    id: ServerId,
    home: Home,
) -> Result<Server, ConnectError> {
    let mut attempt = Attempt::new(target.host.dialect.to_ask(Instant::now()));
    match connect_and_log_in(target, opening, way, &mut attempt, id, home).await {
        Err(error) if attempt.may_ask_for_less() && error.may_refuse_version() => {
            tracing::debug!(host = %target.host, %error, "asking for protocol 3.0");
        }
        result => return result,
    }
    attempt = Attempt::new(Version::V3_0);
    let result = connect_and_log_in(target, opening, way, &mut attempt, id, home).await;
    if attempt.has_begun {
        target.host.dialect.refuses_newer(Instant::now());
    }
    result
}

/// One try to log in.
struct Attempt {
    version: Version,
    /// The server went into it, whatever came of that.
    has_begun: bool,
}

impl Attempt {
    const fn new(version: Version) -> Self {
        Self { version, has_begun: false }
    }

    fn may_ask_for_less(&self) -> bool {
        self.version > Version::V3_0 && !self.has_begun
    }
}

async fn connect_and_log_in(
    target: &Target,
    opening: Option<&Arc<Opening>>,
    way: &mut Way,
    attempt: &mut Attempt,
    id: ServerId,
    home: Home,
) -> Result<Server, ConnectError> {
    let mut out = Vec::with_capacity(256);
    let fixed = [("user", &*target.user), ("database", &*target.database)];
    match opening {
        None => {
            let options = target.options.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            frontend::put_startup(&mut out, attempt.version, fixed.into_iter().chain(options));
        }
        Some(opening) => {
            let own = opening.startup(&target.options);
            let own = own.iter().map(|(name, value)| (*name, value.as_str()));
            frontend::put_startup(&mut out, attempt.version, fixed.into_iter().chain(own));
        }
    }
    if out.len() > startup::MAX_LEN as usize {
        // PostgreSQL would close the connection without a word.
        return Err(ConnectError::TooLong { len: out.len() });
    }
    let mut stream = way.open(&target.host, &target.tls).await?;
    stream.write_all(&out).await?;

    let mut login = Login {
        auth: ServerLogin::new(&*target.user, target.secret.clone()),
        version: attempt.version,
        has_negotiated: false,
        is_authenticated: false,
        parameters: Parameters::default(),
        key: None,
        notices: Vec::new(),
    };
    let mut messages = Messages::default();
    loop {
        let (tag, body) = messages.next(&mut stream).await?;
        attempt.has_begun |= matches!(tag, b'R' | b'v');
        match login.on_message(tag, &body)? {
            LoginStep::Read => {}
            LoginStep::Send(bytes) => stream.write_all(&bytes).await?,
            LoginStep::Ready => break,
        }
    }
    let mut server = login.into_server((target, opening), id, home, (stream, way.address));
    server.inbox = messages.buf;
    // A connection for physical replication understands no SQL.
    let is_for_replication = opening.is_some_and(|opening| opening.replication.is_some());
    if !target.connect_query.is_empty() && !is_for_replication {
        let run = server.command(&target.connect_query, target.connect_timeout).await;
        run.map_err(|source| ConnectError::ConnectQuery { source })?;
    }
    Ok(server)
}

struct Login {
    auth: ServerLogin,
    /// What was asked for.
    version: Version,
    has_negotiated: bool,
    is_authenticated: bool,
    parameters: Parameters,
    key: Option<BackendKey>,
    notices: Vec<u8>,
}

enum LoginStep {
    Read,
    Send(Vec<u8>),
    Ready,
}

impl Login {
    fn on_message(&mut self, tag: u8, body: &[u8]) -> Result<LoginStep, ConnectError> {
        let broken = |problem| Err(ConnectError::Protocol { problem });
        match tag {
            b'E' => Err(ConnectError::Refused {
                message: ErrorFields::parse(body).to_message(),
                body: body.into(),
            }),
            b'R' if !self.is_authenticated => match self.auth.on_authentication(body)? {
                Answer::Nothing => Ok(LoginStep::Read),
                Answer::Send(bytes) => Ok(LoginStep::Send(bytes)),
                Answer::Done => {
                    self.is_authenticated = true;
                    Ok(LoginStep::Read)
                }
            },
            b'N' => {
                if self.notices.len() + body.len() <= NOTICES_MAX {
                    frame::put(&mut self.notices, tag, |out| out.extend_from_slice(body));
                }
                Ok(LoginStep::Read)
            }
            b'v' if !self.is_authenticated && !self.has_negotiated => self.on_negotiation(body),
            _ if !self.is_authenticated => broken("a message before authentication was over"),
            b'S' => {
                if let Some((name, value)) = backend::parameter_status(body) {
                    let text = |bytes| String::from_utf8_lossy(bytes);
                    self.parameters.note(&text(name), &text(value));
                }
                Ok(LoginStep::Read)
            }
            b'K' => {
                let Some((process_id, secret)) = backend::backend_key(body) else {
                    return broken("a malformed BackendKeyData");
                };
                self.key = Some(BackendKey { process_id, secret: secret.into() });
                Ok(LoginStep::Read)
            }
            b'Z' => Ok(LoginStep::Ready),
            _ => broken("a message that has no place in a login"),
        }
    }

    /// The server speaks an older version than it was asked for. It knows no protocol options, of
    /// which it was asked for none.
    fn on_negotiation(&mut self, body: &[u8]) -> Result<LoginStep, ConnectError> {
        self.has_negotiated = true;
        match backend::negotiated(body) {
            Some(answer) if answer.version <= self.version && answer.unknown == 0 => {
                Ok(LoginStep::Read)
            }
            Some(_) => {
                Err(ConnectError::Protocol { problem: "it negotiated what it was not asked for" })
            }
            None => Err(ConnectError::Protocol { problem: "a malformed NegotiateProtocolVersion" }),
        }
    }

    fn into_server(
        self,
        (target, opening): (&Target, Option<&Arc<Opening>>),
        id: ServerId,
        home: Home,
        (stream, address): (Stream, Option<Address>),
    ) -> Server {
        // A server without a key cannot be cancelled, and is fine otherwise.
        let key = self.key.unwrap_or_else(|| BackendKey { process_id: 0, secret: Box::default() });
        let host = (Arc::clone(&target.host), target.site);
        let mut record = ServerRecord::new(id, host, key, &stream, &target.tls);
        record.address = address;
        record.replication = opening.and_then(|opening| Some(opening.replication?.0));
        Server {
            record: Arc::new(record),
            home,
            stream,
            exchange: Exchange::default(),
            statements: Statements::default(),
            base: Arc::new(self.parameters.clone()),
            parameters: self.parameters,
            applied: Arc::new(Settings::default()),
            applied_is_unknown: false,
            opening: opening.map(Arc::clone),
            notices: self.notices,
            inbox: Vec::new(),
            outbox: Vec::new(),
            made_up: VecDeque::new(),
            is_shared: false,
            is_dirty: false,
            is_worn: false,
            texts: Texts::default(),
            generation: 0,
            expires: None,
            last_used: Instant::now(),
        }
    }
}

/// Reads whole messages during login.
#[derive(Default)]
struct Messages {
    buf: Vec<u8>,
}

impl Messages {
    async fn next(&mut self, stream: &mut Stream) -> Result<(u8, Vec<u8>), ConnectError> {
        let mut chunk = [0; 1024];
        loop {
            let head = frame::head(&self.buf, LOGIN_MESSAGE_MAX)
                .map_err(|_error| ConnectError::Protocol { problem: "an impossible length" })?;
            if let Some(head) = head.filter(|head| self.buf.len() >= head.len) {
                let frame: Vec<u8> = self.buf.drain(..head.len).collect();
                return Ok((head.tag, frame.get(frame::HEAD..).unwrap_or_default().to_vec()));
            }
            match stream.read(&mut chunk).await? {
                0 => return Err(ConnectError::Closed),
                n => self.buf.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            }
        }
    }
}
