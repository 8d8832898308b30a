"""A primary that is lost, and a replica that takes its place: what clients see of it."""

from __future__ import annotations

import signal
import time

import psycopg2
import pytest

from cluster import Node
from support.wait import wait_until


def roles(proxy) -> dict[str, tuple[str, str]]:
    """Role and state of each host."""
    return {row["host"]: (row["role"], row["state"]) for row in proxy.show("HOSTS")}


def address(node) -> str:
    return f"127.0.0.1:{node.port}"


def port_of(conn) -> int:
    """The port of the server that serves the next statement of `conn`."""
    cursor = conn.cursor()
    cursor.execute("SELECT inet_server_port()")
    return cursor.fetchone()[0]


def test_the_primary_is_found_wherever_it_stands_in_the_list(cluster, start):
    proxy = start(hosts=list(reversed(cluster.hosts())))

    assert port_of(proxy.connect()) == cluster.primary.port
    wait_until(
        lambda: roles(proxy) == {
            address(cluster.primary): ("primary", "up"),
            address(cluster.replicas[0]): ("replica", "up"),
            address(cluster.replicas[1]): ("replica", "up"),
        },
        "all roles are known",
    )


def test_a_session_goes_on_with_the_replica_that_was_promoted(cluster, start):
    proxy = start()
    conn = proxy.connect(autocommit=True, application_name="survivor")
    cursor = conn.cursor()
    cursor.execute("SET TimeZone = 'Asia/Tokyo'")
    cursor.execute("CREATE TABLE t (id int)")
    cluster.caught_up()

    cluster.primary.kill()
    cluster.replicas[0].promote()
    promoted = time.monotonic()
    cursor.execute("INSERT INTO t VALUES (1)")
    took = time.monotonic() - promoted

    cursor.execute("SELECT inet_server_port(), current_setting('TimeZone'), "
                   "current_setting('application_name')")
    assert cursor.fetchone() == (cluster.replicas[0].port, "Asia/Tokyo", "survivor")
    assert took < 5, f"{took:.3f} s"
    wait_until(lambda: roles(proxy)[address(cluster.replicas[0])][0] == "primary", "it is told")
    assert proxy.metric("pgweir_failovers_total", domain="ledger") == 1


def test_without_a_primary_clients_wait_and_are_told_what_is_wrong_with_each_host(cluster, start):
    proxy = start(failover={"timeout": "1s"})
    conn = proxy.connect(autocommit=True)
    cursor = conn.cursor()
    cursor.execute("SELECT 1")
    cluster.primary.kill()

    with pytest.raises(psycopg2.Error):
        # The first may meet with the end of its server.
        for _ in range(2):
            begun = time.monotonic()
            cursor.execute("SELECT 1")
    with pytest.raises(psycopg2.OperationalError) as told:
        begun = time.monotonic()
        cursor.execute("SELECT 1")
    took = time.monotonic() - begun

    assert told.value.pgcode == "08001"
    assert 'no primary of domain "ledger" is available' in str(told.value)
    assert f"{address(cluster.primary)}: down" in told.value.diag.message_detail
    assert f"{address(cluster.replicas[0])}: replica (up)" in told.value.diag.message_detail
    assert 0.8 < took < 3, f"{took:.3f} s"
    # The same connection serves when there is one again.
    cluster.replicas[1].promote()
    cursor.execute("SELECT inet_server_port()")
    assert cursor.fetchone()[0] == cluster.replicas[1].port


def test_clients_are_told_at_once_where_that_is_wished_for(cluster, start):
    proxy = start(failover={"timeout": "20s", "on_primary_loss": "error"})
    conn = proxy.connect(autocommit=True)
    conn.cursor().execute("SELECT 1")
    cluster.primary.kill()
    wait_until(lambda: roles(proxy)[address(cluster.primary)][1] == "down", "it is seen to be down")

    begun = time.monotonic()
    with pytest.raises(psycopg2.OperationalError) as told:
        conn.cursor().execute("SELECT 1")

    assert told.value.pgcode == "08001"
    assert time.monotonic() - begun < 2


def test_replicas_serve_meanwhile_where_that_is_wished_for(cluster, start):
    """Seed 001: the first host cannot be reached, and a replica serves `SELECT 1`."""
    proxy = start(failover={"on_primary_loss": "read_only"})
    cluster.primary.stop(signal.SIGQUIT)
    wait_until(lambda: roles(proxy)[address(cluster.primary)][1] == "down", "it is seen to be down")

    conn = proxy.connect(autocommit=True)
    cursor = conn.cursor()
    cursor.execute("SELECT 1, pg_is_in_recovery()")
    assert cursor.fetchone() == (1, True)
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        cursor.execute("CREATE TABLE t (id int)")

    cluster.replicas[0].promote()
    wait_until(lambda: roles(proxy)[address(cluster.replicas[0])][0] == "primary", "it is found")
    cursor.execute("CREATE TABLE t (id int)")
    assert port_of(conn) == cluster.replicas[0].port


def test_of_two_primaries_the_one_on_the_higher_timeline_serves(cluster, start):
    proxy = start()
    conn = proxy.connect(autocommit=True)
    assert port_of(conn) == cluster.primary.port

    cluster.replicas[0].promote()
    wait_until(lambda: roles(proxy)[address(cluster.primary)][0] == "fenced", "the old one is fenced")

    assert port_of(conn) == cluster.replicas[0].port
    assert roles(proxy)[address(cluster.replicas[0])] == ("primary", "up")
    assert "fenced" in proxy.log() or "serves nobody" in proxy.log()


def test_a_host_of_another_cluster_is_refused(cluster, start):
    stranger = Node("stranger")
    try:
        stranger.create_database("ledger")
        proxy = start(hosts=[*cluster.hosts(), address(stranger)])
        wait_until(lambda: roles(proxy)[address(stranger)][0] == "stranger", "it is refused")
        assert port_of(proxy.connect()) == cluster.primary.port
        assert "of another cluster" in proxy.log()
    finally:
        stranger.remove()
