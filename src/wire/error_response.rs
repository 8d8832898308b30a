//! `ErrorResponse` and `NoticeResponse`: fields in, fields out.

use super::frame;
use crate::error::{ClientMessage, SqlState};

/// How bad it is, as the first field of an error or a notice says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The session cannot go on.
    Fatal,
    Error,
    Warning,
    Notice,
}

impl Severity {
    const fn text(self) -> &'static [u8] {
        match self {
            Self::Fatal => b"FATAL",
            Self::Error => b"ERROR",
            Self::Warning => b"WARNING",
            Self::Notice => b"NOTICE",
        }
    }

    const fn tag(self) -> u8 {
        match self {
            Self::Fatal | Self::Error => b'E',
            Self::Warning | Self::Notice => b'N',
        }
    }
}

/// Appends `message` as an `ErrorResponse` or a `NoticeResponse`.
pub fn put(out: &mut Vec<u8>, severity: Severity, message: &ClientMessage) {
    frame::put(out, severity.tag(), |out| {
        let mut field = |kind: u8, text: &[u8]| {
            out.push(kind);
            frame::put_text(out, text);
        };
        field(b'S', severity.text());
        field(b'V', severity.text());
        field(b'C', &message.sqlstate.0);
        field(b'M', message.message.as_bytes());
        if let Some(detail) = &message.detail {
            field(b'D', detail.as_bytes());
        }
        if let Some(hint) = &message.hint {
            field(b'H', hint.as_bytes());
        }
        if let Some(routine) = message.routine {
            field(b'R', routine.as_bytes());
        }
        out.push(0);
    });
}

/// An `ErrorResponse` with the `body` of one that a server sent.
pub fn verbatim(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(frame::HEAD + body.len());
    frame::put(&mut out, b'E', |out| out.extend_from_slice(body));
    out
}

/// Appends the error with the body `body`, with `to` in the place of the name `from` in its message.
pub fn put_renamed(out: &mut Vec<u8>, mut body: &[u8], from: &[u8], to: &[u8]) {
    frame::put(out, b'E', |out| {
        while let [kind, rest @ ..] = body {
            body = rest;
            if *kind == 0 {
                break;
            }
            let Some(text) = frame::take_text(&mut body) else { break };
            out.push(*kind);
            match memchr::memmem::find(text, from).filter(|_| *kind == b'M') {
                Some(at) => {
                    out.extend_from_slice(text.get(..at).unwrap_or_default());
                    out.extend_from_slice(to);
                    let behind = text.get(at + from.len()..).unwrap_or_default();
                    frame::put_text(out, behind);
                }
                None => frame::put_text(out, text),
            }
        }
        out.push(0);
    });
}

/// The fields of an error that a server sent. Any of them may be missing (pitfall P3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    pub severity: Option<&'a [u8]>,
    pub sqlstate: Option<SqlState>,
    pub message: Option<&'a [u8]>,
    pub detail: Option<&'a [u8]>,
    pub hint: Option<&'a [u8]>,
    /// The function that raised it: the same in every language, unlike the text.
    pub routine: Option<&'a [u8]>,
}

impl<'a> ErrorFields<'a> {
    /// Reads the body of an `ErrorResponse` or a `NoticeResponse`, as far as it makes sense.
    pub fn parse(mut body: &'a [u8]) -> Self {
        let mut fields = Self::default();
        while let [kind, rest @ ..] = body {
            if *kind == 0 {
                break;
            }
            body = rest;
            let Some(text) = frame::take_text(&mut body) else { break };
            match kind {
                // The untranslated severity is preferred, and comes after the translated one.
                b'S' | b'V' => fields.severity = Some(text),
                b'C' => fields.sqlstate = text.try_into().ok().map(SqlState),
                b'M' => fields.message = Some(text),
                b'D' => fields.detail = Some(text),
                b'H' => fields.hint = Some(text),
                b'R' => fields.routine = Some(text),
                _ => {}
            }
        }
        fields
    }

    /// True if the sender ends the connection with it.
    ///
    /// `PostgreSQL` says so in a warning where it ends all sessions at once, for the crash of one or to be stopped at
    /// once: in a function that has no namesake among those that raise what users write.
    pub fn is_last(&self) -> bool {
        matches!(self.severity, Some(b"FATAL" | b"PANIC")) || self.routine == Some(b"quickdie")
    }

    /// The fields as an owned message, with what is missing made up for.
    pub fn to_message(self) -> ClientMessage {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ClientMessage {
            sqlstate: self.sqlstate.unwrap_or(super::sqlstate::INTERNAL_ERROR),
            message: self.message.map_or_else(|| "the server gave no reason".to_owned(), text),
            detail: self.detail.map(text),
            hint: self.hint.map(text),
            routine: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::sqlstate;

    #[test]
    fn an_error_is_read_back_as_it_was_put() {
        let message = ClientMessage::new(sqlstate::TOO_MANY_CONNECTIONS, "full")
            .detail("10 of 10")
            .hint("raise size");
        let mut out = Vec::new();

        put(&mut out, Severity::Fatal, &message);

        let fields = ErrorFields::parse(&out[frame::HEAD..]);
        assert!(fields.is_last());
        assert_eq!(fields.to_message(), message);
    }

    /// P3: no field at all, no SQLSTATE, a SQLSTATE of the wrong size.
    #[test]
    fn missing_fields_are_made_up_for() {
        for body in [&b""[..], b"\0", b"SERROR\0\0", b"C123\0\0", b"Mno end"] {
            let message = ErrorFields::parse(body).to_message();

            assert_eq!(message.sqlstate, sqlstate::INTERNAL_ERROR);
            assert_eq!(message.message, "the server gave no reason");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _message = ErrorFields::parse(&body).to_message();
        }
    }
}
