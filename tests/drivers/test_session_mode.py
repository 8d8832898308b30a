"""Session mode through real drivers: what they find is what a direct connection gives them."""

from __future__ import annotations

import asyncio

import asyncpg
import psycopg
import psycopg2
import pytest

from support.load import run_async
from support.wait import wait_until

pytestmark = pytest.mark.targets("direct")

SESSION = {"pool_mode": "session", "size": 3}


@pytest.fixture
def proxy(start):
    return start(pool=SESSION)


def value(conn, sql: str):
    cursor = conn.cursor()
    cursor.execute(sql)
    return cursor.fetchone()[0]


def test_psycopg2_is_told_the_process_id_that_notifications_carry(proxy):
    listener, sender = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    for conn in (listener, sender):
        assert conn.get_backend_pid() == value(conn, "SELECT pg_backend_pid()")
    listener.cursor().execute("LISTEN news")
    sender.cursor().execute("NOTIFY news, 'hello'")

    def notified():
        listener.poll()
        return listener.notifies

    [notification] = wait_until(notified, "the notification")
    assert (notification.pid, notification.payload) == (sender.get_backend_pid(), "hello")
    listener.close()
    sender.close()


def test_asyncpg_is_told_the_process_id_that_notifications_carry(proxy):
    async def work() -> None:
        listener = await asyncpg.connect(**proxy.asyncpg_params())
        sender = await asyncpg.connect(**proxy.asyncpg_params())
        for conn in (listener, sender):
            assert conn.get_server_pid() == await conn.fetchval("SELECT pg_backend_pid()")
        heard: asyncio.Queue = asyncio.Queue()
        await listener.add_listener("news", lambda *args: heard.put_nowait(args[1:]))
        await sender.execute("NOTIFY news, 'hello'")

        notification = await asyncio.wait_for(heard.get(), 10)

        assert notification == (sender.get_server_pid(), "news", "hello")
        await listener.close()
        await sender.close()

    run_async(work())


def test_psycopg3_is_told_the_process_id_that_notifications_carry(proxy):
    with (
        psycopg.connect(**proxy.params(), autocommit=True) as listener,
        psycopg.connect(**proxy.params(), autocommit=True) as sender,
    ):
        assert listener.info.backend_pid == value(listener, "SELECT pg_backend_pid()")
        listener.execute("LISTEN news")
        sender.execute("NOTIFY news, 'hello'")

        [notification] = listener.notifies(timeout=10, stop_after=1)

        assert (notification.pid, notification.payload) == (sender.info.backend_pid, "hello")


def test_startup_options_survive_a_drivers_reset(proxy):
    """asyncpg's pool says RESET ALL between users."""
    async def work() -> None:
        pool = await asyncpg.create_pool(
            **proxy.asyncpg_params(), min_size=1, max_size=1,
            server_settings={"search_path": "one, two", "work_mem": "3MB"},
        )
        for _ in range(2):
            async with pool.acquire() as conn:
                assert await conn.fetchval("SHOW search_path") == "one, two"
                assert await conn.fetchval("SHOW work_mem") == "3MB"
                await conn.execute("SET search_path = public; SET work_mem = '1MB'")
        await pool.close()

    run_async(work())


def test_the_servers_last_words_are_what_a_driver_raises_that_shows_them(proxy):
    """psycopg2 is none of those (P84)."""
    with psycopg.connect(**proxy.params(), autocommit=True) as conn:
        with pytest.raises(psycopg.errors.AdminShutdown, match="due to administrator command"):
            conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert conn.broken


def test_errors_in_startup_parameters_are_the_servers(proxy):
    with pytest.raises(psycopg2.OperationalError) as caught:
        proxy.connect(options="-c work_mem=lots")
    assert 'FATAL:  invalid value for parameter "work_mem": "lots"' in str(caught.value)

    async def work() -> None:
        with pytest.raises(asyncpg.UndefinedObjectError):
            await asyncpg.connect(**proxy.asyncpg_params(server_settings={"no_such": "1"}))

    run_async(work())
