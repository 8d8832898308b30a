"""What psycopg2's transactions cost on the way to PostgreSQL, counted between pgweir and the server."""

from __future__ import annotations

import pytest

import report
from relay import Relay, Side

TRANSACTIONS = 50


class Turns:
    """Counts how often the server is written to, and how often it is waited for."""

    def __init__(self) -> None:
        self.writes = self.round_trips = 0
        self._last: Side | None = None

    def __call__(self, side: Side, _data: bytes) -> None:
        if side is Side.PGWEIR:
            self.writes += 1
            # What is written behind an answer waits for another one.
            self.round_trips += self._last is not Side.PGWEIR
        self._last = side


@pytest.mark.parametrize("deferred", [True, False], ids=["deferred BEGIN", "BEGIN as it comes"])
def test_a_transaction_of_psycopg2_is_two_round_trips_where_its_begin_is_deferred(cluster, start, deferred):
    turns = Turns()
    relay = Relay(cluster.primary.port, turns)
    try:
        # Nobody looks at the only host meanwhile.
        proxy = start(hosts=[relay.address], pool={"defer_begin": deferred}, health={"interval": "1h"})
        conn = proxy.connect()
        cursor = conn.cursor()
        cursor.execute("CREATE TABLE t (id int)")
        conn.commit()
        turns.writes = turns.round_trips = 0
        for number in range(TRANSACTIONS):
            cursor.execute("INSERT INTO t VALUES (%s)", (number,))
            conn.commit()
        counted = turns.round_trips / TRANSACTIONS, turns.writes / TRANSACTIONS
        conn.close()
    finally:
        relay.remove()

    report.row("yes" if deferred else "no", *counted)
    assert counted[0] == (2 if deferred else 3)
