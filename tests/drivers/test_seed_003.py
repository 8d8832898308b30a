"""The fourth seed, numbered 003: asyncpg with its statement cache on, and its benchmark.

`docs/SEEDS.md` lists what had to change, each of which a direct connection needs too.
"""

import asyncio
import logging
import time
from datetime import datetime

import asyncpg
import pytest

from support.load import run_async

pytestmark = pytest.mark.targets("direct")

logger = logging.getLogger(__name__)

TABLES = """
    CREATE TABLE kalshi_markets (market_id int, active bool);
    CREATE TABLE positions (id int, status text);
    CREATE TABLE position_history (id int, status text, at timestamp);
    CREATE TABLE records (id int, name text);
    INSERT INTO kalshi_markets SELECT n, n % 2 = 0 FROM generate_series(1, 100) n;
    INSERT INTO positions VALUES (1, 'open');
"""


@pytest.fixture
def with_pool(start):
    """Runs a snippet with the seed's pool of 10 before a domain of 4 servers."""
    proxy = start(pool={"size": 4})
    setup = proxy.connect(autocommit=True)
    setup.cursor().execute(TABLES)
    setup.close()

    def run(snippet):
        async def body():
            params = proxy.asyncpg_params()
            async with asyncpg.create_pool(**params, min_size=2, max_size=10) as pool:
                return await snippet(pool)

        return run_async(body())

    return run


def test_the_quick_start_runs(with_pool):
    async def fetch_data(pool):
        results = await pool.fetch("SELECT * FROM kalshi_markets WHERE market_id > $1", 90)
        row = await pool.fetchrow("SELECT * FROM kalshi_markets WHERE market_id = $1", 1)
        count = await pool.fetchval("SELECT COUNT(*) FROM kalshi_markets")
        await pool.execute("UPDATE positions SET status = $1 WHERE id = $2", 'active', 1)
        status = await pool.fetchval("SELECT status FROM positions")
        return len(results), row["market_id"], count, status

    assert with_pool(fetch_data) == (10, 1, 100, "active")


def test_the_simple_query_pattern_runs(with_pool):
    async def get_markets(pool):
        return await pool.fetch(
            "SELECT * FROM kalshi_markets WHERE active = $1",
            True
        )

    rows = with_pool(get_markets)

    assert len(rows) == 50 and "market_id" in rows[0]


def test_the_transaction_pattern_commits_both_changes_or_none(with_pool):
    async def update_position(pool, position_id, new_data):
        # changed: an asyncpg pool has no transaction(); its connections have
        async with pool.acquire() as conn, conn.transaction():
            await conn.execute(
                "UPDATE positions SET status = $1 WHERE id = $2",
                new_data['status'], position_id
            )

            await conn.execute(
                "INSERT INTO position_history VALUES ($1, $2, $3)",
                position_id, new_data['status'], datetime.now()
            )

    async def snippet(pool):
        await update_position(pool, 1, {"status": "closed"})
        with pytest.raises(asyncpg.DataError):
            await update_position(pool, 1, {"status": 7})
        return await pool.fetchrow(
            "SELECT status, (SELECT count(*) FROM position_history) AS n FROM positions"
        )

    assert tuple(with_pool(snippet)) == ("closed", 1)


def test_the_batch_pattern_inserts_1000_rows(with_pool):
    async def insert_batch(pool, records):
        async with pool.acquire() as conn:
            await conn.executemany(
                "INSERT INTO records VALUES ($1, $2)",
                [(r['id'], r['name']) for r in records]
            )

    async def snippet(pool):
        await insert_batch(pool, [{"id": i, "name": f"n{i}"} for i in range(1000)])
        return await pool.fetchval("SELECT count(DISTINCT name) FROM records")

    assert with_pool(snippet) == 1000


def test_the_concurrent_pattern_takes_as_long_as_its_slowest_part(with_pool):
    async def get_all_data(pool):
        begin = time.monotonic()
        markets, games, positions = await asyncio.gather(
            pool.fetchval("SELECT 'markets' FROM pg_sleep(0.3)"),
            pool.fetchval("SELECT 'games' FROM pg_sleep(0.3)"),
            pool.fetchval("SELECT 'positions' FROM pg_sleep(0.3)")
        )
        return (markets, games, positions), time.monotonic() - begin

    async def snippet(pool):
        await asyncio.gather(*(pool.fetch("SELECT pg_sleep(0.05)") for _ in range(4)))
        return await get_all_data(pool)

    answers, seconds = with_pool(snippet)

    assert answers == ("markets", "games", "positions")
    # One after the other they would take 0.9 s.
    assert seconds < 0.85


def test_the_seeds_own_unit_tests_pass(with_pool):
    async def snippet(pool):
        markets = await pool.fetch("SELECT * FROM kalshi_markets LIMIT 10")

        assert len(markets) > 0
        assert 'market_id' in markets[0]

        # changed: as above, a connection's transaction
        async with pool.acquire() as conn, conn.transaction():
            await conn.execute("CREATE TEMP TABLE test (id INT)")
            await conn.execute("INSERT INTO test VALUES (1)")
            count = await conn.fetchval("SELECT COUNT(*) FROM test")

        assert count == 1

    with_pool(snippet)


def test_the_load_test_of_100_concurrent_queries_gets_100_answers(with_pool):
    async def benchmark_concurrent_queries(pool, num_queries=100):
        start = time.time()
        tasks = [
            pool.fetchval("SELECT COUNT(*) FROM kalshi_markets")
            for _ in range(num_queries)
        ]
        results = await asyncio.gather(*tasks)
        elapsed = time.time() - start
        print(f"{num_queries} queries in {elapsed:.2f}s")
        print(f"QPS: {num_queries/elapsed:.0f} queries/second")
        return results

    assert with_pool(benchmark_concurrent_queries) == [100] * 100


def test_the_pool_statistics_add_up(with_pool):
    async def get_pool_stats(pool):
        # changed: the pool itself has these, not an attribute _pool of it
        return {
            'size': pool.get_size(),
            'free': pool.get_idle_size(),
            'used': pool.get_size() - pool.get_idle_size(),
            'min_size': pool.get_min_size(),
            'max_size': pool.get_max_size()
        }

    stats = with_pool(get_pool_stats)

    assert stats == {'size': 2, 'free': 2, 'used': 0, 'min_size': 2, 'max_size': 10}


@pytest.mark.targets()
def test_a_query_slower_than_100_ms_is_in_the_slow_query_log_with_its_literals_masked(start):
    proxy = start(log={"statements": "slow", "slow_query": "100ms"})

    proxy.ask("SELECT 'my secret' FROM pg_sleep(0.2)")
    proxy.ask("SELECT 'quick one'")

    log = proxy.log()
    assert "pg_sleep" in log
    assert "my secret" not in log and "quick one" not in log


@pytest.mark.targets("direct")
def test_the_benchmark_table_is_rerun_and_printed(with_pool, start, capsys):
    """Prints the seed's table; asserts only what does not depend on the machine: the row counts."""
    async def measure(pool):
        async def timed(work):
            begin = time.perf_counter()
            await work
            return (time.perf_counter() - begin) * 1000

        query = "SELECT count(*) FROM kalshi_markets"

        async def in_turn():
            for _ in range(3):
                await pool.fetchval(query)

        async def at_once():
            await asyncio.gather(*(pool.fetchval(query) for _ in range(3)))

        async def batch():
            rows = [(i, "x") for i in range(1000)]
            async with pool.acquire() as conn:
                await conn.executemany("INSERT INTO records VALUES ($1, $2)", rows)

        await at_once()
        table = {
            "single query": await timed(pool.fetchval(query)),
            "3 queries in turn": await timed(in_turn()),
            "3 queries at once": await timed(at_once()),
            "executemany of 1000": await timed(batch()),
        }
        return table, await pool.fetchval("SELECT count(*) FROM records")

    table, inserted = with_pool(measure)

    assert inserted == 1000
    with capsys.disabled():
        for name, milliseconds in table.items():
            print(f"\n  asyncpg, {name}: {milliseconds:.2f} ms", end="")
