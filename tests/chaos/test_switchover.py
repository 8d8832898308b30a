"""A switchover between two looks: what pgweir has for the primary is in recovery, and its clients are the first to know."""

from __future__ import annotations

import time
from contextlib import ExitStack

import psycopg2
import pytest

from relay import Relay
from support.wait import wait_until
from views import roles


@pytest.fixture
def relays(cluster):
    """The addresses of a primary and a replica, which may be turned over to each other's servers."""
    with ExitStack() as ends:
        made = [Relay(node.port) for node in cluster.nodes[:2]]
        for relay in made:
            ends.callback(relay.remove)
        yield made


@pytest.mark.parametrize("autocommit", [True, False], ids=["outside of a block", "in a block"])
def test_a_write_that_is_refused_by_a_replica_has_the_next_one_go_to_the_primary(
    cluster, start, relays, autocommit
):
    """No look is due for a minute: it is the 25006 that has pgweir look, at once."""
    supposed, real = relays
    proxy = start(
        hosts=[supposed.address, real.address], health={"interval": "1m"}, pool={"idle_timeout": "1s"},
    )
    conn = proxy.connect()
    conn.cursor().execute("CREATE TABLE t (id int)")
    conn.commit()
    cluster.caught_up()
    conn.autocommit = autocommit

    def write(row: int) -> bool:
        try:
            conn.cursor().execute("INSERT INTO t VALUES (%s)", (row,))
            conn.commit()
        except psycopg2.errors.ReadOnlySqlTransaction:
            conn.rollback()
            return False
        return True

    wait_until(lambda: proxy.metric("pgweir_servers") == 0, "no connection is left")
    supposed.lead_to(cluster.replicas[0].port)
    real.lead_to(cluster.primary.port)
    assert not write(1)

    refused = time.monotonic()
    wait_until(lambda: write(2), "it is written", 5)
    took = time.monotonic() - refused

    assert took < 1, f"{took:.3f} s"
    assert cluster.primary.ask("SELECT array_agg(id) FROM t", "ledger") == [2]
    assert roles(proxy) == {supposed.address: ("replica", "up"), real.address: ("primary", "up")}
    assert proxy.metric("pgweir_failovers_total", domain="ledger") == 1
