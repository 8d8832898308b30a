//! The unnamed statement: which one a client has, and which one a server has.

use std::sync::Arc;

use super::store::Statement;
use super::undo::Given;
use crate::state::settings::Settings;

/// The unnamed statement of a client, from one Parse of it to the next.
#[derive(Debug, Clone)]
pub struct UnnamedParse {
    pub statement: Arc<Statement>,
    /// Which of the client's it is: what the same text means may have changed from one to the next.
    pub number: u64,
    /// Servers have it under the statement's own name, as they have those that clients give names to.
    /// `None`: it is to be their unnamed one.
    pub shared: Option<Shared>,
}

/// An unnamed statement that goes by its own name on servers.
#[derive(Debug, Clone)]
pub struct Shared {
    /// As it is known of one that has a name: this one's is empty.
    pub given: Arc<Given>,
    /// The client's settings when its text was looked up, and how often any tables had been altered: as
    /// long as both are the same, the text means the same statement.
    pub settings: Arc<Settings>,
    pub alterations: u64,
}

/// What a server's unnamed statement is.
#[derive(Debug, Clone, Default)]
pub enum Unnamed {
    #[default]
    None,
    Known(UnnamedParse),
    /// One that was parsed where it need not mean what it did for its client: it serves one use.
    Once(UnnamedParse),
    /// It has.
    Passing,
}

impl Unnamed {
    /// True if it is one of `statement`, from whichever Parse.
    pub fn is_of(&self, statement: &Arc<Statement>) -> bool {
        match self {
            Self::None | Self::Passing => false,
            Self::Known(known) | Self::Once(known) => Arc::ptr_eq(&known.statement, statement),
        }
    }

    pub fn is(&self, parse: &UnnamedParse) -> bool {
        match self {
            Self::None | Self::Passing => false,
            Self::Known(known) | Self::Once(known) => {
                known.number == parse.number && Arc::ptr_eq(&known.statement, &parse.statement)
            }
        }
    }
}

/// What a request that changes the client's unnamed statement does on the server.
#[derive(Debug)]
pub enum Change {
    /// It changes the server's unnamed statement.
    Unnamed,
    /// It prepares this under its own name.
    Prepares(Arc<Statement>),
    /// Nothing: it is never sent.
    Nothing,
}

/// What the unnamed statement of the client and that of the server were, and since when.
#[derive(Debug)]
pub struct UnnamedBefore {
    pub client: Option<UnnamedParse>,
    pub server: Unnamed,
    pub since: u64,
    /// The client's is the same as before: it is prepared once more, for another server.
    pub is_again: bool,
    pub change: Change,
    /// Serial number of the request that was to change it.
    pub serial: u64,
}
