"""Hosts that cannot be reached: how often pgweir tries to connect to them, while many clients ask."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import psycopg2
import pytest

import report
from hosts import BlackHole, Mute, Refusing
from support.proxy import Pgweir

KINDS = [Refusing, Mute, BlackHole]
SECONDS = 4 if report.RUNS == 1 else 10
"""For how long tries are counted, behind the first second."""


@pytest.fixture
def domains():
    """A domain of one host and one of three, for each way not to be reached."""
    made = {(kind, count): [kind() for _ in range(count)] for kind in KINDS for count in (1, 3)}
    yield made
    for hosts in made.values():
        for host in hosts:
            host.remove()


class Askers:
    """Clients that ask for a server of a domain again and again, whatever they are told."""

    def __init__(self, proxy: Pgweir, dbname: str, clients: int) -> None:
        self.told = 0
        self._is_over = threading.Event()
        self._ask = lambda: proxy.ask("SELECT 1", dbname=dbname)
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._is_over.is_set():
            with pytest.raises(psycopg2.OperationalError):
                self._ask()
            self.told += 1

    def stop(self) -> None:
        self._is_over.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive(), "a client hangs"


@pytest.mark.parametrize("clients", [50] if report.RUNS == 1 else [1, 50])
def test_a_host_that_cannot_be_reached_is_tried_a_few_times_a_second_whatever_the_load(domains, clients):
    """P75: whoever asks, one try at a time is made, behind a pause; looks at the host count in."""
    named = {f"{kind.__name__.lower()}{count}": hosts for (kind, count), hosts in domains.items()}
    proxy = Pgweir(
        SimpleNamespace(port=0), "main", pool={"size": 20, "timeout": "2s", "connect_timeout": "1s"},
        domains={
            name: {"database": None, "hosts": [host.address for host in hosts], "failover": {"timeout": "2s"}}
            for name, hosts in named.items()
        },
    )
    begun = time.monotonic()
    askers = [Askers(proxy, name, clients) for name in named]
    time.sleep(1 + SECONDS)
    end = begun + 1 + SECONDS
    proxy_is_well = proxy.get("/readyz")[0] == 200
    for each in askers:
        each.stop()
    proxy.finish()
    for each in askers:
        each.join()

    assert proxy_is_well and all(each.told > 0 for each in askers)
    for name, hosts in named.items():
        first = max(host.between(begun, begun + 1) for host in hosts)
        per_second = [host.between(begun + 1, end) / SECONDS for host in hosts]
        report.row(hosts[0].kind, len(hosts), clients, first, f"{max(per_second):.1f}")
        # A try behind a pause of half a second on average, and a look each second; each may be two connections.
        assert 0 < min(per_second) and max(per_second) <= 10, f"{name}: {per_second} a second"
