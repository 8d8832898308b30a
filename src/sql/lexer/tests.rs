//! Where tokens and statements end.

use proptest::prelude::*;

use super::*;

fn lex(text: &str) -> Vec<(TokenKind, &str)> {
    Lexer::new(text.as_bytes())
        .filter(|token| token.kind != TokenKind::Space)
        .map(|token| (token.kind, &text[token.start..token.end]))
        .collect()
}

fn kinds(text: &str) -> Vec<TokenKind> {
    lex(text).into_iter().map(|(kind, _)| kind).collect()
}

#[test]
fn statement_is_taken_apart() {
    use TokenKind as T;
    assert_eq!(
        lex("SELECT t.a$1, \"B\"\"b\"||$12 FROM t -- x\nWHERE a>=1.5e-3/* /* y */ */;"),
        [
            (T::Word, "SELECT"),
            (T::Word, "t"),
            (T::Sign, "."),
            (T::Word, "a$1"),
            (T::Sign, ","),
            (T::Quoted, "\"B\"\"b\""),
            (T::Sign, "|"),
            (T::Sign, "|"),
            (T::Parameter, "$12"),
            (T::Word, "FROM"),
            (T::Word, "t"),
            (T::Comment, "-- x"),
            (T::Word, "WHERE"),
            (T::Word, "a"),
            (T::Sign, ">"),
            (T::Sign, "="),
            (T::Number, "1.5e-3"),
            (T::Comment, "/* /* y */ */"),
            (T::Semicolon, ";"),
        ]
    );
}

#[test]
fn strings_end_where_postgres_ends_them() {
    use TokenKind as T;
    let cases: [(&str, &[(TokenKind, &str)]); 16] = [
        ("'a''b'c", &[(T::String, "'a''b'"), (T::Word, "c")]),
        ("'a\\'c", &[(T::String, "'a\\'"), (T::Word, "c")]),
        ("E'a\\'c'd", &[(T::EscapeString, "E'a\\'c'"), (T::Word, "d")]),
        ("e'a''b\\\\'d", &[(T::EscapeString, "e'a''b\\\\'"), (T::Word, "d")]),
        ("fe'a\\'d", &[(T::Word, "fe"), (T::String, "'a\\'"), (T::Word, "d")]),
        ("n'a'", &[(T::Word, "n"), (T::String, "'a'")]),
        ("X'1f'';'", &[(T::String, "X'1f'"), (T::String, "';'")]),
        ("U&'a\\'';'", &[(T::UnicodeString, "U&'a\\'';'")]),
        ("u&\"a\"\";\"", &[(T::QuotedUnicode, "u&\"a\"\";\"")]),
        ("u & 'a'", &[(T::Word, "u"), (T::Sign, "&"), (T::String, "'a'")]),
        ("$$a;'$$b", &[(T::Dollar, "$$a;'$$"), (T::Word, "b")]),
        ("$x$a$$;$X$;$x$b", &[(T::Dollar, "$x$a$$;$X$;$x$"), (T::Word, "b")]),
        ("a$$;$$", &[(T::Word, "a$$"), (T::Semicolon, ";"), (T::Dollar, "$$")]),
        ("$x;", &[(T::Sign, "$"), (T::Word, "x"), (T::Semicolon, ";")]),
        // Behind a number it is no exponent but a string of its own.
        ("1E'\\';'", &[(T::Number, "1"), (T::EscapeString, "E'\\';'")]),
        ("'open;", &[(T::String, "'open;")]),
    ];
    for (text, expected) in cases {
        assert_eq!(lex(text), expected, "{text}");
    }
}

#[test]
fn string_behind_an_escape_string_and_a_line_end_continues_it() {
    use TokenKind as T;
    assert_eq!(kinds("E'a'\n'\\';'"), [T::EscapeString, T::EscapeString]);
    assert_eq!(kinds("E'a' -- x\n '\\';'"), [T::EscapeString, T::Comment, T::EscapeString]);
    // On one line, or behind anything else, it is a string of its own.
    assert_eq!(kinds("E'a' '\\';"), [T::EscapeString, T::String, T::Semicolon]);
    assert_eq!(kinds("E'a',\n'\\';"), [T::EscapeString, T::Sign, T::String, T::Semicolon]);
    assert_eq!(kinds("'a'\n'\\';"), [T::String, T::String, T::Semicolon]);
}

#[test]
fn backslash_in_a_plain_string_is_read_both_ways() {
    let text = b"'a\\'; SET x = 1; --'";
    let read = |reading| {
        let mut lexer = Lexer::with_reading(text, reading);
        let semicolons = lexer.by_ref().filter(|token| token.kind == TokenKind::Semicolon).count();
        (semicolons, lexer.is_ambiguous())
    };
    assert_eq!(read(Reading::Standard), (2, true));
    assert_eq!(read(Reading::Backslash), (0, true));
    let mut plain = Lexer::new(b"'a', E'\\''");
    assert_eq!(plain.by_ref().count(), 4);
    assert!(!plain.is_ambiguous());
}

/// The letters of SJIS and others end in what may be a backslash.
#[test]
fn backslash_behind_half_a_letter_is_read_both_ways() {
    let text = b"E'\x95\\'; SET x = 1; --'";
    let read = |reading| {
        let mut lexer = Lexer::with_reading(text, reading);
        let semicolons = lexer.by_ref().filter(|token| token.kind == TokenKind::Semicolon).count();
        (semicolons, lexer.is_ambiguous())
    };
    assert_eq!(read(Reading::Standard), (0, true));
    assert_eq!(read(Reading::Wide), (2, true));
    let mut whole = Lexer::new("E'é\\''".as_bytes());
    assert_eq!(whole.by_ref().count(), 1);
    assert!(!whole.is_ambiguous());
}

#[test]
fn comment_begins_within_an_operator() {
    use TokenKind as T;
    assert_eq!(kinds("1+--x\n2"), [T::Number, T::Sign, T::Comment, T::Number]);
    assert_eq!(kinds("1*/*/**/*/2"), [T::Number, T::Sign, T::Comment, T::Number]);
    assert_eq!(kinds("/* /* */ SET"), [T::Comment]);
    assert_eq!(kinds("/*/ */1"), [T::Comment, T::Number]);
}

/// Pieces that can open something, so that random texts get into every state.
fn sql() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "'", "''", "\\", "E'", "U&'", "U&\"", "\"", "$$", "$a$", "$1", "--", "\n", "/*", "*/", ";",
        " ", "B'", "表", "1.", "1e", ".5", "a", "é", "(", ".", "e", "\r", "$",
    ]);
    prop::collection::vec(pieces, 0..30).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn tokens_tile_the_text(text in prop_oneof![sql(), any::<Vec<u8>>()], which in 0_usize..4) {
        let reading = *Reading::OTHERS.get(which).unwrap_or(&Reading::Standard);
        let mut at = 0;
        for token in Lexer::with_reading(&text, reading) {
            prop_assert_eq!(token.start, at);
            prop_assert!(token.end > at && token.end <= text.len());
            at = token.end;
        }
        prop_assert_eq!(at, text.len());
    }

    #[test]
    fn readings_differ_only_where_it_says_so(text in sql()) {
        let mut standard = Lexer::new(&text);
        let tokens: Vec<_> = standard.by_ref().collect();
        if !standard.is_ambiguous() {
            for reading in Reading::OTHERS {
                let other: Vec<_> = Lexer::with_reading(&text, reading).collect();
                prop_assert_eq!(&tokens, &other);
            }
        }
    }

    #[test]
    fn significant_skips_spaces_and_comments_only(text in sql()) {
        let all = Lexer::new(&text)
            .filter(|token| !matches!(token.kind, TokenKind::Space | TokenKind::Comment));
        let mut lexer = Lexer::new(&text);
        let significant = std::iter::from_fn(|| lexer.significant());
        prop_assert!(all.eq(significant));
    }
}
