"""pgbench through a pool: every protocol, and a new connection for each transaction."""

from __future__ import annotations

import re

import pytest

from support.programs import run_client

pytestmark = pytest.mark.each_pool

CLIENTS, TRANSACTIONS = 16, 100

# Debian's PgBouncer loses prepared statements in transaction mode.
PREPARED = pytest.param("prepared", marks=pytest.mark.targets("direct"))


@pytest.fixture
def initialised(proxy):
    """A pool whose database pgbench has filled, through the pool itself."""
    done = run_client("pgbench", "-i", "-s", "1", "-q", proxy=proxy)
    assert done.returncode == 0, done.stderr
    return proxy


def bench(proxy, *args: str) -> None:
    """Runs pgbench, which must neither fail nor lose a transaction."""
    done = run_client("pgbench", "-n", *args, proxy=proxy)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    processed = re.search(r"transactions actually processed: (\d+)/(\d+)", output)
    assert processed and processed[1] == processed[2], output
    assert "number of failed transactions: 0 " in output, output


def assert_balanced(proxy, transactions: int) -> None:
    """The invariants of TPC-B: no update is lost, none is doubled."""
    assert proxy.ask("SELECT count(*) FROM pgbench_history") == transactions
    deltas = proxy.ask("SELECT sum(delta) FROM pgbench_history")
    assert deltas == proxy.ask("SELECT sum(abalance) FROM pgbench_accounts")


def test_initialising_through_the_pool_makes_100000_accounts(initialised):
    assert initialised.ask("SELECT count(*) FROM pgbench_accounts") == 100_000


@pytest.mark.parametrize("protocol", ["simple", "extended", PREPARED])
@pytest.mark.parametrize("script", ["tpcb-like", "simple-update"])
def test_16_clients_on_few_servers_lose_no_update(initialised, protocol, script):
    # A thread of pgbench that prepares for one of its clients does nothing else meanwhile, whichever
    # of its other clients sit in blocks: with fewer servers than clients it would wait for itself. So
    # each client gets a thread.
    threads = CLIENTS if protocol == "prepared" else 2
    bench(
        initialised, "-b", script,
        "-M", protocol, "-c", str(CLIENTS), "-j", str(threads), "-t", str(TRANSACTIONS),
    )

    assert_balanced(initialised, CLIENTS * TRANSACTIONS)


@pytest.mark.targets("direct")
def test_prepared_selects_of_many_clients_on_few_servers_all_succeed(initialised):
    bench(initialised, "-S", "-M", "prepared", "-c", "16", "-j", "2", "-t", "500")


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_a_new_connection_for_each_transaction_never_fails(initialised, protocol):
    bench(initialised, "-C", "-S", "-M", protocol, "-c", "8", "-j", "2", "-t", "50")


@pytest.mark.parametrize("protocol", ["extended", PREPARED])
def test_pipelines_of_pgbench_lose_no_update(initialised, tmp_path, protocol):
    script = tmp_path / "pipeline.sql"
    script.write_text("""\
\\set aid random(1, 100000)
\\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, 1, now());
COMMIT;
\\endpipeline
""")
    bench(
        initialised,
        "-f", str(script), "-M", protocol, "-c", "8", "-j", "2", "-t", "100",
    )

    assert_balanced(initialised, 800)
