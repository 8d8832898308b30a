"""Pools and timeouts: who waits, for how long, and what they are told in the end."""

from __future__ import annotations

import threading
import time

import psycopg2
import pytest

from support.load import in_threads, most_servers
from support.postgres import APP_MD5
from support.proxy import USERS
from support.wait import wait_until
from support.wire import RawClient, query

pytestmark = pytest.mark.targets()


def test_a_client_that_waits_too_long_is_told_the_numbers_and_the_setting(start):
    proxy = start(pool={"size": 1, "max_overflow": 0, "timeout": "500ms"})
    holder, waiter = proxy.connect(), proxy.connect(autocommit=True)
    holder.cursor().execute("SELECT 1")

    begin = time.monotonic()
    with pytest.raises(psycopg2.Error) as caught:
        waiter.cursor().execute("SELECT 1")
    waited = time.monotonic() - begin

    error = caught.value
    assert error.pgcode == "53300"
    assert error.diag.severity == "ERROR"
    assert error.diag.message_primary.startswith(
        'query_wait_timeout: no server of domain "main" (read_write) became free within '
    )
    assert error.diag.message_detail and "size" in error.diag.message_detail
    assert error.diag.message_hint
    assert 0.4 < waited < 5
    holder.commit()
    waiter.cursor().execute("SELECT 1")


def test_waiters_are_served_in_the_order_in_which_they_came(start):
    # The first one waits until ten of them are seen to, however slow the machine is.
    proxy = start(pool={"size": 1, "max_overflow": 0, "timeout": "60s"})
    holder = proxy.connect()
    holder.cursor().execute("SELECT 1")
    served: list[int] = []

    def wait(number: int) -> None:
        conn = proxy.connect()
        conn.cursor().execute("SELECT 1")
        # Still in the transaction: the next one cannot be served before this line.
        served.append(number)
        conn.close()

    threads = []
    for number in range(10):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        wait_until(
            lambda: proxy.metric("pgweir_clients", state="waiting") == number + 1, "it waits"
        )
    holder.commit()
    for thread in threads:
        thread.join()

    assert served == list(range(10))


def test_a_pool_grows_into_its_overflow_and_never_beyond(start, postgres, database):
    proxy = start(pool={"size": 2, "max_overflow": 3, "overflow_linger": "200ms"})

    with most_servers(postgres, database) as counts:
        in_threads(lambda _: proxy.ask("SELECT 1 FROM pg_sleep(0.02)"), calls=200, threads=20)

    assert max(counts) == 5
    wait_until(lambda: proxy.metric("pgweir_servers", state="idle") == 2, "overflow is closed")


def test_a_full_queue_refuses_at_once(start):
    proxy = start(pool={"size": 1, "max_overflow": 0, "max_waiting": 1, "timeout": "10s"})
    holder = proxy.connect()
    holder.cursor().execute("SELECT 1")
    waiter = threading.Thread(target=lambda: proxy.ask("SELECT 1"))
    waiter.start()
    wait_until(lambda: proxy.metric("pgweir_clients", state="waiting") == 1, "one waits")

    begin = time.monotonic()
    with pytest.raises(psycopg2.Error) as caught:
        proxy.ask("SELECT 1")

    assert caught.value.pgcode == "53300" and time.monotonic() - begin < 5
    holder.commit()
    waiter.join()


def test_a_waiting_client_is_told_so_by_a_notice(start):
    proxy = start(pool={"size": 1, "max_overflow": 0, "wait_notice": "200ms"})
    holder, waiter = proxy.connect(), proxy.connect(autocommit=True)
    holder.cursor().execute("SELECT 1")
    release = threading.Timer(1.0, holder.commit)
    release.start()

    waiter.cursor().execute("SELECT 1")
    release.join()

    assert waiter.notices


def test_a_server_older_than_recycle_is_replaced(start):
    proxy = start(pool={"size": 1, "recycle": "500ms"})
    first = proxy.ask("SELECT pg_backend_pid()")

    wait_until(lambda: proxy.ask("SELECT pg_backend_pid()") != first, "another server serves")


def test_an_idle_server_is_closed_down_to_min(start):
    proxy = start(pool={"size": 4, "min": 1, "idle_timeout": "500ms"})
    in_threads(lambda _: proxy.ask("SELECT 1 FROM pg_sleep(0.2)"), calls=4, threads=4)

    wait_until(lambda: proxy.metric("pgweir_servers", state="idle") == 1, "one is left")


def test_a_cap_of_a_domain_bounds_all_its_users_and_starves_none(start, postgres, database):
    proxy = start(
        pool={"size": 4, "max_overflow": 4},
        domains={"main": {"user": None, "password": None, "max_connections": 3}},
        user_secrets=[*USERS, APP_MD5],
    )

    def ask(number: int) -> str:
        user = {} if number % 2 else {"user": APP_MD5[0], "password": APP_MD5[1]}
        return proxy.ask("SELECT session_user::text FROM pg_sleep(0.01)", **user)

    with most_servers(postgres, database) as counts:
        answers = in_threads(ask, calls=100, threads=10)

    assert answers == ["app_md5", "app"] * 50
    assert max(counts) <= 3


def test_two_domains_under_a_cap_of_their_host_both_get_through(start, postgres, database):
    address = f"127.0.0.1:{postgres.port}"
    proxy = start(
        pool={"size": 4},
        domains={"main": {}, "other": {"database": "postgres"}},
        hosts={address: {"max_connections": 2}},
    )

    def ask(number: int) -> str:
        name = database if number % 2 else "postgres"
        return proxy.ask("SELECT current_database()::text FROM pg_sleep(0.01)", dbname=name)

    answers = in_threads(ask, calls=60, threads=10)

    assert answers == ["postgres", database] * 30


def test_a_users_own_pool_mode_goes_before_the_domains(start):
    proxy = start(pool={"pool_mode": "transaction"}, users={"app": {"pool_mode": "session"}})
    cursor = proxy.connect(autocommit=True).cursor()
    cursor.execute("CREATE TEMP TABLE mine AS SELECT 7 AS n")

    cursor.execute("SELECT n FROM mine")

    assert cursor.fetchone() == (7,)


# Timeouts


def test_query_timeout_cancels_the_query_and_names_itself(start, observer, database):
    conn = start(pool={"query_timeout": "300ms"}).connect(autocommit=True)

    with pytest.raises(psycopg2.errors.QueryCanceled, match="query_timeout"):
        conn.cursor().execute("SELECT pg_sleep(30)")

    conn.cursor().execute("SELECT 1")
    observer.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)'"
                     " AND state = 'active' AND pid <> pg_backend_pid()")
    assert observer.fetchone() == (0,)


TIMEOUTS = {
    "idle_in_transaction_timeout": ({"pool": {"idle_in_transaction_timeout": "300ms"}}, "25P03"),
    "client_idle_timeout": ({"listen": {"client_idle_timeout": "300ms"}}, "57P05"),
}


@pytest.mark.parametrize("name", TIMEOUTS)
def test_a_session_is_ended_with_a_fatal_by(start, name):
    config, sqlstate = TIMEOUTS[name]
    proxy = start(auth={"method": "trust"}, **config)
    with RawClient(proxy) as client:
        client.login()
        if name == "idle_in_transaction_timeout":
            client.send(query("BEGIN; SELECT 1"))
            client.until(b"Z")
        error = client.error()
        client.drain()

    assert (error["S"], error["C"]) == ("FATAL", sqlstate)
    assert name in error["M"]
    assert proxy.ask("SELECT 1") == 1


def test_transaction_timeout_ends_a_transaction_that_takes_too_long(start):
    conn = start(pool={"transaction_timeout": "500ms"}).connect()
    conn.cursor().execute("SELECT 1")

    with pytest.raises(psycopg2.Error) as caught:
        for _ in range(100):
            conn.cursor().execute("SELECT pg_sleep(0.1)")

    assert "transaction_timeout" in str(caught.value)


def test_statement_timeout_reaches_the_server_as_an_option(start):
    assert start(pool={"statement_timeout": "7s"}).ask("SHOW statement_timeout") == "7s"


def test_server_options_and_connect_query_are_in_force_on_every_server(start):
    domain = {
        "server_options": {"work_mem": "64MB"},
        "connect_query": "SET maintenance_work_mem = '48MB'",
    }
    proxy = start(domains={"main": domain}, pool={"size": 1})

    assert proxy.ask("SHOW work_mem") == "64MB"
    assert proxy.ask("SHOW maintenance_work_mem") == "48MB"
