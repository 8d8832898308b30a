//! Texts that may be run once more without anybody noticing, given that they write nothing.

use super::lexer::Reading;
use super::words::{WORDS_MAX, Word, statements};

/// True if each statement of a text only reads, and calls nothing that is known to act outside of its
/// transaction: of a transaction that writes nothing it may then be run again, on another server.
///
/// What a function of the user's own does is not known here. It writes nothing where this is asked.
pub fn may_repeat(text: &[u8], reading: Reading) -> bool {
    statements(text, reading).all(|statement| {
        let first = statement.first().map_or("", Word::bare);
        let is_query = matches!(first, "select" | "with" | "values" | "table" | "show" | "(");
        // Of a longer one the end was not read.
        let is_read = statement.len() < WORDS_MAX;
        is_query && is_read && !statement.iter().any(acts_outside)
    })
}

/// True for the name of a function that does something which no rollback takes back, or holds something.
fn acts_outside(word: &Word<'_>) -> bool {
    let Some(name) = word.name() else { return word.is_in_numbers() };
    let name = String::from_utf8_lossy(&name);
    OUTSIDE.contains(&&*name) || OUTSIDE_BEGIN.iter().any(|begin| name.starts_with(begin))
}

const OUTSIDE: &[&str] = &[
    "pg_notify",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_switch_wal",
    "pg_create_restore_point",
    "pg_promote",
    "pg_logical_emit_message",
    "pg_log_backend_memory_contexts",
    "pg_log_standby_snapshot",
    "set_config",
    "setval",
    "nextval",
    "pg_stat_reset",
    "into",
];

const OUTSIDE_BEGIN: &[&str] = &[
    "pg_advisory_",
    "pg_try_advisory_",
    "dblink",
    "lo_",
    "pg_stat_reset_",
    "pg_replication_",
    "pg_create_",
    "pg_drop_",
    "pg_logical_",
    "pg_start_",
    "pg_stop_",
    "pg_sync_",
    "query_to_xml",
    "cursor_to_xml",
    "ts_stat",
    "ts_rewrite",
    "pg_stat_statements_reset",
    "pg_wal_replay_",
    "pg_backup_",
    "pg_file_",
    "pg_copy_",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_reads_may_be_run_again() {
        for text in [
            "select 1",
            "SELECT * FROM t WHERE f(a) > 2; values (1)",
            "with x as (select 1) table x",
            "show all",
            "(select 1)",
            "select pg_sleep(1)",
            "select 'pg_notify'",
            "",
            "select pg_is_in_recovery()",
        ] {
            assert!(may_repeat(text.as_bytes(), Reading::Standard), "{text}");
        }
    }

    #[test]
    fn what_is_too_long_to_be_read_may_not() {
        let text = format!("select {} pg_notify('a', 'b')", "1, ".repeat(200));
        assert!(!may_repeat(text.as_bytes(), Reading::Standard));
    }

    #[test]
    fn what_acts_outside_may_not() {
        for text in [
            "select pg_notify('a', 'b')",
            "notify a",
            "listen a",
            "select pg_terminate_backend(1)",
            "select pg_catalog.PG_ADVISORY_LOCK(1)",
            "select \"pg_try_advisory_lock\"(1)",
            "select * from dblink('x', 'insert …')",
            "select lo_import('/x')",
            "call p()",
            "do 'x'",
            "begin",
            "set a = 1",
            "copy t to program 'x'",
            "execute s",
            "select 1; call p()",
            "select U&\"\\0070g_notify\"('a', 'b')",
            "select set_config('a', 'b', false)",
            "explain analyze select 1",
            "insert into t values (1)",
            "select * from pg_logical_slot_get_changes('s', null, null)",
            "select query_to_xml('select pg_notify(…)', true, true, '')",
        ] {
            assert!(!may_repeat(text.as_bytes(), Reading::Standard), "{text}");
        }
    }
}
