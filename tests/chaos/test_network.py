"""A network between pgweir and the primary that stops, delays, resets and half-closes: what clients see of it."""

from __future__ import annotations

import threading
import time
from functools import partial

import psycopg2
import pytest

from relay import Relay, Side
from support.wait import wait_until
from views import address, in_a_thread, port_of, ports_of, roles


@pytest.fixture
def relay(cluster):
    """The only way to the primary that pgweir knows."""
    made = Relay(cluster.primary.port)
    yield made
    made.remove()


@pytest.fixture
def proxy(cluster, start, relay):
    """Looks at its hosts often enough for a test that waits for an outage."""
    made = start(
        hosts=[relay.address, *map(address, cluster.replicas)],
        health={"interval": "500ms", "timeout": "500ms", "down_after": 3},
        failover={"timeout": "30s"},
    )
    made.ask("CREATE TABLE t (id int); SELECT 1")
    cluster.caught_up()
    return made


def begun(proxy) -> psycopg2.extensions.connection:
    """A client that idles in a block in which it has written row 1."""
    conn = proxy.connect()
    conn.cursor().execute("INSERT INTO t VALUES (1)")
    return conn


def under_way(cluster, proxy, seconds: float):
    """A client that writes row 2 by a statement outside of a block that takes so long; its outcome."""
    text = f"INSERT INTO t SELECT 2 FROM pg_sleep({seconds})"
    outcome = in_a_thread(lambda: proxy.connect(autocommit=True).cursor().execute(text))
    wait_until(
        lambda: cluster.primary.ask(
            f"SELECT count(*) FROM pg_stat_activity WHERE query = '{text}' AND state = 'active'") == 1,
        "it is under way",
    )
    return outcome


def is_told_that_its_block_is_over(conn) -> None:
    """P71: at once, though it had not asked for anything. P91: by a warning, and the error when it asks."""

    def is_warned() -> bool:
        conn.poll()
        return any(notice.startswith("WARNING:  the server connection was lost") for notice in conn.notices)

    wait_until(is_warned, "it is warned")
    with pytest.raises(psycopg2.Error) as told:
        conn.cursor().execute("SELECT 1")
    assert told.value.pgcode == "08006"
    assert "the transaction is rolled back" in str(told.value)
    conn.rollback()


def is_told_that_nobody_knows(outcome) -> None:
    """P92: its row may be there. It must not be told that its transaction is rolled back."""
    with pytest.raises(psycopg2.Error) as told:
        outcome.result(20)
    assert told.value.pgcode == "08007"
    assert "unknown" in str(told.value) and "rolled back" not in str(told.value)


def test_a_primary_that_is_cut_off_takes_writes_that_nobody_of_pgweir_sends_it(cluster, proxy, relay):
    """Two primaries: the old one goes on behind the partition, and is fenced when that is over."""
    idle, in_block = proxy.connect(autocommit=True), begun(proxy)
    assert port_of(idle) == cluster.primary.port
    outcome = under_way(cluster, proxy, 1)

    relay.stop()
    is_told_that_nobody_knows(outcome)
    is_told_that_its_block_is_over(in_block)
    waits = in_a_thread(lambda: port_of(idle))
    cluster.replicas[0].promote()

    assert waits.result(20) == cluster.replicas[0].port
    idle.cursor().execute("INSERT INTO t VALUES (3)")
    cluster.primary.ask("INSERT INTO t VALUES (4)", "ledger")
    relay.resume()
    wait_until(lambda: roles(proxy)[relay.address][0] == "fenced", "the old one is fenced")
    assert ports_of(idle, in_block) == {cluster.replicas[0].port}
    there = set(cluster.replicas[0].ask("SELECT array_agg(id) FROM t", "ledger"))
    assert {3} <= there <= {2, 3}, "of what was under way nobody knew"


def test_a_network_that_stands_still_for_less_than_it_takes_to_be_down_is_no_error(cluster, proxy, relay):
    idle, in_block = proxy.connect(autocommit=True), begun(proxy)
    outcome = under_way(cluster, proxy, 0.1)
    relay.stop()
    waits = in_a_thread(lambda: idle.cursor().execute("INSERT INTO t VALUES (3)"))
    wait_until(lambda: roles(proxy)[relay.address] == ("primary", "suspect"), "it is noticed")

    relay.resume()

    outcome.result(20)
    waits.result(20)
    in_block.commit()
    assert set(cluster.primary.ask("SELECT array_agg(id) FROM t", "ledger")) == {1, 2, 3}
    wait_until(lambda: roles(proxy)[relay.address] == ("primary", "up"), "it is well again")
    assert proxy.metric("pgweir_failovers_total") == 0


def test_a_primary_that_answers_slowly_is_not_taken_for_one_that_is_gone(cluster, proxy, relay):
    """P61: looks come to nothing, as each takes longer than it may; its clients are served meanwhile."""
    delayed, over = threading.Event(), threading.Event()
    served = []

    def work(number: int) -> None:
        conn = proxy.connect(autocommit=True)
        served.append(port_of(conn))
        # One after the other, so that there is an answer all the time.
        delayed.wait(20)
        time.sleep(0.1 * number)
        while not over.is_set():
            served.append(port_of(conn))

    clients = [in_a_thread(partial(work, number)) for number in range(8)]
    wait_until(lambda: len(served) == len(clients), "they are served")
    relay.delay(0.4)
    delayed.set()
    try:
        wait_until(lambda: roles(proxy)[relay.address] == ("primary", "suspect"), "looks come to nothing")
        # Three looks in a row take half of that.
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert roles(proxy)[relay.address] == ("primary", "suspect")
            time.sleep(0.1)
        relay.delay(0)
        wait_until(lambda: roles(proxy)[relay.address] == ("primary", "up"), "it is well again")
    finally:
        over.set()
    for client in clients:
        client.result(20)
    assert set(served) == {cluster.primary.port}
    assert proxy.metric("pgweir_failovers_total") == 0


def test_connections_that_are_reset_end_what_is_under_way_and_nothing_else(cluster, proxy, relay):
    idle, in_block = proxy.connect(autocommit=True), begun(proxy)
    port_of(idle)
    outcome = under_way(cluster, proxy, 30)

    relay.reset()

    is_told_that_nobody_knows(outcome)
    is_told_that_its_block_is_over(in_block)
    idle.cursor().execute("INSERT INTO t VALUES (3)")
    assert ports_of(idle, in_block) == {cluster.primary.port}
    assert cluster.primary.ask("SELECT array_agg(id) FROM t", "ledger") == [3]
    assert proxy.metric("pgweir_failovers_total") == 0


def test_a_server_that_has_said_its_last_is_lost(cluster, proxy, relay):
    """It would still listen: nothing that is sent there could be answered."""
    idle, in_block = proxy.connect(autocommit=True), begun(proxy)
    port_of(idle)
    outcome = under_way(cluster, proxy, 1)

    relay.half_close(Side.PGWEIR)

    is_told_that_nobody_knows(outcome)
    is_told_that_its_block_is_over(in_block)
    assert ports_of(idle, in_block) == {cluster.primary.port}


def test_a_server_that_was_told_the_last_says_what_it_has_to_say(cluster, proxy, relay):
    """PostgreSQL ends a session whose client has said its last: between two statements."""
    idle, in_block = proxy.connect(autocommit=True), begun(proxy)
    port_of(idle)
    outcome = under_way(cluster, proxy, 0.5)

    relay.half_close(Side.SERVER)

    outcome.result(20)
    is_told_that_its_block_is_over(in_block)
    # What had a statement under way ends behind its answer.
    wait_until(lambda: not relay.has_half_closed(), "all of them have ended")
    assert ports_of(idle, in_block) == {cluster.primary.port}
    assert cluster.primary.ask("SELECT array_agg(id) FROM t", "ledger") == [2]
