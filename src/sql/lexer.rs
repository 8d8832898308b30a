//! SQL text as tokens: where strings, comments and statements begin and end.
//!
//! The rules are those of `PostgreSQL`'s scan.l. Tokens tile the text: each begins where the one
//! before ended, and none is empty. One pass, no allocation, no error: what is not closed reaches to
//! the end of the text.

use memchr::{memchr, memchr2, memchr2_iter, memmem};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Spaces and line ends.
    Space,
    /// `-- …` without its line end, or `/* … */`, which nests.
    Comment,
    /// A keyword or an identifier without quotes.
    Word,
    /// `"…"`.
    Quoted,
    /// `U&"…"`: an identifier whose letters may be written as numbers.
    QuotedUnicode,
    /// `'…'`, also behind `N`, `B` or `X` (the letter `N` is a `Word` before it).
    String,
    /// `E'…'`, and a string that continues one: a backslash escapes.
    EscapeString,
    /// `U&'…'`.
    UnicodeString,
    /// `$tag$ … $tag$`.
    Dollar,
    Number,
    /// `$1`.
    Parameter,
    /// `;`.
    Semicolon,
    /// One byte of an operator or of punctuation.
    Sign,
}

/// A token: its kind, and its bytes as `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    pub start: usize,
    pub end: usize,
}

impl Token {
    /// The token's bytes in the text that it was found in.
    pub fn of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// How a backslash is read.
///
/// In a plain `'…'` that depends on `standard_conforming_strings`, and behind a byte above ASCII on
/// `client_encoding`; a text tells neither (and may change the first half way). Who must not be fooled
/// reads the text once and, if [`Lexer::is_ambiguous`], in the other ways too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// In `'…'` as itself: `standard_conforming_strings = on`, the default.
    Standard,
    /// In `'…'` as an escape: `standard_conforming_strings = off`.
    Backslash,
    /// Like `Standard`, but behind an odd number of bytes above ASCII it is the second half of a letter:
    /// SJIS, BIG5, GBK, UHC, JOHAB, GB18030.
    Wide,
    /// Like `Backslash` in the same encodings.
    WideBackslash,
}

impl Reading {
    /// All but `Standard`.
    pub const OTHERS: [Self; 3] = [Self::Backslash, Self::Wide, Self::WideBackslash];

    const fn escapes(self) -> bool {
        matches!(self, Self::Backslash | Self::WideBackslash)
    }

    const fn is_wide(self) -> bool {
        matches!(self, Self::Wide | Self::WideBackslash)
    }
}

/// An iterator over the tokens of a text.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    reading: Reading,
    ambiguous: bool,
    continuation: Continuation,
}

/// Whether a `'` would continue an `E'…'` (SQL: strings with a line end between them are one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Continuation {
    None,
    /// Behind `E'…'`, no line end yet.
    Possible,
    /// Behind `E'…'` and a line end.
    Due,
}

impl<'a> Lexer<'a> {
    pub const fn new(text: &'a [u8]) -> Self {
        Self::with_reading(text, Reading::Standard)
    }

    pub const fn with_reading(text: &'a [u8], reading: Reading) -> Self {
        Self { text, at: 0, reading, ambiguous: false, continuation: Continuation::None }
    }

    /// True once a backslash was met that may be read in more than one way.
    pub const fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// The text that is read.
    pub const fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The next token that is neither space nor comment.
    #[inline]
    pub fn significant(&mut self) -> Option<Token> {
        loop {
            // Words with one space between them are by far the most common.
            if self.continuation == Continuation::None {
                let first = self.peek(0)?;
                if first == b' ' {
                    self.at += 1;
                    continue;
                }
                if begins_word(first) && !matches!(self.peek(1), Some(b'\'' | b'&')) {
                    let start = self.at;
                    self.at += 1;
                    self.skip_while(is_word);
                    return Some(Token { kind: TokenKind::Word, start, end: self.at });
                }
            }
            let token = self.next()?;
            if !matches!(token.kind, TokenKind::Space | TokenKind::Comment) {
                return Some(token);
            }
        }
    }

    #[inline]
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Steps over the bytes that satisfy `wanted`.
    #[inline]
    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&wanted) {
            self.at += 1;
        }
    }

    /// Steps over one token that begins with `first`, which is the byte at hand.
    #[inline]
    fn step(&mut self, first: u8) -> TokenKind {
        match first {
            _ if begins_word(first) => self.word(first),
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {
                self.skip_while(is_space);
                TokenKind::Space
            }
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_some_and(|next| next.is_ascii_digit()) => self.number(),
            b'\'' if self.continuation == Continuation::Due => {
                self.escape_string(1);
                TokenKind::EscapeString
            }
            b'\'' => self.plain_string(),
            b'"' => self.quoted(1, TokenKind::Quoted),
            b'$' => self.dollar(),
            b'-' if self.peek(1) == Some(b'-') => {
                let rest = self.rest();
                self.at += memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                TokenKind::Comment
            }
            b'/' if self.peek(1) == Some(b'*') => self.block_comment(),
            b';' => self.sign(TokenKind::Semicolon),
            _ => self.sign(TokenKind::Sign),
        }
    }

    fn sign(&mut self, kind: TokenKind) -> TokenKind {
        self.at += 1;
        kind
    }

    /// A word, or a string that a letter introduces.
    #[inline]
    fn word(&mut self, first: u8) -> TokenKind {
        if let Some(next) = self.peek(1)
            && matches!(next, b'\'' | b'&')
            && let Some(kind) = self.prefixed(first, next)
        {
            return kind;
        }
        self.skip_while(is_word);
        TokenKind::Word
    }

    #[cold]
    fn prefixed(&mut self, first: u8, next: u8) -> Option<TokenKind> {
        match (first, next, self.peek(2)) {
            (b'e' | b'E', b'\'', _) => {
                self.escape_string(2);
                Some(TokenKind::EscapeString)
            }
            // No doubled quotes here: a second string begins (scan.l, <xb,xh>).
            (b'b' | b'B' | b'x' | b'X', b'\'', _) => {
                self.at += 2;
                self.skip_past(b'\'');
                Some(TokenKind::String)
            }
            (b'u' | b'U', b'&', Some(b'\'')) => {
                Some(self.quoted_by(b'\'', 3, TokenKind::UnicodeString))
            }
            (b'u' | b'U', b'&', Some(b'"')) => Some(self.quoted(3, TokenKind::QuotedUnicode)),
            _ => None,
        }
    }

    fn quoted(&mut self, opening: usize, kind: TokenKind) -> TokenKind {
        self.quoted_by(b'"', opening, kind)
    }

    /// Text up to a `quote` that is not doubled; `opening` bytes come before it.
    fn quoted_by(&mut self, quote: u8, opening: usize, kind: TokenKind) -> TokenKind {
        self.at += opening;
        while self.skip_past(quote) && self.peek(0) == Some(quote) {
            self.at += 1;
        }
        kind
    }

    /// `'…'` without a letter before it.
    fn plain_string(&mut self) -> TokenKind {
        let start = self.at;
        self.quoted_by(b'\'', 1, TokenKind::String);
        let string = self.text.get(start..self.at).unwrap_or_default();
        if memchr(b'\\', string).is_some() {
            self.ambiguous = true;
            if self.reading.escapes() {
                self.at = start;
                self.escape_string(1);
                // Not an `EscapeString`: what follows is ambiguous in its own right.
            }
        }
        TokenKind::String
    }

    /// Text up to a `'` that is neither doubled nor behind a backslash.
    fn escape_string(&mut self, opening: usize) {
        let from = (self.at + opening).min(self.text.len());
        let rest = self.text.get(from..).unwrap_or_default();
        let mut taken = 0;
        for found in memchr2_iter(b'\'', b'\\', rest) {
            // Half of a pair that was taken already.
            if found < taken {
                continue;
            }
            if rest.get(found) == Some(&b'\\') && is_behind_half(rest, found) {
                self.ambiguous = true;
                if self.reading.is_wide() {
                    continue;
                }
            }
            let doubled = rest.get(found + 1) == Some(&b'\'');
            if rest.get(found) == Some(&b'\'') && !doubled {
                self.at = from + found + 1;
                return;
            }
            taken = found + 2;
        }
        self.at = self.text.len();
    }

    /// Steps behind the next `byte`, or to the end and says false.
    fn skip_past(&mut self, byte: u8) -> bool {
        let rest = self.rest();
        let found = memchr(byte, rest);
        self.at += found.map_or(rest.len(), |found| found + 1);
        found.is_some()
    }

    fn block_comment(&mut self) -> TokenKind {
        let rest = self.rest();
        let mut depth = 0_usize;
        let mut taken = 0;
        for found in memchr2_iter(b'/', b'*', rest) {
            if found < taken {
                continue;
            }
            match rest.get(found..found + 2) {
                Some(b"/*") => depth += 1,
                Some(b"*/") => depth -= 1,
                Some(_) | None => continue,
            }
            taken = found + 2;
            if depth == 0 {
                self.at += taken;
                return TokenKind::Comment;
            }
        }
        self.at = self.text.len();
        TokenKind::Comment
    }

    /// `$1`, `$tag$…$tag$`, or a lone `$`.
    fn dollar(&mut self) -> TokenKind {
        let rest = self.rest();
        if self.peek(1).is_some_and(|next| next.is_ascii_digit()) {
            self.at += 1;
            self.skip_while(|byte| byte.is_ascii_digit());
            return TokenKind::Parameter;
        }
        let tag = rest.iter().skip(1).position(|byte| !is_word(*byte) || *byte == b'$');
        let Some(delimiter) =
            tag.and_then(|len| rest.get(..len + 2)).filter(|delimiter| delimiter.ends_with(b"$"))
        else {
            return self.sign(TokenKind::Sign);
        };
        let body = rest.get(delimiter.len()..).unwrap_or_default();
        self.at +=
            memmem::find(body, delimiter).map_or(rest.len(), |found| found + 2 * delimiter.len());
        TokenKind::Dollar
    }

    fn number(&mut self) -> TokenKind {
        // Letters within (`0x1F`, `1_000`, or junk that is an error anyway) are words behind it,
        // which is harmless: only `e` before a quote would matter, and that is no exponent.
        self.skip_while(|byte| byte.is_ascii_digit());
        if self.peek(0) == Some(b'.') && self.peek(1) != Some(b'.') {
            self.at += 1;
            self.skip_while(|byte| byte.is_ascii_digit());
        }
        if matches!(self.peek(0), Some(b'e' | b'E')) {
            let signed = usize::from(matches!(self.peek(1), Some(b'+' | b'-')));
            if self.peek(1 + signed).is_some_and(|next| next.is_ascii_digit()) {
                self.at += 1 + signed;
                self.skip_while(|byte| byte.is_ascii_digit());
            }
        }
        TokenKind::Number
    }

    /// Tells whether a `'` behind this token would continue an escape string.
    #[inline]
    fn continuation_behind(&self, token: Token) -> Continuation {
        match token.kind {
            TokenKind::EscapeString => Continuation::Possible,
            TokenKind::Space if self.continuation == Continuation::Possible => {
                match memchr2(b'\n', b'\r', token.of(self.text)) {
                    Some(_) => Continuation::Due,
                    None => Continuation::Possible,
                }
            }
            TokenKind::Space => self.continuation,
            // Only `--` may stand between the parts.
            TokenKind::Comment if token.of(self.text).starts_with(b"--") => self.continuation,
            TokenKind::Comment
            | TokenKind::Word
            | TokenKind::Quoted
            | TokenKind::QuotedUnicode
            | TokenKind::String
            | TokenKind::UnicodeString
            | TokenKind::Dollar
            | TokenKind::Number
            | TokenKind::Parameter
            | TokenKind::Semicolon
            | TokenKind::Sign => Continuation::None,
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        let start = self.at;
        let first = self.peek(0)?;
        let kind = self.step(first);
        let token = Token { kind, start, end: self.at };
        if kind == TokenKind::EscapeString || self.continuation != Continuation::None {
            self.continuation = self.continuation_behind(token);
        }
        Some(token)
    }
}

/// True if an odd number of bytes above ASCII stands in front of `at`.
fn is_behind_half(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default().iter().rev();
    before.take_while(|byte| !byte.is_ascii()).count() % 2 == 1
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// What an identifier may begin with.
const fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

/// What may stand within an identifier, behind its first byte. Bytes above ASCII are letters.
#[inline]
fn is_word(byte: u8) -> bool {
    WORD.get(usize::from(byte)).copied().unwrap_or_default()
}

/// A table: one load a byte.
const WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        {
            let value = byte as u8;
            table[byte] =
                value >= 0x80 || value == b'_' || value == b'$' || value.is_ascii_alphanumeric();
        }
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
