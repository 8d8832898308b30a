//! Proving who is there, and who we are. No I/O.

mod client_login;
mod md5;
mod scram;
mod secret;
mod server_login;
mod users;

pub use client_login::{Account, Entropy, Login, LoginRefusal, RefusalReason, Step};
pub use md5::{Md5Secret, md5_password};
pub use scram::{AwaitFinal, ScramError, ScramServer, ScramVerifier};
pub use secret::{PlainSecret, StoredSecret};
pub use server_login::{Answer, ServerAuthError, ServerLogin, ServerSecret};
pub use users::{UsersFile, UsersFileError, UsersFileProblem};
