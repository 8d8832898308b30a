"""psycopg2 through a pool: what a script may expect, and what it must not see of others."""

from __future__ import annotations

import io
import threading

import psycopg2
import psycopg2.extras
import pytest
from psycopg2 import errors

from support.load import in_threads
from support.values import VALUES
from support.wait import wait_until

pytestmark = pytest.mark.each_pool

BATCH = 1000


@pytest.fixture
def conn(proxy):
    conn = proxy.connect()
    yield conn
    conn.close()


def ask(conn, sql: str, *args):
    """The first value of a query, or None for no row."""
    cursor = conn.cursor()
    cursor.execute(sql, args or None)
    row = cursor.fetchone()
    return row[0] if row else None


# Transactions


def test_a_committed_row_is_there_for_others_and_a_rolled_back_one_is_not(conn, observer):
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE t (id int)")
    conn.commit()

    cursor.execute("INSERT INTO t VALUES (1)")
    conn.rollback()
    cursor.execute("INSERT INTO t VALUES (2)")
    conn.commit()

    observer.execute("SELECT array_agg(id) FROM t")
    assert observer.fetchone()[0] == [2]


@pytest.mark.needs_servers(2)
def test_an_uncommitted_row_is_not_seen_by_another_client(proxy, conn):
    conn.cursor().execute("CREATE TABLE t (id int)")
    conn.commit()

    conn.cursor().execute("INSERT INTO t VALUES (1)")

    assert proxy.ask("SELECT count(*) FROM t") == 0


def test_with_conn_commits_on_success_and_rolls_back_on_an_exception(conn):
    with conn, conn.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id int)")
        cursor.execute("INSERT INTO t VALUES (1)")

    with pytest.raises(RuntimeError), conn, conn.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (2)")
        raise RuntimeError("changed my mind")

    assert ask(conn, "SELECT array_agg(id) FROM t") == [1]


def test_a_savepoint_undoes_only_what_came_after_it(conn):
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    cursor.execute("SAVEPOINT here")
    cursor.execute("INSERT INTO t VALUES (2)")
    cursor.execute("ROLLBACK TO SAVEPOINT here")
    conn.commit()

    assert ask(conn, "SELECT array_agg(id) FROM t") == [1]


def test_a_transaction_left_open_by_a_client_is_rolled_back_before_the_next(start):
    proxy = start(pool={"size": 1})
    proxy.connect(autocommit=True).cursor().execute("CREATE TABLE t (id int)")
    leaver = proxy.connect()
    leaver.cursor().execute("INSERT INTO t VALUES (1)")

    leaver.close()

    assert proxy.ask("SELECT count(*) FROM t") == 0


def test_an_isolation_level_holds_in_its_transaction_and_nowhere_else(start):
    proxy = start(pool={"size": 1})
    strict = proxy.connect()
    strict.set_session(isolation_level="SERIALIZABLE")

    assert ask(strict, "SHOW transaction_isolation") == "serializable"
    strict.commit()

    assert proxy.ask("SHOW transaction_isolation") == "read committed"
    assert ask(strict, "SHOW transaction_isolation") == "serializable"


@pytest.mark.targets()
def test_session_characteristics_end_with_their_transaction_and_startup_options_do_not(proxy):
    conn = proxy.connect(autocommit=True)
    conn.cursor().execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    assert ask(conn, "SHOW transaction_isolation") == "read committed"

    conn = proxy.connect(autocommit=True, options="-c default_transaction_isolation=serializable")
    for _ in range(3):
        assert ask(conn, "SHOW transaction_isolation") == "serializable"


def test_two_phase_commit_commits_what_was_prepared(conn, proxy):
    conn.cursor().execute("CREATE TABLE t (id int)")
    conn.commit()
    xid = conn.xid(1, proxy.database, "branch")

    conn.tpc_begin(xid)
    conn.cursor().execute("INSERT INTO t VALUES (1)")
    conn.tpc_prepare()
    assert proxy.ask("SELECT count(*) FROM t") == 0
    conn.tpc_commit()

    assert proxy.ask("SELECT count(*) FROM t") == 1


def test_what_two_phase_commit_prepared_another_client_finds_and_rolls_back(conn, proxy):
    conn.cursor().execute("CREATE TABLE t (id int)")
    conn.commit()
    conn.tpc_begin(conn.xid(2, proxy.database, "branch"))
    conn.cursor().execute("INSERT INTO t VALUES (1)")
    conn.tpc_prepare()
    conn.close()

    finder = proxy.connect()
    [xid] = [xid for xid in finder.tpc_recover() if xid.gtrid == proxy.database]
    finder.reset()
    finder.tpc_rollback(xid)

    assert proxy.ask("SELECT count(*) FROM t") == 0


def test_set_session_makes_each_transaction_of_its_client_read_only_and_deferrable(conn, proxy):
    conn.set_session(isolation_level="REPEATABLE READ", readonly=True, deferrable=True)

    for _ in range(3):
        with pytest.raises(errors.ReadOnlySqlTransaction):
            ask(conn, "CREATE TABLE t (id int)")
        conn.rollback()
        assert ask(conn, "SHOW transaction_deferrable") == "on"
        conn.rollback()
        assert proxy.ask("SHOW transaction_read_only") == "off"


def test_autocommit_switched_on_and_off_ends_and_begins_transactions(conn, proxy):
    conn.autocommit = True
    conn.cursor().execute("CREATE TABLE t (id int)")
    conn.cursor().execute("INSERT INTO t VALUES (1)")
    conn.autocommit = False
    conn.cursor().execute("INSERT INTO t VALUES (2)")
    conn.rollback()
    conn.autocommit = True

    assert ask(conn, "SELECT array_agg(id) FROM t") == [1]


# Statements


def test_a_value_of_each_type_comes_back_as_it_went(conn):
    psycopg2.extras.register_uuid(conn_or_curs=conn)
    for sql_type, value in VALUES.items():
        sent = psycopg2.extras.Json(value) if sql_type in ("json", "jsonb") else value

        received = ask(conn, f"SELECT CAST(%s AS {sql_type})", sent)

        assert (bytes(received) if sql_type == "bytea" else received) == value, sql_type
        assert ask(conn, f"SELECT NULL::{sql_type}") is None


def test_a_statement_prepared_in_sql_lasts_for_its_transaction(conn):
    for _ in range(3):
        cursor = conn.cursor()
        cursor.execute("PREPARE twice (int) AS SELECT $1 * 2")
        for n in range(20):
            cursor.execute("EXECUTE twice (%s)", (n,))
            assert cursor.fetchone() == (2 * n,)
        cursor.execute("DEALLOCATE twice")
        conn.commit()


def test_an_executemany_of_1000_rows_arrives_whole(conn):
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE t (id int, name text)")

    cursor.executemany("INSERT INTO t VALUES (%s, %s)", [(i, f"row {i}") for i in range(BATCH)])
    conn.commit()

    assert ask(conn, "SELECT count(DISTINCT name) FROM t") == BATCH


@pytest.mark.parametrize("insert", ["execute_values", "execute_batch"])
def test_a_batch_helper_inserts_1000_rows(conn, insert):
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE t (id int, name text)")
    rows = [(i, f"row {i}") for i in range(BATCH)]

    if insert == "execute_values":
        psycopg2.extras.execute_values(cursor, "INSERT INTO t VALUES %s", rows)
    else:
        psycopg2.extras.execute_batch(cursor, "INSERT INTO t VALUES (%s, %s)", rows)
    conn.commit()

    assert ask(conn, "SELECT count(DISTINCT name) FROM t") == BATCH


def test_several_statements_in_one_string_run_in_order(conn):
    assert ask(conn, "CREATE TABLE t (n int); INSERT INTO t VALUES (7); SELECT n FROM t") == 7


@pytest.mark.parametrize("megabytes", [1, 16])
def test_a_long_value_comes_back_as_it_went(conn, megabytes):
    sent = "pgweir! " * (megabytes * 131072)

    assert ask(conn, "SELECT %s::text", sent) == sent


def test_a_result_of_100000_rows_has_them_all_in_order(conn):
    cursor = conn.cursor()
    cursor.execute("SELECT n, repeat('x', n %% 50) FROM generate_series(1, %s) n", (100_000,))

    rows = cursor.fetchall()

    assert [row[0] for row in rows] == list(range(1, 100_001))
    assert all(len(text) == n % 50 for n, text in rows)


def test_an_error_leaves_the_connection_usable(conn):
    with pytest.raises(errors.DivisionByZero):
        ask(conn, "SELECT 1 / 0")
    with pytest.raises(errors.InFailedSqlTransaction):
        ask(conn, "SELECT 1")
    conn.rollback()

    assert ask(conn, "SELECT 1") == 1


def test_an_error_in_autocommit_does_not_stop_the_next_statement(proxy):
    conn = proxy.connect(autocommit=True)

    for _ in range(20):
        with pytest.raises(errors.UndefinedTable):
            ask(conn, "SELECT * FROM no_such_table")
        assert ask(conn, "SELECT 1") == 1


def test_an_error_keeps_its_detail_hint_and_constraint(conn):
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE t (id int CONSTRAINT only_once PRIMARY KEY)")
    cursor.execute("INSERT INTO t VALUES (1)")

    with pytest.raises(errors.UniqueViolation) as caught:
        cursor.execute("INSERT INTO t VALUES (1)")

    assert caught.value.diag.constraint_name == "only_once"
    assert "(id)=(1)" in caught.value.diag.message_detail


def test_a_notice_reaches_the_client_that_caused_it(conn, proxy):
    other = proxy.connect()

    conn.cursor().execute("DO $$ BEGIN RAISE NOTICE 'mind the gap'; END $$")
    conn.commit()

    assert any("mind the gap" in notice for notice in conn.notices)
    assert ask(other, "SELECT 1") == 1
    assert other.notices == []


def test_a_large_object_written_by_function_calls_reads_back(conn):
    content = bytes(range(256)) * 64
    written = conn.lobject(0, "wb")
    written.write(content)
    written.close()

    assert conn.lobject(written.oid, "rb").read() == content


# COPY, cursors, cancel


def test_copy_in_and_copy_out_carry_the_same_rows(conn):
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE t (id int, name text)")
    text = "".join(f"{i}\trow {i}\n" for i in range(20_000))

    cursor.copy_expert("COPY t FROM STDIN", io.StringIO(text))
    out = io.StringIO()
    cursor.copy_expert("COPY (SELECT * FROM t ORDER BY id) TO STDOUT", out)
    conn.commit()

    assert out.getvalue() == text


def test_a_copy_that_fails_leaves_the_connection_usable(conn):
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE t (id int)")
    conn.commit()
    text = "1\n" * 50_000 + "not a number\n" + "2\n" * 50_000

    with pytest.raises(errors.InvalidTextRepresentation):
        cursor.copy_expert("COPY t FROM STDIN", io.StringIO(text))
    conn.rollback()

    assert ask(conn, "SELECT count(*) FROM t") == 0


def test_a_copy_given_up_by_the_client_leaves_the_connection_usable(conn):
    class Broken(io.StringIO):
        def read(self, _size=-1):
            raise OSError("the disk is gone")

    conn.cursor().execute("CREATE TABLE t (id int)")
    conn.commit()

    with pytest.raises(errors.QueryCanceled):
        conn.cursor().copy_expert("COPY t FROM STDIN", Broken())
    conn.rollback()

    assert ask(conn, "SELECT count(*) FROM t") == 0


def test_a_server_side_cursor_walks_through_all_rows(conn):
    cursor = conn.cursor("walker")
    cursor.itersize = 100
    cursor.execute("SELECT generate_series(1, 5000)")

    assert [row[0] for row in cursor] == list(range(1, 5001))


def test_a_scrollable_named_cursor_goes_back_and_forth(conn):
    cursor = conn.cursor("walker", scrollable=True)
    cursor.execute("SELECT generate_series(1, 1000)")

    assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
    cursor.scroll(500, mode="absolute")
    assert cursor.fetchone() == (501,)
    cursor.scroll(-2)
    assert cursor.fetchone() == (500,)


def test_100000_rows_come_through_a_named_cursor_in_batches(conn):
    cursor = conn.cursor("walker")
    cursor.execute("SELECT n, repeat('x', n %% 50) FROM generate_series(1, %s) n", (100_000,))

    seen = 0
    while rows := cursor.fetchmany(7_000):
        assert rows[0] == (seen + 1, "x" * ((seen + 1) % 50))
        seen += len(rows)
    assert seen == 100_000


@pytest.mark.targets()
def test_a_cursor_with_hold_is_34000_after_its_transaction_and_the_session_goes_on(conn):
    cursor = conn.cursor("walker", withhold=True)
    cursor.execute("SELECT generate_series(1, 5000)")
    assert cursor.fetchone() == (1,)
    conn.commit()

    with pytest.raises(errors.InvalidCursorName):
        cursor.fetchall()
    conn.rollback()
    assert ask(conn, "SELECT 1") == 1


def test_copy_in_binary_carries_what_copy_out_gave(conn):
    cursor = conn.cursor()
    cursor.execute(
        "CREATE TABLE a AS SELECT n, repeat('x', n % 70) AS t FROM generate_series(1, 50000) n"
    )
    cursor.execute("CREATE TABLE b (n int, t text)")
    carried = io.BytesIO()

    cursor.copy_expert("COPY a TO STDOUT (FORMAT binary)", carried)
    carried.seek(0)
    cursor.copy_expert("COPY b FROM STDIN (FORMAT binary)", carried)

    assert ask(conn, "SELECT count(*) FROM (TABLE a EXCEPT ALL TABLE b) d") == 0
    assert ask(conn, "SELECT count(*) FROM b") == 50_000


def test_a_statement_timeout_of_the_transaction_is_57014_and_ends_with_it(conn):
    for _ in range(3):
        conn.cursor().execute("SET LOCAL statement_timeout = '50ms'")
        with pytest.raises(errors.QueryCanceled):
            ask(conn, "SELECT pg_sleep(30)")
        conn.rollback()
        assert ask(conn, "SELECT 1 FROM pg_sleep(0.1)") == 1
        conn.rollback()


def test_a_connection_that_is_polled_runs_statements_and_cancels_them(proxy):
    conn = psycopg2.connect(**proxy.params(), async_=True)
    psycopg2.extras.wait_select(conn)
    cursor = conn.cursor()
    for n in range(20):
        cursor.execute("SELECT %s", (n,))
        psycopg2.extras.wait_select(conn)
        assert cursor.fetchone() == (n,)

    cursor.execute("SELECT pg_sleep(30)")
    conn.poll()
    cancel_until_it_ends(conn, cursor)

    cursor.execute("SELECT 7")
    psycopg2.extras.wait_select(conn)
    assert cursor.fetchone() == (7,)


def cancel_until_it_ends(conn, cursor) -> None:
    """A cancel that comes before the query has begun does nothing, so it is asked for again."""
    canceller = threading.Event()

    def cancel() -> None:
        while not canceller.wait(0.05):
            conn.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        with pytest.raises(errors.QueryCanceled):
            psycopg2.extras.wait_select(conn)
    finally:
        canceller.set()
        thread.join()


def test_a_cancel_ends_the_query_and_nothing_else(start):
    proxy = start(pool={"size": 2})
    bystander, sleeper = proxy.connect(), proxy.connect()
    started = threading.Event()
    outcome: list[object] = []

    def sleep() -> None:
        started.set()
        try:
            outcome.append(ask(sleeper, "SELECT pg_sleep(30)"))
        except psycopg2.Error as error:
            outcome.append(error.pgcode)

    assert ask(bystander, "SELECT 1") == 1
    thread = threading.Thread(target=sleep)
    thread.start()
    started.wait(5)
    # A cancel that comes before the query has begun does nothing, so it is asked for again.
    wait_until(lambda: sleeper.cancel() or outcome, "the query is cancelled")
    thread.join()

    assert outcome == ["57014"]
    sleeper.rollback()
    assert ask(sleeper, "SELECT 2") == 2
    assert ask(bystander, "SELECT 3") == 3


def test_a_cancel_for_an_idle_client_cancels_nobody(start):
    proxy = start(pool={"size": 1})
    idle, busy = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    assert ask(idle, "SELECT 1") == 1
    over = threading.Event()

    def cancel_again_and_again() -> None:
        while not over.is_set():
            idle.cancel()

    thread = threading.Thread(target=cancel_again_and_again)
    thread.start()
    try:
        # The one server was `idle`'s a moment ago: a cancel for it must not reach `busy`.
        for i in range(100):
            assert ask(busy, "SELECT pg_sleep(0.005) IS NULL, %s", i) is False
    finally:
        over.set()
        thread.join()


# Sharing


def test_ten_connections_that_take_turns_keep_their_transactions_apart(proxy):
    conns = [proxy.connect() for _ in range(10)]
    conns[0].cursor().execute("CREATE TABLE t (client int, turn int)")
    conns[0].commit()

    for turn in range(10):
        for client, conn in enumerate(conns):
            conn.cursor().execute("INSERT INTO t VALUES (%s, %s)", (client, turn))
            assert ask(conn, "SELECT count(*) FROM t WHERE client = %s AND turn = %s", client, turn)
            if (client + turn) % 2:
                conn.rollback()
            else:
                conn.commit()

    kept = {(client, turn) for client in range(10) for turn in range(10) if not (client + turn) % 2}
    cursor = conns[0].cursor()
    cursor.execute("SELECT client, turn FROM t")
    assert set(cursor.fetchall()) == kept


def test_20_clients_on_2_servers_lose_no_update(start):
    proxy = start(pool={"size": 2})
    proxy.connect(autocommit=True).cursor().execute(
        "CREATE TABLE t (n int); INSERT INTO t VALUES (0)"
    )

    def add_ten(_client: int) -> None:
        conn = proxy.connect()
        for _ in range(10):
            conn.cursor().execute("UPDATE t SET n = n + 1")
            conn.commit()
        conn.close()

    in_threads(add_ten, calls=20, threads=20)

    assert proxy.ask("SELECT n FROM t") == 200


@pytest.mark.targets("pgbouncer")
def test_50_idle_clients_hold_no_server_in_transaction_mode(start, observer, database):
    proxy = start(pool={"size": 1})

    clients = [proxy.connect(autocommit=True) for _ in range(50)]

    assert [ask(client, "SELECT %s", i) for i, client in enumerate(clients)] == list(range(50))
    observer.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        " AND application_name NOT IN ('pgweir probe', 'test observer')",
        (database,),
    )
    assert observer.fetchone()[0] == 1


@pytest.mark.targets()
def test_a_process_id_in_transaction_mode_belongs_to_no_real_backend(conn):
    assert conn.info.backend_pid > 4_194_304


@pytest.mark.targets("direct", "pgbouncer")
def test_a_session_mode_client_keeps_its_server_and_its_state(start):
    conn = start(pool={"pool_mode": "session", "size": 2}).connect(autocommit=True)
    cursor = conn.cursor()
    cursor.execute("SET statement_timeout = '7s'")
    cursor.execute("CREATE TEMP TABLE mine AS SELECT 1 AS n")
    cursor.execute("PREPARE mine AS SELECT 2")
    pid = ask(conn, "SELECT pg_backend_pid()")

    assert ask(conn, "SHOW statement_timeout") == "7s"
    assert ask(conn, "SELECT n FROM mine") == 1
    assert ask(conn, "EXECUTE mine") == 2
    assert ask(conn, "SELECT pg_backend_pid()") == pid


STATE = {
    "SET": ("SET statement_timeout = '7s'", "SHOW statement_timeout", "0"),
    "SET search_path": ("SET search_path = pg_catalog", "SHOW search_path", '"$user", public'),
    "SET ROLE": ("SET ROLE other_role", "SELECT current_user::text", "app"),
    "set_config": ("SELECT set_config('work_mem', '7MB', false)", "SHOW work_mem", "4MB"),
    "SET SESSION CHARACTERISTICS": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SHOW default_transaction_read_only", "off",
    ),
    "temporary table": ("CREATE TEMP TABLE leak (id int)", "SELECT to_regclass('leak')", None),
    "SELECT INTO TEMP": ("SELECT 1 INTO TEMP leak", "SELECT to_regclass('leak')", None),
    "advisory lock": (
        "SELECT pg_advisory_lock(42)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()", 0,
    ),
    "PREPARE": (
        "PREPARE leak AS SELECT 1",
        "SELECT count(*) FROM pg_prepared_statements WHERE name = 'leak'", 0,
    ),
    "cursor WITH HOLD": (
        "DECLARE leak CURSOR WITH HOLD FOR SELECT 1",
        "SELECT count(*) FROM pg_cursors WHERE name = 'leak'", 0,
    ),
    "LISTEN": ("LISTEN leak", "SELECT count(*) FROM pg_listening_channels()", 0),
    "several in one string": (
        "SELECT 1; SET statement_timeout = '7s'; SELECT 2", "SHOW statement_timeout", "0",
    ),
    "after a comment": (
        "/* hello */ -- there\n SeT statement_timeout TO '7s'", "SHOW statement_timeout", "0",
    ),
}


@pytest.mark.targets("direct")
@pytest.mark.parametrize("make, look, clean", STATE.values(), ids=STATE)
def test_transaction_mode_shows_no_client_what_another_left(start, make, look, clean):
    proxy = start(pool={"size": 1})
    maker, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)

    maker.cursor().execute(make)

    assert ask(other, look) == clean


@pytest.mark.targets("direct")
@pytest.mark.parametrize("make, look, clean", STATE.values(), ids=STATE)
def test_transaction_mode_shows_no_state_made_inside_a_block(start, make, look, clean):
    proxy = start(pool={"size": 1})
    maker, other = proxy.connect(), proxy.connect(autocommit=True)

    maker.cursor().execute(make)
    maker.commit()

    assert ask(other, look) == clean


@pytest.mark.targets("direct", "pgbouncer")
@pytest.mark.parametrize("make, look, clean", STATE.values(), ids=STATE)
def test_session_mode_shows_no_client_what_an_earlier_one_left(start, make, look, clean):
    proxy = start(pool={"pool_mode": "session", "size": 1})
    maker = proxy.connect(autocommit=True)
    maker.cursor().execute(make)

    maker.close()

    assert proxy.ask(look) == clean


@pytest.mark.targets("direct")
def test_a_notification_does_not_reach_a_client_that_never_listened(start):
    proxy = start(pool={"size": 1})
    listener, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    listener.cursor().execute("LISTEN news")

    other.cursor().execute("NOTIFY news, 'hello'")
    other.cursor().execute("SELECT 1")
    other.poll()

    assert other.notifies == []


@pytest.mark.targets("direct", "pgbouncer")
def test_a_listener_in_session_mode_hears_what_others_notify(start):
    proxy = start(pool={"pool_mode": "session", "size": 2})
    listener, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    listener.cursor().execute("LISTEN news")

    other.cursor().execute("NOTIFY news, 'hello'")

    def heard():
        listener.poll()
        return [notify.payload for notify in listener.notifies]

    assert wait_until(heard, "the notification arrives") == ["hello"]


# What a client carries from server to server


CARRIED = {
    "application_name": ("alice", "bob"),
    "DateStyle": ("German, DMY", "SQL, MDY"),
    "TimeZone": ("Asia/Tokyo", "America/New_York"),
    "client_encoding": ("LATIN1", "UTF8"),
}


@pytest.mark.parametrize("name", CARRIED)
def test_two_clients_on_one_server_keep_their_own(start, name):
    proxy = start(pool={"size": 1})
    alice, bob = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    of_alice, of_bob = CARRIED[name]
    alice.cursor().execute(f"SET {name} = '{of_alice}'")
    bob.cursor().execute(f"SET {name} = '{of_bob}'")

    for _ in range(3):
        assert ask(alice, f"SHOW {name}") == of_alice
        assert ask(bob, f"SHOW {name}") == of_bob
    assert alice.get_parameter_status(name) == of_alice
    assert bob.get_parameter_status(name) == of_bob


# Debian's PgBouncer refuses the startup parameter `options`.
@pytest.mark.targets("direct")
def test_what_a_client_asks_for_at_startup_follows_it_to_every_server(start):
    proxy = start(pool={"size": 2})
    tokyo = proxy.connect(
        autocommit=True, application_name="tokyo", options="-c TimeZone=Asia/Tokyo"
    )
    plain = proxy.connect(autocommit=True)
    # One server is taken, so that the other has to do, and then the other way round.
    for _ in range(2):
        blocker = proxy.connect()
        ask(blocker, "SELECT 1")
        assert ask(tokyo, "SHOW TimeZone") == "Asia/Tokyo"
        assert ask(tokyo, "SHOW application_name") == "tokyo"
        assert ask(plain, "SHOW TimeZone") == "UTC"
        assert ask(plain, "SHOW application_name") == ""
        blocker.close()


def test_a_setting_that_is_rolled_back_is_not_carried(start):
    proxy = start(pool={"size": 1})
    conn, other = proxy.connect(), proxy.connect(autocommit=True)
    conn.cursor().execute("SET TimeZone = 'Asia/Tokyo'")
    conn.rollback()

    assert ask(other, "SHOW TimeZone") == "UTC"
    assert ask(conn, "SHOW TimeZone") == "UTC"


def test_latin1_text_is_stored_as_the_character_that_was_meant(start):
    proxy = start(pool={"size": 1})
    latin, unicode = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    latin.set_client_encoding("LATIN1")

    latin.cursor().execute("CREATE TABLE t (name text)")
    latin.cursor().execute("INSERT INTO t VALUES ('Zoë')")

    assert ask(unicode, "SELECT name FROM t") == "Zoë"
    assert ask(latin, "SELECT name FROM t") == "Zoë"


# Statement mode


@pytest.mark.targets()
def test_statement_mode_refuses_a_transaction_block_and_says_so(start):
    proxy = start(pool={"pool_mode": "statement"})

    with pytest.raises(psycopg2.Error, match="transaction block"):
        ask(proxy.connect(), "SELECT 1")

    assert proxy.ask("SELECT 1") == 1


def test_statement_mode_runs_single_statements(start):
    conn = start(pool={"pool_mode": "statement", "size": 1}).connect(autocommit=True)
    conn.cursor().execute("CREATE TABLE t (id int)")
    conn.cursor().execute("INSERT INTO t VALUES (1)")

    assert ask(conn, "SELECT count(*) FROM t") == 1
