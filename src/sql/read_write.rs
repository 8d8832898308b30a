//! Texts that would let a session write whose transactions are read-only.

use super::lexer::Reading;
use super::words::{Word, statements};

/// True if a text asks for transactions that write, or makes its session ask for them: `BEGIN READ WRITE`, `SET
/// TRANSACTION READ WRITE`, `SET default_transaction_read_only = off`, `set_config` of the same, and what runs
/// any of these out of sight.
///
/// PostgreSQL itself refuses to let a transaction write once it has begun to read (`check_transaction_read_only`), which leaves what comes first.
pub fn asks_to_write(text: &[u8], reading: Reading) -> bool {
    // Hardly any text has a word of it.
    if !has(text, b"write") && !has(text, b"read_only") {
        return false;
    }
    statements(text, reading).any(|statement| is_it(&statement))
}

/// True if `text` has `word`, which is in lower case, in whatever case.
fn has(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

fn is_it(statement: &[Word<'_>]) -> bool {
    let first = statement.first().map_or("", Word::bare);
    match first {
        "begin" | "start" => is_read_write(statement),
        "set" => is_read_write(statement) || sets_it_off(statement),
        "do" => statement.iter().any(|word| is_in_body(word.text())),
        _ => configures_it(statement),
    }
}

fn is_read_write(statement: &[Word<'_>]) -> bool {
    statement
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.bare() == "read" && b.bare() == "write"))
}

/// `SET [SESSION | LOCAL] transaction_read_only { = | TO } value`, whatever is not known to be on.
fn sets_it_off(statement: &[Word<'_>]) -> bool {
    let Some(at) = statement.iter().position(is_setting) else { return false };
    let value = statement.get(at + 2);
    let is_on = value.is_some_and(|value| {
        let string = value.string().unwrap_or_else(|| value.bare().as_bytes().into());
        let value = String::from_utf8_lossy(&string).to_ascii_lowercase();
        // Beginnings of words are words, as PostgreSQL reads them (parse_bool); DEFAULT is what the session
        // began with.
        matches!(value.as_str(), "on" | "1" | "default")
            || (!value.is_empty() && ("true".starts_with(&value) || "yes".starts_with(&value)))
    });
    !is_on
}

fn is_setting(word: &Word<'_>) -> bool {
    word.name().or_else(|| word.string()).is_some_and(|name| {
        name.eq_ignore_ascii_case(b"transaction_read_only")
            || name.eq_ignore_ascii_case(b"default_transaction_read_only")
    })
}

fn configures_it(statement: &[Word<'_>]) -> bool {
    let is_call = |word: &Word<'_>| word.name().is_some_and(|name| *name == *b"set_config");
    statement.iter().any(is_call) && statement.iter().any(is_setting)
}

/// True if the body of a DO, in whatever quotes, has a word of it.
fn is_in_body(body: &[u8]) -> bool {
    let Some((open, _)) = body.split_first().filter(|(first, _)| matches!(first, b'$' | b'\''))
    else {
        return false;
    };
    let from = body.iter().skip(1).position(|byte| byte == open).filter(|_| *open == b'$');
    let inner = body.get(from.map_or(1, |at| at + 2)..).unwrap_or_default();
    let of_it = |words: &Vec<Word<'_>>| is_read_write(words) || words.iter().any(is_setting);
    statements(inner, Reading::Standard).any(|words| of_it(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(text: &str) -> bool {
        asks_to_write(text.as_bytes(), Reading::Standard)
    }

    #[test]
    fn every_form_that_asks_to_write_is_known() {
        for text in [
            "BEGIN READ WRITE",
            "begin isolation level serializable, read write",
            "START TRANSACTION READ/**/WRITE",
            "SET TRANSACTION READ WRITE",
            "set session characteristics as transaction isolation level read committed, read write",
            "SET transaction_read_only = off",
            "set local transaction_read_only to false",
            "SET SESSION default_transaction_read_only TO 'off'",
            "SET \"default_transaction_read_only\" = 0",
            "set default_transaction_read_only = no",
            "SELECT 1; SET default_transaction_read_only = off; INSERT INTO t VALUES (1)",
            "select set_config('default_transaction_read_only', 'off', false)",
            "select pg_catalog.set_config('Transaction_Read_Only', 'off', true)",
            "DO $$ BEGIN COMMIT; SET TRANSACTION READ WRITE; END $$",
            "do 'begin set transaction_read_only = off; end'",
            "DO $x$ BEGIN COMMIT; SET TRANSACTION READ\n /* x */ WRITE; END $x$",
        ] {
            assert!(asks(text), "{text}");
        }
    }

    #[test]
    fn what_does_not_is_let_through() {
        for text in [
            "BEGIN READ ONLY",
            "BEGIN",
            "SET transaction_read_only = on",
            "SET default_transaction_read_only TO true",
            "SET default_transaction_read_only TO 't'",
            "SET default_transaction_read_only TO DEFAULT",
            "SHOW transaction_read_only",
            "RESET default_transaction_read_only",
            "select current_setting('transaction_read_only')",
            "select read write from t",
            "select 'begin read write'",
            "select 1 -- set transaction read write",
            "set application_name = 'read write'",
            "do $$ begin perform 1; end $$",
            "do $$ begin perform 'read write'; end $$",
            "write",
            "",
        ] {
            assert!(!asks(text), "{text}");
        }
    }
}
