"""The first seed: three domains, and its scripts with nothing but host and port changed.

`docs/SEEDS.md` lists the few changes beyond that, each of which a direct connection needs too.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import psycopg2
import pytest

from support.postgres import SUPERUSER
from support.seed_000 import library
from support.wait import wait_until

DOMAINS = {
    "technical_analysis": "markets_technicals",
    "internals": "markets_internals",
    "plurality": "Plurality",
}

TABLES = {
    "markets_technicals": """
        CREATE TABLE usstockseod (ticker text, date date, close numeric);
        CREATE TABLE metadata (last_update date);
        CREATE TABLE key_indicators (date date, ticker text, value numeric);
        CREATE TABLE indicators (name text);
        CREATE TABLE prices (ticker text, price numeric);
        CREATE TABLE daily (date date, ticker text, open numeric, high numeric, low numeric,
                            close numeric, volume bigint);
        INSERT INTO usstockseod VALUES ('AAPL', '2025-01-02', 243.85), ('MSFT', '2025-01-02', 418);
        INSERT INTO metadata VALUES ('2025-01-01');
        INSERT INTO indicators VALUES ('rsi');
        INSERT INTO prices VALUES ('AAPL', 243.85);
        INSERT INTO daily VALUES ('2025-01-02', 'AAPL', 1, 1, 1, 1, 1),
                                 ('2025-01-02', 'GOOGL', 1, 1, 1, 1, 1),
                                 ('2025-01-02', 'MSFT', 1, 1, 1, 1, 1);
    """,
    "markets_internals": "CREATE TABLE market_breadth AS SELECT 2 AS n",
    "Plurality": "CREATE TABLE rs_industry_groups AS SELECT 3 AS n",
}

LOGIN = {"user": SUPERUSER[0], "password": SUPERUSER[1]}


@pytest.fixture(scope="module")
def databases(postgres):
    """The seed's three databases, made once: their names are the seed's own."""
    for name in TABLES:
        postgres.create_database(name, owner=SUPERUSER[0])
    yield
    for name in TABLES:
        postgres.drop_database(name)


@pytest.fixture
def three(start, postgres, databases):
    """pgweir with the seed's three domains before the seed's three databases."""
    for name, tables in TABLES.items():
        conn = postgres.connect(name)
        conn.cursor().execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        conn.cursor().execute(tables)
        conn.close()
    return start(
        database="markets_technicals",
        pool={"size": 10, "max_overflow": 20, "timeout": "30s"},
        domains={domain: {"database": name, **LOGIN} for domain, name in DOMAINS.items()},
    )


@pytest.fixture
def db(three):
    """The seed's own library, its work done by pgweir."""
    return library(three, DOMAINS, LOGIN)


# 1. Simple query


def test_the_old_simple_query_runs(three):
    ticker = "AAPL"

    conn = psycopg2.connect(
        database="markets_technicals",
        user="postgres",
        password="root",
        host="localhost",
        port=str(three.port),
    )
    cursor = conn.cursor()

    try:
        cursor.execute("SELECT * FROM usstockseod WHERE ticker = %s", (ticker,))
        results = cursor.fetchall()
    finally:
        cursor.close()
        conn.close()

    assert [row[0] for row in results] == ["AAPL"]


def test_the_new_simple_query_runs(db):
    with db.get_technical_session() as session:
        results = session.fetch_all(
            "SELECT * FROM usstockseod WHERE ticker = %s",
            ("AAPL",)
        )

    assert len(results) == 1


@pytest.mark.targets("pgbouncer")
def test_a_domain_may_be_named_by_its_own_name_too(three):
    name = "technical_analysis" if hasattr(three, "http_port") else "markets_technicals"

    assert three.ask("SELECT current_database()", dbname=name, **LOGIN) == "markets_technicals"


# 2. Transactions


def old_transaction(three, data, date):
    conn = psycopg2.connect(
        database="markets_technicals",
        user="postgres",
        password="root",
        host="localhost",
        port=str(three.port),
    )
    cursor = conn.cursor()

    try:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO usstockseod VALUES (%s, %s, %s)", data)
        cursor.execute("UPDATE metadata SET last_update = %s", (date,))
        conn.commit()
    except Exception as e:
        conn.rollback()
        raise
    finally:
        cursor.close()
        conn.close()


def test_the_old_transaction_commits_both_changes(three):
    old_transaction(three, ("NVDA", date(2025, 1, 3), 144), date(2025, 1, 3))

    assert three.ask("SELECT count(*) FROM usstockseod", **LOGIN) == 3
    assert three.ask("SELECT last_update FROM metadata", **LOGIN) == date(2025, 1, 3)


def test_the_old_transaction_rolls_both_back_when_the_second_fails(three):
    with pytest.raises(psycopg2.errors.InvalidDatetimeFormat):
        old_transaction(three, ("NVDA", date(2025, 1, 3), 144), "not a day")

    assert three.ask("SELECT count(*) FROM usstockseod", **LOGIN) == 2


def test_the_new_transaction_commits_on_success_and_rolls_back_on_an_exception(three, db):
    with db.DomainConnectionManager.transaction('technical_analysis') as session:
        session.execute("INSERT INTO usstockseod VALUES (%s, %s, %s)", ("A", "2025-01-03", 1))
        session.execute("UPDATE metadata SET last_update = %s", ("2025-01-03",))
    with pytest.raises(psycopg2.errors.InvalidDatetimeFormat):
        with db.DomainConnectionManager.transaction('technical_analysis') as session:
            session.execute("INSERT INTO usstockseod VALUES (%s, %s, %s)", ("B", "2025-01-04", 1))
            session.execute("UPDATE metadata SET last_update = %s", ("not a day",))

    assert three.ask("SELECT count(*) FROM usstockseod", **LOGIN) == 3
    assert three.ask("SELECT last_update FROM metadata", **LOGIN) == date(2025, 1, 3)


# 3. Batches


LARGE = [{"date": "2025-01-02", "ticker": f"T{i}", "value": i} for i in range(2500)]


def test_the_old_batch_of_1000_rows_at_a_time_inserts_them_all(three):
    large_dataset = LARGE

    conn = psycopg2.connect(
        database="markets_technicals", user="postgres", password="root",
        host="localhost", port=str(three.port),
    )
    cursor = conn.cursor()

    data_to_insert = []
    for row in large_dataset:
        data_to_insert.append((row['date'], row['ticker'], row['value']))

        if len(data_to_insert) >= 1000:
            cursor.executemany(
                "INSERT INTO key_indicators VALUES (%s, %s, %s)",
                data_to_insert
            )
            conn.commit()
            data_to_insert = []

    if data_to_insert:
        cursor.executemany("INSERT INTO key_indicators VALUES (%s, %s, %s)", data_to_insert)
        conn.commit()

    cursor.close()
    conn.close()

    assert three.ask("SELECT count(DISTINCT ticker) FROM key_indicators", **LOGIN) == 2500


def test_the_new_batch_inserts_them_all(three, db):
    batch_tx = db.BatchTransaction(
        db.DomainConnectionManager.get_session_factory('technical_analysis').transaction_manager
    )

    with batch_tx.batch_insert('key_indicators', ['date', 'ticker', 'value']) as batch:
        for row in LARGE:
            batch.add((row['date'], row['ticker'], row['value']))

    assert three.ask("SELECT count(DISTINCT ticker) FROM key_indicators", **LOGIN) == 2500


# 4. Several databases


def test_the_old_script_holds_three_databases_at_once(three):
    at = {"host": "localhost", "port": str(three.port)}
    tech_conn = psycopg2.connect(
        database="markets_technicals", user="postgres", password="root", **at
    )
    tech_cursor = tech_conn.cursor()
    int_conn = psycopg2.connect(
        database="markets_internals", user="postgres", password="root", **at
    )
    int_cursor = int_conn.cursor()
    plur_conn = psycopg2.connect(database="Plurality", user="postgres", password="root", **at)
    plur_cursor = plur_conn.cursor()

    tech_cursor.execute("SELECT * FROM indicators")
    int_cursor.execute("SELECT * FROM market_breadth")
    plur_cursor.execute("SELECT * FROM rs_industry_groups")

    assert tech_cursor.fetchall() == [("rsi",)]
    assert int_cursor.fetchall() == [(2,)]
    assert plur_cursor.fetchall() == [(3,)]
    for conn in (tech_conn, int_conn, plur_conn):
        conn.close()


def test_the_new_script_reads_from_three_pools(db):
    with db.get_technical_session() as tech_session:
        tech_data = tech_session.fetch_all("SELECT * FROM indicators")

    with db.get_internals_session() as int_session:
        internal_data = int_session.fetch_all("SELECT * FROM market_breadth")

    with db.get_plurality_session() as plur_session:
        rs_data = plur_session.fetch_all("SELECT * FROM rs_industry_groups")

    assert (tech_data, internal_data, rs_data) == ([("rsi",)], [(2,)], [(3,)])


def test_three_domains_under_load_at_once_do_not_mix(db):
    reads = [
        (db.get_technical_session, "SELECT current_database()", "markets_technicals"),
        (db.get_internals_session, "SELECT current_database()", "markets_internals"),
        (db.get_plurality_session, "SELECT current_database()", "Plurality"),
    ]

    def read(i: int) -> bool:
        open_session, sql, expected = reads[i % 3]
        with open_session() as session:
            return session.fetch_one(sql)[0] == expected

    with ThreadPoolExecutor(max_workers=30) as executor:
        assert all(executor.map(read, range(300)))


# 5. Errors and retries


def test_with_retry_gets_the_data(db):
    @db.with_retry(db.RetryPolicy(max_attempts=3))
    def get_data(ticker):
        with db.get_technical_session() as session:
            return session.fetch_all(
                "SELECT * FROM prices WHERE ticker = %s",
                (ticker,)
            )

    result = get_data('AAPL')

    assert len(result) == 1


@pytest.mark.targets()
def test_a_script_that_meets_a_restarting_server_needs_no_retry_of_its_own(start, own_postgres):
    proxy = start(
        postgres=own_postgres, database="postgres",
        pool={"timeout": "20s"}, domains={"technical_analysis": LOGIN},
    )
    assert proxy.ask("SELECT 1", **LOGIN) == 1
    own_postgres.stop()

    with ThreadPoolExecutor(max_workers=1) as executor:
        answer = executor.submit(proxy.ask, "SELECT 2", **LOGIN)
        wait_until(lambda: proxy.metric("pgweir_clients", state="waiting") == 1, "it waits")
        own_postgres.start()
        assert answer.result(20) == 2


# The full script


def update_ticker_data(three, ticker, data):
    conn = psycopg2.connect(
        database="markets_technicals",
        user="postgres",
        password="root",
        host="localhost",
        port=str(three.port),
    )
    cursor = conn.cursor()

    try:
        cursor.execute(
            "SELECT MAX(date) FROM daily WHERE ticker = %s",
            (ticker,)
        )
        last_date = cursor.fetchone()[0]

        for row in data:
            if row['date'] > last_date:
                cursor.execute(
                    "INSERT INTO daily VALUES (%s, %s, %s, %s, %s, %s, %s)",
                    (row['date'], ticker, row['open'], row['high'],
                     row['low'], row['close'], row['volume'])
                )

        conn.commit()
        print(f"Updated {ticker}")

    except Exception as e:
        conn.rollback()
        print(f"Error updating {ticker}: {e}")
        raise
    finally:
        cursor.close()
        conn.close()


def test_the_full_script_adds_only_what_is_newer(three):
    day = {"open": 1, "high": 2, "low": 1, "close": 2, "volume": 10}
    data = [{"date": date(2025, 1, d), **day} for d in (1, 2, 3, 4)]

    tickers = ['AAPL', 'GOOGL', 'MSFT']
    for ticker in tickers:
        update_ticker_data(three, ticker, data)

    assert three.ask("SELECT count(*) FROM daily", **LOGIN) == 3 + 3 * 2


@pytest.mark.targets()
def test_the_statistics_count_what_the_script_used(db):
    with db.get_technical_session() as session:
        session.fetch_all("SELECT 1")
        stats = db.DomainConnectionManager.get_stats('technical_analysis')
        assert (stats['active_connections'], stats['idle_connections']) == (1, 0)

    wait_until(
        lambda: db.DomainConnectionManager.get_stats('technical_analysis') == {
            "active_connections": 0, "idle_connections": 1, "connections_created": 1,
        },
        "the server is idle again",
    )
