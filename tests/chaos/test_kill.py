"""The primary goes under traffic, in one way or another, and its synchronous standby is promoted: what clients lose.

PGWEIR_CHAOS_RUNS=10 makes the table of docs/HA.md.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Callable

import pytest

import report
from cluster import Cluster, Node
from relay import Relay
from support.proxy import Pgweir
from support.wait import wait_until
from traffic import SCHEMA, Traffic
from views import address, roles

DATABASE = "ledger"
WRITERS, READERS, IDLE = 30, 20, 10
UNTIL_DOWN = 1 + 3 * 1
"""Of a silent host, in seconds: `health.interval`, and `health.timeout` for each of `down_after` looks."""
SLACK = 3
"""For a machine that has other things to do, in seconds."""


def prepare(cluster: Cluster, hosts: list[str] | None = None) -> Pgweir:
    """A ledger, and a proxy that knows all hosts: by these addresses, or by their own."""
    cluster.primary.create_database(DATABASE)
    conn = cluster.primary.connect(DATABASE)
    conn.cursor().execute(SCHEMA)
    conn.cursor().execute("GRANT ALL ON ledger TO app")
    conn.close()
    cluster.synchronous()
    cluster.caught_up()
    domain = {"hosts": hosts or cluster.hosts(), "health": {"interval": "1s", "timeout": "1s"}}
    proxy = Pgweir(
        cluster.primary, DATABASE, domains={DATABASE: domain}, pool={"size": 10, "timeout": "20s"},
    )
    known = ["primary", "replica", "replica"]
    wait_until(lambda: [row["role"] for row in proxy.show("HOSTS")] == known, "all roles are known")
    return proxy


class Scene:
    """A primary whose clients are at work, and its standby."""

    def __init__(self, cluster: Cluster, relay: Relay | None, ends: ExitStack) -> None:
        self.primary, self.standby = cluster.primary, cluster.replicas[0]
        self.relay = relay
        """The only way to the primary that pgweir knows, if there is one."""
        self.promoted: float | None = None
        """When the standby took writes."""
        self._name = relay.address if relay else address(self.primary)
        self.proxy = prepare(cluster, [self._name, *map(address, cluster.replicas)])
        ends.callback(self.proxy.finish)
        self.traffic = Traffic(self.proxy, WRITERS, READERS, IDLE)
        wait_until(lambda: all(len(w.committed) > 5 for w in self.traffic.writers), "all write", 30)

    def promote(self) -> None:
        """Makes a primary of the standby, unless it is one."""
        if self.promoted is None:
            self.standby.promote()
            self.promoted = time.monotonic()

    def is_seen_as(self, what: str) -> None:
        """Waits until pgweir has the old primary for this, be it a role or a state."""
        wait_until(lambda: what in roles(self.proxy)[self._name], f"the old one is {what}", 20)

    def all_go_on(self) -> None:
        """Waits until every client has done something from now on, by the connection that it has."""
        now = time.monotonic()
        for client in self.traffic.idle:
            client.step()
        wait_until(
            lambda: all(client.has_done_since(now) for client in self.traffic.clients), "all go on", 30
        )


@contextmanager
def at_work(by_relay: bool = False):
    """A cluster under traffic."""
    with ExitStack() as ends:
        cluster = Cluster()
        ends.callback(cluster.remove)
        relay = Relay(cluster.primary.port) if by_relay else None
        if relay:
            ends.callback(relay.remove)
        yield Scene(cluster, relay, ends)


@dataclass
class Loss:
    """A primary that was lost under traffic, and when."""

    traffic: Traffic
    begun: float
    """When it was told to go."""
    over: float
    """When it served nobody any more."""
    served: float
    """When there was one that took writes again."""

    def report(self, name: object) -> None:
        """A row of the table in docs/HA.md."""
        errors = self.traffic.errors()
        writers, readers = self.traffic.writers, self.traffic.readers
        report.row(
            name, f"{(self.served - self.begun) * 1000:.0f}",
            f"{self.traffic.first_write_behind(self.served) * 1000:.0f}",
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
            assert error.was_under_way(self.begun, self.over), (error, self)
        assert [writer.errors for writer in traffic.writers if len(writer.errors) > 1] == []
        assert [reader.errors for reader in traffic.readers if reader.errors] == []
        assert [client.errors for client in traffic.idle if client.errors] == []


@dataclass(frozen=True)
class End:
    """A way for a primary to go."""

    name: str
    go: Callable[[Scene], None]
    come_back: Callable[[Scene], None] | None = None
    """How it takes writes again, where it does."""
    until: str | None = None
    """What pgweir has it for when it serves nobody any more; `None`: it serves nobody when it is gone."""
    by_relay: bool = False


def lose_the_primary(end: End, name: object = None) -> None:
    """Traffic under which the primary goes, and its standby is promoted; checked row by row."""
    with at_work(end.by_relay) as scene:
        begun = time.monotonic()
        end.go(scene)
        if end.until == "fenced":
            # It takes another primary for that.
            scene.promote()
        if end.until:
            scene.is_seen_as(end.until)
        over = time.monotonic()
        scene.promote()
        loss = Loss(scene.traffic, begun, over, scene.promoted)
        scene.all_go_on()
        if end.come_back:
            end.come_back(scene)
            scene.is_seen_as("fenced")
            scene.all_go_on()
        conclude(loss, scene.standby, name or end.name)
        assert over - begun < (UNTIL_DOWN if end.until == "down" else 1) + SLACK, loss


def conclude(loss: Loss, primary: Node, name: object) -> None:
    """Ends the traffic, and judges what came of it by what the primary has."""
    time.sleep(1)
    loss.traffic.stop()
    loss.report(name)
    loss.traffic.check(primary, DATABASE)
    loss.judge()


def kill(scene: Scene) -> None:
    scene.primary.kill()


def stop(scene: Scene) -> None:
    scene.primary.stop()


def stop_at_once(scene: Scene) -> None:
    scene.primary.stop(signal.SIGQUIT)


def freeze(scene: Scene) -> None:
    scene.primary.freeze()


def thaw(scene: Scene) -> None:
    scene.primary.thaw()


def cut_off(scene: Scene) -> None:
    scene.relay.stop()


def join(scene: Scene) -> None:
    scene.relay.resume()


def live_on(_: Scene) -> None:
    """It cannot acknowledge what its standby does not confirm."""


ENDS = [
    End("stopped in good order", stop),
    End("stopped at once", stop_at_once),
    End("frozen until it is down", freeze, thaw, until="down"),
    End("frozen until it is fenced", freeze, thaw, until="fenced"),
    End("cut off until it is down", cut_off, join, until="down", by_relay=True),
    End("cut off until it is fenced", cut_off, join, until="fenced", by_relay=True),
    End("alive beside its successor", live_on, live_on, until="fenced"),
]


@pytest.mark.parametrize("run", range(1, report.RUNS + 1))
@pytest.mark.timeout(180)
def test_who_writes_loses_what_was_in_flight_and_who_reads_nothing(run):
    lose_the_primary(End("killed", kill), run)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
@pytest.mark.timeout(180)
def test_however_a_primary_goes_who_writes_loses_what_was_in_flight_and_who_reads_nothing(end):
    """The pooler is told nothing. A primary that is stopped in good order is one half of a switchover."""
    lose_the_primary(end)


@pytest.mark.timeout(180)
def test_a_primary_that_recovers_from_a_crash_loses_what_was_in_flight_and_no_client():
    """One of its processes is killed, and PostgreSQL ends all others: nobody takes its place."""
    with at_work() as scene:
        begun = time.monotonic()
        scene.primary.crash(DATABASE)
        over = time.monotonic()
        wait_until(scene.primary.answers, "it is back", 30)
        loss = Loss(scene.traffic, begun, over, time.monotonic())
        scene.all_go_on()
        assert scene.proxy.metric("pgweir_failovers_total") == 0
        conclude(loss, scene.primary, "crashed")
