"""Clients that die, servers that die, a PostgreSQL that stops and starts: what the others see."""

from __future__ import annotations

import re
import signal
import threading
import time

import psycopg2
import pytest

from support.load import ChildClient
from support.wait import wait_until

MID_TRANSACTION = """
import sys, psycopg2
conn = psycopg2.connect(sys.argv[1])
cursor = conn.cursor()
cursor.execute("SET application_name = 'leak'; SET search_path = pg_catalog")
cursor.execute("CREATE TEMP TABLE leak (id int)")
cursor.execute("SELECT pg_advisory_lock(pg_backend_pid())")
cursor.execute("INSERT INTO public.t VALUES (1)")
print("ready", flush=True)
sys.stdin.read()
"""

MID_COPY = """
import sys, psycopg2
conn = psycopg2.connect(sys.argv[1])

class Endless:
    def __init__(self):
        self.reads = 0

    def read(self, size):
        self.reads += 1
        if self.reads == 50:
            print("ready", flush=True)
            sys.stdin.read()
        return "1\\n" * (size // 2)

conn.cursor().copy_expert("COPY t FROM STDIN", Endless())
"""

MID_RESULT = """
import sys, psycopg
conn = psycopg.connect(sys.argv[1], autocommit=True)
rows = conn.cursor().stream("SELECT repeat('x', 1000) FROM generate_series(1, 2000) a, generate_series(1, 1000) b")
for _ in range(10):
    next(rows)
print("ready", flush=True)
sys.stdin.read()
"""

MID_STATEMENT = """
import sys, threading, psycopg2
conn = psycopg2.connect(sys.argv[1])
threading.Timer(0.2, lambda: print("ready", flush=True)).start()
conn.cursor().execute("INSERT INTO t SELECT 1 FROM pg_sleep(3)")
"""

SCRIPTS = {
    "transaction": MID_TRANSACTION, "COPY": MID_COPY,
    "result": MID_RESULT, "statement": MID_STATEMENT,
}

# What an error of ours or of PostgreSQL's own says when a server is lost or cannot be had.
REASON = re.compile(
    r"the server connection was lost|no primary of domain|query_wait_timeout"
    r"|terminating connection|shutting down|starting up|the database system is"
)


def dsn(proxy) -> str:
    return psycopg2.extensions.make_dsn(**proxy.params())


def open_servers(observer, database: str) -> int:
    observer.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        " AND application_name NOT IN ('pgweir probe', 'test observer')",
        (database,),
    )
    return observer.fetchone()[0]


# Clients that die


@pytest.mark.targets("direct", "pgbouncer")
@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_client_killed_in_the_middle_leaves_nothing_to_the_next(
    start, observer, database, script, pool_mode
):
    proxy = start(pool={"size": 1, "pool_mode": pool_mode})
    observer.execute("CREATE TABLE t (id int); GRANT ALL ON t TO app")
    client = ChildClient(script, dsn(proxy))

    client.kill()

    with proxy.connect(autocommit=True) as conn, conn.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM public.t), to_regclass('leak'),"
            " current_setting('application_name'), current_setting('search_path'),"
            " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            "  AND pid = pg_backend_pid())"
        )
        assert cursor.fetchone() == (0, None, "", '"$user", public', 0)
    wait_until(lambda: open_servers(observer, database) <= 1, "the pool is back at its size")


@pytest.mark.targets()
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_after_20_killed_clients_all_servers_are_free_again(start, observer, database, script):
    proxy = start(pool={"size": 2, "max_overflow": 2})
    observer.execute("CREATE TABLE t (id int); GRANT ALL ON t TO app")
    for _ in range(5):
        clients = [ChildClient(script, dsn(proxy)) for _ in range(4)]
        for client in clients:
            client.kill()

    wait_until(lambda: proxy.metric("pgweir_servers", state="active") == 0, "no server is lent")
    wait_until(lambda: proxy.metric("pgweir_clients") == 0, "no client is left")
    wait_until(lambda: open_servers(observer, database) <= 2, "overflow is closed again", 15)
    observer.execute("SELECT count(*) FROM t")
    assert observer.fetchone()[0] == 0


@pytest.mark.targets()
def test_a_client_killed_while_it_waits_leaves_the_queue(start):
    proxy = start(pool={"size": 1})
    holder = proxy.connect()
    holder.cursor().execute("SELECT 1")
    waiter = ChildClient(
        "import sys, threading, psycopg2\n"
        "conn = psycopg2.connect(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "conn.cursor().execute('SELECT 1')\n",
        dsn(proxy),
    )
    wait_until(lambda: proxy.metric("pgweir_clients", state="waiting") == 1, "it waits")

    waiter.kill()

    wait_until(lambda: proxy.metric("pgweir_clients", state="waiting") == 0, "it left the queue")
    holder.commit()
    assert proxy.ask("SELECT 1") == 1


# Servers that die


def terminate_servers(observer, database: str) -> None:
    observer.execute(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
        " WHERE datname = %s AND pid <> pg_backend_pid()",
        (database,),
    )


@pytest.mark.targets("pgbouncer")
def test_an_idle_client_does_not_notice_that_its_server_was_terminated(start, observer, database):
    conn = start(pool={"size": 2}).connect(autocommit=True)
    cursor = conn.cursor()

    for number in range(10):
        cursor.execute("SELECT %s", (number,))
        assert cursor.fetchone() == (number,)
        terminate_servers(observer, database)


@pytest.mark.targets()
def test_servers_that_postgresql_closes_while_they_idle_are_no_error_of_the_next_client(
    start, observer, database
):
    """P33: all of them go, and who comes next gets a new one."""
    observer.execute(f"ALTER ROLE app IN DATABASE {database} SET idle_session_timeout = '500ms'")
    proxy = start(pool={"size": 4})
    conns = [proxy.connect() for _ in range(4)]
    for _ in range(3):
        for conn in conns:
            conn.cursor().execute("SELECT 1")
        assert open_servers(observer, database) == 4
        for conn in conns:
            conn.commit()
        wait_until(lambda: open_servers(observer, database) == 0, "PostgreSQL has closed them")

    assert proxy.ask("SELECT 1") == 1


@pytest.mark.targets()
def test_a_server_lost_in_a_block_fails_the_block_and_not_the_session(start, observer, database):
    conn = start(pool={"size": 2}).connect()
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE t (id int)")
    conn.commit()
    cursor.execute("INSERT INTO t VALUES (1)")

    terminate_servers(observer, database)

    with pytest.raises(psycopg2.Error) as caught:
        cursor.execute("INSERT INTO t VALUES (2)")
    assert caught.value.pgcode == "08006"
    assert "the server connection was lost; the transaction is rolled back" in str(caught.value)
    with pytest.raises(psycopg2.Error) as caught:
        cursor.execute("SELECT 1")
    assert caught.value.pgcode == "25P02"
    conn.rollback()
    cursor.execute("SELECT count(*) FROM t")
    assert cursor.fetchone() == (0,)


@pytest.mark.targets()
def test_a_server_lost_in_a_statement_that_may_commit_says_that_nobody_knows(
    start, observer, database
):
    conn = start(pool={"size": 2}).connect(autocommit=True)
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE t (id int)")
    timer = threading.Timer(0.3, terminate_servers, (observer, database))
    timer.start()

    with pytest.raises(psycopg2.Error) as caught:
        cursor.execute("INSERT INTO t SELECT 1 FROM pg_sleep(30)")
    timer.join()

    assert caught.value.pgcode == "08007"
    assert "whether the statement took effect is unknown" in str(caught.value)
    cursor.execute("SELECT count(*) FROM t")
    assert cursor.fetchone() == (0,)


@pytest.mark.targets()
def test_a_copy_whose_server_is_lost_ends_with_an_error_that_says_so(start, observer, database):
    conn = start(pool={"size": 2}).connect(autocommit=True)
    conn.cursor().execute("CREATE TABLE t (id int)")

    class Terminating:
        reads = 0

        def read(self, size):
            self.reads += 1
            if self.reads == 20:
                terminate_servers(observer, database)
            return "1\n" * (size // 2) if self.reads < 2000 else ""

    with pytest.raises(psycopg2.Error, match="connection"):
        conn.cursor().copy_expert("COPY t FROM STDIN", Terminating())

    if not conn.closed:
        conn.cursor().execute("SELECT 1")


# PostgreSQL that stops and starts


class Worker(threading.Thread):
    """A client that updates a row again and again, and notes how each attempt went."""

    def __init__(self, proxy, over: threading.Event) -> None:
        super().__init__()
        self._proxy, self._over = proxy, over
        self.successes: list[float] = []
        self.errors: list[psycopg2.Error] = []
        self.longest = 0.0

    def run(self) -> None:
        conn = None
        while not self._over.is_set():
            begin = time.monotonic()
            try:
                if conn is None or conn.closed:
                    conn = self._proxy.connect()
                conn.cursor().execute("UPDATE t SET n = n + 1")
                conn.commit()
                self.successes.append(time.monotonic())
            except psycopg2.Error as error:
                self.errors.append(error)
                if conn is not None and not conn.closed:
                    conn.rollback()
            self.longest = max(self.longest, time.monotonic() - begin)
        if conn is not None:
            conn.close()


@pytest.mark.targets()
@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT], ids=["immediate", "fast"])
def test_postgresql_stopped_and_started_under_load_costs_errors_that_say_why(
    start, own_postgres, how
):
    timeout = 2.0
    proxy = start(
        postgres=own_postgres, database="postgres",
        pool={"size": 4, "timeout": "2s"}, listen={"login_timeout": "2s"},
    )
    conn = own_postgres.connect()
    conn.cursor().execute("CREATE TABLE t AS SELECT 0 AS n; GRANT ALL ON t TO app")
    conn.close()
    over = threading.Event()
    workers = [Worker(proxy, over) for _ in range(8)]
    for worker in workers:
        worker.start()
    try:
        wait_until(lambda: all(w.successes for w in workers), "every client gets through")
        own_postgres.stop(how)
        wait_until(lambda: all(w.errors for w in workers), "every client is told")
        own_postgres.start()
        back = time.monotonic()
        wait_until(
            lambda: all(w.successes[-1] > back for w in workers), "traffic resumes for everybody"
        )
    finally:
        over.set()
        for worker in workers:
            worker.join()

    for error in (error for worker in workers for error in worker.errors):
        # libpq shows no SQLSTATE for an error while it connects.
        assert error.pgcode is None or error.pgcode[:2] in ("08", "57", "53"), error
        assert REASON.search(str(error)), error
    assert max(worker.longest for worker in workers) < timeout * 2 + 3


@pytest.mark.targets()
def test_a_session_that_outlived_a_restart_goes_on(start, own_postgres):
    proxy = start(postgres=own_postgres, database="postgres", pool={"timeout": "10s"})
    conn = proxy.connect(autocommit=True)
    cursor = conn.cursor()
    cursor.execute("SET TimeZone = 'Asia/Tokyo'")

    own_postgres.stop(signal.SIGQUIT)
    own_postgres.start()

    cursor.execute("SHOW TimeZone")
    assert cursor.fetchone() == ("Asia/Tokyo",)


@pytest.mark.targets()
def test_a_login_while_postgresql_is_away_is_answered_with_the_parameters_last_known(
    start, own_postgres
):
    proxy = start(postgres=own_postgres, database="postgres", pool={"timeout": "1s"})
    assert proxy.ask("SELECT 1") == 1
    own_postgres.stop()

    conn = proxy.connect(autocommit=True)
    assert conn.server_version >= 120000
    with pytest.raises(psycopg2.Error) as caught:
        conn.cursor().execute("SELECT 1")
    assert caught.value.pgcode in ("08001", "53300")

    own_postgres.start()
    conn.cursor().execute("SELECT 1")
