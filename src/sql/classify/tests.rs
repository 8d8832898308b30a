//! What texts are taken for.

use proptest::prelude::*;

use super::*;

fn of(text: &str) -> Traits {
    classify(text.as_bytes())
}

#[test]
fn statements_that_leave_state_are_seen() {
    // P86, P87
    for text in [
        "SET search_path = a",
        "set /* x */ session work_mem to '1MB'",
        "SET ROLE bob",
        "SET SESSION AUTHORIZATION bob",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET local.x = '1'",
        "SET session.x = '1'",
        "SET transaction.x = '1'",
        "SET names.x = '1'",
        "SET transaction_isolation = 'serializable'",
        "PREPARE p AS SELECT 1",
        "PREPARE transaction AS SELECT 1",
        "LISTEN c",
        "LOAD 'x'",
        "DO $$ begin end $$",
        "CREATE TEMP TABLE t ()",
        "create -- x\n local temporary table t ()",
        "CREATE OR REPLACE TEMP VIEW v AS SELECT 1",
        "CREATE TABLE pg_temp.t ()",
        "CREATE FUNCTION pg_temp_3.f() RETURNS int AS 'x'",
        "CREATE TABLE \"pg_temp\".t ()",
        "SELECT 1 INTO TEMP t",
        "SELECT 1 INTO LOCAL TEMPORARY TABLE t",
        "EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT pg_advisory_lock(1)",
        "SELECT PG_TRY_ADVISORY_LOCK_SHARED(1)",
        "WITH x AS (SELECT pg_catalog.\"pg_advisory_lock\"(1)) SELECT 1",
        "SELECT U&\"pg\\005fadvisory_lock\"(1)",
        "SELECT set_config('a', 'b', false)",
        "SELECT set_config('a', 'b', $1)",
        "SELECT set_config('a', 'b', not true)",
        "SELECT set_config('a', 'b', true), set_config('c', 'd', false)",
        "SELECT set_config('a', f(1, true), false)",
        "SELECT set_config('a', 'b', true",
        "SELECT dblink_connect('x')",
        "SELECT setseed(0.5)",
        "SELECT 1; SET x = 1",
        "BEGIN; SET a = 1; RESET b; COMMIT",
        ";;SET x = 1",
        "SET application_name = 'x'; SET x = 1",
        // As a server with standard_conforming_strings = off reads it.
        "SELECT 'a\\'; ', SET x = 1; --'; SET x = 1",
        "SELECT '\\''; SET x = 1; --'",
    ] {
        assert!(of(text).leaves_state(), "{text}");
        assert!(!of(text).sets_only_reported(), "{text}");
    }
}

#[test]
fn what_discard_all_does_not_take_is_told_apart() {
    for text in [
        "SELECT setseed(0.5), random()",
        "SET LOCAL Seed = 0.5",
        "SELECT set_config('seed', '0.5', true)",
        "LOAD 'x'",
        "select pg_catalog.pg_replication_origin_session_setup('x')",
        "SELECT * FROM pg_create_logical_replication_slot('x', 'pgoutput', true)",
        "SELECT \"dblink_connect_u\"('x', 'y')",
        "BEGIN; SELECT pg_backup_start('x'); COMMIT",
    ] {
        assert!(of(text).outlives_discard() && of(text).leaves_state(), "{text}");
    }
    for text in ["SET x = 1", "SELECT pg_advisory_lock(1)", "SELECT 'setseed(1)'", "SET seed.x = 1"]
    {
        assert!(!of(text).outlives_discard(), "{text}");
    }
}

#[test]
fn statements_that_leave_nothing_are_let_go() {
    for text in [
        "",
        ";",
        "SELECT abalance FROM pgbench_accounts WHERE aid = 1;",
        "UPDATE t SET a = 1",
        "INSERT INTO temp VALUES (1)",
        "SELECT temp, hold FROM weather",
        "SET LOCAL x = 1",
        "SET LOCAL ROLE bob",
        "SET LOCAL SESSION AUTHORIZATION bob",
        "SET TRANSACTION READ ONLY",
        "SET SESSION TRANSACTION READ ONLY",
        "SET CONSTRAINTS ALL DEFERRED",
        "RESET x",
        "RESET ALL",
        "PREPARE TRANSACTION 'x'",
        "DEALLOCATE p",
        "UNLISTEN *",
        "NOTIFY c",
        "CREATE TABLE t (temp int)",
        "CREATE FUNCTION f() RETURNS int SET search_path = a AS 'x'",
        "ALTER ROLE bob SET x = 1",
        "CREATE RULE r AS ON INSERT TO t DO NOTHING",
        "DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_advisory_unlock_all()",
        "SELECT set_config('a', 'b', true)",
        "SELECT set_config($1, coalesce($2, ''), TRUE), set_config('c', 'd', true)",
        "SELECT 'SET x = 1; pg_advisory_lock'",
        "SELECT $$; SET x = 1$$, \"; LOAD\" -- ; SET x = 1",
        "/* SET x = 1; */ SELECT E'\\'; SET x = 1'",
        "CALL p()",
    ] {
        assert!(!of(text).leaves_state(), "{text}");
    }
}

#[test]
fn reported_parameters_need_no_discard() {
    // P44, P45
    for text in [
        "SET application_name = 'x'",
        "SET SESSION DateStyle TO 'ISO, DMY'",
        "set \"TimeZone\" = 'UTC'",
        "SET TIME ZONE 'UTC'",
        "SET SESSION TIME ZONE LOCAL",
        "SET NAMES 'utf8'",
        "SET client_encoding TO DEFAULT",
        "SET intervalstyle = iso_8601; SET standard_conforming_strings = on; SELECT 1",
    ] {
        assert!(of(text).leaves_state(), "{text}");
        assert!(of(text).sets_only_reported(), "{text}");
    }
    assert!(!of("SELECT 1").sets_only_reported());
}

#[test]
fn blocks_are_chained() {
    for text in ["COMMIT AND CHAIN", "rollback work and chain;", "END AND CHAIN", "ABORT AND CHAIN"]
    {
        assert!(of(text).chains() && of(text).ends_block(), "{text}");
    }
    for text in ["COMMIT", "COMMIT AND NO CHAIN", "ROLLBACK TO chain", "SELECT 1 AS chain"] {
        assert!(!of(text).chains(), "{text}");
    }
}

#[test]
fn blocks_end() {
    for text in [
        "COMMIT",
        "END;",
        "ROLLBACK WORK",
        "abort",
        "COMMIT AND CHAIN",
        "PREPARE TRANSACTION 'x'",
        "/* x */ END -- y",
    ] {
        assert!(of(text).ends_block(), "{text}");
    }
    for text in [
        "ROLLBACK TO a",
        "ROLLBACK WORK TO SAVEPOINT a",
        "COMMIT PREPARED 'x'",
        "ROLLBACK PREPARED 'x'",
        "COMMIT; SELECT 1",
        "SELECT 1; COMMIT",
        "PREPARE p AS SELECT 1",
        "RELEASE a",
    ] {
        assert!(!of(text).ends_block(), "{text}");
    }
}

#[test]
fn what_gives_up_statements_and_resets_is_told_apart() {
    let facts = |text| {
        let traits = of(text);
        (traits.names_statements(), traits.deallocates_all(), traits.resets())
    };
    // P51
    assert_eq!(facts("DISCARD ALL"), (false, true, true));
    assert_eq!(facts("DISCARD PLANS"), (false, false, false));
    assert_eq!(facts("discard temp;"), (false, false, false));
    assert_eq!(facts("DEALLOCATE ALL"), (false, true, false));
    assert_eq!(facts("DEALLOCATE PREPARE ALL"), (false, true, false));
    assert_eq!(facts("DEALLOCATE \"all\""), (true, false, false));
    assert_eq!(facts("DEALLOCATE p"), (true, false, false));
    assert_eq!(facts("EXPLAIN ANALYZE EXECUTE p"), (true, false, false));
    assert_eq!(facts("PREPARE p AS SELECT 1"), (true, false, false));
    assert_eq!(facts("PREPARE TRANSACTION 'p'"), (false, false, false));
    assert_eq!(facts("RESET ALL"), (false, false, true));
    assert_eq!(facts("RESET a"), (false, false, true));
}

/// P68: what a text means when it is parsed depends on more than its words.
#[test]
fn what_changes_the_meaning_of_later_texts_is_seen() {
    for text in [
        "SET LOCAL search_path = a",
        "SET TimeZone = 'UTC'",
        "RESET ALL",
        "SELECT set_config('search_path', 'a', true)",
        "create table t ()",
        "ALTER TABLE t ADD b int",
        "DROP VIEW v",
        "SELECT 1; DISCARD ALL",
        "DO $$ begin end $$",
    ] {
        assert!(of(text).changes_meaning(), "{text}");
    }
    for text in [
        "SET SESSION role = a",
        "SELECT set_config($1, 'a', true)",
        "SELECT set_config('search' || '.path', 'a', true)",
        "SELECT set_config('my.own', set_config('role', 'a', true), true)",
    ] {
        assert!(of(text).changes_meaning(), "{text}");
    }
    // Nor is anything changed by what is only about running, or a name of the client's own.
    for text in [
        "SET TRANSACTION READ ONLY",
        "INSERT INTO t VALUES (1)",
        "BEGIN",
        "SHOW x",
        "",
        "SET LOCAL my.own = 'a'",
        "set statement_timeout to '1s'",
        "SET LOCAL maintenance_work_mem = '1GB'",
        "SELECT set_config('my.own', $1, true)",
    ] {
        assert!(!of(text).changes_meaning(), "{text}");
    }
}

/// P55: what gives other columns to texts that are known.
#[test]
fn what_alters_the_results_of_others_is_seen() {
    for text in [
        "ALTER TABLE t ADD b int",
        "begin; drop view v",
        "create or replace view v as select 1",
        "create unlogged table t ()",
        "create operator + (function = f)",
        "select 1 into t",
        "DO $$ begin end $$",
    ] {
        assert!(of(text).alters_results(), "{text}");
    }
    for text in [
        "create temp table t ()",
        "create local temporary table t ()",
        "select 1 into temp t",
        "insert into t select 1",
        "alter role r login",
        "set a = b",
    ] {
        assert!(!of(text).alters_results(), "{text}");
    }
}

/// P87: where a SET is hidden, or no SET at all.
#[test]
fn what_sets_without_a_set_is_seen() {
    for text in [
        "update pg_settings set setting = 1 where name = 'work_mem'",
        "with x as (update only pg_catalog.\"pg_settings\" set setting = 1) select 1",
        "select query_to_xml($1, true, true, '')",
        "select ts_stat('select 1')",
        "select * from crosstab($$select set_config('a', 'b', false)$$) as t (a text)",
    ] {
        assert!(of(text).leaves_state() && !of(text).sets_only_reported(), "{text}");
    }
    for text in [
        "select name from pg_settings where setting = 'update'",
        "select 'query_to_xml(1)'",
        "select E'\u{e9}\\n'",
    ] {
        assert!(!of(text).leaves_state(), "{text}");
    }
}

#[test]
fn where_new_things_go_may_be_told_by_a_setting() {
    for text in [
        "set local search_path to 'pg_temp'",
        "set local schema 'pg_temp'",
        "select set_config('search_path', $1, true)",
        "select set_config($1, $2, true)",
    ] {
        assert!(of(text).moves(), "{text}");
    }
    for text in ["set local work_mem to 1", "select set_config('my.own', $1, true)", "select 1"] {
        assert!(!of(text).moves(), "{text}");
    }
    assert!(of("begin; set local x to 1").sets() && !of("select 'set x to 1'").sets());
}

#[test]
fn only_provably_reading_texts_do_not_write() {
    // P92: these may be reported as rolled back.
    for text in [
        "",
        "SELECT abalance FROM pgbench_accounts WHERE aid = 1;",
        "(SELECT 1) UNION (SELECT count(*) FROM t.u WHERE t.a IN (1, 2))",
        "WITH x AS (SELECT lower(a) FROM t) SELECT DISTINCT ON (a) a FROM x WHERE b = ANY ($1)",
        "SELECT a::numeric(10,2), row_number() OVER (PARTITION BY b) FROM t",
        "VALUES (1), (2)",
        "TABLE t",
        "SHOW search_path",
        "EXPLAIN DELETE FROM t",
        "EXPLAIN (VERBOSE) INSERT INTO t VALUES (f(1))",
        "BEGIN",
        "ROLLBACK",
        "SET x = 1",
        "SELECT 'INSERT INTO t', \"update\".a FROM \"update\"",
        "SELECT 1; SELECT now()",
    ] {
        let quoted_keyword = text.contains("\"update\"");
        assert_eq!(of(text).may_write(), quoted_keyword, "{text}");
    }
    for text in [
        "INSERT INTO t VALUES (1)",
        "SELECT nextval('s')",
        "SELECT my.lower('a')",
        "SELECT lower('a'), f /* x */ (1)",
        "SELECT \"f\"(1)",
        "SELECT 1 INTO t",
        "SELECT * FROM t FOR UPDATE",
        "SELECT * FROM t FOR KEY SHARE",
        "SELECT * FROM t FOR SHARE OF t",
        "WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x",
        "EXPLAIN ANALYZE DELETE FROM t",
        "EXPLAIN (ANALYZE, BUFFERS) SELECT 1",
        "CALL p()",
        "DO 'x'",
        "COMMIT",
        "COMMIT PREPARED 'x'",
        "ROLLBACK PREPARED 'x'",
        "PREPARE TRANSACTION 'x'",
        "COPY t FROM STDIN",
        "EXECUTE p",
        "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE",
        "SELECT 1; DROP TABLE t",
        "LISTEN x",
        "nonsense",
        "1",
        // As a server with standard_conforming_strings = off reads it.
        "SELECT '\\'', f(1), '",
    ] {
        assert!(of(text).may_write(), "{text}");
    }
}

#[test]
fn statements_are_counted_without_empty_ones() {
    for text in ["SELECT 1", ";SELECT 1;;", "SELECT 1; -- x", "SELECT ';'"] {
        assert!(!of(text).several_statements(), "{text}");
    }
    assert!(of("SELECT 1;SELECT 2").several_statements());
}

/// Statements of each kind, with whether they leave state.
const STATEMENTS: [(&str, bool); 8] = [
    ("SELECT 'a;b', f(1)", false),
    ("SET LOCAL x = 1", false),
    ("UPDATE t SET a = $$;$$", false),
    ("INSERT INTO t VALUES (E'\\';')", false),
    ("SET x = 1", true),
    ("CREATE TEMP TABLE t ()", true),
    ("LISTEN x", true),
    ("SELECT pg_advisory_lock(1)", true),
];

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(text: Vec<u8>) {
        let _traits = classify(&text);
    }

    /// State is found wherever its statement stands, whatever blanks and case it is written in.
    #[test]
    fn place_blanks_and_case_do_not_hide_state(
        picks in prop::collection::vec(0..STATEMENTS.len(), 1..5),
        blank in prop::sample::select(vec![" ", "\t\n", "/* ; 'x */", " -- '\n", "/*/**/*/ "]),
        upper: bool,
    ) {
        let text: Vec<String> = picks
            .iter()
            .map(|pick| STATEMENTS[*pick].0.replace(' ', blank))
            .collect();
        let text = text.join(&format!("{blank};{blank}"));
        let text = if upper { text.to_uppercase() } else { text.to_lowercase() };
        let traits = of(&text);
        let leaves = picks.iter().any(|pick| STATEMENTS[*pick].1);
        prop_assert_eq!(traits.leaves_state(), leaves, "{}", text);
        prop_assert_eq!(traits.several_statements(), picks.len() > 1, "{}", text);
    }
}

/// A text is read under the settings of its Parse wherever it is prepared again; these mean the same
/// under all.
#[test]
fn statements_about_transactions_and_settings_are_told_from_those_that_are_read() {
    for text in [
        "begin",
        "START TRANSACTION READ ONLY",
        "commit",
        "rollback to s",
        "savepoint s",
        "release s",
        "set transaction isolation level serializable",
        "SET x TO 'y'",
        "show all",
        "reset x",
        "deallocate all",
        "discard plans",
    ] {
        assert!(of(text).is_control(), "{text}");
    }
    for text in ["", "select 1", "begin; select 1", "prepare transaction 'x'", "vacuum", "call f()"]
    {
        assert!(!of(text).is_control(), "{text}");
    }
}

#[test]
fn a_fetch_is_known_wherever_it_stands() {
    assert!(classify(b"fetch 2 from cur").fetches());
    assert!(classify(b"select 1; FETCH ALL cur").fetches());
    assert!(!classify(b"move all in cur").fetches());
    assert!(!classify(b"select fetch from t").fetches());
}

#[test]
fn settings_of_ours_are_known_wherever_they_are_named() {
    for text in [
        "SHOW pgweir.mode",
        "set session pgweir.mode = batch",
        "SELECT 1; RESET \"PGWEIR\".mode",
        "set \"pgweir.mode\" = 'batch'",
        "show U&\"pgweir\".mode",
        "select set_config('pgweir.mode', 'batch', false)",
        "select pg_catalog.set_config('PgWeir.x', '', true) from t",
    ] {
        assert!(of(text).names_ours(), "{text}");
    }
    for text in [
        "SHOW pgweir",
        "select 'pgweir.mode'",
        "select current_setting('pgweir.mode')",
        "insert into pgweir.mode values (1)",
        "set application_name = 'pgweir.mode'",
        "select set_config('pgweirs.mode', '', false)",
        "reset all",
    ] {
        assert!(!of(text).names_ours(), "{text}");
    }
}
