"""The password of a domain's user is changed on the server: what clients see of it, and what the server does."""

from __future__ import annotations

import threading
import time

import psycopg2

import report
from support.postgres import APP
from support.wait import wait_until
from views import address, known, port_of, roles

CLIENTS = 20
SECONDS = 3 if report.RUNS == 1 else 10


def set_password(cluster, password: str) -> None:
    cluster.primary.ask(f"ALTER ROLE {APP[0]} PASSWORD '{password}'")
    cluster.caught_up()


def refusals(node) -> int:
    """How many logins a server has refused, as its log tells."""
    return node.log_file.read_text().count(f'password authentication failed for user "{APP[0]}"')


def end_servers(cluster) -> None:
    cluster.primary.ask(
        f"SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = '{APP[0]}'"
    )


class Asker(threading.Thread):
    """A client that asks again and again, and goes on with its connection whatever it is told."""

    def __init__(self, conn, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._conn, self._over = conn, over
        self.codes: list[str | None] = []
        self.served = 0

    def run(self) -> None:
        while not self._over.is_set():
            try:
                port_of(self._conn)
                self.served += 1
            except psycopg2.Error as error:
                self.codes.append(error.pgcode)
                # As an application would wait, if not for long.
                self._over.wait(0.01)


def test_a_changed_password_keeps_new_servers_out_and_is_tried_at_the_pace_of_the_backoff(cluster, start):
    """P20. What is open goes on, what clients are told is the server's own word, and it ends by itself."""
    proxy = start(pool={"size": 10})
    known(proxy, cluster)
    in_block, conn = proxy.connect(), proxy.connect(autocommit=True)
    assert port_of(in_block) == port_of(conn) == cluster.primary.port
    clients = [proxy.connect(autocommit=True) for _ in range(CLIENTS)]

    set_password(cluster, "another")
    assert port_of(conn) == cluster.primary.port
    in_block.cursor().execute("CREATE TABLE t (id int)")
    in_block.commit()
    wait_until(lambda: roles(proxy)[address(cluster.primary)] == ("primary", "suspect"), "it is noticed")
    # Without a login that works nothing is known to be wrong with the host itself.
    assert port_of(conn) == cluster.primary.port

    end_servers(cluster)
    over = threading.Event()
    askers = [Asker(client, over) for client in clients]
    for asker in askers:
        asker.start()
    wait_until(lambda: all(asker.codes for asker in askers), "all are told")
    before = [refusals(node) for node in cluster.nodes]
    time.sleep(SECONDS)
    tried = [refusals(node) - count for node, count in zip(cluster.nodes, before)]

    report.row("changed password", CLIENTS, *(f"{count / SECONDS:.1f}" for count in tried))
    assert {code for asker in askers for code in asker.codes} == {"28P01"}
    # An attempt of the pool each half second or so, and a look each second.
    assert 0 < tried[0] <= 10 * SECONDS, tried
    assert max(tried[1:]) <= 5 * SECONDS, "replicas are looked at alone"
    assert "cannot open a server" in proxy.log() and "password authentication failed" in proxy.log()

    set_password(cluster, APP[1])
    wait_until(lambda: all(asker.served for asker in askers), "all are served")
    over.set()
    for asker in askers:
        asker.join(10)
    wait_until(
        lambda: {state for _, state in roles(proxy).values()} == {"up"}, "all hosts can be looked at"
    )
    assert proxy.metric("pgweir_failovers_total") == 0
