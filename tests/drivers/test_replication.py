"""PostgreSQL's own replication through pgweir: backups, standbys, subscriptions, streams (P59, P77)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import psycopg2
import psycopg2.extras
import pytest

from support.postgres import APP, Postgres, installed_program, program
from support.process import give_to_unprivileged, spawn, temporary_folder, unprivileged
from support.tls import encrypt, offer, servers
from support.wait import free_port, wait_until

pytestmark = [pytest.mark.targets(), pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def publisher():
    """A cluster that others may replicate from, with `app` as the role for it."""
    cluster = Postgres()
    cluster.stop()
    publish(cluster, "host")
    yield cluster
    cluster.remove()


@pytest.fixture(scope="module")
def tls_publisher(certificates):
    """Another one, which is replicated from through TLS or not at all."""
    cluster = Postgres()
    cluster.stop()
    encrypt(cluster, certificates, certificates.path("localhost.crt"), certificates.path("localhost.key"))
    publish(cluster, "hostssl")
    yield cluster
    cluster.remove()


def publish(cluster: Postgres, kind: str) -> None:
    """Starts a cluster as one to replicate from, over connections of a kind of `pg_hba.conf`'s."""
    with (cluster.data / "postgresql.conf").open("a") as settings:
        settings.write("wal_level = logical\nmax_wal_senders = 10\nmax_replication_slots = 10\n")
    with (cluster.data / "pg_hba.conf").open("a") as hba:
        hba.write(f"{kind} replication all 127.0.0.1/32 scram-sha-256\n")
    cluster.start()
    conn = cluster.connect()
    conn.cursor().execute(f"ALTER ROLE {APP[0]} SUPERUSER REPLICATION")
    conn.cursor().execute("CREATE DATABASE source OWNER app")
    conn.close()


@pytest.fixture
def observer(publisher):
    conn = publisher.connect("source")
    yield conn.cursor()
    conn.close()


@pytest.fixture
def tls_observer(tls_publisher):
    conn = tls_publisher.connect("source")
    yield conn.cursor()
    conn.close()


@pytest.fixture
def proxy(start, publisher):
    """A pool of three in transaction mode, and its servers gone at the end."""
    proxy = start(postgres=publisher, database="source", pool={"size": 3})
    yield proxy
    wait_until(lambda: not replication_rows(proxy), "no replication connection is left")


@pytest.fixture
def tls_proxy(start, tls_publisher, certificates):
    """The same with TLS on both sides."""
    proxy = start(
        postgres=tls_publisher, database="source", pool={"size": 3},
        listen=offer(certificates, "require"),
        domains=servers(tls_publisher, "verify-full", ca=certificates.ca),
    )
    yield proxy
    wait_until(lambda: not replication_rows(proxy), "no replication connection is left")


def through_tls(certificates) -> dict:
    """libpq's variables for a connection that is encrypted, and to whom it seems to be."""
    return {"PGHOST": "localhost", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": certificates.ca}


def replication_rows(proxy) -> list[dict]:
    rows = proxy.show("SERVERS") + proxy.show("CLIENTS")
    return [row for row in rows if row["replication"] != "none"]


def ask(cursor, sql: str, *args):
    cursor.execute(sql, args or None)
    return cursor.fetchone()[0]


def environment(proxy, **more: str) -> dict:
    env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return env | {
        "PGHOST": proxy.host, "PGPORT": str(proxy.port), "PGUSER": APP[0], "PGPASSWORD": APP[1],
        "LC_ALL": "C.UTF-8", **more,
    }


def command(name: str, *args: str, **more: str) -> list[str]:
    """A program of PostgreSQL's and its arguments; where TLS is asked for, one that can do it."""
    return [installed_program(name) if "PGSSLMODE" in more else program(name), *args]


def run(proxy, name: str, *args: str, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(name, *args, **more), env=environment(proxy, **more),
        capture_output=True, text=True, timeout=60,
    )


@contextmanager
def running(proxy, folder, name: str, *args: str, **more: str):
    """A program that streams until it is interrupted; it must then say that all was well."""
    log = folder / f"{name}.log"
    process = spawn(
        command(name, *args, **more), log, signal.SIGKILL, env=environment(proxy, **more)
    )
    try:
        yield process
        assert process.poll() is None, f"{name} ended by itself:\n{log.read_text()}"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait(10)


def stream_through(proxy, kind: type):
    """A psycopg2 connection for replication, whose autocommit cannot be set."""
    return psycopg2.connect(**proxy.params(connection_factory=kind))


@contextmanager
def scratch():
    folder = temporary_folder("replication")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def traffic(proxy):
    """Ordinary clients meanwhile: what went wrong with them is raised at the end."""
    over, problems = threading.Event(), []

    def work() -> None:
        try:
            conn = proxy.connect(autocommit=True)
            while not over.is_set():
                assert ask(conn.cursor(), "SELECT 41 + 1") == 42
            conn.close()
        except Exception as error:  # whatever it is, the test is to fail by it
            problems.append(error)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        over.set()
        for worker in workers:
            worker.join(20)
    assert not problems
    assert not any(worker.is_alive() for worker in workers)


def test_a_standby_is_made_by_pg_basebackup_and_streams_through_pgweir(proxy, publisher, observer):
    observer.execute("CREATE TABLE backed_up AS SELECT generate_series(1, 5000) AS n")
    standby = Copy()
    try:
        with traffic(proxy):
            done = run(
                proxy, "pg_basebackup", "-D", str(standby.data), "-R", "-X", "stream", "-c", "fast",
                "--no-sync", "-C", "-S", "through_pgweir",
            )
            assert done.returncode == 0, done.stderr
            standby.start()
            count = "SELECT count(*) FROM backed_up"
            assert ask(standby.connect("source").cursor(), count) == 5000

            observer.execute("INSERT INTO backed_up SELECT generate_series(5001, 6000)")
            cursor = standby.connect("source").cursor()
            wait_until(lambda: ask(cursor, count) == 6000, "the rows are on the standby")
        kinds = {row["replication"] for row in replication_rows(proxy)}
        assert kinds == {"physical"}
    finally:
        standby.remove()
    wait_until(lambda: not replication_rows(proxy), "the standby's connection is gone")
    observer.execute("SELECT pg_drop_replication_slot('through_pgweir')")


def test_a_stream_goes_on_in_the_timeline_of_a_promoted_standby(start, publisher, observer):
    standby = Copy()
    try:
        made = subprocess.run(
            [program("pg_basebackup"), "-D", str(standby.data), "-R", "-c", "fast", "--no-sync",
             "-d", f"host=127.0.0.1 port={publisher.port} user={APP[0]} password='{APP[1]}'"],
            capture_output=True, text=True, timeout=60,
        )
        assert made.returncode == 0, made.stderr
        standby.start()
        proxy = start(postgres=standby, database="source")
        with scratch() as folder, running(proxy, folder, "pg_receivewal", "-D", str(folder), "-v"):
            write = "SELECT pg_logical_emit_message(false, '', repeat('x', 1000))"
            wait_until(
                lambda: observer.execute(write) or list(folder.glob("00000001*")), "it streams"
            )
            cursor = standby.connect("source").cursor()
            cursor.execute("SELECT pg_promote()")
            cursor.execute("CREATE TABLE IF NOT EXISTS promoted (n int)")
            wait_until(lambda: list(folder.glob("00000002*.partial")), "it follows the timeline")
    finally:
        standby.remove()


class Copy(Postgres):
    """A cluster that is a copy of another."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = temporary_folder("standby")
        give_to_unprivileged(self.folder)
        self.data = self.folder / "data"
        self.log_file = self.folder / "postgres.log"
        self._process = None

    def start(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, **_owner())
            for path in self.data.rglob("*"):
                shutil.chown(path, **_owner())
            shutil.chown(self.data, **_owner())
        self.data.chmod(0o700)
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(f"port = {self.port}\nunix_socket_directories = '{self.folder}'\n")
        super().start()


def _owner() -> dict:
    account = unprivileged()
    return {"user": account["user"], "group": account["group"]}


def test_pg_basebackup_writes_a_backup_that_pg_verifybackup_accepts(proxy):
    with scratch() as folder:
        done = run(
            proxy, "pg_basebackup", "-D", str(folder / "backup"), "-c", "fast", "-X", "fetch",
            "--no-sync", "--max-rate=64M",
        )
        assert done.returncode == 0, done.stderr
        checked = run(proxy, "pg_verifybackup", str(folder / "backup"))
        assert checked.returncode == 0, checked.stderr + checked.stdout


def test_pg_receivewal_receives_whole_segments(proxy, observer):
    with scratch() as folder:
        slot = ("--slot", "receivewal")
        assert run(proxy, "pg_receivewal", *slot, "--create-slot").returncode == 0
        args = ("-D", str(folder), *slot, "--no-sync")
        with traffic(proxy), running(proxy, folder, "pg_receivewal", *args):
            active = "SELECT active FROM pg_replication_slots WHERE slot_name = 'receivewal'"
            wait_until(lambda: ask(observer, active), "it streams")
            observer.execute("CREATE TABLE IF NOT EXISTS logged_rows (text text)")
            observer.execute("INSERT INTO logged_rows SELECT repeat('x', 1000) FROM generate_series(1, 2000)")
            segment = ask(observer, "SELECT pg_walfile_name(pg_current_wal_lsn())")
            observer.execute("SELECT pg_switch_wal()")
            wait_until(lambda: (folder / segment).exists(), f"segment {segment} is complete")
        assert (folder / segment).stat().st_size == 16 << 20
        dropped = run(proxy, "pg_receivewal", *slot, "--drop-slot")
        assert dropped.returncode == 0, dropped.stderr


def test_pg_recvlogical_receives_what_was_written(proxy, observer):
    observer.execute("CREATE TABLE decoded (n int)")
    with scratch() as folder:
        of_slot = ("-d", "main", "--slot", "recvlogical")
        made = run(proxy, "pg_recvlogical", *of_slot, "--create-slot", "-P", "test_decoding")
        assert made.returncode == 0, made.stderr
        out = folder / "changes"
        with traffic(proxy), running(
            proxy, folder, "pg_recvlogical", *of_slot, "--start", "-f", str(out), "-F", "0",
        ):
            observer.execute("INSERT INTO decoded SELECT generate_series(1, 300)")
            wait_until(
                lambda: out.exists() and "n[integer]:300" in out.read_text(), "the rows arrive"
            )
            assert [row["replication"] for row in replication_rows(proxy)] == ["logical"] * 2
        assert out.read_text().count("INSERT") == 300
        dropped = run(proxy, "pg_recvlogical", *of_slot, "--drop-slot")
        assert dropped.returncode == 0, dropped.stderr


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_subscription_gets_its_rows_through_pgweir(start, publisher, observer, mode):
    proxy = start(
        postgres=publisher, database="source",
        pool={"size": 4, "pool_mode": mode, "query_timeout": "2s", "statement_timeout": "2s"},
    )
    subscriber = Postgres()
    name = f"in_{mode}"
    try:
        observer.execute(f"CREATE TABLE {name} (n int PRIMARY KEY, text text)")
        rows = f"INSERT INTO {name} SELECT n, repeat('x', 100) FROM generate_series(%s, %s) n"
        observer.execute(rows, (1, 2000))
        observer.execute(f"CREATE PUBLICATION {name} FOR TABLE {name}")
        conn = subscriber.connect()
        cursor = conn.cursor()
        cursor.execute(f"CREATE TABLE {name} (n int PRIMARY KEY, text text)")
        source = (
            f"host={proxy.host} port={proxy.port} dbname=main user={APP[0]} password='{APP[1]}'"
        )
        cursor.execute(f"CREATE SUBSCRIPTION {name} CONNECTION %s PUBLICATION {name}", (source,))
        count = f"SELECT count(*) FROM {name}"
        wait_until(lambda: ask(cursor, count) == 2000, "the table is copied", 30)

        with traffic(proxy):
            observer.execute(rows, (2001, 3000))
            observer.execute(f"DELETE FROM {name} WHERE n <= 500")
            observer.execute(f"UPDATE {name} SET text = 'changed' WHERE n > 2900")
            wait_until(lambda: ask(cursor, count) == 2500, "the changes arrive", 30)
            changed = f"SELECT count(*) FROM {name} WHERE text = 'changed'"
            wait_until(lambda: ask(cursor, changed) == 100, "the last of them too")
        assert ask(observer, "SELECT count(*) FROM pg_stat_replication") == 1
        cursor.execute(f"DROP SUBSCRIPTION {name}")
        conn.close()
        wait_until(lambda: not replication_rows(proxy), "its connections are gone")
        assert ask(observer, "SELECT count(*) FROM pg_replication_slots") == 0
    finally:
        subscriber.remove()


def test_psycopg2_streams_logical_changes(proxy, observer):
    observer.execute("CREATE TABLE streamed (n int)")
    conn = stream_through(proxy, psycopg2.extras.LogicalReplicationConnection)
    cursor = conn.cursor()
    cursor.execute("IDENTIFY_SYSTEM")
    assert cursor.fetchone()[3] == "source"
    cursor.create_replication_slot("psycopg2", output_plugin="test_decoding")
    cursor.start_replication(slot_name="psycopg2", decode=True, status_interval=1)
    observer.execute("INSERT INTO streamed SELECT generate_series(1, 100)")
    changes: list[str] = []

    def all_there() -> bool:
        while message := cursor.read_message():
            changes.append(message.payload)
            message.cursor.send_feedback(flush_lsn=message.data_start, reply=True)
        return any("n[integer]:100" in change for change in changes)

    wait_until(all_there, "the changes arrive")
    assert sum("INSERT" in change for change in changes) == 100
    assert conn.get_backend_pid() == ask(observer, "SELECT pid FROM pg_stat_replication")
    conn.close()
    free = "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'psycopg2'"
    wait_until(lambda: ask(observer, free), "the slot is free")
    observer.execute("SELECT pg_drop_replication_slot('psycopg2')")


def test_psycopg2_streams_the_log_itself(proxy, observer):
    at = ask(observer, "SELECT pg_current_wal_lsn()")
    conn = stream_through(proxy, psycopg2.extras.PhysicalReplicationConnection)
    cursor = conn.cursor()
    cursor.start_replication(start_lsn=at)
    observer.execute("CREATE TABLE logged AS SELECT generate_series(1, 10000) AS n")
    received = 0

    def enough() -> bool:
        nonlocal received
        while message := cursor.read_message():
            received += len(message.payload)
        return received > 100_000

    wait_until(enough, "the log arrives")
    conn.close()


def test_a_full_pool_refuses_a_standby_and_takes_it_later(start, publisher):
    proxy = start(postgres=publisher, database="source", pool={"size": 1, "timeout": "1s"})
    holder = proxy.connect()
    holder.cursor().execute("SELECT 1")
    how = psycopg2.extras.LogicalReplicationConnection
    with pytest.raises(psycopg2.OperationalError, match="query_wait_timeout"):
        stream_through(proxy, how)

    holder.rollback()

    conn = stream_through(proxy, how)
    assert [row["replication"] for row in proxy.show("SERVERS")] == ["logical"]
    conn.close()
    wait_until(lambda: not proxy.show("SERVERS"), "its server is gone")
    assert proxy.ask("SELECT 1") == 1


def test_the_domain_of_a_standby_is_named_by_an_option(start, publisher):
    domains = {"main": {}, "second": {"database": "postgres"}}
    proxy = start(postgres=publisher, database="source", domains=domains)
    with scratch() as folder:
        args = ("-D", str(folder / "backup"), "-c", "fast", "-X", "none", "--no-sync")
        refused = run(proxy, "pg_basebackup", *args)
        assert refused.returncode == 1
        assert "options='-c pgweir.domain=NAME'" in refused.stderr

        done = run(proxy, "pg_basebackup", *args, "-d", "options='-c pgweir.domain=second'")
        assert done.returncode == 0, done.stderr
        shutil.rmtree(folder / "backup")
        done = run(proxy, "pg_basebackup", *args, PGOPTIONS="-c pgweir.domain=second")
        assert done.returncode == 0, done.stderr


def walsenders(observer) -> list[tuple]:
    """State and encryption of each, as PostgreSQL has it."""
    observer.execute(
        "SELECT state, ssl, version FROM pg_stat_replication JOIN pg_stat_ssl USING (pid) ORDER BY 1"
    )
    return observer.fetchall()


def assert_encrypted(proxy) -> None:
    """On both sides of pgweir."""
    for what in ("CLIENTS", "SERVERS"):
        shown = [row["tls"] for row in proxy.show(what) if row["replication"] != "none"]
        assert shown and all(tls.startswith("TLSv1.3/") for tls in shown), f"{what}: {shown}"


def skip_if_older(name: str, observer) -> None:
    """Leaves a test out whose program with TLS refuses a server newer than itself."""
    said = subprocess.check_output([installed_program(name), "--version"], text=True)
    major = int(re.search(r"\(PostgreSQL\) (\d+)", said)[1])
    if major < observer.connection.server_version // 10000:
        pytest.skip(f"the {name} with TLS is of PostgreSQL {major}")


def test_pg_basebackup_makes_a_backup_through_tls_on_both_sides(
    tls_proxy, tls_observer, certificates,
):
    skip_if_older("pg_basebackup", tls_observer)
    tls = through_tls(certificates)
    with scratch() as folder:
        backup = folder / "backup"
        # Slow enough to be looked at.
        args = ("-D", str(backup), "-c", "fast", "-X", "stream", "--no-sync", "--max-rate=16M")
        in_plain = run(tls_proxy, "pg_basebackup", *args, PGSSLMODE="disable")
        assert in_plain.returncode == 1 and "listen.tls.mode" in in_plain.stderr

        log = folder / "log"
        process = spawn(
            command("pg_basebackup", *args, **tls), log, signal.SIGKILL,
            env=environment(tls_proxy, **tls),
        )
        try:
            wait_until(
                lambda: walsenders(tls_observer) == [
                    ("backup", True, "TLSv1.3"), ("streaming", True, "TLSv1.3"),
                ],
                "it copies the files and streams the log, both encrypted",
            )
            assert_encrypted(tls_proxy)
            assert process.wait(60) == 0, log.read_text()
        finally:
            process.kill()
            process.wait(10)
        checked = run(tls_proxy, "pg_verifybackup", str(backup))
        assert checked.returncode == 0, checked.stderr + checked.stdout


def test_pg_recvlogical_receives_what_was_written_through_tls_on_both_sides(
    tls_proxy, tls_observer, certificates,
):
    tls = through_tls(certificates)
    tls_observer.execute("CREATE TABLE decoded (n int, text text)")
    with scratch() as folder:
        of_slot = ("-d", "main", "--slot", "recvlogical")
        made = run(tls_proxy, "pg_recvlogical", *of_slot, "--create-slot", "-P", "test_decoding", **tls)
        assert made.returncode == 0, made.stderr
        out = folder / "changes"
        with traffic(tls_proxy), running(
            tls_proxy, folder, "pg_recvlogical", *of_slot, "--start", "-f", str(out), "-F", "0", **tls,
        ):
            # Changes of many TLS records each.
            tls_observer.execute(
                "INSERT INTO decoded SELECT n, repeat('x', 100000) FROM generate_series(1, 100) n"
            )
            wait_until(lambda: out.exists() and "COMMIT" in out.read_text(), "the rows arrive")
            assert walsenders(tls_observer) == [("streaming", True, "TLSv1.3")]
            assert_encrypted(tls_proxy)
        rows = [line for line in out.read_text().splitlines() if "INSERT" in line]
        assert len(rows) == 100 and all("x" * 100_000 in row for row in rows)
        dropped = run(tls_proxy, "pg_recvlogical", *of_slot, "--drop-slot", **tls)
        assert dropped.returncode == 0, dropped.stderr


# More than all the buffers on the way can hold.
LOGGED_MB = 64
# Writes what it receives; when interrupted it says Terminate, and no CopyDone before.
PSYCOPG2 = """
import signal, sys
import psycopg2, psycopg2.extras

# Whoever runs the tests in the background may have had it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
kind, slot, at = sys.argv[1:]
conn = psycopg2.connect("dbname=main", connection_factory=getattr(psycopg2.extras, kind))
cursor = conn.cursor()
cursor.start_replication(slot_name=slot, start_lsn=at)
try:
    cursor.consume_stream(lambda message: sys.stdout.buffer.write(message.payload))
except KeyboardInterrupt:
    conn.close()
"""


def by_pg_recvlogical(slot: str, _at: str, **more: str) -> list[str]:
    return command(
        "pg_recvlogical", "-d", "main", "--slot", slot, "--start", "--no-loop", "-f", "-", **more
    )


def by_psycopg2_logical(slot: str, at: str, **_more: str) -> list[str]:
    return [sys.executable, "-c", PSYCOPG2, "LogicalReplicationConnection", slot, at]


def by_psycopg2_physical(slot: str, at: str, **_more: str) -> list[str]:
    return [sys.executable, "-c", PSYCOPG2, "PhysicalReplicationConnection", slot, at]


CLIENTS = [by_pg_recvlogical, by_psycopg2_logical, by_psycopg2_physical]
FAREWELLS = ["interrupted", "killed", "killed when it reads no more"]


@pytest.mark.parametrize("farewell", FAREWELLS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_leaves_in_the_middle_of_a_stream_leaves_nothing(
    proxy, observer, client, farewell,
):
    leave(proxy, observer, client, farewell)


@pytest.mark.parametrize("farewell", FAREWELLS)
@pytest.mark.parametrize("client", [by_pg_recvlogical, by_psycopg2_physical])
def test_a_client_that_leaves_in_the_middle_of_tls_leaves_nothing(
    tls_proxy, tls_observer, certificates, client, farewell,
):
    leave(tls_proxy, tls_observer, client, farewell, **through_tls(certificates))


def leave(proxy, observer, client, farewell: str, **more: str) -> None:
    """Streams long messages to a client, which leaves early; everything must be as it was before."""
    made = (
        "pg_create_physical_replication_slot('leaver', true)" if client is by_psycopg2_physical
        else "pg_create_logical_replication_slot('leaver', 'test_decoding')"
    )
    observer.execute(f"SELECT {made}")
    at = ask(observer, "SELECT pg_current_wal_lsn()")
    for _ in range(LOGGED_MB):
        observer.execute("SELECT pg_logical_emit_message(false, '', repeat('x', 1 << 20))")
    with traffic(proxy):
        process = subprocess.Popen(
            client("leaver", at, **more), env=environment(proxy, **more), stdout=subprocess.PIPE,
        )
        try:
            received = len(process.stdout.read(4 << 20))
            assert received == 4 << 20, "it ended by itself"
            if farewell == "killed when it reads no more":
                wait_until_stalled(observer)
            process.send_signal(signal.SIGINT if farewell == "interrupted" else signal.SIGKILL)
            received += len(process.stdout.read())
            code = process.wait(20)
        finally:
            process.kill()
            process.wait(10)
            process.stdout.close()
        assert code == (0 if farewell == "interrupted" else -signal.SIGKILL)
        assert received < LOGGED_MB << 20, "the stream was over already"

        wait_until(lambda: not walsenders(observer), "its walsender ends", 5)
        wait_until(lambda: not replication_rows(proxy), "its server is closed", 5)
        free = "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'leaver'"
        assert ask(observer, free)
        assert proxy.ask("SELECT 1") == 1
    observer.execute("SELECT pg_drop_replication_slot('leaver')")

    wait_until(lambda: proxy.metric("pgweir_clients") == 0, "no client is left")
    assert proxy.metric("pgweir_servers", state="active") == 0
    holders = [proxy.connect() for _ in range(3)]
    assert [ask(holder.cursor(), "SELECT 1") for holder in holders] == [1] * 3, "a place is missing"
    for holder in holders:
        holder.close()


def wait_until_stalled(observer) -> None:
    """Until the one walsender has sent nothing for a while, though there is more to send."""
    sent: list[list] = []

    def is_stalled() -> bool:
        observer.execute(
            "SELECT sent_lsn FROM pg_stat_replication WHERE sent_lsn < pg_current_wal_lsn()"
        )
        sent.append(observer.fetchall())
        return len(sent) >= 5 and len(sent[-1]) == 1 and all(row == sent[-1] for row in sent[-5:])

    wait_until(is_stalled, "nothing moves")
