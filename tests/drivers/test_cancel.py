"""Cancelling as drivers and psql do it, over both versions of the protocol."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading

import asyncpg
import psycopg
import psycopg2
import pytest

from support.postgres import program
from support.wait import wait_until

SLEEP = "SELECT pg_sleep(60) /* to be cancelled */"


def running(observer) -> int:
    observer.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE state = 'active' AND query LIKE '%to be cancelled%' AND pid <> pg_backend_pid()"
    )
    return observer.fetchone()[0]


def in_thread(run) -> threading.Thread:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("version", ["3.0", "3.2"])
@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
def test_libpq_cancels_in_the_protocol_version_that_it_insists_on(
    start, observer, version, pool_mode
):
    proxy = start(pool={"size": 1, "max_overflow": 0, "pool_mode": pool_mode})
    versions = {"min_protocol_version": version, "max_protocol_version": version}
    outcome = []
    with psycopg.connect(**proxy.params(), **versions, autocommit=True) as conn:

        def run() -> None:
            try:
                conn.execute(SLEEP)
            except psycopg.errors.QueryCanceled as error:
                outcome.append(error.sqlstate)

        thread = in_thread(run)
        wait_until(lambda: running(observer) == 1, "the query runs")
        conn.cancel_safe(timeout=10)
        thread.join(10)

        assert outcome == ["57014"]
        assert conn.execute("SELECT 1").fetchone() == (1,)
        # Nothing is under way: nothing happens, now or later.
        conn.cancel_safe(timeout=10)
        assert conn.execute("SELECT 2").fetchone() == (2,)


def test_the_newest_protocol_that_libpq_knows_is_spoken_or_negotiated(proxy):
    with psycopg.connect(**proxy.params(), max_protocol_version="latest") as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_psycopg2_cancels_from_another_thread_in_a_transaction(proxy, observer):
    conn = psycopg2.connect(**proxy.params())
    cursor = conn.cursor()
    cursor.execute("SELECT 1")
    outcome = []

    def run() -> None:
        try:
            cursor.execute(SLEEP)
        except psycopg2.errors.QueryCanceled as error:
            outcome.append(error.pgcode)

    thread = in_thread(run)
    wait_until(lambda: running(observer) == 1, "the query runs")
    conn.cancel()
    thread.join(10)
    assert outcome == ["57014"]
    conn.rollback()
    cursor.execute("SELECT 2")
    assert cursor.fetchone() == (2,)
    conn.close()


def test_asyncpg_cancels_what_waits_for_a_server_and_goes_on(start):
    proxy = start(pool={"size": 1, "max_overflow": 0})

    async def main() -> None:
        holder = await asyncpg.connect(**proxy.asyncpg_params())
        waiter = await asyncpg.connect(**proxy.asyncpg_params())
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("SELECT 1")
        # Its timeout sends a cancel request, and waits for what comes of it.
        with pytest.raises(asyncio.TimeoutError):
            await waiter.fetchval("SELECT 'never run'", timeout=0.5)
        assert await holder.fetchval("SELECT 'fine'") == "fine"
        await transaction.commit()
        assert await waiter.fetchval("SELECT 'again'") == "again"
        await holder.close()
        await waiter.close()

    asyncio.run(main())


def test_asyncpg_cancels_100_queries_at_once_and_keeps_all_connections(start, observer):
    proxy = start(pool={"size": 20, "max_overflow": 0})

    async def main() -> None:
        pool = await asyncpg.create_pool(**proxy.asyncpg_params(), min_size=50, max_size=50)
        sleeps = [asyncio.create_task(pool.fetchval(SLEEP)) for _ in range(100)]
        while running(observer) < 20:
            await asyncio.sleep(0.05)
        for sleep in sleeps:
            sleep.cancel()
        ended = await asyncio.gather(*sleeps, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
        # The cancels go on in the background, each on a connection that is not used before its end.
        values = await asyncio.gather(*(pool.fetchval("SELECT 1") for _ in range(100)))
        assert values == [1] * 100
        await pool.close()

    asyncio.run(asyncio.wait_for(main(), 40))


@pytest.mark.parametrize("version", ["3.0", "3.2"])
def test_ctrl_c_in_psql_ends_the_query(proxy, observer, version):
    params = proxy.params()
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    env |= {
        "PGHOST": params["host"], "PGPORT": str(params["port"]), "PGUSER": params["user"],
        "PGDATABASE": params["dbname"], "PGPASSWORD": params.get("password", ""),
        # Clients before 18 do not read these, and speak 3.0.
        "PGMINPROTOCOLVERSION": version, "PGMAXPROTOCOLVERSION": version,
    }
    psql = subprocess.Popen(
        [program("psql"), "-X", "-A", "-t", "-c", SLEEP, "-c", "SELECT 'next'"],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    try:
        wait_until(lambda: running(observer) == 1, "the query runs")
        psql.send_signal(signal.SIGINT)
        _out, said = psql.communicate(timeout=20)
    finally:
        psql.kill()
    assert "canceling statement due to user request" in said
