//! The statements of a text as words, for those who read names out of them.

use super::lexer::{Lexer, Reading, Token, TokenKind};

/// A word, name, string or sign of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word<'a> {
    kind: TokenKind,
    text: &'a [u8],
    /// In lower case, and empty for what stands in quotes.
    bare: String,
}

impl<'a> Word<'a> {
    fn new(token: Token, text: &'a [u8]) -> Self {
        let text = token.of(text);
        let bare = match token.kind {
            TokenKind::Word | TokenKind::Sign => String::from_utf8_lossy(text).to_ascii_lowercase(),
            TokenKind::Space
            | TokenKind::Comment
            | TokenKind::Quoted
            | TokenKind::QuotedUnicode
            | TokenKind::String
            | TokenKind::EscapeString
            | TokenKind::UnicodeString
            | TokenKind::Dollar
            | TokenKind::Number
            | TokenKind::Parameter
            | TokenKind::Semicolon => String::new(),
        };
        Self { kind: token.kind, text, bare }
    }

    /// The keyword or sign that it is, in lower case; empty for anything else. A name without quotes
    /// looks like a keyword.
    pub(super) fn bare(&self) -> &str {
        &self.bare
    }

    /// As it stands in the text.
    pub(super) const fn text(&self) -> &'a [u8] {
        self.text
    }

    pub(super) fn is_quoted(&self) -> bool {
        self.kind == TokenKind::Quoted
    }

    /// A name whose letters are written as numbers, which are not read: it may be any.
    pub(super) fn is_in_numbers(&self) -> bool {
        self.kind == TokenKind::QuotedUnicode
    }

    /// The name that it is, as `PostgreSQL` knows it: without quotes, in lower case if it had none,
    /// and cut. `None` if it is none, or not one whose letters are read.
    pub(super) fn name(&self) -> Option<Box<[u8]>> {
        let mut name = if self.kind == TokenKind::Word {
            self.text.to_ascii_lowercase()
        } else if self.kind == TokenKind::Quoted {
            unquoted(self.text, b'"')?
        } else {
            return None;
        };
        name.truncate(clipped(&name));
        Some(name.into())
    }

    /// What a plain string says.
    pub(super) fn string(&self) -> Option<Box<[u8]>> {
        let string = (self.kind == TokenKind::String).then(|| unquoted(self.text, b'\''))?;
        string.map(Into::into)
    }
}

/// What stands between two `quote`s, where two in a row are one.
fn unquoted(text: &[u8], quote: u8) -> Option<Vec<u8>> {
    let inner = text.strip_prefix(&[quote])?.strip_suffix(&[quote])?;
    let mut name = Vec::with_capacity(inner.len());
    let mut is_second = false;
    for byte in inner {
        is_second = *byte == quote && !is_second;
        if !is_second {
            name.push(*byte);
        }
    }
    Some(name)
}

/// How much is left of a name that is longer than `PostgreSQL` tells apart: whole characters.
fn clipped(name: &[u8]) -> usize {
    if name.len() <= NAME_LEN {
        return name.len();
    }
    let is_inside = |at: usize| name.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let boundary = (NAME_LEN - 3..=NAME_LEN).rev().find(|at| !is_inside(*at));
    match std::str::from_utf8(name) {
        Ok(_) => boundary.unwrap_or(NAME_LEN),
        Err(_) => NAME_LEN,
    }
}

/// The statements of a text that are not empty: as many as the server gives command tags.
pub(super) struct Statements<'a> {
    lexer: Lexer<'a>,
    ended: bool,
}

pub(super) const fn statements(text: &[u8], reading: Reading) -> Statements<'_> {
    Statements { lexer: Lexer::with_reading(text, reading), ended: false }
}

impl<'a> Iterator for Statements<'a> {
    type Item = Vec<Word<'a>>;

    fn next(&mut self) -> Option<Vec<Word<'a>>> {
        let mut words = Vec::new();
        while !self.ended {
            match self.lexer.significant() {
                // What could be a name behind more words than this, nobody puts there.
                Some(token) if token.kind != TokenKind::Semicolon => {
                    if words.len() < WORDS_MAX {
                        words.push(Word::new(token, self.lexer.text()));
                    }
                }
                end => {
                    self.ended = end.is_none();
                    if !words.is_empty() {
                        return Some(words);
                    }
                }
            }
        }
        None
    }
}

/// Bytes of a name that `PostgreSQL` tells apart (NAMEDATALEN).
const NAME_LEN: usize = 63;

/// Words of a statement that are kept.
pub(super) const WORDS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_apart_and_empty_ones_are_none() {
        let text = b";; select 'a;b' ; /* c; */ ;\"D\"\"\"; -- e";
        let all: Vec<_> = statements(text, Reading::Standard).collect();

        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(all[0][0].bare(), "select");
        assert_eq!(all[0][1].string().as_deref(), Some(&b"a;b"[..]));
        assert_eq!(all[1][0].name().as_deref(), Some(&b"D\""[..]));
        assert_eq!(statements(b"", Reading::Standard).count(), 0);
    }

    #[test]
    fn what_is_no_name_is_not_taken_for_one() {
        for text in ["'a'", "U&\"a\"", "1", "$1", "(", "\"", "E'a'"] {
            let words = statements(text.as_bytes(), Reading::Standard).next().unwrap();
            assert_eq!(words[0].name(), None, "{text}");
        }
    }
}
