"""asyncpg through a pool in transaction mode, with its statement cache on as it is by default."""

from __future__ import annotations

import asyncio
import io
import json

import asyncpg
import pytest

from support.load import run_async
from support.values import VALUES

pytestmark = [pytest.mark.targets("direct"), pytest.mark.each_pool]


def on_connection(proxy, body, **how):
    """Runs `body(connection)` on a connection of its own."""
    async def run():
        conn = await asyncpg.connect(**proxy.asyncpg_params(), **how)
        try:
            return await body(conn)
        finally:
            await conn.close(timeout=5)

    return run_async(run())


def on_two(proxy, body, **how):
    """Runs `body(alice, bob)` on two connections."""
    async def run():
        alice = await asyncpg.connect(**proxy.asyncpg_params(), **how)
        bob = await asyncpg.connect(**proxy.asyncpg_params(), **how)
        try:
            return await body(alice, bob)
        finally:
            await alice.close(timeout=5)
            await bob.close(timeout=5)

    return run_async(run())


def test_fetch_fetchrow_fetchval_and_execute_work_with_the_statement_cache(proxy):
    async def body(conn):
        await conn.execute("CREATE TABLE t (id int, name text)")
        await conn.execute("INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 5) n")
        for _ in range(3):
            assert len(await conn.fetch("SELECT * FROM t WHERE id > $1", 2)) == 3
            assert dict(await conn.fetchrow("SELECT * FROM t WHERE id = $1", 1)) == {
                "id": 1, "name": "row 1",
            }
            assert await conn.fetchval("SELECT count(*) FROM t") == 5
            assert await conn.execute("UPDATE t SET name = $1 WHERE id = $2", "x", 1) == "UPDATE 1"
            assert await conn.execute("UPDATE t SET name = 'row 1' WHERE id = 1") == "UPDATE 1"

    on_connection(proxy, body)


def test_two_connections_over_one_server_share_a_statement(start):
    async def body(alice, bob):
        for i in range(10):
            assert await alice.fetchval("SELECT $1::int + 1", i) == i + 1
            assert await bob.fetchval("SELECT $1::int + 1", -i) == 1 - i

    on_two(start(pool={"size": 1}), body)


def test_two_connections_over_one_server_keep_different_statements_apart(start):
    async def body(alice, bob):
        # Both call their first statement __asyncpg_stmt_1__.
        for i in range(10):
            assert await alice.fetchval("SELECT $1::int + 1", i) == i + 1
            assert await bob.fetchval("SELECT $1::text || '!'", str(i)) == f"{i}!"

    on_two(start(pool={"size": 1}), body)


def test_unnamed_statements_of_two_connections_do_not_mix(start):
    async def body(alice, bob):
        for i in range(10):
            one, two = await asyncio.gather(
                alice.fetchval("SELECT $1::int + 1", i),
                bob.fetchval("SELECT $1::text || '!'", str(i)),
            )
            assert (one, two) == (i + 1, f"{i}!")

    on_two(start(pool={"size": 1}), body, statement_cache_size=0)


def test_statements_prepared_by_hand_outlive_other_clients_work(start):
    async def body(alice, bob):
        of_alice = await alice.prepare("SELECT $1::int * 2")
        of_bob = await bob.prepare("SELECT $1::int * 3")
        for i in range(5):
            assert await of_alice.fetchval(i) == 2 * i
            assert await of_bob.fetchval(i) == 3 * i

    on_two(start(pool={"size": 1}), body)


def test_more_statements_than_the_cache_holds_all_work(start):
    async def body(conn):
        for _ in range(2):
            for n in range(30):
                assert await conn.fetchval(f"SELECT $1::int + {n}", n) == 2 * n

    proxy = start(pool={"size": 1, "prepared_statements": 10})
    on_connection(proxy, body, statement_cache_size=7)


def test_a_column_added_by_another_client_does_not_break_a_cached_statement(start):
    async def body(alice, bob):
        await alice.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
        assert dict(await alice.fetchrow("SELECT * FROM t WHERE a = $1", 1)) == {"a": 1}
        assert dict(await bob.fetchrow("SELECT * FROM t WHERE a = $1", 1)) == {"a": 1}

        await bob.execute("ALTER TABLE t ADD COLUMN b int DEFAULT 2")

        for conn in (alice, bob, alice):
            assert dict(await conn.fetchrow("SELECT * FROM t WHERE a = $1", 1)) == {"a": 1, "b": 2}

    on_two(start(pool={"size": 1}), body)


def test_a_reload_of_schema_state_makes_the_driver_prepare_again(proxy):
    async def body(conn):
        await conn.execute("CREATE TYPE pair AS (a int)")
        assert tuple(await conn.fetchval("SELECT ROW(1)::pair")) == (1,)
        await conn.execute("ALTER TYPE pair ADD ATTRIBUTE b text")
        await conn.reload_schema_state()
        for _ in range(3):
            assert tuple(await conn.fetchval("SELECT ROW(1, 'x')::pair")) == (1, "x")

    on_connection(proxy, body)


def test_an_error_in_a_statement_leaves_the_connection_usable(proxy):
    async def body(conn):
        for _ in range(10):
            with pytest.raises(asyncpg.DivisionByZeroError):
                await conn.fetchval("SELECT 1 / $1::int", 0)
            with pytest.raises(asyncpg.UndefinedTableError):
                await conn.fetch("SELECT * FROM no_such_table WHERE id = $1", 1)
            assert await conn.fetchval("SELECT 1 / $1::int", 1) == 1

    on_connection(proxy, body)


def test_an_error_in_a_block_spoils_the_block_and_not_the_session(proxy):
    async def body(conn):
        for _ in range(5):
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                async with conn.transaction():
                    with pytest.raises(asyncpg.DivisionByZeroError) as caught:
                        await conn.fetchval("SELECT 1 / $1::int", 0)
                    assert caught.value.sqlstate == "22012"
                    await conn.fetchval("SELECT 1 / $1::int", 1)
            assert await conn.fetchval("SELECT 1 / $1::int", 1) == 1

    on_connection(proxy, body)


def test_a_value_of_each_type_comes_back_as_it_went(proxy):
    async def body(conn):
        for sql_type in ("json", "jsonb"):
            await conn.set_type_codec(
                sql_type, encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
            )
        for sql_type, value in VALUES.items():
            row = await conn.fetchrow(f"SELECT $1::{sql_type}, NULL::{sql_type}", value)
            assert tuple(row) == (value, None), sql_type

    on_connection(proxy, body)


def test_codecs_set_by_hand_are_used_on_every_server(proxy):
    async def body(conn):
        await conn.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
        await conn.execute("CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100)")
        await conn.set_type_codec("mood", encoder=str.lower, decoder=str.upper)
        for _ in range(5):
            assert await conn.fetchval("SELECT $1::mood", "Happy") == "HAPPY"
            assert await conn.fetchval("SELECT ARRAY[$1::percent]", 7) == [7]

    on_connection(proxy, body)


def test_enums_arrays_and_composites_are_introspected_and_decoded(proxy):
    async def body(conn):
        await conn.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
        await conn.execute("CREATE TYPE pair AS (a int, b mood)")
        assert await conn.fetchval("SELECT ARRAY['sad', $1]::mood[]", "happy") == ["sad", "happy"]
        assert tuple(await conn.fetchval("SELECT ROW(1, 'sad')::pair")) == (1, "sad")

    on_connection(proxy, body)


def test_a_pool_serves_100_concurrent_queries(start):
    proxy = start(pool={"size": 3})

    async def run():
        params = proxy.asyncpg_params()
        async with asyncpg.create_pool(**params, min_size=5, max_size=20) as pool:
            return await asyncio.gather(
                *(pool.fetchval("SELECT $1::int FROM pg_sleep(0.001)", i) for i in range(100))
            )

    assert run_async(run()) == list(range(100))


def test_a_pool_hands_on_a_connection_that_was_reset(proxy):
    async def run():
        params = proxy.asyncpg_params()
        async with asyncpg.create_pool(**params, min_size=1, max_size=1) as pool:
            for _ in range(5):
                async with pool.acquire() as conn:
                    await conn.execute("SET DateStyle = 'German'")
                    await conn.execute("CREATE TEMP TABLE IF NOT EXISTS leak (id int)")
                    transaction = conn.transaction()
                    await transaction.start()
                    await conn.execute("DECLARE walker CURSOR FOR SELECT 1")
                    await transaction.rollback()
                async with pool.acquire() as conn:
                    assert await conn.fetchval("SHOW DateStyle") == "ISO, MDY"

    run_async(run())


def test_a_pool_makes_a_connection_ready_with_init_and_setup(proxy):
    async def init(conn):
        await conn.set_type_codec(
            "jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
        )

    async def setup(conn):
        await conn.execute("SET TimeZone = 'Asia/Tokyo'")

    async def run():
        params = proxy.asyncpg_params()
        async with asyncpg.create_pool(
            **params, min_size=3, max_size=6, init=init, setup=setup
        ) as pool:
            rows = await asyncio.gather(*(
                pool.fetchrow("SELECT $1::jsonb, current_setting('TimeZone')", {"n": n})
                for n in range(60)
            ))
            return [tuple(row) for row in rows]

    assert run_async(run()) == [({"n": n}, "Asia/Tokyo") for n in range(60)]


def test_ten_connections_that_take_turns_get_their_own_answers(proxy):
    async def run():
        conns = [await asyncpg.connect(**proxy.asyncpg_params()) for _ in range(10)]
        for turn in range(20):
            answers = await asyncio.gather(*(
                conn.fetchval(f"SELECT $1::int * 100 + {client % 3}", turn)
                for client, conn in enumerate(conns)
            ))
            assert answers == [turn * 100 + client % 3 for client in range(10)]
        for conn in conns:
            await conn.close(timeout=5)

    run_async(run())


# pgbouncer.md row 14. What a bare prepare() holds, and for how long: tests/it/pipelines.rs.
@pytest.mark.parametrize("statement_cache_size", [0, 100])
def test_eight_clients_of_200_queries_each_get_their_own_answers(proxy, statement_cache_size):
    async def client(number):
        conn = await asyncpg.connect(
            **proxy.asyncpg_params(), statement_cache_size=statement_cache_size
        )
        for turn in range(200):
            answer = await conn.fetchval(f"SELECT $1::int * 10 + {number}", turn)
            assert answer == turn * 10 + number
        await conn.close(timeout=5)

    async def run():
        await asyncio.gather(*(client(number) for number in range(8)))

    run_async(run())


def test_an_executemany_of_1000_rows_arrives_whole_or_not_at_all(proxy):
    async def body(conn):
        await conn.execute("CREATE TABLE t (id int PRIMARY KEY, name text)")
        insert = "INSERT INTO t VALUES ($1, $2)"
        await conn.executemany(insert, [(i, f"row {i}") for i in range(1000)])
        with pytest.raises(asyncpg.UniqueViolationError):
            await conn.executemany(insert, [(i, "again") for i in range(2000, 999, -1)] + [(1, "")])
        assert await conn.fetchval("SELECT count(*) FROM t") == 1000

    on_connection(proxy, body)


def test_nested_transactions_commit_and_roll_back_as_asked(proxy):
    async def body(conn):
        await conn.execute("CREATE TABLE t (id int)")
        async with conn.transaction():
            await conn.execute("INSERT INTO t VALUES ($1)", 1)
            with pytest.raises(RuntimeError):
                async with conn.transaction():
                    await conn.execute("INSERT INTO t VALUES ($1)", 2)
                    raise RuntimeError("changed my mind")
        with pytest.raises(RuntimeError):
            async with conn.transaction(isolation="serializable"):
                await conn.execute("INSERT INTO t VALUES ($1)", 3)
                raise RuntimeError("changed my mind")
        assert await conn.fetch("SELECT id FROM t") == [(1,)]

    on_connection(proxy, body)


def test_a_cursor_walks_through_all_rows_in_a_transaction(proxy):
    async def body(conn):
        async with conn.transaction():
            rows = [r[0] async for r in conn.cursor("SELECT generate_series(1, $1::int)", 500)]
        assert rows == list(range(1, 501))

    on_connection(proxy, body)


def test_a_cursor_moves_forward_and_fetches_what_it_is_asked_for(proxy):
    async def body(conn):
        async with conn.transaction():
            cursor = await conn.cursor("SELECT generate_series(1, 100)")
            assert await cursor.fetch(3) == [(1,), (2,), (3,)]
            assert await cursor.forward(90) == 90
            assert await cursor.fetchrow() == (94,)
            assert len(await cursor.fetch(100)) == 6
            assert await cursor.fetchrow() is None

    on_connection(proxy, body)


def test_a_cursor_of_a_prepared_statement_works_in_each_transaction(proxy):
    async def body(conn):
        statement = await conn.prepare("SELECT generate_series(1, $1::int)")
        for rows in (10, 200):
            async with conn.transaction(readonly=True):
                seen = [row[0] async for row in statement.cursor(rows, prefetch=7)]
                assert seen == list(range(1, rows + 1))

    on_connection(proxy, body)


def test_100000_rows_come_at_once_and_through_a_cursor(proxy):
    async def body(conn):
        query = "SELECT n, repeat('x', n % 50) FROM generate_series(1, $1::int) n"
        at_once = [tuple(row) for row in await conn.fetch(query, 100_000)]
        async with conn.transaction():
            walked = [tuple(row) async for row in conn.cursor(query, 100_000, prefetch=5000)]
        assert at_once == walked == [(n, "x" * (n % 50)) for n in range(1, 100_001)]

    on_connection(proxy, body)


def test_an_insert_of_many_returns_its_rows(proxy):
    async def body(conn):
        await conn.execute("CREATE TABLE t (id serial, name text)")
        rows = await conn.fetchmany(
            "INSERT INTO t (name) VALUES ($1) RETURNING id, name", [(f"{i}",) for i in range(500)]
        )
        assert [tuple(row) for row in rows] == [(i + 1, f"{i}") for i in range(500)]

    on_connection(proxy, body)


def test_copy_in_binary_and_csv_carries_a_table_out_and_in(proxy):
    async def body(conn):
        await conn.execute(
            "CREATE TABLE a AS SELECT n, repeat('x', n % 70) AS t FROM generate_series(1, 20000) n;"
            "CREATE TABLE b (n int, t text)"
        )
        for how in ("binary", "csv"):
            carried = io.BytesIO()
            await conn.copy_from_table("a", output=carried, format=how)
            carried.seek(0)
            await conn.copy_to_table("b", source=carried, format=how)
        assert await conn.fetchval("SELECT count(*) FROM b") == 40_000
        assert await conn.fetchval("SELECT count(*) FROM (TABLE b EXCEPT TABLE a) d") == 0

    on_connection(proxy, body)


def test_a_copy_that_fails_leaves_the_connection_usable(proxy):
    async def body(conn):
        await conn.execute("CREATE TABLE t (id int PRIMARY KEY)")
        for _ in range(3):
            with pytest.raises(asyncpg.UniqueViolationError):
                await conn.copy_records_to_table("t", records=[(i % 9999,) for i in range(20_000)])
            with pytest.raises(asyncpg.UndefinedTableError):
                await conn.copy_records_to_table("nowhere", records=[(1,)])
            assert await conn.fetchval("SELECT count(*) FROM t") == 0

    on_connection(proxy, body)


def test_a_copy_out_that_times_out_leaves_the_connection_usable(proxy):
    async def body(conn):
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await conn.copy_from_query(
                    "SELECT pg_sleep(0.01) FROM generate_series(1, 10000)",
                    output=io.BytesIO(), timeout=0.2,
                )
            assert await conn.fetchval("SELECT $1::int", 7) == 7

    on_connection(proxy, body)


def test_copy_carries_records_in_and_text_out(proxy):
    async def body(conn):
        records = [(i, f"row {i}") for i in range(5000)]
        await conn.execute("CREATE TABLE t (id int, name text)")
        await conn.copy_records_to_table("t", records=records)
        out = io.BytesIO()
        await conn.copy_from_query("SELECT * FROM t ORDER BY id", output=out)
        assert out.getvalue().decode() == "".join(f"{i}\t{name}\n" for i, name in records)

    on_connection(proxy, body)


def test_a_timeout_cancels_the_query_and_leaves_the_connection_usable(proxy):
    async def body(conn):
        for _ in range(5):
            with pytest.raises(asyncio.TimeoutError):
                await conn.fetchval("SELECT pg_sleep($1)", 30, timeout=0.1)
            assert await conn.fetchval("SELECT $1::int", 7) == 7

    on_connection(proxy, body)


def test_a_timeout_in_a_block_fails_the_block_and_not_the_session(proxy):
    async def body(conn):
        await conn.execute("CREATE TABLE t (id int)")
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                async with conn.transaction():
                    await conn.execute("INSERT INTO t VALUES ($1)", 1)
                    await conn.execute("SELECT pg_sleep($1)", 30, timeout=0.1)
            assert await conn.fetchval("SELECT count(*) FROM t") == 0

    on_connection(proxy, body)


def test_a_command_timeout_holds_for_each_statement(proxy):
    async def body(conn):
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await conn.fetch("SELECT pg_sleep(30)")
            assert await conn.fetchval("SELECT 1") == 1

    on_connection(proxy, body, command_timeout=0.5)


def test_a_cancelled_task_does_not_disturb_another_on_the_same_server(start):
    proxy = start(pool={"size": 1})

    async def body(alice, bob):
        for i in range(10):
            slow = asyncio.create_task(alice.fetchval("SELECT pg_sleep(30)"))
            await asyncio.wait([slow], timeout=0.05)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            assert await bob.fetchval("SELECT $1::int", i) == i
            assert await alice.fetchval("SELECT $1::int", i) == i

    on_two(proxy, body)


def test_a_listener_in_session_mode_hears_what_another_connection_notifies(start):
    async def body(alice, bob):
        heard = asyncio.get_running_loop().create_future()
        await alice.add_listener("news", lambda _c, _pid, _channel, text: heard.set_result(text))
        await bob.execute("SELECT pg_notify('news', 'hello')")
        assert await asyncio.wait_for(heard, 5) == "hello"

    on_two(start(pool={"pool_mode": "session", "size": 2}), body)


def test_server_settings_asked_for_at_connect_are_in_force(start):
    async def body(conn):
        assert await conn.fetchval("SHOW application_name") == "asyncpg test"
        assert await conn.fetchval("SHOW TimeZone") == "Asia/Tokyo"

    on_connection(
        start(pool={"size": 1}), body,
        server_settings={"application_name": "asyncpg test", "TimeZone": "Asia/Tokyo"},
    )
