//! Why the console does not do what it was asked.

use thiserror::Error;

use crate::error::{ClientFacing, ClientMessage, Fault, SqlState};

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    #[error("permission denied: {command} is for admin.users")]
    Denied { command: String },
    #[error("prepared statement \"{name}\" already exists")]
    DuplicateStatement { name: String },
    #[error("cursor \"{name}\" already exists")]
    DuplicatePortal { name: String },
    #[error("current transaction is aborted, commands ignored until end of transaction block")]
    FailedBlock,
    #[error("the function call protocol has no functions to call here")]
    FunctionCall,
    #[error("invalid {message} message")]
    Malformed { message: &'static str },
    #[error("cannot insert multiple commands into a prepared statement")]
    MultipleCommands,
    #[error("prepared statement \"{name}\" does not exist")]
    NoStatement { name: String },
    #[error("portal \"{name}\" does not exist")]
    NoPortal { name: String },
    #[error("{command} is not built yet")]
    NotBuilt { command: String },
    #[error("the console's commands have no parameters, and {given} were bound")]
    Parameters { given: usize },
    #[error("too many {what}: at most {limit}")]
    TooMany { what: &'static str, limit: usize },
    #[error("the message is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("invalid command \"{command}\"")]
    UnknownCommand { command: String },
    #[error("unknown message type {tag}")]
    UnknownMessage { tag: u8 },
    #[error("unterminated quoted string or comment")]
    Unterminated,
    #[error("column \"{column}\" holds a value that is not of its type")]
    Value { column: &'static str },
}

impl Refusal {
    const fn sqlstate(&self) -> SqlState {
        SqlState(match self {
            Self::Malformed { .. } | Self::Parameters { .. } | Self::UnknownMessage { .. } => {
                *b"08P01"
            }
            Self::FunctionCall | Self::NotBuilt { .. } => *b"0A000",
            Self::FailedBlock => *b"25P02",
            Self::NoStatement { .. } => *b"26000",
            Self::NoPortal { .. } => *b"34000",
            Self::Denied { .. } => *b"42501",
            Self::MultipleCommands | Self::UnknownCommand { .. } | Self::Unterminated => *b"42601",
            Self::DuplicatePortal { .. } => *b"42P03",
            Self::DuplicateStatement { .. } => *b"42P05",
            Self::TooMany { .. } => *b"53400",
            Self::TooLong { .. } => *b"54000",
            Self::Value { .. } => *b"XX000",
        })
    }
}

impl ClientFacing for Refusal {
    fn fault(&self) -> Fault {
        if matches!(self, Self::Value { .. }) { Fault::Proxy } else { Fault::Client }
    }

    fn client_message(&self) -> ClientMessage {
        let message = ClientMessage::new(self.sqlstate(), self.to_string());
        if matches!(self, Self::UnknownCommand { .. }) {
            message.hint("SHOW HELP lists the commands")
        } else if matches!(self, Self::Denied { .. }) {
            message.hint("Users of admin.stats_users may run SHOW.")
        } else {
            message
        }
    }
}
