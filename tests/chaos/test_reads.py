"""Reads of sessions that may write: which of them go to replicas, and that each session reads what it wrote."""

from __future__ import annotations

import asyncio
import threading
import time

import asyncpg
import psycopg
import psycopg2
import pytest

from support.wait import wait_until
from views import known, port_of


def routed(start, cluster, **keys):
    """A proxy that routes reads, when all roles are known."""
    proxy = start(route_read_only=True, **keys)
    known(proxy, cluster)
    return proxy


def reader_port(conn) -> int:
    """The port of the server of a transaction that says that it only reads."""
    cursor = conn.cursor()
    cursor.execute("BEGIN READ ONLY")
    port = port_of(conn)
    cursor.execute("COMMIT")
    return port


def test_transactions_that_only_read_go_to_replicas_where_that_is_wished_for(cluster, start):
    replicas = {node.port for node in cluster.replicas}
    plain = start()
    known(plain, cluster)
    assert reader_port(plain.connect(autocommit=True)) == cluster.primary.port

    proxy = routed(start, cluster)
    conn = proxy.connect(autocommit=True)
    assert reader_port(conn) in replicas
    assert port_of(conn) == cluster.primary.port
    cursor = conn.cursor()
    cursor.execute("SHOW pgweir.mode")
    assert cursor.fetchone() == ("read_write",)
    # The session is told nothing of where it was.
    assert conn.get_parameter_status("in_hot_standby") == "off"
    assert conn.get_parameter_status("default_transaction_read_only") == "off"

    conn.set_session(readonly=True, autocommit=False)
    assert port_of(conn) in replicas
    conn.rollback()
    conn.set_session(readonly=False)
    assert port_of(conn) == cluster.primary.port


def test_a_session_that_reads_by_default_goes_to_replicas_but_for_what_only_a_primary_does(cluster, start):
    replicas = {node.port for node in cluster.replicas}
    proxy = routed(start, cluster)
    conn = proxy.connect(autocommit=True, options="-c default_transaction_read_only=on")
    cursor = conn.cursor()

    def settled() -> None:
        wait_until(lambda: reader_port(conn) in replicas, "replicas have what was written")

    def is_on_replica(text: str) -> bool:
        cursor.execute(text)
        return cursor.fetchone()[0]

    assert is_on_replica("SELECT setting = 'on' FROM pg_settings WHERE name = 'in_hot_standby'")
    cursor.execute("BEGIN")
    assert port_of(conn) in replicas
    cursor.execute("COMMIT")
    # A replica would lock what nobody else sees, and refuse the others.
    assert not is_on_replica("SELECT pg_is_in_recovery() OR pg_try_advisory_xact_lock(1) IS NULL")
    settled()
    cursor.execute("LISTEN news")
    for begin in ("BEGIN READ WRITE", "BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE"):
        settled()
        cursor.execute(begin)
        cursor.execute("CREATE TABLE IF NOT EXISTS t (id int)")
        cursor.execute("COMMIT")
    settled()
    cursor.execute("BEGIN")
    cursor.execute("SET TRANSACTION READ WRITE")
    cursor.execute("INSERT INTO t VALUES (0)")
    cursor.execute("COMMIT")
    settled()
    cursor.execute("SET default_transaction_read_only = off")
    cursor.execute("INSERT INTO t VALUES (1)")
    # What the client asked for at startup.
    cursor.execute("RESET ALL")
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        cursor.execute("INSERT INTO t VALUES (2)")

    other = proxy.connect(autocommit=True)
    cursor = other.cursor()
    cursor.execute("SET default_transaction_read_only = on")
    wait_until(lambda: reader_port(other) in replicas, "it reads from replicas")
    cursor.execute("RESET ALL")
    cursor.execute("INSERT INTO t VALUES (3)")


def test_what_says_nothing_of_reading_is_served_as_before(cluster, start):
    """SERIALIZABLE by default, a mode that was changed, and what comes behind a routed read in one packet."""
    replicas = {node.port for node in cluster.replicas}
    proxy = routed(start, cluster)
    setup = proxy.connect(autocommit=True)
    setup.cursor().execute("CREATE TABLE t (id int)")

    serializable = proxy.connect(autocommit=True, options="-c default_transaction_isolation=serializable")
    assert reader_port(serializable) == cluster.primary.port

    conn = proxy.connect(autocommit=True, dbname="ledger_ro")
    assert port_of(conn) in replicas
    cursor = conn.cursor()
    cursor.execute("SET pgweir.mode = 'read_write'")
    conn.autocommit = False
    cursor.execute("INSERT INTO t VALUES (1)")
    conn.commit()
    conn.autocommit = True
    wait_until(lambda: reader_port(conn) in replicas, "its reads are routed")

    with psycopg.connect(**proxy.params(), autocommit=True) as three:
        for number in range(5):
            with three.pipeline() as pipeline:
                three.execute("BEGIN READ ONLY")
                three.execute("SELECT count(*) FROM t")
                three.execute("COMMIT")
                pipeline.sync()
                three.execute("INSERT INTO t VALUES (%s)", (number,))
        assert three.execute("SELECT count(*) FROM t").fetchone() == (6,)


def test_what_was_written_in_another_mode_is_read_as_well(cluster, start):
    proxy = routed(start, cluster)
    conn = proxy.connect(autocommit=True, dbname="ledger_batch")
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE t (id int)")
    cluster.caught_up()
    pause(cluster, "pause")
    cursor.execute("INSERT INTO t VALUES (1)")
    cursor.execute("SET pgweir.mode = 'read_write'")
    for _ in range(10):
        cursor.execute("BEGIN READ ONLY")
        cursor.execute("SELECT count(*) FROM t")
        assert cursor.fetchone() == (1,)
        cursor.execute("COMMIT")
        time.sleep(0.05)
    pause(cluster, "resume")


def test_every_driver_has_its_reads_routed(cluster, start):
    replicas = {node.port for node in cluster.replicas}
    proxy = routed(start, cluster)

    with psycopg.connect(**proxy.params()) as three:
        three.read_only = True
        for _ in range(8):
            assert three.execute("SELECT inet_server_port()").fetchone()[0] in replicas
            three.commit()

    async def with_asyncpg():
        conn = await asyncpg.connect(**proxy.asyncpg_params())
        for _ in range(8):
            async with conn.transaction(readonly=True):
                assert await conn.fetchval("SELECT inet_server_port()") in replicas
            assert await conn.fetchval("SELECT inet_server_port()") == cluster.primary.port
        await conn.close()

    asyncio.run(with_asyncpg())


def pause(cluster, what: str) -> None:
    for node in cluster.replicas:
        node.ask(f"SELECT pg_wal_replay_{what}()")


@pytest.mark.parametrize("causal", [True, False])
def test_a_session_reads_what_it_wrote_from_the_primary_until_replicas_have_it(cluster, start, causal):
    proxy = routed(start, cluster, causal_reads=causal)
    conn = proxy.connect(autocommit=True)
    other = proxy.connect(autocommit=True)
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE t (id int)")
    cluster.caught_up()
    replicas = {node.port for node in cluster.replicas}
    wait_until(lambda: reader_port(conn) in replicas, "the replicas have the table")

    def rows() -> int:
        cursor.execute("BEGIN READ ONLY")
        cursor.execute("SELECT count(*) FROM t")
        count = cursor.fetchone()[0]
        cursor.execute("COMMIT")
        return count

    pause(cluster, "pause")
    cursor.execute("INSERT INTO t VALUES (1)")
    for _ in range(20):
        assert rows() == (1 if causal else 0)
        assert (reader_port(conn) == cluster.primary.port) == causal
        time.sleep(0.05)
    # Who has written nothing reads from replicas all the time.
    assert reader_port(other) in replicas

    pause(cluster, "resume")
    wait_until(lambda: reader_port(conn) in replicas, "the replicas have it")
    assert rows() == 1
    if not causal:
        return
    # A block that only reads wrote nothing.
    conn.autocommit = False
    assert port_of(conn) == cluster.primary.port
    conn.commit()
    conn.autocommit = True
    pause(cluster, "pause")
    assert reader_port(conn) in replicas
    pause(cluster, "resume")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("synchronous_commit", ["on", "off"])
def test_no_session_ever_misses_what_it_wrote_whatever_the_replicas_do(cluster, start, synchronous_commit):
    proxy = routed(
        start, cluster, pool={"size": 6}, server_options={"synchronous_commit": synchronous_commit},
    )
    setup = proxy.connect(autocommit=True)
    setup.cursor().execute("CREATE TABLE t (id bigint, client int)")
    stop = threading.Event()
    missed, reads, elsewhere, errors = [], [0], [0], []

    def write_and_read(client: int) -> None:
        conn = proxy.connect(autocommit=True)
        cursor = conn.cursor()
        written = 0
        try:
            while not stop.is_set():
                written += 1
                cursor.execute("INSERT INTO t VALUES (%s, %s)", (written, client))
                for _ in range(15):
                    cursor.execute("BEGIN READ ONLY")
                    cursor.execute("SELECT max(id), inet_server_port() FROM t WHERE client = %s", (client,))
                    seen, port = cursor.fetchone()
                    cursor.execute("COMMIT")
                    reads[0] += 1
                    elsewhere[0] += port != cluster.primary.port
                    if seen != written:
                        missed.append((client, written, seen, port))
                    time.sleep(0.02)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=write_and_read, args=[n], daemon=True) for n in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        for node in cluster.replicas:
            node.ask("SELECT pg_wal_replay_pause()")
            time.sleep(0.3)
            node.ask("SELECT pg_wal_replay_resume()")
            time.sleep(0.3)
    cluster.caught_up()
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert missed == []
    assert elsewhere[0] > reads[0] / 20, f"{elsewhere[0]} of {reads[0]} reads went to replicas"


def test_reads_stay_on_the_primary_while_no_replica_serves_and_follow_a_promotion(cluster, start):
    # A replica tells its timeline to those who may see its receiver.
    cluster.primary.ask("GRANT pg_read_all_stats TO app")
    proxy = routed(start, cluster, read_only={"fallback": "none"})
    conn = proxy.connect(autocommit=True)
    replicas = {node.port for node in cluster.replicas}
    assert reader_port(conn) in replicas
    conn.cursor().execute("CREATE TABLE t (id int)")

    cluster.replicas[1].stop()
    cluster.caught_up(replicas=cluster.replicas[:1])
    cluster.primary.kill()
    cluster.replicas[0].promote()
    wait_until(lambda: reader_port(conn) == cluster.replicas[0].port, "the new primary serves")

    cluster.replicas[1].follow(cluster.replicas[0])
    cluster.replicas[1].start()
    conn.cursor().execute("INSERT INTO t VALUES (1)")
    wait_until(lambda: reader_port(conn) == cluster.replicas[1].port, "the replica serves reads", 30)
    cursor = conn.cursor()
    cursor.execute("BEGIN READ ONLY")
    cursor.execute("SELECT count(*) FROM t")
    assert cursor.fetchone() == (1,)
    cursor.execute("COMMIT")


def test_a_routed_read_that_waits_comes_home_when_no_replica_is_left(cluster, start):
    proxy = routed(start, cluster, read_only={"fallback": "none"}, failover={"timeout": "10s"})
    conn = proxy.connect(autocommit=True)
    assert reader_port(conn) != cluster.primary.port

    for node in cluster.replicas:
        node.kill()
    begun = time.monotonic()

    assert reader_port(conn) == cluster.primary.port
    assert time.monotonic() - begun < 5
