"""Clients that write to a ledger and read from it, and remember what they were told."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field

import psycopg2

SCHEMA = "CREATE TABLE ledger (id bigint PRIMARY KEY, client int NOT NULL)"
_ids = itertools.count(1)


@dataclass
class Client:
    """One connection at work in a thread of its own."""

    number: int
    conn: object
    acknowledged: list[tuple[int, float]] = field(default_factory=list)
    """What was committed, as it was told, and when."""
    errors: list[tuple[str | None, str, float]] = field(default_factory=list)
    doubtful: set[int] = field(default_factory=set)
    """What may have been committed: 08007."""
    asked: int = 0

    def fail(self, error: psycopg2.Error) -> None:
        self.errors.append((error.pgcode, str(error), time.monotonic()))


class Writer(Client):
    """Writes a row in each transaction, alternately in a block and alone."""

    def step(self) -> None:
        row = next(_ids)
        self.asked += 1
        self.conn.autocommit = self.asked % 2 == 0
        try:
            cursor = self.conn.cursor()
            cursor.execute("INSERT INTO ledger VALUES (%s, %s)", (row, self.number))
            if not self.conn.autocommit:
                cursor.execute("SELECT count(*) FROM ledger WHERE id = %s", (row,))
                self.conn.commit()
        except psycopg2.Error as error:
            self.fail(error)
            if error.pgcode == "08007":
                self.doubtful.add(row)
            self.conn.rollback()
        else:
            self.acknowledged.append((row, time.monotonic()))


class Reader(Client):
    """Reads outside of blocks."""

    def step(self) -> None:
        self.asked += 1
        self.conn.autocommit = True
        try:
            cursor = self.conn.cursor()
            cursor.execute("SELECT max(id) FROM ledger")
            cursor.fetchone()
        except psycopg2.Error as error:
            self.fail(error)


class Traffic:
    """Writers and readers before one proxy, until they are told to stop."""

    def __init__(self, proxy, writers: int, readers: int) -> None:
        self._stop = threading.Event()
        self.writers = [Writer(number, proxy.connect()) for number in range(writers)]
        self.readers = [
            Reader(number, proxy.connect(dbname=f"{proxy.database}_ro")) for number in range(readers)
        ]
        self.clients = [*self.writers, *self.readers]
        self._threads = [threading.Thread(target=self._run, args=[c]) for c in self.clients]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def _run(self, client) -> None:
        while not self._stop.is_set():
            client.step()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"

    def first_write_behind(self, at: float) -> float | None:
        """When the first row was acknowledged behind a moment, in seconds behind it."""
        times = [when for w in self.writers for _, when in w.acknowledged if when > at]
        return min(times) - at if times else None

    def check(self, node, database: str) -> None:
        """Every acknowledged row is there, none is that failed for good, and nobody had to reconnect."""
        conn = node.connect(database)
        cursor = conn.cursor()
        cursor.execute("SELECT id FROM ledger")
        there = {row[0] for row in cursor.fetchall()}
        conn.close()
        acknowledged = {row for writer in self.writers for row, _ in writer.acknowledged}
        doubtful = set().union(*(writer.doubtful for writer in self.writers))
        assert acknowledged <= there, f"lost: {sorted(acknowledged - there)}"
        assert there <= acknowledged | doubtful, f"nobody was told: {sorted(there - acknowledged - doubtful)}"
        for client in self.clients:
            assert client.conn.closed == 0, f"a client had to reconnect: {client.errors}"
