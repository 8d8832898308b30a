"""The fifth seed, numbered 004: a connection for every call, behind a server that allows few."""

import concurrent.futures
import statistics
import time
from contextlib import contextmanager
from functools import wraps

import psycopg2
import psycopg2.extras
import pytest

from support.load import in_threads, most_servers
from support.wait import wait_until

TABLES = """
    CREATE TABLE users (user_id bigint PRIMARY KEY, email text, is_seller bool);
    CREATE TABLE orders (id int);
    CREATE TABLE products (id int, sales_count int);
    INSERT INTO users VALUES (5229892870, 'a@example.org', true), (2, 'b@example.org', false);
    INSERT INTO products VALUES (1, 0);
"""


@pytest.fixture
def ten(start):
    """The seed's pool: 2 to 10 connections, no overflow."""
    proxy = start(pool={"min": 2, "size": 10, "max_overflow": 0, "timeout": "30s"})
    conn = proxy.connect(autocommit=True)
    conn.cursor().execute(TABLES)
    conn.close()
    return proxy


@pytest.fixture
def seed(ten):
    """The seed's functions. Its pool is gone: a call opens a connection and closes it."""

    def get_postgresql_connection():
        return ten.connect()

    def put_connection(conn):
        conn.close()

    def with_db_connection(function):
        @wraps(function)
        def call(*args):
            conn = get_postgresql_connection()
            try:
                return function(conn, *args)
            finally:
                put_connection(conn)
        return call

    @contextmanager
    def transaction_context():
        conn = get_postgresql_connection()
        try:
            with conn, conn.cursor() as cursor:
                yield conn, cursor
        finally:
            put_connection(conn)

    class Seed:
        pass

    Seed.get_postgresql_connection = staticmethod(get_postgresql_connection)
    Seed.put_connection = staticmethod(put_connection)
    Seed.with_db_connection = staticmethod(with_db_connection)
    Seed.TransactionContext = staticmethod(transaction_context)
    return Seed


def test_the_old_function_with_a_new_connection_for_each_call_runs(seed):
    get_postgresql_connection = seed.get_postgresql_connection

    def get_user(user_id):
        conn = get_postgresql_connection()
        cursor = conn.cursor()
        cursor.execute("SELECT * FROM users WHERE user_id = %s", (user_id,))
        user = cursor.fetchone()
        conn.close()
        return user

    assert get_user(2) == (2, "b@example.org", False)
    assert get_user(3) is None


def test_the_decorated_function_updates(seed, ten):
    @seed.with_db_connection
    def update_user_email(conn, user_id, new_email):
        cursor = conn.cursor()
        cursor.execute(
            "UPDATE users SET email = %s WHERE user_id = %s",
            (new_email, user_id)
        )
        conn.commit()

    update_user_email(2, "new@example.org")

    assert ten.ask("SELECT email FROM users WHERE user_id = 2") == "new@example.org"


def test_the_transaction_context_commits_both_changes_or_none(seed, ten):
    with seed.TransactionContext() as (conn, cursor):
        cursor.execute("INSERT INTO orders (id) VALUES (1)")
        cursor.execute("UPDATE products SET sales_count = sales_count + 1")
    with pytest.raises(psycopg2.errors.DivisionByZero):
        with seed.TransactionContext() as (conn, cursor):
            cursor.execute("INSERT INTO orders (id) VALUES (2)")
            cursor.execute("UPDATE products SET sales_count = sales_count / 0")

    assert ten.ask("SELECT count(*) FROM orders") == 1
    assert ten.ask("SELECT sales_count FROM products") == 1


def test_rows_as_dictionaries_carry_the_column_names(seed):
    conn = seed.get_postgresql_connection()
    cursor = conn.cursor(cursor_factory=psycopg2.extras.RealDictCursor)
    cursor.execute("SELECT user_id FROM users WHERE is_seller = TRUE")

    assert [dict(row) for row in cursor.fetchall()] == [{"user_id": 5229892870}]
    seed.put_connection(conn)


def test_100_calls_from_50_threads_all_succeed(seed):
    @seed.with_db_connection
    def get_user(conn, user_id):
        cursor = conn.cursor()
        cursor.execute("SELECT * FROM users WHERE user_id = %s", (user_id,))
        user = cursor.fetchone()
        conn.commit()
        return user

    def test_query(i):
        try:
            user = get_user(5229892870)
            return f"Query {i}: OK" if user else f"Query {i}: nobody"
        except Exception as e:
            return f"Query {i}: ERROR - {e}"

    with concurrent.futures.ThreadPoolExecutor(max_workers=50) as executor:
        results = list(executor.map(test_query, range(100)))

    assert results == [f"Query {i}: OK" for i in range(100)]


@pytest.mark.targets("pgbouncer")
def test_1000_calls_from_50_threads_never_use_more_than_10_servers(ten, postgres, database):
    def call(number: int) -> int:
        conn = ten.connect()
        try:
            cursor = conn.cursor()
            cursor.execute("SELECT %s FROM users WHERE user_id = 2", (number,))
            return cursor.fetchone()[0]
        finally:
            conn.close()

    with most_servers(postgres, database) as counts:
        answers = in_threads(call, calls=1000, threads=50)

    assert answers == list(range(1000))
    assert 1 <= max(counts) <= 10


@pytest.mark.targets()
def test_two_servers_are_open_before_the_first_client(start):
    proxy = start(pool={"min": 2, "size": 10})

    wait_until(lambda: proxy.metric("pgweir_servers", state="idle") == 2, "two servers are open")


@pytest.mark.targets("pgbouncer")
def test_what_connecting_costs_is_printed_with_and_without_the_pool(ten, postgres, capsys):
    """Measured, not asserted: a busy machine must not fail a build."""
    direct = {**ten.params(), "port": postgres.port}

    def connect_cost_ms(params: dict) -> float:
        costs = []
        for _ in range(100):
            begin = time.perf_counter()
            conn = psycopg2.connect(**params)
            costs.append((time.perf_counter() - begin) * 1000)
            conn.close()
        return statistics.median(costs)

    pooled, bare = connect_cost_ms(ten.params()), connect_cost_ms(direct)

    assert pooled > 0 and bare > 0
    with capsys.disabled():
        print(f"\n  connect: {pooled:.2f} ms through the pool, {bare:.2f} ms to PostgreSQL", end="")
