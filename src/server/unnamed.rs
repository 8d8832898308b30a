//! The unnamed statement: which one a client has, and which one a server has.

use std::sync::Arc;

use super::store::Statement;

/// The unnamed statement of a client, from one Parse of it to the next.
#[derive(Debug, Clone)]
pub struct UnnamedParse {
    pub statement: Arc<Statement>,
    /// Which of the client's it is: what the same text means may have changed from one to the next.
    pub number: u64,
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

/// What the unnamed statement of the client and that of the server were, and since when.
#[derive(Debug)]
pub struct UnnamedBefore {
    pub client: Option<UnnamedParse>,
    pub server: Unnamed,
    pub since: u64,
    /// The client's is the same as before: it is prepared once more, for another server.
    pub is_again: bool,
    /// The server's is the same as before: the client's has another name there.
    pub is_apart: bool,
    /// Serial number of the Parse under that name, if one was sent.
    pub parse: Option<u64>,
    /// Serial number that the next request had when this was noted: tells one change from another.
    pub serial: u64,
}
