"""Short transactions beside a load of `batch` that has more to do than its pool can: what they notice of it.

PGWEIR_CHAOS_RUNS=3 makes the table of docs/HA.md.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest

import report
from support.load import ChildClient
from support.wait import wait_until
from views import address

CLIENTS, BATCHES = 8, 20
PAUSE = 0.02
"""Between two transactions of a client: far from what the machine can do."""
SECONDS = 1 if report.RUNS == 1 else 6
LOADS = {
    "waits": "SELECT pg_sleep(0.05)",
    "computes": "SELECT count(*) FROM generate_series(1, 100000)",
}

BATCH = f"""
import sys, threading, psycopg2

def run():
    conn = psycopg2.connect(sys.argv[1])
    conn.autocommit = True
    while True:
        conn.cursor().execute(sys.argv[2])

for _ in range({BATCHES}):
    threading.Thread(target=run, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


class Short:
    """Clients that change a row of their own, each in a block of two statements, and note how long that took."""

    def __init__(self, proxy) -> None:
        self._conns = [proxy.connect() for _ in range(CLIENTS)]

    def work(self) -> list[float]:
        """Milliseconds of all transactions of some seconds, in order."""
        times: list[float] = []
        end = time.monotonic() + SECONDS
        problems: list[BaseException] = []

        def run(number: int, conn) -> None:
            try:
                while (begun := time.monotonic()) < end:
                    cursor = conn.cursor()
                    cursor.execute("SELECT n FROM t WHERE id = %s", (number,))
                    cursor.execute("UPDATE t SET n = n + 1 WHERE id = %s", (number,))
                    conn.commit()
                    times.append((time.monotonic() - begun) * 1000)
                    time.sleep(PAUSE)
            except BaseException as problem:
                problems.append(problem)

        threads = [threading.Thread(target=run, args=pair) for pair in enumerate(self._conns)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        return sorted(times)


def pool(proxy, mode: str) -> dict:
    return next(pool for pool in proxy.status()["pools"] if pool["mode"] == mode)


@contextmanager
def batch(proxy, text: str):
    """A load that has all servers of its pool, and a queue behind them."""
    load = ChildClient(BATCH, proxy.url(dbname="ledger_batch"), text)
    try:
        wait_until(lambda: pool(proxy, "batch")["clients_waiting"] >= BATCHES // 2, "its pool has not enough", 30)
        yield
        assert pool(proxy, "batch")["clients_waiting"] >= BATCHES // 2, "it was too little"
    finally:
        load.kill()
    wait_until(lambda: pool(proxy, "batch")["clients_waiting"] == 0, "its clients are gone")


@contextmanager
def most_waiting(proxy, mode: str):
    """Looks again and again how many clients of a mode wait for a server; yields what it has seen."""
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            seen.append(pool(proxy, mode)["clients_waiting"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


@pytest.mark.parametrize("load", LOADS)
def test_who_has_short_transactions_waits_for_no_server_of_a_batch(cluster, start, load):
    proxy = start(
        hosts=[address(cluster.primary)], pool={"size": CLIENTS, "min": CLIENTS, "timeout": "60s"},
        batch={"pool": {"size": 2, "min": 0}},
    )
    proxy.ask(f"CREATE TABLE t AS SELECT id, 0 AS n FROM generate_series(0, {CLIENTS - 1}) id; SELECT 1")
    short = Short(proxy)
    # Whom a server is opened for waits for it.
    wait_until(lambda: pool(proxy, "read_write")["idle_connections"] == CLIENTS, "there is one for each")
    short.work()

    for run in range(1, report.RUNS + 1):
        alone = short.work()
        with batch(proxy, LOADS[load]), most_waiting(proxy, "read_write") as waiting:
            beside = short.work()
        assert waiting and max(waiting) == 0
        tell = [times[int(len(times) * share)] for share in (0.5, 0.99) for times in (alone, beside)]
        report.row(f"{load} {run}", *(f"{ms:.1f}" for ms in tell), f"{tell[3] / tell[2]:.2f}")
