"""The mode of a session: how it is asked for, which hosts serve it, and what it may do there."""

from __future__ import annotations

import asyncio
import threading

import asyncpg
import psycopg
import psycopg2
import pytest

from support.wait import wait_until
from views import address, in_a_thread, known, port_of, ports_of, roles, waiting

READ_ONLY = psycopg2.errors.ReadOnlySqlTransaction


def mode_of(proxy, **params) -> str:
    """The mode that a session with these parameters gets, by the pool that it is in."""
    conn = proxy.connect(autocommit=True, **params)
    conn.cursor().execute("SELECT 1")
    rows = [row for row in proxy.status()["pools"] if row["clients_active"] + row["clients_idle"]]
    conn.close()
    assert len(rows) == 1, rows
    return rows[0]["mode"]


def test_a_mode_is_chosen_by_suffix_alias_option_and_user(cluster, start):
    proxy = start(read_only={"aliases": ["reports"]}, users={"postgres": {"mode": "batch"}})
    option = "-c pgweir.mode=transactional"

    assert mode_of(proxy) == "read_write"
    assert mode_of(proxy, dbname="ledger_ro") == "read_only"
    assert mode_of(proxy, dbname="ledger_batch") == "batch"
    assert mode_of(proxy, dbname="ledger_tx") == "transactional"
    assert mode_of(proxy, dbname="reports") == "read_only"
    assert mode_of(proxy, dbname="ledger_ro", options=option) == "transactional"
    assert mode_of(proxy, user="postgres", password="root") == "batch"
    assert mode_of(proxy, user="postgres", password="root", dbname="ledger_ro") == "read_only"
    with pytest.raises(psycopg2.OperationalError, match='"pgweir.mode": "fast"'):
        proxy.connect(options="-c pgweir.mode=fast")


def test_a_database_that_is_called_like_a_mode_is_that_database(cluster, start):
    """P96: under `*` there are no suffixes."""
    cluster.primary.create_database("sales")
    cluster.primary.create_database("sales_batch")
    proxy = start(name="*", database=None)

    assert proxy.ask("SELECT current_database()", dbname="sales_batch") == "sales_batch"
    assert mode_of(proxy, dbname="sales_batch") == "read_write"


def test_readers_are_spread_over_the_replicas_and_do_not_write(cluster, start):
    proxy = start(read_only={"balance": "round_robin"}, pool={"size": 4})
    known(proxy, cluster)
    conns = [proxy.connect(dbname="ledger_ro") for _ in range(4)]

    ports = {port_of(conn) for conn in conns}

    assert ports == {node.port for node in cluster.replicas}
    for text in ("CREATE TABLE t (id int)", "SET TRANSACTION READ WRITE",
                 "SET transaction_read_only = off",
                 "SELECT set_config('default_transaction_read_only', 'off', false)"):
        conns[0].rollback()
        with pytest.raises(READ_ONLY):
            conns[0].cursor().execute(text)
    conns[0].rollback()
    assert port_of(conns[0]) in ports


def test_nothing_is_written_on_the_primary_either(cluster, start):
    proxy = start(hosts=[address(cluster.primary)])
    conn = proxy.connect(autocommit=True, dbname="ledger_ro")
    cursor = conn.cursor()
    for text in (
        "CREATE TABLE t (id int)", "BEGIN READ WRITE", "START TRANSACTION READ WRITE",
        "SET default_transaction_read_only = off",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "SELECT 1; SET TRANSACTION READ WRITE; CREATE TABLE t (id int)",
        "DO $$ BEGIN COMMIT; SET TRANSACTION READ WRITE; CREATE TABLE t (id int); END $$",
    ):
        with pytest.raises(READ_ONLY):
            cursor.execute(text)
    # Out of sight: it holds for the transaction that did it, in which it is too late.
    cursor.execute("SELECT set_config('default_transaction_read' || '_only', 'off', false)")
    with pytest.raises(READ_ONLY):
        cursor.execute("CREATE TABLE t (id int)")
    cursor.execute("SHOW transaction_read_only")
    assert cursor.fetchone() == ("on",)
    with pytest.raises(psycopg2.OperationalError, match="read-write mode"):
        proxy.connect(dbname="ledger_ro", options="-c default_transaction_read_only=off")


@pytest.mark.parametrize("fallback", ["primary", "none"])
def test_without_a_replica_the_domain_says_who_serves_readers(cluster, start, fallback):
    """P82."""
    proxy = start(
        hosts=[address(node) for node in cluster.nodes[:2]],
        read_only={"fallback": fallback}, failover={"timeout": "1s"},
    )
    conn = proxy.connect(autocommit=True, dbname="ledger_ro")
    assert port_of(conn) == cluster.replicas[0].port

    cluster.replicas[0].stop()
    wait_until(lambda: roles(proxy)[address(cluster.replicas[0])][1] == "down", "it is seen to be down")

    if fallback == "primary":
        assert port_of(conn) == cluster.primary.port
    else:
        with pytest.raises(psycopg2.OperationalError) as told:
            port_of(conn)
        assert told.value.pgcode == "08001"
        assert 'no replica of domain "ledger" is available' in str(told.value)
    cluster.replicas[0].start()
    wait_until(lambda: roles(proxy)[address(cluster.replicas[0])] == ("replica", "up"), "it is back")
    assert port_of(conn) == cluster.replicas[0].port


def test_a_replica_that_lags_is_left_out_and_taken_back(cluster, start):
    proxy = start(
        hosts=[address(node) for node in cluster.nodes[:2]],
        health={"interval": "200ms", "timeout": "1s", "max_lag": "1s"},
    )
    writer = proxy.connect(autocommit=True)
    reader = proxy.connect(autocommit=True, dbname="ledger_ro")
    cursor = writer.cursor()
    cursor.execute("CREATE TABLE t (id int)")
    assert port_of(reader) == cluster.replicas[0].port

    cluster.replicas[0].ask("SELECT pg_wal_replay_pause()")
    cursor.execute("INSERT INTO t VALUES (1)")
    wait_until(lambda: roles(proxy)[address(cluster.replicas[0])][0] == "replica (lags)", "it lags")
    assert port_of(reader) == cluster.primary.port
    row = next(row for row in proxy.show("HOSTS") if row["host"] == address(cluster.replicas[0]))
    assert row["lag_bytes"] > 0 and row["lag_ms"] >= 1000

    cluster.replicas[0].ask("SELECT pg_wal_replay_resume()")
    wait_until(lambda: roles(proxy)[address(cluster.replicas[0])] == ("replica", "up"), "it has caught up")
    assert port_of(reader) == cluster.replicas[0].port


def test_a_mode_is_set_between_transactions_by_every_driver(cluster, start):
    proxy = start()
    known(proxy, cluster)
    replicas = {node.port for node in cluster.replicas}

    conn = proxy.connect(autocommit=True)
    cursor = conn.cursor()
    assert port_of(conn) == cluster.primary.port
    cursor.execute("SET pgweir.mode = 'read_only'")
    assert port_of(conn) in replicas
    cursor.execute("SHOW pgweir.host")
    assert cursor.fetchone()[0] in [address(node) for node in cluster.replicas]
    with pytest.raises(READ_ONLY):
        cursor.execute("CREATE TABLE t (id int)")
    cursor.execute("RESET ALL")
    assert port_of(conn) == cluster.primary.port
    conn.autocommit = False
    with pytest.raises(psycopg2.errors.ActiveSqlTransaction, match="autocommit"):
        conn.cursor().execute("SET pgweir.mode = 'batch'")
    conn.rollback()

    with psycopg.connect(**proxy.params(), autocommit=True) as three:
        three.execute("SET pgweir.mode = 'read_only'", prepare=True)
        for _ in range(8):
            assert three.execute("SELECT inet_server_port()").fetchone()[0] in replicas
            assert three.execute("SHOW pgweir.mode", prepare=True).fetchone() == ("read_only",)

    async def with_asyncpg():
        conn = await asyncpg.connect(**proxy.asyncpg_params())
        assert await conn.fetchval("SHOW pgweir.mode") == "read_write"
        await conn.execute("SET pgweir.mode = 'batch'")
        # It has the statement from before.
        assert await conn.fetchval("SHOW pgweir.mode") == "batch"
        async with conn.transaction():
            assert await conn.fetchval("SHOW pgweir.mode") == "batch"
            with pytest.raises(asyncpg.ActiveSQLTransactionError):
                await conn.execute("SET pgweir.mode = 'read_only'")
        await conn.reset()
        assert await conn.fetchval("SHOW pgweir.mode") == "read_write"
        await conn.close()

    asyncio.run(with_asyncpg())


def test_a_reader_does_not_write_on_the_replica_that_is_promoted_under_it(cluster, start):
    """Its servers there do not know that they are a primary's now: they were opened to read."""
    proxy = start(hosts=[address(node) for node in cluster.nodes[:2]], read_only={"fallback": "primary"})
    wait_until(lambda: roles(proxy)[address(cluster.replicas[0])][0] == "replica", "it is known")
    conns = [proxy.connect(autocommit=True, dbname="ledger_ro") for _ in range(3)]
    in_block = proxy.connect(dbname="ledger_ro")
    assert {port_of(conn) for conn in [*conns, in_block]} == {cluster.replicas[0].port}

    cluster.primary.kill()
    cluster.replicas[0].promote()

    for conn in [in_block, *conns]:
        with pytest.raises(READ_ONLY):
            conn.cursor().execute("CREATE TABLE t (id int)")
    in_block.rollback()
    wait_until(lambda: roles(proxy)[address(cluster.replicas[0])][0] == "primary", "it is seen to be promoted")
    for conn in [in_block, *conns]:
        assert port_of(conn) == cluster.replicas[0].port
        with pytest.raises(READ_ONLY):
            conn.cursor().execute("CREATE TABLE t (id int)")
    assert cluster.replicas[0].ask("SELECT count(*) FROM pg_class WHERE relname = 't'", "ledger") == 0


def test_a_batch_has_a_pool_and_timeouts_of_its_own(cluster, start):
    proxy = start(
        pool={"size": 2}, batch={"pool": {"size": 1}, "statement_timeout": "300ms"},
    )
    slow = in_a_thread(lambda: proxy.ask("SELECT pg_sleep(5)", dbname="ledger_batch"))

    assert proxy.ask("SHOW statement_timeout") == "0"
    with pytest.raises(psycopg2.errors.QueryCanceled):
        slow.result(10)
    sizes = {pool["mode"]: pool["size"] for pool in proxy.status()["pools"]}
    assert sizes == {"read_write": 2, "batch": 1}


def test_a_transactional_session_has_its_server_and_isolation_to_itself(cluster, start):
    proxy = start(transactional={"isolation": "serializable"})
    conn = proxy.connect(autocommit=True, dbname="ledger_tx")
    cursor = conn.cursor()
    pids = set()
    for _ in range(3):
        cursor.execute("SELECT pg_backend_pid(), current_setting('transaction_isolation')")
        pid, isolation = cursor.fetchone()
        pids.add(pid)
        assert isolation == "serializable"
    cursor.execute("CREATE TEMP TABLE mine (id int)")
    cursor.execute("SELECT count(*) FROM mine")
    assert len(pids) == 1


def test_a_replica_that_was_restarted_gets_its_share_again(cluster, start):
    proxy = start(read_only={"balance": "round_robin"}, pool={"size": 4})
    known(proxy, cluster)
    conns = [proxy.connect(autocommit=True, dbname="ledger_ro") for _ in range(4)]
    both = {node.port for node in cluster.replicas}
    wait_until(lambda: {port_of(conn) for conn in conns} == both, "both serve")

    cluster.replicas[0].stop()
    wait_until(lambda: {port_of(conn) for conn in conns} == {cluster.replicas[1].port}, "one serves")
    cluster.replicas[0].start()

    wait_until(lambda: {port_of(conn) for conn in conns} == both, "both serve again")


def test_readers_notice_nothing_of_a_replica_that_goes_between_their_transactions(cluster, start):
    proxy = start(pool={"size": 4})
    known(proxy, cluster)
    conns = [proxy.connect(autocommit=True, dbname="ledger_ro") for _ in range(8)]
    for conn in conns:
        port_of(conn)

    cluster.replicas[0].kill()

    assert {port_of(conn) for conn in conns} == {cluster.replicas[1].port}


def busy(cluster, text: str) -> int:
    """How many sessions of all nodes run a statement like `text`."""
    count = 0
    for node in cluster.nodes:
        if node._process is not None:
            count += node.ask("SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                              f" AND query LIKE '{text}%'")
    return count


@pytest.mark.parametrize("autocommit", [True, False], ids=["alone", "first of its block"])
def test_readers_notice_nothing_of_a_replica_that_goes_under_their_queries(cluster, start, autocommit):
    proxy = start(read_only={"balance": "round_robin"}, pool={"size": 4})
    known(proxy, cluster)
    conns = [proxy.connect(autocommit=autocommit, dbname="ledger_ro") for _ in range(4)]
    ask = "SELECT pg_sleep(2), inet_server_port()"

    def run(conn):
        cursor = conn.cursor()
        cursor.execute(ask)
        return cursor.fetchone()[1]

    outcomes = [in_a_thread(lambda conn=conn: run(conn)) for conn in conns]
    wait_until(lambda: busy(cluster, ask[:20]) == 4, "all are under way")
    cluster.replicas[0].kill()

    assert {outcome.result(20) for outcome in outcomes} == {cluster.replicas[1].port}
    assert proxy.metric("pgweir_retries_total", reason="lost") >= 1
    for conn in conns:
        conn.rollback()


@pytest.mark.parametrize("text", [
    "SELECT pg_notify('a', 'b'), pg_sleep(2)", "SELECT pg_try_advisory_lock(1), pg_sleep(2)",
])
def test_what_acts_outside_is_not_done_twice(cluster, start, text):
    proxy = start(pool={"size": 1}, hosts=[address(cluster.replicas[0]), address(cluster.replicas[1])],
                  read_only={"fallback": "none"})
    conn = proxy.connect(autocommit=True, dbname="ledger_ro")
    first = port_of(conn)
    node = next(node for node in cluster.replicas if node.port == first)
    outcome = in_a_thread(lambda: conn.cursor().execute(text))
    wait_until(lambda: busy(cluster, text[:20].replace("'", "''")) == 1 or outcome.done(), "it is under way")
    if not outcome.done():
        node.kill()
    with pytest.raises(psycopg2.Error):
        outcome.result(10)
    assert proxy.metric("pgweir_retries_total", reason="lost") == 0


def test_a_block_of_which_something_was_told_is_not_run_again(cluster, start):
    proxy = start(pool={"size": 2})
    known(proxy, cluster)
    conn = proxy.connect(dbname="ledger_ro")
    node = next(node for node in cluster.replicas if node.port == port_of(conn))
    node.kill()
    with pytest.raises(psycopg2.Error) as lost:
        conn.cursor().execute("SELECT 1")
    assert lost.value.pgcode == "08006"
    conn.rollback()
    assert ports_of(conn) != {node.port}


def test_at_a_cap_a_batch_is_behind_those_who_come_later(cluster, start):
    proxy = start(hosts=[address(cluster.primary)], max_connections=1, pool={"size": 2, "timeout": "6s"})
    holder = proxy.connect()
    holder.cursor().execute("SELECT 1")
    served = []

    def ask(dbname):
        proxy.ask("SELECT 1", dbname=dbname)
        served.append(dbname)

    batch = in_a_thread(lambda: ask("ledger_batch"))
    wait_until(lambda: waiting(proxy) == 1, "the batch waits")
    other = in_a_thread(lambda: ask("ledger_tx"))
    wait_until(lambda: waiting(proxy) == 2, "the other waits")

    holder.commit()

    other.result(10)
    batch.result(15)
    assert served == ["ledger_tx", "ledger_batch"]


def test_a_batch_that_has_all_places_of_a_cap_gives_one_up(cluster, start):
    proxy = start(hosts=[address(cluster.primary)], max_connections=2,
                  pool={"size": 2, "timeout": "20s"}, batch={"pool": {"size": 2}})
    over, done = threading.Event(), []

    def work() -> None:
        conn = proxy.connect(autocommit=True, dbname="ledger_batch")
        while not over.is_set():
            conn.cursor().execute("SELECT pg_sleep(0.3)")
            done.append(1)

    jobs = [in_a_thread(work) for _ in range(16)]
    wait_until(lambda: waiting(proxy) == 14, "the batch has all places, and a queue")
    before = len(done)
    proxy.ask("SELECT 1")
    assert len(done) - before < 7, "it was not behind half of the queue"
    over.set()
    for job in jobs:
        job.result(20)
