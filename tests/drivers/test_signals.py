"""Stopping: what is in hand ends, nobody new gets in, and it is over in time."""

from __future__ import annotations

import signal
import threading
import time

import psycopg2
import pytest

from support.wait import accepts_tcp, wait_until
from support.wire import RawClient

pytestmark = pytest.mark.targets()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_a_signal_ends_an_idle_pgweir_at_once_with_exit_code_0(proxy, how):
    begin = time.monotonic()

    assert proxy.stop(how) == 0

    assert time.monotonic() - begin < 3


def test_a_transaction_in_hand_is_finished_before_the_end(start, observer):
    proxy = start(runtime={"shutdown_timeout": "20s"})
    conn = proxy.connect()
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE t (id int)")

    proxy.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not accepts_tcp(proxy.port), "nobody new gets in")
    cursor.execute("INSERT INTO t VALUES (1)")
    conn.commit()

    assert proxy.process.wait(15) == 0
    observer.execute("SELECT count(*) FROM t")
    assert observer.fetchone() == (1,)


def test_a_statement_in_hand_is_finished_before_the_end(start):
    proxy = start(runtime={"shutdown_timeout": "20s"})
    answers: list[int] = []
    thread = threading.Thread(
        target=lambda: answers.append(proxy.ask("SELECT 7 FROM pg_sleep(1)"))
    )
    thread.start()
    wait_until(lambda: proxy.metric("pgweir_servers", state="active") == 1, "it runs")

    assert proxy.stop() == 0

    thread.join()
    assert answers == [7]


def test_an_idle_client_is_told_that_the_pooler_is_shutting_down(start):
    proxy = start(auth={"method": "trust"})
    with RawClient(proxy) as client:
        client.login()
        proxy.process.send_signal(signal.SIGTERM)
        error = client.error()

    assert (error["S"], error["C"]) == ("FATAL", "57P01")
    assert "pooler is shutting down" in error["M"]
    assert proxy.process.wait(15) == 0


def test_a_transaction_that_never_ends_is_cut_off_at_shutdown_timeout(start, observer):
    proxy = start(runtime={"shutdown_timeout": "1s"})
    conn = proxy.connect()
    conn.cursor().execute("CREATE TABLE t (id int)")

    begin = time.monotonic()
    assert proxy.stop() == 0

    assert 0.5 < time.monotonic() - begin < 6
    with pytest.raises(psycopg2.Error):
        conn.cursor().execute("SELECT 1")
    observer.execute("SELECT to_regclass('t')")
    assert observer.fetchone() == (None,)


def test_no_server_is_left_behind(start, observer, database):
    proxy = start(pool={"min": 3, "size": 4})
    proxy.ask("SELECT 1")

    assert proxy.stop() == 0

    def servers() -> int:
        observer.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
            " AND application_name <> 'test observer'", (database,),
        )
        return observer.fetchone()[0]

    wait_until(lambda: servers() == 0, "every server is closed")


def test_readyz_says_no_while_it_drains(start):
    proxy = start(runtime={"shutdown_timeout": "20s"})
    conn = proxy.connect()
    conn.cursor().execute("SELECT 1")

    proxy.process.send_signal(signal.SIGTERM)

    wait_until(lambda: proxy.get("/readyz")[0] == 503, "balancers are told")
    conn.commit()
    assert proxy.process.wait(15) == 0
