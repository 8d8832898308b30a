"""Fixtures: a cluster of a primary and two replicas, and proxies in front of it."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from cluster import Cluster
from support.proxy import Pgweir

DATABASE = "ledger"


@pytest.fixture
def cluster():
    """A primary and two replicas with a database `ledger`, for one test."""
    made = Cluster()
    made.primary.create_database(DATABASE)
    made.caught_up()
    yield made
    made.remove()


@pytest.fixture
def start(cluster):
    """Starts proxies with a domain `ledger` of all hosts, and keys of the test's laid over it."""
    ends = ExitStack()

    def start_proxy(name=DATABASE, **keys) -> Pgweir:
        config = {table: keys.pop(table) for table in ("pool", "users") if table in keys}
        domain = {
            "hosts": cluster.hosts(), "health": {"interval": "1s", "timeout": "1s"}, **keys,
        }
        proxy = Pgweir(cluster.primary, DATABASE, domains={name: domain}, **config)
        ends.callback(proxy.finish)
        return proxy

    with ends:
        yield start_proxy
