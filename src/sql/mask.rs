//! A statement for the log: its shape without its values.

use super::lexer::{Lexer, TokenKind};

/// The text with every string and number replaced by `?`, comments dropped and spaces folded, cut
/// behind `len_max` bytes with `…`.
///
/// Where a backslash makes it uncertain which part is a string (see
/// [`Reading`](super::Reading)), everything from there on is one `?`: better too little than a
/// password.
pub fn mask_literals(text: &str, len_max: usize) -> String {
    let mut masked = String::with_capacity(len_max.min(text.len()));
    let mut lexer = Lexer::new(text.as_bytes());
    let mut space = false;
    while let Some(token) = lexer.next() {
        let shown = match token.kind {
            TokenKind::Space | TokenKind::Comment => {
                space = true;
                continue;
            }
            TokenKind::String
            | TokenKind::EscapeString
            | TokenKind::UnicodeString
            | TokenKind::Dollar
            | TokenKind::Number => "?",
            TokenKind::Word
            | TokenKind::Quoted
            | TokenKind::QuotedUnicode
            | TokenKind::Parameter
            | TokenKind::Semicolon
            | TokenKind::Sign => text.get(token.start..token.end).unwrap_or("?"),
        };
        if space && !masked.is_empty() {
            masked.push(' ');
        }
        space = false;
        // Nothing in a quoted name may begin a line of its own in the log.
        masked.extend(shown.chars().map(|char| if char.is_control() { ' ' } else { char }));
        if masked.len() > len_max {
            let fits = |end: &usize| masked.is_char_boundary(*end);
            masked.truncate((0..=len_max).rev().find(fits).unwrap_or_default());
            masked.push('…');
            break;
        }
        if lexer.is_ambiguous() {
            break;
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_comments_and_spaces_go() {
        for (text, masked) in [
            ("SELECT * FROM t WHERE a = 'x' AND b=12.5e3", "SELECT * FROM t WHERE a = ? AND b=?"),
            ("  select\n\t1 -- secret\n , /* s */ $1 ", "select ? , $1"),
            (
                "insert into t1 values (E'it\\'s', $q$body$q$, X'ff', N'n')",
                "insert into t1 values (?, ?, ?, N?)",
            ),
            ("select \"Col 1\" from \"a\nb\"", "select \"Col 1\" from \"a b\""),
            ("select 'unclosed secret", "select ?"),
            ("select 'it\\'s secret', 'more secret'", "select ?"),
            ("", ""),
        ] {
            assert_eq!(mask_literals(text, 1000), masked, "{text}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(mask_literals("select äöü", 9), "select ä…");
        assert_eq!(mask_literals("select äöü", 8), "select …");
        assert_eq!(mask_literals("select a", 8), "select a");
        assert_eq!(mask_literals(&"a,".repeat(1000), 3), "a,a…");
    }

    proptest! {
        #[test]
        fn result_is_bounded_and_on_one_line(text in "\\PC{0,40}", len_max in 0..20_usize) {
            let masked = mask_literals(&text, len_max);
            prop_assert!(masked.len() <= len_max + '…'.len_utf8());
            prop_assert!(!masked.contains('\n'));
        }

        #[test]
        fn no_string_survives(secret in "[a-z' \\\\$\"/*-]{1,12}") {
            let quoted = secret.replace('\'', "''");
            let masked = mask_literals(&format!("select '{quoted}Z' , 1"), 1000);
            prop_assert!(!masked.contains('Z'), "{}", masked);
        }
    }
}
