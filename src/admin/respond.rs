//! Answers → bytes of the protocol (`PostgreSQL` documentation, "Message Formats").

use bytes::{BufMut as _, BytesMut};

use super::frontend::Format;
use super::refusal::Refusal;
use super::table::{Cell, Column};
use crate::error::ClientMessage;

/// Writes messages behind `out`.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    out: &'a mut BytesMut,
}

/// The severity of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Error,
    Fatal,
}

impl<'a> Reply<'a> {
    pub(super) const fn new(out: &'a mut BytesMut) -> Self {
        Self { out }
    }

    /// A message without a body: `ParseComplete`, `BindComplete`, `CloseComplete`, `NoData`,
    /// `EmptyQueryResponse`, `PortalSuspended`.
    pub(super) fn bare(&mut self, tag: u8) {
        self.message(tag, |_| ());
    }

    pub(super) fn parameter_status(&mut self, name: &str, value: &str) {
        self.message(b'S', |body| {
            string(body, name);
            string(body, value);
        });
    }

    /// For a statement without parameters.
    pub(super) fn no_parameters(&mut self) {
        self.message(b't', |body| body.put_i16(0));
    }

    pub(super) fn row_description(&mut self, columns: &[Column], formats: &Formats) {
        self.message(b'T', |body| {
            body.put_i16(count(columns.len()));
            for (place, (name, kind)) in columns.iter().enumerate() {
                string(body, name);
                // No table and no column of one.
                body.put_i32(0);
                body.put_i16(0);
                body.put_u32(kind.oid());
                body.put_i16(kind.length());
                // No modifier.
                body.put_i32(-1);
                body.put_i16(match formats.of(place) {
                    Format::Text => 0,
                    Format::Binary => 1,
                });
            }
        });
    }

    /// # Errors
    /// If a value is not of its column's type, with nothing written.
    pub(super) fn data_row(
        &mut self,
        columns: &[Column],
        row: &[Cell],
        formats: &Formats,
    ) -> Result<(), Refusal> {
        let mut values = Vec::with_capacity(row.len());
        for (place, ((column, kind), cell)) in columns.iter().zip(row).enumerate() {
            let mut bytes = Vec::new();
            match (cell, formats.of(place)) {
                (None, _) => {}
                (Some(text), Format::Text) => bytes.extend_from_slice(text.as_bytes()),
                (Some(text), Format::Binary) => {
                    kind.encode_binary(text, &mut bytes).ok_or(Refusal::Value { column })?;
                }
            }
            values.push(cell.as_ref().map(|_| bytes));
        }
        self.message(b'D', |body| {
            body.put_i16(count(values.len()));
            for value in values {
                match value {
                    None => body.put_i32(-1),
                    Some(bytes) => {
                        body.put_i32(length(bytes.len()));
                        body.put_slice(&bytes);
                    }
                }
            }
        });
        Ok(())
    }

    pub(super) fn command_complete(&mut self, tag: &str) {
        self.message(b'C', |body| string(body, tag));
    }

    /// `status`: `I`, `T` or `E`.
    pub(super) fn ready(&mut self, status: u8) {
        self.message(b'Z', |body| body.put_u8(status));
    }

    pub(super) fn notice(&mut self, message: &ClientMessage) {
        self.fields(b'N', "NOTICE", message);
    }

    pub(super) fn error(&mut self, severity: Severity, message: &ClientMessage) {
        let severity = match severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        self.fields(b'E', severity, message);
    }

    fn fields(&mut self, tag: u8, severity: &str, message: &ClientMessage) {
        self.message(tag, |body| {
            let fields = [
                (b'S', Some(severity)),
                (b'V', Some(severity)),
                (b'C', Some(message.sqlstate.as_str())),
                (b'M', Some(message.message.as_str())),
                (b'D', message.detail.as_deref()),
                (b'H', message.hint.as_deref()),
            ];
            for (kind, value) in fields {
                if let Some(value) = value {
                    body.put_u8(kind);
                    string(body, value);
                }
            }
            body.put_u8(0);
        });
    }

    /// Writes the body, then its length in front of it.
    fn message(&mut self, tag: u8, write: impl FnOnce(&mut BytesMut)) {
        self.out.put_u8(tag);
        let start = self.out.len();
        self.out.put_i32(0);
        write(self.out);
        let size = length(self.out.len().saturating_sub(start));
        if let Some(place) = self.out.get_mut(start..start + LENGTH) {
            place.copy_from_slice(&size.to_be_bytes());
        }
    }
}

/// The formats of a Bind: none is text for all, one is for all, else one for each column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Formats(pub Vec<Format>);

impl Formats {
    pub(super) const TEXT: Self = Self(Vec::new());

    fn of(&self, place: usize) -> Format {
        match self.0.as_slice() {
            [] => Format::Text,
            [all] => *all,
            each => each.get(place).copied().unwrap_or(Format::Text),
        }
    }
}

/// With its closing zero byte. A zero byte within would end it early, and is left out.
fn string(body: &mut BytesMut, text: &str) {
    body.extend(text.bytes().filter(|byte| *byte != 0));
    body.put_u8(0);
}

/// Of columns; no table has more than an int2 can say.
fn count(columns: usize) -> i16 {
    i16::try_from(columns).unwrap_or(i16::MAX)
}

/// Of a message or a value; a cell is far below 2 GiB.
fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

/// Bytes of a message's length word.
const LENGTH: usize = size_of::<i32>();
