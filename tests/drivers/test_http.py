"""Metrics, health and status over HTTP."""

from __future__ import annotations

import http.client
import socket

import pytest

from support.postgres import APP

pytestmark = pytest.mark.targets()


def test_livez_and_readyz_say_yes_while_it_serves(proxy):
    assert proxy.get("/livez")[0] == 200
    assert proxy.get("/readyz")[0] == 200


def test_readyz_of_a_domain_tells_whether_its_primary_is_usable(start, own_postgres):
    proxy = start(postgres=own_postgres, database="postgres", pool={"timeout": "1s"})
    assert proxy.ask("SELECT 1") == 1
    assert proxy.get("/readyz?domain=main")[0] == 200

    own_postgres.stop()
    with pytest.raises(Exception):
        proxy.ask("SELECT 1")

    code, reason = proxy.get("/readyz?domain=main")
    assert code == 503 and reason.strip()
    assert proxy.get("/readyz")[0] == 200


def test_readyz_of_an_unknown_domain_is_not_yes(proxy):
    assert proxy.get("/readyz?domain=nowhere")[0] in (404, 503)


def test_an_unknown_page_is_404_and_a_post_is_405(proxy):
    assert proxy.get("/nowhere")[0] == 404
    conn = http.client.HTTPConnection(proxy.host, proxy.http_port, timeout=5)
    conn.request("POST", "/metrics", body=b"x")
    assert conn.getresponse().status == 405


METRICS = """
pgweir_clients pgweir_servers pgweir_pool_size pgweir_pool_overflow pgweir_pool_limit
pgweir_pool_utilization pgweir_clients_waiting pgweir_oldest_wait_seconds pgweir_queries_total
pgweir_transactions_total pgweir_bytes_total pgweir_server_connects_total
pgweir_server_closes_total pgweir_retries_total pgweir_prepared_statements_total
pgweir_query_duration_seconds_bucket pgweir_transaction_duration_seconds_sum
pgweir_checkout_wait_seconds_count pgweir_server_connect_seconds_count pgweir_login_seconds_count
pgweir_build_info process_resident_memory_bytes process_cpu_seconds_total
""".split()


def test_metrics_offers_every_name_of_the_contract(proxy):
    proxy.ask("SELECT 1")

    names = {name for name, _, _ in proxy.samples()}

    assert set(METRICS) - names == set()


def test_metrics_count_what_was_done(proxy):
    conn = proxy.connect(autocommit=True)
    for _ in range(10):
        conn.cursor().execute("SELECT 1")

    assert proxy.metric("pgweir_queries_total", domain="main") == 10
    assert proxy.metric("pgweir_transactions_total", domain="main") == 10
    assert proxy.metric("pgweir_server_connects_total", domain="main", result="ok") == 1
    assert proxy.metric("pgweir_query_duration_seconds_count", domain="main") == 10


def test_errors_are_counted_by_class_and_fault(start):
    proxy = start(pool={"size": 1, "max_overflow": 0, "timeout": "100ms"})
    holder = proxy.connect()
    holder.cursor().execute("SELECT 1")
    with pytest.raises(Exception):
        proxy.ask("SELECT 1")

    assert proxy.metric("pgweir_errors_total", sqlstate_class="53", fault="proxy") == 1


def test_status_speaks_the_seeds_words(start):
    proxy = start(pool={"min": 0, "size": 3, "max_overflow": 2})
    conn = proxy.connect()
    conn.cursor().execute("SELECT 1")

    pool = next(pool for pool in proxy.status()["pools"] if pool["domain"] == "main")

    sqlalchemy = ("size", "checked_in", "checked_out", "overflow", "invalid")
    assert [pool[key] for key in sqlalchemy] == [3, 0, 1, 0, 0]
    assert [pool[key] for key in ("min", "max", "free", "used")] == [0, 5, 0, 1]
    seed_000 = ("active_connections", "idle_connections", "connections_created")
    assert [pool[key] for key in seed_000] == [1, 0, 1]


def test_no_page_shows_a_password(proxy):
    proxy.ask("SELECT 1")
    for path in ("/", "/metrics", "/status", "/readyz?domain=main"):
        assert APP[1] not in proxy.get(path)[1]


def test_connections_that_never_finish_their_request_do_not_keep_scrapes_out(proxy):
    idlers = [socket.create_connection((proxy.host, proxy.http_port)) for _ in range(20)]
    for idler in idlers:
        idler.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")

    assert proxy.get("/metrics")[0] == 200
    for idler in idlers:
        idler.close()
