"""Replicas that go, return, fall behind and catch up, under clients that read: who serves them, and from when on."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import psycopg2
import pytest

import report
from relay import Relay
from support.wait import wait_until
from views import address, known, port_of, roles

READERS = 10
INTERVAL = 0.5
"""Between two looks at a host, in seconds."""
MAX_LAG = 0.5
OBSERVED = 3.0
"""For how long a host is observed, in seconds."""
LOOKS_MOST = 16
"""In that time, at a host that lets nobody in: ten in the first second, and one each second behind that, each of which
may come a fifth sooner."""
SETTLED = 0.5
"""For how long it has to be the same hosts that answer."""


class Readers:
    """Clients in `read_only` that ask without a pause, outside of blocks, and note who has answered when."""

    def __init__(self, proxy) -> None:
        self._over = threading.Event()
        self.answers: list[tuple[float, int]] = []
        self.longest = 0.0
        """The longest that any of them has waited for an answer."""
        self.errors: list[psycopg2.Error] = []
        conns = [proxy.connect(autocommit=True, dbname="ledger_ro") for _ in range(READERS)]
        self._threads = [
            threading.Thread(target=self._run, args=[conn], daemon=True) for conn in conns
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, conn) -> None:
        while not self._over.is_set():
            begun = time.monotonic()
            try:
                port = port_of(conn)
            except psycopg2.Error as error:
                self.errors.append(error)
                return
            now = time.monotonic()
            self.longest = max(self.longest, now - begun)
            self.answers.append((now, port))

    def first(self, node, since: float) -> float | None:
        """When a host first answered behind a moment, in seconds behind it."""
        times = [at - since for at, port in list(self.answers) if port == node.port and at > since]
        return min(times, default=None)

    def last(self, node, since: float) -> float:
        """When a host last answered, in seconds behind a moment; 0: not behind it."""
        times = [at - since for at, port in list(self.answers) if port == node.port and at > since]
        return max(times, default=0.0)

    def use(self, *nodes) -> None:
        """Waits until each of these hosts answers, and for as long no other one."""
        ports = {node.port for node in nodes}

        def is_so() -> bool:
            since = time.monotonic()
            time.sleep(SETTLED)
            return {port for at, port in list(self.answers) if at > since} == ports

        wait_until(is_so, f"{[node.name for node in nodes]} serve", 20)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive(), "a client hangs"


def is_seen_as(proxy, node, role: str) -> None:
    wait_until(lambda: roles(proxy)[address(node)] == (role, "up"), f"{node.name} is a {role}")


def in_ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"


@pytest.fixture
def proxy(cluster, start):
    made = start(
        pool={"size": 8},
        health={"interval": in_ms(INTERVAL), "timeout": "1s", "max_lag": in_ms(MAX_LAG)},
    )
    known(made, cluster)
    return made


@contextmanager
def writes(proxy):
    """One client that writes all the while: on an idle primary nobody falls behind."""
    conn = proxy.connect(autocommit=True)
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE t (id int)")
    over = threading.Event()

    def write() -> None:
        while not over.wait(0.02):
            cursor.execute("INSERT INTO t VALUES (1)")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join(10)


@pytest.mark.parametrize("run", range(1, report.RUNS + 1))
def test_a_replica_that_is_killed_and_comes_back_is_no_error_of_those_who_read(cluster, proxy, run):
    gone, stays = cluster.replicas
    readers = Readers(proxy)
    readers.use(gone, stays)
    readers.longest = 0.0

    gone.kill()
    killed = time.monotonic()
    readers.use(stays)
    moved, waited = readers.last(gone, killed), readers.longest
    gone.start()
    returned = time.monotonic()
    readers.use(gone, stays)
    readers.stop()

    assert readers.errors == [], proxy.log()
    back = readers.first(gone, returned)
    report.row(run, "killed", *map(in_ms, [moved, waited, back]))


def test_a_replica_that_starts_anew_when_one_of_its_processes_dies_is_no_error_of_those_who_read(
    cluster, proxy
):
    """As the kernel's killer has it when memory is short: PostgreSQL ends all other sessions as well, one by one."""
    broken, stays = cluster.replicas
    readers = Readers(proxy)
    readers.use(broken, stays)

    broken.kill_a_session("ledger")
    killed = time.monotonic()
    wait_until(lambda: readers.last(stays, killed) > 1, "readers are served")
    readers.use(broken, stays)
    readers.stop()
    assert "all server processes terminated" in broken.log_file.read_text()

    assert readers.errors == [], proxy.log()


@pytest.mark.parametrize("run", range(1, report.RUNS + 1))
def test_a_replica_that_falls_behind_and_catches_up_is_no_error_of_those_who_read(cluster, proxy, run):
    """P93: it is behind by what it has not replayed. When nothing is written any more, nobody falls behind."""
    lags, stays = cluster.replicas
    readers = Readers(proxy)
    with writes(proxy):
        readers.use(lags, stays)
        lags.ask("SELECT pg_wal_replay_pause()")
        paused = time.monotonic()
        is_seen_as(proxy, lags, "replica (lags)")
        readers.use(stays)
        moved = readers.last(lags, paused)
        lags.ask("SELECT pg_wal_replay_resume()")
        resumed = time.monotonic()
        is_seen_as(proxy, lags, "replica")
        readers.use(lags, stays)
    back = readers.first(lags, resumed)
    # Idle for longer than it may be behind.
    time.sleep(2 * MAX_LAG + 2 * INTERVAL)
    assert roles(proxy)[address(lags)] == roles(proxy)[address(stays)] == ("replica", "up")
    readers.use(lags, stays)
    readers.stop()

    assert readers.errors == [], proxy.log()
    report.row(run, "fell behind", *map(in_ms, [moved, readers.longest, back]))


def test_a_replica_that_lets_nobody_read_is_no_error_of_those_who_read(cluster, start):
    """It says for good what others say while they start (57P03): it is looked at, and is left alone."""
    # So patient that a machine under load is not taken for a host that is silent.
    proxy = start(pool={"size": 8}, health={"interval": in_ms(INTERVAL), "timeout": "5s"})
    known(proxy, cluster)
    closed, stays = cluster.replicas

    def refused() -> int:
        """How many it has not let in."""
        return closed.log_file.read_text().count("FATAL:  the database system is not accepting connections")

    def logged() -> int:
        """How often pgweir has had something to say of it."""
        return proxy.log().count(address(closed))

    readers = Readers(proxy)
    readers.use(closed, stays)

    closed.kill()
    closed.start_without_readers()
    before = refused()
    wait_until(lambda: refused() > before, "it is looked at")
    wait_until(lambda: roles(proxy)[address(closed)][1] == "suspect", "it is seen")
    before = refused(), logged()
    time.sleep(OBSERVED)
    looks, lines = refused() - before[0], logged() - before[1]
    readers.use(stays)
    closed.stop()
    closed.settings(hot_standby="on")
    closed.start()
    readers.use(closed, stays)
    readers.stop()

    assert readers.errors == [], proxy.log()
    assert lines == 0, proxy.log()
    assert 0 < looks <= LOOKS_MOST


def test_those_who_read_are_served_by_the_primary_where_the_replica_lets_nobody_read(cluster, start):
    closed = cluster.replicas[0]
    closed.stop()
    closed.start_without_readers()
    proxy = start(hosts=[address(cluster.primary), address(closed)])
    wait_until(lambda: roles(proxy)[address(closed)] == ("unknown", "suspect"), "it is seen")

    conn = proxy.connect(autocommit=True, dbname="ledger_ro")

    assert {port_of(conn) for _ in range(10)} == {cluster.primary.port}
    assert "cannot open a server" not in proxy.log()


def test_those_who_read_go_over_to_the_primary_when_the_only_replica_lets_nobody_in(cluster, start):
    """No look has met with its absence: that it is a replica does not hold for ever."""
    serves, closed = cluster.replicas
    closed.stop()
    closed.start_without_readers()
    relay = Relay(serves.port)
    try:
        hosts = [address(cluster.primary), relay.address]
        proxy = start(hosts=hosts, health={"interval": "1s", "timeout": "5s"})
        conn = proxy.connect(autocommit=True, dbname="ledger_ro")
        wait_until(lambda: port_of(conn) == serves.port, "the replica serves")

        relay.lead_to(closed.port)
        relay.reset()

        wait_until(lambda: port_of(conn) == cluster.primary.port, "the primary serves", 5)
        assert roles(proxy)[relay.address] == ("unknown", "suspect")
    finally:
        relay.remove()
