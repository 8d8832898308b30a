"""PgJDBC with HikariCP before a primary that is killed: what the application is told, and what HikariCP does.

`make matrix` installs Java. PGWEIR_CHAOS_RUNS=5 makes the table of docs/HA.md.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

import report
from cluster import Cluster
from support.programs import client_environment
from support.wait import wait_until
from test_kill import DATABASE, prepare

JARS = ("postgresql", "HikariCP", "slf4j-api", "slf4j-nop")
THREADS = 10


@dataclass
class Transaction:
    """What `Hikari.java` says of one."""

    outcome: str
    begun: float
    ended: float
    row: int
    thread: int
    connection: int


class Application:
    """The program, at work."""

    def __init__(self, proxy) -> None:
        self._output = proxy.folder / "hikari.out"
        path = ":".join(f"/usr/share/java/{jar}.jar" for jar in JARS)
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                ["java", "-Xmx256m", "-cp", path, str(Path(__file__).parent / "Hikari.java")],
                env=client_environment(proxy), stdin=subprocess.PIPE, stdout=output,
            )
        wait_until(lambda: self._process.poll() is None and "ready" in self._lines(), "it writes", 60)

    def _lines(self) -> list[str]:
        return self._output.read_text().splitlines()

    def transactions(self) -> list[Transaction]:
        said = [line.split() for line in self._lines()]
        return [
            Transaction(words[0], int(words[1]) / 1000, int(words[2]) / 1000, *map(int, words[3:]))
            for words in said if len(words) == 6
        ]

    def errors(self) -> list[Transaction]:
        return [done for done in self.transactions() if done.outcome != "done"]

    def has_written(self, since: float) -> bool:
        """True if all of its threads have written a row behind a moment."""
        wrote = {t.thread for t in self.transactions() if t.outcome == "done" and t.begun > since}
        return len(wrote) == THREADS

    def connections(self) -> set[int]:
        """Those that it has used."""
        return {done.connection for done in self.transactions()}

    def stop(self) -> None:
        self._process.communicate(b"\n", timeout=60)
        assert self._process.returncode == 0


@pytest.mark.parametrize("run", range(1, report.RUNS + 1))
def test_hikari_opens_anew_what_had_a_transaction_under_way_and_nothing_else(run):
    cluster = Cluster()
    try:
        proxy = prepare(cluster)
        application = Application(proxy)

        begun = time.time()
        cluster.primary.kill()
        gone = time.time()
        cluster.replicas[0].promote()
        promoted = time.time()
        wait_until(lambda: application.has_written(promoted), "all of its threads write again", 40)
        # It opens them one after the other, when it has time to.
        wait_until(
            lambda: len(application.connections()) == THREADS + len(application.errors()),
            "it has as many connections as before", 40,
        )
        application.stop()

        done, errors = application.transactions(), application.errors()
        first = min(t.ended for t in done if t.outcome == "done" and t.ended > promoted)
        by_code = Counter(error.outcome for error in errors)
        by_thread = Counter(error.thread for error in errors)
        report.row(
            run, f"{len(errors)} ({', '.join(sorted(by_code))})", max(by_thread.values(), default=0),
            len(application.connections()) - THREADS, f"{(first - promoted) * 1000:.0f} ms",
        )
        assert by_code.keys() <= {"08006", "08007"}
        assert all(t.begun <= gone + 0.001 and t.ended >= begun - 0.001 for t in errors), "all were under way"
        assert max(by_thread.values(), default=0) <= 1
        thrown_away = {error.connection: error.ended for error in errors}
        again = [t for t in done if t.begun > thrown_away.get(t.connection, t.begun)]
        assert again == [], "HikariCP closes a connection that had an error of class 08"
        rows = cluster.replicas[0].ask("SELECT array_agg(id) FROM ledger", DATABASE)
        acknowledged = {t.row for t in done if t.outcome == "done"}
        doubtful = {t.row for t in errors if t.outcome == "08007"}
        assert len(rows) == len(set(rows)) and acknowledged <= set(rows) <= acknowledged | doubtful
        proxy.finish()
    finally:
        cluster.remove()
