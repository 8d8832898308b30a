//! Which texts are queries: what is planned, and gives rows or changes them.

use super::keyword::{Keyword, keyword};
use super::lexer::{Lexer, TokenKind};

/// True if the text begins as a query does. What begins like that and is more is for [`super::classify`] to
/// tell.
pub fn is_query(text: &[u8]) -> bool {
    let mut lexer = Lexer::new(text);
    while let Some(token) = lexer.significant() {
        let bytes = token.of(text);
        if token.kind == TokenKind::Word {
            return begins_query(keyword(bytes));
        }
        if token.kind != TokenKind::Sign || bytes != b"(" {
            return false;
        }
    }
    false
}

const fn begins_query(word: Keyword) -> bool {
    use Keyword as K;
    matches!(word, K::Select | K::Values | K::Table | K::With)
        || matches!(word, K::Insert | K::Update | K::Delete | K::Merge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_or_changes_rows_is_a_query() {
        for text in [
            "select 1",
            "SELECT 1",
            "((select 1) union select 2)",
            "values (1)",
            "table t",
            "with a as (select 1) select * from a",
            "insert into t values (1)",
            "update t set a = 1",
            "delete from t",
            "merge into t using u on true when matched then do nothing",
            "/* which */ -- one\n select 1",
        ] {
            assert!(is_query(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn nothing_else_is() {
        for text in [
            "",
            " ",
            ";",
            "--",
            "(",
            "begin",
            "commit",
            "set a = 1",
            "show a",
            "copy t to stdout",
            "fetch 1 from c",
            "declare c cursor for select 1",
            "explain select 1",
            "do $$ $$",
            "create table t ()",
            "execute s",
            "prepare s as select 1",
            "deallocate s",
            "call f()",
            "selec 1",
            "\"select\" 1",
            "'select'",
            "; select 1",
            "lock table t",
            "discard all",
        ] {
            assert!(!is_query(text.as_bytes()), "{text}");
        }
    }
}
