"""A primary that was made read-only while it serves, as providers do where a disk is full."""

from __future__ import annotations

import psycopg2
import pytest

from support.wait import wait_until
from views import address, known, roles

READ_ONLY = psycopg2.errors.ReadOnlySqlTransaction


def test_a_primary_that_takes_no_writes_for_a_while_stays_the_primary(cluster, start):
    proxy = start(pool={"size": 2})
    known(proxy, cluster)
    conns = [proxy.connect(autocommit=True) for _ in range(4)]
    conns[0].cursor().execute("CREATE TABLE t (id int)")

    def write(conn) -> bool:
        try:
            conn.cursor().execute("INSERT INTO t VALUES (1)")
        except READ_ONLY:
            return False
        return True

    assert all(write(conn) for conn in conns)
    cluster.primary.ask("ALTER SYSTEM SET default_transaction_read_only = on")
    cluster.primary.reload()
    wait_until(lambda: not any(write(conn) for conn in conns), "it takes no writes")
    for conn in conns:
        with pytest.raises(READ_ONLY):
            conn.cursor().execute("INSERT INTO t VALUES (2)")
        cursor = conn.cursor()
        cursor.execute("SELECT count(*) FROM t WHERE id = 2")
        assert cursor.fetchone() == (0,)
    assert roles(proxy)[address(cluster.primary)] == ("primary", "up")
    assert proxy.metric("pgweir_failovers_total", domain="ledger") == 0

    # ALTER SYSTEM writes no table.
    cluster.primary.ask("ALTER SYSTEM RESET default_transaction_read_only")
    cluster.primary.reload()
    wait_until(lambda: all(write(conn) for conn in conns), "it takes writes again")
    assert all(write(conn) for _ in range(3) for conn in conns)
    assert write(proxy.connect(autocommit=True))
