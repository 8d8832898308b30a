//! Our login to a server: what we answer to what it asks.

use std::fmt;
use std::io;

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use thiserror::Error;

use super::Md5Secret;
use crate::config::Secret;

/// What we have to log in with.
#[derive(Debug, Clone)]
pub enum ServerSecret {
    None,
    Plain(Secret),
    /// Enough for a server that asks for md5.
    Md5(Md5Secret),
    /// The users file holds a SCRAM verifier, which checks a password and cannot replace one.
    VerifierOnly,
}

/// What the server's message calls for.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the server may wait for it"]
pub enum Answer {
    /// Go on reading.
    Nothing,
    /// Send this whole message.
    Send(Vec<u8>),
    /// We are in, and the server has proved itself if it could.
    Done,
}

/// Why we do not go on with a login to a server. Never holds a secret.
#[derive(Debug, Error)]
pub enum ServerAuthError {
    #[error("the server asks for a password ({method}) and none is configured")]
    NoSecret { method: &'static str },
    #[error(
        "the server asks for {method}, which needs the password in clear; configured is {}",
        if *.verifier { "only a SCRAM verifier" } else { "only an md5 hash" }
    )]
    NeedsPlain { method: &'static str, verifier: bool },
    #[error("the server asks for {method}, which is not supported")]
    Unsupported { method: &'static str },
    #[error("the server asks for authentication of an unknown kind ({code})")]
    UnknownKind { code: u32 },
    #[error("the server offers no SASL mechanism that is supported: {offered}")]
    Mechanism { offered: String },
    #[error("an authentication message of {len} bytes, more than {MESSAGE_LEN_MAX}")]
    TooLong { len: usize },
    #[error("the server sent a truncated authentication message")]
    Truncated,
    #[error("the server sent {what} out of order")]
    OutOfOrder { what: &'static str },
    #[error("the server asks for {asked} SCRAM iterations, more than {ITERATIONS_MAX}")]
    Iterations { asked: u64 },
    #[error("the server let us in without proving that it knows the password")]
    Unproven,
    #[error("the password cannot be sent")]
    Unsendable(#[source] io::Error),
    #[error("the SCRAM exchange failed")]
    Scram(#[source] io::Error),
}

/// The login of one connection, fed with the bodies of the server's `Authentication…` messages.
///
/// After an error every further message is an error.
#[derive(Debug)]
pub struct ServerLogin {
    user: String,
    secret: ServerSecret,
    state: State,
}

/// Where the login is.
enum State {
    /// Nothing was asked yet.
    Start,
    /// The password went out.
    Answered,
    /// The client's first SCRAM message went out.
    ScramFirst(ScramSha256),
    /// The proof went out; the server's is awaited.
    ScramFinal(ScramSha256),
    /// The server has proved itself.
    Proven,
    /// Let in, or failed.
    Over,
}

impl State {
    const fn name(&self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::Answered => "Answered",
            Self::ScramFirst(_) => "ScramFirst",
            Self::ScramFinal(_) => "ScramFinal",
            Self::Proven => "Proven",
            Self::Over => "Over",
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ServerLogin {
    pub fn new(user: impl Into<String>, secret: ServerSecret) -> Self {
        Self { user: user.into(), secret, state: State::Start }
    }

    /// Takes the body of an `Authentication…` message (`R`).
    ///
    /// SCRAM costs a PBKDF2 with the iterations that the server asks for, within a bound.
    pub fn on_authentication(&mut self, body: &[u8]) -> Result<Answer, ServerAuthError> {
        if body.len() > MESSAGE_LEN_MAX {
            self.state = State::Over;
            return Err(ServerAuthError::TooLong { len: body.len() });
        }
        let (code, payload) = body.split_first_chunk().ok_or(ServerAuthError::Truncated)?;
        let state = std::mem::replace(&mut self.state, State::Over);
        let (answer, state) = match (u32::from_be_bytes(*code), state) {
            (OK, State::Start | State::Answered | State::Proven) => (Answer::Done, State::Over),
            (OK, State::ScramFirst(_) | State::ScramFinal(_)) => {
                return Err(ServerAuthError::Unproven);
            }
            (CLEARTEXT_PASSWORD, State::Start) => (self.cleartext()?, State::Answered),
            (MD5_PASSWORD, State::Start) => (self.md5(payload)?, State::Answered),
            (SASL, State::Start) => self.scram_first(payload)?,
            (SASL_CONTINUE, State::ScramFirst(client)) => scram_proof(client, payload)?,
            (SASL_FINAL, State::ScramFinal(mut client)) => {
                client.finish(payload).map_err(ServerAuthError::Scram)?;
                (Answer::Nothing, State::Proven)
            }
            (code, _) => return Err(refused(code)),
        };
        self.state = state;
        Ok(answer)
    }

    fn cleartext(&self) -> Result<Answer, ServerAuthError> {
        let password = self.plain("the password in clear")?;
        send(|frame| frontend::password_message(password.expose().as_bytes(), frame))
    }

    fn md5(&self, payload: &[u8]) -> Result<Answer, ServerAuthError> {
        let salt = *payload.first_chunk().ok_or(ServerAuthError::Truncated)?;
        let answer = match &self.secret {
            ServerSecret::Md5(hash) => hash.answer(salt),
            ServerSecret::None | ServerSecret::Plain(_) | ServerSecret::VerifierOnly => {
                let password = self.plain("md5")?;
                md5_hash(self.user.as_bytes(), password.expose().as_bytes(), salt)
            }
        };
        send(|frame| frontend::password_message(answer.as_bytes(), frame))
    }

    fn scram_first(&self, payload: &[u8]) -> Result<(Answer, State), ServerAuthError> {
        // -PLUS may stand beside it: without TLS there is no channel to bind to.
        if !payload.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) {
            let offered = String::from_utf8_lossy(payload).replace('\0', " ");
            let offered = offered.trim_end().chars().take(OFFERED_LEN_MAX).collect();
            return Err(ServerAuthError::Mechanism { offered });
        }
        let password = self.plain("scram-sha-256")?;
        let client = ScramSha256::new(password.expose().as_bytes(), ChannelBinding::unsupported());
        let answer =
            send(|frame| frontend::sasl_initial_response(SCRAM_SHA_256, client.message(), frame))?;
        Ok((answer, State::ScramFirst(client)))
    }

    fn plain(&self, method: &'static str) -> Result<&Secret, ServerAuthError> {
        match &self.secret {
            ServerSecret::Plain(secret) => Ok(secret),
            ServerSecret::None => Err(ServerAuthError::NoSecret { method }),
            ServerSecret::Md5(_) => Err(ServerAuthError::NeedsPlain { method, verifier: false }),
            ServerSecret::VerifierOnly => {
                Err(ServerAuthError::NeedsPlain { method, verifier: true })
            }
        }
    }
}

fn scram_proof(
    mut client: ScramSha256,
    payload: &[u8],
) -> Result<(Answer, State), ServerAuthError> {
    check_iterations(payload)?;
    client.update(payload).map_err(ServerAuthError::Scram)?;
    let answer = send(|frame| frontend::sasl_response(client.message(), frame))?;
    Ok((answer, State::ScramFinal(client)))
}

/// A malicious server could keep a worker busy with PBKDF2 for minutes (P2). The library has the
/// same bound; here it gets its name.
fn check_iterations(server_first: &[u8]) -> Result<(), ServerAuthError> {
    let mut fields = server_first.split(|byte| *byte == b',');
    let asked = fields
        .find_map(|field| field.strip_prefix(b"i="))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse::<u64>().ok());
    match asked {
        Some(asked) if asked > ITERATIONS_MAX => Err(ServerAuthError::Iterations { asked }),
        // What is not a number is the library's to name.
        Some(_) | None => Ok(()),
    }
}

/// Why a message that fits no state is refused.
fn refused(code: u32) -> ServerAuthError {
    let unsupported = |method| ServerAuthError::Unsupported { method };
    let out_of_order = |what| ServerAuthError::OutOfOrder { what };
    match code {
        OK => out_of_order("AuthenticationOk"),
        2 => unsupported("Kerberos V5"),
        CLEARTEXT_PASSWORD => out_of_order("AuthenticationCleartextPassword"),
        MD5_PASSWORD => out_of_order("AuthenticationMD5Password"),
        6 => unsupported("SCM credentials"),
        7 | 8 => unsupported("GSSAPI"),
        9 => unsupported("SSPI"),
        SASL => out_of_order("AuthenticationSASL"),
        SASL_CONTINUE => out_of_order("AuthenticationSASLContinue"),
        SASL_FINAL => out_of_order("AuthenticationSASLFinal"),
        code => ServerAuthError::UnknownKind { code },
    }
}

fn send(write: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<Answer, ServerAuthError> {
    let mut frame = BytesMut::new();
    write(&mut frame).map_err(ServerAuthError::Unsendable)?;
    Ok(Answer::Send(frame.to_vec()))
}

// Authentication message codes (PostgreSQL documentation, 55.7).
const OK: u32 = 0;
const CLEARTEXT_PASSWORD: u32 = 3;
const MD5_PASSWORD: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// Far beyond what any server sends, in bytes.
const MESSAGE_LEN_MAX: usize = 16 * 1024;
/// About 50 ms of PBKDF2; `PostgreSQL`'s default is 4096.
const ITERATIONS_MAX: u64 = 100_000;
const OFFERED_LEN_MAX: usize = 200;

#[cfg(test)]
mod tests;
