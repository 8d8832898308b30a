"""What applications do, in their own drivers: run by a Python that has psycopg2 and asyncpg.

Says `begin` and `end` on standard error around what is measured, and prints one JSON object. Whom to log
in as is in libpq's environment variables.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import threading
import time

import asyncpg
import psycopg2
import psycopg2.extras

HOST = "127.0.0.1"
ROWS = [(number, f"name {number}", number * 1.5) for number in range(1000)]
TABLE = "create temporary table batch (id int, name text, price float8) on commit drop"
INSERT = "insert into batch values (%s, %s, %s)"
SELECT = "select abalance from pgbench_accounts where aid = 4711"
#: What one of three takes in the documents.
WAIT = "select pg_sleep(0.015)"


def connect(options):
    """A connection for each query, one after another."""
    return _repeat(options.seconds, lambda: _connect_and_ask(options.port, SELECT))


def requests(options):
    """A connection for each query, from many threads at once: as many as there is time for."""
    took, failed = [], []

    def client():
        while time.monotonic() < deadline:
            began = time.monotonic()
            try:
                _connect_and_ask(options.port, WAIT)
                took.append(time.monotonic() - began)
            except psycopg2.OperationalError:
                failed.append(time.monotonic() - began)

    deadline = time.monotonic() + options.seconds
    clients = [threading.Thread(target=client) for _ in range(options.clients)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    return _figures(took, requests_per_minute=len(took) / options.seconds * 60,
                    errors_percent=100 * len(failed) / (len(took) + len(failed)))


def _connect_and_ask(port, text):
    connection = psycopg2.connect(host=HOST, port=port)
    try:
        with connection.cursor() as cursor:
            cursor.execute(text)
            cursor.fetchall()
    finally:
        connection.close()


def sequence(options):
    """Three queries, each behind the one before."""
    async def three(connections):
        for connection in connections:
            await connection.fetch(WAIT)
    return asyncio.run(_repeat_three(options, three))


def concurrent(options):
    """Three queries at once."""
    async def three(connections):
        await asyncio.gather(*(connection.fetch(WAIT) for connection in connections))
    return asyncio.run(_repeat_three(options, three))


async def _repeat_three(options, three):
    # Without named statements, for poolers that have none.
    connections = [await asyncpg.connect(host=HOST, port=options.port, statement_cache_size=0)
                   for _ in range(3)]
    took, deadline = [], time.monotonic() + options.seconds
    while time.monotonic() < deadline:
        began = time.monotonic()
        await three(connections)
        took.append(time.monotonic() - began)
    for connection in connections:
        await connection.close()
    return _figures(took)


def loop(options):
    """A statement for each row."""
    def insert(cursor):
        for row in ROWS:
            cursor.execute(INSERT, row)
    return _rows(options, insert)


def executemany(options):
    return _rows(options, lambda cursor: cursor.executemany(INSERT, ROWS))


def execute_batch(options):
    return _rows(options, lambda cursor: psycopg2.extras.execute_batch(cursor, INSERT, ROWS))


def execute_values(options):
    return _rows(options, lambda cursor: psycopg2.extras.execute_values(
        cursor, "insert into batch values %s", ROWS))


def _rows(options, insert):
    """Lets `insert` put in all rows, again and again."""
    connection = psycopg2.connect(host=HOST, port=options.port)

    def once():
        with connection, connection.cursor() as cursor:
            cursor.execute(TABLE)
            insert(cursor)
    with contextlib.closing(connection):
        return _repeat(options.seconds, once)


def asyncpg_executemany(options):
    return asyncio.run(_asyncpg_rows(options))


async def _asyncpg_rows(options):
    connection = await asyncpg.connect(host=HOST, port=options.port, statement_cache_size=0)
    took, deadline = [], time.monotonic() + options.seconds
    while time.monotonic() < deadline:
        began = time.monotonic()
        async with connection.transaction():
            await connection.execute(TABLE)
            await connection.executemany("insert into batch values ($1, $2, $3)", ROWS)
        took.append(time.monotonic() - began)
    await connection.close()
    return _figures(took)


def _repeat(seconds, once):
    """The figures of as many calls as there is time for, behind one that warms up."""
    once()
    took, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        began = time.monotonic()
        once()
        took.append(time.monotonic() - began)
    return _figures(took)


def _figures(took, **more):
    """Of so many transactions, that each took so many seconds."""
    return {"transactions": len(took), "ms": 1000 * statistics.median(took) if took else 0.0, **more}


TOPICS = {"connect": connect, "requests": requests, "sequence": sequence, "concurrent": concurrent,
          "loop": loop, "executemany": executemany, "execute_batch": execute_batch,
          "execute_values": execute_values, "asyncpg": asyncpg_executemany}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("topic", choices=TOPICS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--clients", type=int, default=1)
    options = parser.parse_args()
    print("begin", file=sys.stderr, flush=True)
    figures = TOPICS[options.topic](options)
    print("end", file=sys.stderr, flush=True)
    print(json.dumps(figures))


main()
