"""psycopg 3 through a pool in transaction mode: prepared statements, pipelines, cursors, COPY."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import dict_row
from psycopg.types.json import Json, Jsonb
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from support.load import run_async
from support.values import VALUES
from support.wait import wait_until

pytestmark = pytest.mark.each_pool


def connect(proxy, **how) -> psycopg.Connection:
    how.setdefault("prepare_threshold", 0)
    return psycopg.connect(**proxy.params(), **how)


@pytest.fixture
def conn(proxy):
    with connect(proxy) as conn:
        yield conn


def one(conn, sql: str, args=None, **how):
    """The first value of a query."""
    return conn.execute(sql, args, **how).fetchone()[0]


# Prepared statements


@pytest.mark.targets("direct")
def test_two_clients_with_the_same_statement_names_get_their_own_answers(start):
    proxy = start(pool={"size": 1})
    with connect(proxy, autocommit=True) as alice, connect(proxy, autocommit=True) as bob:
        # Both call their first statement _pg3_0, with another text each.
        for i in range(10):
            assert one(alice, "SELECT %s::int + 1", (i,)) == i + 1
            assert one(bob, "SELECT %s::int * 10", (i,)) == i * 10


@pytest.mark.targets("direct")
def test_what_an_old_libpq_deallocates_in_sql_is_gone_for_its_client_alone(proxy):
    # A libpq before 17 cannot say Close: psycopg then says DEALLOCATE _pg3_0 in SQL.
    script = """
import psycopg, sys
assert psycopg.pq.__impl__ == "python" and psycopg.pq.version() < 170000, psycopg.pq.version()
conn = psycopg.connect(sys.argv[1], prepare_threshold=0, autocommit=True)
conn.prepared_max = 3
for _ in range(3):
    for n in range(8):
        assert conn.execute(f"SELECT %s::int + {n}", (n,)).fetchone() == (2 * n,)
"""
    with connect(proxy, autocommit=True) as bystander:
        assert one(bystander, "SELECT %s::int + 0", (1,)) == 1
        done = subprocess.run(
            [sys.executable, "-c", script, proxy.url()], capture_output=True, text=True,
            env={**os.environ, "PSYCOPG_IMPL": "python"}, timeout=30,
        )
        assert one(bystander, "SELECT %s::int + 0", (2,)) == 2

    assert done.returncode == 0, done.stderr


@pytest.mark.targets("direct")
def test_a_prepared_statement_works_on_a_server_that_never_saw_it(start):
    proxy = start(pool={"size": 2})
    with connect(proxy, autocommit=True) as alice:
        assert one(alice, "SELECT %s::int + 1", (1,)) == 2
        with connect(proxy) as blocker:
            # Whichever server the blocker holds, the statement has to work on the other.
            blocker.execute("SELECT 1")
            assert one(alice, "SELECT %s::int + 1", (2,)) == 3
            with connect(proxy, autocommit=True) as bob:
                assert one(bob, "SELECT 'bob'") == "bob"
        assert one(alice, "SELECT %s::int + 1", (3,)) == 4


@pytest.mark.targets("direct")
def test_many_clients_prepare_the_same_text_over_few_servers(start, observer):
    proxy = start(pool={"size": 2})

    async def client(number: int) -> list[int]:
        conn = await psycopg.AsyncConnection.connect(
            **proxy.params(), prepare_threshold=0, autocommit=True
        )
        async with conn:
            return [
                (await (await conn.execute("SELECT %s::int", (number + i,))).fetchone())[0]
                for i in range(20)
            ]

    async def all_clients():
        return await asyncio.gather(*(client(n) for n in range(20)))

    assert run_async(all_clients()) == [[n + i for i in range(20)] for n in range(20)]


@pytest.mark.targets("direct")
def test_a_driver_that_evicts_its_statements_may_prepare_them_again(conn):
    conn.prepared_max = 5
    conn.autocommit = True

    for _ in range(3):
        for n in range(12):
            assert one(conn, f"SELECT %s::int + {n}", (n,)) == 2 * n


@pytest.mark.targets("direct")
def test_more_statements_than_a_server_keeps_all_work(start):
    proxy = start(pool={"size": 1, "prepared_statements": 5})
    with connect(proxy, autocommit=True) as conn:
        for _ in range(3):
            for n in range(20):
                assert one(conn, f"SELECT %s::int + {n}", (n,)) == 2 * n


@pytest.mark.targets("direct")
def test_a_statement_that_fails_to_parse_can_be_prepared_once_it_makes_sense(conn):
    conn.autocommit = True
    with pytest.raises(errors.UndefinedTable):
        conn.execute("SELECT id FROM later WHERE id = %s", (1,))

    conn.execute("CREATE TABLE later (id int); INSERT INTO later VALUES (1)", prepare=False)

    assert one(conn, "SELECT id FROM later WHERE id = %s", (1,)) == 1


@pytest.mark.targets("direct")
def test_the_same_text_with_other_types_is_another_statement(start):
    proxy = start(pool={"size": 1})
    with connect(proxy, autocommit=True) as ints, connect(proxy, autocommit=True) as texts:
        for _ in range(3):
            assert one(ints, "SELECT pg_typeof(%s)::text", (2**40,)) == "bigint"
            assert one(texts, "SELECT pg_typeof(%s)::text", (1.5,)) == "double precision"


@pytest.mark.targets("direct")
def test_a_search_path_decides_which_table_a_prepared_statement_reads(start):
    proxy = start(pool={"size": 1, "pool_mode": "session"})
    for schema in ("one", "two"):
        with connect(proxy, autocommit=True) as conn:
            conn.execute(f"CREATE SCHEMA {schema}; SET search_path = {schema}", prepare=False)
            conn.execute(f"CREATE TABLE t AS SELECT '{schema}' AS name", prepare=False)
            assert one(conn, "SELECT name FROM t WHERE name <> %s", ("",)) == schema


@pytest.mark.targets("direct")
def test_a_rollback_or_a_drop_makes_the_driver_drop_its_statements_and_go_on(proxy):
    # psycopg says DEALLOCATE ALL after ROLLBACK, DROP and ALTER: the client's own go, no one else's.
    with connect(proxy) as alice, connect(proxy) as bob:
        for turn in range(5):
            for conn in (alice, bob):
                assert one(conn, "SELECT %s::int + 1", (turn,)) == turn + 1
                if turn % 2:
                    conn.rollback()
                else:
                    conn.execute("CREATE TABLE t (id int)")
                    conn.execute("DROP TABLE t")
                    conn.commit()


@pytest.mark.targets("direct")
def test_the_default_threshold_prepares_at_the_fifth_time_and_across_transactions(proxy, observer):
    with psycopg.connect(**proxy.params()) as conn:
        for i in range(20):
            assert one(conn, "SELECT %s::int + 1", (i,)) == i + 1
            conn.commit()
        assert len(conn._prepared._names) == 1


# Pipelines


@pytest.mark.targets("direct")
def test_a_pipeline_of_500_inserts_arrives_whole(conn):
    conn.execute("CREATE TABLE t (id int)")

    with conn.pipeline():
        for i in range(500):
            conn.execute("INSERT INTO t VALUES (%s)", (i,))

    assert one(conn, "SELECT count(DISTINCT id) FROM t") == 500


@pytest.mark.targets("direct")
def test_a_pipeline_returns_its_results_in_order(conn):
    with conn.pipeline():
        cursors = [conn.execute("SELECT %s::int", (i,)) for i in range(300)]

    assert [cursor.fetchone()[0] for cursor in cursors] == list(range(300))


@pytest.mark.targets("direct")
def test_an_error_in_a_pipeline_spoils_its_segment_and_not_the_next(conn):
    conn.autocommit = True
    conn.execute("CREATE TABLE t (id int)")

    with pytest.raises(errors.DivisionByZero), conn.pipeline() as pipeline:
        conn.execute("INSERT INTO t VALUES (1)")
        pipeline.sync()
        conn.execute("INSERT INTO t VALUES (2)")
        conn.execute("SELECT 1 / %s", (0,))
        pipeline.sync()
    conn.execute("INSERT INTO t VALUES (3)")

    assert one(conn, "SELECT array_agg(id ORDER BY id) FROM t") == [1, 3]


@pytest.mark.targets("direct")
def test_a_pipeline_with_large_rows_both_ways_does_not_deadlock(conn):
    large = "x" * 200_000

    with conn.pipeline():
        cursors = [conn.execute("SELECT %s || %s::text", (large, i)) for i in range(100)]

    assert [len(c.fetchone()[0]) for c in cursors] == [200_000 + len(str(i)) for i in range(100)]


@pytest.mark.targets("direct")
def test_two_pipelines_on_one_server_do_not_mix(start):
    proxy = start(pool={"size": 1})

    async def client(name: str) -> list[str]:
        conn = await psycopg.AsyncConnection.connect(
            **proxy.params(), prepare_threshold=0, autocommit=True
        )
        async with conn:
            async with conn.pipeline():
                cursors = [
                    await conn.execute("SELECT %s || %s::text", (name, i)) for i in range(50)
                ]
            return [(await cursor.fetchone())[0] for cursor in cursors]

    async def all_clients():
        return await asyncio.gather(*(client(name) for name in "abcdefgh"))

    assert run_async(all_clients()) == [[f"{n}{i}" for i in range(50)] for n in "abcdefgh"]


# Cursors, formats, COPY


def test_a_server_side_cursor_scrolls(proxy):
    with connect(proxy, prepare_threshold=None) as conn:
        cursor = conn.cursor("walker", scrollable=True)
        cursor.execute("SELECT generate_series(1, 1000)")

        assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
        cursor.scroll(990, mode="absolute")
        assert len(cursor.fetchall()) == 10


@pytest.mark.targets("direct", "pgbouncer")
def test_parameters_and_results_in_binary_come_back_as_they_went(proxy):
    sent = (b"\x00\x01\xff" * 1000, 2**40, 1.5, [1, 2, 3])
    with connect(proxy, prepare_threshold=None) as conn:
        cursor = conn.cursor(binary=True)
        row = cursor.execute("SELECT %b, %b::int8, %b, %b::int4[]", sent).fetchone()

    assert row == sent


def test_copy_carries_rows_in_and_out_in_binary(proxy):
    rows = [(i, f"row {i}") for i in range(5000)]
    with connect(proxy, prepare_threshold=None) as conn:
        conn.execute("CREATE TABLE t (id int8, name text)")
        with conn.cursor().copy("COPY t FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int8", "text"])
            for row in rows:
                copy.write_row(row)
        with conn.cursor().copy("COPY t TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["int8", "text"])
            read = list(copy.rows())

    assert read == rows


@pytest.mark.targets("direct")
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_a_value_of_each_type_comes_back_as_it_went(conn, binary):
    cursor = conn.cursor(binary=binary)
    for sql_type, value in VALUES.items():
        sent = {"json": Json, "jsonb": Jsonb}.get(sql_type, lambda plain: plain)(value)
        mark = "%b" if binary and sql_type not in ("int[]", "text[]") else "%s"
        query = f"SELECT CAST({mark} AS {sql_type}), NULL::{sql_type}"

        assert cursor.execute(query, (sent,)).fetchone() == (value, None), sql_type


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_100000_rows_come_through_a_server_side_cursor_in_batches(proxy, binary):
    with connect(proxy, prepare_threshold=None) as conn:
        cursor = conn.cursor("walker", binary=binary)
        cursor.itersize = 7_000
        cursor.execute("SELECT n, repeat('x', n %% 50) FROM generate_series(1, %s) n", (100_000,))

        for number, row in enumerate(cursor, start=1):
            assert row == (number, "x" * (number % 50))
    assert number == 100_000


def test_100000_rows_come_one_by_one_or_in_chunks(proxy):
    with connect(proxy, prepare_threshold=None) as conn:
        for size in (1, 1000) if psycopg.pq.version() >= 170000 else (1,):
            rows = conn.cursor().stream("SELECT generate_series(1, 100000)", size=size)
            assert sum(row[0] for row in rows) == 100_000 * 100_001 // 2


def test_a_copy_that_fails_names_its_line_and_leaves_the_connection_usable(proxy):
    with connect(proxy, prepare_threshold=None) as conn:
        conn.execute("CREATE TABLE t (id int)")
        conn.commit()
        with pytest.raises(errors.InvalidTextRepresentation) as caught:
            with conn.cursor().copy("COPY t FROM STDIN") as copy:
                for _ in range(50_000):
                    copy.write("1\n")
                copy.write("not a number\n")
        assert caught.value.diag.context.startswith("COPY t, line 50001")
        conn.rollback()

        assert one(conn, "SELECT count(*) FROM t") == 0


def test_a_copy_out_left_in_the_middle_leaves_the_connection_usable(proxy):
    with connect(proxy, prepare_threshold=None, autocommit=True) as conn:
        with pytest.raises(RuntimeError):
            with conn.cursor().copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT") as copy:
                next(iter(copy))
                raise RuntimeError("seen enough")

        assert one(conn, "SELECT 1") == 1


def test_a_streamed_result_left_in_the_middle_leaves_the_connection_usable(proxy):
    with connect(proxy, prepare_threshold=None, autocommit=True) as conn:
        stream = conn.cursor().stream("SELECT generate_series(1, 100000)")
        assert next(stream) == (1,)
        stream.close()

        assert one(conn, "SELECT 1") == 1


@pytest.mark.targets("direct")
def test_an_executemany_of_1000_rows_arrives_whole(conn):
    conn.execute("CREATE TABLE t (id int, name text)")

    conn.cursor().executemany(
        "INSERT INTO t VALUES (%s, %s)", [(i, f"row {i}") for i in range(1000)]
    )

    assert one(conn, "SELECT count(DISTINCT name) FROM t") == 1000


# Transactions, notices, cancel


@pytest.mark.targets("direct")
def test_an_inner_transaction_rolls_back_without_the_outer_one(conn):
    conn.execute("CREATE TABLE t (id int)")
    conn.commit()

    with conn.transaction():
        conn.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(errors.DivisionByZero), conn.transaction():
            conn.execute("INSERT INTO t VALUES (2)")
            conn.execute("SELECT 1 / 0")
        conn.execute("INSERT INTO t VALUES (3)")

    assert one(conn, "SELECT array_agg(id) FROM t") == [1, 3]


@pytest.mark.targets("direct")
def test_an_error_has_its_sqlstate_and_the_session_goes_on(conn):
    for _ in range(10):
        with pytest.raises(errors.DivisionByZero) as caught:
            conn.execute("SELECT 1 / %s", (0,))
        assert caught.value.sqlstate == "22012"
        with pytest.raises(errors.InFailedSqlTransaction):
            conn.execute("SELECT 1 / %s", (1,))
        conn.rollback()
        assert one(conn, "SELECT 1 / %s", (1,)) == 1
        conn.commit()


@pytest.mark.targets("direct")
def test_two_phase_commit_commits_what_was_prepared(conn, proxy):
    conn.execute("CREATE TABLE t (id int)")
    conn.commit()

    conn.tpc_begin(conn.xid(1, proxy.database, "branch"))
    conn.execute("INSERT INTO t VALUES (1)")
    conn.tpc_prepare()
    assert proxy.ask("SELECT count(*) FROM t") == 0
    conn.tpc_commit()

    assert proxy.ask("SELECT count(*) FROM t") == 1


@pytest.mark.targets("direct")
def test_a_read_only_serializable_connection_is_one_in_each_transaction(conn, proxy):
    conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    conn.read_only = True

    for _ in range(3):
        assert one(conn, "SHOW transaction_isolation") == "serializable"
        with pytest.raises(errors.ReadOnlySqlTransaction):
            conn.execute("CREATE TABLE t (id int)")
        conn.rollback()
        assert proxy.ask("SHOW transaction_read_only") == "off"


def test_a_notice_handler_hears_a_notice(proxy):
    heard = []
    with connect(proxy, prepare_threshold=None) as conn:
        conn.add_notice_handler(lambda diag: heard.append(diag.message_primary))
        conn.execute("DO $$ BEGIN RAISE NOTICE 'mind the gap'; END $$")

    assert heard == ["mind the gap"]


def test_a_cancel_ends_a_query_in_extended_protocol(proxy):
    outcome = []
    with connect(proxy, prepare_threshold=None, autocommit=True) as conn:
        def sleep() -> None:
            try:
                outcome.append(one(conn, "SELECT pg_sleep(%s)", (30,)))
            except errors.QueryCanceled:
                outcome.append("cancelled")

        thread = threading.Thread(target=sleep)
        thread.start()
        wait_until(lambda: conn.cancel_safe(timeout=5) or outcome, "the query is cancelled")
        thread.join()

        assert outcome == ["cancelled"]
        assert one(conn, "SELECT 1") == 1


def test_a_row_factory_sees_the_columns_names(proxy):
    with connect(proxy, prepare_threshold=None, row_factory=dict_row) as conn:
        assert conn.execute("SELECT 1 AS a, 'b' AS b").fetchone() == {"a": 1, "b": "b"}


# Async, pools


async def async_connect(proxy, **how) -> psycopg.AsyncConnection:
    how = {"prepare_threshold": 0, "autocommit": True, **how}
    return await psycopg.AsyncConnection.connect(**proxy.params(), **how)


@pytest.mark.targets("direct")
def test_an_async_connection_copies_streams_and_walks_through_a_cursor(proxy):
    async def body():
        async with await async_connect(proxy, autocommit=False) as conn:
            await conn.execute("CREATE TABLE t (id int, name text)")
            async with conn.cursor().copy("COPY t FROM STDIN") as copy:
                for i in range(5000):
                    await copy.write_row((i, f"row {i}"))
            async with conn.cursor().copy("COPY t TO STDOUT") as copy:
                copied = [row async for row in copy.rows()]
            streamed = [row async for row in conn.cursor().stream("SELECT id FROM t ORDER BY id")]
            async with conn.cursor("walker") as cursor:
                await cursor.execute("SELECT id FROM t ORDER BY id")
                walked = [row async for row in cursor]
            return len(copied), streamed == walked == [(i,) for i in range(5000)]

    assert run_async(body()) == (5000, True)


@pytest.mark.targets("direct")
def test_a_timed_out_task_cancels_its_query_and_the_connection_goes_on(proxy):
    async def body():
        async with await async_connect(proxy) as conn:
            for turn in range(5):
                with pytest.raises((asyncio.TimeoutError, errors.QueryCanceled)):
                    await asyncio.wait_for(conn.execute("SELECT pg_sleep(%s)", (30,)), 0.2)
                answer = await conn.execute("SELECT %s::int", (turn,))
                assert await answer.fetchone() == (turn,)

    run_async(body())


@pytest.mark.targets("direct")
def test_an_async_pool_serves_more_tasks_than_there_are_servers(proxy):
    async def body():
        pool = AsyncConnectionPool(
            proxy.url(), min_size=2, max_size=10, open=False, timeout=30,
            check=AsyncConnectionPool.check_connection, kwargs={"prepare_threshold": 0},
        )
        async with pool:
            async def work(number: int) -> int:
                async with pool.connection() as conn:
                    answer = await conn.execute("SELECT %s::int FROM pg_sleep(0.001)", (number,))
                    return (await answer.fetchone())[0]

            return await asyncio.gather(*(work(n) for n in range(200)))

    assert run_async(body()) == list(range(200))


@pytest.mark.targets("direct")
def test_a_pool_takes_back_what_was_left_in_a_transaction_and_lends_it_clean(proxy):
    with ConnectionPool(proxy.url(), min_size=1, max_size=1, timeout=20) as pool:
        for _ in range(5):
            with pytest.raises(errors.DivisionByZero), pool.connection() as conn:
                conn.execute("CREATE TABLE t (id int)")
                conn.execute("SELECT 1 / 0")
            with pool.connection() as conn:
                assert one(conn, "SELECT to_regclass('t')") is None
