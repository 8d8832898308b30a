"""A primary that is lost, and a replica that takes its place: what clients see of it."""

from __future__ import annotations

import os
import signal
import time

import psycopg
import psycopg2
import pytest
from psycopg.pq import DiagnosticField, ExecStatus

from cluster import Node
from support.wait import wait_until
from views import address, in_a_thread, known, port_of, ports_of, roles


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


def test_sessions_outlast_all_of_their_hosts(cluster, start):
    """With the statements that they have prepared, and with their settings."""
    proxy = start(failover={"timeout": "1s"})
    known(proxy, cluster)
    sessions = {
        kind: psycopg.connect(**proxy.params(dbname=dbname), autocommit=True)
        for kind, dbname in (("primary", "ledger"), ("replica", "ledger_ro"))
    }
    for conn in sessions.values():
        conn.execute("SET TimeZone = 'Asia/Tokyo'")
        conn.pgconn.prepare(b"mine", b"SELECT $1::int + 1, current_setting('TimeZone')")

    def answer(conn) -> list[bytes] | None:
        """What the server that has the statement says to it, if one does."""
        result = conn.pgconn.exec_prepared(b"mine", [b"41"])
        if result.status == ExecStatus.TUPLES_OK:
            return [result.get_value(0, column) for column in range(2)]
        return None

    expected = [b"42", b"Asia/Tokyo"]
    assert [answer(conn) for conn in sessions.values()] == [expected] * 2

    for node in cluster.nodes:
        node.kill()
    wait_until(lambda: {state for _, state in roles(proxy).values()} == {"down"}, "all are down")
    for kind, conn in sessions.items():
        told = conn.pgconn.exec_prepared(b"mine", [b"41"])
        assert told.error_field(DiagnosticField.SQLSTATE) == b"08001"
        assert f'no {kind} of domain "ledger" is available' in told.get_error_message()
        detail = told.error_field(DiagnosticField.MESSAGE_DETAIL).decode()
        assert all(f"{host}: down" in detail for host in cluster.hosts()), detail

    for node in cluster.nodes:
        node.start()
    known(proxy, cluster)
    assert [answer(conn) for conn in sessions.values()] == [expected] * 2


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


def test_what_is_under_way_on_a_host_that_has_stopped_ends_when_it_is_seen_to_be_down(cluster, start):
    proxy = start(failover={"timeout": "30s"})
    writer, in_block, reader = (proxy.connect(autocommit=True) for _ in range(3))
    writer.cursor().execute("CREATE TABLE t (id int)")
    in_block.autocommit = False
    in_block.cursor().execute("INSERT INTO t VALUES (1)")
    cluster.caught_up()

    outcome = in_a_thread(lambda: writer.cursor().execute("INSERT INTO t SELECT 2 FROM pg_sleep(2)"))
    wait_until(
        lambda: cluster.primary.ask("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(2)'"
                                    " AND application_name <> 'test observer'") == 1,
        "it is under way",
    )
    cluster.primary.freeze()
    with pytest.raises(psycopg2.Error) as lost:
        outcome.result(15)
    assert lost.value.pgcode == "08007"
    with pytest.raises(psycopg2.Error) as lost:
        in_block.cursor().execute("INSERT INTO t VALUES (3)")
    assert lost.value.pgcode == "08006"
    in_block.rollback()

    # Who asks meanwhile waits for the new primary.
    waits = in_a_thread(lambda: port_of(reader))
    cluster.replicas[0].promote()
    assert waits.result(10) == cluster.replicas[0].port

    # The old one comes back, and takes writes: nobody is sent there.
    cluster.primary.thaw()
    wait_until(lambda: roles(proxy)[address(cluster.primary)][0] == "fenced", "it is fenced")
    assert ports_of(writer, reader, in_block) == {cluster.replicas[0].port}


def test_a_primary_that_is_busy_is_not_taken_for_one_that_is_gone(cluster, start):
    """No place is left on it (53300), and what it has goes on being served."""
    proxy = start()
    conn = proxy.connect(autocommit=True)
    assert port_of(conn) == cluster.primary.port
    held = []
    try:
        with pytest.raises(psycopg2.OperationalError, match="too many clients"):
            for _ in range(100):
                held.append(cluster.primary.connect())
        wait_until(lambda: roles(proxy)[address(cluster.primary)][1] == "suspect", "it is noticed")
        time.sleep(2)
        assert roles(proxy)[address(cluster.primary)] == ("primary", "suspect")
        assert port_of(conn) == cluster.primary.port
    finally:
        for other in held:
            other.close()
    wait_until(lambda: roles(proxy)[address(cluster.primary)][1] == "up", "it has room again")


def test_a_switchover_costs_a_client_between_transactions_nothing(cluster, start):
    """The primary is stopped, its replica promoted, and the old one comes back as a replica."""
    proxy = start(failover={"timeout": "20s"})
    clients = [proxy.connect(autocommit=True) for _ in range(5)]
    clients[0].cursor().execute("CREATE TABLE t (id int)")
    for conn in clients:
        port_of(conn)
    cluster.caught_up()

    cluster.primary.stop()
    cluster.replicas[0].promote()
    for number, conn in enumerate(clients):
        conn.cursor().execute("INSERT INTO t VALUES (%s)", (number,))

    assert cluster.replicas[0].ask("SELECT count(*) FROM t", "ledger") == 5
    cluster.primary.follow(cluster.replicas[0])
    cluster.primary.start()
    wait_until(lambda: roles(proxy)[address(cluster.primary)] == ("replica", "up"), "it is back")
    assert {port_of(conn) for conn in clients} == {cluster.replicas[0].port}


def test_a_session_at_a_replica_for_want_of_a_primary_ends_when_there_is_one_again(cluster, start):
    """It has its server to itself: all that it writes would be refused for as long as it lasts."""
    proxy = start(failover={"on_primary_loss": "read_only"})
    known(proxy, cluster)
    cluster.primary.kill()
    wait_until(lambda: roles(proxy)[address(cluster.primary)][1] == "down", "it is seen to be down")
    conns = [proxy.connect(dbname="ledger_tx") for _ in range(2)]
    at = {port_of(conn) for conn in conns}
    other = next((node for node in cluster.replicas if node.port not in at), cluster.replicas[0])

    other.promote()
    wait_until(lambda: roles(proxy)[address(other)][0] == "primary", "it is found")
    misplaced = [conn for conn in conns if port_of(conn) != other.port]
    assert misplaced, "their blocks are open, and go on"
    for conn in misplaced:
        conn.commit()
        # libpq takes an error that comes unasked for a notice.
        with pytest.raises(psycopg2.OperationalError):
            port_of(conn)
    assert "there is a primary again" in proxy.log()

    conn = proxy.connect(dbname="ledger_tx", autocommit=True)
    conn.cursor().execute("CREATE TABLE t (id int)")
    assert port_of(conn) == other.port


def test_a_host_that_answers_the_probe_with_an_error_is_there(cluster, start):
    """A standby has no serializable transactions."""
    cluster.primary.ask("ALTER ROLE app SET default_transaction_isolation = serializable")
    cluster.caught_up()
    proxy = start()
    conn = proxy.connect(autocommit=True)
    assert port_of(conn) == cluster.primary.port
    for node in cluster.replicas:
        wait_until(lambda: roles(proxy)[address(node)][1] == "suspect", "it is noticed")
    time.sleep(1)
    hosts = {row["host"]: row for row in proxy.show("HOSTS")}
    for node in cluster.replicas:
        assert hosts[address(node)]["state"] == "suspect"
        assert "serializable" in hosts[address(node)]["trouble"]


def test_a_primary_that_waits_for_its_sessions_is_fenced_when_another_has_taken_its_place(cluster, start):
    """`pg_ctl stop -m smart`: they would commit what is lost."""
    proxy = start(failover={"timeout": "30s"})
    known(proxy, cluster)
    conn, other = proxy.connect(), proxy.connect(autocommit=True)
    other.cursor().execute("CREATE TABLE t (id int)")
    conn.cursor().execute("INSERT INTO t VALUES (1)")
    cluster.caught_up()
    os.kill(cluster.primary.pid, signal.SIGTERM)
    wait_until(lambda: roles(proxy)[address(cluster.primary)] == ("unknown", "suspect"), "it lets nobody in")
    conn.cursor().execute("INSERT INTO t VALUES (2)")

    cluster.replicas[0].promote()

    assert port_of(other) == cluster.replicas[0].port
    with pytest.raises(psycopg2.Error) as lost:
        conn.commit()
    assert lost.value.pgcode == "08006"
    conn.rollback()
    assert port_of(conn) == cluster.replicas[0].port
