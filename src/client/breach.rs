//! How a session ends whose client breaks the protocol.

use super::serve::End;
use crate::error::{ClientMessage, Fault};
use crate::wire::{frame, sqlstate};

pub(super) fn violation(error: &frame::FrameError) -> End {
    let code = match error {
        frame::FrameError::Length { .. } => sqlstate::PROTOCOL_VIOLATION,
        frame::FrameError::TooLong { .. } => sqlstate::PROGRAM_LIMIT,
    };
    fatal(ClientMessage::new(code, error.to_string()))
}

pub(super) fn malformed(tag: u8) -> End {
    let text = format!("malformed message of type {:?}", char::from(tag));
    fatal(ClientMessage::new(sqlstate::PROTOCOL_VIOLATION, text))
}

pub(super) fn unknown(tag: u8) -> End {
    let text = format!("invalid frontend message type {tag}");
    fatal(ClientMessage::new(sqlstate::PROTOCOL_VIOLATION, text).routine("SocketBackend"))
}

fn fatal(message: ClientMessage) -> End {
    End::fatal(Fault::Client, message)
}
