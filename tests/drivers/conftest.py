"""Fixtures: one PostgreSQL per run, a database and a proxy of its own for each test."""

from __future__ import annotations

import itertools
import threading
from contextlib import ExitStack

import pytest

from support.certificates import Certificates
from support.postgres import Postgres
from support.proxy import TARGETS, Proxy

DEFAULT_TIMEOUT = 60.0
POOLS = (1, 4)
"""The sizes of a pool, without overflow, that every driver is tested with."""
_numbers = itertools.count(1)


def pytest_addoption(parser) -> None:
    parser.addoption(
        "--target", choices=sorted(TARGETS), default="pgweir",
        help="what to test: pgweir, or a stand-in that shows that the tests themselves are right",
    )


def pytest_configure(config) -> None:
    config.addinivalue_line(
        "markers", "targets(*names): what this test may run against besides pgweir; bare: nothing"
    )
    config.addinivalue_line("markers", "each_pool: `proxy` is a pool of 1, and a pool of 4")
    config.addinivalue_line("markers", "needs_servers(n): this test holds so many servers at once")


def pytest_generate_tests(metafunc) -> None:
    """Runs the tests of a driver with each size of pool that can carry them."""
    marked = metafunc.definition.get_closest_marker
    if "proxy" not in metafunc.fixturenames or not marked("each_pool"):
        return
    needs = marked("needs_servers")
    sizes = [size for size in POOLS if not needs or size >= needs.args[0]]
    if metafunc.config.getoption("--target") == "direct":
        sizes = sizes[-1:]
    metafunc.parametrize("proxy", sizes, indirect=True, ids=lambda size: f"pool-of-{size}")


def pytest_collection_modifyitems(config, items) -> None:
    """Leaves out what a stand-in cannot do. Against pgweir everything runs."""
    target = config.getoption("--target")
    if target == "pgweir":
        return
    for item in items:
        marker = item.get_closest_marker("targets")
        if marker and target not in marker.args:
            item.add_marker(pytest.mark.skip(reason=f"{target} does not claim this"))


@pytest.fixture(scope="session")
def postgres():
    """The cluster of the run. Tests that stop a server take `own_postgres`."""
    cluster = Postgres()
    yield cluster
    cluster.remove()


@pytest.fixture
def own_postgres():
    """A cluster that a test may break."""
    cluster = Postgres()
    yield cluster
    cluster.remove()


@pytest.fixture(scope="module")
def certificates():
    """An authority, and a certificate of it for `localhost`."""
    made = Certificates()
    made.issue("localhost", "DNS:localhost")
    yield made
    made.remove()


@pytest.fixture
def database(postgres):
    """A fresh database, owned by `app`."""
    name = f"test_{next(_numbers)}"
    postgres.create_database(name)
    yield name
    postgres.drop_database(name)


@pytest.fixture
def observer(postgres, database):
    """A superuser's direct connection to the test's database, in autocommit."""
    conn = postgres.connect(database)
    yield conn.cursor()
    conn.close()


@pytest.fixture
def start(request, postgres, database):
    """Starts proxies with a configuration of the test's; stops and judges them at its end.

    A watchdog kills them shortly before the test's time is over: a driver that waits inside libpq
    cannot be interrupted, but a closed connection wakes it.
    """
    marker = request.node.get_closest_marker("timeout")
    allowed = marker.args[0] if marker else DEFAULT_TIMEOUT
    started: list[Proxy] = []
    ends = ExitStack()
    watchdog = threading.Timer(allowed * 0.8, lambda: [proxy.kill() for proxy in started])
    watchdog.daemon = True
    watchdog.start()

    def start_proxy(postgres=postgres, database=database, **config) -> Proxy:
        proxy = TARGETS[request.config.getoption("--target")](postgres, database, **config)
        started.append(proxy)
        ends.callback(proxy.finish)
        return proxy

    with ends:
        yield start_proxy
        watchdog.cancel()


@pytest.fixture
def proxy(request, start) -> Proxy:
    """A proxy with the defaults: transaction mode, four servers or what `each_pool` says."""
    return start(pool={"size": getattr(request, "param", 4)})
