"""Hosts by name, in the system's own resolver: the names of a cluster change while clients work."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import psycopg2
import pytest

from conftest import DATABASE
from support.proxy import Pgweir
from support.wait import free_port, wait_until

NAME = "db.pgweir.test"

_OWN_MOUNTS = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


class HostsFile:
    """An `/etc/hosts` that one process alone sees."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set()

    def set(self, *addresses: str) -> None:
        """Has the name lead there from now on. The file stays the same one: it is mounted."""
        lines = ["127.0.0.1 localhost", "::1 localhost"]
        lines += [f"{address} {NAME}" for address in addresses]
        self.path.write_text("".join(f"{line}\n" for line in lines))


class Elsewhere(Pgweir):
    """pgweir in a world of its own names."""

    def __init__(self, hosts: HostsFile, *args, **config) -> None:
        self._hosts = hosts
        super().__init__(*args, **config)

    def _command(self) -> list[str]:
        mounted = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
        return [*_OWN_MOUNTS, "sh", "-c", mounted, "sh", str(self._hosts.path), *super()._command()]


@pytest.fixture
def hosts(tmp_path):
    may = subprocess.run([*_OWN_MOUNTS, "mount", "--bind", "/etc/hosts", "/etc/hosts"],
                         capture_output=True, text=True)
    if may.returncode != 0:
        pytest.skip(f"no mounts of one's own here: {may.stderr}")
    return HostsFile(tmp_path / "hosts")


@pytest.fixture
def named(cluster):
    """The cluster with all of its servers at one port, each at an address of its own."""
    port = free_port()
    for node in reversed(cluster.nodes):
        node.stop()
    for number, node in enumerate(cluster.nodes):
        node.port, node.address = port, f"127.0.{100 + number}.1"
        node.settings(port=port, listen_addresses=node.address)
        with (node.data / "pg_hba.conf").open("a") as hba:
            hba.write("host all all 127.0.0.0/8 scram-sha-256\n")
        if node is not cluster.primary:
            node.follow(cluster.primary)
        node.start()
    cluster.caught_up()
    return cluster


@pytest.fixture
def start(named, hosts):
    """Starts pgweir with a domain `ledger` whose one host is the name."""
    started = []

    def start_proxy(**keys) -> Pgweir:
        health = {"interval": "500ms", "timeout": "1s", "resolve": "1s"}
        domain = {"hosts": [f"{NAME}:{named.primary.port}"], "health": health, **keys}
        proxy = Elsewhere(hosts, named.primary, DATABASE, domains={DATABASE: domain})
        started.append(proxy)
        return proxy

    yield start_proxy
    for proxy in started:
        proxy.finish()


def address_of(conn) -> str:
    """Where the server is that serves the next statement of `conn`."""
    cursor = conn.cursor()
    cursor.execute("SELECT host(inet_server_addr())")
    return cursor.fetchone()[0]


def shown(proxy) -> dict[str, tuple[str, str]]:
    return {row["host"]: (row["role"], row["state"]) for row in proxy.show("HOSTS")}


def test_one_name_for_all_servers_of_a_cluster(named, hosts, start):
    """P41: each of its addresses is a host, whose role is found and which is failed over to."""
    hosts.set(*(node.address for node in named.nodes))
    proxy = start()
    host = f"{NAME}:{named.primary.port}"
    wait_until(lambda: shown(proxy) == {
        f"{host} ({named.primary.address})": ("primary", "up"),
        f"{host} ({named.replicas[0].address})": ("replica", "up"),
        f"{host} ({named.replicas[1].address})": ("replica", "up"),
    }, "all roles are known")
    writer = proxy.connect(autocommit=True)
    writer.cursor().execute("CREATE TABLE t (id int)")
    assert address_of(writer) == named.primary.address
    # At work at the same time, each in its transaction.
    readers = [proxy.connect(dbname=f"{DATABASE}_ro") for _ in range(4)]
    assert {address_of(reader) for reader in readers} == {
        node.address for node in named.replicas}
    for reader in readers:
        reader.close()
    named.caught_up()

    named.primary.kill()
    named.replicas[0].promote()
    promoted = time.monotonic()
    writer.cursor().execute("INSERT INTO t VALUES (1)")
    took = time.monotonic() - promoted

    assert took < 5, f"{took:.3f} s"
    assert address_of(writer) == named.replicas[0].address
    # The dead one is taken out, and the name is of two hosts.
    hosts.set(*(node.address for node in named.replicas))
    wait_until(lambda: len(shown(proxy)) == 2, "its host is gone")
    assert address_of(writer) == named.replicas[0].address


def test_the_name_is_turned_over_to_the_server_that_was_promoted(named, hosts, start):
    """P42: as a cluster manager does that moves a name: one address before, another behind."""
    hosts.set(named.primary.address)
    proxy = start()
    conn = proxy.connect(autocommit=True, application_name="survivor")
    cursor = conn.cursor()
    cursor.execute("SET TimeZone = 'Asia/Tokyo'")
    cursor.execute("CREATE TABLE t (id int)")
    named.caught_up()

    named.primary.kill()
    named.replicas[0].promote()
    hosts.set(named.replicas[0].address)
    moved = time.monotonic()
    cursor.execute("INSERT INTO t VALUES (1)")
    took = time.monotonic() - moved

    assert took < 5, f"{took:.3f} s"
    cursor.execute("SELECT current_setting('TimeZone')")
    assert cursor.fetchone()[0] == "Asia/Tokyo"
    assert address_of(conn) == named.replicas[0].address
    name, (there, was) = f"{NAME}:{named.primary.port}", (named.replicas[0], named.primary)
    shown = [host["host"] for host in proxy.show("HOSTS")]
    both = [f"{name} ({was.address})", f"{name} ({there.address})"]
    assert shown in ([name], both), shown


def test_clients_at_work_notice_nothing_of_a_name_that_moves_and_gets_lost(named, hosts, start):
    """P42: no error for anybody while the name goes round all servers, and is not found at times."""
    hosts.set(named.primary.address)
    proxy = start()
    stop, seen, errors = threading.Event(), set(), []

    def work() -> None:
        conn = proxy.connect()
        try:
            while not stop.is_set():
                cursor = conn.cursor()
                cursor.execute("SELECT host(inet_server_addr())")
                first = cursor.fetchone()[0]
                cursor.execute("SELECT host(inet_server_addr()), pg_sleep(0.01)")
                assert cursor.fetchone()[0] == first, "a transaction is at one server"
                conn.commit()
                seen.add(first)
        except (psycopg2.Error, AssertionError) as error:
            errors.append(error)
        finally:
            conn.close()

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    try:
        for node in [*named.replicas, named.primary]:
            hosts.set()
            time.sleep(1.5)
            seen.clear()
            hosts.set(node.address)
            wait_until(lambda: node.address in seen, f"{node.name} serves")
            seen.clear()
            wait_until(lambda: seen == {node.address} or seen.clear(), f"only {node.name} does")
    finally:
        stop.set()
        for worker in workers:
            worker.join()

    assert errors == []
    wait_until(lambda: len(shown(proxy)) == 1, "the others are left")
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{DATABASE}'"
    for node in named.replicas:
        wait_until(lambda: node.ask(count) == 0, f"nothing is left at {node.name}")
