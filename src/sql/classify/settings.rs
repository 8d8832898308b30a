//! Statements and calls that set something.

use super::Statement;
use crate::sql::keyword::{Keyword, keyword};
use crate::sql::lexer::{Lexer, Token, TokenKind};
use crate::sql::meaning::{is_about_running, is_about_schemas, is_seed};
use crate::sql::ours::PREFIX;
use crate::sql::traits::Traits;

impl<'a> Statement<'_, 'a> {
    /// SET in all its forms. A dot makes any word the first half of a parameter's name
    /// (`SET local.x = 1` is not SET LOCAL).
    pub(super) fn set(&mut self) {
        self.mark(Traits::SETS);
        let mut word = self.next();
        let mut after = self.next();
        let mut name = word.map_or(Keyword::Other, |token| self.keyword_of(token));
        let mut local = false;
        if matches!(name, Keyword::Local | Keyword::Session) && !self.is_dot(after) {
            local = name == Keyword::Local;
            name = after.map_or(Keyword::Other, |token| self.keyword_of(token));
            word = after;
            // SET SESSION CHARACTERISTICS and AUTHORIZATION are `Other` below, as they should be.
            after = self.next();
        }
        self.note_ours(word, after);
        self.set_to_default(name, after);
        let transaction = matches!(name, Keyword::Transaction | Keyword::Constraints);
        if transaction && !self.is_dot(after) {
            return;
        }
        let text = self.lexer.text();
        if !self.is_dot(after) && word.is_some_and(|word| is_seed(word.of(text))) {
            self.mark(Traits::LEAVES_OTHER.and(Traits::OUTLIVES_DISCARD));
        }
        if !self.is_dot(after) && !word.is_some_and(|word| is_about_running(word.of(text))) {
            self.mark(Traits::CHANGES_MEANING);
        }
        if local {
            if word.is_some_and(|word| is_about_schemas(word.of(text))) {
                self.mark(Traits::MOVES);
            }
            return;
        }
        self.mark(if is_reported(name) && !self.is_dot(after) {
            Traits::LEAVES_REPORTED
        } else {
            Traits::LEAVES_OTHER
        });
    }

    /// `SET name TO DEFAULT` in its forms. A name of several parts is taken for one that is reset.
    fn set_to_default(&mut self, name: Keyword, after: Option<Token>) {
        let Some(after) = after else {
            if name == Keyword::Names {
                self.mark(Traits::RESETS);
            }
            return;
        };
        let mut word = self.keyword_of(after);
        let is_value_next = word == Keyword::To || after.of(self.lexer.text()) == b"=";
        if is_value_next || self.is_dot(Some(after)) || name == Keyword::Time {
            let text = self.lexer.text();
            // Ahead of what is read: the values may be anything.
            let found = Ahead(self.lexer.clone())
                .take_while(|token| token.kind != TokenKind::Semicolon)
                .take(NAME_TOKENS_MAX)
                .any(|t| {
                    t.kind == TokenKind::Word
                        && matches!(keyword(t.of(text)), Keyword::Default | Keyword::Local)
                });
            word = if found { Keyword::Default } else { Keyword::Other };
        }
        if word == Keyword::Default {
            self.mark(Traits::RESETS);
        }
    }

    /// The name of a setting comes next.
    pub(super) fn name_setting(&mut self) {
        let (word, after) = (self.next(), self.next());
        self.note_ours(word, after);
    }

    fn note_ours(&mut self, word: Option<Token>, after: Option<Token>) {
        let Some(word) = word else { return };
        let name = word.of(self.lexer.text());
        let bare = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\""));
        let is_prefix = bare.unwrap_or(name).eq_ignore_ascii_case(PREFIX.as_bytes());
        // Its letters may be written as numbers: it may be any.
        let may_be_prefix = is_prefix || word.kind == TokenKind::QuotedUnicode;
        if (self.is_dot(after) && may_be_prefix) || bare.is_some_and(is_ours) {
            self.mark(Traits::NAMES_OURS);
        }
    }

    fn is_dot(&self, token: Option<Token>) -> bool {
        token.is_some_and(|token| token.of(self.lexer.text()) == b".")
    }

    /// `set_config(name, value, true)` is SET LOCAL; with anything but a literal there, who knows.
    pub(super) fn set_config(&mut self) {
        let name = self.first_literal();
        if !name.is_some_and(is_about_running) {
            self.mark(Traits::CHANGES_MEANING.and(Traits::MOVES));
        }
        if name.is_some_and(is_seed) {
            self.mark(Traits::LEAVES_OTHER.and(Traits::OUTLIVES_DISCARD));
        }
        if name.is_some_and(is_ours) {
            self.mark(Traits::NAMES_OURS);
        }
        // A copy looks ahead, so that what is in the call is read again as usual. The look is
        // bounded: a text full of unclosed calls must not cost more than its length.
        let text = self.lexer.text();
        let mut depth = 0_usize;
        let mut tail = [None; 2];
        let mut has_null = false;
        for token in Ahead(self.lexer.clone()).take(CALL_TOKENS_MAX) {
            has_null |= token.kind == TokenKind::Word && keyword(token.of(text)) == Keyword::Null;
            match token.of(text) {
                b"(" => depth += 1,
                b")" if depth <= 1 => {
                    let [comma, last]: [Option<Token>; 2] = tail;
                    let is_local = comma.is_some_and(|token| token.of(text) == b",")
                        && last.is_some_and(|token| {
                            token.kind == TokenKind::Word
                                && keyword(token.of(text)) == Keyword::True
                        });
                    if has_null {
                        self.mark(Traits::RESETS);
                    }
                    if is_local {
                        return;
                    }
                    break;
                }
                b")" => depth -= 1,
                _ if depth == 0 => break,
                _ => {}
            }
            tail = [tail[1], Some(token)];
        }
        self.mark(Traits::LEAVES_OTHER);
    }

    /// What the first argument of the call that follows says, if that is a literal alone.
    fn first_literal(&self) -> Option<&'a [u8]> {
        let text = self.lexer.text();
        let mut ahead = Ahead(self.lexer.clone());
        let mut next = || ahead.next().map(|token| (token.kind, token.of(text)));
        match (next(), next(), next()) {
            (Some((_, b"(")), Some((TokenKind::String, name)), Some((_, b","))) => {
                let name = name.strip_prefix(b"'").unwrap_or(name);
                Some(name.strip_suffix(b"'").unwrap_or(name))
            }
            _ => None,
        }
    }
}

/// The significant tokens from here on.
pub(super) struct Ahead<'a>(pub(super) Lexer<'a>);

impl Iterator for Ahead<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.0.significant()
    }
}

/// True of `pgweir.` and whatever is behind it.
fn is_ours(name: &[u8]) -> bool {
    name.split_at_checked(PREFIX.len()).is_some_and(|(prefix, rest)| {
        rest.starts_with(b".") && prefix.eq_ignore_ascii_case(PREFIX.as_bytes())
    })
}

/// Parameters that `PostgreSQL` reports with `ParameterStatus` in every supported version.
const fn is_reported(parameter: Keyword) -> bool {
    matches!(
        parameter,
        Keyword::ApplicationName
            | Keyword::ClientEncoding
            | Keyword::DateStyle
            | Keyword::IntervalStyle
            | Keyword::TimeZone
            | Keyword::StandardStrings
            // SET NAMES is client_encoding, SET TIME ZONE is TimeZone.
            | Keyword::Names
            | Keyword::Time
    )
}

/// Tokens of a SET behind its first word that are looked at for DEFAULT.
const NAME_TOKENS_MAX: usize = 8;

/// Tokens of a `set_config` call that are looked at.
const CALL_TOKENS_MAX: usize = 64;
