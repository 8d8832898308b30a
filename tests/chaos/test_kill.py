"""The primary is killed under traffic and its synchronous standby promoted: what clients lose.

PGWEIR_CHAOS_RUNS=10 makes the table of docs/HA.md.
"""

from __future__ import annotations

import os
import time

import pytest

from cluster import Cluster
from support.proxy import Pgweir
from support.wait import wait_until
from traffic import SCHEMA, Traffic

RUNS = int(os.environ.get("PGWEIR_CHAOS_RUNS", "1"))
DATABASE = "ledger"
WRITERS, READERS = 30, 20


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


def say(line: str) -> None:
    if report := os.environ.get("PGWEIR_CHAOS_REPORT"):
        with open(report, "a") as out:
            out.write(line + "\n")


@pytest.mark.parametrize("run", range(1, RUNS + 1))
@pytest.mark.timeout(180)
def test_who_writes_loses_what_was_in_flight_and_who_reads_nothing(run):
    cluster = Cluster()
    try:
        proxy = prepare(cluster)
        traffic = Traffic(proxy, WRITERS, READERS)
        standby = cluster.replicas[0]
        wait_until(lambda: all(len(w.acknowledged) > 5 for w in traffic.writers), "all write", 30)

        killed = time.monotonic()
        cluster.primary.kill()
        standby.ask("SELECT pg_promote(true, 30)")
        promoted = time.monotonic()
        wait_until(lambda: traffic.first_write_behind(promoted) is not None, "it is written to again", 30)
        time.sleep(1)
        traffic.stop()

        errors = [len(writer.errors) for writer in traffic.writers]
        read_errors = [error for reader in traffic.readers for error in reader.errors]
        codes = sorted({code for writer in traffic.writers for code, _, _ in writer.errors})
        say(
            f"| {run} | {(promoted - killed) * 1000:.0f} | {traffic.first_write_behind(promoted) * 1000:.0f} "
            f"| {sum(errors)} ({', '.join(codes)}) | {max(errors)} | {len(read_errors)} "
            f"| {sum(len(w.acknowledged) for w in traffic.writers)} |"
        )
        traffic.check(standby, DATABASE)
        assert max(errors) <= 1, [w.errors for w in traffic.writers if len(w.errors) > 1]
        assert set(codes) <= {"08006", "08007"}, codes
        assert read_errors == []
        proxy.finish()
    finally:
        cluster.remove()


@pytest.mark.timeout(180)
def test_a_switchover_under_load_is_no_error_between_transactions():
    """The pooler is told nothing: the primary stops in good order, its standby is promoted."""
    cluster = Cluster()
    try:
        proxy = prepare(cluster)
        traffic = Traffic(proxy, WRITERS, READERS)
        standby = cluster.replicas[0]
        wait_until(lambda: all(len(w.acknowledged) > 5 for w in traffic.writers), "all write", 30)

        stopped = time.monotonic()
        cluster.primary.stop()
        standby.ask("SELECT pg_promote(true, 30)")
        promoted = time.monotonic()
        wait_until(lambda: traffic.first_write_behind(promoted) is not None, "it is written to again", 30)
        time.sleep(1)
        traffic.stop()

        errors = [error for client in traffic.writers for error in client.errors]
        say(
            f"| switchover | {(promoted - stopped) * 1000:.0f} "
            f"| {traffic.first_write_behind(promoted) * 1000:.0f} | {len(errors)} "
            f"({', '.join(sorted({code for code, _, _ in errors}))}) | "
            f"{max(len(w.errors) for w in traffic.writers)} "
            f"| {sum(len(r.errors) for r in traffic.readers)} "
            f"| {sum(len(w.acknowledged) for w in traffic.writers)} |"
        )
        traffic.check(standby, DATABASE)
        assert max(len(writer.errors) for writer in traffic.writers) <= 1
        assert [reader.errors for reader in traffic.readers if reader.errors] == []
        proxy.finish()
    finally:
        cluster.remove()
