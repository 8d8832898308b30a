"""Threads, child processes and watchers that put a proxy under load."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Callable


def in_threads(work: Callable[[int], object], calls: int, threads: int) -> list:
    """Runs `work(0) … work(calls - 1)` on so many threads; raises what one of them raises."""
    with ThreadPoolExecutor(max_workers=threads) as executor:
        return list(executor.map(work, range(calls)))


def run_async(coroutine, deadline: float = 30.0):
    """Runs a coroutine to its end, or fails after `deadline` seconds."""
    async def bounded():
        return await asyncio.wait_for(coroutine, deadline)

    return asyncio.run(bounded())


@contextmanager
def most_servers(postgres, database: str):
    """Watches on a direct connection how many servers the database has, pgweir's probes aside.

    Yields a list of counts; its maximum is what the test is after.
    """
    counts: list[int] = []
    over = threading.Event()

    def watch() -> None:
        conn = postgres.connect()
        cursor = conn.cursor()
        while not over.is_set():
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
                " AND application_name NOT IN ('pgweir probe', 'test observer')",
                (database,),
            )
            counts.append(cursor.fetchone()[0])
        conn.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield counts
    finally:
        over.set()
        watcher.join()


class ChildClient:
    """A client in a process of its own, to be killed. Its script says `ready` when it is time."""

    def __init__(self, script: str, *args: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", script, *args],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        said = self._process.stdout.readline()
        if said.strip() != "ready":
            self._process.kill()
            raise AssertionError(f"the client did not get ready: {self._process.communicate()[1]}")

    def kill(self) -> None:
        """kill -9: the kernel closes its sockets, nobody says Terminate."""
        self._process.kill()
        self._process.communicate()
