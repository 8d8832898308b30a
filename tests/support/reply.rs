//! What a server said, to look at.

use std::collections::BTreeMap;
use std::fmt;

/// One message of a server.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let front = self.body.get(..200).unwrap_or(&self.body);
        write!(f, "{}:{:?}", char::from(self.tag), String::from_utf8_lossy(front))
    }
}

impl Message {
    /// The fields of an error or a notice.
    pub fn fields(&self) -> Fields {
        assert!(matches!(self.tag, b'E' | b'N'), "no error or notice: {self:?}");
        let mut fields = BTreeMap::new();
        for field in self.body.split(|byte| *byte == 0) {
            if let [kind, text @ ..] = field {
                fields.insert(char::from(*kind), String::from_utf8_lossy(text).into_owned());
            }
        }
        Fields(fields)
    }

    /// The NUL-terminated texts of the body.
    pub fn texts(&self) -> Vec<String> {
        let body = self.body.strip_suffix(b"\0").unwrap_or(&self.body);
        body.split(|byte| *byte == 0)
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect()
    }

    /// The values of a row, NULL as `None`.
    pub fn row(&self) -> Vec<Option<String>> {
        assert_eq!(self.tag, b'D', "no row: {self:?}");
        let count = u16::from_be_bytes([self.body[0], self.body[1]]);
        let mut at = 2;
        let mut values = Vec::new();
        for _ in 0..count {
            let len = i32::from_be_bytes(self.body[at..at + 4].try_into().unwrap());
            at += 4;
            let Ok(len) = usize::try_from(len) else {
                values.push(None);
                continue;
            };
            values.push(Some(String::from_utf8_lossy(&self.body[at..at + len]).into_owned()));
            at += len;
        }
        values
    }
}

/// The fields of an error or a notice.
#[derive(Clone, PartialEq, Eq)]
pub struct Fields(BTreeMap<char, String>);

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Fields {
    fn text(&self, kind: char) -> &str {
        self.0.get(&kind).map_or("", String::as_str)
    }

    pub fn severity(&self) -> &str {
        self.text('S')
    }

    /// The SQLSTATE.
    pub fn code(&self) -> &str {
        self.text('C')
    }

    pub fn message(&self) -> &str {
        self.text('M')
    }

    pub fn detail(&self) -> &str {
        self.text('D')
    }

    pub fn hint(&self) -> &str {
        self.text('H')
    }

    /// Where PostgreSQL raised it.
    pub fn routine(&self) -> &str {
        self.text('R')
    }
}

/// Messages up to a `ReadyForQuery`, or as far as they were asked for.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Reply(pub Vec<Message>);

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Reply {
    /// The tags in order, a `ReadyForQuery` with its status, without what may come at any time
    /// (notices and parameters): `"12DCZI"`.
    pub fn tags(&self) -> String {
        let mut tags = String::new();
        for message in self.0.iter().filter(|message| !matches!(message.tag, b'N' | b'S')) {
            tags.push(char::from(message.tag));
            if message.tag == b'Z' {
                tags.push(char::from(message.body[0]));
            }
        }
        tags
    }

    fn with_tag(&self, tag: u8) -> impl Iterator<Item = &Message> {
        self.0.iter().filter(move |message| message.tag == tag)
    }

    /// The errors, in order.
    pub fn errors(&self) -> Vec<Fields> {
        self.with_tag(b'E').map(Message::fields).collect()
    }

    /// The notices, in order.
    pub fn notices(&self) -> Vec<Fields> {
        self.with_tag(b'N').map(Message::fields).collect()
    }

    /// The one error.
    #[track_caller]
    pub fn error(&self) -> Fields {
        let mut errors = self.errors();
        assert_eq!(errors.len(), 1, "not one error: {self:?}");
        errors.remove(0)
    }

    /// The SQLSTATE of the one error.
    #[track_caller]
    pub fn code(&self) -> String {
        self.error().code().to_owned()
    }

    /// The rows, without NULLs.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |message: &Message| message.row().into_iter().map(Option::unwrap_or_default);
        self.with_tag(b'D').map(|message| row(message).collect()).collect()
    }

    /// The first column of all rows, separated by blanks.
    pub fn values(&self) -> String {
        self.rows().iter().map(|row| row[0].as_str()).collect::<Vec<_>>().join(" ")
    }

    /// The tags of the statements that were done.
    pub fn done(&self) -> Vec<String> {
        self.with_tag(b'C').map(|message| message.texts().remove(0)).collect()
    }

    /// The parameters that were reported, in order.
    pub fn parameters(&self) -> Vec<(String, String)> {
        self.with_tag(b'S')
            .map(|message| {
                let mut texts = message.texts();
                let value = texts.pop().unwrap();
                (texts.pop().unwrap(), value)
            })
            .collect()
    }

    /// The status of the last `ReadyForQuery`.
    pub fn status(&self) -> Option<char> {
        self.with_tag(b'Z').last().map(|message| char::from(message.body[0]))
    }
}
