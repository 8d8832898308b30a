//! A client's login: what it is asked for, and whether the answer lets it in.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use super::scram::SCRAM_SHA_256;
use super::{AwaitFinal, Md5Secret, ScramError, ScramServer, ScramVerifier, StoredSecret};
use crate::config::AuthMethod;
use crate::error::{ClientFacing, ClientMessage, Fault, SqlState};

/// What is known of the user that a client names.
#[derive(Debug, Clone, Copy)]
pub enum Account<'a> {
    /// No users file is configured: under `trust` everybody is let in, otherwise nobody.
    NoUsersFile,
    /// The users file does not name this user.
    Unknown,
    Known(&'a StoredSecret),
}

/// The randomness of one login.
#[derive(Clone)]
pub struct Entropy {
    mock_key: [u8; 32],
    nonce: [u8; 18],
    md5_salt: [u8; 4],
}

impl Entropy {
    /// How many fresh random bytes a login needs.
    pub const LEN: usize = 22;

    /// `mock_key` is drawn once per process; `random` for each login.
    pub fn new(mock_key: [u8; 32], random: [u8; Self::LEN]) -> Self {
        let mut bytes = random.into_iter();
        let mut next = || bytes.next().unwrap_or_default();
        Self {
            mock_key,
            nonce: std::array::from_fn(|_| next()),
            md5_salt: std::array::from_fn(|_| next()),
        }
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(***)")
    }
}

/// What to do next in a login.
#[derive(Debug)]
#[must_use = "the client waits for it"]
pub enum Step {
    /// Send this `Authentication…` message and feed the body of the client's next
    /// `PasswordMessage` to `next`.
    Send { frame: Vec<u8>, next: Login },
    /// The client is who it says. `last`, if any, goes before `AuthenticationOk`.
    Done { last: Option<Vec<u8>> },
    /// Tell the client and close.
    Refuse(LoginRefusal),
}

/// A login that waits for the client's next `PasswordMessage`.
///
/// A user who cannot be let in is asked the same questions as one who can (P14). Two differences
/// remain: under `md5` a user with a stored SCRAM verifier is asked for SCRAM, an unknown one for
/// md5; and the first SCRAM login of a user with a plain secret takes a PBKDF2 longer.
#[derive(Debug)]
pub struct Login {
    user: String,
    /// Why the client cannot be let in whatever it answers.
    doom: Option<RefusalReason>,
    awaited: Awaited,
}

/// What the next `PasswordMessage` is.
#[derive(Debug)]
enum Awaited {
    /// The password in clear, to be checked against this. `None`: doomed.
    Cleartext(Option<StoredSecret>),
    /// The answer to an md5 challenge with this salt.
    Md5 { salt: [u8; 4], secret: Option<Md5Secret> },
    /// `SASLInitialResponse`: the mechanism, and as a rule the first SCRAM message.
    Mechanism(ScramServer),
    /// The first SCRAM message of a client that chose the mechanism without one.
    ClientFirst(ScramServer),
    /// The last SCRAM message.
    ClientFinal(AwaitFinal),
}

impl Login {
    /// Begins the login of `user` under the configured method.
    ///
    /// A stored SCRAM verifier turns `md5` into SCRAM; a stored md5 hash cannot do SCRAM and is
    /// refused after the exchange.
    pub fn start(method: AuthMethod, user: &str, account: Account<'_>, entropy: &Entropy) -> Step {
        let (known, doom) = match account {
            Account::NoUsersFile => (None, Some(RefusalReason::NoUsersFile)),
            Account::Unknown => (None, Some(RefusalReason::UnknownUser)),
            Account::Known(secret) => (Some(secret), None),
        };
        match method {
            AuthMethod::Trust => match account {
                Account::NoUsersFile | Account::Known(_) => Step::Done { last: None },
                Account::Unknown => refuse(user.to_owned(), RefusalReason::UnknownToTrust),
            },
            AuthMethod::Plain => Self::ask_cleartext(user, known, doom),
            AuthMethod::Md5 => Self::ask_md5(user, known, doom, entropy),
            AuthMethod::ScramSha256 => Self::ask_scram(user, known, doom, entropy),
        }
    }

    fn ask_cleartext(
        user: &str,
        known: Option<&StoredSecret>,
        doom: Option<RefusalReason>,
    ) -> Step {
        let awaited = Awaited::Cleartext(known.cloned());
        Self::ask(user, doom, awaited, authentication(CLEARTEXT_PASSWORD, b""))
    }

    fn ask_md5(
        user: &str,
        known: Option<&StoredSecret>,
        doom: Option<RefusalReason>,
        entropy: &Entropy,
    ) -> Step {
        let salt = entropy.md5_salt;
        let (secret, doom) = match known {
            Some(StoredSecret::Scram(_)) => return Self::ask_scram(user, known, doom, entropy),
            Some(StoredSecret::Plain(plain)) if plain.is_empty() => {
                (None, Some(RefusalReason::EmptySecret))
            }
            Some(StoredSecret::Plain(plain)) => {
                (Some(Md5Secret::derive(user, plain.secret().expose().as_bytes())), doom)
            }
            Some(StoredSecret::Md5(hash)) => (Some(*hash), doom),
            None => (None, doom),
        };
        Self::ask(user, doom, Awaited::Md5 { salt, secret }, authentication(MD5_PASSWORD, &salt))
    }

    fn ask_scram(
        user: &str,
        known: Option<&StoredSecret>,
        doom: Option<RefusalReason>,
        entropy: &Entropy,
    ) -> Step {
        let verifier: Result<Arc<ScramVerifier>, RefusalReason> = match known {
            Some(StoredSecret::Scram(verifier)) => Ok(Arc::clone(verifier)),
            Some(StoredSecret::Plain(plain)) if plain.is_empty() => Err(RefusalReason::EmptySecret),
            Some(StoredSecret::Plain(plain)) => Ok(plain.verifier()),
            Some(StoredSecret::Md5(_)) => Err(RefusalReason::Md5CannotScram),
            None => Err(doom.unwrap_or(RefusalReason::UnknownUser)),
        };
        let (server, doom) = match verifier {
            Ok(verifier) => (ScramServer::start(verifier, entropy.nonce), None),
            Err(why) => (ScramServer::mock(user, &entropy.mock_key, entropy.nonce), Some(why)),
        };
        let offer = [SCRAM_SHA_256.as_bytes(), b"\0\0"].concat();
        Self::ask(user, doom, Awaited::Mechanism(server), authentication(SASL, &offer))
    }

    fn ask(user: &str, doom: Option<RefusalReason>, awaited: Awaited, frame: Vec<u8>) -> Step {
        Step::Send { frame, next: Self { user: user.to_owned(), doom, awaited } }
    }

    /// Takes the body of a `PasswordMessage` (`p`), whichever of its four meanings it has.
    pub fn on_password_message(self, body: &[u8]) -> Step {
        let Self { user, doom, awaited } = self;
        let answer = match awaited {
            Awaited::Cleartext(secret) => check_cleartext(&user, secret.as_ref(), body),
            Awaited::Md5 { salt, secret } => check_md5(salt, secret, body),
            Awaited::Mechanism(server) => choose_mechanism(server, body),
            Awaited::ClientFirst(server) => client_first(server, body),
            Awaited::ClientFinal(server) => match server.client_final(body) {
                Ok(last) => Ok(Progress::In(Some(authentication(SASL_FINAL, last.as_bytes())))),
                Err(why) => Err(RefusalReason::Scram(why)),
            },
        };
        match (answer, doom) {
            (Ok(Progress::Ask(frame, awaited)), doom) => {
                Step::Send { frame, next: Self { user, doom, awaited } }
            }
            (Ok(Progress::In(last)), None) => Step::Done { last },
            // A broken message is told as what it is: it says nothing about the user.
            (Err(why), Some(doom)) => refuse(user, if why.is_violation() { why } else { doom }),
            (Ok(Progress::In(_)), Some(doom)) => refuse(user, doom),
            (Err(why), None) => refuse(user, why),
        }
    }
}

/// What a message led to.
enum Progress {
    Ask(Vec<u8>, Awaited),
    /// Let in, if there is no doom; with the message that goes before `AuthenticationOk`.
    In(Option<Vec<u8>>),
}

fn check_cleartext(
    user: &str,
    secret: Option<&StoredSecret>,
    body: &[u8],
) -> Result<Progress, RefusalReason> {
    let password = c_string(body)?;
    if password.is_empty() {
        return Err(RefusalReason::EmptyPassword);
    }
    match secret {
        Some(secret) if secret.accepts_password(user, password) => Ok(Progress::In(None)),
        Some(_) | None => Err(RefusalReason::WrongPassword),
    }
}

fn check_md5(
    salt: [u8; 4],
    secret: Option<Md5Secret>,
    body: &[u8],
) -> Result<Progress, RefusalReason> {
    let answer = c_string(body)?;
    match secret {
        Some(secret) if secret.accepts(salt, answer) => Ok(Progress::In(None)),
        Some(_) | None => Err(RefusalReason::WrongPassword),
    }
}

/// `SASLInitialResponse`: the mechanism's name, then a length and the first message, or -1.
fn choose_mechanism(server: ScramServer, body: &[u8]) -> Result<Progress, RefusalReason> {
    let end = body.iter().position(|byte| *byte == 0).ok_or(RefusalReason::BrokenMessage)?;
    let (mechanism, rest) = body.split_at(end);
    if mechanism != SCRAM_SHA_256.as_bytes() {
        return Err(RefusalReason::Mechanism);
    }
    let (len, message) = rest
        .get(1..)
        .and_then(<[u8]>::split_first_chunk::<4>)
        .ok_or(RefusalReason::BrokenMessage)?;
    match i32::from_be_bytes(*len) {
        -1 if message.is_empty() => {
            Ok(Progress::Ask(authentication(SASL_CONTINUE, b""), Awaited::ClientFirst(server)))
        }
        len if usize::try_from(len) == Ok(message.len()) => client_first(server, message),
        _ => Err(RefusalReason::BrokenMessage),
    }
}

fn client_first(server: ScramServer, message: &[u8]) -> Result<Progress, RefusalReason> {
    let (first, server) = server.client_first(message).map_err(RefusalReason::Scram)?;
    let frame = authentication(SASL_CONTINUE, first.as_bytes());
    Ok(Progress::Ask(frame, Awaited::ClientFinal(server)))
}

/// A body that is one NUL-terminated string and nothing else.
fn c_string(body: &[u8]) -> Result<&[u8], RefusalReason> {
    match body.split_last() {
        Some((0, text)) if text.len() < PASSWORD_LEN_MAX && !text.contains(&0) => Ok(text),
        Some(_) | None => Err(RefusalReason::BrokenMessage),
    }
}

fn refuse(user: String, reason: RefusalReason) -> Step {
    Step::Refuse(LoginRefusal { user, reason })
}

/// A login that was refused. `Display` gives the reason, which the client is not told.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("login of user {user:?} refused: {reason}")]
pub struct LoginRefusal {
    pub user: String,
    #[source]
    pub reason: RefusalReason,
}

/// Why a login was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RefusalReason {
    #[error("no users_file is configured, so that nobody has a password")]
    NoUsersFile,
    #[error("the users file does not name it")]
    UnknownUser,
    #[error("the users file does not name it (auth.method = \"trust\")")]
    UnknownToTrust,
    #[error("its secret in the users file is empty")]
    EmptySecret,
    #[error("its secret in the users file is an md5 hash, which cannot do scram-sha-256")]
    Md5CannotScram,
    #[error("wrong password")]
    WrongPassword,
    #[error("empty password")]
    EmptyPassword,
    #[error("the password message is malformed")]
    BrokenMessage,
    #[error("the client chose a SASL mechanism that was not offered")]
    Mechanism,
    #[error(transparent)]
    Scram(ScramError),
}

impl RefusalReason {
    /// True if the client broke the protocol, which `PostgreSQL` tells it as such.
    const fn is_violation(&self) -> bool {
        match self {
            Self::NoUsersFile
            | Self::UnknownUser
            | Self::UnknownToTrust
            | Self::EmptySecret
            | Self::Md5CannotScram
            | Self::WrongPassword
            | Self::EmptyPassword
            | Self::Scram(ScramError::WrongProof) => false,
            Self::BrokenMessage | Self::Mechanism | Self::Scram(_) => true,
        }
    }
}

impl ClientFacing for LoginRefusal {
    fn fault(&self) -> Fault {
        Fault::Client
    }

    /// Worded as `PostgreSQL` does (`auth_failed` in auth.c).
    fn client_message(&self) -> ClientMessage {
        let user = &self.user;
        if self.reason.is_violation() {
            return ClientMessage::new(PROTOCOL_VIOLATION, self.reason.to_string());
        }
        if self.reason == RefusalReason::UnknownToTrust {
            let message = format!("\"trust\" authentication failed for user \"{user}\"");
            return ClientMessage::new(INVALID_AUTHORIZATION, message);
        }
        let message = format!("password authentication failed for user \"{user}\"");
        ClientMessage::new(INVALID_PASSWORD, message)
    }
}

/// An `Authentication…` message: `R`, its length, which one it is, and what belongs to it.
fn authentication(code: u32, payload: &[u8]) -> Vec<u8> {
    // Payloads are ours and short: the length cannot overflow.
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX).saturating_add(8);
    [b"R".as_slice(), &len.to_be_bytes(), &code.to_be_bytes(), payload].concat()
}

const INVALID_PASSWORD: SqlState = SqlState(*b"28P01");
const INVALID_AUTHORIZATION: SqlState = SqlState(*b"28000");
const PROTOCOL_VIOLATION: SqlState = SqlState(*b"08P01");

// Authentication message codes (PostgreSQL documentation, 55.7).
const CLEARTEXT_PASSWORD: u32 = 3;
const MD5_PASSWORD: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// `PG_MAX_AUTH_TOKEN_LENGTH` of `PostgreSQL` (libpq.h).
const PASSWORD_LEN_MAX: usize = 65_535;

#[cfg(test)]
mod tests;
