//! Literals that mean the time at which they are read.

use memchr::{memchr, memchr2};

use super::lexer::{Lexer, Reading, TokenKind};

/// True if a string in the text may be one of the date inputs `now`, `today`, `tomorrow` and
/// `yesterday`.
///
/// `PostgreSQL` folds `'now'::timestamptz` to the time of the Parse, so that a statement prepared for
/// one session would give its time to another (P68). Errs on the side of true: a string that merely
/// contains such a word, or hides its letters behind escapes, counts.
pub fn literal_clock(text: &[u8]) -> bool {
    if memchr2(b'\'', b'$', text).is_none() {
        return false;
    }
    let mut lexer = Lexer::new(text);
    reads_clock(&mut lexer)
        || (lexer.is_ambiguous() && reads_clock(&mut Lexer::with_reading(text, Reading::Backslash)))
}

fn reads_clock(lexer: &mut Lexer<'_>) -> bool {
    let text = lexer.text();
    let mut behind_string = false;
    let mut line_ended = false;
    for token in lexer {
        let bytes = token.of(text);
        match token.kind {
            TokenKind::Space => {
                line_ended |= bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
            }
            TokenKind::Comment => {}
            TokenKind::String
            | TokenKind::EscapeString
            | TokenKind::UnicodeString
            | TokenKind::Dollar => {
                // `'no'` and `'w'` on two lines are one string.
                let continued = behind_string && line_ended;
                if continued || token.kind == TokenKind::UnicodeString || names_clock(bytes) {
                    return true;
                }
                behind_string = true;
                line_ended = false;
            }
            TokenKind::Word
            | TokenKind::Quoted
            | TokenKind::QuotedUnicode
            | TokenKind::Number
            | TokenKind::Parameter
            | TokenKind::Semicolon
            | TokenKind::Sign => behind_string = false,
        }
    }
    false
}

/// Looks for the words in a string, its quotes included, read with and without escapes.
fn names_clock(string: &[u8]) -> bool {
    let words = |text: &[u8]| {
        text.split(|byte| !byte.is_ascii_alphabetic())
            .any(|run| CLOCK_WORDS.iter().any(|word| run.eq_ignore_ascii_case(word)))
    };
    words(string) || (memchr(b'\\', string).is_some() && escapes_name_clock(string))
}

/// As above where a backslash escapes.
fn escapes_name_clock(string: &[u8]) -> bool {
    let mut run: Vec<u8> = Vec::new();
    let mut bytes = string.iter();
    let is_clock = |run: &[u8]| CLOCK_WORDS.iter().any(|word| run.eq_ignore_ascii_case(word));
    while let Some(byte) = bytes.next() {
        let letter = match byte {
            b'\\' => match bytes.next() {
                // Written as a number, it may be any letter.
                Some(b'0'..=b'7' | b'x' | b'X' | b'u' | b'U') => return true,
                // A control character.
                Some(b'b' | b'f' | b'n' | b'r' | b't' | b'v') => None,
                // Anything else is itself.
                escaped => escaped,
            },
            _ => Some(byte),
        };
        match letter.filter(|letter| letter.is_ascii_alphabetic()) {
            // A longer run is no clock word, however it goes on.
            Some(letter) if run.len() <= CLOCK_WORD_LEN_MAX => run.push(*letter),
            Some(_) => {}
            None if is_clock(&run) => return true,
            None => run.clear(),
        }
    }
    is_clock(&run)
}

const CLOCK_WORDS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];
const CLOCK_WORD_LEN_MAX: usize = 9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clock_literals_are_found() {
        // P68
        for text in [
            "select 'now'::timestamptz",
            "select timestamp 'NOW'",
            "select date ' today '",
            "select 'tomorrow 12:00'::timestamp",
            "select 'yesterday12:00'::timestamp",
            "select $$now$$::date",
            "select $x$ Today $x$::date",
            "select E'\\tnow'::date",
            "select E'n\\157w'::date",
            "select E'n\\ow'::date",
            "select '\\tnow'::date",
            "select '\\'' || 'now'::date",
            "select U&'\\006eow'::date",
            "select 'no'\n'w'::date",
        ] {
            assert!(literal_clock(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn other_texts_may_be_shared() {
        for text in [
            "select now()",
            "select today from days",
            "select 'nowhere', 'know', 'todays'",
            "select \"now\" from t where x = 'a'",
            "select E'a\\nb', E'it\\'s'",
            "select 'a' -- now",
            "select a ~ '\\d+' from t",
            "select $1 /* 'now' */",
            "select 'a', 'b'\n, 'c'",
        ] {
            assert!(!literal_clock(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(text: Vec<u8>, sql in "[EU&'$\\\\now \n]{0,30}") {
            let _found = literal_clock(&text);
            let _found = literal_clock(sql.as_bytes());
        }
    }
}
