//! Which statements of a text begin, end, set, write or leave something behind.
//!
//! There is no grammar: the first words of each statement say what it is, and a few words anywhere
//! in it say the rest. This runs for every Query and Parse, so a token that matters to nothing costs
//! a few comparisons.

#![expect(clippy::wildcard_enum_match_arm, reason = "most words mean nothing in most places")]

use super::keyword::{Keyword, keyword};
use super::lexer::{Lexer, Reading, Token, TokenKind};
use super::pure;
use super::traits::Traits;
use settings::Ahead;

mod settings;

/// Classifies a whole Query or Parse text. Linear in its length.
///
/// A text that reads differently under `standard_conforming_strings = off` or in another encoding is
/// classified in all these ways, and the most careful answer is given.
pub fn classify(text: &[u8]) -> Traits {
    let mut lexer = Lexer::new(text);
    let traits = statements(&mut lexer);
    if !lexer.is_ambiguous() {
        return traits;
    }
    let others = Reading::OTHERS.map(|reading| statements(&mut Lexer::with_reading(text, reading)));
    others.into_iter().fold(traits, Traits::either)
}

fn statements(lexer: &mut Lexer<'_>) -> Traits {
    let mut traits = Traits::default();
    let mut count = 0_usize;
    while let Some(first) = lexer.significant() {
        if first.kind == TokenKind::Semicolon {
            continue;
        }
        count += 1;
        traits = traits.and(Statement::new(lexer).read(first));
    }
    if count > 1 { traits.and(Traits::SEVERAL) } else { traits }
}

/// A statement being read, up to its `;`.
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
struct Statement<'l, 'a> {
    lexer: &'l mut Lexer<'a>,
    traits: Traits,
    /// The word before the one at hand; `Other` for anything that is not a keyword.
    before: Keyword,
    /// The token before the one at hand, if it could be the name of a function.
    name: Option<Token>,
    /// A `.` stood before that name.
    qualified: bool,
    /// CREATE or INTO was the last word but for LOCAL, GLOBAL and OR REPLACE: TEMP would mean it.
    makes_object: bool,
    /// UPDATE was among the words.
    updates: bool,
    ended: bool,
}

impl<'l, 'a> Statement<'l, 'a> {
    const fn new(lexer: &'l mut Lexer<'a>) -> Self {
        Self {
            lexer,
            traits: Traits(0),
            before: Keyword::Other,
            name: None,
            qualified: false,
            makes_object: false,
            updates: false,
            ended: false,
        }
    }

    /// Reads the statement that begins with `first`.
    fn read(mut self, first: Token) -> Traits {
        let mut first = Some(first);
        while let Some(token) = first
            && token.kind == TokenKind::Sign
            && token.of(self.lexer.text()) == b"("
        {
            first = self.next();
        }
        let Some(first) = first else { return self.traits };
        let opening = self.keyword_of(first);
        if opening.controls() {
            self.mark(Traits::CONTROLS);
        }
        self.open(opening, first);
        if !self.ended {
            self.rest();
        }
        self.traits
    }

    /// The next token of this statement that is neither space nor comment.
    #[inline]
    fn next(&mut self) -> Option<Token> {
        if self.ended {
            return None;
        }
        let token = self.lexer.significant();
        if token.is_none_or(|token| token.kind == TokenKind::Semicolon) {
            self.ended = true;
            return None;
        }
        token
    }

    fn mark(&mut self, facts: Traits) {
        self.traits = self.traits.and(facts);
    }

    /// The keyword that a token is, quoted or not: `"set_config"` is the same function.
    #[inline]
    fn keyword_of(&self, token: Token) -> Keyword {
        match token.kind {
            TokenKind::Word => keyword(token.of(self.lexer.text())),
            TokenKind::Quoted => match token.of(self.lexer.text()) {
                [b'"', name @ .., b'"'] => keyword(name),
                _ => Keyword::Other,
            },
            TokenKind::Space
            | TokenKind::Comment
            | TokenKind::QuotedUnicode
            | TokenKind::String
            | TokenKind::EscapeString
            | TokenKind::UnicodeString
            | TokenKind::Dollar
            | TokenKind::Number
            | TokenKind::Parameter
            | TokenKind::Semicolon
            | TokenKind::Sign => Keyword::Other,
        }
    }

    fn next_keyword(&mut self) -> Keyword {
        self.next().map_or(Keyword::Other, |token| {
            let keyword = self.keyword_of(token);
            self.see(token);
            keyword
        })
    }

    /// Reads as much of the statement's beginning as it takes to know what it is.
    fn open(&mut self, opening: Keyword, first: Token) {
        use Keyword as K;
        match opening {
            K::Select | K::Values | K::Table | K::With => self.see(first),
            K::Show => self.name_setting(),
            K::Savepoint | K::Release => {}
            K::Begin => self.mark(Traits::BEGINS),
            K::Start => match self.next_keyword() {
                K::Transaction => self.mark(Traits::BEGINS),
                _ => self.mark(Traits::WRITES),
            },
            K::Commit | K::End => self.end(Traits::WRITES),
            K::Rollback | K::Abort => self.end(Traits::default()),
            K::Set => self.set(),
            K::Reset => {
                self.mark(Traits::RESETS.and(Traits::CHANGES_MEANING));
                self.name_setting();
            }
            K::Discard => {
                if self.next_keyword() == K::All {
                    let all = Traits::DEALLOCATES_ALL.and(Traits::RESETS);
                    self.mark(all.and(Traits::CHANGES_MEANING));
                }
            }
            K::Deallocate => self.deallocate(),
            K::Prepare => self.prepare(),
            // Whatever is in a DO block runs, and none of it is seen here (P87).
            K::Listen => self.mark(Traits::LEAVES_OTHER.and(Traits::WRITES)),
            K::Load => {
                let leaves = Traits::LEAVES_OTHER.and(Traits::OUTLIVES_DISCARD);
                self.mark(leaves.and(Traits::WRITES));
            }
            K::Do => {
                let all = Traits::LEAVES_OTHER.and(Traits::CHANGES_MEANING);
                self.mark(all.and(Traits::WRITES).and(Traits::ALTERS_RESULTS));
            }
            K::Copy => {
                self.mark(Traits::COPIES.and(Traits::WRITES));
                self.see(first);
            }
            K::Explain => self.explain(),
            K::Fetch => {
                self.mark(Traits::FETCHES.and(Traits::WRITES));
                self.see(first);
            }
            K::Alter | K::Drop | K::Create => {
                self.mark(Traits::CHANGES_MEANING.and(Traits::WRITES));
                self.see(first);
                let object = self.next_keyword();
                let is_temporary =
                    opening == K::Create && matches!(object, K::Temporary | K::Local | K::Global);
                if matches!(object, K::Role | K::Database | K::System) {
                    self.mark(Traits::AFFECTS_OTHERS);
                } else if !is_temporary {
                    self.mark(Traits::ALTERS_RESULTS);
                }
            }
            _ => {
                self.mark(Traits::WRITES);
                self.see(first);
            }
        }
    }

    /// COMMIT and ROLLBACK end a block unless TO (a savepoint) or PREPARED follows.
    fn end(&mut self, facts: Traits) {
        let (mut says_no, mut chains) = (false, false);
        while let Some(token) = self.next() {
            match self.keyword_of(token) {
                Keyword::To => return,
                Keyword::Prepared => return self.mark(Traits::WRITES),
                Keyword::No => says_no = true,
                Keyword::Chain => chains = !says_no,
                _ => self.see(token),
            }
        }
        self.mark(facts.and(Traits::ENDS_BLOCK));
        if chains {
            self.mark(Traits::CHAINS);
        }
    }

    fn deallocate(&mut self) {
        let Some(mut token) = self.next() else { return };
        if self.keyword_of(token) == Keyword::Prepare {
            // Alone it is a statement's name.
            let Some(after) = self.next() else { return self.mark(Traits::NAMES_STATEMENTS) };
            token = after;
        }
        // `"all"` in quotes is a statement of that name.
        if token.kind == TokenKind::Word && self.keyword_of(token) == Keyword::All {
            self.mark(Traits::DEALLOCATES_ALL);
        } else {
            self.mark(Traits::NAMES_STATEMENTS);
        }
    }

    /// PREPARE TRANSACTION has a string behind it; `transaction` may also name a statement.
    fn prepare(&mut self) {
        let named = self.next_keyword() != Keyword::Transaction;
        let is_string = self.next().is_some_and(|token| {
            self.see(token);
            is_string(token.kind)
        });
        if named || !is_string {
            self.mark(Traits::LEAVES_OTHER.and(Traits::NAMES_STATEMENTS));
        } else {
            self.mark(Traits::ENDS_BLOCK.and(Traits::WRITES));
        }
    }

    /// Without ANALYZE the statement behind it is planned and not run.
    fn explain(&mut self) {
        let mut runs = false;
        while let Some(token) = self.next() {
            runs |= self.keyword_of(token) == Keyword::Analyze;
            self.see(token);
        }
        self.traits = self.traits.without(Traits::WRITES);
        if runs {
            self.mark(Traits::WRITES);
        }
    }

    /// Reads to the end of the statement, watching for what matters anywhere.
    #[inline]
    fn rest(&mut self) {
        while let Some(token) = self.next() {
            self.see(token);
        }
    }

    /// Takes notice of one token.
    #[inline]
    fn see(&mut self, token: Token) {
        match token.kind {
            TokenKind::Word | TokenKind::Quoted => {
                let word = self.keyword_of(token);
                if word == Keyword::Other {
                    self.makes_object = false;
                } else {
                    self.watch(word);
                }
                self.before = word;
                // A dot leaves no name behind: this word does not follow one directly.
                self.qualified &= self.name.is_none();
                self.name = Some(token);
            }
            TokenKind::Sign => self.see_sign(token),
            // Its letters are not read here, so it may be any name.
            TokenKind::QuotedUnicode => {
                self.mark(Traits::LEAVES_OTHER.and(Traits::WRITES));
                self.name = None;
            }
            TokenKind::Space
            | TokenKind::Comment
            | TokenKind::String
            | TokenKind::EscapeString
            | TokenKind::UnicodeString
            | TokenKind::Dollar
            | TokenKind::Number
            | TokenKind::Parameter
            | TokenKind::Semicolon => {
                self.before = Keyword::Other;
                self.makes_object = false;
                self.name = None;
                self.qualified = false;
            }
        }
    }

    #[inline]
    fn see_sign(&mut self, token: Token) {
        let sign = token.of(self.lexer.text());
        if sign == b"("
            && let Some(name) = self.name
            && !self.traits.has(Traits::WRITES)
            && (self.qualified || !pure::may_stand_before_parenthesis(name.of(self.lexer.text())))
        {
            self.mark(Traits::WRITES);
        }
        self.qualified = sign == b"." && self.name.is_some();
        self.name = None;
        self.makes_object = false;
        self.before = Keyword::Other;
    }

    /// Draws the conclusion from a keyword anywhere in a statement.
    fn watch(&mut self, word: Keyword) {
        use Keyword as K;
        match word {
            K::Create => self.makes_object = true,
            K::Into => {
                self.mark(Traits::WRITES);
                // INSERT INTO temp: a table of that name.
                self.makes_object = !matches!(self.before, K::Insert | K::Merge);
                if self.makes_object && !self.is_temporary_next() {
                    self.mark(Traits::ALTERS_RESULTS);
                }
                return;
            }
            K::Local | K::Global | K::Or | K::Replace => return,
            K::Temporary if self.makes_object => self.mark(Traits::LEAVES_OTHER),
            K::Hold if self.before == K::With => self.mark(Traits::LEAVES_OTHER),
            K::PgTemp | K::StatefulFunction => self.mark(Traits::LEAVES_OTHER),
            K::LastingFunction => {
                self.mark(Traits::LEAVES_OTHER.and(Traits::OUTLIVES_DISCARD));
            }
            // The text may be anything.
            K::RunsText => self.mark(Traits::LEAVES_OTHER.and(Traits::CHANGES_MEANING)),
            K::PgSettings if self.updates => {
                self.mark(Traits::LEAVES_OTHER.and(Traits::CHANGES_MEANING));
            }
            K::SetConfig => self.set_config(),
            K::ReloadConf => self.mark(Traits::AFFECTS_OTHERS),
            K::Execute => self.mark(Traits::NAMES_STATEMENTS.and(Traits::WRITES)),
            K::Insert | K::Update | K::Delete | K::Merge => {
                self.mark(Traits::WRITES);
                self.updates |= word == K::Update;
            }
            K::Share if matches!(self.before, K::For | K::Key) => self.mark(Traits::WRITES),
            _ => {}
        }
        self.makes_object = word == K::Create;
    }

    /// What SELECT INTO makes is temporary: behind INTO stands TEMP, or LOCAL or GLOBAL in front of it.
    fn is_temporary_next(&self) -> bool {
        let next = Ahead(self.lexer.clone()).next();
        next.is_some_and(|token| {
            let word = self.keyword_of(token);
            matches!(word, Keyword::Temporary | Keyword::Local | Keyword::Global)
        })
    }
}

const fn is_string(kind: TokenKind) -> bool {
    matches!(
        kind,
        TokenKind::String | TokenKind::EscapeString | TokenKind::UnicodeString | TokenKind::Dollar
    )
}

#[cfg(test)]
mod tests;
