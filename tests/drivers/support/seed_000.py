"""The first seed's library, as thin as can be: its pools, retries and statistics are pgweir's now.

The seed's "after" snippets import `src.infrastructure.database`. Here that library opens a plain
psycopg2 connection for every session and closes it again; whatever it once did is left to the
proxy. Tests run the snippets on it as they are written.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import wraps
from types import SimpleNamespace

import psycopg2

BATCH = 1000


class Session:
    """One psycopg2 connection with the seed's method names."""

    def __init__(self, conn) -> None:
        self._cursor = conn.cursor()

    def execute(self, sql: str, args=None) -> None:
        self._cursor.execute(sql, args)

    def executemany(self, sql: str, rows) -> None:
        self._cursor.executemany(sql, rows)

    def fetch_all(self, sql: str, args=None) -> list:
        self._cursor.execute(sql, args)
        return self._cursor.fetchall()

    def fetch_one(self, sql: str, args=None):
        self._cursor.execute(sql, args)
        return self._cursor.fetchone()


class Batch:
    """Rows for one table, sent in batches of 1000."""

    def __init__(self, session: Session, table: str, columns: list[str]) -> None:
        marks = ", ".join(["%s"] * len(columns))
        self._session = session
        self._sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        self._rows: list[tuple] = []

    def add(self, row: tuple) -> None:
        self._rows.append(row)
        if len(self._rows) >= BATCH:
            self.flush()

    def flush(self) -> None:
        self._session.executemany(self._sql, self._rows)
        self._rows = []


class RetryPolicy:
    def __init__(self, max_attempts: int) -> None:
        self.max_attempts = max_attempts


def with_retry(policy: RetryPolicy):
    """Calls again after a connection failure. The waiting and backing off is the proxy's."""
    def decorate(function):
        @wraps(function)
        def call(*args, **kwargs):
            for attempt in range(policy.max_attempts):
                try:
                    return function(*args, **kwargs)
                except psycopg2.OperationalError:
                    if attempt == policy.max_attempts - 1:
                        raise
        return call
    return decorate


def library(proxy, databases: dict[str, str], login: dict) -> SimpleNamespace:
    """What `from src.infrastructure.database import …` gives, before the given proxy."""

    @contextmanager
    def session(domain: str):
        conn = psycopg2.connect(
            database=databases[domain], host=proxy.host, port=proxy.port, **login
        )
        try:
            # The connection's own block: commits on success, rolls back on an exception.
            with conn:
                yield Session(conn)
        finally:
            conn.close()

    class DatabaseSessionFactory:
        def __init__(self, domain: str) -> None:
            self.transaction_manager = self
            self._domain = domain

        def get_session(self):
            return session(self._domain)

    class DomainConnectionManager:
        transaction = staticmethod(session)
        get_session_factory = DatabaseSessionFactory

        @staticmethod
        def get_stats(domain: str) -> dict:
            return {
                "active_connections": proxy.metric("pgweir_servers", domain=domain, state="active"),
                "idle_connections": proxy.metric("pgweir_servers", domain=domain, state="idle"),
                "connections_created": proxy.metric(
                    "pgweir_server_connects_total", domain=domain, result="ok"
                ),
            }

    class BatchTransaction:
        def __init__(self, transaction_manager) -> None:
            self._manager = transaction_manager

        @contextmanager
        def batch_insert(self, table: str, columns: list[str]):
            with self._manager.get_session() as open_session:
                batch = Batch(open_session, table, columns)
                yield batch
                batch.flush()

    return SimpleNamespace(
        BatchTransaction=BatchTransaction,
        DatabaseSessionFactory=DatabaseSessionFactory,
        DomainConnectionManager=DomainConnectionManager,
        RetryPolicy=RetryPolicy,
        get_internals_session=lambda: session("internals"),
        get_plurality_session=lambda: session("plurality"),
        get_technical_session=lambda: session("technical_analysis"),
        with_retry=with_retry,
    )
