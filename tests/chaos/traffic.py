"""Clients that write to a ledger and read from it, and remember when each transaction began and how it ended."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from dataclasses import dataclass, field

import asyncpg
import psycopg2

SCHEMA = """
CREATE TABLE ledger (id bigint NOT NULL, client int NOT NULL);
CREATE INDEX ON ledger (id);
"""
"""No key: a row that is written twice has to show."""

INSERT = "INSERT INTO ledger VALUES (%s, %s)"
COUNT = "SELECT count(*) FROM ledger WHERE id = %s"
READ = "SELECT max(id) FROM ledger"
UNKNOWN = "08007"
_rows = itertools.count(1)


@dataclass
class Transaction:
    """One transaction of a client."""

    row: int | None
    """What it writes."""
    begun: float
    """When its first statement was about to be sent."""
    ended: float = math.inf
    """When its client had the answer to its last one, or the error."""
    error: str | None = None
    """The SQLSTATE that it ended with; None: it is committed."""
    text: str = ""

    def was_under_way(self, since: float, until: float) -> bool:
        """True if it had begun before `until`, and had not ended before `since`."""
        return self.begun <= until and self.ended >= since


@dataclass
class Client:
    """One connection at work. It goes on with it whatever happens."""

    number: int
    conn: object
    writes: bool
    """Whether it writes a row in each transaction, or reads."""
    transactions: list[Transaction] = field(default_factory=list)

    @property
    def errors(self) -> list[Transaction]:
        return [done for done in self.transactions if done.error]

    @property
    def committed(self) -> list[Transaction]:
        return [done for done in self.transactions if done.ended < math.inf and not done.error]

    def has_done_since(self, at: float) -> bool:
        """True if one that it began behind a moment is committed."""
        done = (it for it in reversed(list(self.transactions)) if it.ended < math.inf and not it.error)
        return next((it.begun > at for it in done), False)

    def begin(self) -> Transaction:
        row = next(_rows) if self.writes else None
        self.transactions.append(Transaction(row, time.monotonic()))
        return self.transactions[-1]

    def is_in_block(self) -> bool:
        """Who writes does so in a block and alone by turns. Who reads does so outside of blocks."""
        return self.writes and len(self.transactions) % 2 == 1


class Psycopg2Client(Client):
    """A client in a thread of its own."""

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.step()
        assert self.conn.closed == 0, "a client lost its connection"

    def step(self) -> None:
        this = self.begin()
        self.conn.autocommit = not self.is_in_block()
        cursor = self.conn.cursor()
        try:
            if self.writes:
                cursor.execute(INSERT, (this.row, self.number))
            else:
                cursor.execute(READ)
            if self.is_in_block():
                cursor.execute(COUNT, (this.row,))
                self.conn.commit()
        except psycopg2.Error as error:
            this.error, this.text = error.pgcode or "none", str(error)
            self.conn.rollback()
        this.ended = time.monotonic()


class AsyncpgClient(Client):
    """A client that is a task among others, and prepares its statements."""

    async def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            await self.step()
        assert not self.conn.is_closed(), "a client lost its connection"
        await self.conn.close()

    async def step(self) -> None:
        this = self.begin()
        try:
            if self.is_in_block():
                async with self.conn.transaction():
                    await self.work(this)
                    await self.conn.fetchval(COUNT.replace("%s", "$1"), this.row)
            else:
                await self.work(this)
        except asyncpg.PostgresError as error:
            this.error, this.text = error.sqlstate, str(error)
        this.ended = time.monotonic()

    async def work(self, this: Transaction) -> None:
        if self.writes:
            await self.conn.execute("INSERT INTO ledger VALUES ($1, $2)", this.row, self.number)
        else:
            await self.conn.fetchval(READ)


class Traffic:
    """Writers and readers before one proxy, until they are told to stop. A third of them use asyncpg.

    Those that are idle have written, and do so again when a test has them `step`.
    """

    def __init__(self, proxy, writers: int, readers: int, idle: int = 0) -> None:
        self._stop = threading.Event()
        self._broken: list[BaseException] = []
        self.clients: list[Client] = []
        for number in range(writers - writers // 3):
            self.clients.append(Psycopg2Client(number, proxy.connect(), writes=True))
        for number in range(readers - readers // 3):
            conn = proxy.connect(dbname=f"{proxy.database}_ro")
            self.clients.append(Psycopg2Client(number, conn, writes=False))
        self.idle = [Psycopg2Client(2000 + n, proxy.connect(), writes=True) for n in range(idle)]
        for client in self.idle:
            client.step()
        calls = [lambda client=client: client.run(self._stop) for client in self.clients]
        are_tasks_at_work = threading.Event()
        tasks = self._tasks(proxy, writers // 3, readers // 3, are_tasks_at_work)
        calls.append(lambda: asyncio.run(tasks))
        self._threads = [threading.Thread(target=self._watch, args=[call]) for call in calls]
        for thread in self._threads:
            thread.daemon = True
            thread.start()
        assert are_tasks_at_work.wait(30), self._broken

    def _watch(self, call) -> None:
        try:
            call()
        except BaseException as problem:
            self._broken.append(problem)

    async def _tasks(self, proxy, writers: int, readers: int, are_at_work: threading.Event) -> None:
        clients: list[AsyncpgClient] = []
        for number in range(writers + readers):
            writes = number < writers
            params = proxy.asyncpg_params() if writes \
                else proxy.asyncpg_params(database=f"{proxy.database}_ro")
            clients.append(AsyncpgClient(1000 + number, await asyncpg.connect(**params), writes))
        self.clients += clients
        are_at_work.set()
        await asyncio.gather(*(client.run(self._stop) for client in clients))

    @property
    def writers(self) -> list[Client]:
        return [client for client in self.clients if client.writes]

    @property
    def readers(self) -> list[Client]:
        return [client for client in self.clients if not client.writes]

    def stop(self) -> None:
        """Has each end its transaction. Nobody may have lost its connection."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"
        assert not self._broken, self._broken

    def errors(self) -> list[Transaction]:
        return [error for client in [*self.clients, *self.idle] for error in client.errors]

    def first_write_behind(self, at: float) -> float | None:
        """When the first row was acknowledged behind a moment, in seconds behind it."""
        times = [done.ended for w in self.writers for done in w.committed if done.ended > at]
        return min(times) - at if times else None

    def check(self, node, database: str) -> None:
        """Every acknowledged row is there, once, and none is that failed for good."""
        conn = node.connect(database)
        cursor = conn.cursor()
        cursor.execute("SELECT id FROM ledger")
        rows = [row[0] for row in cursor.fetchall()]
        conn.close()
        there = set(rows)
        writers = [*self.writers, *self.idle]
        acknowledged = {done.row for writer in writers for done in writer.committed}
        doubtful = {error.row for error in self.errors() if error.error == UNKNOWN}
        assert len(rows) == len(there), "a row is there twice"
        assert acknowledged <= there, f"lost: {sorted(acknowledged - there)}"
        assert there <= acknowledged | doubtful, f"nobody was told: {sorted(there - acknowledged - doubtful)}"
