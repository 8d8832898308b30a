//! Texts that `PostgreSQL` has something to say about when it parses them.

use super::lexer::{Lexer, TokenKind};

/// Bytes of a name that `PostgreSQL` keeps (`NAMEDATALEN`).
const NAME_LEN: usize = 63;

/// True if a Parse of the text may bring a NOTICE or WARNING: of a name that is cut, or of a backslash in a
/// plain string where `standard_conforming_strings` is off (scan.l). Errs on the side of true.
pub fn draws_notice(text: &[u8]) -> bool {
    let mut lexer = Lexer::new(text);
    let has_long_name = lexer.any(|token| {
        let len = token.end - token.start;
        // In quotes, with these, and with those of its own that are doubled.
        (token.kind == TokenKind::Word && len > NAME_LEN)
            || (token.kind == TokenKind::Quoted && len > NAME_LEN + 2)
    });
    has_long_name || lexer.is_ambiguous()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_and_plain_backslashes_draw_notices() {
        let (fits, long) = ("x".repeat(63), "x".repeat(64));
        for (text, expected) in [
            ("select 1".to_owned(), false),
            (format!("select {fits}"), false),
            (format!("select {long}"), true),
            (format!("select \"{fits}\""), false),
            (format!("select \"{long}\""), true),
            (format!("deallocate \"{}\"", "ü".repeat(32)), true),
            (format!("select '{long}', ${long}${long}${long}$"), false),
            (format!("select 1 -- {long}"), false),
            (r"select 'a\d'".to_owned(), true),
            (r"select E'a\d'".to_owned(), false),
        ] {
            assert_eq!(draws_notice(text.as_bytes()), expected, "{text}");
        }
    }
}
