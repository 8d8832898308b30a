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


def lose_the_primary(name: object, end) -> Traffic:
    """Traffic under which the primary goes as `end` has it, and its standby is promoted; checked row by row."""
    cluster = Cluster()
    try:
        proxy = prepare(cluster)
        traffic = Traffic(proxy, WRITERS, READERS)
        standby = cluster.replicas[0]
        wait_until(lambda: all(len(w.acknowledged) > 5 for w in traffic.writers), "all write", 30)

        lost = time.monotonic()
        end(cluster.primary)
        standby.ask("SELECT pg_promote(true, 30)")
        promoted = time.monotonic()
        wait_until(lambda: traffic.first_write_behind(promoted) is not None, "it is written to again", 30)
        time.sleep(1)
        traffic.stop()

        errors = [error for writer in traffic.writers for error in writer.errors]
        say(
            f"| {name} | {(promoted - lost) * 1000:.0f} | {traffic.first_write_behind(promoted) * 1000:.0f} "
            f"| {len(errors)} ({', '.join(sorted({code for code, _, _ in errors}))}) "
            f"| {max(len(w.errors) for w in traffic.writers)} "
            f"| {sum(len(r.errors) for r in traffic.readers)} "
            f"| {sum(len(w.acknowledged) for w in traffic.writers)} |"
        )
        traffic.check(standby, DATABASE)
        proxy.finish()
        return traffic
    finally:
        cluster.remove()


def judge(traffic: Traffic) -> None:
    """A writer loses what it had in flight, a reader nothing."""
    assert [w.errors for w in traffic.writers if len(w.errors) > 1] == []
    assert {code for w in traffic.writers for code, _, _ in w.errors} <= {"08006", "08007"}
    assert [reader.errors for reader in traffic.readers if reader.errors] == []


@pytest.mark.parametrize("run", range(1, RUNS + 1))
@pytest.mark.timeout(180)
def test_who_writes_loses_what_was_in_flight_and_who_reads_nothing(run):
    judge(lose_the_primary(run, lambda primary: primary.kill()))


@pytest.mark.timeout(180)
def test_a_switchover_under_load_is_no_error_between_transactions():
    """The pooler is told nothing: the primary stops in good order, its standby is promoted."""
    judge(lose_the_primary("switchover", lambda primary: primary.stop()))
