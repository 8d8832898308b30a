"""The primary is killed under traffic and its synchronous standby promoted: what clients lose.

PGWEIR_CHAOS_RUNS=10 makes the table of docs/HA.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

import report
from cluster import Cluster
from support.proxy import Pgweir
from support.wait import wait_until
from traffic import SCHEMA, Traffic

DATABASE = "ledger"
WRITERS, READERS, IDLE = 30, 20, 10


def prepare(cluster: Cluster) -> Pgweir:
    """A ledger, and a proxy that knows all hosts."""
    cluster.primary.create_database(DATABASE)
    conn = cluster.primary.connect(DATABASE)
    conn.cursor().execute(SCHEMA)
    conn.cursor().execute("GRANT ALL ON ledger TO app")
    conn.close()
    cluster.synchronous()
    cluster.caught_up()
    domain = {"hosts": cluster.hosts(), "health": {"interval": "1s", "timeout": "1s"}}
    proxy = Pgweir(
        cluster.primary, DATABASE, domains={DATABASE: domain}, pool={"size": 10, "timeout": "20s"},
    )
    known = ["primary", "replica", "replica"]
    wait_until(lambda: [row["role"] for row in proxy.show("HOSTS")] == known, "all roles are known")
    return proxy


@dataclass
class Loss:
    """A primary that was lost under traffic, and when."""

    traffic: Traffic
    begun: float
    """When it was told to go."""
    gone: float
    """When all of its processes were."""
    promoted: float
    """When its standby took writes."""

    def report(self, name: object) -> None:
        """A row of the table in docs/HA.md."""
        errors = self.traffic.errors()
        writers, readers = self.traffic.writers, self.traffic.readers
        report.row(
            name, f"{(self.promoted - self.begun) * 1000:.0f}",
            f"{self.traffic.first_write_behind(self.promoted) * 1000:.0f}",
            f"{len(errors)} ({', '.join(sorted({error.error for error in errors}))})",
            max(len(writer.errors) for writer in writers),
            sum(len(reader.errors) for reader in readers),
            sum(len(writer.committed) for writer in writers),
        )

    def judge(self) -> None:
        """Who writes loses what was under way, once at most; who reads, or idles, nothing."""
        traffic = self.traffic
        for error in traffic.errors():
            assert error.error in ("08006", "08007"), error
            assert error.was_under_way(self.begun, self.gone), (error, self)
        assert [writer.errors for writer in traffic.writers if len(writer.errors) > 1] == []
        assert [reader.errors for reader in traffic.readers if reader.errors] == []
        assert [client.errors for client in traffic.idle if client.errors] == []


def lose_the_primary(name: object, end) -> Loss:
    """Traffic under which the primary goes as `end` has it, and its standby is promoted; checked row by row."""
    cluster = Cluster()
    try:
        proxy = prepare(cluster)
        traffic = Traffic(proxy, WRITERS, READERS, IDLE)
        standby = cluster.replicas[0]
        wait_until(lambda: all(len(w.committed) > 5 for w in traffic.writers), "all write", 30)

        begun = time.monotonic()
        end(cluster.primary)
        gone = time.monotonic()
        standby.ask("SELECT pg_promote(true, 30)")
        loss = Loss(traffic, begun, gone, time.monotonic())
        for client in traffic.idle:
            client.step()
        wait_until(lambda: traffic.first_write_behind(loss.promoted), "it is written to again", 30)
        time.sleep(1)
        traffic.stop()

        loss.report(name)
        traffic.check(standby, DATABASE)
        proxy.finish()
        return loss
    finally:
        cluster.remove()


@pytest.mark.parametrize("run", range(1, report.RUNS + 1))
@pytest.mark.timeout(180)
def test_who_writes_loses_what_was_in_flight_and_who_reads_nothing(run):
    lose_the_primary(run, lambda primary: primary.kill()).judge()


@pytest.mark.timeout(180)
def test_a_switchover_under_load_is_no_error_between_transactions():
    """The pooler is told nothing: the primary stops in good order, its standby is promoted."""
    lose_the_primary("stopped in good order", lambda primary: primary.stop()).judge()
