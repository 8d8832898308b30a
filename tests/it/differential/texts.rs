//! The texts that sequences are made of, and the tables that they work on.

#[derive(Debug, Clone, Copy)]
pub struct Text {
    pub text: &'static str,
    /// The types of its parameters, as values are given for them.
    pub parameters: &'static [Parameter],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    Number,
    Text,
}

/// What every sequence begins with. Table `t0` is client 0's to write to where several servers are
/// at work, for no two clients may wait for each other's locks.
pub const TABLES: &str = "\
    set client_min_messages = error; \
    drop table if exists t0, t1, t2, t3, c0, c1, c2, c3, fixed, n0, n1, n2, n3, p; \
    create table t0 (a int primary key, b text); create table t1 (like t0 including all); \
    create table t2 (like t0 including all); create table t3 (like t0 including all); \
    create table c0 (a int, b text); create table c1 (like c0); \
    create table c2 (like c0); create table c3 (like c0); \
    create table p (a int); \
    create table fixed as select n as a, 'text ' || n as b from generate_series(1, 5) n; \
    set client_min_messages = notice";

pub const ROWS: &str = "\
    delete from t0; delete from t1; delete from t2; delete from t3; \
    delete from c0; delete from c1; delete from c2; delete from c3; \
    delete from p";

/// What is looked at behind every sequence.
pub const LOOK: &str = "\
    table t0 order by a; table t1 order by a; table t2 order by a; table t3 order by a; \
    table c0 order by 1, 2; table c1 order by 1, 2; table c2 order by 1, 2; table c3 order by 1, 2; \
    table p order by a";

/// A copy in binary format, whole: the row (7, 'x').
pub const BINARY_COPY: &[u8] =
    b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x04\0\0\0\x07\0\0\0\x01x\xff\xff";

const NUMBER: &[Parameter] = &[Parameter::Number];
const BOTH: &[Parameter] = &[Parameter::Number, Parameter::Text];

/// `T` and `C` stand for a table that the client may write to, `G` for a name that a transaction of
/// its own may have. One that is prepared keeps its locks: it does nothing but insert into `p`, in
/// whose way nobody can be.
pub const PREPARED: &[(&str, &[Parameter])] = &[
    ("select 1 as one", &[]),
    ("select $1::int4 + 1", NUMBER),
    ("select $1::text || ' and ' || $1", &[Parameter::Text]),
    ("select $1, $2", BOTH),
    ("select * from fixed where a > $1", NUMBER),
    ("select * from fixed order by a", &[]),
    ("select * from T order by a", &[]),
    ("select b from T where a = $1", NUMBER),
    ("insert into T values ($1, $2)", BOTH),
    ("insert into T values ($1, $2) returning *", BOTH),
    ("update T set b = $2 where a = $1", BOTH),
    ("delete from T where a = $1", NUMBER),
    ("select generate_series(1, 7)", &[]),
    ("select date '01/02/2020', timestamptz '2020-06-01 12:00:00+00'", &[]),
    ("select '03/04/2021'::date::text, '1 day 2 hours'::interval::text", &[]),
    ("select 'back\\slash'", &[]),
    ("select 'Größe', length('Größe')", &[]),
    ("select 1/($1::int4 + (clock_timestamp() is null)::int4)", NUMBER),
    ("select 1/0", &[]),
    ("select * from nowhere", &[]),
    ("selec 1", &[]),
    ("", &[]),
    (" ; ", &[]),
    ("select 1; select 2", &[]),
    ("show datestyle", &[]),
    ("show timezone", &[]),
    ("begin", &[]),
    ("commit", &[]),
    ("rollback", &[]),
    ("savepoint s", &[]),
    ("rollback to s", &[]),
    ("deallocate all", &[]),
    ("discard all", &[]),
    ("set timezone to 'Europe/Berlin'", &[]),
    ("copy C from stdin", &[]),
    ("copy fixed to stdout", &[]),
    ("declare cur cursor for select * from fixed", &[]),
    ("lock table T", &[]),
    ("explain (costs off) select * from fixed", &[]),
    ("select length($1), $1::text", &[Parameter::Text]),
    ("select repeat('row', 300) from generate_series(1, $1)", NUMBER),
    ("values (1), (2), (3), (4)", &[]),
    ("notify nobody, 'hears it'", &[]),
    ("unlisten *", &[]),
    ("set local datestyle to 'SQL'", &[]),
    ("set transaction read only", &[]),
    ("set session characteristics as transaction read only", &[]),
    ("set session characteristics as transaction read write", &[]),
    ("show transaction_read_only", &[]),
    ("savepoint \"s t\"", &[]),
    ("rollback to \"s t\"", &[]),
    ("release s", &[]),
    ("close cur", &[]),
    ("move all in cur", &[]),
    ("rollback prepared G", &[]),
    ("commit prepared G", &[]),
    ("copy fixed to stdout (format binary)", &[]),
    ("copy C from stdin (format nonsense)", &[]),
];

pub const QUERIES: &[&str] = &[
    "select 1",
    "select 1; select 2; select 3",
    "",
    ";",
    "-- nothing",
    "selec",
    "select 1/0",
    "select 1; select 1/0; select 2",
    "insert into T values (1, 'one')",
    "insert into T values (2, 'two'); select 1/0",
    "insert into T values (3, 'three'); insert into T values (3, 'again')",
    "update T set b = b || '!'",
    "delete from T",
    "select * from T order by a",
    "select count(*) from T",
    "begin",
    "begin; insert into T values (4, 'four'); commit",
    "begin; insert into T values (5, 'five'); rollback",
    "start transaction isolation level serializable",
    "commit",
    "commit and chain",
    "rollback",
    "rollback; begin",
    "end",
    "savepoint s",
    "rollback to s",
    "release s",
    "set local datestyle to 'German'; show datestyle",
    "set local work_mem to '1MB'; show work_mem",
    "set datestyle to 'German'",
    "set datestyle to 'nonsense'",
    "set time zone 'Asia/Tokyo'",
    "set intervalstyle to 'iso_8601'",
    "set application_name to 'it''s me'",
    "set standard_conforming_strings to off",
    OTHER_ENCODING,
    "set names 'UTF8'",
    "reset datestyle",
    "reset timezone",
    "reset all",
    "begin; set timezone to 'Asia/Tokyo'; rollback",
    "begin; set timezone to 'Asia/Tokyo'; commit",
    "show datestyle",
    "show timezone",
    "show application_name",
    "show client_encoding",
    "select date '01/02/2020', timestamptz '2020-06-01 12:00:00+00', interval '1 day 2 hours'",
    "select 'back\\slash'",
    "declare cur cursor for select * from fixed; fetch 1 from cur",
    "declare cur scroll cursor for select * from fixed",
    "fetch 2 from cur",
    "move 1 in cur",
    "close cur",
    "close all",
    "copy C from stdin",
    "copy C from stdin; select 1",
    "select 1; copy C from stdin; select 1/0",
    "copy C from stdin; copy C from stdin",
    "copy C from stdin (format binary)",
    "copy fixed to stdout",
    "copy fixed to stdout; select 1",
    "copy nowhere from stdin",
    "copy (select 1/(3-a) from fixed) to stdout",
    "deallocate all",
    "deallocate prepare all",
    "discard all",
    "discard plans",
    "deallocate all; select 1",
    "select 1; deallocate all; select 1/0",
    "deallocate all; copy C from stdin",
    "prepare q1 as select 5; execute q1; deallocate q1",
    "begin; prepare q2 as select 6; execute q2; deallocate q2; commit",
    "notify nobody, 'hears it'",
    "begin; notify nobody; rollback",
    "deallocate nobody",
    "execute nobody",
    "do $$ begin raise notice 'psst'; end $$",
    "do $$ begin raise exception 'no' using errcode = '22000'; end $$",
    "create table if not exists fixed (a int)",
    "drop table if exists nowhere",
    "create table nowhere_either (a nosuchtype)",
    "begin; create table N (a int); insert into N values (1); table N; rollback",
    "select pg_advisory_xact_lock(1)",
    "begin; select lo_create(4711); select lo_unlink(4711); commit",
    "vacuum fixed",
    "begin; vacuum fixed",
    "explain (costs off) select * from fixed",
    "begin; listen here; notify here, 'me'; rollback",
    "begin; listen here; notify here, 'me'; commit; unlisten *",
    "listen here; notify here; unlisten here",
    "unlisten *",
    "unlisten nowhere; notify nowhere, 'then'",
    "savepoint s; notify nobody; rollback to s",
    "rollback; begin; insert into p values (1); prepare transaction G",
    "rollback; begin; prepare transaction G",
    "rollback; begin; listen here; prepare transaction G",
    "rollback; begin; prepare transaction G; begin; prepare transaction G",
    "prepare transaction",
    "commit prepared G",
    "rollback prepared G",
    "commit prepared 'nobody''s'",
    "begin; rollback prepared G",
    "set local timezone to 'Asia/Tokyo'; show timezone",
    "begin; set local datestyle to 'German'; set datestyle to 'SQL'; commit; show datestyle",
    "begin; set local statement_timeout to '1h'; show statement_timeout; commit",
    "set transaction read only",
    "set transaction isolation level serializable, read only, deferrable",
    "select 1; set transaction isolation level repeatable read",
    "begin isolation level repeatable read read only",
    "set session characteristics as transaction read only",
    "set session characteristics as transaction read write",
    "begin; set session characteristics as transaction isolation level serializable; \
        show default_transaction_isolation; rollback",
    "show transaction_isolation; show transaction_read_only",
    "show default_transaction_read_only",
    "set default_transaction_read_only to on",
    "set default_transaction_read_only to default",
    "set constraints all deferred",
    "begin; set local role nobody",
    "savepoint s; savepoint t; select 1/0",
    "savepoint s; set datestyle to 'German'; savepoint t; set datestyle to 'SQL'; rollback to t",
    "savepoint s; set timezone to 'Asia/Tokyo'; release s",
    "rollback to t",
    "rollback to s; set timezone to 'Asia/Tokyo'",
    "rollback to savepoint s; release savepoint s",
    "begin; savepoint s; select nothing; rollback to s; commit",
    "begin; declare h cursor with hold for select * from fixed; fetch 1 from h; rollback",
    "begin; declare h cursor with hold for select * from fixed; close h; commit",
    "declare h cursor with hold for select 1; close h",
    "fetch backward 1 from cur",
    "fetch all from cur; close cur",
    "copy C from stdin (format nonsense)",
    "copy C (a, nosuch) from stdin",
    "copy C from stdin (format csv)",
    "copy fixed to stdout (format csv, header)",
    "copy fixed to stdout (format binary)",
    "copy (select repeat('x', 3000) from generate_series(1, 40)) to stdout",
    "select repeat('wide', 30000)",
    "select repeat('row', 5000) from generate_series(1, 12)",
    "select repeat('no number', 9000)::int4",
    "do $$ begin raise notice '%', repeat('psst', 20000); end $$",
    "do $$ begin raise exception '%', repeat('no', 30000); end $$",
];

pub const STATEMENTS: &[&str] = &["", "a", "b", "c", "d", "A b", "Größe"];
/// PostgreSQL knows a name by its characters, pgweir by its bytes, which are the same name in one
/// encoding only: a sequence has either this or names that are not ASCII.
pub const OTHER_ENCODING: &str = "set client_encoding to 'LATIN1'";
pub const PORTALS: &[&str] = &["", "", "", "p", "q", "P 1"];
pub const LONG: &str =
    "a name that is longer than the sixty-three bytes that an identifier may have";

/// Names that nobody would give, and that PostgreSQL takes.
pub const ODD: &[&str] = &[
    "pgweir_1",
    "pgweir_2",
    "all",
    "p\"q'r",
    "line\nbreak",
    "\u{1}",
    " ",
    "a name that is longer than the sixty-three bytes that an identifier may have, and goes on",
];

/// Rows for `copy … (format csv)`, which are none for `copy …`.
pub const CSV_COPY: &[u8] = b"1,some text\n2,more\n";
